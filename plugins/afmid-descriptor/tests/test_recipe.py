"""A training run in the small: scans made on the fly, learnt from, and the weights read back."""

import json
import math
from dataclasses import replace
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
from afmid.networks.recipe import GRID, MULTIPLE
from afmid.networks.stack import PIXEL, STEP, Stack, fill_heights
from afmid.networks.unet import HEIGHTS
from afmid.plugins import installed, parse_options
from afmid.recipe import Step, augmentations
from afmid.training import fit
from afmid.weights import read_safetensors, save_safetensors
from afmid_descriptor.atoms import FIGURES
from afmid_descriptor.calibration import ONE, TWO, Calibration, read
from afmid_descriptor.maps import MAPS
from afmid_descriptor.method import DescriptorMethod
from afmid_descriptor.method import load as load_method
from afmid_descriptor.model import SCALES, DescriptorNet, Prediction
from afmid_descriptor.networks import STRIDE, build
from afmid_descriptor.options import DEFAULTS, DescriptorRecipe
from afmid_descriptor.recipe import ALONE, CLOSE, SKILL, SMALLEST, TILT, DescriptorTask, balanced, load

SMALL = {
    "simulation": {"pixels": 32, "size": 4.0},
    "batch": 3, "validation_scans": 4, "steps": 40, "validate_every": 20, "warmup": 5, "average": 0.8,
}  # fmt: skip
RECIPE = DescriptorRecipe(**SMALL)
TRAINER = installed(("descriptor",)).get(Trainer, "descriptor")


@pytest.fixture(scope="module")
def pack():
    """Water, formaldehyde and chloromethane, roughly, in both splits."""
    bent = [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]
    water = Molecule([8, 1, 1], bent, [-0.8, 0.4, 0.4], [[0, 1], [0, 2]])
    planar = [[0, 0, 0], [1.2, 0, 0], [-0.6, 0.9, 0], [-0.6, -0.9, 0]]
    formaldehyde = Molecule([6, 8, 1, 1], planar, [0.4, -0.4, 0, 0], [[0, 1], [0, 2], [0, 3]])
    chloride = Molecule([6, 17], [[0, 0, 0], [1.78, 0, 0]], [0.2, -0.2], [[0, 1]])
    return concatenate([[water], [formaldehyde], [chloride], [water]], [""] * 4, ["train", "train", "val", "val"], {})


def feed_of(recipe, pack):
    return open_feed(pack, recipe, load(recipe, "cpu").maps, "cpu", installed(()))


def test_a_batch_is_in_hertz_and_its_maps_are_those_of_its_atoms(pack):
    clean = DescriptorRecipe(**{**SMALL, "augment": augmentations("flip")})
    batch = feed_of(clean, pack).batch(3)
    assert batch.df.shape == (3, 32, 32, HEIGHTS)
    assert batch.df.abs().amax((1, 2, 3)).min() > 1.5
    torch.testing.assert_close(batch.maps, load(clean, "cpu").maps(batch), atol=1e-3, rtol=0)
    assert batch.maps.shape == (3, len(MAPS), 32, 32)
    assert batch.maps.abs().amax((0, 2, 3)).min() > 0


def test_missing_images_are_the_farthest_repeated_as_they_are_when_identifying(pack):
    missing = Step(name="missing-heights", options={"fill": "repeat", "fewest": 4})
    df = feed_of(DescriptorRecipe(**{**SMALL, "batch": 12, "augment": (missing,)}), pack).batch(1).df
    kept = [HEIGHTS - int((stack == stack[..., :1]).all((0, 1)).sum()) + 1 for stack in df]
    assert len(set(kept)) > 1
    assert all(4 <= number <= HEIGHTS for number in kept)
    for stack, number in zip(df, kept, strict=True):
        torch.testing.assert_close(fill_heights(stack[None, ..., HEIGHTS - number :])[0], stack)


class Answers(torch.nn.Module):
    """Answers with the same maps, whatever it is shown."""

    def __init__(self, maps):
        super().__init__()
        self.maps, self.shown = maps, None

    def forward(self, df, second=None):
        self.shown = df, second
        return self.maps


