"""A training run in the small, and what its network begins with."""

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
from afmid_graphgen import recipe as recipes
from afmid_graphgen.model import Config, GraphNet
from afmid_graphgen.options import GraphgenRecipe
from afmid_graphgen.parallel import Temperatures
from afmid_graphgen.recipe import GUESSED, ParallelTask, begin_with, load, losses, say

TINY = Config(stem=8, widths=(8, 16), atom=16, pair=12, rounds=1)
SMALL = {
    "simulation": {"pixels": 32, "size": 4.0},
    "batch": 3, "validation_scans": 4, "steps": 30, "validate_every": 15, "warmup": 5, "average": 0.8,
}  # fmt: skip
RECIPE = GraphgenRecipe(**SMALL)
TRAINER = installed(("graphgen",)).get(Trainer, "graphgen")


@pytest.fixture(scope="module")
def pack():
    """Water, formaldehyde and chloromethane, roughly, in both splits."""
    bent = [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]
    water = Molecule([8, 1, 1], bent, [-0.8, 0.4, 0.4], [[0, 1], [0, 2]])
    planar = [[0, 0, 0], [1.2, 0, 0], [-0.6, 0.9, 0], [-0.6, -0.9, 0]]
    formaldehyde = Molecule([6, 8, 1, 1], planar, [0.4, -0.4, 0, 0], [[0, 1], [0, 2], [0, 3]], [2, 1, 1])
    chloride = Molecule([6, 17], [[0, 0, 0], [1.78, 0, 0]], [0.2, -0.2], [[0, 1]])
    return concatenate([[water], [formaldehyde], [chloride], [water]], [""] * 4, ["train", "train", "val", "val"], {})


@pytest.fixture
def task(monkeypatch):
    monkeypatch.setattr(recipes, "GraphNet", lambda: GraphNet(TINY))
    return load(RECIPE, "cpu")


def feed_of(task, pack, recipe=RECIPE):
    return open_feed(pack, recipe, task.maps, "cpu", installed(()))


def test_a_run_lowers_the_loss_and_tells_how_right_the_atoms_are(task, pack, tmp_path):
    for weights in (task.model.peaks.weight, task.model.peaks.bias):
        torch.nn.init.normal_(weights)  # so that there are peaks from the start
    rows = [step.validation for step in fit(task, feed_of(task, pack), RECIPE, tmp_path) if step.validation]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"loss_image", "recall_visible"} <= rows[-1].keys()
    assert (tmp_path / "best.safetensors").exists()
    assert len([*(tmp_path / "pictures").iterdir()]) == 2


def test_what_is_said_of_a_given_image_is_said_of_the_true_atoms(task, pack):
    batch = feed_of(task, pack).batch(0)
    said = say(task.model, batch, given=1.0)
    seen = [batch.molecule(i).topmost_at_zero().positions for i in range(3)]
    assert said.truth.exists.all()
    assert len(said.found) >= 3
    assert len(said.found) <= sum(map(len, seen))
    parts = losses(said, batch)
    assert {"image", "exists", "elements", "missing", "places", "bonds"} == parts.keys()
    assert all(value.isfinite() for value in parts.values())


def test_a_network_that_finds_nothing_is_kept_only_until_one_finds_something(task, pack):
    batches = feed_of(task, pack).validation()
    silent = task.validate(task.model, batches)
    assert silent["loss"] == pytest.approx(silent["loss_image"] + sum(v for k, v in GUESSED.items() if k != "image"))
    torch.nn.init.normal_(task.model.peaks.bias, mean=3)
    torch.nn.init.normal_(task.model.peaks.weight)
    said = task.validate(task.model, batches)
    assert {name: said[f"loss_{name}"] != guess for name, guess in GUESSED.items()} == dict.fromkeys(GUESSED, True)


def test_where_nothing_is_found_the_image_alone_is_learnt(task, pack):
    batch = feed_of(task, pack).batch(0)
    assert losses(say(task.model, batch), batch).keys() == {"image"}  # a fresh network shows no peak
    task.loss(task.model, batch).backward()


