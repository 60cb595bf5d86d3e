"""The default network."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from afmid_graphgen.graph import ELEMENTS
from afmid_graphgen.model import Answers, GraphNet, pairs_of
from afmid_graphgen.parallel import view
from afmid_soap.model import Config, SoapNet
from afmid_soap.reference import DscribeSoap

TINY = Config(stem=8, widths=(8, 16), atom=16, pair=12, rounds=1, more=1)
PIXEL = 0.125
PLACES = torch.tensor([[20.0, 20.0], [30.0, 22.0], [25.0, 31.0], [10.0, 12.0], [14.0, 20.0]])
BATCH = torch.tensor([0, 0, 0, 1, 1])


def made(**changes):
    torch.manual_seed(0)
    return SoapNet(Config(**{**asdict(TINY), **changes}))


def features(network):
    return network.features(torch.randn(2, 48, 48, 10, generator=torch.Generator().manual_seed(1)))


def test_at_first_it_says_what_graphgen_says():
    network = made()
    graphgen = GraphNet(TINY)
    graphgen.load_state_dict({name: network.state_dict()[name] for name in graphgen.state_dict()})
    seen, pairs = features(network), pairs_of(PLACES, BATCH)
    for one, other in zip(*(n.answer(seen, PLACES, BATCH, pairs) for n in (network, graphgen)), strict=True):
        torch.testing.assert_close(one, other)


def test_what_it_is_told_of_the_surroundings_changes_what_it_says(awake):
    network = awake(made())
    seen, pairs = features(network), pairs_of(PLACES, BATCH)
    before = network.answer(seen, PLACES, BATCH, pairs)
    network.spectra = lambda *given: torch.ones(len(PLACES), 15, 27)
    after = network.answer(seen, PLACES, BATCH, pairs)
    assert (before.elements != after.elements).all()


def sure(symbols, z):
    """Return answers of which the elements and depths are known, at the peaks."""
    count = len(symbols)
    elements = torch.full((count, len(ELEMENTS)), -50.0)
    elements[torch.arange(count), [ELEMENTS.index(symbol) for symbol in symbols]] = 50.0
    nothing = torch.zeros(count)
    shift = torch.stack([nothing, nothing, torch.tensor(z)], 1)
    return Answers(nothing + 50, elements, nothing, shift, nothing, nothing)


def test_the_spectra_of_sure_answers_are_those_of_dscribe():
    network = made()
    spectra = network.spectra(sure("HCNOF", [0.0, -0.3, -0.5, 0.0, -0.2]), PLACES, BATCH, 2)
    z = torch.tensor([0.0, -0.3, -0.5, 0.0, -0.2])
    positions = torch.cat([PIXEL * PLACES, z[:, None]], 1).double()
    for stack in range(2):
        own = stack == BATCH
        expected = DscribeSoap(network.soap)(positions[None, own], torch.eye(5)[None, own], positions[None, own])[0]
        torch.testing.assert_close(spectra[own].double(), expected, rtol=1e-4, atol=1e-3)


def test_an_atom_that_may_not_exist_counts_less():
    network = made()
    answers = sure("CCCCC", [0.0] * 5)
    certain = network.spectra(answers, PLACES, BATCH, 2)
    unsure = network.spectra(answers._replace(exists=torch.tensor([50.0, -50, 50, 50, 50])), PLACES, BATCH, 2)
    assert (unsure[2].abs().sum() < certain[2].abs().sum()).all()
    torch.testing.assert_close(unsure[3:], certain[3:])


@torch.no_grad()
def test_turning_places_and_depths_together_leaves_the_spectra():
    network = made()
    answers = sure("HCNOF", [0.0, -0.3, -0.5, 0.0, -0.2])
    at = torch.cat([PIXEL * PLACES, answers.shift[:, 2:]], 1)
    turned = at @ torch.tensor(Rotation.from_euler("xyz", [0.4, -0.8, 1.3]).as_matrix(), dtype=torch.float32).T
    moved = answers._replace(shift=torch.cat([torch.zeros(5, 2), turned[:, 2:]], 1))
    spectra = network.spectra(moved, turned[:, :2] / PIXEL, BATCH, 2)
    torch.testing.assert_close(spectra, network.spectra(answers, PLACES, BATCH, 2), rtol=1e-3, atol=1e-2)


@torch.no_grad()
def test_a_batch_equals_its_members(awake):
    network = awake(made())
    seen = features(network)
    both = network.answer(seen, PLACES, BATCH, pairs_of(PLACES, BATCH))
    for stack in range(2):
        own = stack == BATCH
        none = torch.zeros(int(own.sum()), dtype=torch.long)
        alone = network.answer([h[stack, None] for h in seen], PLACES[own], none, pairs_of(PLACES[own], none))
        torch.testing.assert_close(alone.elements, both.elements[own], rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_weight_and_through_the_spectra_what_was_said_first(awake):
    network = awake(made())
    answers = network.answer(features(network), PLACES, BATCH, pairs_of(PLACES, BATCH))
    sum(part.square().sum() for part in answers).backward()
    unused = {name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert {name.split(".")[0] for name in unused} == {"peaks", "second"}  # the image's own, and those of a second tip
    first = sure("HCNOF", [0.0] * 5)
    shift = first.shift.clone().requires_grad_()
    network.spectra(first._replace(shift=shift), PLACES, BATCH, 2).sum().backward()
    assert shift.grad.abs().sum(1).all()


@torch.no_grad()
def test_a_stack_without_a_peak_has_an_empty_view(awake):
    network = awake(made())
    seen = view(network, torch.zeros(1, 48, 48, 10), places=torch.zeros(0, 2))
    assert seen.answers.elements.shape == (0, len(ELEMENTS))


def test_without_spectra_there_are_no_weights_for_them():
    count = {soap: sum(w.numel() for w in made(soap=soap).parameters()) for soap in (True, False)}
    assert count[False] < count[True]
    assert not any("spectrum" in name for name, _ in made(soap=False).named_parameters())


def test_a_configuration_survives_json():
    assert Config.from_json(json.dumps(asdict(TINY))) == TINY
    assert np.isclose(Config().more, 2)


@pytest.mark.parametrize("text", ['{"more": 17}', '{"soap": 1}', '{"rounds": 99}', '{"widths": [8]}', '{"more": "2"}'])
def test_a_configuration_that_cannot_be_is_refused(text):
    with pytest.raises((ValueError, TypeError)):
        Config.from_json(text)
