"""A training run in the small: scans made on the fly, learnt from, and the weights read back."""

import json
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from afmid import Trainer
from afmid.data.feed import open_feed
from afmid.data.pack import concatenate
from afmid.errors import UsageError
from afmid.molecule import Molecule
from afmid.plugins import installed, parse_options
from afmid.recipe import Step, augmentations
from afmid.training import fit
from afmid.weights import read_safetensors
from afmid_descriptor.model import BRANCHES, HEIGHTS, STRIDE, DescriptorCNN
from afmid_descriptor.options import GRID, MULTIPLE, DescriptorRecipe
from afmid_descriptor.recipe import DescriptorTask, load
from afmid_descriptor.stack import PIXEL, STEP, fill_heights

SMALL = {
    "simulation": {"pixels": 32, "size": 4.0},
    "batch": 3, "validation_scans": 4, "steps": 40, "validate_every": 20, "warmup": 5,
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


def feed_of(recipe, pack):
    return open_feed(pack, recipe, load(recipe, "cpu").maps, "cpu", installed(()))


def test_a_batch_is_normalised_and_its_maps_are_those_of_its_atoms(pack):
    clean = DescriptorRecipe(**{**SMALL, "augment": augmentations("flip", "normalise")})
    batch = feed_of(clean, pack).batch(3)
    assert batch.df.shape == (3, 32, 32, HEIGHTS)
    torch.testing.assert_close(batch.df.mean((1, 2)), torch.zeros(3, 10), atol=1e-5, rtol=0)
    torch.testing.assert_close(batch.df.square().mean((1, 2)), torch.ones(3, 10), atol=1e-4, rtol=0)
    torch.testing.assert_close(batch.maps, load(clean, "cpu").maps(batch), atol=1e-3, rtol=0)
    assert batch.maps.shape == (3, len(BRANCHES), 32, 32)


def test_missing_images_are_the_farthest_repeated_as_they_are_when_identifying(pack):
    missing = Step(name="missing-heights", options={"fill": "repeat", "fewest": 4})
    df = feed_of(DescriptorRecipe(**{**SMALL, "batch": 12, "augment": (missing,)}), pack).batch(1).df
    kept = [HEIGHTS - int((stack == stack[..., :1]).all((0, 1)).sum()) + 1 for stack in df]
    assert len(set(kept)) > 1
    assert all(4 <= number <= HEIGHTS for number in kept)
    for stack, number in zip(df, kept, strict=True):
        torch.testing.assert_close(fill_heights(stack[None, ..., HEIGHTS - number :])[0], stack)


def test_the_loss_is_the_published_one():
    prediction, truth = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    disks, spheres, height = (prediction - truth).square().mean((0, 2, 3))
    loss = DescriptorTask.loss(None, torch.nn.Identity(), SimpleNamespace(df=prediction, maps=truth))
    assert loss == pytest.approx(float(20 * disks + 0.2 * spheres + 0.1 * height))


def test_forty_steps_learn_something_and_the_weights_say_what_they_are(pack, tmp_path):
    progress = list(fit(load(RECIPE, "cpu"), feed_of(RECIPE, pack), RECIPE, tmp_path))
    first = float(np.mean([p.loss for p in progress[:5]]))
    assert np.mean([p.loss for p in progress[-5:]]) < 0.9 * first
    assert set(progress[-1].validation) >= {"loss", "disks_mse", "spheres_correlation"}
    tensors, metadata = read_safetensors(tmp_path / "best.safetensors", method="descriptor")
    DescriptorCNN().load_state_dict(tensors)
    assert json.loads(metadata["recipe"])["simulation"]["pixels"] == 32
    assert (tmp_path / "pictures" / "0000040.png").stat().st_size > 1000


def test_validation_scans_that_settle_no_confidence_leave_it_out(pack):
    task = load(RECIPE, "cpu")  # untrained, it finds no atom
    told = task.metadata(task.model, feed_of(RECIPE, pack).validation())
    assert sorted(told) == ["architecture", "config", "method", "version"]


def test_the_grid_of_the_recipe_is_that_of_the_network():
    assert (GRID.size / GRID.pixels, GRID.step, GRID.heights, MULTIPLE) == (PIXEL, STEP, HEIGHTS, STRIDE)


def test_the_recipe_of_the_shipped_weights_is_still_one():
    shipped = DescriptorRecipe(
        start="descriptor.safetensors", batch=16, steps=1800, learning_rate=1e-3, warmup=50, validate_every=150,
        validation_scans=96, average=0.995, reuse=3,
    )  # fmt: skip
    assert DescriptorRecipe.model_validate_json(shipped.model_dump_json()) == shipped
    (path,) = files("afmid_descriptor").joinpath("weights").glob("*.safetensors")
    _, metadata = read_safetensors(path, method="descriptor")
    assert DescriptorRecipe.model_validate_json(metadata["recipe"]) == shipped


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["simulation.charge=-0.1"], "simulation.charge is drawn anew for each scan; set scenes.charge instead"),
        (["simulation.tip=Xe"], "simulation.tip is Xe; the descriptor network is made for CO"),
        (["simulation.step=0.2"], "simulation.step is 0.2; the descriptor network is made for 0.1"),
        (["simulation.heights=3"], "simulation.heights is 3; the descriptor network is made for 10"),
        (["simulation.pixels=64"], "64 pixels over 16 Å; .* of 0.125 Å, a multiple of 8 of them: set .* 8 times"),
        (["simulation.size=4.5", "simulation.pixels=36"], "36 pixels over 4.5 Å; .* a multiple of 8 of them"),
        (["scenes.stiffness=0.5,0.2"], r"scenes.stiffness is \['0.5', '0.2'\]; it should be the lower and the upper"),
    ],
)
def test_what_training_would_not_respect_is_refused_before_it_begins(settings, message):
    with pytest.raises(UsageError, match=f"^descriptor: .*{message}"):
        parse_options(installed(("descriptor",)).get(Trainer, "descriptor"), settings)


def test_a_smaller_window_of_the_same_pixels_is_welcome():
    trainer = installed(("descriptor",)).get(Trainer, "descriptor")
    recipe = parse_options(trainer, ["simulation.size=12", "simulation.pixels=96", "scenes.stiffness=0.2,0.2"])
    assert recipe.simulation.pixels == 96