def test_a_perfect_answer_costs_less_than_any_other(task, pack):
    batch = feed_of(task, pack).batch(0)
    said = say(task.model, batch, given=1.0)
    answers, truth = said.answers, said.truth
    sure = 20 * torch.nn.functional.one_hot(truth.elements, answers.elements.shape[1]).float()
    right = answers._replace(elements=sure, exists=torch.full_like(answers.exists, 20.0))
    before, after = (losses(said._replace(answers=a), batch) for a in (answers, right))
    assert after["elements"] < before["elements"]
    assert after["elements"] < 1e-3
    assert after["exists"] < 1e-3


def test_the_weights_file_names_all_that_is_needed_to_read_it(task, pack):
    torch.nn.init.normal_(task.model.peaks.bias, mean=3)  # so that there are peaks, whose confidence can be settled
    torch.nn.init.normal_(task.model.peaks.weight)
    told = task.metadata(task.model, feed_of(task, pack).validation())
    assert (told["method"], told["architecture"]) == ("graphgen", "parallel")
    assert Config.from_json(told["config"]) == TINY
    assert Temperatures.from_json(told["temperatures"]) != Temperatures()


def test_the_network_begins_with_the_descriptors_unet_and_peaks(tmp_path, awake):
    donor, network = awake(GraphNet(TINY)), GraphNet(TINY)
    last = {"last.weight": torch.randn(8, 8, 3, 3), "last.bias": torch.randn(8)}
    tensors = {name: t for name, t in donor.state_dict().items() if not name.startswith(("peaks", "atom", "pair"))}
    metadata = {"method": "descriptor", "architecture": "unet", "config": json.dumps({"names": ["disks", "peaks"]})}
    save_safetensors({**tensors, **last}, metadata, tmp_path / "d.safetensors")
    begin_with(network, tmp_path / "d.safetensors")
    assert torch.equal(network.encoder[0][0].convs[0].weight, donor.encoder[0][0].convs[0].weight)
    assert torch.equal(network.peaks.bias, last["last.bias"][4:])
    save_safetensors(tensors, {**metadata, "architecture": "paper"}, tmp_path / "p.safetensors")
    with pytest.raises(WeightsError, match="architecture"):
        begin_with(network, tmp_path / "p.safetensors")
    save_safetensors(tensors, metadata, tmp_path / "n.safetensors")  # without the image
    with pytest.raises(WeightsError, match=r"does not fit the graphgen network: 'last\.weight'"):
        begin_with(network, tmp_path / "n.safetensors")


def test_weights_tell_the_name_of_the_file_they_began_with_and_not_its_folder(task, pack, tmp_path):
    recipe = RECIPE.model_copy(update={"unet": str(tmp_path / "secret" / "d.safetensors"), "steps": 1})
    list(fit(task, feed_of(task, pack), recipe, tmp_path / "run"))
    _, metadata = read_safetensors(tmp_path / "run" / "best.safetensors", "graphgen")
    assert json.loads(metadata["recipe"])["unet"] == "d.safetensors"
    assert "secret" not in str(metadata)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["simulation.tip=Xe"], "simulation.tip is Xe; the networks are made for CO"),
        (["simulation.pixels=100"], "made for pixels of 0.125 Å"),
        (["architecture=paper", "unet=some.safetensors"], "unet: paper has none"),
        (["second=Xe"], "second: parallel looks at one tip"),
        (["architecture=wide"], "architecture"),
        (["ordering=y"], "ordering: parallel has none; paper and resimulate have"),
        (["architecture=resimulate", "sigma=0.3"], "sigma: resimulate has none; paper has"),
    ],
)
def test_a_recipe_that_no_network_fits_is_refused_in_words(pairs, message):
    with pytest.raises(UsageError, match=message):
        parse_options(TRAINER, pairs)


def test_the_published_networks_bring_their_published_settings():
    recipe = parse_options(TRAINER, ["architecture=paper"])
    assert (recipe.batch, recipe.learning_rate, recipe.optimizer, recipe.simulation.size) == (32, 1e-3, "adamw", 16)
    assert parse_options(TRAINER, ["architecture=paper", "batch=4"]).batch == 4


def test_the_default_network_is_of_the_default_size():
    assert asdict(ParallelTask(RECIPE, "cpu").model.config) == asdict(Config())
