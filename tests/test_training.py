"""The training loop, on a task of one line: fit y = 2 x."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from afmid import __version__
from afmid.errors import DataError, UsageError
from afmid.recipe import Recipe
from afmid.training import Progress, fit

RECIPE = Recipe(steps=12, batch=4, learning_rate=0.05, warmup=2, average=0.5, validate_every=4)


class Line:
    """A task for `fit`: the slope of a line, from noisy points."""

    def __init__(self, seed=0, poison=None, model=None):
        torch.manual_seed(seed)
        self.model = model() if model else torch.nn.Linear(1, 1)
        self.poison = poison

    def batch(self, step):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(RECIPE.batch, 1, generator=generator)
        return x, 2 * x + (torch.nan if step == self.poison else 0.01) * torch.randn(x.shape, generator=generator)

    def loss(self, model, batch):
        return (model(batch[0]) - batch[1]).square().mean()

    def validate(self, model):
        return {"loss": float(self.loss(model, self.batch(10**6)))}

    def picture(self, model, path):
        path.write_text("a picture")

    def metadata(self, model):
        return {"method": "line", "architecture": "line", "version": "1", "config": "{}"}


class Steep(Line):
    """Its loss stays finite where its gradient is not."""

    def loss(self, model, batch):
        return super().loss(model, batch) + (0 * model.weight).sqrt().sum()


class Interrupted(Line):
    """Is interrupted in the middle of a step."""

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        if model.training and int(model[0].num_batches_tracked) == 6:
            raise KeyboardInterrupt
        return loss


def forgetful() -> torch.nn.Module:
    """Return a network with a running mean, a counter and random numbers of its own."""
    mean, hidden, answer = torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 8), torch.nn.Linear(8, 1)
    return torch.nn.Sequential(mean, hidden, torch.nn.Dropout(), answer)


def run(folder: Path, recipe: Recipe = RECIPE, data: str = "abc", stop: int | None = None, **task) -> list[Progress]:
    """Train, up to `stop` steps where given, and return the progress."""
    seen = []
    steps = fit(Line(**task), recipe, folder, data)
    for progress in steps:
        seen.append(progress)
        if progress.step == stop:
            steps.close()
    return seen


def trained(folder: Path) -> dict:
    state = torch.load(folder / "last.ckpt", weights_only=True)
    state.pop("seconds")
    return state


def equal(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_a_run_learns_and_leaves_what_it_promises(tmp_path):
    progress = run(tmp_path, RECIPE.model_copy(update={"steps": 200}))
    assert progress[-1].step == 200
    assert progress[-1].validation["loss"] < 0.1 < progress[0].loss
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(4, 201, 4))
    assert len(list((tmp_path / "pictures").iterdir())) == 50
    with safe_open(tmp_path / "best.safetensors", "pt") as best:
        metadata = best.metadata()
    losses = {row["step"]: row["loss"] for row in rows}
    assert losses[int(metadata["step"])] == min(losses.values())
    assert (metadata["method"], json.loads(metadata["recipe"])["steps"]) == ("line", 200)
    assert (metadata["data_sha256"], metadata["afmid"], metadata["torch"]) == ("abc", __version__, torch.__version__)


@pytest.mark.parametrize("model", [None, forgetful])
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_run_that_was_stopped_goes_on_and_ends_bit_for_bit_as_an_undisturbed_one(tmp_path, stop, model):
    run(tmp_path / "whole", model=model)
    assert run(tmp_path / "broken", stop=stop, model=model)[-1].step == stop
    assert run(tmp_path / "broken", model=model)[0].step == stop + 1
    assert equal(trained(tmp_path / "broken"), trained(tmp_path / "whole"))
    rows = [[json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
            for name in ("broken", "whole")]  # fmt: skip
    assert rows[0] == rows[1]


def test_a_run_interrupted_in_the_middle_of_a_step_goes_on_from_before_it(tmp_path):
    run(tmp_path / "whole", model=forgetful)
    with pytest.raises(KeyboardInterrupt):
        list(fit(Interrupted(model=forgetful), RECIPE, tmp_path / "broken", "abc"))
    assert trained(tmp_path / "broken")["step"] == 5
    run(tmp_path / "broken", model=forgetful)
    assert equal(trained(tmp_path / "broken"), trained(tmp_path / "whole"))


def test_counters_are_copied_into_the_average(tmp_path):
    run(tmp_path, model=forgetful)
    assert trained(tmp_path)["averaged"]["module.0.num_batches_tracked"] == RECIPE.steps


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    run(tmp_path)
    assert run(tmp_path) == []


@pytest.mark.parametrize("line", ['{"step": 8, "loss": 1}\n', '{"step": 8, "lo', "{}\n", "\x00\x00"])
def test_a_validation_whose_checkpoint_was_lost_is_not_recorded_twice_nor_by_half(tmp_path, line):
    run(tmp_path, stop=5)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write(line)
    run(tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 8, 12]


@pytest.mark.parametrize("budget", [0.0, 0.3])
def test_a_budget_ends_a_run_with_weights_and_a_checkpoint(tmp_path, budget):
    rare = RECIPE.model_copy(update={"steps": 10**6, "validate_every": 10**6})
    *_, last = fit(Line(), rare, tmp_path, budget=budget)
    assert 1 <= last.step < 10**6
    assert last.validation
    assert trained(tmp_path)["step"] == last.step
    assert (tmp_path / "best.safetensors").exists()


def test_figures_that_are_not_finite_are_left_out(tmp_path):
    class Odd(Line):
        def validate(self, model):
            return {"correlation": math.nan, **super().validate(model)}

    *_, last = fit(Odd(), RECIPE, tmp_path)
    assert list(last.validation) == ["loss"]
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert list(row) == ["step", "seconds", "loss"]


def test_a_run_goes_on_where_nothing_can_draw(tmp_path, caplog):
    class Blind(Line):
        def picture(self, model, path):
            raise ModuleNotFoundError("No module named 'matplotlib'")

    with caplog.at_level(logging.INFO):
        *_, last = fit(Blind(), RECIPE, tmp_path)
    assert last.step == RECIPE.steps
    assert caplog.messages == ["no pictures of the training are drawn: No module named 'matplotlib'"]


def test_a_folder_with_another_recipe_or_other_data_is_left_alone(tmp_path):
    run(tmp_path, stop=3)
    with pytest.raises(UsageError, match=r"holds a run with steps = 12, not 13.*--force"):
        run(tmp_path, RECIPE.model_copy(update={"steps": 13}))
    with pytest.raises(UsageError, match="holds a run with data = abc, not xyz"):
        run(tmp_path, data="xyz")


def test_a_damaged_checkpoint_is_said(tmp_path):
    run(tmp_path, stop=3)
    (tmp_path / "last.ckpt").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(DataError, match=r"last\.ckpt: no checkpoint of this recipe"):
        run(tmp_path)


@pytest.mark.parametrize("damaged", ['{"recipe": {"ste', "[]", '{"recipe": 3, "data_sha256": ""}'])
def test_a_damaged_recipe_is_said(tmp_path, damaged):
    run(tmp_path, stop=3)
    (tmp_path / "recipe.json").write_text(damaged)
    with pytest.raises(DataError, match=r"recipe\.json: no recipe of a run .*--force"):
        run(tmp_path)


def test_a_pickle_is_not_run(tmp_path):
    import pickle

    class Bad:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    run(tmp_path, stop=3)
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(DataError):
        run(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_loss_that_is_not_finite_ends_the_run_and_the_last_checkpoint_stays(tmp_path):
    with pytest.raises(DataError, match="the loss is nan at step 6; try a lower learning_rate"):
        run(tmp_path, poison=6, model=forgetful)
    assert trained(tmp_path)["step"] == 4
    assert all(torch.isfinite(value).all() for value in trained(tmp_path)["model"].values())


def test_a_gradient_that_is_not_finite_ends_the_run_before_it_harms_the_weights(tmp_path):
    task = Steep()
    before = task.model.weight.detach().clone()
    with pytest.raises(DataError, match="the gradient is nan at step 0; try a lower learning_rate"):
        list(fit(task, RECIPE, tmp_path))
    assert torch.equal(task.model.weight, before)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_validation_that_is_broken_off_is_done_again(tmp_path):
    class Interrupted(Line):
        def validate(self, model):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(fit(Interrupted(), RECIPE, tmp_path, "abc"))
    run(tmp_path)
    run(tmp_path / "whole")
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 8, 12]
    assert equal(trained(tmp_path), trained(tmp_path / "whole"))
