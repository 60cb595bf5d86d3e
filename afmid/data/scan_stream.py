"""Molecules of many sources to scans, one after the other: what is held in memory does not grow with their number."""

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from afmid.data.poses import Pose, posed
from afmid.data.prepare import own_split
from afmid.data.sources import Entry, Source
from afmid.data.workers import PATIENCE_S, in_order
from afmid.errors import AfmidError, DataError
from afmid.molecule import Molecule
from afmid.scan import Scan
from afmid.simulate import SimulationOptions, load_engine, simulate
from afmid.simulate.elements import lennard_jones
from afmid.simulate.potential import Potential

if TYPE_CHECKING:
    from afmid.offers import Simulator

log = logging.getLogger(__name__)

AT_ONCE = 32  # molecules that make a block, at most: all of them are read, then each setting is applied to all of them
AT_ONCE_BYTES = 2**26  # of the scans of a block, unless they are those of one molecule
FEW = 8  # molecules that are read in this process; RDKit may miss a Ctrl-C, and so more are not
_COMPUTING = threading.Lock()  # a worker of a cluster may have several threads; an engine serves one at a time

Task = tuple[int, Entry]


class Made(NamedTuple):
    """A scan, its name, and the number of its molecule among all, from 0."""

    number: int
    name: str
    scan: Scan


@dataclass(frozen=True)
class Cluster:
    """Machines that simulate.

    Attributes:
        scheduler: address of a Dask cluster.
        engine, device, pairs: see `load_engine`; the workers load it.
        plugins: that they look for it in; None for all that are installed.
    """

    scheduler: str
    engine: str
    device: str = "auto"
    pairs: tuple[str, ...] = ()
    plugins: tuple[str, ...] | None = None