@pytest.mark.parametrize("architecture", ["paper", "slides"])
def test_the_loss_of_the_papers_networks_is_the_published_one(architecture):
    task = load(DescriptorRecipe(architecture=architecture), "cpu")
    assert task.names == ("disks", "spheres", "height")
    predicted, truth = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    disks, spheres, height = (predicted - truth).square().mean((0, 2, 3))
    examples = SimpleNamespace(df=torch.rand(2, 4, 4, 10), maps=truth, second=None)
    loss = task.loss(Answers(predicted), examples)
    assert loss == pytest.approx(float(20 * disks + 0.2 * spheres + 0.1 * height))


def test_ed_afm_is_shown_both_stacks_normalised_and_its_loss_is_the_mean_squared_error():
    task = load(DescriptorRecipe(architecture="ed-afm", width=0.05), "cpu")
    predicted, truth = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    examples = SimpleNamespace(df=torch.rand(2, 4, 4, 10), maps=truth, second=5 + torch.rand(2, 4, 4, 10))
    network = Answers(predicted)
    assert task.loss(network, examples) == pytest.approx(float((predicted - truth).square().mean()))
    for shown in network.shown:
        torch.testing.assert_close(shown.mean((1, 2)), torch.zeros(2, 10), atol=1e-5, rtol=0)
        torch.testing.assert_close(shown.square().mean((1, 2)), torch.ones(2, 10), atol=1e-4, rtol=0)


def prediction(examples, scales, errors=1.0):
    """Return a prediction that differs from the truth by `errors` (C, 1, 1) in units of the maps' sizes."""
    noise = torch.randn(examples.maps.shape, generator=torch.Generator().manual_seed(0))
    maps = (examples.maps + scales * errors * noise).requires_grad_()
    return Prediction(maps, torch.zeros_like(maps) + 2 * scales.log(), examples.tilt + torch.tensor([0.1, 0.0]))


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(1)
    maps, tilt = torch.rand(4, 3, 8, 8, generator=generator), torch.rand(4, 2, generator=generator)
    return SimpleNamespace(maps=maps, tilt=tilt)


@pytest.fixture
def scales():
    return torch.tensor([0.3, 0.5, 0.03]).view(3, 1, 1)


def test_each_map_is_worth_the_same_relative_gain_however_hard_it_is(examples, scales):
    told = prediction(examples, scales, torch.tensor([1.0, 0.1, 5.0]).view(3, 1, 1))
    (gradient,) = torch.autograd.grad(balanced(told, examples, scales), told.maps)
    gains = (gradient * (told.maps - examples.maps)).sum((0, 2, 3))  # of a relative change of each map's errors
    torch.testing.assert_close(gains, torch.full((3,), 2.0), atol=0.03, rtol=0)  # but for `SMALLEST`


def test_the_unit_of_a_map_makes_no_difference(examples, scales):
    unit = torch.tensor([1.0, 100.0, 1e-3]).view(3, 1, 1)
    told = prediction(examples, scales)
    other = Prediction(told.maps * unit, told.log_variance + 2 * unit.log(), told.tilt)
    converted = SimpleNamespace(maps=examples.maps * unit, tilt=examples.tilt)
    with torch.no_grad():
        torch.testing.assert_close(balanced(other, converted, scales * unit), balanced(told, examples, scales))


def test_the_variance_learns_the_squared_error_and_teaches_the_maps_nothing(examples, scales):
    told = prediction(examples, scales)
    squared = (told.maps - examples.maps).detach().square()
    for factor, sign in ((1.0, 0), (0.5, -1), (2.0, 1)):
        guess = (factor * squared).log().requires_grad_()
        (gradient,) = torch.autograd.grad(balanced(told._replace(log_variance=guess), examples, scales), guess)
        assert (gradient.sign() == sign).all() if sign else gradient.abs().max() < 1e-6
    gradients = [
        torch.autograd.grad(balanced(told._replace(log_variance=told.log_variance + c), examples, scales), told.maps)[0]
        for c in (0, 3)
    ]
    assert torch.equal(*gradients)


