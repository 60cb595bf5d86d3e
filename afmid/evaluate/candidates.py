"""Which molecules of a library a scan may show, and how they lie: each is laid under the tip and compared with it.

All candidates are searched coarsely, in many poses and at all turns and shifts: in the maps that the method predicted,
where it can draw them of molecules too, else in the images, simulated again. The best ones are settled in the scan's
frame and compared with the images. What a method has said of the molecule counts beside the fit.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from afmid import chem
from afmid.data.pack import MoleculePack, concatenate
from afmid.errors import DataError
from afmid.evaluate.bench import Bench, ImageBench, MapBench
from afmid.evaluate.placement import Settled, taken, together
from afmid.evaluate.search import Extent, best, search, settled, told
from afmid.identification import Candidate, Identification
from afmid.molecule import SYMBOLS, Molecule, Molecules
from afmid.offers import Renders, Simulator
from afmid.scan import Scan
from afmid.simulate.elements import lennard_jones
from afmid.simulate.tip import TIPS, Tip
from afmid.units import N_per_m

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

WIDEST = 80.0  # Å: of a scan
STEP = 0.2  # Å between heights of the force in the search
WAYS_OF_ONE = 10  # to lie that are searched of a library of one molecule, at least
FEW, MANY = 3, 10  # images that are compared, at first and in the end


class CandidateOptions(BaseModel, extra="forbid", frozen=True):
    """How candidates are searched for and ranked."""

    top: int = Field(10, ge=1, le=1000, description="candidates to return")
    by: Literal["both", "maps", "images"] = Field(
        "both",
        description="what they are searched in and ranked by: the method's maps and then the images, where it draws "
        "maps of molecules, or one of them alone",
    )
    configurations: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="ways to lie that are told of each, at most; by default 1, or top of a single one",
    )
    poses: int = Field(
        32, ge=0, le=1000, description="poses of a free conformer besides flat ones, at least: those that show most"
    )
    directions: int = Field(300, ge=2, le=5000, description="even directions of view that the poses are chosen from")
    turns: int = Field(24, ge=4, le=360, description="turns in the plane")
    pixel: float = Field(0.6, ge=0.1, le=2, description="pixel of the search, Å")
    shortlist: int = Field(1000, ge=1, le=100_000, description="candidates that are settled after the search")
    starts: int = Field(3, ge=1, le=20, description="poses of each of them that are settled, for each configuration")
    finalists: int = Field(100, ge=1, le=10_000, description="candidates that are settled again, with the tip")
    fine_pixel: float = Field(0.25, ge=0.05, le=2, description="pixel of the fit, Å")
    most: int = Field(5000, ge=1, description="search so many candidates, the likeliest by what the answer says")
    maps_weight: float = Field(0.1, ge=0, le=10, description="weight of the match with the maps beside the fit")
    graph_weight: float = Field(0.1, ge=0, le=10, description="weight of the fingerprints' similarity beside the fit")
    formula_weight: float = Field(0.1, ge=0, le=10, description="weight of the elements in common beside the fit")
    lateral_stiffness: float | None = Field(None, gt=0, le=100, description="lateral stiffness of the probe, N/m")


def rank(
    answer: Identification,
    scan: Scan,
    library: MoleculePack | None,
    simulator: Simulator,
    options: CandidateOptions = CandidateOptions(),  # noqa: B008 (frozen)
    progress: Callable[[float], None] = lambda share: None,
    method: Renders | None = None,
) -> Identification:
    """Return the answer with the candidates that fit the scan, best first, each as it lies under the tip.

    A candidate's scores are "fit", the correlation of its simulated stack with the scan; where the method draws maps
    "maps", their correlation with the answer's; where the answer tells a SMILES "graph", the Tanimoto similarity of the
    fingerprints, and where it tells a SMILES or elements "formula", the share of atoms in common. They are summed with
    the options' weights; without "fit", "maps" counts whole. A candidate that may lie in several ways comes once for
    each. The same input gives the same ranking.

    Args:
        answer: of a method, in the scan's frame.
        scan: with Δf.
        library: the candidates; None takes the answer's own molecule, and without a SMILES there is none.
        simulator: an engine's.
        options: of the search.
        progress: called now and then with the share of the work that is done, 0–1.
        method: that of the answer, where it draws maps of molecules.

    Raises:
        DataError: the scan is too wide, there are no maps to rank by and it holds no Δf or has a tip that is not known,
            or no candidate can be simulated.
    """
    width = max(float(np.ptp(scan.x)), float(np.ptp(scan.y)))
    if width > WIDEST:
        raise DataError(f"the scan is {width:.0f} Å wide, and candidates are searched in {WIDEST:.0f}; crop it")
    if library is None and not answer.smiles:
        return answer
    pack = _own(str(answer.smiles)) if library is None else library
    said = _said(answer, pack)
    weights = {"graph": options.graph_weight, "formula": options.formula_weight}
    bonus = sum((weights[name] * values for name, values in said.items()), np.zeros(len(pack.smiles)))
    likely = np.argsort(-bonus, kind="stable")[: options.most if bonus.any() else None]
    benches = _benches(answer, scan, simulator, options, method)
    lone = library is not None and len(library.smiles) == 1
    told_of_each = options.configurations or (options.top if lone else 1)
    ways = max(told_of_each, WAYS_OF_ONE if lone else 1)  # that are searched, so that asking for fewer changes no order

    coarse = benches.get("maps") or ImageBench.of(scan, simulator, FEW, _tip(scan, options), STEP)
    exact = benches.get("fit") or coarse
    owners, found = _searched(pack, likely, bonus, coarse, options, ways, partial(told, progress, 0.0, 0.8))
    if exact is not coarse:  # the maps tell nothing of the height
        found = found._replace(molecules=exact.laid(found.molecules))
    for begin, count, each, pixel in (
        (0.8, _finalists(options), 2 * ways, options.pixel),
        (0.9, options.top + 2, ways, options.fine_pixel),
    ):
        kept = best(owners, found.scores + bonus[owners], count, each, found.molecules)
        owners = owners[kept]
        last = partial(told, progress, begin, 0.1)
        found = settled(taken(found.molecules, kept), exact, pixel, 6, exact is not coarse, last)

    matches = {
        name: found.scores if bench is exact else settled(found.molecules, bench, options.fine_pixel, 1, False).scores
        for name, bench in benches.items()
    }
    matched = matches["fit"] + options.maps_weight * matches.get("maps", 0.0) if "fit" in matches else matches["maps"]
    totals = matched + bonus[owners]
    candidates = []
    for i in best(owners, totals, options.top, told_of_each, found.molecules).tolist():
        owner = int(owners[i])
        scores = {name: float(values[i]) for name, values in matches.items()}
        scores |= {name: float(values[owner]) for name, values in said.items()}
        molecule = _molecule(found.molecules, i, pack.name[owner], pack.smiles[owner])
        candidates.append(_candidate(float(totals[i]), scores, molecule))
    counts = {"pool": len(pack.smiles), "simulated": len(likely)}
    record = {**counts, "ranked_by": [*matches, *said], "options": options.model_dump()}
    return replace(
        answer,
        candidates=tuple(candidates),
        fit=candidates[0].scores.get("fit", answer.fit),
        meta={**answer.meta, "candidates": record},
    )


def _searched(
    pack: MoleculePack,
    likely: NDArray[np.int64],
    bonus: Array,
    bench: Bench,
    options: CandidateOptions,
    ways: int,
    progress: Callable[[float], None],
) -> tuple[NDArray[np.int64], Settled]:
    """Return molecules, by their rows, as the coarse search lays them; the best also as their mirror images.

    Args:
        pack: the library.
        likely: which of its molecules are searched.
        bonus: what counts beside the match of each molecule (M,).
        bench: what they are matched to.
        options: of the search.
        ways: ways to lie that are looked for, of each.
        progress: called with the share of the search that is done.
    """
    extent = Extent(
        options.directions, options.poses, options.turns, options.pixel, options.shortlist, options.starts * ways
    )
    everywhere = partial(search, bench=bench, bonus=bonus, extent=extent)
    conformers = _simulated(pack, likely)
    owners, found = everywhere(pack, conformers, progress=partial(told, progress, 0.0, 0.875))
    if len(mirrored := _of_either_hand(pack, conformers, owners[best(owners, found.scores, _finalists(options), 1)])):
        other = replace(pack, positions=pack.positions * np.array([-1, 1, 1], np.int16))
        more, found_too = everywhere(other, mirrored, progress=partial(told, progress, 0.875, 0.125))
        owners, found = np.concatenate([owners, more]), together([found, found_too])
    return owners, found


def _finalists(options: CandidateOptions) -> int:
    return max(options.finalists, options.top)


def _benches(
    answer: Identification, scan: Scan, simulator: Simulator, options: CandidateOptions, method: Renders | None
) -> dict[str, Bench]:
    """Return what candidates are matched to in the end, by the names of their scores.

    Where the scan cannot be simulated (no Δf, an unknown tip), the maps alone count.

    Raises:
        DataError: there is none, or see `ImageBench.of`.
    """
    benches: dict[str, Bench] = {}
    maps = MapBench.of(answer, method) if options.by != "images" and method is not None else None
    if options.by != "maps":
        try:
            benches["fit"] = ImageBench.of(scan, simulator, MANY, _tip(scan, options))
        except DataError as error:
            if maps is None:
                raise
            log.warning("candidates are ranked by the maps alone: %s", error)
    if maps is not None:
        benches["maps"] = maps
    if not benches:
        raise DataError(f"{answer.method} draws no maps of candidates; rank by images: --set candidates.by=images")
    return benches


def _of_either_hand(
    pack: MoleculePack, conformers: NDArray[np.int64], molecules: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the conformers of molecules whose mirror image is as likely: their SMILES names no hand."""
    either = [molecule for molecule in molecules.tolist() if "@" not in pack.smiles[molecule]]
    return conformers[np.isin(pack.molecule_index[conformers], either)]


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
    """Return the conformers of molecules whose elements have Lennard-Jones parameters, which maps need too."""
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


def _molecule(molecules: Molecules, index: int, name: str, smiles: str) -> Molecule:
    atoms, bonds = molecules.numbers[index] > 0, molecules.orders[index] > 0
    return Molecule(
        molecules.numbers[index, atoms], molecules.positions[index, atoms], molecules.charges[index, atoms],
        molecules.bonds[index, bonds], molecules.orders[index, bonds], name, smiles,
    ).topmost_at_zero()  # fmt: skip


def _candidate(score: float, scores: Mapping[str, float], molecule: Molecule) -> Candidate:
    """Return a candidate; of a molecule without a SMILES, as xyz files bring it, its names are empty."""
    inchikey, formula = "", ""
    with suppress(DataError):
        formula = chem.formula(molecule.smiles)
        inchikey = chem.inchikey(molecule.smiles)
    return Candidate(molecule.smiles, inchikey, formula, score, scores, molecule)
