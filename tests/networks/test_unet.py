import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from afmid.networks.unet import HEIGHTS, WINDOW, UNet, normalise

laws = settings(max_examples=8, deadline=None)


def stacks(*shape, seed=0):
    """Return smooth stacks (B, X, Y, 10), Hz, whose contrast grows towards the molecule."""
    coarse = torch.randn(shape[0], HEIGHTS, 12, 12, generator=torch.Generator().manual_seed(seed))
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic").permute(0, 2, 3, 1)
    return 5 * images * torch.linspace(0.1, 1, HEIGHTS) - torch.linspace(1, 7, HEIGHTS)


def test_features_come_on_each_scale_from_the_finest_to_the_deepest():
    network = UNet(stem=6, widths=(4, 8, 12), blocks=1)
    with torch.no_grad():
        features = network.features(stacks(2, 32, 48))
    assert [tuple(h.shape) for h in features] == [(2, 4, 16, 24), (2, 8, 8, 12), (2, 12, 4, 6)]
    assert network.stride == 8


def test_each_image_is_normalised_by_its_own_mean_and_spread_and_by_the_nearests_spread():
    df = stacks(2, 48, 32)
    own, nearest = normalise(df).unflatten(1, (2, HEIGHTS)).unbind(1)
    images = df.permute(0, 3, 1, 2)
    spread = images.std((2, 3), correction=0, keepdim=True)
    centred = images - images.mean((2, 3), keepdim=True)
    torch.testing.assert_close(own, centred / spread, atol=1e-4, rtol=0)
    torch.testing.assert_close(nearest, centred / spread[:, -1:], atol=1e-4, rtol=0)


@laws
@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8), st.floats(-1, 1))
def test_empty_surroundings_do_not_change_how_a_stack_is_normalised(left, right, below, level):
    """They are seen as well, but mean and spread are those of the square that holds the most contrast."""
    df = stacks(1, WINDOW, WINDOW)
    df = df - df.mean((1, 2), keepdim=True)
    left, right, below = 8 * left, 8 * right, 8 * below  # whole steps of the square
    wide = pad(df.permute(0, 3, 1, 2), (below, 0, left, right), value=0.1 * level).permute(0, 2, 3, 1)
    inside = normalise(wide)[:, :, left : left + WINDOW, below:]
    torch.testing.assert_close(inside, normalise(df), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, -3.7, 1e8])
def test_a_flat_stack_is_normalised_to_zero(value):
    assert normalise(torch.full((1, 32, 16, HEIGHTS), value)).abs().max() < 1e-6


def test_a_flat_far_image_does_not_blow_up_its_noise():
    df = stacks(1, 32, 32)
    df[..., 0] = 1e-7 * torch.randn(32, 32, generator=torch.Generator().manual_seed(2))
    assert normalise(df).abs().max() < 100
    assert normalise(df)[:, 0].abs().max() < 0.01
