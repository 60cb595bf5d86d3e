"""How molecules lie under the tip: flat, or so that they show many atoms. A draw depends on the generator alone."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from afmid.molecule import Molecule, flat_rotation

Array = NDArray[np.float64]

ATTEMPTS = 8  # random poses of which the one of highest entropy is taken
BETA = 1.0  # 1/Å: how fast an atom's weight in the entropy falls with its depth

Pose = Literal["as-given", "flat", "entropy"]


def entropy(z: Array) -> Array:
    """Return S = Σ_i exp(−β (z_top − z_i)), β = 1 Å⁻¹, of heights (…, N), Å: how many atoms a pose shows to the tip.

    A height of −∞ stands for no atom.
    """
    return np.asarray(np.exp(BETA * (z - z.max(-1, keepdims=True))).sum(-1))


def random_rotations(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return rotation matrices (*shape, 3, 3), evenly distributed over all orientations (Shoemake, 1992)."""
    q = rng.normal(size=(4, *shape))
    w, x, y, z = q / np.sqrt((q * q).sum(0))
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, -1) for row in rows], -2)


def draw_rotations(
    positions: Array,
    atoms: NDArray[np.bool_],
    flat: NDArray[np.bool_],
    rng: np.random.Generator,
    tilt: float = 0.0,
    attempts: int = ATTEMPTS,
) -> Array:
    """Return rotations (B, 3, 3) that lay molecules as they happen to lie, with either side up, turned in plane.

    Those that lie flat have their principal plane level, or tilted a little about any axis; of the others' random
    poses the one of highest entropy counts.

    Args:
        positions: of the atoms (B, N, 3), Å.
        atoms: where there is an atom (B, N).
        flat: which molecules lie flat (B,).
        rng: how much is drawn of it depends on B and `attempts` alone.
        tilt: most tilt of those that lie flat, degrees.
        attempts: random poses of each of the others.
    """
    count = len(positions)
    tilted = np.deg2rad(tilt) * rng.random(count) + np.pi * rng.integers(2, size=count)  # π: upside down
    before, after = 2 * np.pi * rng.random((2, count))  # tilted about any axis, any way round
    tries = random_rotations((count, attempts), rng)

    rotations = np.empty((count, 3, 3))
    level = flat_rotation(positions[flat], atoms[flat])
    rotations[flat] = _about(2, after[flat]) @ _about(0, tilted[flat]) @ _about(2, before[flat]) @ level
    z = tries[~flat, :, 2] @ positions[~flat].swapaxes(1, 2)  # (…, attempts, N)
    best = entropy(np.where(atoms[~flat, None], z, -np.inf)).argmax(1)
    rotations[~flat] = tries[~flat, best]
    return rotations


def posed(molecule: Molecule, pose: Pose, seed: int, index: int) -> Molecule:
    """Return the molecule number `index` of a run in a pose that depends on the seed and that number alone.

    Args:
        molecule: as it lies.
        pose: "as-given" leaves it so; "flat" lays its principal plane level, either side up and turned in the plane at
            random; "entropy" takes, of random orientations as training draws them, the one that shows most atoms.
        seed: of the run.
        index: from 0.
    """
    if pose == "as-given":
        return molecule
    rng, atoms = np.random.default_rng([seed, index]), np.ones((1, len(molecule)), bool)
    return molecule.turned(draw_rotations(molecule.positions[None], atoms, np.array([pose == "flat"]), rng)[0])


def _about(axis: int, angles: Array) -> Array:
    """Return the rotations (B, 3, 3) by `angles` (B,), radians, about a Cartesian axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotations = np.zeros((*angles.shape, 3, 3))
    rotations[:, axis, axis] = 1
    rotations[:, i, i] = rotations[:, j, j] = np.cos(angles)
    rotations[:, j, i] = np.sin(angles)
    rotations[:, i, j] = -rotations[:, j, i]
    return rotations
