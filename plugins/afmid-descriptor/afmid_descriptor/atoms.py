"""Atoms from a disks map: each is a cone whose apex says where the atom is and how deep.

A true disk is (1 − d/1.2 Å)(1 − ρ/r): its height gives the depth d below the topmost atom, its radius r hints at the
element without settling it. Cones are fitted to local maxima, disks that overlap together; what the cones leave is
searched again for disks hidden in the flank of a neighbour's.

The confidence of an atom is a logistic function of four figures of its cone (`FIGURES`), with signs that are fixed: it
never falls with the height and the prominence of a disk, and never rises with its misfit and its crowding. Its
coefficients come from validation scans (`calibrate`) and travel with the weights; the fit aims at a share of 0.8 that
are there among atoms said with 0.8. `UNFITTED` stands in where a weights file brings none, and is not calibrated.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, maximum_filter, minimum_filter
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import expit

from afmid import Molecule
from afmid.evaluate import match_atoms
from afmid_descriptor.targets import DISK_DEPTH, DISK_RADIUS

Array = NDArray[np.float64]

WINDOW = 5  # pixels: a maximum is the highest of 5 × 5
UNDERSAMPLED = 0.6  # a disk's highest pixel may be this share of its apex
REACH = 0.3  # Å: pixels this near to an apex are fitted
ROUND = 0.5  # Å: where a disk's flank is compared with its apex
SEARCHES = 3  # for maxima, first of the map, then of what the cones have left
STEPS = 8  # Gauss-Newton steps after each search
TIP = 1e-3  # Å: rounds the apex
DAMPING = 1e-3
LONGEST_STEP = 0.1  # Å, of an apex
NARROWEST, WIDEST = 0.8 * min(DISK_RADIUS.values()), 1.1 * max(DISK_RADIUS.values())  # Å: radius of a cone
APART = 0.35  # Å: of two cones that are nearer, one is taken
FIGURES = {"log_height": 1, "prominence": 1, "misfit": -1, "crowding": -1}  # sign with which each moves the confidence
FEWEST = 20  # cones from which the confidence is fitted
RIDGE = 0.01  # weakly holds coefficients to 0: a normal prior of width 7, so that no fit runs away
UNFITTED = {"constant": 2.0, "log_height": 1.5, "prominence": 1.0, "misfit": -6.0, "crowding": 0.0}


@dataclass(frozen=True, eq=False)
class Cones:
    """Cones fitted to a disks map, from the highest to the lowest.

    Attributes:
        x, y: apex (Å), (N,) each.
        height: of the apex, (N,); 1 is the topmost atom's.
        radius: at the foot (Å), (N,).
        figures: what the confidence is made from, (N, 4), columns as in `FIGURES`.
    """

    x: Array
    y: Array
    height: Array
    radius: Array
    figures: Array

    def where(self, keep: NDArray[np.bool_]) -> "Cones":
        """Return the cones that `keep` (N,) names."""
        return Cones(*(values[keep] for values in vars(self).values()))

    @property
    def z(self) -> Array:
        """Height of the atoms (Å) relative to the highest, (N,), 0 or below."""
        return DISK_DEPTH * (self.height - self.height.max(initial=0.0))


def find_cones(disks: Array, x: Array, y: Array, threshold: float) -> Cones:
    """Return the cones of a disks map (X, Y), as high as `threshold` or higher.

    `x` and `y` are the pixel positions (Å), (X,) and (Y,), evenly spaced.
    """
    image = np.asarray(disks, np.float64)
    cones = np.empty((0, 4))  # x, y, height, slope (1/Å)
    for _ in range(SEARCHES):
        found = _maxima(image - _render(cones, x, y), x, y, threshold, cones)
        if not len(found):
            break
        cones = _fit(image, x, y, np.concatenate([cones, found]))
        cones = _distinct(cones[cones[:, 2] >= threshold])
    at_x, at_y, height, slope = cones.T
    return Cones(at_x, at_y, height, height / slope, _figures(image, x, y, cones))


def calibrate(
    disks: Iterable[Array], axes: Iterable[tuple[Array, Array]], truths: Iterable[Molecule], threshold: float
) -> dict[str, float] | None:
    """Return the coefficients of `confidence` from predicted disks maps and the molecules they show.

    None where they settle nothing: fewer than `FEWEST` cones, or all of them right, or all wrong.

    Args:
        disks: maps (X, Y) of scans that the network was not trained on.
        axes: their x and y (Å).
        truths: the molecules, in the frames of the axes.
        threshold: lowest cone that is looked at.
    """
    figures, right = [np.empty((0, len(FIGURES)))], [np.empty(0, bool)]
    for image, (x, y), truth in zip(disks, axes, truths, strict=True):
        cones = find_cones(image, x, y, threshold)
        figures.append(cones.figures)
        right.append(is_atom(cones, truth))
    known = np.concatenate(right)
    if len(known) < FEWEST or known.all() or not known.any():
        return None
    return fit_confidence(np.concatenate(figures), known)


def is_atom(cones: Cones, truth: Molecule) -> NDArray[np.bool_]:
    """Return which cones (N,) match, one to one and within 0.35 Å, an atom less than 1.2 Å below the topmost one."""
    atoms = truth.topmost_at_zero().positions
    found = np.stack([cones.x, cones.y, cones.z], 1)
    right = np.zeros(len(found), bool)
    right[match_atoms(found, atoms[atoms[:, 2] > -DISK_DEPTH])[:, 0]] = True
    return right


def fit_confidence(figures: Array, right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the coefficients that make `confidence` most likely for cones (N, 4) of which it is known who is right."""
    signs = np.array([0, *FIGURES.values()])
    inputs = np.column_stack([np.ones(len(figures)), figures])
    signed = np.where(right, -1.0, 1.0)
    ridge = RIDGE * np.abs(signs)  # the constant is free, so that the mean confidence is the share that is right

    def loss(coefficients: Array) -> tuple[float, Array]:
        logit = signed * (inputs @ coefficients)
        total = np.logaddexp(0, logit).sum() + ridge @ coefficients**2
        gradient = (signed * expit(logit)) @ inputs + 2 * ridge * coefficients
        return float(total) / len(inputs), gradient / len(inputs)

    bounds = [(None, None) if sign == 0 else (0, None) if sign > 0 else (None, 0) for sign in signs]
    start = np.array(list(UNFITTED.values()))
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return dict(zip(UNFITTED, map(float, best), strict=True))


