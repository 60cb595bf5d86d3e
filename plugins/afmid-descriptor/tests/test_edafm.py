import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid_descriptor.edafm import EDAFM, SLOPE, Block, Config
from afmid_descriptor.maps import MAPS

NARROW = {"width": 0.125, "images": (0, 10)}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def awake(network):
    """Make every weight matter: the last convolution starts from zero."""
    torch.nn.init.normal_(network.head[-1].weight, std=0.1)
    return network


def stacks(*shape, seed=0):
    return torch.randn(*shape, 10, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=["softmax", "sigmoid"])
def model(request):
    """Return a narrow network for two tips."""
    torch.manual_seed(0)
    return awake(EDAFM(Config(gate=request.param, **NARROW))).eval()


@pytest.mark.parametrize(("tips", "parameters"), [(2, 15_604_900), (1, 15_533_252)])
def test_the_published_network_has_15_6_million_parameters(tips, parameters):
    assert count(EDAFM(Config(tips=tips))) == parameters


def test_each_stage_has_the_channels_and_heights_of_the_publication():
    model, shapes = EDAFM(), []
    for layer in (*model.tips, *model.encoder, model.middle, *model.decoder):
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        field = model(stacks(1, 16, 8), stacks(1, 16, 8))
    expected = [(32, 16, 8, 6)] * 2 + [(48, 16, 8, 6), (96, 8, 4, 3), (192, 4, 2, 2)]
    expected += [(512, 2, 1), (256, 4, 2), (128, 8, 4), (64, 16, 8)]
    assert shapes == expected
    assert field.shape == (1, 1, 16, 8)


def test_the_map_bears_a_name_that_afmid_knows(model):
    assert model.names == ("field",)
    assert set(model.names) <= set(MAPS)


@settings(max_examples=6, deadline=None)
@given(x=st.integers(1, 5), y=st.integers(1, 5))
def test_any_multiple_of_eight_pixels_works_with_one_stack_or_two(model, x, y):
    df = stacks(2, 8 * x, 8 * y)
    with torch.no_grad():
        assert model(df).shape == model(df, df).shape == (2, 1, 8 * x, 8 * y)


def test_the_gradient_reaches_every_parameter(model):
    model.zero_grad()
    (model(stacks(2, 32, 32), stacks(2, 32, 32, seed=1)) * stacks(2, 1, 32)[..., None, 0]).sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_before_training_the_field_is_zero_and_the_last_layer_learns():
    torch.manual_seed(1)
    model = EDAFM(Config(**NARROW))
    field = model(stacks(2, 16, 16))
    assert (field == 0).all()
    field.sum().backward()
    assert model.head[-1].weight.grad.abs().min() > 0


def test_the_signal_keeps_its_size_through_the_blocks():
    torch.manual_seed(2)
    sizes = []
    model = EDAFM(Config(width=0.25, gate="sigmoid"))
    for module in model.modules():
        if isinstance(module, Block):
            module.register_forward_hook(lambda _, __, output: sizes.append(float(output.square().mean())))
    with torch.no_grad():
        model(stacks(1, 64, 64), stacks(1, 64, 64, seed=1))
    assert len(sizes) == 13
    assert 0.005 < min(sizes) < max(sizes) < 5


def test_both_stacks_matter_and_each_has_a_block_of_its_own(model):
    first, second = stacks(1, 16, 16), stacks(1, 16, 16, seed=1)
    with torch.no_grad():
        answers = [model(first, second), model(second, first), model(first), model(first, first)]
    for i, one in enumerate(answers):
        assert all((one - other).abs().max() > 1e-4 for other in answers[:i])


def test_a_missing_second_stack_counts_as_features_of_zero(model):
    df = stacks(1, 16, 16)
    handle = model.tips[1].register_forward_hook(lambda _, __, output: torch.zeros_like(output))
    with torch.no_grad():
        expected = model(df, df)
    handle.remove()
    with torch.no_grad():
        assert torch.equal(model(df), expected)


def test_a_network_for_one_tip_does_not_look_at_the_second_stack():
    model, df = awake(EDAFM(Config(tips=1, **NARROW))), stacks(1, 16, 16)
    with torch.no_grad():
        assert torch.equal(model(df, df.flip(1)), model(df))


def test_images_outside_the_configured_ones_make_no_difference():
    model, df = awake(EDAFM(Config(width=0.125))), stacks(1, 16, 16)
    changed = df.clone()
    changed[..., [0, 1, 8, 9]] += 1
    with torch.no_grad():
        assert torch.equal(model(changed), model(df))
        changed[..., 2] += 1
        assert not torch.equal(model(changed), model(df))


def test_a_batch_equals_its_members(model):
    df = stacks(3, 16, 24)
    with torch.no_grad():
        together, alone = model(df, df.flip(1)), torch.cat([model(one[None], one[None].flip(1)) for one in df])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_flat_stack_gives_a_flat_field(model):
    with torch.no_grad():
        field = model(torch.full((1, 32, 32, 10), 0.7))
    torch.testing.assert_close(field, field[:, :, :1, :1].expand_as(field), rtol=1e-4, atol=1e-6)


def test_published_gates_sum_to_one_over_the_image_and_others_do_not():
    skip, middle = torch.ones(2, 480 // 8, 16, 16), torch.ones(2, 64, 2, 2)
    with torch.no_grad():
        soft = EDAFM(Config(**NARROW)).decoder[-1].gate(skip, middle)
        sharp = EDAFM(Config(gate="sigmoid", **NARROW)).decoder[-1].gate(skip, middle)
    torch.testing.assert_close(soft.sum((1, 2, 3)), torch.ones(2))
    assert 0 < sharp.min() <= sharp.max() < 1
    assert sharp.sum() > 10


def test_a_block_adds_its_convolutions_to_what_enters():
    torch.manual_seed(3)
    block, h = Block(torch.nn.Conv2d, 4, 4, 2), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        inner = torch.nn.functional.leaky_relu(block.convs[0](h), SLOPE)
        expected = torch.nn.functional.leaky_relu(h + block.convs[1](inner), SLOPE)
        torch.testing.assert_close(block(h), expected)


def test_weights_read_again_give_the_same_field(model):
    other = EDAFM(model.config).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other(stacks(1, 16, 16)), model(stacks(1, 16, 16)))


def test_a_configuration_survives_json():
    config = Config(tips=1, width=0.25, images=(0, 10), gate="sigmoid")
    assert Config.from_json(json.dumps(asdict(config))) == config
