from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from afmid import DataError, Scan
from afmid.networks.stack import fill_heights, prepare, resample

laws = settings(max_examples=20, deadline=None)


def scan(shape=(16, 24, 10), pixel=0.125, step=0.1, **fields):
    """Return a scan of noise."""
    df = np.random.default_rng(0).normal(size=shape)
    x, y, z = (np.arange(n) * size for n, size in zip(shape, (pixel, pixel, step), strict=True))
    return Scan(**{"df": df, "x": x + 3, "y": y - 7, "z": z[::-1], **fields})


def test_a_scan_as_the_networks_were_trained_is_taken_as_it_is():
    original = scan()
    stack = prepare(original)
    assert stack.notes == ()
    assert stack.second is None
    assert torch.equal(stack.df, torch.from_numpy(original.df)[None])
    np.testing.assert_allclose(stack.x, original.x)
    np.testing.assert_allclose(stack.y, original.y)


@laws
@given(st.integers(2, 40), st.floats(0.03, 0.5), st.floats(0.02, 0.6))
def test_every_scan_becomes_ten_images_of_about_the_networks_pixels_in_the_same_unit(heights, pixel, step):
    assume((heights - 1) * step >= 0.1)
    original = scan((20, 15, heights), pixel, step)
    stack = prepare(original)
    assert stack.df.shape == (1, len(stack.x), len(stack.y), 10)
    assert stack.df.dtype == torch.float32
    assert np.diff(stack.x) == pytest.approx(0.125, rel=0.25)
    assert stack.df.min() >= original.df.min() - 1e-5
    assert stack.df.max() <= original.df.max() + 1e-5


@laws
@given(st.floats(0.02, 0.5), st.integers(10, 60))
def test_resampling_keeps_the_area(pixel, count):
    original = scan((count, 16, 10), pixel)
    stack = prepare(original)
    assert (stack.x[0] + stack.x[-1]) / 2 == pytest.approx((original.x[0] + original.x[-1]) / 2)
    assert len(stack.x) * (stack.x[1] - stack.x[0]) == pytest.approx(count * pixel)


def test_the_nearest_ten_of_more_images_are_used():
    original = scan((16, 16, 15))
    assert torch.equal(prepare(original).df, torch.from_numpy(original.df[..., 5:])[None])


def test_of_fewer_images_the_farthest_is_repeated_in_front():
    stack = prepare(scan((16, 16, 4)))
    assert all(torch.equal(stack.df[..., i], stack.df[..., 6]) for i in range(6))
    assert not torch.equal(stack.df[..., 6], stack.df[..., 7])
    assert "4 images 0.1 Å apart; the farthest was repeated to make 10" in stack.notes


def test_heights_are_interpolated_linearly_from_the_nearest_image_on():
    z = np.array([0.9, 0.4, 0.0])
    values = np.array([9.0, 4.0, 0.0])  # equal to z in tenths, so that linear interpolation is exact
    pattern = np.random.default_rng(1).normal(size=(16, 16, 1))
    stack = prepare(scan((16, 16, 3), z=z, df=pattern * (1 + values)))
    exact = torch.from_numpy(pattern * (1 + np.arange(9, -1, -1))).float()
    torch.testing.assert_close(stack.df[0], exact, atol=1e-5, rtol=0)
    assert stack.notes == ("images 0.4–0.5 Å apart were interpolated to 0.1 Å",)


@laws
@given(st.integers(1, 30))
def test_ten_images_come_from_any_number(count):
    df = torch.randn(2, 3, 4, count, generator=torch.Generator().manual_seed(count))
    filled = fill_heights(df)
    assert filled.shape == (2, 3, 4, 10)
    assert torch.equal(filled[..., -min(count, 10) :], df[..., -10:])


def linear(x, y, slopes=(0.3, -0.7)):
    """Return ten images (X, Y, 10) that are linear in x and y, each with its own slope."""
    plane = slopes[0] * x[:, None] + slopes[1] * y
    return plane[..., None] * np.linspace(1, 2, 10) + np.arange(10)