def confidence(figures: Array, coefficients: Mapping[str, float]) -> Array:
    """Return how likely each cone (N, 4) is an atom, 0–1."""
    logit = coefficients["constant"] + figures @ np.array([coefficients[name] for name in FIGURES])
    return expit(logit)


def _maxima(image: Array, x: Array, y: Array, threshold: float, known: Array) -> Array:
    """Return first guesses (N, 4) of cones at local maxima of `image` that are no cone's yet."""
    lowest = UNDERSAMPLED * threshold
    peaks = (image == maximum_filter(image, WINDOW)) & (image > lowest) & (image > minimum_filter(image, WINDOW))
    i, j = np.nonzero(peaks)
    guess = np.stack([x[i], y[j], image[i, j], image[i, j] / DISK_RADIUS["C"]], 1)
    distance, _ = cKDTree(known[:, :2]).query(guess[:, :2])  # infinite where none is known
    return _distinct(guess[distance >= APART])  # an apex between pixels is the maximum of several


def _fit(image: Array, x: Array, y: Array, cones: Array) -> Array:
    """Return `cones` (N, 4) fitted to the pixels within `REACH` of each apex, by damped Gauss-Newton steps in turn."""
    cones = cones.copy()
    for _ in range(STEPS):
        values, px, py, near = _patches(image, x, y, cones)
        dx, dy = px - cones[:, :1], py - cones[:, 1:2]
        rho = np.hypot(dx, dy) + TIP
        height, slope = cones[:, 2:3], cones[:, 3:4]
        rest = (values - _neighbours(cones, px, py) - height + slope * rho) * near
        jacobian = np.stack([slope * dx / rho, slope * dy / rho, np.ones_like(rho), -rho], 2) * near[:, :, None]
        normal = jacobian.transpose(0, 2, 1) @ jacobian + DAMPING * np.eye(4)
        step = np.linalg.solve(normal, jacobian.transpose(0, 2, 1) @ rest[:, :, None])[..., 0]
        step[:, :2] = np.clip(step[:, :2], -LONGEST_STEP, LONGEST_STEP)
        cones += step
        cones[:, 0], cones[:, 1] = np.clip(cones[:, 0], x[0], x[-1]), np.clip(cones[:, 1], y[0], y[-1])
        cones[:, 2] = np.clip(cones[:, 2], 1e-3, None)
        cones[:, 3] = np.clip(cones[:, 3], cones[:, 2] / WIDEST, cones[:, 2] / NARROWEST)
    return cones


