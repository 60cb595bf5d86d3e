import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid_descriptor.model import BRANCHES, SLOPE, Config, DescriptorCNN

ENCODER = [112, 872, 3472]
MIDDLE = [18496, 36928]
BRANCH = [9232, 2320, 2320, 2320, 2320, 2320, 145]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def model():
    """Return a network whose every weight matters: its last convolutions do not start from zero."""
    torch.manual_seed(0)
    network = DescriptorCNN()
    for branch in network.branches.values():
        torch.nn.init.normal_(branch.last.weight, std=0.1)
    return network.eval()


def test_each_layer_has_the_parameters_of_the_paper():
    model = DescriptorCNN()
    assert [count(conv) for conv in model.encoder] == ENCODER
    assert [count(conv) for conv in model.middle] == MIDDLE
    for branch in model.branches.values():
        assert [count(conv) for conv in (*branch.convs, branch.last)] == BRANCH
    assert count(model) == 122_811


def test_each_layer_has_the_output_shape_of_the_paper():
    model, shapes = DescriptorCNN(), []
    layers = [*model.encoder, *model.middle, *model.branches["disks"].convs, model.branches["disks"].last]
    for layer in layers:
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        maps = model(torch.zeros(1, 128, 128, 10))
    expected = [(4, 10, 128, 128), (8, 5, 64, 64), (16, 2, 32, 32), (64, 16, 16), (64, 16, 16)]
    expected += [(16, 32, 32)] * 2 + [(16, 64, 64)] * 2 + [(16, 128, 128)] * 2 + [(1, 128, 128)]
    assert shapes == expected
    assert maps.shape == (1, len(BRANCHES), 128, 128)


@settings(max_examples=8, deadline=None)
@given(x=st.integers(1, 6), y=st.integers(1, 6))
def test_any_multiple_of_eight_pixels_works(model, x, y):
    with torch.no_grad():
        assert model(torch.zeros(2, 8 * x, 8 * y, 10)).shape == (2, 3, 8 * x, 8 * y)


def test_before_training_every_output_is_positive_whatever_the_input_and_every_branch_learns():
    torch.manual_seed(1)
    model = DescriptorCNN()
    stacks = 100 * torch.randn(2, 16, 16, 10)
    maps = model(stacks)
    assert (maps > 0).all()
    maps.sum().backward()
    for branch in model.branches.values():
        assert branch.last.weight.grad.abs().min() > 0


def test_only_the_disks_may_be_negative():
    model = DescriptorCNN()
    for branch in model.branches.values():
        torch.nn.init.constant_(branch.last.bias, -1)
    with torch.no_grad():
        maps = model(torch.randn(2, 16, 16, 10))
    lowest = dict(zip(BRANCHES, maps.amin((0, 2, 3)).tolist(), strict=True))
    assert lowest["disks"] < 0
    assert lowest["spheres"] == 0
    assert lowest["height"] == 0


def test_moving_the_image_by_eight_pixels_moves_the_maps_away_from_the_edges(model):
    wide = torch.randn(1, 136, 128, 10, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        here, there = model(wide[:, :-8]), model(wide[:, 8:])
    torch.testing.assert_close(here[:, :, 56:72, 56:72], there[:, :, 48:64, 56:72], rtol=1e-4, atol=1e-5)


def test_a_batch_equals_its_members(model):
    stacks = torch.randn(3, 16, 24, 10, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        together, alone = model(stacks), torch.cat([model(stack[None]) for stack in stacks])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_padding_repeats_the_edge_so_that_a_flat_stack_gives_flat_maps(model):
    with torch.no_grad():
        maps = model(torch.full((1, 32, 32, 10), 0.7))
    torch.testing.assert_close(maps, maps[:, :, :1, :1].expand_as(maps), rtol=1e-5, atol=1e-6)


def test_heights_are_folded_into_channels_height_first(model):
    seen = []
    handle = model.middle[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stack = torch.randn(1, 16, 16, 10, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        model(stack)
        h = stack.permute(0, 3, 1, 2)[:, None]
        for conv, pool in zip(model.encoder, (2, 2, (1, 2, 2)), strict=True):
            h = torch.nn.functional.avg_pool3d(torch.nn.functional.leaky_relu(conv(h), SLOPE), pool)
    handle.remove()
    for height in range(2):
        for channel in range(16):
            torch.testing.assert_close(seen[0][:, 16 * height + channel], h[:, channel, height])


def test_a_configuration_survives_json():
    config = Config(encoder=(2, 4, 8), middle=16, branch=4)
    assert Config.from_json(json.dumps(asdict(config))) == config
