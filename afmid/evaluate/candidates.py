"""Which molecules of a library a scan may show: each is laid under the tip, simulated again and compared with the scan.

All candidates are searched coarsely, in poses that show many of their atoms to the tip and at all turns and shifts;
the best ones are settled in the scan's frame. What a method has said of the molecule counts beside the fit.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from scipy.spatial.transform import Rotation

from afmid import chem
from afmid.data.pack import MoleculePack, concatenate
from afmid.data.poses import entropy
from afmid.data.scenes import gather
from afmid.errors import DataError
from afmid.evaluate.placement import DEPTH, Bench, Matcher, Settled, settle, upper_middle
from afmid.identification import Candidate, Identification
from afmid.molecule import SYMBOLS, Molecule, Molecules, flat_rotation
from afmid.offers import Simulator
from afmid.scan import Scan
from afmid.simulate.elements import lennard_jones
from afmid.simulate.scan_simulation import SimulationOptions, closest_height
from afmid.simulate.tip import TIPS, Tip
from afmid.units import N_per_m

Array = NDArray[np.float64]

MARGIN = 2.0  # Å: how far beyond its atoms' centres a molecule is searched for
PATCH = 3.0  # Å: by which the widths of simulated patches differ
WIDEST = 80.0  # Å: of a scan
BLOCK = 256  # poses that are simulated together
SETTLED = 16  # of those in the scan's frame, whose images are larger
LEAN, WAYS = 8.0, 6  # degrees by which molecules that lie flat lean, besides not at all, and to how many ways
STEP = 0.2  # Å between heights of the force in the search
FEW, MANY = 3, 10  # images that are compared, at first and in the end


class CandidateOptions(BaseModel, extra="forbid", frozen=True):
    """How candidates are searched for and ranked."""

    top: int = Field(10, ge=1, le=1000, description="candidates to return")
    poses: int = Field(
        32, ge=0, le=1000, description="poses of a free conformer besides flat ones: those that show most"
    )
    directions: int = Field(300, ge=2, le=5000, description="even directions of view that the poses are chosen from")
    turns: int = Field(24, ge=4, le=360, description="turns in the plane")
    pixel: float = Field(0.6, ge=0.1, le=2, description="pixel of the search, Å")
    shortlist: int = Field(1000, ge=1, le=100_000, description="candidates that are settled after the search")
    starts: int = Field(3, ge=1, le=20, description="poses of each of them that are settled")
    finalists: int = Field(100, ge=1, le=10_000, description="candidates that are settled again, with the tip")
    fine_pixel: float = Field(0.25, ge=0.05, le=2, description="pixel of the fit, Å")
    most: int = Field(5000, ge=1, description="simulate so many candidates, the likeliest by what the answer says")
    graph_weight: float = Field(0.1, ge=0, le=10, description="weight of the fingerprints' similarity beside the fit")
    formula_weight: float = Field(0.1, ge=0, le=10, description="weight of the elements in common beside the fit")
    lateral_stiffness: float | None = Field(None, gt=0, le=100, description="lateral stiffness of the probe, N/m")


class _Poses(NamedTuple):
    """Poses (B) of conformers of a library.

    Attributes:
        conformers: which of the library (B,).
        rotations: how each is turned (B, 3, 3).
        places: where the middle of its upper side lies (B, 3), Å, see `upper_middle`.
        scores: how well it matches (B,).
    """

    conformers: NDArray[np.int64]
    rotations: Array
    places: Array
    scores: Array

    def taken(self, which: NDArray[Any]) -> "_Poses":
        """Return some of them."""
        return _Poses(*(column[which] for column in self))

    def molecules(self, pack: MoleculePack) -> Molecules:
        """Return the molecules as they lie."""
        pieces = gather(pack, self.conformers)
        positions = pieces.positions @ self.rotations.swapaxes(1, 2)
        shifts = self.places - upper_middle(pieces.numbers, positions)
        return pieces._replace(positions=positions + shifts[:, None])


def rank(
    answer: Identification,
    scan: Scan,
    library: MoleculePack | None,
    simulator: Simulator,
    options: CandidateOptions = CandidateOptions(),  # noqa: B008 (frozen)
    progress: Callable[[float], None] = lambda share: None,
) -> Identification:
    """Return the answer with the candidates that fit the scan, best first, each as it lies under the tip.

    A candidate's scores are "fit", the correlation of its simulated stack with the scan; and where the answer tells a
    SMILES "graph", the Tanimoto similarity of the fingerprints, and where it tells a SMILES or elements "formula", the
    share of atoms in common. They are summed with the options' weights. The same input gives the same ranking.

    Args:
        answer: of a method, in the scan's frame.
        scan: with Δf.
        library: the candidates; None takes the answer's own molecule, and without a SMILES there is none.
        simulator: an engine's.
        options: of the search.
        progress: called now and then with the share of the work that is done, 0–1.

    Raises:
        DataError: the scan holds no Δf, has a tip that is not known, or is too wide, or no candidate can be simulated.
    """
    width = max(float(np.ptp(scan.x)), float(np.ptp(scan.y)))
    if width > WIDEST:
        raise DataError(f"the scan is {width:.0f} Å wide, and candidates are searched in {WIDEST:.0f}; crop it")
    if library is None and not answer.smiles:
        return answer
    pack = _own(str(answer.smiles)) if library is None else library
    tip = _tip(scan, options)
    rough = Bench.of(scan, simulator, FEW, tip, STEP)
    exact = Bench.of(scan, simulator, MANY, tip)
    said = _said(answer, pack)
    weights = {"graph": options.graph_weight, "formula": options.formula_weight}
    bonus = sum((weights[name] * values for name, values in said.items()), np.zeros(len(pack.smiles)))
    likely = np.argsort(-bonus, kind="stable")[: options.most if bonus.any() else None]

    everywhere = partial(_found, scan=scan, bench=rough, bonus=bonus, options=options)
    conformers, finalists = _simulated(pack, likely), max(options.finalists, options.top)
    owners, found = everywhere(pack, conformers, progress=partial(_tell, progress, 0.0, 0.7))
    if len(mirrored := _of_either_hand(pack, conformers, owners[_best(owners, found.scores, finalists, 1)])):
        other = replace(pack, positions=pack.positions * np.array([-1, 1, 1], np.int16))
        more, found_too = everywhere(other, mirrored, progress=partial(_tell, progress, 0.7, 0.1))
        owners, found = np.concatenate([owners, more]), _together([found, found_too])
    for begin, count, each, pixel in (
        (0.8, finalists, 2, options.pixel),
        (0.9, options.top + 2, 1, options.fine_pixel),
    ):
        kept = _best(owners, found.scores + bonus[owners], count, each)
        owners, molecules = owners[kept], Molecules._make(column[kept] for column in found.molecules)
        found = _settled(molecules, scan, exact, pixel, 6, True, partial(_tell, progress, begin, 0.1))

    candidates = []
    for i in _best(owners, found.scores + bonus[owners], options.top, 1).tolist():
        owner, fit = int(owners[i]), float(found.scores[i])
        scores = {"fit": fit, **{name: float(values[owner]) for name, values in said.items()}}
        molecule = _molecule(found.molecules, i, pack.smiles[owner])
        candidates.append(_candidate(fit + float(bonus[owner]), scores, molecule))
    record = {"pool": len(pack.smiles), "simulated": len(likely), "options": options.model_dump()}
    return replace(
        answer,
        candidates=tuple(candidates),
        fit=candidates[0].scores["fit"],
        meta={**answer.meta, "candidates": record},
    )


def _found(
    pack: MoleculePack,
    conformers: NDArray[np.int64],
    scan: Scan,
    bench: Bench,
    bonus: Array,
    options: CandidateOptions,
    progress: Callable[[float], None],
) -> tuple[NDArray[np.int64], Settled]:
    """Return the best poses of conformers, roughly settled, and whose they are (B,)."""
    poses = _lowered(_poses(pack, conformers, options), pack, bench)
    poses = _searched(poses, pack, scan, bench, options, partial(_tell, progress, 0.0, 0.7))
    owners = pack.molecule_index[poses.conformers]
    kept = _best(owners, poses.scores + bonus[owners], options.shortlist, options.starts)
    molecules = poses.taken(kept).molecules(pack)
    return owners[kept], _settled(molecules, scan, bench, options.pixel, 4, False, partial(_tell, progress, 0.7, 0.3))


def _of_either_hand(
    pack: MoleculePack, conformers: NDArray[np.int64], molecules: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the conformers of molecules whose mirror image is as likely: their SMILES names no hand."""
    either = [molecule for molecule in molecules.tolist() if "@" not in pack.smiles[molecule]]
    return conformers[np.isin(pack.molecule_index[conformers], either)]


