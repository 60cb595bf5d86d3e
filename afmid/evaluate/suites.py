"""Suites: scans whose molecules are known, on which methods are judged.

Those that afmid brings are simulated as they are asked for. A scan depends on its suite and its number alone, however
many are asked for; its hash is that of what it is simulated from, so that it is the same on every machine.

sim-open.npz holds the molecules of the suite sim-open: of the list that afmid's weights are trained on the curated ones
of the test split and 66 drawn of each enumerated source, as `afmid prepare` made them (514, half of them pressed). By
`split_of` all are in the test split of any list, so that whoever prepares one does not train on them.
"""

import difflib
import glob
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afmid.data.pack import MoleculePack, read_pack
from afmid.data.scan_set import ScanSet, open_scans
from afmid.data.scenes import SceneRanges, draw_scenes, under_second_tip
from afmid.errors import DataError, UsageError
from afmid.evaluate.perturbations import PERTURBATIONS, Perturbation
from afmid.evaluate.records import hash_of
from afmid.io.stream import STREAM
from afmid.molecule import Molecule
from afmid.offers import Simulator
from afmid.scan import Scan
from afmid.simulate.scan_simulation import SimulationOptions, load_engine
from afmid.simulate.scene import Scene, Scenes

SUITES = {
    "sim-open": "500 scans of molecules that come with afmid",
    "two-tips": "the scans of sim-open (with --data: of sim-test), each with a second one under a Xe tip",
    "sim-test": "500 scans of the test split of --data PACK, enumerated and derived molecules left out",
    "sim-small": "the first 50 of sim-test",
    "robust": "25 scans of sim-open (with --data: of sim-test), each as it is and under every perturbation",
    "afm-named": "molecules that experiments have shown, flat",
}
RANGES = SceneRanges(  # of the drawn scans
    several=0, water=0, flat_tilt=10, offset=0.6, clearance=0.4, tilt=0.5, stiffness=(0.2, 1.0),
    quadrupole=(-0.15, 0.05), charge=(-0.1, 0.0), second_charge=(0.5, 1.5),
)  # fmt: skip
AMPLITUDES = (0.5, 0.7, 1.0)  # Å
MOST_NOISE = 0.1  # Hz: the standard deviation of white noise is drawn up to this
SIZES = (16.0, 24.0, 32.0)  # Å: the window is the smallest of these in which …
ROOM = 2.0  # … a molecule lies at least this far from each side, Å
PIXELS_PER_ANGSTROM = 8
SEED = 0
POSE, NOISE, SECOND = 0, 1, 2  # what a seed is for
SECOND_TIP = "Xe"
BATCH = 16  # scans that are simulated together


@dataclass(frozen=True, eq=False)
class Sample:
    """A scan to be judged on, or two of one place.

    Attributes:
        name: unique in its suite.
        scan: the scan.
        truth: the molecule under the tip, in the scan's frame.
        groups: kind of group ("source", "perturbation") to the name of the scan's own.
        sha256: of what determines the scan, and the second one.
        second: what another tip shows of the same place; None where there is no such scan.
    """

    name: str
    scan: Scan
    truth: Molecule
    groups: Mapping[str, str]
    sha256: str
    second: Scan | None = None

    @property
    def blind(self) -> list[Scan]:
        """The scans as they are put to a method: without the truth, and without the record of how they were made."""
        scans = [self.scan] if self.second is None else [self.scan, self.second]
        return [replace(scan, truth=None, source="", meta={}) for scan in scans]


