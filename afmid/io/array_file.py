"""A bare 3D array in a npy or npz file: pixel size and z step come from outside."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.io.scan_file import stack_of
from afmid.scan import Scan

log = logging.getLogger(__name__)

FAR_TO_NEAR = "far-to-near"
NEAR_TO_FAR = "near-to-far"
NEARER = 1.5  # times the contrast: what makes the first image look nearer than the last


def from_array(
    array: NDArray[Any], name: str, pixel: float | None, step: float | None, order: str | None, source: str
) -> Scan:
    """Return the scan of a bare stack (X, Y, Z) in Hz with square pixels of `pixel` Å and images `step` Å apart.

    Raises:
        DataError: pixel or step is not given, or the array is no stack.
    """
    stack_of(array, name)
    if pixel is None or step is None:
        raise DataError(
            f"holds a bare array {array.shape}; give the pixel size and the distance between images in Å: "
            "--pixel and --step (and --order near-to-far if the closest image comes first)"
        )
    return stack_on_grid(array, name, (pixel, pixel), step, order, source)


def stack_on_grid(
    array: NDArray[Any], name: str, pixel: Sequence[float], step: float, order: str | None, source: str
) -> Scan:
    """Return a stack (X, Y, Z) as a scan on a regular grid that starts at the origin; z counts from the last image.

    Raises:
        DataError: a pixel or step that is not positive, an order that does not exist, or an array that is no stack.
    """
    stack = stack_of(array, name)
    for what, length in (("pixel", pixel[0]), ("pixel", pixel[1]), ("step", step)):
        if not (np.isfinite(length) and length > 0):
            raise DataError(f"{what} is {length}; it must be a positive length in Å")
    if order not in (None, FAR_TO_NEAR, NEAR_TO_FAR):
        raise DataError(f"order is {order!r}; it must be {FAR_TO_NEAR!r} or {NEAR_TO_FAR!r}")
    if order == NEAR_TO_FAR:
        stack = stack[:, :, ::-1].copy()
    first, last = stack[..., 0].std(), stack[..., -1].std()
    if first > NEARER * last:
        log.warning("%s: the first image has more contrast than the last; if it is the nearest: --order %s", source,
                    NEAR_TO_FAR if order != NEAR_TO_FAR else FAR_TO_NEAR)  # fmt: skip
    nx, ny, nz = stack.shape
    return Scan(
        stack,
        x=np.arange(nx, dtype=np.float64) * pixel[0],
        y=np.arange(ny, dtype=np.float64) * pixel[1],
        z=np.arange(nz, dtype=np.float64)[::-1] * step,
        source=source,
    )
