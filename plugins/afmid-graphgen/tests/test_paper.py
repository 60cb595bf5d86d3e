"""The networks of the published pipeline."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import permutations

from afmid.data.augment import normalised
from afmid_graphgen.graph import CLASS_OF, CLASSES, ELEMENTS, ORDERS
from afmid_graphgen.grid import target
from afmid_graphgen.paper import ELEMENT_SHARES, ORDER_SHARES, Config, Conv, Paper, Partial, generate

SMALL = Config(channels=(2, 3, 4, 5))
AXIS = 0.125 * np.arange(32)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Paper(SMALL).eval()


def stacks(count):
    return normalised(torch.randn(count, 32, 32, 10, generator=torch.Generator().manual_seed(1)))


def partial(count=4):
    """Return two graphs, of `count` atoms in a ring and of a bonded pair."""
    generator = torch.Generator().manual_seed(2)
    ring = [[n, (n + 1) % count] for n in range(count)]
    return Partial(
        classes=torch.randint(len(CLASSES), (2, count), generator=generator),
        positions=4 * torch.rand(2, count, 3, generator=generator),
        there=torch.tensor([[True] * count, [True] * 2 + [False] * (count - 2)]),
        bonds=torch.tensor([*ring, [count, count + 1]]),
    )


QUERY = torch.tensor([[1.0, 2.0, -0.3], [3.0, 1.0, 0.0]])
CLASSES_SAID = torch.tensor([1, 3])


def answers(network, views, graphs, query=QUERY):
    said = network.graph(views, graphs, query)
    return said, network.graph.bonds(said, graphs, query, CLASSES_SAID[: len(query)])


def test_the_published_sizes_make_about_the_published_number_of_parameters():
    count = sum(weight.numel() for weight in Paper().parameters())
    assert count == 599_334
    assert count == pytest.approx(625_082, rel=0.05)


def test_a_convolution_of_pairs_of_heights_is_the_3d_convolution():
    torch.manual_seed(0)
    conv, h = Conv(3, 2), torch.randn(2, 10, 3, 8, 8)
    conv.conv.padding = (1, 1, 1)
    torch.testing.assert_close(conv(h), conv.conv(h.transpose(1, 2)).transpose(1, 2), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_batch_equals_its_members(network):
    df, graphs = stacks(2), partial()
    grid, views = network(df)
    assert grid.shape == (2, 32, 32, 20)
    said, bonds = answers(network, views, graphs)
    for i in range(2):
        alone, view = network(df[i : i + 1])
        torch.testing.assert_close(alone[0], grid[i], rtol=1e-4, atol=1e-5)
        inside = (graphs.bonds[:, 0] // 4 == i).nonzero()[:, 0]
        own = Partial(graphs.classes[i, None], graphs.positions[i, None], graphs.there[i, None],
                      graphs.bonds[inside] - 4 * i)  # fmt: skip
        single = network.graph(view, own, QUERY[i, None])
        torch.testing.assert_close(single.logits[0], said.logits[i], rtol=1e-4, atol=1e-5)
        bond = network.graph.bonds(single, own, QUERY[i, None], CLASSES_SAID[i, None])
        torch.testing.assert_close(bond[0], bonds[i], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_several_graphs_of_a_scan_are_each_seen_on_it(network):
    graphs, (_, views) = partial(), network(stacks(1))
    _, both = answers(network, views, graphs)
    _, twice = answers(network, [view.repeat(2, 1, 1, 1) for view in views], graphs)
    torch.testing.assert_close(both, twice, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_places_without_an_atom_make_no_difference(network):
    graphs, (_, views) = partial(), network(stacks(2))
    other = replace(
        graphs,
        classes=torch.where(graphs.there, graphs.classes, 4),
        positions=torch.where(graphs.there[..., None], graphs.positions, 9.0),
    )
    (said, bonds), (same, alike) = (answers(network, views, g) for g in (graphs, other))
    torch.testing.assert_close(said.logits, same.logits)
    torch.testing.assert_close(bonds[graphs.there], alike[graphs.there])


@torch.no_grad()
@settings(deadline=None, max_examples=10)
@given(order=permutations(range(4)))
def test_permuting_the_atoms_permutes_the_bonds_and_leaves_the_class(network, order):
    graphs, (_, views) = partial(), network(stacks(2))
    order = torch.tensor(order)
    where = torch.cat([order.argsort(), 4 + order.argsort()])
    moved = Partial(graphs.classes[:, order], graphs.positions[:, order], graphs.there[:, order], where[graphs.bonds])
    (said, bonds), (same, permuted) = (answers(network, views, g) for g in (graphs, moved))
    torch.testing.assert_close(same.logits, said.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(permuted, bonds[:, order], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_turning_a_bond_round_makes_no_difference(network):
    graphs, (_, views) = partial(), network(stacks(2))
    turned = replace(graphs, bonds=graphs.bonds.flip(1))
    torch.testing.assert_close(answers(network, views, turned)[1], answers(network, views, graphs)[1])


def test_gradients_reach_every_parameter(network):
    grid, views = network(stacks(2))
    said, bonds = answers(network, views, partial())
    (grid.square().mean() + said.logits.square().sum() + bonds.square().sum()).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())
    network.zero_grad()


class Sees(torch.nn.Module):
    """A grid of four atoms whatever is shown, and the graph builder of a network."""

    def __init__(self, network, grid):
        super().__init__()
        self.network, self.grid, self.config, self.graph = network, grid, network.config, network.graph

    def forward(self, df):
        return self.grid, self.network(df)[1]


def test_a_generated_graph_has_the_atoms_of_the_grid_and_probabilities(network):
    atoms = torch.tensor([[[1.0, 1.0, 0.0], [2.2, 1.1, -0.3], [1.2, 2.3, -0.5], [2.9, 2.9, -0.7]]])
    axis = torch.tensor(AXIS, dtype=torch.float32)[None]
    grid = target(atoms, torch.ones(1, 4, dtype=torch.bool), axis, axis, SMALL.sigma)
    shifted = AXIS + 7.0
    graph = generate(Sees(network, grid), stacks(1), shifted, shifted)
    placed = atoms[0].numpy() + np.array([7, 7, 0])  # from the highest down
    np.testing.assert_allclose(graph.positions, placed, atol=0.03)
    assert (graph.exists > 0.9).all()
    np.testing.assert_allclose(graph.elements.sum(1), 1)
    np.testing.assert_allclose(graph.bonds.sum(2), 1)
    np.testing.assert_array_equal(graph.bonds, graph.bonds.transpose(1, 0, 2))
    assert (np.diagonal(graph.bonds[..., 0]) == 1).all()
    assert graph.missing.shape == (4, 5)


def test_atoms_in_the_padding_are_left_out(network):
    atoms = torch.tensor([[[1.0, 1.0, 0.0], [2.54, 2.0, 0.0], [3.6, 1.0, 0.0]]])
    axis = torch.tensor(AXIS, dtype=torch.float32)[None]
    grid = target(atoms, torch.ones(1, 3, dtype=torch.bool), axis, axis, SMALL.sigma)
    graph = generate(Sees(network, grid), stacks(1)[:, :21, :29], AXIS[:21], AXIS[:29])  # to 2.5 and 3.5 Å
    order = np.argsort(graph.positions[:, 0])
    np.testing.assert_allclose(graph.positions[order, :2], atoms[0, :2, :2], atol=0.03)


def test_no_atom_lies_above_the_topmost(network):
    atoms = torch.tensor([[[1.0, 1.0, 0.2], [2.6, 2.0, -0.1]]])
    axis = torch.tensor(AXIS, dtype=torch.float32)[None]
    grid = target(atoms, torch.ones(1, 2, dtype=torch.bool), axis, axis, SMALL.sigma)
    z = generate(Sees(network, grid), stacks(1), AXIS, AXIS).positions[:, 2]
    assert z.max() == 0
    assert np.ptp(z) == pytest.approx(0.3, abs=0.03)


def test_an_empty_grid_makes_an_empty_graph(network):
    graph = generate(Sees(network, torch.zeros(1, 32, 32, 20)), stacks(1), AXIS, AXIS)
    assert len(graph) == 0
    assert graph.elements.shape == (0, len(ELEMENTS))
    assert graph.bonds.shape == (0, 0, len(ORDERS))


def test_the_shares_of_each_class_and_of_the_orders_add_up_to_one():
    shares = np.bincount(CLASS_OF, ELEMENT_SHARES)
    np.testing.assert_allclose(shares, 1, atol=1e-9)
    assert ORDER_SHARES.sum() == pytest.approx(1)


def test_a_configuration_survives_json():
    assert Config.from_json(json.dumps(asdict(SMALL))) == SMALL


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"colour": 1}', "colour"),
        ('{"channels": [4, 8, 16]}', "channels: 4 whole numbers"),
        ('{"channels": [4, 8, 16, 4096]}', "channels: 4 whole numbers"),
        ('{"ordering": "x"}', "ordering: one of random, y, z, not 'x'"),
        ('{"ordering": [1]}', "ordering: one of"),
        ('{"sigma": NaN}', "sigma: 0.05 to 1 Å, not nan"),
        ('{"sigma": "0.2"}', "sigma: 0.05 to 1 Å, not '0.2'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_in_words(text, reason):
    with pytest.raises((ValueError, TypeError), match=reason):
        Config.from_json(text)