@dataclass
class ScanStream:
    """The scans of molecules, under each of several settings.

    A molecule that fails is left out, counted and warned of; one that is asked for alone raises its error. The engine
    gets the molecules in blocks of consecutive ones, counted from the first, so that the same scans come from this
    process, from several, and from a cluster.

    Attributes:
        sources: where the molecules come from.
        settings: of the scans of each molecule, by what their names end with; "" for a single one.
        simulator: what `load_engine` returns; None where a cluster simulates.
        pose, seed: how the molecules lie; see `posed`.
        jobs: processes that read and embed the molecules ahead; they do not change the scans.
        potential: in place of the molecules' point charges, in their frame.
        cluster: what simulates in place of this process.
        record: what the scans' meta says besides.
        first, last: numbers of the molecules to take, the last one not included; None for all that are left.
        failed: molecules that failed so far.
    """

    sources: Sequence[Source]
    settings: Mapping[str, SimulationOptions]
    simulator: "Simulator | None"
    pose: Pose = "as-given"
    seed: int = 0
    jobs: int = 1
    potential: Potential | None = None
    cluster: Cluster | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    first: int = 0
    last: int | None = None
    failed: int = 0

    @property
    def molecules(self) -> int:
        """How many there are, those that will fail included."""
        total = sum(source.count for source in self.sources)
        return (total if self.last is None else min(self.last, total)) - self.first

    @property
    def pixels(self) -> int:
        """Of all scans."""
        return self.molecules * self._pixels

    @property
    def _pixels(self) -> int:
        return sum(options.pixels**2 for options in self.settings.values())

    @property
    def block(self) -> int:
        """How many molecules make a block."""
        size = sum(4 * options.pixels**2 * options.heights for options in self.settings.values())
        return min(max(1, AT_ONCE_BYTES // size), AT_ONCE)

    def names(self) -> Iterator[str]:
        """Yield the names of all scans."""
        for _, entry in self._tasks():
            yield from (_joined(entry.name, ending) for ending in self.settings)

    def sha256(self) -> str:
        """Return the hash of what the scans depend on: molecules, potential, settings, how they lie, and the record.

        The engine and its options are to be in the record.
        """
        field = self.potential and (self.potential.values, self.potential.origin, self.potential.cell)
        parts = {
            "sources": [source.sha256 for source in self.sources],
            "settings": {ending: options.model_dump() for ending, options in self.settings.items()},
            "potential": [hashlib.sha256(array.tobytes()).hexdigest() for array in field or ()],
            "pose": [self.pose, self.seed],
            "record": dict(self.record),
            "range": [self.first, self.molecules, self.block],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def scans(self, progress: Callable[[int], None] = lambda pixels: None) -> Generator[tuple[str, Scan], None, None]:
        """Yield each scan with its name, as they are made. Close the iterator to end the processes at once.

        Args:
            progress: called now and then with the number of pixels finished since, or given up.
        """
        with closing(self.made(progress)) as made:
            yield from ((name, scan) for _, name, scan in made)

    def made(self, progress: Callable[[int], None] = lambda pixels: None) -> Generator[Made, None, None]:
        """Yield the scans as `scans` does, with the numbers of their molecules, which ascend from block to block."""
        load = _Load(self.pose, self.seed)
        making = _Making(self.settings, self.potential, self.record, {"name": self.pose, "seed": self.seed})
        if self.cluster:
            yield from self._on(self.cluster, _Block(load, making, self.cluster), progress)
            return
        if self.simulator is None:
            raise ValueError("a stream needs a simulator or a cluster")
        with closing(in_order(load, self._tasks(), self._processes())) as loaded:
            while block_ := list(islice(loaded, self.block)):
                good, failures = _sorted(block_)
                self._leave_out(failures, progress)
                yield from making(good, self.simulator, progress)

    def _on(self, cluster: Cluster, make: "_Block", progress: Callable[[int], None]) -> Generator[Made, None, None]:
        tasks = self._tasks()
        blocks = iter(lambda: list(islice(tasks, self.block)), [])
        with closing(in_order(make, blocks, 0, PATIENCE_S, cluster.scheduler)) as answers:
            for block, answer in answers:
                if isinstance(answer, AfmidError):  # its workers died, again and again
                    self._leave_out([(task, answer) for task in block], progress)
                    continue
                made, failures = answer
                self._leave_out(failures, progress)
                yield from made
                progress(self._pixels * (len(block) - len(failures)))

    def _tasks(self) -> Iterator[Task]:
        return islice(self._following(), self.molecules)

    def _following(self) -> Iterator[Task]:
        """Yield all entries from the first one on, each with its number."""
        number = 0
        for source in self.sources:
            skipped = min(max(self.first - number, 0), source.count)
            if skipped < source.count:
                yield from enumerate(source.entries(skipped), number + skipped)
            number += source.count

    def _processes(self) -> int:
        needed = sum(source.count for source in self.sources if not source.at_hand)
        return min(self.jobs, needed, self.molecules) if min(needed, self.molecules) > FEW else 0

    def _leave_out(self, failures: "Iterable[tuple[Task, AfmidError]]", progress: Callable[[int], None]) -> None:
        for (_, entry), error in failures:
            if len(self.sources) == 1 and not self.sources[0].several:
                raise error
            self.failed += 1
            log.warning("left out: %s: %s", entry, error)
            progress(self._pixels)


class _Loaded(NamedTuple):
    molecule: Molecule
    split: str


@dataclass(frozen=True)
class _Load:
    """Makes the molecule of an entry, in its pose, and says in which split it is."""

    pose: Pose
    seed: int

    def __call__(self, task: Task) -> _Loaded:
        index, entry = task
        molecule = entry.load()
        lennard_jones(molecule.numbers)  # raises for an element that has no parameters
        return _Loaded(posed(molecule, self.pose, self.seed, index), entry.split or _split(molecule))


@dataclass(frozen=True)
class _Making:
    """Makes the scans of molecules."""

    settings: Mapping[str, SimulationOptions]
    potential: Potential | None
    record: Mapping[str, Any]
    pose: Mapping[str, Any]

    def __call__(
        self, block: Sequence[tuple[Task, _Loaded]], simulator: "Simulator", progress: Callable[[int], None] | None
    ) -> Iterator[Made]:
        for ending, options in self.settings.items():
            scans = simulate((loaded.molecule for _, loaded in block), options, simulator, progress, self.potential)
            for ((number, entry), loaded), scan in zip(block, scans, strict=True):
                sample = {"name": entry.name, "split": loaded.split, "source": entry.origin}
                meta = {
                    **scan.meta,
                    "pose": {**self.pose, "index": number},
                    "sample": {key: word for key, word in sample.items() if word},
                    **self.record,
                }
                yield Made(number, _joined(entry.name, ending), replace(scan, meta=meta))


@dataclass(frozen=True)
class _Block:
    """Loads and simulates a block, on a worker of a cluster."""

    load: _Load
    making: _Making
    cluster: Cluster

    def __call__(self, tasks: Sequence[Task]) -> tuple[list[Made], list[tuple[Task, AfmidError]]]:
        good, failures = _sorted(list(in_order(self.load, tasks, 0)))
        with _COMPUTING:
            return list(self.making(good, _simulator(self.cluster), None)), failures


@lru_cache(maxsize=1)
def _simulator(cluster: Cluster) -> "Simulator":
    from afmid.plugins import installed

    return load_engine(cluster.engine, cluster.device, cluster.pairs, installed(cluster.plugins))[1]


def _sorted(
    loaded: Iterable[tuple[Task, _Loaded | AfmidError]],
) -> tuple[list[tuple[Task, _Loaded]], list[tuple[Task, AfmidError]]]:
    """Return what was loaded, and what failed."""
    good, failures = [], []
    for task, answer in loaded:
        if isinstance(answer, AfmidError):
            failures.append((task, answer))
        else:
            good.append((task, answer))
    return good, failures


def _split(molecule: Molecule) -> str:
    """Return the split of a molecule, as a pack would have it; "" where it has no InChIKey."""
    if not molecule.smiles:
        return ""
    from afmid import chem

    try:
        return own_split(chem.inchikey(molecule.smiles))
    except DataError:
        return ""


def _joined(name: str, ending: str) -> str:
    return f"{name}_{ending}" if ending else name
