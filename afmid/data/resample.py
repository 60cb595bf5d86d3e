"""A scan on another grid, so that scans of any kind fit one batch."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.scan import Scan

Array = NDArray[np.float64]


def on_grid(
    scan: Scan, size: float, pixels: int, heights: int, step: float, centre: tuple[float, float] = (0.0, 0.0)
) -> Scan:
    """Return a scan on square pixels about `centre`, its images `step` apart.

    Pixels are interpolated linearly, and averaged where they become coarser; heights are interpolated linearly from the
    nearest image on. Beyond the scan its edge goes on, and its farthest image.

    Args:
        scan: with even pixels or not.
        size: width of the window, Å.
        pixels: along each side.
        heights: number of images.
        step: between them, Å.
        centre: of the window, in the scan's frame, Å.

    Raises:
        DataError: a window that does not touch the scan.
    """
    axes = [c + (np.arange(pixels) - (pixels - 1) / 2) * size / pixels for c in centre]
    for name, mine, new in (("x", scan.x, axes[0]), ("y", scan.y, axes[1])):
        if new[-1] < mine[0] or new[0] > mine[-1]:
            raise DataError(
                f"{scan.source or 'the scan'}: the window at {name} = {new[0]:.1f} to {new[-1]:.1f} Å lies outside of "
                f"it ({mine[0]:.1f} to {mine[-1]:.1f} Å)"
            )
    z = scan.z[-1] + step * np.arange(heights, dtype=np.float64)[::-1]
    along_x, along_y = _lateral(scan.x, axes[0]), _lateral(scan.y, axes[1])
    along_z = _linear(-scan.z, -z)
    nearest = scan.df @ along_z.T.astype(np.float32)  # (X, Y, Z')
    rows = np.tensordot(along_x.astype(np.float32), nearest, (1, 0))  # (X', Y, Z')
    df = np.tensordot(along_y.astype(np.float32), rows, (1, 1)).transpose(1, 0, 2)
    return replace(scan, df=np.ascontiguousarray(df), x=axes[0], y=axes[1], z=z)


def _lateral(old: Array, new: Array) -> Array:
    """Return the weights (N', N) of old pixels in new ones."""
    spacing, wide = _mean_spacing(old), _mean_spacing(new)
    if wide <= spacing * (1 + 1e-6):
        return _linear(old, new)
    distance = np.abs(np.clip(new, old[0], old[-1])[:, None] - old) / wide
    weights = np.maximum(1 - distance, 0)
    weights = np.where(weights.any(1, keepdims=True), weights, _linear(old, new))  # uneven pixels may leave a gap
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _linear(old: Array, new: Array) -> Array:
    """Return the weights (N', N) that interpolate between ascending points linearly, and repeat the ends."""
    place = np.interp(new, old, np.arange(len(old)))
    below = np.minimum(place.astype(int), max(len(old) - 2, 0))
    weights, rows = np.zeros((len(new), len(old))), np.arange(len(new))
    part = place - below
    weights[rows, below] = 1 - part
    weights[rows, np.minimum(below + 1, len(old) - 1)] += part
    return weights


def _mean_spacing(axis: Array) -> float:
    return float(axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else np.inf
