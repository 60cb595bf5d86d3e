"""The batches of a training run, from a small pack and from stored scans."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from afmid import hookimpl
from afmid.data.examples import Examples
from afmid.data.feed import Feed, open_feed
from afmid.data.pack import MoleculePack, concatenate
from afmid.data.scan_set import open_scans
from afmid.errors import DataError, UsageError
from afmid.io import read_scan, write_scan
from afmid.molecule import Molecule
from afmid.plugins import installed
from afmid.recipe import Recipe, Step, augmentations
from afmid.simulate import SimulationOptions, load_engine, simulate
from afmid.training import fit

WATER = Molecule(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0.0]]), smiles="O")
FORMALDEHYDE = Molecule(
    np.array([6, 8, 1, 1]), np.array([[0, 0, 0], [1.2, 0, 0], [-0.6, 0.9, 0], [-0.6, -0.9, 0.0]]), smiles="C=O"
)
CHLORIDE = Molecule(np.array([6, 17]), np.array([[0, 0, 0], [1.78, 0, 0.0]]), smiles="Cl")
GRID = SimulationOptions(size=4.0, pixels=16, heights=4)
RECIPE = Recipe(batch=6, validation_scans=8, simulation=GRID, seed=3)


@pytest.fixture(scope="module")
def pack() -> MoleculePack:
    return concatenate([[WATER], [FORMALDEHYDE], [CHLORIDE]], [""] * 3, ["train", "train", "val"], {})


def dots(examples: Examples) -> torch.Tensor:
    """Return an image (B, 1, X, Y) of a soft dot for each atom."""
    dx = examples.x[:, :, None] - examples.positions[:, None, :, 0]
    dy = examples.y[:, :, None] - examples.positions[:, None, :, 1]
    bumps = torch.exp(-2 * (dx[:, :, None] ** 2 + dy[:, None] ** 2)) * examples.atoms[:, None, None]
    return bumps.sum(-1)[:, None]


def feed(data, recipe: Recipe = RECIPE, **more) -> Feed:
    return open_feed(data, recipe, dots, "cpu", installed(()), **more)


def same(a: Examples, b: Examples) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in Examples.__dataclass_fields__)


def test_a_batch_depends_on_the_step_the_seed_and_the_process_alone(pack):
    first, again = feed(pack), feed(pack)
    batch = first.batch(4)
    again.batch(9)
    assert same(batch, again.batch(4))
    assert not torch.equal(batch.df, first.batch(5).df)
    assert not torch.equal(batch.df, feed(pack, RECIPE.model_copy(update={"seed": 4})).batch(4).df)
    other = [feed(pack, rank=rank, world=2).batch(4) for rank in range(2)]
    assert [len(part) for part in other] == [3, 3]
    assert not torch.equal(other[0].df, other[1].df)


def test_a_batch_is_what_the_recipe_says(pack):
    batch = feed(pack).batch(0)
    assert batch.df.shape == (6, 16, 16, 4)
    assert batch.maps.shape == (6, 1, 16, 16)
    assert torch.isfinite(batch.df).all()
    assert torch.equal(batch.z[:, :-1] > batch.z[:, 1:], torch.ones(6, 3, dtype=torch.bool))  # far to near
    tops = torch.where(batch.atoms, batch.positions[..., 2], -torch.inf).amax(1)
    torch.testing.assert_close(tops, torch.zeros(6))


def test_without_augmentation_the_scans_are_those_of_the_simulator_with_their_molecules(pack):
    plain = feed(pack, RECIPE.model_copy(update={"augment": ()})).batch(0)
    for i in range(len(plain)):
        assert sorted(plain.molecule(i).numbers.tolist()) in ([1, 1, 8], [1, 1, 6, 8])
    assert plain.df.abs().mean() > 0.01  # Hz


def test_scans_that_are_used_again_are_made_to_look_measured_anew(pack):
    recipe = RECIPE.model_copy(update={"reuse": 2, "augment": augmentations("flip", "noise")})
    twice = feed(pack, recipe)
    first, second, third = (twice.batch(step) for step in range(3))
    assert torch.equal(first.numbers, second.numbers)
    assert not torch.equal(first.df, second.df)
    assert not torch.equal(second.z, third.z)


def test_maps_and_atoms_go_along_where_a_step_moves_the_pixels(pack):
    recipe = RECIPE.model_copy(update={"augment": augmentations("flip")})
    source = feed(pack, recipe)
    for step in range(4):
        batch = source.batch(step)
        torch.testing.assert_close(batch.maps, dots(batch), atol=1e-4, rtol=0)


def test_a_step_with_a_probability_changes_about_that_share_of_the_scans(pack):
    recipe = RECIPE.model_copy(update={"batch": 60, "augment": ()})
    plain = feed(pack, recipe).batch(0).df
    recipe = recipe.model_copy(update={"augment": augmentations("noise:0.5")})
    changed = (feed(pack, recipe).batch(0).df != plain).flatten(1).any(1)
    assert 15 <= int(changed.sum()) <= 45


def test_the_validation_is_the_same_for_all_processes_and_of_other_molecules(pack):
    parts = feed(pack).validation()
    assert [len(part) for part in parts] == [6, 2]
    again = feed(pack, rank=1, world=2).validation()
    assert all(same(a, b) for a, b in zip(parts, again, strict=True))
    hold_chlorine = [(part.numbers == 17).any(1) for part in parts]
    assert torch.cat(hold_chlorine).float().mean() > 0.8  # the others are water clusters that stand in
    train = feed(pack).batch(0)
    assert not (train.numbers == 17).any()


def test_several_amplitudes_share_a_batch(pack, monkeypatch):
    from afmid.data import feed as module

    drawn = []
    draw = module.draw_amplitude
    monkeypatch.setattr(module, "draw_amplitude", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    feed(pack).batch(0)
    assert len(set(drawn)) == 4
    assert all(0.4 <= amplitude <= 1.4 for amplitude in drawn)


def test_what_cannot_be_fed_is_said(pack):
    with pytest.raises(DataError, match="6 scans cannot be shared by 4 processes"):
        feed(pack, world=4)
    with pytest.raises(UsageError, match="no augmentation 'nois'; did you mean 'noise'"):
        feed(pack, RECIPE.model_copy(update={"augment": augmentations("nois")}))
    with pytest.raises(UsageError, match="levl"):
        feed(pack, RECIPE.model_copy(update={"augment": (Step(name="noise", options={"levl": 1}),)}))
    with pytest.raises(DataError, match="none of the 3 molecules is in the split 'val'"):
        feed(replace(pack, split=("train", "train", "test")))


@pytest.fixture
def stored(tmp_path):
    """Scans in files, of both splits, of which one for training lacks its molecule, and the name of that."""
    options = SimulationOptions(size=6.0, pixels=24, heights=3)
    names = ["C" * i for i in range(1, 61)]  # of which the hash puts some into each split
    scans = list(simulate((replace(FORMALDEHYDE, smiles=name) for name in names), options, load_engine()[1]))
    for name, scan in zip(names, scans, strict=True):
        write_scan(scan, tmp_path / f"{name}.npz")
    whole = open_scans([str(tmp_path)])
    lost = Path(whole.names[whole.of_split("train")[0]])
    write_scan(replace(read_scan(lost), truth=None), tmp_path / lost.name)
    return open_scans([str(tmp_path)]), lost.stem


def test_stored_scans_come_on_the_recipes_grid_without_those_that_do_not_serve(stored, caplog):
    stored, lost = stored
    source = feed(stored, RECIPE.model_copy(update={"augment": ()}))
    batches = [source.batch(step) for step in range(10)]
    assert {tuple(batch.df.shape) for batch in batches} == {(6, 16, 16, 4)}
    for batch in batches:
        torch.testing.assert_close(batch.maps, dots(batch))
    assert source.sha256 == stored.sha256
    assert sum(lost in record.getMessage() for record in caplog.records) == 1
    assert same(batches[2], feed(stored, RECIPE.model_copy(update={"augment": ()})).batch(2))


def test_the_trainer_of_the_page_that_shows_how_learns_from_a_feed(pack, tmp_path):
    page = Path(__file__).parents[2] / "docs" / "howto" / "add-a-method.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    code = next(block for block in blocks if "Trainer" in block)
    found: dict = {"hookimpl": hookimpl}
    exec(code, found)  # noqa: S102 (our own page)
    (trainer,) = found["afmid_train"]()
    recipe = RECIPE.model_copy(update={"steps": 60, "validate_every": 60, "learning_rate": 0.1, "warmup": 1})
    task = trainer.load(recipe, "cpu")
    source = open_feed(pack, recipe, task.maps, "cpu", installed(()))
    progress = list(fit(task, source, recipe, tmp_path))
    assert progress[-1].loss < 0.5 * progress[0].loss
    assert (tmp_path / "best.safetensors").exists()
