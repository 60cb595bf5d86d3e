"""A scan on another grid: what a linear field is stays it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from numpy.testing import assert_allclose

from afmid.data.resample import on_grid
from afmid.errors import DataError
from afmid.scan import Scan


def scan_of(function, x, y, z) -> Scan:
    grid = np.meshgrid(x, y, z, indexing="ij")
    return Scan(function(*grid), np.asarray(x, float), np.asarray(y, float), np.asarray(z, float))


X, Y, Z = np.linspace(-5, 5, 41), np.linspace(-4, 6, 51), np.linspace(4.0, 3.1, 10)


def tilted(x, y, z):
    return 2 * x - 3 * y + 5 * z + 1


@given(pixels=integers(2, 60), heights=integers(1, 10), size=floats(1, 7))
def test_a_linear_field_is_kept_at_any_pixel_size_and_step(pixels: int, heights: int, size: float) -> None:
    new = on_grid(scan_of(tilted, X, Y, Z), size, pixels, heights, 0.07, (0.5, 1.0))
    assert new.df.shape == (pixels, pixels, heights)
    assert_allclose(np.diff(new.x), size / pixels)
    assert_allclose([new.x.mean(), new.y.mean()], [0.5, 1.0], atol=1e-12)
    inside = slice(2, -2) if pixels > 4 else slice(None)
    expected = scan_of(tilted, new.x, new.y, new.z).df
    assert_allclose(new.df[inside, inside], expected[inside, inside], atol=0.3 if size / pixels > 0.2 else 2e-3)


def test_the_same_grid_changes_nothing() -> None:
    scan = scan_of(lambda x, y, z: np.sin(9 * x) * np.cos(7 * y) + z, np.arange(16) / 4 - 1.875, np.arange(16) / 4, Z)
    same = on_grid(scan, 4.0, 16, 10, 0.1, (0.0, 1.875))
    assert_allclose(same.df, scan.df, atol=1e-5)
    assert_allclose(same.z, scan.z)


def test_coarser_pixels_are_averages() -> None:
    rng = np.random.default_rng(0)
    noise = Scan(rng.normal(size=(128, 128, 1)), np.arange(128) / 8, np.arange(128) / 8, np.zeros(1))
    coarse = on_grid(noise, 16, 16, 1, 0.1, (8, 8))
    assert coarse.df.std() < 0.2  # single pixels would keep 1


def test_beyond_the_scan_its_edge_goes_on_and_its_farthest_image() -> None:
    new = on_grid(scan_of(tilted, X, Y, Z), 40.0, 40, 14, 0.1)
    assert_allclose(new.df[0, 20], new.df[5, 20])
    assert_allclose(new.df[..., 0], new.df[..., 4], atol=1e-4)
    assert (np.abs(new.df[..., 4] - new.df[..., 5]) > 0.4).all()
    assert_allclose(np.diff(new.z), -0.1)


def test_a_single_image_is_repeated() -> None:
    new = on_grid(scan_of(tilted, X, Y, Z[-1:]), 4.0, 8, 3, 0.1)
    assert_allclose(new.df[..., 0], new.df[..., 2], rtol=1e-6)  # single precision


def test_across_a_gap_that_is_wider_than_a_pixel_the_scan_is_interpolated() -> None:
    x = np.concatenate([np.arange(0, 4, 0.1), np.arange(8, 12, 0.1)])
    new = on_grid(scan_of(tilted, x, x, Z[-1:]), 10.0, 20, 1, 0.1, (6.0, 6.0))
    assert_allclose(new.df, scan_of(tilted, new.x, new.y, new.z).df, atol=2)


def test_a_window_beside_the_scan_is_refused() -> None:
    with pytest.raises(DataError, match="lies outside of it"):
        on_grid(scan_of(tilted, X, Y, Z), 4.0, 8, 3, 0.1, (50.0, 0.0))