def test_a_tilt_that_is_not_known_is_left_out(examples, scales):
    told = prediction(examples, scales)
    whole = balanced(told, examples, scales)
    some = SimpleNamespace(maps=examples.maps, tilt=examples.tilt.clone())
    some.tilt[1:3] = torch.nan
    told = told._replace(tilt=told.tilt.detach().requires_grad_())
    loss = balanced(told, some, scales)
    assert loss.item() == pytest.approx(whole.item())  # all are wrong by 0.1 Å along x
    (gradient,) = torch.autograd.grad(loss, told.tilt)
    assert gradient.isfinite().all()
    assert (gradient[:, 0] != 0).tolist() == [True, False, False, True]
    none = SimpleNamespace(maps=examples.maps, tilt=torch.full_like(examples.tilt, torch.nan))
    alone = (whole - balanced(told, none, scales)).item()
    assert alone == pytest.approx(TILT * math.log(0.1**2 / 2 + CLOSE), abs=1e-4)


def test_some_scans_come_without_their_second_tip_while_training(pack):
    class Watched(DescriptorNet):
        def predict(self, df, second=None):
            self.shown = second
            return super().predict(df, second)

    task = load(DescriptorRecipe(**SMALL, second="Xe"), "cpu")
    network = Watched()
    batch = feed_of(DescriptorRecipe(**{**SMALL, "batch": 60, "second": "Xe"}), pack).batch(0)
    torch.manual_seed(0)
    task.loss(network, batch)
    there = (network.shown != 0).flatten(1).any(1)
    assert torch.equal(network.shown[there], batch.second[there])
    assert float(there.float().mean()) == pytest.approx(1 - ALONE, abs=0.2)


def test_forty_steps_learn_something_and_the_weights_say_what_they_are(pack, tmp_path):
    untrained, source = load(RECIPE, "cpu"), feed_of(RECIPE, pack)
    with torch.no_grad():
        start = untrained.validate(untrained.model, source.validation())
    progress = list(fit(load(RECIPE, "cpu"), source, RECIPE, tmp_path))
    first = float(np.mean([p.loss for p in progress[:5]]))
    assert np.mean([p.loss for p in progress[-5:]]) < first - 1  # the loss is a sum of logarithms
    assert progress[-1].validation["loss"] < start["loss"] - 0.2
    assert set(progress[-1].validation) == {"loss", *(f"{n}_{f}" for n in MAPS for f in ("mse", "correlation"))}
    tensors, metadata = read_safetensors(tmp_path / "best.safetensors", method="descriptor")
    network = build(metadata["architecture"], metadata["config"])
    network.load_state_dict(tensors)
    assert network.names == tuple(MAPS)
    calibrations = read(metadata["calibration"])
    assert list(calibrations) == [ONE]
    assert set(calibrations[ONE].spread) == set(MAPS)
    recipe = DescriptorRecipe.model_validate_json(metadata["recipe"])
    assert recipe == RECIPE
    assert load_method(tmp_path / "best.safetensors", "cpu").calibrations == calibrations
    assert (tmp_path / "pictures" / "0000040.png").stat().st_size > 1000


def test_ed_afm_learns_from_both_tips_by_its_own_defaults(pack, tmp_path):
    recipe = DescriptorRecipe(**{**SMALL, "architecture": "ed-afm", "width": 0.05, "steps": 2, "validate_every": 2})
    *_, last = fit(load(recipe, "cpu"), feed_of(recipe, pack), recipe, tmp_path)
    names = {f"field_{figure}{tips}" for figure in ("mse", "correlation") for tips in ("", "_alone")}
    assert {"loss"} <= set(last.validation) <= {"loss", *names}
    method = load_method(tmp_path / "best.safetensors", "cpu")
    assert (method.model.names, method.second, method.model.config.tips) == (("field",), "Xe", 2)
    assert method.calibrations == {TWO: Calibration()}


def test_with_a_second_tip_the_validation_tells_what_it_brings(awake, pack):
    recipe = DescriptorRecipe(**SMALL, second="Xe")
    task, batches = load(recipe, "cpu"), feed_of(recipe, pack).validation()
    awake(task.model)
    with torch.no_grad():
        figures = task.validate(task.model, batches)
        alone = task.validate(task.model, [replace(batch, second=None) for batch in batches])
    for name in MAPS:
        assert figures[f"{name}_mse_alone"] == pytest.approx(alone[f"{name}_mse"])
        assert figures[f"{name}_mse"] != pytest.approx(figures[f"{name}_mse_alone"], rel=1e-4)
    errors = [[figures[f"{name}_mse{tips}"] / SCALES[name] ** 2 for name in MAPS] for tips in ("", "_alone")]
    assert figures["loss"] == pytest.approx(np.log(np.add(errors, SMALLEST)).mean(1).sum(), abs=1e-3)


