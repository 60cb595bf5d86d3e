"""What each network sees in a scan, and that its weights files make it again."""

import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch

from afmid import Scan
from afmid.data.augment import normalised
from afmid.networks.file import read_network
from afmid.networks.stack import padded, prepare
from afmid.weights import save_safetensors
from afmid_graphgen import Options, resimulate
from afmid_graphgen.graph import ELEMENTS, ORDERS
from afmid_graphgen.method import GraphgenMethod
from afmid_graphgen.model import Config
from afmid_graphgen.networks import build, look
from afmid_graphgen.paper import Config as PaperConfig
from afmid_graphgen.parallel import Temperatures
from afmid_graphgen.resimulate import Config as ResimulateConfig

PIXEL = 0.125  # Å
CONFIGS = {
    "parallel": Config(stem=8, widths=(8, 16), atom=16, pair=12, rounds=1),
    "paper": PaperConfig(channels=(2, 3, 4, 5)),
    "resimulate": ResimulateConfig(encoder=(2, 3, 4, 5), pixels=(4, 5, 6, 7)),
}


def scan():
    """Return a scan of noise, whose pixels are no multiple of anything."""
    df = np.random.default_rng(0).normal(size=(41, 57, 10))
    return Scan(df=df, x=3 + PIXEL * np.arange(41), y=PIXEL * np.arange(57), z=3 + 0.1 * np.arange(10)[::-1])


def untrained(architecture):
    """Return a small network that sees atoms everywhere, or adds them until it is stopped."""
    torch.manual_seed(0)
    network = build(architecture, json.dumps(asdict(CONFIGS[architecture])))
    with torch.no_grad():
        if architecture == "parallel":
            network.peaks.weight.normal_()
        elif architecture == "paper":
            grid, _ = network(normalised(padded(prepare(scan()).df, 8)))
            head = network.grid.head.conv  # after which the grid is of zero mean and unit spread
            head.weight.div_(grid.std())
            head.bias.sub_(grid.mean()).div_(grid.std())
        else:
            network.classes[-1].bias[0] = -20.0
    return network.eval()


@pytest.fixture(scope="module", params=CONFIGS)
def architecture(request):
    return request.param


@pytest.fixture(scope="module")
def network(architecture):
    return untrained(architecture)


@pytest.fixture(autouse=True)
def _few_atoms(monkeypatch):
    monkeypatch.setattr(resimulate, "generate", partial(resimulate.generate, most=4))


def test_the_graph_lies_inside_the_scan_and_is_the_same_twice(network, architecture):
    stack = prepare(scan())
    first, again = (look(network, stack, average=False, temperatures=Temperatures()) for _ in range(2))
    graph = first.graph
    assert len(graph) > 0
    for name in ("positions", "exists", "elements", "bonds", "missing"):
        assert np.isfinite(getattr(graph, name)).all()
        np.testing.assert_array_equal(getattr(graph, name), getattr(again.graph, name))
    assert graph.elements.shape == (len(graph), len(ELEMENTS))
    assert graph.bonds.shape == (len(graph), len(graph), len(ORDERS))
    assert first.meta == again.meta
    for along, axis in zip(graph.positions.T, (stack.x, stack.y), strict=False):
        reach = PIXEL / 2 if architecture != "parallel" else 1.0  # whose atoms may lie beside their peaks
        assert axis[0] - reach <= along.min()
        assert along.max() <= axis[-1] + reach
    if architecture != "parallel":  # of which only the differences of depth count
        assert graph.positions[:, 2].max() <= 0


def test_weights_files_make_the_network_again_and_it_identifies(network, architecture, tmp_path):
    path = tmp_path / "w.safetensors"
    metadata = {"method": "graphgen", "architecture": architecture, "config": json.dumps(asdict(network.config))}
    save_safetensors(network.state_dict(), metadata, path)
    read, _ = read_network(path, "graphgen", build)
    assert read.config == network.config
    answers = [GraphgenMethod(each).identify([scan()], Options(average=False)) for each in (network, read)]
    first, again = ([(atom.element, atom.x, atom.y, atom.z) for atom in answer.atoms] for answer in answers)
    assert first == again
    assert all(np.isfinite(place).all() and place[2] <= 0 for _, *place in first)
    assert answers[0].meta == answers[1].meta


def test_an_unknown_architecture_is_refused_in_words():
    with pytest.raises(ValueError, match="no network 'transformer'; there are: parallel, paper, resimulate"):
        build("transformer")
