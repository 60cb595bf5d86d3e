"""The core's metrics: an answer and the true molecule to named figures; docs/reference/metrics.md defines each.

Each figure of the atoms, elements and bonds comes for the part that a tip can see ("visible") and the "whole" molecule.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.identification import Identification
from afmid.molecule import Molecule

PARTS = ("visible", "whole")
VISIBLE_DEPTH = 0.8  # Å below the centre of the topmost atom: how deep a tip sees
CUTOFF, WIDE_CUTOFF = 0.35, 0.5  # Å, lateral: an atom within this distance is the same atom
CLASSES = {"Si": "C", "P": "N", "S": "O", "Cl": "F", "Br": "F", "I": "F"}  # H | C Si | N P | O S | F Cl Br I
_TIE = 1e-3  # weight of a difference in height against a lateral one (Å per Å): of two true atoms above each other


@dataclass(frozen=True, eq=False)
class Comparison:
    """An answer's atoms held against one part of the truth.

    Attributes:
        predicted: positions (Å) of the atoms found, (N, 3).
        true: positions (Å) of the true atoms of this part, (M, 3).
        indices: of those in the whole molecule, (M,).
        pairs: matched rows of `predicted` and `true`, (K, 2).
        false: how many predictions match no true atom, be it in this part or not.
    """

    predicted: NDArray[np.float64]
    true: NDArray[np.float64]
    indices: NDArray[np.int64]
    pairs: NDArray[np.int64]
    false: int


def match_atoms(
    predicted: NDArray[np.float64], true: NDArray[np.float64], cutoff: float = CUTOFF
) -> NDArray[np.int64]:
    """Match atoms one to one: as many as lie within `cutoff` (Å) laterally, at the least total distance.

    Args:
        predicted, true: positions (Å), (N, 3) and (M, 3). Heights decide between matches that are equal laterally.

    Returns:
        Pairs of row numbers (K, 2), by the first.
    """
    if not len(predicted) or not len(true):
        return np.empty((0, 2), np.int64)
    from scipy.optimize import linear_sum_assignment

    lateral = _distances(predicted, true)
    apart = np.minimum(np.abs(predicted[:, None, 2] - true[None, :, 2]), 10.0)
    cost = lateral + _TIE * apart
    never = (cutoff + _TIE * 10.0) * (min(cost.shape) + 1)  # dearer than all matches together: it never replaces one
    rows, columns = linear_sum_assignment(np.where(lateral <= cutoff, cost, never))
    near = lateral[rows, columns] <= cutoff
    return np.stack([rows[near], columns[near]], axis=1).astype(np.int64)


def compare(answer: Identification, truth: Molecule, part: str, cutoff: float = CUTOFF) -> Comparison:
    """Hold the answer's atoms against a part of the truth: "visible" or "whole".

    Heights of the truth are counted from its topmost atom, as the answer's are. In the visible part, atoms that match
    a hidden true atom, once the visible ones are matched, are neither right nor false.
    """
    predicted = np.array([(atom.x, atom.y, atom.z) for atom in answer.atoms]).reshape(-1, 3)
    true = truth.topmost_at_zero().positions
    seen = true[:, 2] >= -VISIBLE_DEPTH if part == "visible" else np.ones(len(true), bool)
    pairs = match_atoms(predicted, true[seen], cutoff)
    rest = np.delete(predicted, pairs[:, 0], axis=0)
    false = len(rest) - len(match_atoms(rest, true[~seen], cutoff))
    return Comparison(predicted, true[seen], np.flatnonzero(seen), pairs, false)


def atoms(answer: Identification, truth: Molecule) -> dict[str, float]:
    """Return precision and recall of the atoms, their position errors, and how far the nearest one is."""
    figures: dict[str, float] = {"atoms_found": len(answer.atoms)}
    for part in PARTS:
        for cutoff in (CUTOFF, WIDE_CUTOFF):
            held = compare(answer, truth, part, cutoff)
            right, within = len(held.pairs), f"within_{round(100 * cutoff)}_pm"
            figures[f"atoms_{part}_precision_{within}"] = right / max(right + held.false, 1)
            figures[f"atoms_{part}_recall_{within}"] = right / len(held.true)
        held = compare(answer, truth, part)
        figures[f"atoms_{part}_true"] = len(held.true)
        off = held.predicted[held.pairs[:, 0]] - held.true[held.pairs[:, 1]]
        errors = {"x": off[:, 0], "y": off[:, 1], "z": off[:, 2], "xy": np.hypot(off[:, 0], off[:, 1])}
        for axis, values in errors.items():
            figures |= _statistics(f"atoms_{part}_error_{axis}", np.abs(values))
        if answer.atoms:
            figures |= _statistics(f"atoms_{part}_nearest_xy", _distances(held.true, held.predicted).min(axis=1))
    return figures


def elements(answer: Identification, truth: Molecule) -> dict[str, float]:
    """Return the share of matched atoms whose element is right, of those whose element the answer gives."""
    figures: dict[str, float] = {}
    for part in PARTS:
        held = compare(answer, truth, part)
        said = [answer.atoms[found].element for found in held.pairs[:, 0]]
        true = [truth.symbols[atom] for atom in held.indices[held.pairs[:, 1]]]
        given = [(mine, other) for mine, other in zip(said, true, strict=True) if mine is not None]
        if said:
            figures[f"elements_{part}_given"] = len(given) / len(said)
        if given:
            right = [mine == other for mine, other in given]
            alike = [CLASSES.get(mine, mine) == CLASSES.get(other, other) for mine, other in given]
            figures[f"elements_{part}_accuracy"] = float(np.mean(right))
            figures[f"elements_{part}_accuracy_five_classes"] = float(np.mean(alike))
    return figures


def bonds(answer: Identification, truth: Molecule) -> dict[str, float]:
    """Return precision and recall of the bonds between matched atoms, whatever their order.

    Nothing where the truth names no bonds: it then says nothing about them.
    """
    figures: dict[str, float] = {}
    if not len(truth.bonds):
        return figures
    for part in PARTS:
        held = compare(answer, truth, part)
        partner = {int(found): int(held.indices[row]) for found, row in held.pairs}
        true = {frozenset(map(int, bond)) for bond in truth.bonds if {*map(int, bond)} <= {*partner.values()}}
        between = [(bond.a, bond.b) for bond in answer.bonds if bond.a in partner and bond.b in partner]
        said = {frozenset((partner[a], partner[b])) for a, b in between}
        if said:
            figures[f"bonds_{part}_precision"] = len(said & true) / len(said)
        if true:
            figures[f"bonds_{part}_recall"] = len(said & true) / len(true)
    return figures


def molecule(answer: Identification, truth: Molecule) -> dict[str, float]:
    """Return 1 if the answer's SMILES is the true molecule by the InChIKey's first block, else 0.

    Raises:
        DataError: where the truth's SMILES is not valid.
    """
    if answer.smiles is None or not truth.smiles:
        return {}
    from afmid.chem import inchikey

    true = inchikey(truth.smiles)
    try:
        said = inchikey(answer.smiles)
    except DataError:
        return {"molecule_exact": 0.0}
    return {"molecule_exact": float(said[:14] == true[:14])}


def _distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lateral distances (Å) of all pairs, (N, M)."""
    off = a[:, None, :2] - b[None, :, :2]
    return np.asarray(np.hypot(off[..., 0], off[..., 1]))


def _statistics(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    """Return mean and median of lengths (Å); nothing where there are none."""
    if not len(values):
        return {}
    return {f"{name}_mean_angstrom": float(values.mean()), f"{name}_median_angstrom": float(np.median(values))}
