import json

import pytest
import torch

from afmid.data.augment import normalised
from afmid_descriptor.edafm import EDAFM
from afmid_descriptor.model import DescriptorNet
from afmid_descriptor.networks import STRIDE, build, described, seen
from afmid_descriptor.paper import Paper, Slides

SIZES = [  # architecture, sizes, what it becomes
    ("unet", {"stem": 4, "widths": [4, 8], "blocks": 1, "names": ["disks", "peaks"]}, DescriptorNet),
    ("paper", {"encoder": [2, 2, 4], "middle": 8, "branch": 4}, Paper),
    ("slides", {"names": ["height", "disks"]}, Slides),
    ("ed-afm", {"width": 0.05, "tips": 1, "images": [0, 6], "gate": "sigmoid"}, EDAFM),
]


def stacks(*shape):
    return torch.randn(*shape, 10, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("architecture", "config", "kind"), SIZES)
def test_what_a_network_says_of_itself_makes_it_again(architecture, config, kind):
    torch.manual_seed(0)
    network = build(architecture, json.dumps(config)).eval()
    assert type(network) is kind
    told = described(network)
    assert told["architecture"] == architecture
    assert json.loads(told["config"]) == config
    again = build(**told).eval()
    assert again.names == network.names
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(stacks(1, 16, 16)), network(stacks(1, 16, 16)))
    assert described(again) == told


@pytest.mark.parametrize(("architecture", "kind"), [(name, kind) for name, _, kind in SIZES])
def test_without_sizes_a_network_has_the_usual_ones(architecture, kind):
    network = build(architecture)
    assert type(network) is kind
    assert described(build(**described(network))) == described(network)


@pytest.mark.parametrize("architecture", ["", "unet2", "descriptor"])
def test_a_network_of_another_name_is_refused(architecture):
    with pytest.raises(ValueError, match=f"no network '{architecture}'; there are: unet, paper, slides, ed-afm"):
        build(architecture)


@pytest.mark.parametrize(("architecture", "config"), [(name, '{"floors": 3}') for name, _, _ in SIZES])
def test_sizes_that_are_none_of_the_network_are_refused(architecture, config):
    with pytest.raises((TypeError, ValueError)):
        build(architecture, config)


@pytest.mark.parametrize(("architecture", "config", "kind"), SIZES)
def test_every_network_takes_multiples_of_the_stride_and_its_second_stack(architecture, config, kind):
    network = build(architecture, json.dumps(config)).eval()
    with torch.no_grad():
        assert network(stacks(1, STRIDE, 3 * STRIDE)).shape == (1, len(network.names), STRIDE, 3 * STRIDE)


def test_only_the_published_networks_are_shown_normalised_stacks():
    df = 3 + 5 * stacks(2, 16, 24)
    assert seen(build("unet"), df) is df
    shown = seen(build("paper"), df)
    torch.testing.assert_close(shown.mean((1, 2)), torch.zeros(2, 10), atol=1e-5, rtol=0)
    torch.testing.assert_close(shown.square().mean((1, 2)), torch.ones(2, 10), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen(build("paper"), 100 * df - 7), shown, atol=1e-4, rtol=0)


def test_an_image_of_one_value_becomes_zero():
    assert not normalised(torch.full((1, 16, 24, 10), -3.7)).any()
