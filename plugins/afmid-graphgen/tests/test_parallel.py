from dataclasses import replace

import numpy as np
import pytest
import torch

from afmid.networks.symmetry import SYMMETRIES
from afmid_graphgen import parallel
from afmid_graphgen.graph import ELEMENTS, ORDERS
from afmid_graphgen.model import Config, GraphNet
from afmid_graphgen.parallel import Temperatures, graph_of, view

SMALL = Config(stem=8, widths=(8, 16), atom=12, pair=10, rounds=1)
PLACES = torch.tensor([[10.0, 12.0], [20.0, 14.0], [15.5, 30.0]])


@pytest.fixture(scope="module")
def model(awake):
    return awake(GraphNet(SMALL))


def stack(x=40, y=56):
    return torch.randn(1, x, y, 10, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_a_turned_scan_gives_the_turned_answer(model, symmetry):
    df, places = stack(), PLACES
    size = torch.tensor(df.shape[1:3])
    turned = symmetry.turned(df)
    there = symmetry.vector(places - (size - 1) / 2) + (torch.tensor(turned.shape[1:3]) - 1) / 2
    one, other = view(model, df, places=places), view(model, turned, places=there)
    torch.testing.assert_close(symmetry.turned(one.image[None])[0], other.image, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.answers.elements, other.answers.elements, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.answers.bonds, other.answers.bonds, rtol=1e-4, atol=1e-5)
    shift = torch.cat([symmetry.vector(one.answers.shift[:, :2]), one.answers.shift[:, 2:]], 1)
    torch.testing.assert_close(shift, other.answers.shift, rtol=1e-4, atol=1e-5)
    across = [1, 0, 2] if symmetry.turns % 2 else [0, 1, 2]
    torch.testing.assert_close(one.answers.log_variance[:, across], other.answers.log_variance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("x", "y"), [(1, 0), (5, 7), (8, 3)])
def test_a_molecule_elsewhere_in_the_window_gives_the_same_answer(model, x, y):
    wide = torch.zeros(1, 168, 168, 10)
    wide[:, 72:96, 72:96] = stack(24, 24)
    places, moved = PLACES + 68, torch.tensor([x, y])
    here = view(model, wide[:, 4:148, 4:148], places=places)
    there = view(model, wide[:, 4 + x : 148 + x, 4 + y : 148 + y], places=places - moved)
    part = there.image[60 - x : 100 - x, 60 - y : 100 - y]
    torch.testing.assert_close(here.image[60:100, 60:100], part, rtol=1e-4, atol=1e-5)
    for said, again in zip(here.answers, there.answers, strict=True):
        torch.testing.assert_close(said, again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("places", [PLACES, PLACES[:0]])
def test_looks_taken_together_are_those_taken_one_by_one(model, places, monkeypatch):
    together = view(model, stack(), places=places)
    monkeypatch.setattr(parallel, "AT_ONCE", 1)
    alone = view(model, stack(), places=places)
    torch.testing.assert_close(together.image, alone.image)
    assert len(alone.answers.exists) == len(places)
    for one, other in zip(together.answers, alone.answers, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_without_averaging_one_look_is_taken(model):
    one, eight = view(model, stack(), average=False, places=PLACES), view(model, stack(), places=PLACES)
    assert one.image.shape == eight.image.shape == (40, 56)
    assert not torch.allclose(one.answers.elements, eight.answers.elements)


def test_a_graph_stands_in_the_frame_of_the_scan(model):
    seen = view(model, stack(), places=PLACES)
    zero = seen._replace(answers=seen.answers._replace(shift=torch.tensor([[0.1, -0.2, -0.5]] * 3)))
    graph = graph_of(zero, 3 + 0.125 * np.arange(40), -7 + 0.125 * np.arange(56), Temperatures())
    np.testing.assert_allclose(graph.positions[0], [3 + 1.25 + 0.1, -7 + 1.5 - 0.2, -0.5], atol=1e-6)
    assert graph.elements.shape == (3, len(ELEMENTS))
    assert graph.bonds.shape == (3, 3, len(ORDERS))
    for probabilities in (graph.elements, graph.bonds, graph.missing):
        np.testing.assert_allclose(probabilities.sum(-1), 1)
    np.testing.assert_array_equal(graph.bonds, graph.bonds.swapaxes(0, 1))
    assert (graph.bonds[range(3), range(3), 0] == 1).all()


def test_a_higher_temperature_makes_less_sure_and_does_not_change_the_order(model):
    seen, axes = view(model, stack(), places=PLACES), (np.arange(40.0), np.arange(56.0))
    plain, hot = (graph_of(seen, *axes, replace(Temperatures(), elements=t)) for t in (1.0, 3.0))
    assert (hot.elements.max(1) < plain.elements.max(1)).all()
    assert (hot.elements.argsort(1) == plain.elements.argsort(1)).all()
    np.testing.assert_array_equal(hot.exists, plain.exists)


def test_looks_that_differ_make_less_sure_of_the_place(model):
    df = stack(48, 48)
    alike = torch.stack([symmetry.turned(df)[0] for symmetry in SYMMETRIES]).mean(0)[None]  # every look is the same
    centre = torch.tensor([[23.5, 23.5]])
    same, different = (view(model, stacks, places=centre).answers for stacks in (alike, df))
    one = view(model, alike, average=False, places=centre).answers
    torch.testing.assert_close(same.shift[:, :2], torch.zeros(1, 2), atol=1e-4, rtol=0)
    within = one.log_variance.exp()[0, 2]  # of z, which all looks say alike
    torch.testing.assert_close(same.log_variance.exp()[0, 2], within, rtol=1e-3, atol=1e-6)
    assert different.log_variance.exp().isfinite().all()
    assert same.log_variance.exp()[0, 0] > one.log_variance.exp()[0, :2].min()  # of x, of which the turned ones differ


@pytest.mark.parametrize("text", ['{"bonds": 0}', '{"bonds": -1}', '{"bonds": NaN}', '{"sigma": 1e9}'])
def test_temperatures_that_no_fit_gives_are_refused(text):
    with pytest.raises(ValueError, match="a temperature lies in"):
        Temperatures.from_json(text)


def test_temperatures_survive_json():
    temperatures = Temperatures(1.5, 2.0, 0.5, 0.9, 1.1)
    assert Temperatures.from_json(temperatures.to_json()) == temperatures
    with pytest.raises(TypeError):
        Temperatures.from_json('{"heat": 1}')