class Suite(ABC):
    """Samples by their number: `len(suite)`, `suite[i]`; `names` of them all, and what the suite itself is called."""

    name: str
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Return a sample. Raises DataError where it cannot be made or read, or holds no truth."""


class StoredSuite(Suite):
    """Scans that are stored with their truth."""

    def __init__(self, name: str, scans: ScanSet, limit: int | None = None) -> None:
        self.name, self.names = _readable(name), [*map(_readable, scans.names[:limit])]
        self._scans = scans

    def __getitem__(self, index: int) -> Sample:
        name, scan = self.names[index], self._scans[index]
        if scan.truth is None:
            raise DataError(f"{name}: does not hold the true molecule; scans made by afmid simulate do")
        made = scan.meta.get("sample")
        source = _readable(str(made.get("source") or "")[:80]) if isinstance(made, dict) else ""
        return Sample(name, scan, scan.truth, {"source": source} if source else {}, hash_of(scan, scan.truth))


@dataclass(frozen=True, eq=False)
class Draw:
    """What a scan is simulated from.

    Attributes:
        scene: molecule, tip and grid.
        options: what else the simulation depends on.
        seed: of the noise.
        noise: standard deviation of white noise, Hz.
        perturbation: done to it.
        source: of the molecule, or "".
        second: what a second scan of it is simulated from, if there is one.
    """

    scene: Scene
    options: SimulationOptions
    seed: tuple[int, ...] = (SEED,)
    noise: float = 0.0
    perturbation: Perturbation | None = None
    source: str = ""
    second: "Draw | None" = None

    def perturbed(self, perturbation: Perturbation) -> "Draw":
        """Return the draw with a change done to it."""
        noise = self.noise if perturbation.noise is None else perturbation.noise
        return replace(self, scene=perturbation.of_scene(self.scene), noise=noise, perturbation=perturbation)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of all that the scan depends on; numbers rounded, since machines differ in their last digits."""
        molecule, tip = self.scene.molecule, self.scene.tip
        floats = {name: value for name, value in vars(tip).items() if name != "probe"}
        parts = [
            molecule.numbers.tolist(),
            *(_rounded(values) for values in (molecule.positions, molecule.charges)),
            *(_rounded(axis) for axis in (self.scene.x, self.scene.y, self.scene.z)),
            [tip.probe, *(_rounded(value) for value in floats.values())],
            [self.options.model_dump(mode="json"), list(self.seed), _rounded(self.noise)],
            self.perturbation.name if self.perturbation else "",
            *([self.second.sha256] if self.second else []),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def groups(self) -> dict[str, str]:
        """What the scan belongs to: kind of group to its name."""
        groups = {"source": self.source, "perturbation": self.perturbation.name if self.perturbation else ""}
        return {kind: group for kind, group in groups.items() if group}

    def measured(self, df: NDArray[np.float32], unsettled: int) -> Scan:
        """Return the scan of the simulated images: with noise, and with what the perturbation does to it."""
        scan = self.options.scan(self.scene, df, unsettled)
        rng = np.random.default_rng(self.seed)
        noise = self.noise * rng.standard_normal(scan.df.shape, np.float32)
        scan = replace(scan, df=scan.df + noise, meta={**scan.meta, **self.groups, "noise_hz": self.noise})
        return self.perturbation.of_scan(scan) if self.perturbation else scan


class SimulatedSuite(Suite):
    """Scans that are simulated when they are asked for, several at once; those of the last batch are kept."""

    def __init__(self, name: str, names: Sequence[str], draw: Callable[[int], Draw], device: str = "auto") -> None:
        self.name, self.names = name, names
        self._draw, self._device = draw, device
        self._batch: dict[int, Sample | DataError] = {}

    def __getitem__(self, index: int) -> Sample:
        if index not in self._batch:
            first = range(len(self))[index] // BATCH * BATCH
            self._batch = self._made(range(first, min(first + BATCH, len(self))))
        made = self._batch[index]
        if isinstance(made, DataError):
            raise DataError(f"{self.names[index]}: {made}") from made
        return made

    @cached_property
    def _simulator(self) -> Simulator:
        return load_engine("auto", self._device)[1]

    def _made(self, numbers: range) -> dict[int, Sample | DataError]:
        made: dict[int, Sample | DataError] = {}
        drawn: dict[int, Draw] = {}
        alike: dict[SimulationOptions, list[Draw]] = {}
        for i in numbers:
            try:
                drawn[i] = self._draw(i)
            except DataError as error:  # it costs itself
                made[i] = error
                continue
            for draw in (drawn[i], drawn[i].second):
                if draw:
                    alike.setdefault(draw.options, []).append(draw)
        scans: dict[Draw | None, Scan] = {}
        for options, draws in alike.items():
            scenes = Scenes.of([draw.scene for draw in draws])
            images, unsettled = (part.cpu().numpy() for part in self._simulator.images(scenes, options.weights()))
            for draw, df, lost in zip(draws, images[..., -options.heights :], unsettled, strict=True):
                scans[draw] = draw.measured(df, int(lost.sum()))
        for i, draw in drawn.items():
            scan, second = scans[draw], scans.get(draw.second)
            truth = scan.truth or draw.scene.molecule
            made[i] = Sample(self.names[i], scan, truth, draw.groups, draw.sha256, second)
        return made


def open_suite(name: str, data: Path | None = None, limit: int | None = None, device: str = "auto") -> Suite:
    """Return a suite by its name, or the stored scans at a path.

    Args:
        name: one of `SUITES`, or whatever `open_scans` takes.
        data: a molecule pack to draw from.
        limit: take the first so many; of "robust" so many molecules.
        device: to simulate on.

    Raises:
        UsageError: no such suite, or one that needs a pack, or none.
        DataError: no scans at the path, no pack, or no molecules in it.
    """
    if name not in SUITES:
        if name == STREAM or Path(name).exists() or glob.glob(name):  # noqa: PTH207 (a pattern may begin anywhere)
            return stored_suite([name], limit)
        near = difflib.get_close_matches(name, SUITES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(SUITES)}; or give a path"
        raise UsageError(f"no suite {name!r}; {hint}")
    if data is None and name in ("sim-test", "sim-small"):
        raise UsageError(f"{name} draws from the test split of a molecule pack: give --data PACK, or take sim-open")
    if data is not None and name in ("sim-open", "afm-named"):
        raise UsageError(f"{name} brings its own molecules; with --data take sim-test")
    if name == "afm-named":
        return _named_suite(limit, device)
    pack = open_molecules() if data is None else read_pack(data)
    pool = np.arange(len(pack)) if data is None else _real_ones(pack, data)
    count = min({"sim-small": 50, "robust": 25}.get(name, 500), limit or 500)
    names = [f"{name}/{i:03d}" for i in range(count)]
    draw = partial(_drawn_pair if name == "two-tips" else _drawn, pack, _shuffled(pack, pool))
    if name != "robust":
        return SimulatedSuite(name, names, draw, device)
    names = [f"{base} {change.name}" for base in names for change in PERTURBATIONS]
    changes = len(PERTURBATIONS)
    return SimulatedSuite(name, names, lambda i: draw(i // changes).perturbed(PERTURBATIONS[i % changes]), device)


def stored_suite(paths: Sequence[str], limit: int | None = None) -> Suite:
    """Return the scans at paths. Raises DataError where there are none."""
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return StoredSuite(f"{paths[0]}{others}", open_scans(paths), limit)


def open_molecules() -> MoleculePack:
    """Return the molecules of sim-open."""
    with as_file(files("afmid.evaluate").joinpath("sim-open.npz")) as path:
        return read_pack(path)


def _real_ones(pack: MoleculePack, path: Path) -> NDArray[np.int64]:
    """Return the conformers of the test split whose molecules were not made up."""
    test = pack.conformers("test")
    sources = [pack.source[i] for i in pack.molecule_index[test].tolist()]
    real = test[[not source.startswith("enum-") and source != "derived" for source in sources]]
    if not len(real):
        raise DataError(f"{path}: its test split holds no molecules but enumerated or derived ones; give a larger pack")
    return real


def _shuffled(pack: MoleculePack, pool: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the conformers to lie flat, pressed ones where there are any, and those to lie by their entropy."""
    rng = np.random.default_rng(SEED)
    pool = rng.permutation(pool)
    pressed = pack.pressed[pool] > 0
    return (pool[pressed] if pressed.any() else pool), (pool[~pressed] if (~pressed).any() else pool)


def _drawn(pack: MoleculePack, pools: tuple[NDArray[np.int64], NDArray[np.int64]], index: int) -> Draw:
    """Return scan number `index` of those that are drawn from a pack: every other one lies flat."""
    rng = np.random.default_rng([SEED, POSE, index])
    pool = pools[index % 2]
    conformer = int(pool[index // 2 % len(pool)])
    options = _fitting(pack.molecule(conformer), amplitude=float(rng.choice(AMPLITUDES)))
    noise = float(rng.uniform(0, MOST_NOISE))
    ranges = RANGES.model_copy(update={"flat": 1.0 - index % 2})
    scene = draw_scenes(pack, np.array([conformer]), options, ranges, rng)[0]
    return Draw(scene, options, (SEED, NOISE, index), noise, source=pack.source[pack.molecule_index[conformer]])


def _drawn_pair(pack: MoleculePack, pools: tuple[NDArray[np.int64], NDArray[np.int64]], index: int) -> Draw:
    """Return scan number `index` with a second one: another tip of its own height, tilt, stiffness and noise."""
    first, rng = _drawn(pack, pools, index), np.random.default_rng([SEED, SECOND, index])
    options = first.options.model_copy(update={"tip": SECOND_TIP})
    noise = float(rng.uniform(0, MOST_NOISE))
    scene = under_second_tip(Scenes.of([first.scene]), options, RANGES, rng)[0]
    return replace(first, second=Draw(scene, options, (SEED, NOISE, index, SECOND), noise, source=first.source))


def _named_suite(limit: int | None, device: str) -> Suite:
    from afmid.chem.names import imaged_molecules

    molecules = list(imaged_molecules().items())[:limit]

    def draw(index: int) -> Draw:
        from afmid.chem import embed

        name, smiles = molecules[index]
        molecule = embed(smiles, name=name)
        options = _fitting(molecule)
        return Draw(options.scene(molecule), options)

    return SimulatedSuite("afm-named", [f"afm-named/{name}" for name, _ in molecules], draw, device)


def _fitting(molecule: Molecule, amplitude: float = 0.5) -> SimulationOptions:
    """Return the options of a scan in whose window a molecule fits in any pose; the largest window where none does."""
    positions = molecule.positions
    diameter = np.sqrt(((positions[:, None] - positions) ** 2).sum(-1)).max()
    size = next((size for size in SIZES if diameter + 2 * ROOM <= size), SIZES[-1])
    return SimulationOptions(size=size, pixels=round(size * PIXELS_PER_ANGSTROM), amplitude=amplitude)


def _readable(name: str) -> str:
    """Return a name that UTF-8 can hold, which those of files and in their records need not be."""
    return name.encode(errors="replace").decode()


def _rounded(values: object) -> object:
    """Return numbers to three decimals, without the sign of zero."""
    return (np.round(np.asarray(values, np.float64), 3) + 0.0).tolist()
