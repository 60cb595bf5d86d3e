"""Lay molecules under the tip of a scan, where what a `Bench` makes of them matches it best.

The match is the correlation of the images, each less its mean. A coarse search takes every turn in the plane at
all shifts at once, by the Fourier transform; what it finds is settled in the scan's own frame by Gauss–Newton steps
of the whole molecule: turn, tilt, shift and, where the scan does not tell it, height.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from afmid.evaluate.bench import ALONG_TIP, Bench, topped
from afmid.molecule import Molecules

Array = NDArray[np.float64]

DEPTH = 3.0  # Å: how far below the topmost atom others are felt
AT_ONCE = 16  # templates whose transforms fit into a processor's cache together
# Turns about x, y, z (radians), shifts along them (Å); of the tip: tilt along x and y (Å), the logarithm of the lateral
# stiffness, monopole (e) and quadrupole (e·Å²).
STEPS = np.array([0.02, 0.02, 0.02, 0.05, 0.05, 0.05, 0.05, 0.05, 0.1, 0.02, 0.02])  # of the differences
FARTHEST = np.array([0.15, 0.15, 0.2, 0.4, 0.4, 0.2, 0.3, 0.3, 0.5, 0.1, 0.1])  # at once
MOST_OF_TIPS = np.array([1.0, 1.0, 1.6, 0.3, 0.3])  # away from a straight tip of the usual kind
DAMPING = 1e-2


class Match(NamedTuple):
    """Where templates match images best, each (B,): the correlation, the turn (radians) and the shift (Å) after it."""

    score: Array
    turn: Array
    x: Array
    y: Array


class Matcher:
    """Finds templates in images, over all turns in the plane and all shifts at once, by the Fourier transform.

    The correlation is that of the images within their window; what of a template is beyond it counts as missing.

    Args:
        images: (X, Y, C), on the axes `x` (X,) and `y` (Y,), Å; such as Δf at C heights, or C maps.
        pixel: of the search, Å; it finds shifts to within half of it.
        turns: tried, evenly over the whole circle.
        patch: pixels along each side of the templates.
    """

    def __init__(self, images: NDArray[Any], x: Array, y: Array, pixel: float, turns: int, patch: int) -> None:
        spans = np.array([x[-1] - x[0], y[-1] - y[0]])
        half = spans[:, None, None, None] / 2
        self.centre = np.array([x[0] + x[-1], y[0] + y[-1]]) / 2
        self.angles = 2 * np.pi * np.arange(turns) / turns
        least = max(int(np.ceil(np.hypot(*spans) / pixel + patch / 2)) + 1, patch)  # so that nothing comes round
        size = self.size = int(fft.next_fast_len(least, real=True))
        grid = np.asarray((np.arange(size) - (size - 1) / 2) * pixel, np.float64)

        places = _turned(grid, self.angles)
        inside = np.asarray((np.abs(places) <= half).all(0))[:, None]  # (T, 1, F, F)
        self.within = float(inside.sum((1, 2, 3)).mean())  # pixels
        indices = [
            np.interp(p + c, axis, np.arange(len(axis))) for p, c, axis in zip(places, self.centre, (x, y), strict=True)
        ]
        blur = [0.5 * pixel * (len(axis) - 1) / span if span else 0.0 for axis, span in zip((x, y), spans, strict=True)]
        smooth = np.moveaxis(ndimage.gaussian_filter(images.astype(np.float32), (*blur, 0), mode="nearest"), 2, 0)
        seen = inside * np.stack([ndimage.map_coordinates(image, indices, order=1) for image in smooth], 1)
        seen -= inside * seen.sum((2, 3), keepdims=True) / np.maximum(inside.sum((2, 3), keepdims=True), 1)
        seen /= np.maximum(np.sqrt((seen**2).sum((1, 2, 3), keepdims=True)), 1e-30)  # (T, C, F, F)
        self.spectra = torch.fft.rfft2(torch.tensor(seen, dtype=torch.float32))

        shift = grid + (patch - 1) / 2 * pixel  # that of the patch's middle when the patch is moved by k pixels
        self.shift = np.where(shift > size * pixel / 2, shift - size * pixel, shift)
        outside = (np.abs(_turned(self.shift, self.angles)) > half).any(0)
        self.barred = torch.tensor(np.where(outside, -np.inf, 0.0), dtype=torch.float32)

    def __call__(self, templates: Tensor) -> Match:
        """Return the best match of each template (B, P, P, C), float32, whose edges are taken as its background."""
        edge = torch.cat([templates[:, [0, -1]].flatten(1, 2), templates[:, :, [0, -1]].flatten(1, 2)], 1).mean(1)
        templates = templates - edge[:, None, None]
        area = max(self.within, templates[0, ..., 0].numel())
        variance = (templates**2).sum((1, 2)) - templates.sum((1, 2)) ** 2 / area  # (B, C)
        scale = variance.sum(1).clamp_min(1e-30).rsqrt()
        best, where = [], []
        spectra = torch.fft.rfft2(templates.movedim(3, 1), s=(self.size, self.size)).conj()
        for few in torch.split(spectra, AT_ONCE):
            products = torch.einsum("tcfg,bcfg->btfg", self.spectra, few)
            scores = torch.fft.irfft2(products, s=(self.size, self.size)) + self.barred
            peak = scores.flatten(1).max(1)
            best.append(peak.values)
            where.append(peak.indices)
        turn, i, j = np.unravel_index(torch.cat(where).numpy(), self.barred.shape)
        cos, sin = np.cos(self.angles[turn]), np.sin(self.angles[turn])
        x, y = self.shift[i], self.shift[j]
        score = (torch.cat(best) * scale).double().numpy()
        return Match(score, self.angles[turn], self.centre[0] + cos * x - sin * y, self.centre[1] + sin * x + cos * y)


class Settled(NamedTuple):
    """Molecules (B) where they match a scan best, under what tips (B, 5), see `Bench.images`, and how well (B,)."""

    molecules: Molecules
    tips: Array
    scores: Array

    def taken(self, which: NDArray[Any]) -> "Settled":
        """Return some of them."""
        return Settled(taken(self.molecules, which), self.tips[which], self.scores[which])


def settle(bench: Bench, molecules: Molecules, pixel: float, rounds: int, fit_tip: bool = False) -> Settled:
    """Return molecules (B) moved as a whole to where they match the scan best.

    Levenberg–Marquardt steps of all of them at once; gain and offsets of the images follow from the linear fit.

    Args:
        bench: that of the scan.
        molecules: in the scan's frame, about where they lie; not turned by more than some 10°.
        pixel: pixels of the scan are left out until they are about this far apart, Å.
        rounds: of simulations; 1 moves nothing.
        fit_tip: fit the tip's tilt, lateral stiffness and charges along, which else shift the molecule.

    Raises:
        DataError: an element that the bench does not know.
    """
    x, y = (axis[:: _every(axis, pixel)] for axis in (bench.x, bench.y))
    target = bench.target[:: _every(bench.x, pixel), :: _every(bench.y, pixel)].astype(np.float64)
    target = _centred(target).ravel()
    target /= max(float(np.linalg.norm(target)), 1e-300)
    free = np.flatnonzero([True] * 5 + [not bench.levelled] + [fit_tip] * ALONG_TIP)
    nudges = np.concatenate([np.zeros((1, len(STEPS))), np.diag(STEPS)[free]])
    count = len(molecules.numbers)
    start = topped(molecules) if bench.levelled else molecules
    best = trial = Settled(start, np.zeros((count, ALONG_TIP)), np.full(count, -np.inf))
    damping, slope = np.full(count, DAMPING), np.zeros((count, len(free)))
    normal = np.zeros((count, len(free), len(free)))
    for left in reversed(range(rounds)):
        varied = [_moved(bench, trial, np.tile(nudge, (count, 1))) for nudge in (nudges if left else nudges[:1])]
        columns = (np.concatenate(column) for column in zip(*(each.molecules for each in varied), strict=True))
        stacks = bench.images(Molecules._make(columns), x, y, np.concatenate([each.tips for each in varied])).numpy()
        stacks = _centred(stacks).reshape(len(varied), count, -1)
        norms = np.maximum(np.linalg.norm(stacks[0], axis=-1), 1e-30)
        trial = trial._replace(scores=np.minimum(stacks[0] @ target / norms, 1.0))
        better = trial.scores > best.scores
        best = _where(better, trial, best)
        if not left:
            break
        gain = (trial.scores / norms)[:, None]  # |target − gain · stack| is least
        jacobian = gain[..., None] * np.moveaxis((stacks[1:] - stacks[0]) / STEPS[free, None, None], 0, 1)  # (B, K, D)
        unit = stacks[0] / norms[:, None]
        jacobian -= (jacobian @ unit[..., None]) * unit[:, None]
        residual = target - gain * stacks[0]
        normal[better] = (jacobian @ jacobian.swapaxes(1, 2))[better]
        slope[better] = (jacobian @ residual[..., None])[better, :, 0]
        damping = np.where(better, damping / 3, damping * 8)
        diagonal = np.einsum("bkk->bk", normal)
        ridge = damping[:, None] * diagonal + 1e-9 * diagonal.max(1, keepdims=True) + 1e-30
        moves = np.zeros((count, len(STEPS)))
        moves[:, free] = np.linalg.solve(normal + ridge[..., None] * np.eye(len(free)), slope[..., None])[..., 0]
        trial = _moved(bench, best, np.clip(moves, -FARTHEST, FARTHEST))
    return best


def taken(molecules: Molecules, which: NDArray[Any]) -> Molecules:
    """Return some of B molecules."""
    return Molecules._make(column[which] for column in molecules)


def together(parts: Sequence[Settled]) -> Settled:
    """Return several as one, the narrower ones' molecules filled up with zeros."""
    columns = []
    for column in zip(*(part.molecules for part in parts), strict=True):
        width = max(values.shape[1] for values in column)
        fill = [[(0, 0), (0, width - values.shape[1])] + [(0, 0)] * (values.ndim - 2) for values in column]
        columns.append(np.concatenate([np.pad(*pair) for pair in zip(column, fill, strict=True)]))
    tips, scores = (np.concatenate(column) for column in zip(*(part[1:] for part in parts), strict=True))
    return Settled(Molecules._make(columns), tips, scores)


