"""The published network with spectra."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from afmid.data.augment import normalised
from afmid_graphgen.paper import Partial
from afmid_soap.paper import Config, Paper, with_next
from afmid_soap.reference import DscribeSoap

CHANNELS = {"channels": (2, 3, 4, 5)}
FIXED = {"norm": True, "residual": True}
VARIANTS = {
    "published": {},
    "none": {"spectra": "none"},
    "predicted": {"spectra": "predicted"},
    "fixed": FIXED,
    "shared and here": {"shared": True, "here": True, **FIXED},
    "relative": {"relative": True},
    "no messages": {"rounds": 0, "bond_rounds": 0},
}
QUERY = torch.tensor([[1.0, 2.0, -0.3], [3.0, 1.0, 0.0]])
SAID = torch.tensor([1, 3])


@pytest.fixture(scope="module", params=VARIANTS)
def network(request):
    torch.manual_seed(0)
    return Paper(Config(**CHANNELS, **VARIANTS[request.param])).eval()


def stacks(count=2):
    return normalised(torch.randn(count, 32, 32, 10, generator=torch.Generator().manual_seed(1)))


def partial(count=4):
    """Return two graphs, of `count` atoms in a ring and of a bonded pair."""
    generator = torch.Generator().manual_seed(2)
    ring = [[n, (n + 1) % count] for n in range(count)]
    return Partial(
        classes=torch.randint(5, (2, count), generator=generator),
        positions=4 * torch.rand(2, count, 3, generator=generator),
        there=torch.tensor([[True] * count, [True] * 2 + [False] * (count - 2)]),
        bonds=torch.tensor([*ring, [count, count + 1]]),
    )


def answers(network, views, graphs, query=QUERY, classes=SAID):
    said = network.graph(views, graphs, query)
    return said, network.graph.bonds(said, graphs, query, classes)


@torch.no_grad()
def test_a_batch_equals_its_members(network):
    df, graphs = stacks(), partial()
    _, views = network(df)
    said, bonds = answers(network, views, graphs)
    for i in range(2):
        _, view = network(df[i : i + 1])
        inside = (graphs.bonds[:, 0] // 4 == i).nonzero()[:, 0]
        own = Partial(graphs.classes[i, None], graphs.positions[i, None], graphs.there[i, None],
                      graphs.bonds[inside] - 4 * i)  # fmt: skip
        single, bond = answers(network, view, own, QUERY[i, None], SAID[i, None])
        torch.testing.assert_close(single.logits[0], said.logits[i], rtol=1e-4, atol=1e-5)
        there = graphs.there[i]
        torch.testing.assert_close(bond[0, there], bonds[i, there], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_places_without_an_atom_make_no_difference(network):
    graphs, (_, views) = partial(), network(stacks())
    other = replace(
        graphs,
        classes=torch.where(graphs.there, graphs.classes, 4),
        positions=torch.where(graphs.there[..., None], graphs.positions, 9.0),
    )
    (said, bonds), (same, alike) = (answers(network, views, g) for g in (graphs, other))
    torch.testing.assert_close(said.logits, same.logits)
    torch.testing.assert_close(bonds[graphs.there], alike[graphs.there])


@torch.no_grad()
def test_permuting_the_atoms_permutes_the_bonds_and_leaves_the_class(network):
    if network.config.spectra == "predicted":
        pytest.skip("the last atom is another")
    graphs, (_, views) = partial(), network(stacks())
    order = torch.tensor([1, 0, 2, 3])
    where = torch.cat([order.argsort(), 4 + order.argsort()])
    moved = Partial(graphs.classes[:, order], graphs.positions[:, order], graphs.there[:, order], where[graphs.bonds])
    (said, bonds), (same, permuted) = (answers(network, views, g) for g in (graphs, moved))
    torch.testing.assert_close(same.logits, said.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted, bonds[:, order], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_graph_without_an_atom_has_no_bonds(network):
    _, views = network(stacks())
    graphs = partial()
    empty = Partial(graphs.classes[:, :0], graphs.positions[:, :0], graphs.there[:, :0], graphs.bonds[:0])
    said, bonds = answers(network, views, empty)
    assert said.logits.isfinite().all()
    assert bonds.shape == (2, 0)


def test_gradients_reach_every_weight_but_the_predictors(network):
    _, views = network(stacks())
    said, bonds = answers(network, views, partial())
    (said.logits.square().sum() + bonds.square().sum()).backward()
    for name, weight in network.graph.named_parameters():
        learnt = weight.grad is not None and bool(weight.grad.any())
        assert learnt != name.startswith("predictor."), name
    network.zero_grad()


@torch.no_grad()
@pytest.mark.parametrize("relative", [True, False])
def test_only_where_places_are_told_from_the_next_atom_a_shift_makes_no_difference_to_the_graph(relative):
    torch.manual_seed(0)
    builder = Paper(Config(**CHANNELS, relative=relative)).eval().graph
    builder.gaze.look = lambda views, graph, query: graph  # the image apart, which is looked at in its own frame
    graphs, shift = partial(), torch.tensor([2.0, -1.0, 0.0])
    moved = replace(graphs, positions=graphs.positions + shift)
    (said, bonds), (same, alike) = answers_of(builder, graphs, QUERY), answers_of(builder, moved, QUERY + shift)
    assert torch.allclose(same.logits, said.logits, rtol=1e-4, atol=1e-5) == relative
    assert torch.allclose(alike[graphs.there], bonds[graphs.there], rtol=1e-4, atol=1e-6) == relative


def answers_of(builder, graphs, query):
    said = builder([], graphs, query)
    return said, builder.bonds(said, graphs, query, SAID)


@torch.no_grad()
def test_dscribe_and_torch_make_the_same_of_a_graph():
    torch.manual_seed(0)
    network = Paper(Config(**CHANNELS, **FIXED, here=True)).eval()
    _, views = network(stacks())
    said, bonds = answers(network, views, partial())
    network.graph.compute = DscribeSoap(network.graph.soap)
    same, alike = answers(network, views, partial())
    torch.testing.assert_close(same.logits, said.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alike, bonds, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("told", ["classes", "positions"])
def test_what_surrounds_an_atom_matters_to_its_bonds_without_any_message(told):
    torch.manual_seed(0)
    network = Paper(Config(**CHANNELS, bond_rounds=0, **FIXED)).eval()
    graphs, (_, views) = partial(), network(stacks())
    other = getattr(graphs, told).clone()
    other[0, 3] = (other[0, 3] + 1) % 5
    changed = replace(graphs, **{told: other})
    said = network.graph(views, graphs, QUERY)
    before, after = (network.graph.bonds(said, g, QUERY, SAID) for g in (graphs, changed))
    assert (before[0, :3] != after[0, :3]).all()
    torch.testing.assert_close(before[1], after[1])


def test_in_mixed_precision_a_graph_is_told_of_by_predicted_spectra_too():
    network = Paper(Config(**CHANNELS, spectra="predicted"))
    with torch.autocast("cpu", torch.bfloat16):
        said, bonds = answers(network, network(stacks())[1], partial())
    assert said.logits.isfinite().all()
    assert bonds.isfinite().all()


def test_the_next_atom_comes_last_and_bonds_stay_between_their_atoms():
    graphs = partial()
    more = with_next(graphs, QUERY, SAID)
    assert more.classes[:, -1].tolist() == SAID.tolist()
    assert more.there[:, -1].all()
    torch.testing.assert_close(more.positions[:, -1], QUERY)
    for (a, b), (c, d) in zip(graphs.bonds.tolist(), more.bonds.tolist(), strict=True):
        for before, after in ((a, c), (b, d)):
            torch.testing.assert_close(more.positions.flatten(0, 1)[after], graphs.positions.flatten(0, 1)[before])


def test_the_published_sizes_make_less_than_the_published_number_of_parameters():
    assert sum(weight.numel() for weight in Paper().parameters()) == 923_762  # the study says 1.1 million


def test_a_configuration_survives_json():
    config = Config(spectra="predicted", rounds=2, norm=True, dropout=0.1)
    assert Config.from_json(json.dumps(asdict(config))) == config


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"spectra": "some"}', "spectra: none, computed or predicted, not 'some'"),
        ('{"rounds": -1}', "rounds: 0 to 16"),
        ('{"bond_rounds": 1e9}', "rounds: 0 to 16"),
        ('{"rounds": 3.0}', "rounds: 0 to 16"),
        ('{"norm": 1}', "true or false"),
        ('{"dropout": 1}', "dropout: 0 to 1, not 1"),
        ('{"spectra": "none", "here": true}', "here needs spectra"),
        ('{"channels": [4]}', "channels: 4 whole numbers"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_words(text, reason):
    with pytest.raises((ValueError, TypeError), match=reason):
        Config.from_json(text)