def _tell(progress: Callable[[float], None], begin: float, width: float, share: float) -> None:
    progress(begin + width * share)


def _tip(scan: Scan, options: CandidateOptions) -> Tip | None:
    if options.lateral_stiffness is None or scan.tip not in TIPS:
        return None
    return replace(TIPS[scan.tip], lateral_stiffness=options.lateral_stiffness * N_per_m)


def _own(smiles: str) -> MoleculePack:
    """Return the library of one molecule, free and, where it bears that, pressed flat."""
    conformers, pressed = [chem.embed(smiles)], [False]
    try:
        conformers.append(chem.embed(smiles, pressed=True))
        pressed.append(True)
    except chem.PressError:
        pass
    return concatenate([conformers], ["answer"], [""], {}, pressed)


def _said(answer: Identification, pack: MoleculePack) -> dict[str, Array]:
    """Return how like each molecule of a library (M,) is to what the answer says of it, 0–1, by what that is."""
    try:
        said = {"graph": chem.tanimoto(answer.smiles or "", pack.smiles)}
        counts = chem.composition(answer.smiles or "")
    except DataError:  # there is none, or it is no molecule
        said = {}
        counts = Counter(SYMBOLS.index(atom.element) for atom in answer.atoms if atom.element in SYMBOLS)
    if counts:
        first = np.unique(pack.molecule_index, return_index=True)[1]
        sizes = np.diff(pack.atom_offsets)
        table = np.zeros((len(pack), len(SYMBOLS)), np.int64)
        np.add.at(table, (np.repeat(np.arange(len(pack)), sizes), pack.numbers), 1)
        mine = np.bincount(list(counts), list(counts.values()), len(SYMBOLS)).astype(np.int64)
        said["formula"] = chem.shared_elements(mine, table[first])
    return said


