"""The position grid: a Gaussian at each atom near the top of the molecule, and how to find the atoms in such a grid.

Oinonen et al., "Molecule graph reconstruction from atomic force microscopy images with machine learning", MRS Bulletin
47, 895–905 (2022). A grid (X, Y, 20) lies over the scan's pixels; along z it has levels 0.1 Å apart, from above the
topmost atom down. Departure: the best voxel of a peak is refined by a parabola along each axis.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, label
from torch import Tensor

Array = NDArray[np.float64]

STEP = 0.1  # Å between levels
LEVELS = 0.45 - STEP * np.arange(20)  # Å from the topmost atom: centres of the voxels of a box from 0.5 to −1.5
DEEPEST = -0.8  # Å: atoms below are left out
REACH = 2.0  # half the template's box, in widths of the Gaussian
WORST = 0.7  # score of a voxel from which on it belongs to no peak


class Peaks(NamedTuple):
    """Atoms found in a grid.

    Attributes:
        positions: (N, 3), Å, in the frame of x, y and the levels.
        quality: 1 where the grid around the peak equals the template, 0.3 where it only just counts (N,).
    """

    positions: Array
    quality: Array


def shown(atoms: Tensor, positions: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return which atoms a grid shows, bool (B, N): those not below `DEEPEST` and within the pixels.

    Args:
        atoms: where there is an atom (B, N).
        positions: (B, N, 3), Å, z from the topmost atom.
        x, y: pixels (B, X) and (B, Y), Å, increasing.
    """
    inside = atoms & (positions[..., 2] >= DEEPEST)
    for i, axis in enumerate((x, y)):
        inside &= (positions[..., i] >= axis[:, :1]) & (positions[..., i] <= axis[:, -1:])
    return inside


def target(positions: Tensor, there: Tensor, x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """Return the sum of normalised Gaussians (Å⁻³) of width `sigma` (Å) at atoms, (B, X, Y, 20).

    Args:
        positions: (B, N, 3), Å, in the frame of x, y and the levels.
        there: which of them count (B, N).
        x, y: pixels (B, X) and (B, Y), Å.
    """
    z = positions.new_tensor(LEVELS).expand(len(x), -1)
    along = [_gaussian(axis[:, None] - positions[..., i, None], sigma) for i, axis in enumerate((x, y, z))]
    gx, gy, gz = along[0] * there[..., None], *along[1:]
    lateral = (gx[..., None] * gy[:, :, None]).flatten(2)  # (B, N, X Y)
    return (lateral.transpose(1, 2) @ gz).view(len(x), x.shape[1], y.shape[1], -1)


def peaks(grid: NDArray[np.float32], x: Array, y: Array, sigma: float) -> Peaks:
    """Return the atoms in a grid (X, Y, 20) of Gaussians of width `sigma` (Å) over evenly spaced pixels, Å.

    The grid may go on beyond the last of the pixels x and y.

    The score of a voxel is mean((grid − template)²) / mean(template²) over that part of the template's box around it
    that lies in the grid: 0 at an atom far from others, 1 where there is nothing.
    """
    steps = np.array([x[1] - x[0], y[1] - y[0], -STEP])
    template, box = zip(*(_template(abs(step), sigma) for step in steps), strict=True)
    values = grid.astype(np.float64)
    power = np.einsum("x,y,z", *(_correlated(np.ones(n), [t**2]) for n, t in zip(grid.shape, template, strict=True)))
    score = 1 + (_correlated(values**2, box) - 2 * _correlated(values, template)) / power
    parts, count = label(score < WORST)
    voxels = np.zeros((count, 3), np.int64)
    order = np.flatnonzero(parts)
    order = order[np.argsort(-score.flat[order])]  # the best of each part comes last, and stays
    voxels[parts.flat[order] - 1] = np.stack(np.unravel_index(order, score.shape), 1)
    first = np.array([x[0], y[0], LEVELS[0]])
    return Peaks(first + steps * (voxels + _offsets(score, voxels)), np.clip(1 - score[tuple(voxels.T)], 0, 1))


def _gaussian(distance: Tensor, sigma: float) -> Tensor:
    gaussian: Tensor = torch.exp(-0.5 * (distance / sigma).square()) / (sigma * (2 * np.pi) ** 0.5)
    return gaussian


def _template(step: float, sigma: float) -> tuple[Array, Array]:
    """Return the Gaussian along one axis, and the box that holds it."""
    reach = round(REACH * sigma / step)
    gaussian = _gaussian(step * torch.arange(-reach, reach + 1, dtype=torch.float64), sigma).numpy()
    return gaussian, np.ones_like(gaussian)


def _correlated(values: Array, kernels: Sequence[Array]) -> Array:
    """Return the correlation with the product of one kernel per axis; outside there is nothing."""
    for axis, kernel in enumerate(kernels):
        values = correlate1d(values, kernel, axis, mode="constant")
    return values


def _offsets(score: Array, voxels: NDArray[np.int64]) -> Array:
    """Return how far from its voxel (N, 3) the minimum of each peak lies, in voxels, (N, 3); 0 at the grid's faces."""
    offsets = np.zeros(voxels.shape)
    for axis in range(3):
        inner = (voxels[:, axis] > 0) & (voxels[:, axis] < score.shape[axis] - 1)
        step = np.eye(3, dtype=np.int64)[axis]
        before, here, after = (score[tuple((voxels[inner] + k * step).T)] for k in (-1, 0, 1))
        curvature = before - 2 * here + after
        offsets[inner, axis] = np.where(curvature > 0, (before - after) / np.maximum(2 * curvature, 1e-12), 0)
    return np.clip(offsets, -0.5, 0.5)
