"""A training run in the small: scans made on the fly, learnt from, and the weights read back."""

import json

import numpy as np
import pytest
import torch

from afmid.data.pack import concatenate
from afmid.molecule import Molecule
from afmid.training import fit
from afmid.weights import read_safetensors
from afmid_descriptor.model import BRANCHES, DescriptorCNN
from afmid_descriptor.options import DescriptorRecipe
from afmid_descriptor.recipe import VALIDATION, load

SMALL = {
    "simulation": {"pixels": 32, "size": 8.0},
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
    assert VALIDATION > 10**9
    task = load(RECIPE, pack, "cpu")
    assert not set(task.train) & set(task.val)
    assert sum(len(batch.df) for batch in task._validation) == 4


def test_the_loss_is_the_published_one():
    model = torch.nn.Identity()
    prediction, truth = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    task = load.__globals__["DescriptorTask"]
    batch = load.__globals__["Batch"](prediction, truth)
    disks, spheres, height = (prediction - truth).square().mean((0, 2, 3))
    assert task.loss(None, model, batch) == pytest.approx(float(20 * disks + 0.2 * spheres + 0.1 * height))


def test_forty_steps_learn_something_and_the_weights_say_what_they_are(pack, tmp_path):
    progress = list(fit(load(RECIPE, pack, "cpu"), RECIPE, tmp_path, pack.sha256))
    first = float(np.mean([p.loss for p in progress[:5]]))
    assert np.mean([p.loss for p in progress[-5:]]) < 0.9 * first
    assert set(progress[-1].validation) >= {"loss", "disks_mse", "spheres_correlation"}
    tensors, metadata = read_safetensors(tmp_path / "best.safetensors", method="descriptor")
    DescriptorCNN().load_state_dict(tensors)
    assert json.loads(metadata["recipe"])["simulation"]["pixels"] == 32
    assert (tmp_path / "pictures" / "0000040.png").stat().st_size > 1000
