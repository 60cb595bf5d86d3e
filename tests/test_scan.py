import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmid import DataError, Scan

GOOD = {
    "df": np.zeros((4, 3, 2)),
    "x": np.arange(4.0),
    "y": np.arange(3.0),
    "z": np.array([0.1, 0.0]),
}


@given(
    nx=st.integers(2, 5),
    pixel=st.floats(1e-3, 10),
    dtype=st.sampled_from([np.float64, np.float32, np.int16]),
)
def test_arrays_become_single_precision_images_on_double_precision_axes(nx, pixel, dtype):
    scan = Scan(np.ones((nx, 1, 1), dtype), np.arange(nx) * pixel, [0], [0])
    assert scan.df.dtype == np.float32
    assert scan.x.dtype == scan.y.dtype == scan.z.dtype == np.float64
    assert scan.pixel == pytest.approx((pixel, 0.0))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"df": np.zeros((4, 3))}, r"for one image use df\[:, :, None\]"),
        ({"df": np.zeros((4, 3, 0)), "z": np.zeros(0)}, "df is empty"),
        ({"df": np.full((4, 3, 2), np.inf)}, "df holds 24 values that are not finite"),
        ({"df": np.zeros((4, 3, 2), complex)}, "df must be real numbers, not complex128"),
        ({"df": np.full((4, 3, 2), "a")}, "df must be real numbers"),
        ({"x": ["a", "b", "c", "d"]}, "x must be real numbers"),
        ({"x": [[0], [1, 2]]}, "x must have rows of one length"),
        ({"x": np.arange(3.0)}, "x, y, z have shapes"),
        ({"x": np.array([0, 1, np.nan, 3])}, "x holds 1 values"),
        ({"x": np.zeros(4)}, "x must ascend"),
        ({"y": np.arange(3.0)[::-1]}, "y must ascend"),
        ({"z": np.array([0.0, 0.1])}, "z must descend"),
        ({"z_reference": "floor"}, "z_reference is 'floor'"),
        ({"channel": "current"}, "channel is 'current'; it must be one of: df, amplitude, phase"),
        ({"amplitude": -1.0}, "amplitude is -1.0"),
        ({"f0": np.nan}, "f0 is nan"),
    ],
)
def test_what_is_no_scan_is_refused_in_words(changes, says):
    with pytest.raises(DataError, match=says):
        Scan(**{**GOOD, **changes})