def apart(molecules: Molecules, one: int, others: Sequence[int]) -> Array:
    """Return how differently one of B molecules lies from others that have the same atoms in the same order (K,), Å.

    It is the root mean square of the atoms' distances from the nearest one of their element, of either or the other
    molecule, whichever is larger. So a molecule that a symmetry turns onto itself lies the same.
    """
    atoms = molecules.numbers[one] > 0
    numbers, positions = molecules.numbers[one, atoms], molecules.positions[one, atoms]
    squares = ((positions[:, None] - molecules.positions[others][:, None, atoms]) ** 2).sum(-1)  # (K, N, N)
    squares[:, numbers[:, None] != numbers] = np.inf
    return np.asarray(np.sqrt(np.maximum(squares.min(1).mean(1), squares.min(2).mean(1))))


def _moved(bench: Bench, settled: Settled, moves: Array) -> Settled:
    """Return molecules turned about the middle of their upper side and shifted, and tips changed.

    Args:
        bench: says whether their tops stay at z = 0.
        settled: B of them.
        moves: (B, 11): turns (radians), shifts (Å), and changes of the tips.
    """
    molecules = settled.molecules
    pivot = upper_middle(molecules.numbers, molecules.positions)[:, None]
    rotations = Rotation.from_rotvec(moves[:, :3]).as_matrix()
    positions = (molecules.positions - pivot) @ rotations.swapaxes(1, 2) + pivot + moves[:, None, 3:6]
    tips = np.clip(settled.tips + moves[:, 6:], -MOST_OF_TIPS, MOST_OF_TIPS)
    molecules = molecules._replace(positions=positions)
    return settled._replace(molecules=topped(molecules) if bench.levelled else molecules, tips=tips)


