import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from afmid.networks.unet import HEIGHTS, WINDOW
from afmid_descriptor.maps import MAPS
from afmid_descriptor.model import LEAST, SCALES, Config, DescriptorNet, Prediction

laws = settings(max_examples=8, deadline=None)
SMALL = Config(stem=8, widths=(8, 16), names=("disks", "height"))


def stacks(*shape, seed=0):
    """Return smooth stacks (B, X, Y, 10), Hz, whose contrast grows towards the molecule."""
    coarse = torch.randn(shape[0], HEIGHTS, 12, 12, generator=torch.Generator().manual_seed(seed))
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic").permute(0, 2, 3, 1)
    return 5 * images * torch.linspace(0.1, 1, HEIGHTS) - torch.linspace(1, 7, HEIGHTS)


@pytest.fixture(scope="module")
def model(awake):
    return awake(DescriptorNet())


@pytest.fixture(scope="module")
def small(awake):
    return awake(DescriptorNet(SMALL))


def close(one, other, share=1e-4):
    """Assert that two predictions are the same to a share of the sizes of their maps."""
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=share)


def test_the_default_network_gives_every_map_that_afmid_knows(model):
    assert model.names == tuple(MAPS)
    assert set(SCALES) == set(MAPS)
    assert model.stride == 16
    assert 1e6 < sum(weight.numel() for weight in model.parameters()) < 1e7


@laws
@given(x=st.integers(1, 5), y=st.integers(1, 5), two=st.booleans())
def test_any_multiple_of_sixteen_pixels_works_with_one_stack_or_two(model, x, y, two):
    df = stacks(2, 16 * x, 16 * y)
    with torch.no_grad():
        told = model.predict(df, df if two else None)
    assert told.maps.shape == told.log_variance.shape == (2, len(MAPS), 16 * x, 16 * y)
    assert told.tilt.shape == (2, 2)
    assert all(part.isfinite().all() for part in told)


def test_the_maps_alone_are_those_of_the_prediction(small):
    df = stacks(1, 32, 32)
    with torch.no_grad():
        assert torch.equal(small(df, -df), small.predict(df, -df).maps)


@laws
@given(st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_neither_the_unit_of_the_frequency_shift_nor_an_offset_makes_a_difference(small, unit, offset):
    df = stacks(2, 32, 48)
    with torch.no_grad():
        first = small.predict(df, df.flip(1))
        close(small.predict(unit * (df + offset), unit * (df.flip(1) - offset)), first, 5e-3)
        close(small.predict(unit * df, df.flip(1)), first)


def test_how_contrast_grows_towards_the_molecule_makes_a_difference(small):
    df = stacks(1, 32, 32)
    steeper = (df - df.mean((1, 2), keepdim=True)) * torch.linspace(0.2, 1, HEIGHTS)
    with torch.no_grad():
        assert (small(steeper) - small(df)).abs().max() > 0.01


def test_every_parameter_learns_the_second_stem_from_second_stacks(model):
    model.zero_grad()
    sum(part.square().sum() for part in model.predict(stacks(2, 32, 32))).backward()
    assert {name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is None} == {"second"}
    model.zero_grad()
    sum(part.square().sum() for part in model.predict(stacks(2, 32, 32), stacks(2, 32, 32, seed=1))).backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.parameters())
    model.zero_grad(set_to_none=True)


def test_before_training_every_layer_that_starts_from_zero_can_leave_it():
    network = DescriptorNet(SMALL)
    df, second = stacks(2, 16, 16), stacks(2, 16, 16, seed=1)
    assert not network(df).any()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for _ in range(4):
        optimizer.zero_grad()
        sum((part - 1).square().sum() for part in network.predict(df, second)).backward()
        optimizer.step()
    assert all((weight != before[name]).any() for name, weight in network.named_parameters())


def test_a_second_stack_of_zeros_is_none_and_any_other_is_looked_at(small):
    df, second = stacks(2, 32, 32), stacks(2, 32, 32, seed=1)
    with torch.no_grad():
        alone, both = small.predict(df), small.predict(df, second)
        assert all(map(torch.equal, small.predict(df, torch.zeros_like(df)), alone))
        half = small.predict(df, second * torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    assert (both.maps - alone.maps).abs().amax((1, 2, 3)).min() > 0.01
    for k, other in enumerate((alone, both)):
        close(Prediction(*(part[k] for part in half)), Prediction(*(part[k] for part in other)), 1e-5)


def test_a_batch_equals_its_members(small):
    df, second = stacks(3, 16, 32), stacks(3, 16, 32, seed=1)
    with torch.no_grad():
        together = small.predict(df, second)
        alone = [small.predict(df[i : i + 1], second[i : i + 1]) for i in range(3)]
    close(together, Prediction(*(torch.cat(parts) for parts in zip(*alone, strict=True))), 1e-5)


def test_moving_the_image_by_sixteen_pixels_moves_the_maps_and_no_more(awake):
    network = awake(DescriptorNet())
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.padding_mode = "circular"  # no edges, so that the statistics of the images stay the same
    df, second = stacks(1, 64, 48), stacks(1, 64, 48, seed=1)
    moved = [torch.roll(stack, (16, -32), (1, 2)) for stack in (df, second)]
    with torch.no_grad():
        here, there = network.predict(df, second), network.predict(*moved)
    close(there, Prediction(*(torch.roll(p, (16, -32), (2, 3)) for p in here[:2]), here.tilt), 1e-5)


def test_variances_are_positive_whatever_the_weights_say(awake):
    network = awake(DescriptorNet(SMALL))
    torch.nn.init.constant_(network.last.bias, -1e4)
    with torch.no_grad():
        variance = network.predict(stacks(1, 32, 32)).log_variance.exp()
    sizes = torch.tensor([SCALES[name] for name in SMALL.names]).view(1, -1, 1, 1)
    torch.testing.assert_close(variance, (LEAST * sizes.square()).expand_as(variance))


def test_a_molecule_in_a_wide_empty_scan_gives_nearly_the_same_maps(awake):
    network = awake(DescriptorNet(SMALL))
    fade = torch.hann_window(WINDOW).view(1, -1, 1, 1) * torch.hann_window(WINDOW).view(1, 1, -1, 1)
    df = (stacks(1, WINDOW, WINDOW) + torch.linspace(1, 7, HEIGHTS)) * fade.sqrt()
    wide = pad(df.permute(0, 3, 1, 2), (32, 32, 64, 0)).permute(0, 2, 3, 1)
    middle = slice(32, -32)
    with torch.no_grad():
        alone, there = network(df), network(wide)[:, :, 64:, 32:-32]
    sizes = network.scales * alone.std()
    assert ((there - alone)[:, :, middle, middle] / sizes).abs().max() < 0.2
    assert ((there - alone)[:, :, middle, middle] / sizes).abs().mean() < 0.02


@pytest.mark.parametrize("config", [Config(), SMALL, Config(names=("field",), blocks=2)])
def test_a_configuration_survives_json(config):
    assert Config.from_json(json.dumps(asdict(config))) == config


@pytest.mark.parametrize("text", ['{"depth": 3}', "nonsense"])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises((TypeError, ValueError)):
        Config.from_json(text)
