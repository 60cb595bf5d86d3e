"""Checks of numbers that come from outside: an array of them, or an error in words."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from afmid.errors import DataError


def real(values: ArrayLike, name: str, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """Return `values` as an array of `dtype`; what that cannot hold becomes infinite.

    Raises:
        DataError: rows of different lengths, or anything but real numbers.
    """
    with np.errstate(over="ignore"):
        return _numbers(values, name, "fiu", "real").astype(dtype, copy=False)


def finite(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return `values` as a float64 array. Raises DataError as `real` does, and where a value is not finite."""
    array = real(values, name)
    if not np.isfinite(array).all():
        raise DataError(f"{name} hold values that are not finite")
    return array


def whole(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return `values` as an int64 array. Raises DataError as `real` does, and on floats, which are never rounded."""
    return _numbers(values, name, "iu", "whole").astype(np.int64, copy=False)


def _numbers(values: ArrayLike, name: str, kinds: str, wanted: str) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name} must have rows of one length") from error
    if array.size and array.dtype.kind not in kinds:
        raise DataError(f"{name} must be {wanted} numbers, not {array.dtype}")
    return array