def _where(first: NDArray[np.bool_], one: Settled, other: Settled) -> Settled:
    """Return of each scene the first where so said (B,), else the other."""

    def chosen(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return np.where(first.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    molecules = Molecules._make(map(chosen, one.molecules, other.molecules))
    return Settled(molecules, chosen(one.tips, other.tips), chosen(one.scores, other.scores))


def _every(axis: Array, pixel: float) -> int:
    """Return which share of pixels at places `axis` (X,), Å, makes them about `pixel` apart: one of so many."""
    span = float(axis[-1] - axis[0])
    return max(1, round(pixel * (len(axis) - 1) / span)) if span else 1


def upper_middle(numbers: NDArray[np.int64], positions: Array) -> Array:
    """Return the mean place (B, 3), Å, of the atoms that a tip may feel, those down to `DEPTH`; its z is the top.

    It turns with the molecule in the plane.

    Args:
        numbers: atomic numbers (B, N), 0 where there is no atom.
        positions: (B, N, 3), Å.
    """
    top = np.where(numbers > 0, positions[..., 2], -np.inf).max(1, keepdims=True)
    felt = (numbers > 0) & (positions[..., 2] >= top - DEPTH)
    middle = (positions[..., :2] * felt[..., None]).sum(1) / felt.sum(1, keepdims=True)
    return np.concatenate([middle, top], 1)


def _centred(stacks: Array) -> Array:
    """Return stacks (…, X, Y, C), each image less its mean."""
    return np.asarray(stacks - stacks.mean((-3, -2), keepdims=True))


def _turned(axis: Array, angles: Array) -> Array:
    """Return the places (2, T, F, F) of a square grid with both axes `axis` (F,) turned by angles (T,), radians."""
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return np.stack([cos * axis[:, None] - sin * axis, sin * axis[:, None] + cos * axis])
