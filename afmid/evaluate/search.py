"""Search molecules of a library in what a scan shows: in many poses each, at all turns in the plane and all shifts.

The poses are directions of view spread evenly over the sphere, or those of them that show most atoms to the tip, and
about flat ones; with the turns they cover the rotations evenly. The best ones are settled, of those that lie alike one.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from afmid.data.pack import MoleculePack
from afmid.data.poses import entropy
from afmid.data.scenes import gather
from afmid.evaluate.bench import Bench
from afmid.evaluate.placement import DEPTH, Matcher, Settled, apart, settle, taken, together, upper_middle
from afmid.molecule import Molecules, flat_rotation

Array = NDArray[np.float64]
Progress = Callable[[float], None]

PATCH = 3.0  # Å: by which the widths of searched patches differ
BLOCK = 256  # poses that are pictured together
SETTLED = 16  # of those in the scan's frame, whose images are larger
LEAN, WAYS = 8.0, 6  # degrees by which molecules that lie flat lean, besides not at all, and to how many ways
ALIKE = 0.4  # Å: molecules lie alike if they are nearer than this, see `apart`
SPARE = 10  # poses of which one is taken, if many lie alike
PLENTY = 20_000  # poses that are searched at least, where there are so many


class Extent(NamedTuple):
    """How far a search goes.

    Attributes:
        directions: even directions of view that the poses are chosen from.
        poses: of a free conformer besides flat ones, at least.
        turns: in the plane.
        pixel: Å.
        shortlist: molecules that are settled afterwards.
        starts: poses of each of them that are settled.
    """

    directions: int
    poses: int
    turns: int
    pixel: float
    shortlist: int
    starts: int


class _Poses(NamedTuple):
    """Poses (B) of conformers of a library.

    Attributes:
        conformers: which of the library (B,).
        rotations: how each is turned (B, 3, 3).
        places: where the middle of its upper side lies (B, 2), Å, see `upper_middle`.
        scores: how well it matches (B,).
    """

    conformers: NDArray[np.int64]
    rotations: Array
    places: Array
    scores: Array

    def taken(self, which: NDArray[Any]) -> "_Poses":
        """Return some of them."""
        return _Poses(*(column[which] for column in self))

    def molecules(self, pack: MoleculePack, bench: Bench) -> Molecules:
        """Return the molecules as they lie."""
        pieces = gather(pack, self.conformers)
        positions = pieces.positions @ self.rotations.swapaxes(1, 2)
        shifts = self.places - upper_middle(pieces.numbers, positions)[:, :2]
        positions[..., :2] += shifts[:, None]
        return bench.laid(pieces._replace(positions=positions))


def search(
    pack: MoleculePack,
    conformers: NDArray[np.int64],
    bench: Bench,
    bonus: Array,
    extent: Extent,
    progress: Progress = lambda share: None,
) -> tuple[NDArray[np.int64], Settled]:
    """Return the best poses of conformers, roughly settled, and which molecules of the library they are (B,).

    Args:
        pack: the library.
        conformers: which of it are searched for.
        bench: that of the scan.
        bonus: what is added to the match of each molecule of the library (M,) to choose among them.
        extent: of the search.
        progress: called now and then with the share of the work that is done, 0–1.

    Raises:
        DataError: an element that the bench does not know.
    """
    poses = _poses(pack, conformers, extent)
    poses = _searched(poses, pack, bench, extent, partial(told, progress, 0.0, 0.7))
    owners = pack.molecule_index[poses.conformers]
    totals = poses.scores + bonus[owners]
    wide = best(owners, totals, extent.shortlist, SPARE * extent.starts)
    molecules = poses.taken(wide).molecules(pack, bench)
    kept = best(owners[wide], totals[wide], extent.shortlist, extent.starts, molecules)
    last = partial(told, progress, 0.7, 0.3)
    return owners[wide][kept], settled(taken(molecules, kept), bench, extent.pixel, 4, False, last)


def settled(
    molecules: Molecules,
    bench: Bench,
    pixel: float,
    rounds: int,
    fit_tip: bool,
    progress: Progress = lambda share: None,
) -> Settled:
    """Return molecules (B) settled, few at a time, see `settle`."""
    count, parts = len(molecules.numbers), []
    for start in range(0, count, SETTLED):
        some = taken(molecules, np.arange(start, min(count, start + SETTLED)))
        parts.append(settle(bench, some, pixel, rounds, fit_tip))
        progress(min(1.0, (start + SETTLED) / count))
    return together(parts)


def best(
    owners: NDArray[np.int64], totals: Array, count: int, each: int, molecules: Molecules | None = None
) -> NDArray[np.int64]:
    """Return which of B are the best of each owner, at most `each`, of the `count` best owners; best first.

    Args:
        owners: (B,).
        totals: higher is better (B,).
        count: of owners.
        each: of an owner.
        molecules: how they lie; of those of an owner that lie alike the best is taken.
    """
    found: dict[int, list[int]] = {}
    for i in np.argsort(-totals, kind="stable").tolist():
        owner = int(owners[i])
        if owner in found or len(found) < count:
            its = found.setdefault(owner, [])
            if len(its) < each and (molecules is None or not its or apart(molecules, i, its).min() > ALIKE):
                its.append(i)
    chosen = np.array([i for its in found.values() for i in its], np.int64)
    return chosen[np.argsort(-totals[chosen], kind="stable")]


def told(progress: Progress, begin: float, width: float, share: float) -> None:
    """Tell the progress of a part of the work, which begins at `begin` and has the width `width`."""
    progress(begin + width * share)


def _poses(pack: MoleculePack, conformers: NDArray[np.int64], extent: Extent) -> _Poses:
    """Return the poses in which conformers are searched: about flat, and of free ones those that show most atoms."""
    views = _even_directions(extent.directions)
    upwards, count = _upwards(views), max(extent.poses, PLENTY // len(conformers))
    owners, rotations = [conformers[:0]], [np.empty((0, 3, 3))]
    for pressed in (0, 1):
        for some in _blocks(conformers[pack.pressed[conformers] == pressed]):
            pieces = gather(pack, some)
            atoms = pieces.numbers > 0
            turned = _about_flat(flat_rotation(pieces.positions, atoms))
            if not pressed:
                shown = entropy(np.where(atoms[:, None], views @ pieces.positions.swapaxes(1, 2), -np.inf))  # (B, D)
                turned = np.concatenate([turned, upwards[np.argsort(-shown, 1, kind="stable")[:, :count]]], 1)
            owners.append(np.repeat(some, turned.shape[1]))
            rotations.append(turned.reshape(-1, 3, 3))
    total = sum(map(len, owners))
    return _Poses(np.concatenate(owners), np.concatenate(rotations), np.zeros((total, 2)), np.zeros(total))


def _about_flat(flat: Array) -> Array:
    """Return rotations (B, P, 3, 3) that lay molecules on either side, level and leaning a little to all ways.

    Args:
        flat: those that lay them flat (B, 3, 3).
    """
    ways = 2 * np.pi * np.arange(WAYS) / WAYS
    leans = np.deg2rad(LEAN) * np.stack([np.cos(ways), np.sin(ways), 0 * ways], 1)
    leaning = Rotation.from_rotvec(np.concatenate([np.zeros((1, 3)), leans])).as_matrix()
    over = np.stack([np.eye(3), np.diag([1.0, -1.0, -1.0])])
    return np.asarray(np.einsum("lij,sjk,bkm->blsim", leaning, over, flat)).reshape(len(flat), -1, 3, 3)


def _even_directions(count: int) -> Array:
    """Return unit vectors (count, 3) spread evenly over the sphere, on a Fibonacci spiral."""
    z = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    return np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], 1)


def _upwards(directions: Array) -> Array:
    """Return rotations (D, 3, 3) that turn unit vectors (D, 3) to +z."""
    beside = np.where(np.abs(directions[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    x = np.cross(beside, directions)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return np.stack([x, np.cross(directions, x), directions], 1)


def _searched(poses: _Poses, pack: MoleculePack, bench: Bench, extent: Extent, progress: Progress) -> _Poses:
    """Return the poses turned in the plane and shifted to where they match the scan best."""
    patches = _patches(poses, pack, bench)
    found = _Poses(poses.conformers, *(column.copy() for column in poses[1:]))
    done = 0
    for patch in np.unique(patches):
        pixels = int(np.ceil(patch * PATCH / extent.pixel))
        axis = np.asarray((np.arange(pixels) - (pixels - 1) / 2) * extent.pixel, np.float64)
        matcher = Matcher(bench.target, bench.x, bench.y, extent.pixel, extent.turns, pixels)
        for some in _blocks(np.flatnonzero(patches == patch)):
            match = matcher(bench.images(poses.taken(some).molecules(pack, bench), axis, axis))
            turns = Rotation.from_rotvec(match.turn[:, None] * [0.0, 0.0, 1.0]).as_matrix()
            found.rotations[some] = turns @ poses.rotations[some]
            found.places[some] = np.stack([match.x, match.y], 1)
            found.scores[some] = match.score
            done += len(some)
            progress(done / len(patches))
    return found


def _patches(poses: _Poses, pack: MoleculePack, bench: Bench) -> NDArray[np.int64]:
    """Return how wide a square about each pose (B,) shows what a tip feels of it, in units of `PATCH`."""
    widths = np.empty(len(poses.scores))
    for some in _blocks(np.arange(len(widths))):
        numbers, positions = poses.taken(some).molecules(pack, bench)[:2]
        heights = np.where(numbers > 0, positions[..., 2], -np.inf)
        felt = heights >= heights.max(1, keepdims=True) - DEPTH
        widths[some] = 2 * np.where(felt[..., None], np.abs(positions[..., :2]), 0).max((1, 2))
    return np.ceil((widths + 2 * bench.margin) / PATCH).astype(np.int64)


def _blocks(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (indices[start : start + BLOCK] for start in range(0, len(indices), BLOCK))
