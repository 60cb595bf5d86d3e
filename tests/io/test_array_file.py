import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from afmid.errors import DataError
from afmid.io.array_file import from_array

STACK = np.arange(24.0).reshape(4, 3, 2)


def test_pixel_and_step_lay_the_axes():
    scan = from_array(STACK, "", 0.125, 0.1, None, "stack.npy")
    assert_allclose(scan.x, [0, 0.125, 0.25, 0.375])
    assert_allclose(scan.y, [0, 0.125, 0.25])
    assert_allclose(scan.z, [0.1, 0])
    assert_array_equal(scan.df, STACK)
    assert scan.z_reference == "last image"


def test_near_to_far_is_turned():
    scan = from_array(STACK, "", 0.125, 0.1, "near-to-far", "")
    assert_array_equal(scan.df, STACK[:, :, ::-1])
    assert_allclose(scan.z, [0.1, 0])


@pytest.mark.parametrize(
    ("array", "pixel", "step", "order", "says"),
    [
        (STACK, None, 0.1, None, r"bare array \(4, 3, 2\).*--pixel and --step"),
        (STACK, 0.1, None, None, "--pixel and --step"),
        (STACK, 0.0, 0.1, None, "pixel is 0.0"),
        (STACK, 0.1, float("nan"), None, "step is nan"),
        (STACK, 0.1, 0.1, "random", "order is 'random'"),
        (STACK[0], 0.1, 0.1, None, "single image"),
        (STACK[0], None, None, None, "single image"),
        (STACK[0, 0], None, None, None, "three axes"),
        (np.full((2, 2, 2), np.nan), 0.1, 0.1, None, "not finite"),
    ],
)
def test_what_is_missing_or_wrong_is_said(array, pixel, step, order, says):
    with pytest.raises(DataError, match=says):
        from_array(array, "", pixel, step, order, "")
