"""Molecules of many sources to scans, one after the other: what is held in memory does not grow with their number."""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from afmid.data.poses import Pose, posed
from afmid.data.sources import Entry, Source
from afmid.data.workers import in_order
from afmid.errors import AfmidError
from afmid.molecule import Molecule
from afmid.scan import Scan
from afmid.simulate import SimulationOptions, simulate
from afmid.simulate.elements import lennard_jones
from afmid.simulate.potential import Potential

if TYPE_CHECKING:
    from afmid.offers import Simulator

log = logging.getLogger(__name__)

AT_ONCE = 32  # molecules that are read, and kept, while each setting is applied to all of them
FEW = 8  # molecules that are read in this process; RDKit may miss a Ctrl-C, and so more are not

Task = tuple[int, Entry]


@dataclass
class ScanStream:
    """The scans of molecules, under each of several settings.

    A molecule that fails is left out, counted and warned of; one that is asked for alone raises its error.

    Attributes:
        sources: where the molecules come from.
        settings: of the scans of each molecule, by what their names end with; "" for a single one.
        simulator: what `load_engine` returns.
        pose, seed: how the molecules lie; see `posed`.
        jobs: processes that read and embed the molecules ahead; they do not change the scans.
        potential: in place of the molecules' point charges, in their frame.
        failed: molecules that failed so far.
    """

    sources: Sequence[Source]
    settings: Mapping[str, SimulationOptions]
    simulator: "Simulator"
    pose: Pose = "as-given"
    seed: int = 0
    jobs: int = 1
    potential: Potential | None = None
    failed: int = 0

    @property
    def molecules(self) -> int:
        """How many there are, those that will fail included."""
        return sum(source.count for source in self.sources)

    @property
    def pixels(self) -> int:
        """Of all scans."""
        return self.molecules * self._pixels

    @property
    def _pixels(self) -> int:
        return sum(options.pixels**2 for options in self.settings.values())

    def names(self) -> Iterator[str]:
        """Yield the names of all scans."""
        for source in self.sources:
            for entry in source.entries():
                yield from (_joined(entry.name, ending) for ending in self.settings)

    def scans(self, progress: Callable[[int], None] = lambda pixels: None) -> Generator[tuple[str, Scan], None, None]:
        """Yield each scan with its name, as they are made. Close the iterator to end the processes at once.

        Args:
            progress: called now and then with the number of pixels finished since, or given up.
        """
        tasks = enumerate(entry for source in self.sources for entry in source.entries())
        with closing(in_order(_Load(self.pose, self.seed), tasks, self._processes())) as loaded:
            molecules = self._good(loaded, progress)
            while group := list(islice(molecules, AT_ONCE)):
                for ending, options in self.settings.items():
                    posed_ = (molecule for _, molecule in group)
                    scans = simulate(posed_, options, self.simulator, progress, self.potential)
                    for ((index, entry), _), scan in zip(group, scans, strict=True):
                        pose = {"name": self.pose, "seed": self.seed, "index": index}
                        yield _joined(entry.name, ending), replace(scan, meta={**scan.meta, "pose": pose})

    def _processes(self) -> int:
        needed = sum(source.count for source in self.sources if not source.at_hand)
        return min(self.jobs, needed) if needed > FEW else 0

    def _good(
        self, loaded: Iterable[tuple[Task, Molecule | AfmidError]], progress: Callable[[int], None]
    ) -> Iterator[tuple[Task, Molecule]]:
        alone = self.molecules == 1 and not self.sources[0].several
        for task, answer in loaded:
            if isinstance(answer, Molecule):
                yield task, answer
                continue
            if alone:
                raise answer
            self.failed += 1
            log.warning("left out: %s: %s", task[1], answer)
            progress(self._pixels)


@dataclass(frozen=True)
class _Load:
    """Makes the molecule of an entry, in its pose."""

    pose: Pose
    seed: int

    def __call__(self, task: Task) -> Molecule:
        index, entry = task
        molecule = entry.load()
        lennard_jones(molecule.numbers)  # raises for an element that has no parameters
        return posed(molecule, self.pose, self.seed, index)


def _joined(name: str, ending: str) -> str:
    return f"{name}_{ending}" if ending else name
