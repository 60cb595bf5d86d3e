"""Training runs in the small, and what networks begin with."""

import json
from dataclasses import asdict

import pytest
import torch

from afmid import Molecule, Trainer
from afmid.data.feed import open_feed
from afmid.data.pack import concatenate
from afmid.errors import UsageError, WeightsError
from afmid.plugins import installed, parse_options
from afmid.training import fit
from afmid.weights import read_safetensors, save_safetensors
from afmid_graphgen.model import GraphNet
from afmid_soap import recipe as recipes
from afmid_soap.model import Config, SoapNet
from afmid_soap.networks import build
from afmid_soap.options import SoapRecipe
from afmid_soap.recipe import begin_with, load

TINY = Config(stem=8, widths=(8, 16), atom=16, pair=12, rounds=1, more=1)
SMALL = {
    "simulation": {"pixels": 32, "size": 4.0},
    "batch": 3, "validation_scans": 4, "steps": 20, "validate_every": 10, "warmup": 5, "average": 0.8,
}  # fmt: skip
TRAINER = installed(("soap",)).get(Trainer, "soap")


@pytest.fixture(scope="module")
def pack():
    """Water, formaldehyde and chloromethane, roughly, in both splits."""
    bent = [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]
    water = Molecule([8, 1, 1], bent, [-0.8, 0.4, 0.4], [[0, 1], [0, 2]])
    planar = [[0, 0, 0], [1.2, 0, 0], [-0.6, 0.9, 0], [-0.6, -0.9, 0]]
    formaldehyde = Molecule([6, 8, 1, 1], planar, [0.4, -0.4, 0, 0], [[0, 1], [0, 2], [0, 3]], [2, 1, 1])
    chloride = Molecule([6, 17], [[0, 0, 0], [1.78, 0, 0]], [0.2, -0.2], [[0, 1]])
    return concatenate([[water], [formaldehyde], [chloride], [water]], [""] * 4, ["train", "train", "val", "val"], {})


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(recipes, "SoapNet", lambda config: SoapNet(Config(**{**asdict(TINY), "soap": config.soap})))


def run(recipe, pack, folder):
    task = load(recipe, "cpu")
    if recipe.architecture == "soap":
        torch.nn.init.normal_(task.model.peaks.weight)  # so that there are peaks from the start
    feed = open_feed(pack, recipe, task.maps, "cpu", installed(()))
    return task, [step.validation for step in fit(task, feed, recipe, folder) if step.validation]


RUNS = {
    "soap": {},
    "soap without spectra": {"spectra": "none"},
    "paper": {"architecture": "paper", "optimizer": "muon", "norm": True, "residual": True},
    "paper, predicted": {"architecture": "paper", "optimizer": "muon", "spectra": "predicted"},
    "predictor": {"architecture": "predictor", "n_max": 2, "l_max": 1, "steps": 60, "validate_every": 30,
                  "simulation": {"pixels": 16, "size": 2.0}},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_lowers_the_loss_and_its_weights_make_the_network_again(name, pack, tmp_path):
    task, rows = run(SoapRecipe(**{**SMALL, **RUNS[name]}), pack, tmp_path)
    assert rows[-1]["loss"] < rows[0]["loss"]
    tensors, metadata = read_safetensors(tmp_path / "best.safetensors", "soap")
    again = build(metadata["architecture"], metadata["config"])
    again.load_state_dict(tensors)
    assert type(again) is type(task.model)
    assert len([*(tmp_path / "pictures").iterdir()]) == 2


def test_the_predictor_of_a_paper_learns_along(pack, tmp_path):
    recipe = SoapRecipe(**{**SMALL, **RUNS["paper, predicted"]})
    before = {name: value.clone() for name, value in load(recipe, "cpu").model.named_parameters()}
    task, _ = run(recipe, pack, tmp_path)
    changed = {name for name, value in task.model.named_parameters() if not torch.equal(value, before[name])}
    assert any(name.startswith("graph.predictor.") for name in changed)


def test_the_bond_head_alone_can_be_trained(pack, tmp_path):
    recipe = SoapRecipe(**{**SMALL, "architecture": "paper", "only_bonds": True})
    before = {name: value.clone() for name, value in load(recipe, "cpu").model.named_parameters()}
    task, _ = run(recipe, pack, tmp_path)
    changed = {name for name, value in task.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("graph.bond_head.")}


def graphgen_weights(path, config=TINY):
    network = GraphNet(config)
    metadata = {"method": "graphgen", "architecture": "parallel", "config": json.dumps(asdict(config))}
    save_safetensors(network.state_dict(), metadata, path)
    return network


def test_it_begins_with_the_weights_of_graphgen(tmp_path):
    path = tmp_path / "g.safetensors"
    graphgen = graphgen_weights(path)
    task = load(SoapRecipe(**SMALL, graphgen=str(path)), "cpu")
    for name, value in graphgen.state_dict().items():
        torch.testing.assert_close(task.model.state_dict()[name], value)


@pytest.mark.parametrize("other", [{"atom": 20, "pair": 12, "rounds": 1}, {"atom": 16, "pair": 12, "rounds": 0}])
def test_weights_of_other_sizes_are_refused(other, tmp_path):
    path = tmp_path / "g.safetensors"
    graphgen_weights(path, Config(stem=8, widths=(8, 16), **other))
    with pytest.raises(WeightsError, match="does not fit the soap network"):
        begin_with(SoapNet(TINY), path)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "g.safetensors"
    save_safetensors({}, {"method": "graphgen", "architecture": "paper"}, path)
    with pytest.raises(WeightsError, match="paper"):
        begin_with(SoapNet(TINY), path)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (["norm=true"], "norm: soap has none; paper has"),
        (["architecture=paper", "graphgen=g.safetensors"], "graphgen: paper has none; soap has"),
        (["architecture=paper", "n_max=4"], "n_max: paper has none; predictor has"),
        (["architecture=predictor", "spectra=none"], "spectra: predictor has none; soap and paper have"),
        (["spectra=predicted"], "soap computes them"),
        (["architecture=paper", "spectra=none", "here=true"], "here: tells a spectrum"),
        (["second=Xe"], "looks at one tip"),
        (["l_max=7"], "l_max"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_words(pairs, reason):
    with pytest.raises(UsageError, match=reason):
        parse_options(TRAINER, pairs)


def test_an_architecture_brings_its_defaults():
    assert parse_options(TRAINER, ["architecture=predictor"]).simulation.pixels == 16
    assert parse_options(TRAINER, ["architecture=paper"]).optimizer == "adamw"
