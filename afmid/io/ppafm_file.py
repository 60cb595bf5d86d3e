"""data.npz of ppafm and ED-AFM: `data` (X, Y, Z) in Hz, far to near, with `lengthX` and `lengthY`, the window in Å."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.io.array_file import stack_on_grid
from afmid.io.scan_file import real
from afmid.scan import Scan

NAMES = ("data", "lengthX", "lengthY")
STEP = 0.1  # Å between images, where nothing else is said; ppafm's files do not tell


def is_ppafm(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Return whether the arrays of a npz file are those of ppafm."""
    return set(NAMES) <= set(arrays)


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], pixel: float | None, step: float | None, order: str | None, source: str
) -> Scan:
    """Return the scan that the arrays of a ppafm file hold; `pixel`, `step` (Å) and `order` overrule the file.

    The file names no tip: it is taken as CO.

    Raises:
        DataError: a length that is no positive number, or data that are no stack.
    """
    pixels = []
    for name, n in zip(NAMES[1:], arrays["data"].shape, strict=False):
        length = real(arrays[name], name)
        if length.size != 1 or not (np.isfinite(length).all() and length.item() > 0):
            raise DataError(f"{name} must be one positive length in Å, is {np.array2string(length, threshold=4)}")
        pixels.append(pixel if pixel is not None else float(length.item()) / max(n, 1))
    return stack_on_grid(arrays["data"], "data", pixels, STEP if step is None else step, order, source)
