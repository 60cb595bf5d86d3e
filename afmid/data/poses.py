"""How a molecule lies under the tip when training draws it, and how the tip is then.

A draw depends on the generator alone; NumPy is all it needs.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from afmid.molecule import Molecule, flat_rotation
from afmid.simulate import Scene, SimulationOptions
from afmid.units import N_per_m

Array = NDArray[np.float64]

BETA = 1.0  # 1/Å: how fast an atom's weight in the entropy falls with its depth
LIMITS = {"stiffness": (0.01, 100), "quadrupole": (-5, 5), "charge": (-2, 2)}  # of the ranges, in their units


class SceneRanges(BaseModel, extra="forbid", frozen=True):
    """What the drawn scenes range over. Defaults: around the published settings, wide enough for other instruments."""

    flat: float = Field(0.5, ge=0, le=1, description="share of molecules that lie flat")
    flat_tilt: float = Field(10.0, ge=0, le=90, description="most tilt of a molecule that lies flat, degrees")
    attempts: int = Field(4, ge=1, le=100, description="random poses of which the one of highest entropy is taken")
    offset: float = Field(2.0, ge=0, le=50, description="most lateral shift of the molecule from the centre, Å")
    clearance: float = Field(0.4, ge=0, le=2, description="most change of the tip's height, Å")
    tilt: float = Field(0.5, ge=0, le=2, description="radius of the disk of the probe's rest positions, Å")
    stiffness: tuple[float, float] = Field((0.2, 0.5), description="range of the lateral stiffness, N/m")
    quadrupole: tuple[float, float] = Field((-0.15, 0.05), description="range of the probe's quadrupole, e·Å²")
    charge: tuple[float, float] = Field((-0.1, 0.0), description="range of the probe's monopole, e")

    @field_validator(*LIMITS)
    @classmethod
    def _is_a_range(cls, pair: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        (low, high), (least, most) = pair, LIMITS[str(info.field_name)]
        if not least <= low <= high <= most:
            raise ValueError(f"it should be the lower and the upper end of a range within {least} to {most}")
        return pair


Pose = Literal["as-given", "flat", "entropy"]
POSES: dict[Pose, SceneRanges | None] = {
    "as-given": None,
    "flat": SceneRanges(flat=1, flat_tilt=0),
    "entropy": SceneRanges(flat=0),
}


def entropy(molecule: Molecule) -> float:
    """Return S = Σ_i exp(−β (z_top − z_i)), β = 1 Å⁻¹: how many atoms a pose shows to the tip."""
    z = molecule.positions[:, 2]
    return float(np.exp(-BETA * (z.max() - z)).sum())


def random_rotation(rng: np.random.Generator) -> Array:
    """Return a rotation matrix (3, 3), evenly distributed over all orientations (Shoemake, 1992)."""
    w, x, y, z = (q := rng.normal(size=4)) / np.linalg.norm(q)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip


def draw_pose(molecule: Molecule, ranges: SceneRanges, rng: np.random.Generator) -> Molecule:
    """Return the molecule as it happens to lie: flat or as its entropy has it, with either side up, turned in plane."""
    if rng.random() < ranges.flat:
        tilted = np.deg2rad(ranges.flat_tilt) * rng.random()
        side = rng.choice([0.0, np.pi])
        before, after = (_about(2, 2 * np.pi * rng.random()) for _ in range(2))  # tilted about any axis, any way round
        return molecule.turned(after @ _about(0, tilted + side) @ before @ flat_rotation(molecule.positions))
    poses = [molecule.turned(random_rotation(rng)) for _ in range(ranges.attempts)]
    return max(poses, key=entropy)


def posed(molecule: Molecule, pose: Pose, seed: int, index: int) -> Molecule:
    """Return the molecule number `index` of a run in a pose that depends on the seed and that number alone.

    Args:
        molecule: as it lies.
        pose: "as-given" leaves it so; "flat" lays its principal plane level, either side up and turned in the plane at
            random; "entropy" takes, of random orientations as training draws them, the one that shows most atoms.
        seed: of the run.
        index: from 0.
    """
    ranges = POSES[pose]
    return molecule if ranges is None else draw_pose(molecule, ranges, np.random.default_rng([seed, index]))


def draw_scene(
    molecule: Molecule, options: SimulationOptions, ranges: SceneRanges, rng: np.random.Generator
) -> Scene:
    """Return a scene of the molecule in a drawn pose, under a drawn tip, somewhere in the window.

    A molecule that reaches over the window's edge is cut, as in a scan.
    """
    angle, radius = 2 * np.pi * rng.random(), ranges.tilt * np.sqrt(rng.random())
    changed = options.model_copy(update={
        "clearance": options.clearance + ranges.clearance * rng.uniform(-1, 1),
        "tilt_x": radius * np.cos(angle),
        "tilt_y": radius * np.sin(angle),
    })  # fmt: skip
    low, high = np.log(ranges.stiffness)
    monopole = rng.random() < 0.5
    scene = changed.scene(draw_pose(molecule, ranges, rng))
    shift = rng.uniform(-ranges.offset, ranges.offset, size=2)
    return replace(
        scene,
        molecule=scene.molecule.moved((*shift, 0.0)),
        tip=replace(
            scene.tip,
            lateral_stiffness=float(np.exp(rng.uniform(low, high))) * N_per_m,
            charge=rng.uniform(*ranges.charge) if monopole else 0.0,
            quadrupole=0.0 if monopole else rng.uniform(*ranges.quadrupole),
        ),
    )


def _about(axis: int, angle: float) -> Array:
    """Return the rotation (3, 3) by `angle` (radians) about a Cartesian axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return rotation
