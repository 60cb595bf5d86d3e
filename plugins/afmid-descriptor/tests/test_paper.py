import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid_descriptor.maps import MAPS
from afmid_descriptor.paper import SLOPE, Config, Paper, Slides

ENCODER = [112, 872, 3472]
MIDDLE = [18496, 36928]
BRANCH = [9232, 2320, 2320, 2320, 2320, 2320, 145]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def awake(network):
    """Make every weight matter: the last convolutions start from zero."""
    for branch in branches(network):
        torch.nn.init.normal_(branch.last.weight, std=0.1)
    return network


def branches(network):
    return list(network.branches.values()) if isinstance(network, Paper) else [network.branch]


@pytest.fixture(scope="module", params=[Paper, Slides])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    torch.manual_seed(0)
    return awake(kind()).eval()


def shapes_of(layers, model):
    shapes = []
    for layer in layers:
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        maps = model(torch.zeros(1, 128, 128, 10))
    return shapes, maps


def test_each_layer_has_the_parameters_of_the_paper():
    model = Paper()
    assert [count(conv) for conv in model.encoder] == ENCODER
    assert [count(conv) for conv in model.middle] == MIDDLE
    for branch in model.branches.values():
        assert [count(conv) for conv in (*branch.convs, branch.last)] == BRANCH
    assert count(model) == 122_811


def test_each_layer_has_the_parameters_of_the_slides():
    model = Slides(["spheres"])
    assert [count(conv) for conv in model.encoder] == ENCODER
    assert [count(conv) for conv in (model.parallel, model.mix, *model.middle)] == [5888, 8256, 36928, 36928]
    assert [count(conv) for conv in (*model.branch.convs, model.branch.last)] == BRANCH
    assert count(model) == 113_433
    assert count(Slides()) == 113_433 + 2 * BRANCH[-1]


def test_each_layer_has_the_output_shape_of_the_paper():
    model = Paper()
    branch = model.branches["disks"]
    shapes, maps = shapes_of([*model.encoder, *model.middle, *branch.convs, branch.last], model)
    expected = [(4, 10, 128, 128), (8, 5, 64, 64), (16, 2, 32, 32), (64, 16, 16), (64, 16, 16)]
    expected += [(16, 32, 32)] * 2 + [(16, 64, 64)] * 2 + [(16, 128, 128)] * 2 + [(1, 128, 128)]
    assert shapes == expected
    assert maps.shape == (1, 3, 128, 128)


def test_each_layer_has_the_output_shape_of_the_slides():
    model = Slides()
    layers = [model.parallel, model.mix, *model.middle, *model.branch.convs, model.branch.last]
    shapes, maps = shapes_of(layers, model)
    expected = [(128, 16, 16), (64, 16, 16), (64, 16, 16), (64, 16, 16)]
    expected += [(16, 32, 32)] * 2 + [(16, 64, 64)] * 2 + [(16, 128, 128)] * 2 + [(3, 128, 128)]
    assert shapes == expected
    assert maps.shape == (1, 3, 128, 128)


def test_the_maps_bear_names_that_afmid_knows(kind):
    assert kind().names == ("disks", "spheres", "height")
    assert set(kind().names) <= set(MAPS)
    assert Slides(["height", "disks"]).names == ("height", "disks")


@settings(max_examples=8, deadline=None)
@given(x=st.integers(1, 6), y=st.integers(1, 6))
def test_any_multiple_of_eight_pixels_works(model, x, y):
    with torch.no_grad():
        assert model(torch.zeros(2, 8 * x, 8 * y, 10)).shape == (2, 3, 8 * x, 8 * y)


def test_before_training_every_output_is_positive_whatever_the_input_and_every_branch_learns(kind):
    torch.manual_seed(1)
    model = kind()
    maps = model(100 * torch.randn(2, 16, 16, 10))
    assert (maps > 0).all()
    maps.sum().backward()
    for branch in branches(model):
        assert branch.last.weight.grad.abs().min() > 0


def test_the_gradient_reaches_every_parameter(kind):
    torch.manual_seed(2)
    model = awake(kind())
    model(torch.randn(2, 32, 32, 10)).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_only_the_disks_may_be_negative(kind):
    model = kind()
    for branch in branches(model):
        torch.nn.init.constant_(branch.last.bias, -1)
    with torch.no_grad():
        maps = model(torch.randn(2, 16, 16, 10))
    lowest = dict(zip(model.names, maps.amin((0, 2, 3)).tolist(), strict=True))
    assert lowest["disks"] < 0
    assert lowest["spheres"] == 0
    assert lowest["height"] == 0


def test_the_stack_of_a_second_tip_makes_no_difference(model):
    stacks = torch.randn(2, 16, 16, 10, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(model(stacks, stacks.flip(0)), model(stacks))


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


def encoded(model, stack, pools):
    """Return what the encoder gives, (B, C, Z, X, Y)."""
    h = stack.permute(0, 3, 1, 2)[:, None]
    for conv, pool in zip(model.encoder, pools, strict=True):
        h = torch.nn.functional.avg_pool3d(torch.nn.functional.leaky_relu(conv(h), SLOPE), pool)
    return h


def test_the_paper_folds_heights_into_channels_height_first():
    model, seen = Paper(), []
    model.middle[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stack = torch.randn(1, 16, 16, 10, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        model(stack)
        h = encoded(model, stack, (2, 2, (1, 2, 2)))
    for height in range(2):
        for channel in range(16):
            torch.testing.assert_close(seen[0][:, 16 * height + channel], h[:, channel, height])


def test_each_of_the_slides_parallel_convolutions_sees_the_five_heights_of_one_channel():
    model, seen = Slides(), []
    model.parallel.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stack = torch.randn(1, 16, 16, 10, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        model(stack)
        h = encoded(model, stack, (2, (1, 2, 2), (1, 2, 2)))
        answer = model.parallel(seen[0])
        changed = seen[0].clone()
        changed[:, 5 * 3 : 5 * 4] += 1  # the heights of channel 3
        moved = (model.parallel(changed) != answer).any(dim=(0, 2, 3))
    torch.testing.assert_close(seen[0].unflatten(1, (16, 5)), h)
    assert moved.nonzero().flatten().tolist() == list(range(8 * 3, 8 * 4))


def test_weights_read_again_give_the_same_maps(model, kind):
    torch.manual_seed(6)
    other = kind().eval()
    other.load_state_dict(model.state_dict())
    stack = torch.randn(1, 16, 16, 10)
    with torch.no_grad():
        assert torch.equal(other(stack), model(stack))


def test_a_configuration_survives_json():
    config = Config(encoder=(2, 4, 8), middle=16, branch=4)
    assert Config.from_json(json.dumps(asdict(config))) == config