def _simulated(pack: MoleculePack, molecules: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the conformers of molecules whose elements have parameters."""
    known = []
    for number in np.unique(pack.numbers):
        try:
            lennard_jones([number])
            known.append(number)
        except DataError:
            continue
    odd = np.add.reduceat(~np.isin(pack.numbers, known), pack.atom_offsets[:-1]) > 0
    conformers = np.flatnonzero(np.isin(pack.molecule_index, molecules) & ~odd)
    if not len(conformers):
        raise DataError("no candidate of the library can be simulated: their elements have no Lennard-Jones parameters")
    return conformers


def _poses(pack: MoleculePack, conformers: NDArray[np.int64], options: CandidateOptions) -> _Poses:
    """Return the poses in which conformers are searched: about flat, and for free ones those that show most atoms."""
    views = _even_directions(options.directions)
    upwards = _upwards(views)
    owners, rotations = [conformers[:0]], [np.empty((0, 3, 3))]
    for pressed in (0, 1):
        for some in _blocks(conformers[pack.pressed[conformers] == pressed]):
            pieces = gather(pack, some)
            atoms = pieces.numbers > 0
            turned = _about_flat(flat_rotation(pieces.positions, atoms))
            if not pressed:
                shown = entropy(np.where(atoms[:, None], views @ pieces.positions.swapaxes(1, 2), -np.inf))  # (B, D)
                turned = np.concatenate([turned, upwards[np.argsort(-shown, 1, kind="stable")[:, : options.poses]]], 1)
            owners.append(np.repeat(some, turned.shape[1]))
            rotations.append(turned.reshape(-1, 3, 3))
    count = sum(map(len, owners))
    return _Poses(np.concatenate(owners), np.concatenate(rotations), np.zeros((count, 3)), np.zeros(count))


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


def _lowered(poses: _Poses, pack: MoleculePack, bench: Bench) -> _Poses:
    """Return the poses with their tops at z = 0 where the scan counts its height from there, else as far as usual."""
    if bench.known:
        return poses
    places, usual = poses.places.copy(), SimulationOptions().clearance
    for some in _blocks(np.arange(len(places))):
        molecules = poses.taken(some).molecules(pack)
        lowest = closest_height(molecules.numbers, molecules.positions[..., 2], bench.tip.number, usual)
        places[some, 2] = bench.z[-1] - lowest
    return poses._replace(places=places)


def _searched(
    poses: _Poses,
    pack: MoleculePack,
    scan: Scan,
    bench: Bench,
    options: CandidateOptions,
    progress: Callable[[float], None],
) -> _Poses:
    """Return the poses turned in the plane and shifted to where they match the scan best."""
    patches = _patches(poses, pack)
    found = _Poses(poses.conformers, *(column.copy() for column in poses[1:]))
    done = 0
    for patch in np.unique(patches):
        pixels = int(np.ceil(patch * PATCH / options.pixel))
        axis = np.asarray((np.arange(pixels) - (pixels - 1) / 2) * options.pixel, np.float64)
        matcher = Matcher(scan.df[..., bench.chosen], scan.x, scan.y, options.pixel, options.turns, pixels)
        for some in _blocks(np.flatnonzero(patches == patch)):
            match = matcher(bench.images(poses.taken(some).molecules(pack), axis, axis))
            turns = Rotation.from_rotvec(match.turn[:, None] * [0.0, 0.0, 1.0]).as_matrix()
            found.rotations[some] = turns @ poses.rotations[some]
            found.places[some, :2] = np.stack([match.x, match.y], 1)
            found.scores[some] = match.score
            done += len(some)
            progress(done / len(patches))
    return found


def _patches(poses: _Poses, pack: MoleculePack) -> NDArray[np.int64]:
    """Return how wide a square about each pose (B,) shows what a tip feels of it, in units of `PATCH`."""
    widths = np.empty(len(poses.scores))
    for some in _blocks(np.arange(len(widths))):
        numbers, positions = poses.taken(some).molecules(pack)[:2]
        felt = (numbers > 0) & (positions[..., 2] >= poses.places[some, 2, None] - DEPTH)
        widths[some] = 2 * np.where(felt[..., None], np.abs(positions[..., :2]), 0).max((1, 2))
    return np.ceil((widths + 2 * MARGIN) / PATCH).astype(np.int64)


def _blocks(indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (indices[start : start + BLOCK] for start in range(0, len(indices), BLOCK))


def _best(owners: NDArray[np.int64], totals: Array, count: int, each: int) -> NDArray[np.int64]:
    """Return which of B are the best of each owner, at most `each`, of the `count` best owners; best first.

    Args:
        owners: (B,).
        totals: higher is better (B,).
        count: of owners.
        each: of an owner.
    """
    taken: dict[int, list[int]] = {}
    for i in np.argsort(-totals, kind="stable").tolist():
        owner = int(owners[i])
        if owner in taken or len(taken) < count:
            of_owner = taken.setdefault(owner, [])
            if len(of_owner) < each:
                of_owner.append(i)
    return np.array([i for of_owner in taken.values() for i in of_owner], np.int64)


def _settled(
    molecules: Molecules,
    scan: Scan,
    bench: Bench,
    pixel: float,
    rounds: int,
    fit_tip: bool,
    progress: Callable[[float], None],
) -> Settled:
    """Return molecules (B) settled, few at a time."""
    count, parts = len(molecules.numbers), []
    for start in range(0, count, SETTLED):
        some = Molecules._make(column[start : start + SETTLED] for column in molecules)
        parts.append(settle(bench, scan, some, pixel, rounds, fit_tip))
        progress(min(1.0, (start + SETTLED) / count))
    return _together(parts)


def _together(parts: Sequence[Settled]) -> Settled:
    """Return several as one, the narrower ones' molecules filled up with zeros."""
    columns = []
    for column in zip(*(part.molecules for part in parts), strict=True):
        width = max(values.shape[1] for values in column)
        fill = [[(0, 0), (0, width - values.shape[1])] + [(0, 0)] * (values.ndim - 2) for values in column]
        columns.append(np.concatenate([np.pad(*pair) for pair in zip(column, fill, strict=True)]))
    tips, scores = (np.concatenate(column) for column in zip(*(part[1:] for part in parts), strict=True))
    return Settled(Molecules._make(columns), tips, scores)


def _molecule(molecules: Molecules, index: int, smiles: str) -> Molecule:
    atoms, bonds = molecules.numbers[index] > 0, molecules.orders[index] > 0
    return Molecule(
        molecules.numbers[index, atoms], molecules.positions[index, atoms], molecules.charges[index, atoms],
        molecules.bonds[index, bonds], molecules.orders[index, bonds], smiles=smiles,
    ).topmost_at_zero()  # fmt: skip


def _candidate(score: float, scores: Mapping[str, float], molecule: Molecule) -> Candidate:
    """Return a candidate; of a molecule without a SMILES, as xyz files bring it, its names are empty."""
    inchikey, formula = "", ""
    with suppress(DataError):
        formula = chem.formula(molecule.smiles)
        inchikey = chem.inchikey(molecule.smiles)
    return Candidate(molecule.smiles, inchikey, formula, score, scores, molecule)
