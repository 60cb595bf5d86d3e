"""From molecules and settings to scans: the Python interface to the engines."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator, model_validator

from afmid.devices import resolve_device
from afmid.errors import AfmidError, DataError, UsageError
from afmid.molecule import SYMBOLS, Molecule, Molecules
from afmid.offers import Engine, Simulator
from afmid.scan import ABOVE_ATOM, Scan
from afmid.simulate.elements import lennard_jones
from afmid.simulate.oscillation import oscillation_weights
from afmid.simulate.potential import Potential
from afmid.simulate.scene import OF_TIPS, Scene, Scenes
from afmid.simulate.tip import TIPS, Tip, TipName
from afmid.units import N_per_m

if TYPE_CHECKING:
    from afmid.plugins import Registry

log = logging.getLogger(__name__)

BATCH_POINTS = 2**24  # of the force, handed to an engine at once
EDGE = 2.0  # Å: how near the ends of a potential's cell a jump there is felt
APPROACH = 1.0  # Å: the tip comes down from at least here above its lowest height, since what the probe does next to an
APPROACH_STEP = 0.1  # Å: atom depends on where it comes from
MOST_HEIGHTS = 2000  # of the force, for one scan
MOST_POINTS = 10**9  # of the force, for one scan: 4 GB in single precision


class SimulationOptions(BaseModel, extra="forbid", frozen=True):
    """What a simulated scan depends on besides the molecule. Defaults: those of Alldritt et al. (2020)."""

    tip: TipName = Field("CO", description="tip; what is given below changes it")
    size: float = Field(16.0, gt=0, le=500, description="width of the scan, Å")
    pixels: int = Field(128, ge=2, le=2048, description="pixels along each side")
    heights: int = Field(10, ge=1, le=200, description="number of images")
    step: float = Field(0.1, gt=0, le=1, description="height between images, Å")
    clearance: float = Field(
        -0.55, ge=-2, le=20, description="lowest height of the unrelaxed probe above Lennard-Jones contact, Å"
    )
    amplitude: float = Field(0.5, ge=0, le=50, description="oscillation amplitude, zero to peak, Å")
    f0: float = Field(30_300.0, gt=0, description="resonance frequency of the cantilever, Hz")
    cantilever_stiffness: float = Field(1800.0, gt=0, description="stiffness of the cantilever, N/m")
    lateral_stiffness: float | None = Field(None, gt=0, le=100, description="lateral stiffness of the probe, N/m")
    radial_stiffness: float | None = Field(None, ge=0.5, le=1000, description="radial stiffness of the probe, N/m")
    probe: str | None = Field(None, description="element of the probe")
    length: float | None = Field(None, gt=0.5, le=20, description="length of the tip, from its base to the probe, Å")
    charge: float | None = Field(None, ge=-2, le=2, description="monopole of the probe, e")
    quadrupole: float | None = Field(None, ge=-5, le=5, description="quadrupole of the probe, e·Å²")
    tilt_x: float = Field(0.0, ge=-2, le=2, description="rest position of the probe along x, Å")
    tilt_y: float = Field(0.0, ge=-2, le=2, description="rest position of the probe along y, Å")

    @field_validator("probe")
    @classmethod
    def _has_parameters(cls, probe: str | None) -> str | None:
        if probe is not None:
            if probe not in SYMBOLS[1:]:
                raise ValueError("it should be the symbol of an element, such as O")
            try:
                lennard_jones(SYMBOLS.index(probe))
            except DataError as error:
                raise ValueError(str(error)) from error
        return probe

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        heights = self.heights + 2 * self.amplitude / self.step
        if heights > MOST_HEIGHTS:
            raise ValueError(
                f"{self.heights} images with an amplitude of {self.amplitude:g} Å at steps of {self.step:g} Å take the "
                f"force at {heights:.0f} heights; {MOST_HEIGHTS} are the most: take a longer step"
            )
        if heights * self.pixels**2 > MOST_POINTS:
            raise ValueError(
                f"{self.pixels} × {self.pixels} pixels take the force at {heights * self.pixels**2:.1e} points; "
                f"{MOST_POINTS:.0e} are the most: take fewer pixels"
            )
        return self

    def effective_tip(self) -> Tip:
        """Return the named tip with what the options change."""
        changes: dict[str, Any] = {"offset": (self.tilt_x, self.tilt_y)}
        for name in ("probe", "length", "charge", "quadrupole"):
            if (value := getattr(self, name)) is not None:
                changes[name] = value
        for name in ("lateral_stiffness", "radial_stiffness"):
            if (value := getattr(self, name)) is not None:
                changes[name] = value * N_per_m
        return replace(TIPS[self.tip], **changes)

    def scene(self, molecule: Molecule, potential: Potential | None = None) -> Scene:
        """Return the scan box laid around a molecule; the topmost atom comes to z = 0, and the potential goes along.

        It is the box of the resting probe, beside which the base of a tilted tip moves: a scan has no lateral origin
        that tells of the tilt. The tip may come from further up than the images need: of those that are made of the
        scene the last count.
        """
        tip = self.effective_tip()
        lift = (0.0, 0.0, -float(molecule.positions[:, 2].max()))
        molecule, potential = molecule.moved(lift), potential and potential.moved(lift)
        low, high = molecule.positions[:, :2].min(0), molecule.positions[:, :2].max(0)
        x, y = ((low + high) / 2 - tip.offset)[:, None] + self._grid()
        closest = closest_height(molecule.numbers, molecule.positions[:, 2], tip.number, self.clearance)
        return Scene(molecule, tip, x, y, closest + self._ladder(), potential)

    def scenes(
        self,
        molecules: Molecules,
        clearance: NDArray[np.float64] | None = None,
        tips: Mapping[str, NDArray[np.float64]] | None = None,
        smiles: Sequence[str] = (),
    ) -> Scenes:
        """Return scan boxes of the resting probe about x = y = 0; the molecules stay where they are laterally.

        Their topmost atoms come to z = 0.

        Args:
            molecules: B of them.
            clearance: of each scene (B,), Å, in place of the options'.
            tips: columns of `Scenes` that tell what of the tip differs from scene to scene.
            smiles: of the molecules (B,).

        Raises:
            DataError: an element without Lennard-Jones parameters, or a tip that cannot be.
        """
        tip, atoms, count = self.effective_tip(), molecules.numbers > 0, len(molecules.numbers)
        positions = molecules.positions.copy()
        positions[..., 2] -= np.where(atoms, positions[..., 2], -np.inf).max(1, keepdims=True)
        positions[~atoms] = 0
        clearances = np.full(count, self.clearance) if clearance is None else clearance
        closest = closest_height(molecules.numbers, positions[..., 2], tip.number, clearances)
        columns: dict[str, Any] = molecules._replace(positions=positions)._asdict()
        columns |= {name: np.full(count, getattr(tip, name), np.float64) for name in OF_TIPS}
        columns |= {"probe": np.full(count, tip.number), "offset": np.full((count, 2), tip.offset, np.float64)}
        columns |= tips or {}
        x, y = (self._grid() - columns["offset"][:, i, None] for i in range(2))
        return Scenes(**columns, x=x, y=y, z=closest[:, None] + self._ladder(), smiles=smiles)

    def _grid(self) -> NDArray[np.float64]:
        """Return the pixels' places from the centre of the scan (X,), Å."""
        return np.asarray((np.arange(self.pixels) - (self.pixels - 1) / 2) * self.size / self.pixels)

    def _ladder(self) -> NDArray[np.float64]:
        """Return the scene's heights above the closest one (Z,), Å, descending."""
        heights = self.step * np.arange(self.heights + len(self.weights()) - 1, dtype=np.float64)
        approach = np.arange(heights[-1] + APPROACH_STEP, APPROACH, APPROACH_STEP)  # its images are dropped
        return np.concatenate([heights, approach])[::-1]

    def scan(self, scene: Scene, df: NDArray[np.float32], unsettled: int = 0) -> Scan:
        """Return the scan of a scene whose Δf (Hz), (X, Y, Z), is known, and at how many points it did not settle."""
        if unsettled:
            points = unsettled / df.shape[0] / df.shape[1] / len(scene.z)
            log.warning("at %d points (%.2g %%) the probe did not come to rest", unsettled, 100 * points)
        x, y = (axis + offset for axis, offset in zip((scene.x, scene.y), scene.tip.offset, strict=True))
        return Scan(
            df=df, x=x, y=y, z=scene.z[-self.heights :],
            z_reference=ABOVE_ATOM, tip=self.probe or self.tip, amplitude=self.amplitude, f0=self.f0,
            cantilever_stiffness=self.cantilever_stiffness * N_per_m,
            source=f"simulated from {scene.molecule.name or scene.molecule.smiles or 'a molecule'}",
            meta={"simulation": self.model_dump(), "tip": _tip_record(scene.tip), "unsettled_points": unsettled},
            truth=scene.molecule,
        )  # fmt: skip

    def weights(self) -> NDArray[np.float64]:
        """Return the weights of the force (K,), Hz/(eV/Å), that make Δf: see `oscillation_weights`."""
        return oscillation_weights(self.step, self.amplitude, self.f0, self.cantilever_stiffness * N_per_m)


