import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from afmid.report.raster import Scale, Window, bounded, grey_png, map_png


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@given(x=st.integers(0, 19), y=st.integers(0, 11))
def test_a_bright_pixel_is_drawn_where_it_is_x_to_the_right_and_y_up(x, y):
    values = np.zeros((20, 12))
    values[x, y] = 1
    for png in (grey_png(values, 100), map_png(values, 100)):
        brightness = pixels(png).sum(-1)
        assert brightness.shape == (12, 20)
        assert np.unravel_index(brightness.argmax(), brightness.shape) == (11 - y, x)


@given(x=st.floats(-2, 8), y=st.floats(-1, 5))
def test_a_point_is_placed_from_the_upper_left_corner(x, y):
    window = Window.of(np.linspace(-2, 8, 11), np.linspace(-1, 5, 7))
    assert (window.width, window.height) == (11, 7)
    assert window.place(x, y) == (pytest.approx(x + 2.5, abs=1e-3), pytest.approx(5.5 - y, abs=1e-3))


@given(shape=st.tuples(st.integers(1, 70), st.integers(1, 70)), most=st.integers(1, 80))
def test_large_images_become_means_of_blocks(shape, most):
    values = np.random.default_rng(0).normal(size=shape)
    small = bounded(values, most)
    assert max(small.shape) <= most
    if max(shape) <= most:
        assert (small == values).all()
    assert values.min() - 1e-9 <= small.min() <= small.max() <= values.max() + 1e-9


def test_a_map_of_both_signs_is_white_at_zero_and_one_of_one_sign_is_black_at_its_least():
    signed, single = np.array([[-1.0, 0.0, 0.8]]), np.array([[0.0, 0.5, 2.0]])
    assert Scale.of(signed) == (-1, 1, True)
    assert Scale.of(-single) == (-2, 2, True)
    assert Scale.of(single) == (0, 2, False)
    assert Scale.of(single - 0.05) == (-0.05, 1.95, False)
    assert pixels(map_png(signed, 10))[1, 0].min() > 240
    assert pixels(map_png(single, 10))[2, 0].max() < 10