@laws
@given(st.floats(0.05, 0.4), st.floats(0, 1), st.floats(0, 1))
def test_a_second_scan_is_put_on_the_pixels_of_the_first(pixel, dx, dy):
    first = scan((16, 24, 10))
    x, y = (np.arange(axis[0] - pixel - d, axis[-1] + 2 * pixel, pixel)
            for axis, d in ((first.x, dx), (first.y, dy)))  # fmt: skip
    second = Scan(df=linear(x, y), x=x, y=y, z=first.z, tip="Xe")
    stack = prepare(first, second)
    torch.testing.assert_close(stack.second[0], torch.from_numpy(linear(first.x, first.y)).float(), atol=1e-4, rtol=0)
    assert torch.equal(stack.df, prepare(first).df)
    assert stack.notes == ()


def test_a_second_scan_goes_along_where_the_first_is_resampled():
    first, second = scan((30, 30, 10), 0.2), scan((30, 30, 10), 0.2, tip="Xe")
    stack = prepare(first, replace(second, df=linear(second.x, second.y)))
    assert stack.second.shape == stack.df.shape == (1, 48, 48, 10)
    inner = slice(1, -1)  # beyond the centre of its last pixel it is continued
    exact = torch.from_numpy(linear(stack.x, stack.y)).float()
    torch.testing.assert_close(stack.second[0, inner, inner], exact[inner, inner], atol=1e-4, rtol=0)


def test_beyond_its_edge_a_second_scan_is_continued_by_its_last_pixels():
    first = scan((16, 24, 10))
    second = scan((8, 24, 10), x=first.x[4:12], tip="Xe")
    df = prepare(first, second).second[0]
    torch.testing.assert_close(df[4:12], torch.from_numpy(second.df))
    torch.testing.assert_close(df[:4], df[4:5].expand(4, -1, -1))
    torch.testing.assert_close(df[12:], df[11:12].expand(4, -1, -1))


def test_a_second_scan_has_heights_of_its_own_and_the_notes_say_so():
    stack = prepare(scan(), scan((16, 24, 4), tip="Xe"))
    assert stack.notes == ("Xe: 4 images 0.1 Å apart; the farthest was repeated to make 10",)
    assert all(torch.equal(stack.second[..., i], stack.second[..., 6]) for i in range(6))
    with pytest.raises(DataError, match=r"xe\.npz: a single image; the network needs two at least"):
        prepare(scan(), scan((16, 24, 1), tip="Xe", source="xe.npz"))


def test_resampling_there_and_back_keeps_a_smooth_image():
    x = torch.linspace(0, 3, 64)
    image = (x[:, None].sin() * x[None].cos())[None]
    back = resample(resample(image, (100, 90)), (64, 64))
    torch.testing.assert_close(back, image, atol=0.01, rtol=0)


def test_an_empty_image_that_is_not_the_nearest_is_seen_and_of_a_second_scan_the_nearest_counts_too():
    first, second = scan(), scan(tip="Xe", source="xe.npz")
    far, near = (np.where(np.arange(10) == k, 1.5, first.df) for k in (0, 9))
    assert (prepare(replace(first, df=far)).df[..., 0] == 1.5).all()
    with pytest.raises(DataError, match=r"xe\.npz: the nearest image holds a single value"):
        prepare(first, replace(second, df=near))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": (16, 16, 1)}, "m.npz: a single image; the network needs two at least"),
        ({"shape": (16, 16, 2), "step": 0.01}, "m.npz: the images lie within 0.01 Å; .* needs 0.1 Å at least"),
        ({"shape": (1, 16, 10)}, "a single pixel along x"),
        ({"df": np.full((16, 24, 10), 2.0)}, "m.npz: the nearest image holds a single value; leave it out"),
        ({"channel": "phase"}, "holds 'phase'; the network was trained on df"),
        ({"pixel": 20.0}, "320 Å wide along x; the network takes up to 128 Å: crop it to the molecule"),
        ({"x": np.arange(16.0) ** 2}, "pixels along x are 1–29 Å apart; resample the scan to even pixels first"),
    ],
)
def test_a_scan_that_the_network_cannot_see_is_refused_in_words(fields, message):
    with pytest.raises(DataError, match=message):
        prepare(scan(source="m.npz", **fields))
