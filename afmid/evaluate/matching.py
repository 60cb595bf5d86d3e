"""Which atom of an answer is which true atom."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afmid.identification import Identification
from afmid.molecule import Molecule

PARTS = ("visible", "whole")
VISIBLE_DEPTH = 0.8  # Å below the centre of the topmost atom: how deep a tip sees
CUTOFF, WIDE_CUTOFF = 0.35, 0.5  # Å, lateral: an atom within this distance is the same atom
_TIE = 1e-3  # weight of a difference in height against a lateral one (Å per Å): of two true atoms above each other


@dataclass(frozen=True, eq=False)
class Comparison:
    """An answer's atoms held against one part of the truth.

    Attributes:
        predicted: positions (Å) of the atoms found, (N, 3).
        true: positions (Å) of the true atoms of this part, (M, 3), the topmost atom of the molecule at z = 0.
        indices: of those in the whole molecule, (M,).
        pairs: matched rows of `predicted` and `true`, (K, 2).
        false: how many predictions match no true atom, be it in this part or not.
    """

    predicted: NDArray[np.float64]
    true: NDArray[np.float64]
    indices: NDArray[np.int64]
    pairs: NDArray[np.int64]
    false: int

    @property
    def off(self) -> NDArray[np.float64]:
        """How far the found atom of each pair lies from the true one, (K, 3), Å."""
        return self.predicted[self.pairs[:, 0]] - self.true[self.pairs[:, 1]]

    @property
    def partners(self) -> dict[int, int]:
        """Of each found atom that is matched, the true atom, by their indices in the answer and the whole molecule."""
        return dict(zip(self.pairs[:, 0].tolist(), self.indices[self.pairs[:, 1]].tolist(), strict=True))


def compare(answer: Identification, truth: Molecule, part: str, cutoff: float = CUTOFF) -> Comparison:
    """Hold the answer's atoms against a part of the truth: "visible" or "whole".

    Heights of the truth are counted from its topmost atom, as the answer's are. In the visible part, atoms that match
    a hidden true atom, once the visible ones are matched, are neither right nor false.
    """
    predicted = np.array([(atom.x, atom.y, atom.z) for atom in answer.atoms]).reshape(-1, 3)
    true = truth.topmost_at_zero().positions
    seen = visible(truth) if part == "visible" else np.ones(len(true), bool)
    pairs = match_atoms(predicted, true[seen], cutoff)
    rest = np.delete(predicted, pairs[:, 0], axis=0)
    false = len(rest) - len(match_atoms(rest, true[~seen], cutoff))
    return Comparison(predicted, true[seen], np.flatnonzero(seen), pairs, false)


def visible(molecule: Molecule) -> NDArray[np.bool_]:
    """Return which atoms a tip can see, (N,)."""
    return np.asarray(molecule.topmost_at_zero().positions[:, 2] >= -VISIBLE_DEPTH)


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

    lateral = lateral_distances(predicted, true)
    apart = np.minimum(np.abs(predicted[:, None, 2] - true[None, :, 2]), 10.0)
    cost = lateral + _TIE * apart
    never = (cutoff + _TIE * 10.0) * (min(cost.shape) + 1)  # dearer than all matches together: it never replaces one
    rows, columns = linear_sum_assignment(np.where(lateral <= cutoff, cost, never))
    near = lateral[rows, columns] <= cutoff
    return np.stack([rows[near], columns[near]], axis=1).astype(np.int64)


def lateral_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lateral distances (Å) of all pairs of positions (N, 3) and (M, 3): (N, M)."""
    off = a[:, None, :2] - b[None, :, :2]
    return np.asarray(np.hypot(off[..., 0], off[..., 1]))