def closest_height(
    numbers: NDArray[np.int64], z: NDArray[np.float64], probe: int, clearance: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the heights (…), Å, that lie `clearance` above Lennard-Jones contact of the probe.

    Contact is the highest z_i + R_i, plus the probe's radius; −0.55 Å is the usual closest approach (3.02 Å for PTCDA).

    Args:
        numbers: atomic numbers (…, N), 0 where there is no atom.
        z: of the atoms (…, N), Å.
        probe: atomic number of the probe.
        clearance: Å, one for all or (…).

    Raises:
        DataError: an element without Lennard-Jones parameters.
    """
    return np.asarray(tops(numbers, z).max(-1) + lennard_jones(probe)[0] + clearance)


def tops(numbers: NDArray[np.int64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the atoms' Lennard-Jones spheres end, z_i + R_i (…, N), Å; −∞ where there is no atom.

    Args:
        numbers: atomic numbers (…, N), 0 where there is no atom.
        z: of the atoms (…, N), Å.

    Raises:
        DataError: an element without Lennard-Jones parameters.
    """
    ends, atoms = np.full(z.shape, -np.inf), numbers > 0
    ends[atoms] = z[atoms] + lennard_jones(numbers[atoms])[0]
    return ends


def simulate(
    molecules: Iterable[Molecule],
    options: SimulationOptions,
    simulator: Simulator,
    progress: Callable[[int], None] | None = None,
    potential: Potential | None = None,
) -> Iterator[Scan]:
    """Simulate the scan of each molecule, the molecule in it as the truth; yield scans as they are made, in order.

    Args:
        molecules: as they lie, seen from +z.
        options: what all scans share.
        simulator: what `load_engine` returns.
        progress: called now and then with the number of pixels finished since.
        potential: in place of the molecules' point charges, in their frame.

    Raises:
        DataError: an element without Lennard-Jones parameters.
    """
    weights = options.weights()
    points = options.pixels**2 * (options.heights + len(weights) - 1)
    size, remaining = max(1, BATCH_POINTS // points), iter(molecules)
    while scenes := [options.scene(molecule, potential) for molecule in islice(remaining, size)]:
        for scene in scenes:
            _warn_of_cut(scene, options.size)
        images, unsettled = (part.cpu().numpy() for part in simulator.images(scenes, weights, progress))
        for scene, df, lost in zip(scenes, images[..., -options.heights :], unsettled, strict=True):
            yield options.scan(scene, df, int(lost.sum()))


def _warn_of_cut(scene: Scene, size: float) -> None:
    molecule = scene.molecule
    name = molecule.name or molecule.smiles or "the molecule"
    width = np.ptp(molecule.positions[:, :2], axis=0).max()
    if width > size:
        log.warning("%s is %.1f Å wide and does not fit into the scan of %g Å; see --size", name, width, size)
    if scene.potential:
        corners = np.array(list(product(scene.x[[0, -1]], scene.y[[0, -1]], scene.z[[0, -1]])))
        if (margin := scene.potential.margin(corners)) < EDGE:
            log.warning(
                "the scan of %s comes within %g Å of the ends of its potential's cell (%.1f Å), beyond which that "
                "repeats; a surface may, a molecule needs a larger cell or a smaller scan",
                name, EDGE, margin,
            )  # fmt: skip


def probe_forces(
    molecule: Molecule, tip: Tip, x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64],
    engine: str = "torch",
) -> NDArray[np.float64]:  # fmt: skip
    """Return the vertical sample force (eV/Å, + is up) on the relaxed probe, (X, Y, Z).

    Args:
        molecule: taken where it is; nothing is shifted.
        tip: the tip.
        x, y: lateral positions (Å) of the tip base, (X,) and (Y,).
        z: heights (Å) of the unrelaxed probe, (Z,), descending.
        engine: "torch", "numpy" or another engine that is installed.

    Raises:
        UsageError: no engine of that name.
        DataError: an element without parameters, or z that does not descend.
    """
    _, simulator = load_engine(engine)
    return np.asarray(simulator.images([Scene(molecule, tip, x, y, z)]).values[0].cpu().numpy(), np.float64)


def load_engine(
    name: str = "auto", device: str = "auto", pairs: Iterable[str] = (), registry: "Registry | None" = None
) -> tuple[Engine, Simulator]:
    """Load an installed engine; "auto" takes the one of the highest priority that works on this machine.

    Args:
        name: of the engine.
        device: auto, cpu, cuda or mps.
        pairs: the engine's options as "key=value".
        registry: where engines are looked up; by default all that are installed.

    Raises:
        UsageError: no engine or device of that name, or an option it does not have.
        PluginError: the engine needs a module that is not there.
        DataError: no engine works.
    """
    from afmid.plugins import installed, parse_options

    registry = registry or installed()
    device = resolve_device(device)
    if name != "auto":
        engine = registry.get(Engine, name)
        simulator = registry.load(engine, parse_options(engine, pairs), device)
        log.info("engine: %s on %s", engine.name, device)
        return engine, simulator
    pairs = list(pairs)
    ranked = sorted(registry.all(Engine), key=lambda engine: -engine.priority)
    engines = [engine for engine in ranked if device in engine.devices and _has_options(engine, pairs)]
    failures: list[tuple[int, str, Exception]] = []
    for engine in engines or ranked[:1]:
        options = parse_options(engine, pairs)
        try:
            simulator = registry.load(engine, options, device)
        except UsageError:
            raise
        except (AfmidError, RuntimeError) as error:
            missing = isinstance(error.__cause__, ImportError)  # an extra that was not asked for is no trouble
            failures.append((logging.INFO if missing else logging.WARNING, engine.name, error))
            continue
        for level, name, reason in failures:
            log.log(level, "engine %s is passed over, %s simulates: %s", name, engine.name, reason)
        log.info("engine: %s on %s", engine.name, device)
        return engine, simulator
    reasons = "; ".join(f"{name}: {reason}" for _, name, reason in failures)
    raise DataError(f"no simulation engine works on this machine; {reasons or 'none is installed'}; see: afmid doctor")


def _has_options(engine: Engine, pairs: Iterable[str]) -> bool:
    return all(pair.partition("=")[0].strip().replace("-", "_") in engine.options.model_fields for pair in pairs)


def _tip_record(tip: Tip) -> dict[str, Any]:
    record = asdict(tip)
    for name in ("lateral_stiffness", "radial_stiffness"):
        record[f"{name}_n_per_m"] = record.pop(name) / N_per_m
    return {**record, "offset": list(tip.offset)}
