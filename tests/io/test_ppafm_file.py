import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from afmid.errors import DataError
from afmid.io import read_scan

STACK = np.arange(112 * 8 * 6, dtype=float).reshape(112, 8, 6)


@pytest.fixture
def write(tmp_path):
    def save(**changes):
        np.savez(tmp_path / "data.npz", **{"data": STACK, "lengthX": 14, "lengthY": 2.0, **changes})
        return tmp_path / "data.npz"

    return save


def test_the_window_is_the_pixels_width_times_their_number(write):
    scan = read_scan(write())
    assert_allclose(scan.x, np.arange(112) * 0.125)
    assert_allclose(scan.y, np.arange(8) * 0.25)
    assert_allclose(scan.z, [0.5, 0.4, 0.3, 0.2, 0.1, 0])
    assert_array_equal(scan.df, STACK)
    assert scan.source.endswith("data.npz")


def test_pixel_step_and_order_overrule_the_file(write):
    scan = read_scan(write(), pixel=0.1, step=0.2, order="near-to-far")
    assert scan.pixel == pytest.approx((0.1, 0.1))
    assert scan.z[0] == pytest.approx(1.0)
    assert_array_equal(scan.df, STACK[:, :, ::-1])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lengthX": -1}, "lengthX must be one positive length"),
        ({"lengthX": np.nan}, "lengthX"),
        ({"lengthY": np.ones(2)}, "lengthY must be one"),
        ({"lengthY": "wide"}, "not real numbers"),
        ({"data": STACK[:, :, 0]}, "'data' is a single image"),
        ({"data": np.zeros((0, 3, 3))}, "empty"),
        ({"data": np.zeros(())}, "three axes"),
    ],
)
def test_what_is_wrong_is_said_with_the_files_name(changes, says, write):
    with pytest.raises(DataError, match=rf"data\.npz: .*{says}"):
        read_scan(write(**changes))


def test_a_tip_that_the_file_does_not_tell_is_told(write):
    assert read_scan(write()).tip == "CO"
    assert read_scan(write(), tip="Xe").tip == "Xe"


def test_images_that_look_near_to_far_are_said(write, caplog):
    fading = np.random.default_rng(0).normal(size=(112, 8, 6)) * np.array([6.0, 5, 4, 3, 2, 1])
    read_scan(write(data=fading))
    assert "--order near-to-far" in caplog.text
    caplog.clear()
    read_scan(write(data=fading), order="near-to-far")
    assert not caplog.text
