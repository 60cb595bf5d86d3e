import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from afmid import DataError, Scan
from afmid_descriptor.stack import fill_heights, normalise, prepare, resample

laws = settings(max_examples=20, deadline=None)


def scan(shape=(16, 24, 10), pixel=0.125, step=0.1, **fields):
    """Return a scan of noise."""
    df = np.random.default_rng(0).normal(size=shape)
    x, y, z = (np.arange(n) * size for n, size in zip(shape, (pixel, pixel, step), strict=True))
    return Scan(**{"df": df, "x": x + 3, "y": y - 7, "z": z[::-1], **fields})


def test_a_scan_as_the_network_was_trained_is_only_normalised():
    original = scan()
    stack = prepare(original)
    assert stack.notes == ()
    assert torch.equal(stack.df, normalise(torch.from_numpy(original.df)[None]))
    np.testing.assert_allclose(stack.x, original.x)
    np.testing.assert_allclose(stack.y, original.y)


@laws
@given(st.integers(2, 40), st.floats(0.03, 0.5), st.floats(0.02, 0.6))
def test_every_scan_becomes_ten_images_of_zero_mean_and_unit_variance(heights, pixel, step):
    assume((heights - 1) * step >= 0.1)
    stack = prepare(scan((20, 15, heights), pixel, step))
    assert stack.df.shape == (1, len(stack.x), len(stack.y), 10)
    assert np.diff(stack.x) == pytest.approx(0.125, rel=0.25)
    torch.testing.assert_close(stack.df.mean((1, 2)), torch.zeros(1, 10), atol=1e-5, rtol=0)
    torch.testing.assert_close(stack.df.square().mean((1, 2)), torch.ones(1, 10), atol=1e-4, rtol=0)


@laws
@given(st.floats(0.02, 0.5), st.integers(10, 60))
def test_resampling_keeps_the_area(pixel, count):
    original = scan((count, 16, 10), pixel)
    stack = prepare(original)
    assert (stack.x[0] + stack.x[-1]) / 2 == pytest.approx((original.x[0] + original.x[-1]) / 2)
    assert len(stack.x) * (stack.x[1] - stack.x[0]) == pytest.approx(count * pixel)


def test_the_nearest_ten_of_more_images_are_used():
    original = scan((16, 16, 15))
    assert torch.equal(prepare(original).df, normalise(torch.from_numpy(original.df[..., 5:])[None]))


def test_of_fewer_images_the_farthest_is_repeated_in_front():
    stack = prepare(scan((16, 16, 4)))
    assert all(torch.equal(stack.df[..., i], stack.df[..., 6]) for i in range(6))
    assert not torch.equal(stack.df[..., 6], stack.df[..., 7])
    assert "4 images 0.1 Å apart; the farthest was repeated to make 10" in stack.notes


def test_heights_are_interpolated_linearly_from_the_nearest_image_on():
    z = np.array([0.9, 0.4, 0.0])
    values = np.array([9.0, 4.0, 0.0])  # equal to z in tenths, so that linear interpolation is exact
    pattern = np.random.default_rng(1).normal(size=(16, 16, 1)).astype(np.float32)
    original = scan((16, 16, 3), z=z, df=pattern * (1 + values))
    images = prepare(original).df
    exact = normalise(torch.from_numpy(pattern * (1 + np.arange(9, -1, -1, dtype=np.float32)))[None])
    torch.testing.assert_close(images, exact, atol=1e-5, rtol=0)
    flat = scan((16, 16, 3), z=z, df=np.broadcast_to(values, (16, 16, 3)) + pattern * (1, 0, 0))
    torch.testing.assert_close(prepare(flat).df[..., 5:], torch.zeros(1, 16, 16, 5), atol=1e-5, rtol=0)


@laws
@given(st.integers(1, 30))
def test_ten_images_come_from_any_number(count):
    df = torch.randn(2, 3, 4, count, generator=torch.Generator().manual_seed(count))
    filled = fill_heights(df)
    assert filled.shape == (2, 3, 4, 10)
    assert torch.equal(filled[..., -min(count, 10) :], df[..., -10:])


def test_an_image_of_one_value_becomes_zero():
    assert prepare(scan(df=np.full((16, 24, 10), -3.7))).df.abs().max() == 0


def test_resampling_there_and_back_keeps_a_smooth_image():
    x = torch.linspace(0, 3, 64)
    image = (x[:, None].sin() * x[None].cos())[None]
    back = resample(resample(image, (100, 90)), (64, 64))
    torch.testing.assert_close(back, image, atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": (16, 16, 1)}, "m.npz: a single image; the descriptor network needs two at least"),
        ({"shape": (16, 16, 2), "step": 0.01}, "m.npz: the images lie within 0.01 Å; .* needs 0.1 Å at least"),
        ({"shape": (1, 16, 10)}, "a single pixel along x"),
        ({"channel": "phase"}, "holds 'phase'; the descriptor network was trained on df"),
        ({"pixel": 20.0}, "320 Å wide along x; the descriptor network takes up to 128 Å: crop it to the molecule"),
        ({"x": np.arange(16.0) ** 2}, "pixels along x are 1–29 Å apart; resample the scan to even pixels first"),
    ],
)
def test_a_scan_that_the_network_cannot_see_is_refused_in_words(fields, message):
    with pytest.raises(DataError, match=message):
        prepare(scan(source="m.npz", **fields))