def _patches(image: Array, x: Array, y: Array, cones: Array) -> tuple[Array, Array, Array, Array]:
    """Return the pixels around each apex: values, x, y (Å), and 1 within `REACH` of the apex, else 0; (N, K) each."""
    wide, high = x[1] - x[0], y[1] - y[0]
    span = np.arange(-(half := int(np.ceil(REACH / min(wide, high)))), half + 1)
    i = np.rint((cones[:, 0] - x[0]) / wide).astype(int)[:, None] + np.repeat(span, len(span))
    j = np.rint((cones[:, 1] - y[0]) / high).astype(int)[:, None] + np.tile(span, len(span))
    inside = (i >= 0) & (i < len(x)) & (j >= 0) & (j < len(y))
    i, j = i.clip(0, len(x) - 1), j.clip(0, len(y) - 1)
    near = inside & (np.hypot(x[i] - cones[:, :1], y[j] - cones[:, 1:2]) <= REACH)
    return image[i, j], x[i], y[j], near.astype(float)


def _heights(cones: Array, px: Array, py: Array) -> Array:
    """Return the height of each cone (N, 4) at points of its own, (N, ...)."""
    x, y, height, slope = (values.reshape(-1, *[1] * (px.ndim - 1)) for values in cones.T)
    return np.clip(height - slope * np.hypot(px - x, py - y), 0, None)


def _neighbours(cones: Array, px: Array, py: Array) -> Array:
    """Return at points around each cone, (N, K), the height of all others, (N, K)."""
    pairs = cKDTree(cones[:, :2]).query_pairs(WIDEST + 2 * REACH, output_type="ndarray")
    here, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    total = np.zeros_like(px)
    np.add.at(total, here, _heights(cones[other], px[here], py[here]))
    return total


def _render(cones: Array, x: Array, y: Array) -> Array:
    """Return the disks map (X, Y) of cones."""
    image = np.zeros((len(x), len(y)))
    for cone in cones:
        radius = cone[2] / cone[3]
        columns, rows = (slice(*np.searchsorted(a, (c - radius, c + radius))) for a, c in ((x, cone[0]), (y, cone[1])))
        image[columns, rows] += _heights(cone[None], x[None, columns, None], y[None, None, rows])[0]
    return image


def _distinct(cones: Array) -> Array:
    """Return the cones from the highest to the lowest, without those that stand in a higher one's apex."""
    cones = cones[np.argsort(-cones[:, 2], kind="stable")]
    keep = np.ones(len(cones), bool)
    for higher, lower in sorted(cKDTree(cones[:, :2]).query_pairs(APART)):
        keep[lower] &= not keep[higher]
    return cones[keep]


def _figures(image: Array, x: Array, y: Array, cones: Array) -> Array:
    """Return what the confidence is made from, (N, 4), as `FIGURES` orders it; most are shares of height."""
    if not len(cones):
        return np.empty((0, len(FIGURES)))
    height = cones[:, 2]
    values, px, py, near = _patches(image, x, y, cones)
    others = _neighbours(cones, px, py)
    misfit = np.sqrt((((values - others - _heights(cones, px, py)) * near) ** 2).sum(1) / near.sum(1).clip(1)) / height
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    rx, ry = cones[:, :1] + ROUND * np.cos(angle), cones[:, 1:2] + ROUND * np.sin(angle)
    place = [(rx - x[0]) / (x[1] - x[0]), (ry - y[0]) / (y[1] - y[0])]
    prominence = 1 - map_coordinates(image, place, order=1).mean(1) / height
    crowding = _neighbours(cones, cones[:, :1], cones[:, 1:2])[:, 0] / height
    return np.stack([np.log(height), prominence, misfit, crowding], 1)
