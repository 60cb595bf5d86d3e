"""A training run in the small: scans made on the fly, learnt from, and the weights read back."""

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch

from afmid import DataError, Trainer
from afmid.data.pack import concatenate
from afmid.errors import UsageError
from afmid.molecule import Molecule
from afmid.plugins import installed, parse_options
from afmid.training import fit
from afmid.weights import read_safetensors
from afmid_descriptor.model import BRANCHES, HEIGHTS, STRIDE, DescriptorCNN
from afmid_descriptor.options import GRID, MULTIPLE, DescriptorRecipe
from afmid_descriptor.recipe import Batch, DescriptorTask, load
from afmid_descriptor.stack import PIXEL, STEP

SMALL = {
    "simulation": {"pixels": 32, "size": 4.0}, "ranges": {"offset": 0.5},
    "batch": 3, "validation_scans": 4, "steps": 40, "validate_every": 20, "warmup": 5, "compile": False,
}  # fmt: skip
RECIPE = DescriptorRecipe(**SMALL)


@pytest.fixture(scope="module")
def pack():
    """Water, formaldehyde and chloromethane, roughly, in both splits."""
    water = Molecule(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0.0]]))
    planar = np.array([[0, 0, 0], [1.2, 0, 0], [-0.6, 0.9, 0], [-0.6, -0.9, 0.0]])
    formaldehyde = Molecule(np.array([6, 8, 1, 1]), planar)
    chloride = Molecule(np.array([6, 17]), np.array([[0, 0, 0], [1.78, 0, 0.0]]))
    return concatenate([[water], [formaldehyde], [chloride], [water]], [""] * 4, ["train", "train", "val", "val"], {})


def test_a_batch_is_normalised_aligned_and_depends_on_the_step_alone(pack):
    task = load(RECIPE, pack, "cpu")
    batch, again = task.batch(3), load(RECIPE, pack, "cpu").batch(3)
    assert batch.df.shape == (3, 32, 32, 10)
    assert batch.maps.shape == (3, len(BRANCHES), 32, 32)
    assert torch.equal(batch.df, again.df)
    assert torch.equal(batch.maps, again.maps)
    assert not torch.equal(batch.df, task.batch(4).df)
    clean = load(DescriptorRecipe(**{**SMALL, "cut": 0}), pack, "cpu").batch(0).df
    torch.testing.assert_close(clean.mean((1, 2)), torch.zeros(3, 10), atol=1e-5, rtol=0)
    torch.testing.assert_close(clean.square().mean((1, 2)), torch.ones(3, 10), atol=1e-4, rtol=0)


def test_missing_images_are_the_farthest_repeated(pack):
    quiet = {**SMALL, "noise": 0, "drifted": 0, "cut": 0}
    whole = load(DescriptorRecipe(**quiet, fewer=0), pack, "cpu").batch(1).df
    fewer = load(DescriptorRecipe(**quiet, fewer=1, fewest=9), pack, "cpu").batch(1).df
    torch.testing.assert_close(fewer[..., 0], fewer[..., 1])
    assert not torch.allclose(whole[..., 0], whole[..., 1], atol=1e-4)


def test_validation_scans_are_never_trained_on(pack):
    task = load(RECIPE, pack, "cpu")
    assert not set(task.train) & set(task.val)
    assert sum(len(batch.df) for batch in task._validation) == 4


def test_the_loss_is_the_published_one():
    prediction, truth = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    disks, spheres, height = (prediction - truth).square().mean((0, 2, 3))
    loss = DescriptorTask.loss(None, torch.nn.Identity(), Batch(prediction, truth))
    assert loss == pytest.approx(float(20 * disks + 0.2 * spheres + 0.1 * height))


def test_forty_steps_learn_something_and_the_weights_say_what_they_are(pack, tmp_path):
    progress = list(fit(load(RECIPE, pack, "cpu"), RECIPE, tmp_path, pack.sha256))
    first = float(np.mean([p.loss for p in progress[:5]]))
    assert np.mean([p.loss for p in progress[-5:]]) < 0.9 * first
    assert set(progress[-1].validation) >= {"loss", "disks_mse", "spheres_correlation"}
    tensors, metadata = read_safetensors(tmp_path / "best.safetensors", method="descriptor")
    DescriptorCNN().load_state_dict(tensors)
    assert json.loads(metadata["recipe"])["simulation"]["pixels"] == 32
    assert (tmp_path / "pictures" / "0000040.png").stat().st_size > 1000


def test_validation_scans_that_settle_no_confidence_leave_it_out(pack):
    task = load(RECIPE, pack, "cpu")  # untrained, it finds no atom
    assert sorted(task.metadata(task.model)) == ["architecture", "config", "method", "version"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_list_without_a_split_is_refused_in_words(pack, split):
    short = replace(pack, split=tuple("test" if name == split else name for name in pack.split))
    with pytest.raises(DataError, match=f"none of the 4 molecules is in the split '{split}', .*--limit"):
        load(RECIPE, short, "cpu")


def test_the_grid_of_the_recipe_is_that_of_the_network():
    assert (GRID.size / GRID.pixels, GRID.step, GRID.heights, MULTIPLE) == (PIXEL, STEP, HEIGHTS, STRIDE)


def test_the_recipe_of_the_shipped_weights_is_still_one():
    shipped = DescriptorRecipe(batch=16, steps=3600, learning_rate=2e-3, validate_every=250, validation_scans=96)
    assert DescriptorRecipe.model_validate_json(shipped.model_dump_json()) == shipped
    (path,) = files("afmid_descriptor").joinpath("weights").glob("*.safetensors")
    _, metadata = read_safetensors(path, method="descriptor")
    assert DescriptorRecipe.model_validate_json(metadata["recipe"]) == shipped


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["simulation.lateral_stiffness=0.3"], "lateral_stiffness is drawn .*; set ranges.stiffness instead"),
        (["simulation.charge=-0.1"], "simulation.charge is drawn anew for each scan; set ranges.charge instead"),
        (["simulation.quadrupole=0"], "set ranges.quadrupole instead"),
        (["simulation.tilt_x=0.1"], "simulation.tilt_x is drawn anew for each scan; set ranges.tilt instead"),
        (["simulation.tilt_y=0.1"], "set ranges.tilt instead"),
        (["simulation.tip=Xe"], "simulation.tip is Xe; the descriptor network is made for CO"),
        (["simulation.step=0.2"], "simulation.step is 0.2; the descriptor network is made for 0.1"),
        (["simulation.heights=3"], "simulation.heights is 3; the descriptor network is made for 10"),
        (["simulation.pixels=64"], "64 pixels over 16 Å; .* of 0.125 Å, a multiple of 8 of them: set .* 8 times"),
        (["simulation.size=4.5", "simulation.pixels=36"], "36 pixels over 4.5 Å; .* a multiple of 8 of them"),
        (["ranges.stiffness=0.5,0.2"], r"ranges.stiffness is \['0.5', '0.2'\]; it should be the lower and the upper"),
        (["fewest=10"], "fewest is '10'; it should be less than or equal to 9"),
    ],
)
def test_what_training_would_not_respect_is_refused_before_it_begins(settings, message):
    with pytest.raises(UsageError, match=f"^descriptor: .*{message}"):
        parse_options(installed(("descriptor",)).get(Trainer, "descriptor"), settings)


def test_a_smaller_window_of_the_same_pixels_is_welcome():
    trainer = installed(("descriptor",)).get(Trainer, "descriptor")
    recipe = parse_options(trainer, ["simulation.size=12", "simulation.pixels=96", "ranges.stiffness=0.2,0.2"])
    assert recipe.simulation.pixels == 96
