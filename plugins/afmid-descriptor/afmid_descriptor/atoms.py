"""Atoms from maps: each is an apex of the peaks map, or of the disks map of a network that has no other.

An apex is found between pixels by a parabola through the logarithms around it, exact for a lone Gaussian. What all
maps show there (`FIGURES`) tells the rest by fits on validation scans (`calibrate`) that travel with the weights:

- the confidence, that an atom of the molecule is there within 0.35 Å, by a logistic function;
- the depth, by a linear one, down to 1.2 Å.

Where a weights file brings no fit, `UNFITTED` stands in and is not calibrated.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter
from scipy.optimize import minimize
from scipy.special import expit

from afmid import Molecule
from afmid.evaluate import match_atoms
from afmid_descriptor.targets import DISK_DEPTH

Array = NDArray[np.float64]

PEAKS = ("peaks", "disks")  # maps whose peaks are atoms; the first that there is
WINDOW = 3  # pixels: a maximum is the highest of 3 × 3
ROUND = 0.4  # Å: where a peak's flank is compared with its apex
SIGMA = "sigma"  # stands for the standard deviations of the map whose peaks are atoms
FIGURES = ("peak", "prominence", "disks", "spheres", "height", "bonds", SIGMA)  # at an apex; 0 of what is not there
FEWEST = 20  # peaks from which anything is fitted
RIDGE = 1e-3  # weakly holds coefficients of figures of unit spread to 0, so that no fit runs away


class Fit(NamedTuple):
    """Coefficients by the names of `FIGURES`, with a constant."""

    confidence: Mapping[str, float]
    depth: Mapping[str, float]


UNFITTED = Fit(
    {"constant": -3.0, "peak": 6.0, **dict.fromkeys(FIGURES[1:], 0.0)},
    {"constant": -DISK_DEPTH, "disks": DISK_DEPTH, **dict.fromkeys(("peak", "prominence", *FIGURES[3:]), 0.0)},
)


@dataclass(frozen=True, eq=False)
class Peaks:
    """Peaks of a map: apices at x, y (Å), (N,) each, and what the maps show there, (N, 7), as `FIGURES` says."""

    x: Array
    y: Array
    figures: Array

    def where(self, keep: NDArray[np.bool_]) -> "Peaks":
        """Return the peaks that `keep` (N,) names."""
        return Peaks(self.x[keep], self.y[keep], self.figures[keep])

    def told(self, coefficients: Mapping[str, float]) -> Array:
        """Return the sum (N,) of the figures times their coefficients, and the constant."""
        slopes = np.array([coefficients[name] for name in FIGURES])
        return np.asarray(coefficients["constant"] + self.figures @ slopes)

    def confidence(self, fit: Fit) -> Array:
        """Return how likely each is an atom (N,), 0–1."""
        return np.asarray(expit(self.told(fit.confidence)))

    def z(self, fit: Fit) -> Array:
        """Return the heights (N,), Å, of which 0 is the topmost atom's."""
        return np.clip(self.told(fit.depth), -DISK_DEPTH, 0)


