"""The training loop, on a task of one line: fit y = 2 x."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from afmid.errors import DataError, UsageError
from afmid.recipe import Recipe
from afmid.training import Progress, fit

RECIPE = Recipe(steps=12, batch=4, learning_rate=0.05, warmup=2, average=0.5, validate_every=4)


class Line:
    """A task for `fit`: the slope of a line, from noisy points."""

    def __init__(self, seed=0, poison=None):
        torch.manual_seed(seed)
        self.model = torch.nn.Linear(1, 1)
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


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_run_that_was_stopped_goes_on_and_ends_bit_for_bit_as_an_undisturbed_one(tmp_path, stop):
    run(tmp_path / "whole")
    assert run(tmp_path / "broken", stop=stop)[-1].step == stop
    assert run(tmp_path / "broken")[0].step == stop + 1
    assert equal(trained(tmp_path / "broken"), trained(tmp_path / "whole"))
    rows = [[json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
            for name in ("broken", "whole")]  # fmt: skip
    assert rows[0] == rows[1]


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    run(tmp_path)
    assert run(tmp_path) == []


def test_a_validation_whose_checkpoint_was_lost_is_not_recorded_twice(tmp_path):
    run(tmp_path, stop=5)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 8, "loss": 1}\n')
    run(tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 8, 12]


def test_a_budget_ends_a_run_with_a_checkpoint(tmp_path):
    assert list(fit(Line(), RECIPE, tmp_path, budget=0.0)) == []
    steps = fit(Line(), RECIPE.model_copy(update={"steps": 10**6}), tmp_path / "b", budget=0.3)
    last = [progress.step for progress in steps][-1]
    assert last < 10**6
    assert trained(tmp_path / "b")["step"] == last


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


def test_a_loss_that_is_not_finite_ends_the_run_before_it_harms_the_weights(tmp_path):
    with pytest.raises(DataError, match="the loss is nan at step 6; try a lower learning_rate"):
        run(tmp_path, poison=6)
    assert trained(tmp_path)["step"] == 6
    assert all(torch.isfinite(value).all() for value in trained(tmp_path)["model"].values())