def test_what_the_weights_say_of_themselves_makes_the_same_method_again(awake, pack, tmp_path):
    recipe = DescriptorRecipe(**{**SMALL, "validation_scans": 12, "second": "Xe"})
    task, batches = load(recipe, "cpu"), feed_of(recipe, pack).validation()
    awake(task.model).last.weight.data *= 10  # so that there are peaks, and by chance some at atoms
    told = task.metadata(task.model, batches)
    assert sorted(told) == ["architecture", "calibration", "config", "method", "second", "version"]
    save_safetensors(task.model.state_dict(), told, tmp_path / "w.safetensors")
    method = load_method(tmp_path / "w.safetensors", "cpu")
    assert method.second == "Xe"
    assert method.calibrations == read(told["calibration"])
    assert list(method.calibrations) == [ONE, TWO]
    assert method.calibrations[ONE] != method.calibrations[TWO]
    again = DescriptorMethod(task.model, method.calibrations)
    for tips, calibration in method.calibrations.items():
        assert set(calibration.fit.confidence) == set(calibration.fit.depth) == {"constant", *FIGURES}
        ratios = []
        for batch in batches:
            for i, (df, truth, x, y) in enumerate(zip(batch.df, batch.maps, batch.x, batch.y, strict=True)):
                stack = Stack(df[None], x.numpy(), y.numpy(), (), batch.second[i, None] if tips == TWO else None)
                maps, sigma, _ = method.look(stack, average=True)
                assert torch.equal(maps, again.look(stack, average=True).maps)
                ratios.append(((maps - truth) / sigma).square().mean((1, 2)))
        torch.testing.assert_close(torch.stack(ratios).mean(0), torch.ones(len(MAPS)), rtol=1e-3, atol=0)


def views(tilt):
    """Return a tilt (2,) as it looks in the eight turns and mirror images of a scan, (4, 2) for each half of them."""
    told = []
    for turns in (0, 2, 1, 3):
        x, y = tilt.tolist()
        for _ in range(turns):  # a quarter takes x to y and y to −x
            x, y = -y, x
        told += [[x, y], [-x, y]]
    return torch.tensor(told).split(4)


@pytest.mark.parametrize(("factor", "told"), [(1 - 0.9 * SKILL, True), (1 - 1.1 * SKILL, False), (0, False)])
def test_the_tilt_is_told_where_the_network_knows_it_better_than_that_it_is_small(pack, factor, told, monkeypatch):
    task = load(RECIPE, "cpu")
    batches = feed_of(RECIPE, pack).validation()
    true = torch.cat([batch.tilt for batch in batches])
    answers, predict = iter([half for tilt in factor * true for half in views(tilt)]), task.model.predict
    monkeypatch.setattr(task.model, "predict", lambda *shown: predict(*shown)._replace(tilt=next(answers)))
    calibration = read(task.metadata(task.model, batches)["calibration"])[ONE]
    assert true.square().mean() > 0
    if told:
        assert calibration.tilt == pytest.approx(float((1 - factor) * true.square().mean().sqrt()), rel=1e-4)
    else:
        assert calibration.tilt is None


@pytest.mark.parametrize("architecture", ["unet", "paper"])
def test_validation_scans_that_settle_no_confidence_leave_it_out(pack, architecture):
    recipe = DescriptorRecipe(**{**SMALL, "architecture": architecture})
    task = load(recipe, "cpu")  # untrained, it finds no atom
    told = task.metadata(task.model, feed_of(recipe, pack).validation()[:1])
    assert told["second"] == ""
    ((tips, calibration),) = read(told["calibration"]).items()
    assert (tips, calibration.fit, calibration.tilt) == (ONE, None, None)
    assert set(calibration.spread) == (set(MAPS) if architecture == "unet" else set())


