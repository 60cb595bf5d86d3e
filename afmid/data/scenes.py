"""What training simulates: molecules of a pack in drawn poses, somewhere in the window, under drawn tips.

A draw depends on the generator alone, and how much is drawn does not depend on the molecules' sizes. All scenes of a
batch are drawn at once; NumPy is all it needs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationInfo, field_validator

from afmid.data.pack import CHARGE_UNIT, ORDER_UNIT, POSITION_UNIT, MoleculePack
from afmid.data.poses import ATTEMPTS, draw_rotations
from afmid.molecule import Molecule, Molecules
from afmid.simulate.scan_simulation import SimulationOptions, tops
from afmid.simulate.scene import Scenes
from afmid.units import N_per_m

Array = NDArray[np.float64]

GAP = 3.0  # Å: the least lateral distance of atoms of different molecules
UNEVEN = 0.5  # Å: how far topmost atoms differ in height at most
SLACK = 2.0  # Å: how far beyond the window's edge molecules may reach that fill it, or stay behind where they are cut
EDGE = 1.0  # Å: how far from the window's edge a topmost atom keeps, since they set the tip's height
MOST_WATERS = 8

OH, HOH = 0.957, np.deg2rad(104.5)  # Å and angle of water
OO = 2.8  # Å: between the oxygens of a hydrogen bond
CLOSEST = np.array([[2.6, 1.75, 1.75], [1.75, 1.75, 1.75], [1.75, 1.75, 1.75]])  # Å: of O, H, H to another's O, H, H
LEVEL, LEAN = 0.15, 30.0  # Å and degrees: how far oxygens, and O–H bonds that point at no other, leave the level
HYDROGEN_CHARGE = 0.43  # e, in MMFF94

LIMITS = {  # of the ranges
    "amplitude": (0, 50), "stiffness": (0.01, 100), "quadrupole": (-5, 5), "charge": (-2, 2), "second_charge": (0, 5),
}  # fmt: skip


class SceneRanges(BaseModel, extra="forbid", frozen=True):
    """What the drawn scenes range over. Defaults: around the published settings, wide enough for other instruments."""

    flat: float = Field(0.5, ge=0, le=1, description="share of molecules that lie flat; pressed ones always do")
    flat_tilt: float = Field(10.0, ge=0, le=90, description="most tilt of a molecule that lies flat, degrees")
    attempts: int = Field(ATTEMPTS, ge=1, le=100, description="random poses, the one of highest entropy is taken")
    offset: float = Field(
        1.0, ge=0, le=1, description="lateral shift as a share of the room between the molecule and the window's edge"
    )
    several: float = Field(0.05, ge=0, le=1, description="share of scenes with two or three molecules")
    water: float = Field(0.02, ge=0, le=1, description="share of scenes with a water cluster, half of them alone")
    clearance: float = Field(0.4, ge=0, le=2, description="most change of the tip's height, Å")
    amplitude: tuple[float, float] = Field((0.4, 1.4), description="range of the amplitude, zero to peak, Å")
    tilt: float = Field(0.5, ge=0, le=2, description="radius of the disk of the probe's rest positions, Å")
    stiffness: tuple[float, float] = Field((0.2, 1.0), description="range of the lateral stiffness, N/m")
    quadrupole: tuple[float, float] = Field((-0.15, 0.05), description="range of the probe's quadrupole, e·Å²")
    charge: tuple[float, float] = Field((-0.1, 0.0), description="range of the probe's monopole, e")
    second_charge: tuple[float, float] = Field(
        (0.5, 1.5), description="range of the second tip's monopole and quadrupole, as shares of those of its preset"
    )

    @field_validator(*LIMITS)
    @classmethod
    def _is_a_range(cls, pair: tuple[float, float], info: ValidationInfo) -> tuple[float, float]:
        (low, high), (least, most) = pair, LIMITS[str(info.field_name)]
        if not least <= low <= high <= most:
            raise ValueError(f"it should be the lower and the upper end of a range within {least} to {most}")
        return pair


def draw_amplitude(ranges: SceneRanges, rng: np.random.Generator) -> float:
    """Return an oscillation amplitude (Å), which all scenes that are simulated together share."""
    return float(rng.uniform(*ranges.amplitude))


def draw_scenes(
    pack: MoleculePack,
    conformers: NDArray[np.int64],
    options: SimulationOptions,
    ranges: SceneRanges,
    rng: np.random.Generator,
    others: NDArray[np.int64] | None = None,
) -> Scenes:
    """Return scenes of conformers in drawn poses, under drawn tips, anywhere in the window, whose centre is x = y = 0.

    A molecule wider than the window is cut by it, as in a scan, which shows one of its topmost atoms at least: they set
    the tip's height. In some scenes others lie beside the molecule.

    Args:
        pack: the molecules.
        conformers: which of them (B,).
        options: the grid, the oscillation, and what of the tip is not drawn.
        ranges: what is drawn.
        rng: the source of all chance.
        others: what those that lie beside them are drawn from; the conformers themselves where not given.

    Raises:
        DataError: an element without Lennard-Jones parameters, or a tip that cannot be.
    """
    count = len(conformers)
    clearance = options.clearance + ranges.clearance * rng.uniform(-1, 1, count)
    tips = _draw_tips(count, ranges, rng)
    where = rng.uniform(-1, 1, (2, count))
    more = np.where(rng.random(count) < ranges.several, rng.integers(1, 3, count), 0)
    wet, mixed = rng.random((2, count)) < [[ranges.water], [0.5]]
    chosen = np.concatenate([conformers, rng.choice(conformers if others is None else others, int(more.sum()))])
    pieces = gather(pack, chosen)
    atoms = pieces.numbers > 0
    flat = (rng.random(len(chosen)) < ranges.flat) | (pack.pressed[chosen] > 0)
    rotations = draw_rotations(pieces.positions, atoms, flat, rng, ranges.flat_tilt, ranges.attempts)
    pieces = pieces._replace(positions=pieces.positions @ rotations.swapaxes(1, 2))
    smiles = [pack.smiles[i] for i in pack.molecule_index[chosen].tolist()]

    molecules = Molecules._make(column[:count] for column in pieces)
    leading = np.count_nonzero(atoms[:count], axis=1)
    beside = np.split(np.arange(count, len(chosen)), np.cumsum(more)[:-1])
    composed: dict[int, Molecule] = {}
    for b in np.flatnonzero((more > 0) | wet).tolist():
        group = [_molecule(pieces, i, smiles[i]) for i in (b, *beside[b])]
        if wet[b]:
            water = water_cluster(int(rng.integers(1, MOST_WATERS + 1)), rng)
            group = [*group, water] if mixed[b] else [water]
        composed[b], leading[b] = side_by_side(group, rng), len(group[0])
        smiles[b] = composed[b].smiles
    if composed:
        molecules = _with(molecules, composed)
    molecules = _in_window(molecules, leading, where, options.size, ranges.offset)
    return options.scenes(molecules, clearance, tips, smiles[:count])


def under_second_tip(
    scenes: Scenes, options: SimulationOptions, ranges: SceneRanges, rng: np.random.Generator
) -> Scenes:
    """Return the same molecules in the same poses and window under drawn tips of another kind.

    Height, tilt and stiffness are drawn anew: whoever changes the tip finds neither again.

    Args:
        scenes: from `draw_scenes`.
        options: theirs, but for the tip.
        ranges: what is drawn.
        rng: the source of all chance.

    Raises:
        DataError: a tip that cannot be.
    """
    count, tip = len(scenes), options.effective_tip()
    clearance = options.clearance + ranges.clearance * rng.uniform(-1, 1, count)
    share = rng.uniform(*ranges.second_charge, count)
    tips = _draw_tips(count, ranges, rng) | {"charge": share * tip.charge, "quadrupole": share * tip.quadrupole}
    molecules = Molecules(scenes.numbers, scenes.positions, scenes.charges, scenes.bonds, scenes.orders)
    return options.scenes(molecules, clearance, tips, scenes.smiles)


def gather(pack: MoleculePack, conformers: NDArray[np.int64]) -> Molecules:
    """Return conformers (B,) of a pack as columns, their centres at the origin."""

    def column(source: NDArray[Any], offsets: NDArray[np.int64], unit: float | None = None) -> NDArray[Any]:
        starts, counts = offsets[conformers, None], np.diff(offsets)[conformers, None]
        places = np.arange(counts.max(initial=0))
        there = places < counts
        out = np.zeros((*there.shape, *source.shape[1:]), np.int64 if unit is None else np.float64)
        out[there] = source[(starts + places)[there]]
        return out if unit is None else out * unit

    return Molecules(
        numbers=column(pack.numbers, pack.atom_offsets),
        positions=column(pack.positions, pack.atom_offsets, POSITION_UNIT),
        charges=column(pack.charges, pack.atom_offsets, CHARGE_UNIT),
        bonds=column(pack.bonds, pack.bond_offsets),
        orders=column(pack.orders, pack.bond_offsets, ORDER_UNIT),
    )


def side_by_side(molecules: Sequence[Molecule], rng: np.random.Generator) -> Molecule:
    """Return molecules as one: each is pushed in a random direction until it touches none of those before it.

    Their atoms keep lateral distances of `GAP`; their tops differ by up to `UNEVEN`.
    """
    placed: list[Array] = []
    for molecule in molecules:
        positions, angle = molecule.positions.copy(), 2 * np.pi * rng.random()
        positions[:, :2] -= (positions[:, :2].min(0) + positions[:, :2].max(0)) / 2
        positions[:, 2] -= positions[:, 2].max() + UNEVEN * rng.random()
        if placed:
            away = np.array([np.cos(angle), np.sin(angle)])
            positions[:, :2] += _push(np.concatenate(placed)[:, :2], positions[:, :2], away) * away
        placed.append(positions)
    before = np.cumsum([0, *map(len, placed)])
    return Molecule(
        numbers=np.concatenate([molecule.numbers for molecule in molecules]),
        positions=np.concatenate(placed),
        charges=np.concatenate([molecule.charges for molecule in molecules]),
        bonds=np.concatenate([molecule.bonds + start for molecule, start in zip(molecules, before, strict=False)]),
        orders=np.concatenate([molecule.orders for molecule in molecules]),
        smiles=".".join(molecule.smiles for molecule in molecules),
    )


def water_cluster(count: int, rng: np.random.Generator) -> Molecule:
    """Return a cluster of water molecules, about level, as on a surface.

    It starts from one molecule, or from a ring in which each points at the next; each further one points with a
    hydrogen at the oxygen of another. Bond lengths and angles are those of the gas, charges those of MMFF94.
    """
    ring = int(rng.integers(4, 7))
    waters: list[Array] = []  # each O, H, H
    if ring <= count:
        angles = 2 * np.pi * (np.arange(ring) / ring + rng.random())
        radius, ahead = OO / (2 * np.sin(np.pi / ring)), angles + np.pi * (1 / 2 + 1 / ring)
        corners = radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        waters = [_water(corner, angle, -1, rng) for corner, angle in zip(corners, ahead, strict=True)]
    while len(waters) < count:
        angle, side = 2 * np.pi * rng.random(), int(rng.choice([-1, 1]))
        beside = waters[rng.integers(len(waters))][0, :2] if waters else np.zeros(2)
        water = _water(beside - OO * np.array([np.cos(angle), np.sin(angle)]), angle, side, rng)
        if not waters or not _clash(water, np.stack(waters)):
            waters.append(water)
    oxygens = 3 * np.arange(count)
    return Molecule(
        numbers=np.tile([8, 1, 1], count),
        positions=np.concatenate(waters),
        charges=np.tile([-2 * HYDROGEN_CHARGE, HYDROGEN_CHARGE, HYDROGEN_CHARGE], count),
        bonds=np.stack([np.repeat(oxygens, 2), (oxygens[:, None] + [1, 2]).ravel()], 1),
        smiles=".".join(["O"] * count),
    )


def _draw_tips(count: int, ranges: SceneRanges, rng: np.random.Generator) -> dict[str, Array]:
    angle, radius = 2 * np.pi * rng.random(count), ranges.tilt * np.sqrt(rng.random(count))
    softest, stiffest = np.log(ranges.stiffness).tolist()
    stiffness = np.exp(rng.uniform(softest, stiffest, count))
    monopole = rng.random(count) < 0.5
    return {
        "offset": np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1),
        "lateral_stiffness": stiffness * N_per_m,
        "charge": np.where(monopole, rng.uniform(*ranges.charge, count), 0.0),
        "quadrupole": np.where(monopole, 0.0, rng.uniform(*ranges.quadrupole, count)),
    }


def _molecule(molecules: Molecules, index: int, smiles: str) -> Molecule:
    atoms, bonds = molecules.numbers[index] > 0, molecules.orders[index] > 0
    return Molecule(
        molecules.numbers[index, atoms], molecules.positions[index, atoms], molecules.charges[index, atoms],
        molecules.bonds[index, bonds], molecules.orders[index, bonds], smiles=smiles,
    )  # fmt: skip


def _with(molecules: Molecules, others: dict[int, Molecule]) -> Molecules:
    """Return the molecules with others in place of some; no wider than they need to be."""
    replaced, kept = Molecules.of(list(others.values())), np.ones(len(molecules.numbers), bool)
    kept[list(others)] = False
    columns = []
    for name, old, new in zip(Molecules._fields, molecules, replaced, strict=True):
        there = molecules.numbers if name in ("numbers", "positions", "charges") else molecules.orders
        width = max(new.shape[1], int(np.count_nonzero(there[kept], axis=1).max(initial=0)))
        column = np.zeros((len(old), width, *old.shape[2:]), old.dtype)
        column[kept, : old.shape[1]] = old[kept, :width]
        column[~kept, : new.shape[1]] = new
        columns.append(column)
    return Molecules._make(columns)


def _in_window(molecules: Molecules, leading: NDArray[np.int64], where: Array, size: float, offset: float) -> Molecules:
    """Return molecules as they lie in a window about x = y = 0; a topmost atom of each is seen.

    Args:
        molecules: B of them.
        leading: how many atoms of each are those of the first molecule (B,), for which there is to be room.
        where: of each along x and y (2, B): −1 and 1 are the ends of the room.
        size: of the window, Å.
        offset: share of the room that is used.
    """
    numbers, positions = molecules.numbers, molecules.positions
    first, lateral = np.arange(numbers.shape[1]) < leading[:, None], np.moveaxis(positions[..., :2], -1, 0)
    low, high = np.where(first, lateral, np.inf).min(-1), np.where(first, lateral, -np.inf).max(-1)  # (2, B)
    half = (size - (high - low)) / 2
    room = np.maximum(half, SLACK - np.minimum(half, 0))  # of a molecule that is cut, over its ends
    shift = offset * where * room - (low + high) / 2
    ends, farthest = tops(numbers, positions[..., 2]), max(size / 2 - EDGE, 0.0)
    beyond = lateral + shift[..., None]
    beyond -= np.clip(beyond, -farthest, farthest)  # (2, B, N)
    outside = np.where(ends >= ends.max(1, keepdims=True) - UNEVEN, (beyond**2).sum(0), np.inf)
    shift -= beyond[:, np.arange(len(ends)), outside.argmin(1)]
    return molecules._replace(positions=positions + np.pad(shift, [(0, 1), (0, 0)]).T[:, None])


def _push(taken: Array, free: Array, away: Array) -> float:
    """Return how far (Å) atoms at `free` (M, 2) move along the unit vector `away` to come free of those at `taken`."""
    apart = (free[:, None] - taken).reshape(-1, 2)
    along, across = apart @ away, apart @ np.array([-away[1], away[0]])
    near = np.abs(across) < GAP
    return float((np.sqrt(GAP**2 - across[near] ** 2) - along[near]).max(initial=0.0))


def _water(oxygen: Array, angle: float, side: int, rng: np.random.Generator) -> Array:
    """Return a water molecule (3, 3), Å: O, a level H at `angle`, and H to its right (-1) or left (1), up or down.

    Args:
        oxygen: where the oxygen is laterally (2,), Å.
        angle: where the first hydrogen points, radians.
        side: where the second one does.
        rng: draws how far the oxygen is from the level, and how far the second hydrogen leaves it.
    """
    lean = np.deg2rad(LEAN) * rng.normal()
    along = np.array([np.cos(angle), np.sin(angle), 0.0])
    across = np.array([-side * np.sin(angle), side * np.cos(angle), 0.0])
    second = np.cos(HOH) * along + np.sin(HOH) * (np.cos(lean) * across + [0.0, 0.0, np.sin(lean)])
    return np.array([*oxygen, LEVEL * rng.uniform(-1, 1)]) + OH * np.stack([np.zeros(3), along, second])


def _clash(water: Array, others: Array) -> bool:
    """Return whether atoms of a water molecule (3, 3) come too near to those of others (W, 3, 3)."""
    distances = np.sqrt(((water[:, None] - others[:, None]) ** 2).sum(-1))
    return bool((distances < CLOSEST).any())
