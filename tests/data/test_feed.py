"""The batches of a training run, from a small pack and from stored scans."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from afmid.data.examples import Examples
from afmid.data.feed import Feed, open_feed
from afmid.data.pack import MoleculePack, concatenate
from afmid.data.scan_set import open_scans
from afmid.data.scenes import SceneRanges
from afmid.errors import DataError, UsageError
from afmid.io import read_scan, write_scan
from afmid.molecule import Molecule
from afmid.plugins import installed
from afmid.recipe import Recipe, Step, augmentations
from afmid.simulate import TIPS, Scene, SimulationOptions, Tip, load_engine, simulate
from afmid.simulate.scan_simulation import closest_height
from afmid.training import fit
from afmid.units import N_per_m

WATER = Molecule(
    np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]),
    np.array([-0.8, 0.4, 0.4]), smiles="O",
)  # fmt: skip
FORMALDEHYDE = Molecule(
    np.array([6, 8, 1, 1]), np.array([[0, 0, 0], [1.2, 0, 0], [-0.6, 0.9, 0], [-0.6, -0.9, 0]]),
    np.array([0.4, -0.4, 0, 0]), smiles="C=O",
)  # fmt: skip
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
    pairs = [(getattr(a, name), getattr(b, name)) for name in Examples.__dataclass_fields__]
    return all(
        one is other if one is None or other is None else torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
        for one, other in pairs
    )


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
    ranges = SceneRanges(stiffness=(0.3, 0.3), quadrupole=(-0.1, -0.1), charge=(-0.1, -0.1), amplitude=(0.5, 0.5))
    ranges = ranges.model_copy(update={"tilt": 0, "several": 0, "water": 0})
    plain = feed(pack, RECIPE.model_copy(update={"augment": (), "scenes": ranges})).batch(0)
    _, simulator = load_engine()
    tips = [Tip(charge=q, quadrupole=Q, lateral_stiffness=0.3 * N_per_m) for q, Q in ((-0.1, 0.0), (0.0, -0.1))]
    for i in range(len(plain)):
        assert sorted(plain.molecule(i).numbers.tolist()) in ([1, 1, 8], [1, 1, 6, 8])
        x, y, low = (plain.x[i].double().numpy(), plain.y[i].double().numpy(), float(plain.z[i, -1]))
        z = low + 0.1 * np.arange(14)[::-1]
        scenes = [Scene(plain.molecule(i), tip, x, y, z) for tip in tips]
        df = simulator.images(scenes, GRID.weights()).values[..., -GRID.heights :]
        error = (df - plain.df[i]).abs().amax((1, 2, 3)) / plain.df[i].abs().max()
        assert error.min() < 1e-3  # it was either the monopole or the quadrupole
        assert error.max() > 1e-3


def test_a_tilted_tip_shows_a_molecule_where_it_is(pack):
    """The pixels are where the probe rests, and images of a tilted tip lie over those of an upright one."""
    still = {"several": 0.0, "water": 0.0, "clearance": 0.0, "offset": 0.0, "flat": 1.0, "flat_tilt": 0.0}
    settings = {"batch": 24, "augment": (), "simulation": SimulationOptions(size=12, pixels=96, heights=2)}
    frames = []
    for tilt in (0.0, 0.5):
        ranges = SceneRanges(**still, tilt=tilt, quadrupole=(0, 0), charge=(0, 0), stiffness=(0.5, 0.5))
        frames.append(feed(pack, RECIPE.model_copy(update={**settings, "scenes": ranges})).batch(0))
    upright, tilted = frames
    assert torch.equal(upright.positions[..., :2], tilted.positions[..., :2])
    shifts = [_shift(a, b) for a, b in zip(upright.df[..., 0], tilted.df[..., 0], strict=True)]
    assert np.mean(shifts) < 0.2  # Å; 0.33 on average lies the probe off the tip's base


def _shift(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return by how far images (X, Y) are displaced, Å, from the maximum of their cross-correlation."""
    product = torch.fft.fft2(first - first.mean()).conj() * torch.fft.fft2(second - second.mean())
    peak = int(torch.fft.ifft2(product).real.argmax())
    n = len(first)
    i, j = ((k + n // 2) % n - n // 2 for k in divmod(peak, n))
    return float(np.hypot(i, j)) * 12 / n


def test_scans_that_are_used_again_are_made_to_look_measured_anew(pack):
    recipe = RECIPE.model_copy(update={"reuse": 2, "augment": augmentations("flip", "noise")})
    twice = feed(pack, recipe)
    first, second, third = (twice.batch(step) for step in range(3))
    assert torch.equal(first.numbers, second.numbers)
    assert not torch.equal(first.df, second.df)
    assert not torch.equal(second.z, third.z)


def test_batches_are_mixed_from_the_latest_drawings(pack):
    recipe = RECIPE.model_copy(update={"augment": (), "reuse": 2})
    drawn = [feed(pack, recipe).batch(2 * draw).df for draw in range(4)]
    mixing = feed(pack, recipe.model_copy(update={"pool": 3}))
    batches = [mixing.batch(step).df for step in range(8)]
    for step, df in enumerate(batches):
        latest = step // 2
        pool = {draw: drawn[draw] for draw in range(max(0, latest - 2), latest + 1)}
        sources = [(draw, i) for stack in df for draw in pool for i in range(6) if torch.equal(stack, pool[draw][i])]
        assert len(sources) == len(set(sources)) == len(df) == 6
    assert not torch.equal(batches[6], batches[7])
    again = feed(pack, recipe.model_copy(update={"pool": 3}))
    assert torch.equal(again.batch(7).df, batches[7])  # as a run that goes on from there has it
    torch.testing.assert_close(mixing.batch(7).maps, dots(mixing.batch(7)))


def with_second(**changes) -> Recipe:
    return RECIPE.model_copy(update={"second": "Xe", **changes})


def test_a_second_tip_repeats_and_no_recipe_without_one_notices(pack):
    batch = feed(pack, with_second()).batch(4)
    assert same(batch, feed(pack, with_second()).batch(4))
    assert batch.second.shape == batch.df.shape
    assert torch.isfinite(batch.second).all()
    assert all(part.second.shape == part.df.shape for part in feed(pack, with_second()).validation())
    one = with_second(batch=4, augment=())  # four amplitudes: each scene is the first that its tips are drawn for
    plain = feed(pack, one.model_copy(update={"second": ""}))
    assert plain.batch(0).second is None
    assert torch.equal(plain.batch(0).df[0], feed(pack, one).batch(0).df[0])


def test_the_second_stacks_are_of_the_same_molecules_under_a_tip_of_their_own(pack):
    ranges = SceneRanges(stiffness=(0.3, 0.3), second_charge=(0.7, 0.7), amplitude=(0.5, 0.5))
    ranges = ranges.model_copy(update={"tilt": 0})
    simulation = GRID.model_copy(update={"probe": "Cl"})  # of the first tip alone
    batch = feed(pack, with_second(augment=(), scenes=ranges, simulation=simulation)).batch(0)
    tip = Tip(probe="Xe", quadrupole=0.7 * TIPS["Xe"].quadrupole, lateral_stiffness=0.3 * N_per_m)
    _, simulator = load_engine()
    clearances = np.linspace(-0.4, 0.4, 161) + GRID.clearance
    found = []
    for i in range(len(batch)):
        molecule = batch.molecule(i)
        heights = closest_height(molecule.numbers, molecule.positions[:, 2], tip.number, clearances)
        x, y = (axis[i].double().numpy() for axis in (batch.x, batch.y))
        scenes = [Scene(molecule, tip, x, y, low + 0.1 * np.arange(14)[::-1]) for low in heights]
        df = simulator.images(scenes, GRID.weights()).values[..., -GRID.heights :]
        error = (df - batch.second[i]).abs().amax((1, 2, 3)) / batch.second[i].abs().max()
        assert error.min() < 0.05  # between two of the heights
        found.append(heights[int(error.argmin())] - float(batch.z[i, -1]))
    assert np.std(found) > 0.1  # Å: the height is drawn for each of the two tips


def test_two_tilted_tips_show_a_molecule_in_one_place(pack):
    """The tilts are drawn apart, and no pixel is moved by either."""
    still = {"several": 0.0, "water": 0.0, "clearance": 0.0, "offset": 0.0, "flat": 1.0, "flat_tilt": 0.0}
    ranges = SceneRanges(**still, tilt=0.5, quadrupole=(0, 0), charge=(0, 0), stiffness=(0.5, 0.5))
    ranges = ranges.model_copy(update={"second_charge": (0, 0)})
    grid = SimulationOptions(size=12, pixels=96, heights=2)
    batch = feed(pack, with_second(batch=24, augment=(), simulation=grid, scenes=ranges)).batch(0)
    shifts = [_shift(a, b) for a, b in zip(batch.df[..., 0], batch.second[..., 0], strict=True)]
    assert np.mean(shifts) < 0.3  # Å; 0.45 on average lie the probes apart from their bases


def test_a_step_that_moves_pixels_moves_both_tips_alike_and_any_other_each_by_itself(pack):
    def changed(*steps: str) -> Examples:
        source = feed(pack, with_second(batch=60, augment=augmentations(*steps)))
        return source.measured(twins, 1)

    plain = feed(pack, with_second(batch=60, augment=())).batch(0)
    twins = replace(plain, second=plain.df)
    for steps in (("flip",), ("flip:0.5", "shift"), ("rotate:0.5", "zoom:0.5"), ("normalise",)):
        both = changed(*steps)
        assert torch.equal(both.df, both.second)
        assert not torch.equal(both.df, plain.df)
    for steps in (("noise",), ("background",), ("plane-shift",)):
        both = changed(*steps)
        assert (both.df != both.second).flatten(1).any(1).float().mean() > 0.8
    some = changed("noise:0.5")
    first, second = ((stack != plain.df).flatten(1).any(1) for stack in (some.df, some.second))
    assert 15 <= int((first ^ second).sum()) <= 45  # of 60: the share is drawn for each


def test_the_tilt_turns_with_the_images(pack):
    """Whichever way a scan is turned, the simulator makes it of the turned molecule under the tip turned alike."""
    ranges = SceneRanges(stiffness=(0.3, 0.3), quadrupole=(0, 0), charge=(0, 0), amplitude=(0.5, 0.5), tilt=0.5)
    source = feed(pack, RECIPE.model_copy(update={"augment": augmentations("flip"), "scenes": ranges}))
    plain = replace(source, augment=()).batch(0)
    turned = source.measured(plain, 3)
    assert (turned.tilt != plain.tilt).any()
    torch.testing.assert_close(turned.tilt.norm(dim=1), plain.tilt.norm(dim=1))
    _, simulator = load_engine()
    for batch in (plain, turned):
        for i in range(len(batch)):
            x, y, low = (batch.x[i].double().numpy(), batch.y[i].double().numpy(), float(batch.z[i, -1]))
            offset = batch.tilt[i].double().tolist()
            tip = Tip(quadrupole=0, lateral_stiffness=0.3 * N_per_m, offset=offset)
            z = low + 0.1 * np.arange(14)[::-1]
            scene = Scene(batch.molecule(i), tip, x - offset[0], y - offset[1], z)
            df = simulator.images([scene], GRID.weights()).values[0, ..., -GRID.heights :]
            assert (df - batch.df[i]).abs().max() < 2e-3 * batch.df[i].abs().max()


def test_a_second_tip_leaves_the_tilt_of_the_first(pack):
    one = with_second(batch=4, augment=())
    with_other, alone = (feed(pack, recipe).batch(0) for recipe in (one, one.model_copy(update={"second": ""})))
    assert torch.equal(with_other.tilt[0], alone.tilt[0])
    assert 0 < with_other.tilt.norm(dim=1).max() <= 0.5
    upright = SceneRanges().model_copy(update={"tilt": 0})
    assert not feed(pack, RECIPE.model_copy(update={"scenes": upright})).batch(0).tilt.any()


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


def test_processes_augment_alike_scans_each_in_its_own_way(pack):
    one, other = (feed(pack, RECIPE.model_copy(update={"augment": augmentations("noise")}), rank=r, world=2)
                  for r in range(2))  # fmt: skip
    examples = one.batch(0)
    assert not torch.equal(one.measured(examples, 5).df, other.measured(examples, 5).df)


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


def test_a_window_on_a_wide_scan_shows_one_of_the_topmost_atoms(tmp_path):
    wide = SimulationOptions(size=40.0, pixels=40, heights=4)
    names = ["C" * i for i in range(1, 30)]
    for i, scan in enumerate(simulate((replace(WATER, smiles=name) for name in names), wide, load_engine()[1])):
        write_scan(scan, tmp_path / f"{i}.npz")
    source = feed(open_scans([str(tmp_path)]), RECIPE.model_copy(update={"augment": ()}))
    for step in range(4):
        batch = source.batch(step)
        atoms = batch.points[:, : batch.numbers.shape[1]]
        inside = (atoms > -0.5) & (atoms < GRID.pixels - 0.5)
        assert (inside.all(-1) & batch.atoms).any(1).all()


def test_stored_scans_have_no_second_tip(stored):
    with pytest.raises(UsageError, match="second=Xe: stored scans come without those of a second tip"):
        feed(stored[0], with_second())


def test_stored_scans_come_on_the_recipes_grid_without_those_that_do_not_serve(stored, caplog):
    stored, lost = stored
    source = feed(stored, RECIPE.model_copy(update={"augment": ()}))
    batches = [source.batch(step) for step in range(10)]
    assert all(batch.tilt.isnan().all() for batch in batches)
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
    found: dict = {}
    exec(code, found)  # noqa: S102 (our own page)
    (trainer,) = found["afmid_train"]()
    recipe = RECIPE.model_copy(update={"steps": 60, "validate_every": 60, "learning_rate": 0.1, "warmup": 1})
    task = trainer.load(recipe, "cpu")
    source = open_feed(pack, recipe, task.maps, "cpu", installed(()))
    progress = list(fit(task, source, recipe, tmp_path))
    assert progress[-1].loss < 0.5 * progress[0].loss
    assert (tmp_path / "best.safetensors").exists()