def with_sigma(maps: Mapping[str, NDArray[Any]], sigma: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return maps with the deviations, of those given, that the fits know."""
    return {**maps, SIGMA: next(sigma[name] for name in PEAKS if name in maps)}


def find_peaks(maps: Mapping[str, NDArray[Any]], x: Array, y: Array, threshold: float) -> Peaks:
    """Return the peaks, as high as `threshold` or higher, of maps (X, Y) on pixels at x and y (Å), evenly spaced."""
    image = next(np.asarray(maps[name], np.float64) for name in PEAKS if name in maps)
    rank = image.ravel().argsort(kind="stable").argsort().reshape(image.shape)  # of equal neighbours one is the highest
    i, j = np.nonzero((rank == maximum_filter(rank, WINDOW)) & (image >= threshold))
    di, dj = (_apex(image, i, j, axis) for axis in (0, 1))
    place = np.array([i + di, j + dj])

    def at(values: Array, where: Array = place) -> Array:
        return np.asarray(map_coordinates(np.asarray(values, np.float64), where, order=1, mode="nearest"))

    pixel = np.array([x[1] - x[0], y[1] - y[0]])
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    around = place[:, :, None] + ROUND * np.array([np.cos(angle), np.sin(angle)])[:, None] / pixel[:, None, None]
    peak = image[i, j]
    others = [at(maps[name]) if name in maps else np.zeros(len(i)) for name in FIGURES[2:]]
    figures = np.stack([peak, peak - at(image, around).mean(1), *others], 1)
    return Peaks(x[0] + place[0] * pixel[0], y[0] + place[1] * pixel[1], figures)


def calibrate(
    maps: Iterable[Mapping[str, NDArray[Any]]], axes: Iterable[tuple[Array, Array]], truths: Iterable[Molecule],
    threshold: float,
) -> Fit | None:  # fmt: skip
    """Return what settles confidence and depth, from predicted maps and the molecules that they show.

    None where nothing is settled: fewer than `FEWEST` peaks, or all of them right, or all wrong. The depth stays that
    of `UNFITTED` where hardly a peak is at an atom that is shown.

    Args:
        maps: of scans that the network was not trained on, each map (X, Y).
        axes: their x and y (Å).
        truths: the molecules, in the frames of the axes.
        threshold: lowest peak that is looked at.
    """
    figures, right, depths = [np.empty((0, len(FIGURES)))], [np.empty(0, bool)], [np.empty(0)]
    for images, (x, y), truth in zip(maps, axes, truths, strict=True):
        peaks = find_peaks(images, x, y, threshold)
        found, z = matched(peaks, truth)
        figures.append(peaks.figures)
        right.append(found)
        depths.append(z[found])
    known, values, z = np.concatenate(right), np.concatenate(figures), np.concatenate(depths)
    shown = z > -DISK_DEPTH
    if len(known) < FEWEST or known.all() or not known.any():
        return None
    depth = _linear(values[known][shown], z[shown]) if shown.sum() > len(FIGURES) else UNFITTED.depth
    return Fit(_logistic(values, known), depth)


def matched(peaks: Peaks, truth: Molecule) -> tuple[NDArray[np.bool_], Array]:
    """Return which peaks (N,) match one to one, within 0.35 Å, an atom however deep, and its z below the top (N,)."""
    atoms = truth.topmost_at_zero().positions
    found = np.stack([peaks.x, peaks.y, np.zeros(len(peaks.x))], 1)
    pairs = match_atoms(found, atoms)
    right, z = np.zeros(len(found), bool), np.zeros(len(found))
    right[pairs[:, 0]], z[pairs[:, 0]] = True, atoms[pairs[:, 1], 2]
    return right, z


def _apex(image: Array, i: NDArray[np.intp], j: NDArray[np.intp], axis: int) -> Array:
    """Return how far (pixels, −½ to ½) along `axis` the apex is from the highest pixel."""
    logs = np.log(np.clip(image, 1e-6, None))
    step = np.array([axis == 0, axis == 1]).astype(int)
    sides = []
    for sign in (-1, 1):
        here = np.clip(i + sign * step[0], 0, image.shape[0] - 1), np.clip(j + sign * step[1], 0, image.shape[1] - 1)
        sides.append(logs[here])
    below, above = sides
    bend = below + above - 2 * logs[i, j]
    place, last = (i, j)[axis], image.shape[axis] - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        apex = np.where((bend < 0) & (place > 0) & (place < last), (below - above) / (2 * bend), 0.0)
    return np.clip(apex, -0.5, 0.5)


def _logistic(figures: Array, right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the coefficients that make it most likely which peaks (N, 7) are right."""
    mean, spread = figures.mean(0), figures.std(0) + 1e-9
    inputs = np.column_stack([np.ones(len(figures)), (figures - mean) / spread])
    signed = np.where(right, -1.0, 1.0)
    ridge = RIDGE * len(figures) * (np.arange(inputs.shape[1]) > 0)  # the constant is free

    def loss(coefficients: Array) -> tuple[float, Array]:
        logit = signed * (inputs @ coefficients)
        total = np.logaddexp(0, logit).sum() + ridge @ coefficients**2
        gradient = (signed * expit(logit)) @ inputs + 2 * ridge * coefficients
        return float(total) / len(inputs), gradient / len(inputs)

    best = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B").x
    return _named(best[0], best[1:], mean, spread)


def _linear(figures: Array, z: Array) -> dict[str, float]:
    """Return the coefficients of the least squared error of z (N,)."""
    mean, spread = figures.mean(0), figures.std(0) + 1e-9
    inputs = (figures - mean) / spread
    normal = inputs.T @ inputs + RIDGE * len(figures) * np.eye(inputs.shape[1])
    return _named(float(z.mean()), np.linalg.solve(normal, inputs.T @ (z - z.mean())), mean, spread)


def _named(constant: float, slopes: Array, mean: Array, spread: Array) -> dict[str, float]:
    """Return coefficients of figures as they are from those of figures of zero mean and unit spread."""
    slopes = slopes / spread
    return {"constant": float(constant - slopes @ mean), **dict(zip(FIGURES, map(float, slopes), strict=True))}