def test_the_grid_of_the_recipe_is_that_of_the_networks():
    assert (GRID.size / GRID.pixels, GRID.step, GRID.heights, MULTIPLE) == (PIXEL, STEP, HEIGHTS, STRIDE)
    assert DescriptorNet().stride == STRIDE


def test_the_recipe_of_the_shipped_weights_is_still_one():
    (path,) = files("afmid_descriptor").joinpath("weights").glob("*.safetensors")
    _, metadata = read_safetensors(path, method="descriptor")
    shipped = DescriptorRecipe.model_validate_json(metadata["recipe"])
    assert DescriptorRecipe.model_validate_json(shipped.model_dump_json()) == shipped
    given = json.loads(metadata["recipe"])
    assert {name: value for name, value in shipped.model_dump(mode="json").items() if name in given} == {
        name: {**shipped.model_dump(mode="json")[name], **value} if isinstance(value, dict) else value
        for name, value in given.items()
    }


def test_the_published_networks_bring_their_own_defaults_which_can_be_overridden():
    assert RECIPE.architecture == "unet"
    assert (RECIPE.optimizer, RECIPE.second) == ("muon", "")
    for architecture, defaults in DEFAULTS.items():
        recipe = parse_options(TRAINER, [f"architecture={architecture}"])
        assert {name: getattr(recipe, name) for name in defaults} == defaults
        assert (recipe.optimizer, recipe.precision) == ("adamw", "single")
        assert "normalise" in [step.name for step in recipe.augment]
        changed = parse_options(TRAINER, [f"architecture={architecture}", "batch=7", "optimizer=muon"])
        assert (changed.batch, changed.optimizer) == (7, "muon")
        assert changed == DescriptorRecipe.model_validate_json(changed.model_dump_json())
    rates = [DescriptorRecipe(architecture=name).learning_rate for name in ("paper", "slides", "ed-afm")]
    assert rates == [1e-3, 1e-3, 1e-4]


@pytest.mark.parametrize(("second", "tips"), [("Xe", 2), ("", 1)])
def test_ed_afm_is_built_for_as_many_tips_as_the_recipe_has(second, tips):
    recipe = DescriptorRecipe(architecture="ed-afm", width=0.05, second=second)
    assert load(recipe, "cpu").model.config.tips == tips


@pytest.mark.parametrize("architecture", ["unet", "paper", "slides", "ed-afm"])
def test_the_seed_of_the_recipe_makes_the_weights(architecture):
    tasks = [DescriptorTask(DescriptorRecipe(architecture=architecture, seed=seed), "cpu") for seed in (1, 1, 2)]
    first, again, other = (torch.cat([weight.flatten() for weight in task.model.parameters()]) for task in tasks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["simulation.charge=-0.1"], "simulation.charge is drawn anew for each scan; set scenes.charge instead"),
        (["simulation.tip=Xe"], "simulation.tip is Xe; the networks are made for CO"),
        (["simulation.step=0.2"], "simulation.step is 0.2; the networks are made for 0.1"),
        (["simulation.heights=3"], "simulation.heights is 3; the networks are made for 10"),
        (["simulation.pixels=64"], "64 pixels over 16 Å; .* of 0.125 Å, a multiple of 16 of them: set .* 8 times"),
        (["simulation.size=5", "simulation.pixels=40"], "40 pixels over 5 Å; .* a multiple of 16 of them"),
        (["scenes.stiffness=0.5,0.2"], r"scenes.stiffness is \['0.5', '0.2'\]; it should be the lower and the upper"),
        (["width=0.5"], "width: unet has a single size; width is that of ed-afm"),
        (["architecture=cnn"], "architecture is 'cnn'; .*'unet', 'paper', 'slides' or 'ed-afm'"),
        (["second=CO"], "second: CO is the first tip already"),
    ],
)
def test_what_training_would_not_respect_is_refused_before_it_begins(settings, message):
    with pytest.raises(UsageError, match=f"^descriptor: .*{message}"):
        parse_options(TRAINER, settings)


def test_a_smaller_window_of_the_same_pixels_is_welcome():
    recipe = parse_options(TRAINER, ["simulation.size=12", "simulation.pixels=96", "scenes.stiffness=0.2,0.2"])
    assert recipe.simulation.pixels == 96
