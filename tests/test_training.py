"""The training loop, on a task of one line: fit y = 2 x."""

import base64
import json
import logging
import math
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from afmid import __version__, training
from afmid.errors import DataError, PluginError, UsageError
from afmid.recipe import Recipe
from afmid.training import Progress, fit

RECIPE = Recipe(steps=12, batch=4, learning_rate=0.05, warmup=2, average=0.5, validate_every=4)
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


class Points:
    """A feed for `fit`: noisy points of a line."""

    def __init__(self, sha256="abc", poison=None, size=RECIPE.batch):
        self.sha256, self.poison, self.size = sha256, poison, size

    def batch(self, step):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(self.size, 1, generator=generator)
        return x, 2 * x + (torch.nan if step == self.poison else 0.01) * torch.randn(x.shape, generator=generator)

    def validation(self):
        return [self.batch(10**6), self.batch(10**6 + 1)]


class Line:
    """A task for `fit`: the slope of a line."""

    def __init__(self, model=None):
        torch.manual_seed(0)
        self.model = model() if model else torch.nn.Linear(1, 1)

    def loss(self, model, batch):
        return (model(batch[0]) - batch[1]).square().mean()

    def validate(self, model, batches):
        return {"loss": float(sum(self.loss(model, batch) for batch in batches))}

    def picture(self, model, batch, path):
        path.write_bytes(PNG)

    def metadata(self, model, batches):
        return {"method": "line", "architecture": "line", "version": "1", "config": "{}"}


class Steep(Line):
    """Its loss stays finite where its gradient is not."""

    def loss(self, model, batch):
        return super().loss(model, batch) + (0 * model.weight).sqrt().sum()


def forgetful() -> torch.nn.Module:
    """Return a network with a running mean, a counter and random numbers of its own."""
    mean, hidden, answer = torch.nn.BatchNorm1d(1), torch.nn.Linear(1, 8), torch.nn.Linear(8, 1)
    return torch.nn.Sequential(mean, hidden, torch.nn.Dropout(), answer)


def run(folder: Path, recipe: Recipe = RECIPE, stop: int | None = None, model=None, **feed) -> list[Progress]:
    """Train, up to `stop` steps where given, and return the progress."""
    seen = []
    for progress in fit(Line(model), Points(**feed), recipe, folder, stop=lambda: len(seen) + 1 == stop):
        seen.append(progress)
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
    progress = run(tmp_path, RECIPE.model_copy(update={"steps": 200, "validate_every": 20}))
    assert progress[-1].step == 200
    assert progress[-1].validation["loss"] < 0.1 < progress[0].loss
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(20, 201, 20))
    assert len(list((tmp_path / "pictures").iterdir())) == 10
    assert (tmp_path / "curves.png").stat().st_size > 0
    with safe_open(tmp_path / "best.safetensors", "pt") as best:
        metadata = best.metadata()
    losses = {row["step"]: row["loss"] for row in rows}
    assert losses[int(metadata["step"])] == min(losses.values())
    assert (metadata["method"], json.loads(metadata["recipe"])["steps"]) == ("line", 200)
    assert (metadata["data_sha256"], metadata["afmid"], metadata["torch"]) == ("abc", __version__, torch.__version__)


@pytest.mark.parametrize(("model", "optimizer"), [(None, "adamw"), (forgetful, "adamw"), (forgetful, "muon")])
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_run_that_was_stopped_goes_on_and_ends_bit_for_bit_as_an_undisturbed_one(tmp_path, stop, model, optimizer):
    recipe = RECIPE.model_copy(update={"optimizer": optimizer})
    run(tmp_path / "whole", recipe, model=model)
    assert run(tmp_path / "broken", recipe, stop=stop, model=model)[-1].step == stop
    assert run(tmp_path / "broken", recipe, model=model)[0].step == stop + 1
    assert equal(trained(tmp_path / "broken"), trained(tmp_path / "whole"))
    rows = [[json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
            for name in ("broken", "whole")]  # fmt: skip
    assert rows[0] == rows[1]


def test_a_run_that_was_interrupted_at_once_goes_on_from_its_last_checkpoint(tmp_path):
    class Interrupted(Line):
        def loss(self, model, batch):
            if model.training and int(model[0].num_batches_tracked) == 6:
                raise KeyboardInterrupt
            return super().loss(model, batch)

    with pytest.raises(KeyboardInterrupt):
        list(fit(Interrupted(forgetful), Points(), RECIPE, tmp_path / "broken"))
    assert trained(tmp_path / "broken")["step"] == 4
    run(tmp_path / "broken", model=forgetful)
    run(tmp_path / "whole", model=forgetful)
    assert equal(trained(tmp_path / "broken"), trained(tmp_path / "whole"))


def test_there_is_a_checkpoint_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    for progress in fit(Line(), Points(), RECIPE, tmp_path):
        assert trained(tmp_path)["step"] == progress.step


def test_batches_are_made_in_the_background_one_step_ahead(tmp_path):
    made, ahead = [], threading.Event()

    class Watched(Points):
        def batch(self, step):
            made.append((step, threading.get_ident()))
            if step == 1:
                ahead.set()
            return super().batch(step)

        def validation(self):
            validation = [Points.batch(self, 10**6)]
            made.append(("validation", threading.get_ident()))
            return validation

    class Waiting(Line):
        def loss(self, model, batch):
            assert ahead.wait(10)
            return super().loss(model, batch)

    list(fit(Waiting(), Watched(), RECIPE, tmp_path))
    assert [step for step, _ in made if step != "validation"] == list(range(RECIPE.steps))
    assert len({thread for _, thread in made}) == 1
    assert threading.get_ident() not in {thread for _, thread in made}


@pytest.mark.parametrize(("slow", "least", "most"), [("feed", 0.5, 1.0), ("network", 0.0, 0.5)])
def test_the_share_of_waiting_tells_which_is_the_slower(tmp_path, slow, least, most):
    class Slow(Points):
        def batch(self, step):
            time.sleep(0.03 if slow == "feed" else 0)
            return super().batch(step)

    class Network(Line):
        def loss(self, model, batch):
            time.sleep(0.03 if slow == "network" else 0)
            return super().loss(model, batch)

    *_, last = fit(Network(), Slow(), RECIPE, tmp_path)
    assert least < last.waiting < most


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = torch.nn.Linear(1, 1), torch.nn.Linear(2, 1)


class Players(Line):
    """A generator that makes y of x, and a discriminator that tells such pairs from true ones."""

    moves = ("generator", "discriminator")

    def __init__(self):
        super().__init__(Pair)

    def loss(self, model, batch):
        x, y = batch
        made = model.generator(x)
        said, true = (model.discriminator(torch.cat([x, pair], 1)) for pair in (made, y))
        losses = {"generator": (said - 1).square().mean() + (made - y).abs().mean()}
        losses["discriminator"] = said.square().mean() + (true - 1).square().mean()
        return {name: losses[name] for name in self.moves}

    def validate(self, model, batches):
        return {"loss": float(sum((model.generator(x) - y).square().mean() for x, y in batches))}


def test_of_two_players_each_moves_by_its_own_loss_alone(tmp_path):
    whole, recipe = Players(), RECIPE.model_copy(update={"steps": 1, "clip": 1e9})
    before = {name: value.clone() for name, value in whole.model.state_dict().items()}
    losses = whole.loss(whole.model, Points().batch(0))
    expected = {
        name: torch.autograd.grad(losses[name], getattr(whole.model, name).weight, retain_graph=True)[0]
        for name in losses
    }
    (progress,) = fit(whole, Points(), recipe, tmp_path / "both")
    assert progress.losses == pytest.approx({name: loss.item() for name, loss in losses.items()})
    assert progress.loss == pytest.approx(sum(progress.losses.values()))
    for name, gradient in expected.items():
        assert torch.equal(getattr(whole.model, name).weight.grad, gradient)
    alone = Players()
    alone.moves = ("discriminator",)
    list(fit(alone, Points(), recipe, tmp_path / "one"))
    changed = {name for name, value in alone.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"discriminator.weight", "discriminator.bias"}


def test_two_players_learn(tmp_path):
    *_, last = fit(Players(), Points(), RECIPE.model_copy(update={"steps": 300, "beta1": 0.5}), tmp_path)
    assert last.validation["loss"] < 0.1


def test_losses_that_name_no_submodule_or_share_weights_are_said(tmp_path):
    class Misnamed(Players):
        def loss(self, model, batch):
            return {"critic": (model.generator(batch[0]) - batch[1]).square().mean()}

    with pytest.raises(PluginError, match=r"'critic', which is no submodule .* there are: generator, discriminator"):
        list(fit(Misnamed(), Points(), RECIPE, tmp_path / "a"))
    shared = Players()
    shared.model.generator = torch.nn.Sequential(torch.nn.Linear(1, 1), shared.model.discriminator)
    shared.loss = lambda model, batch: dict.fromkeys(shared.moves, model.generator[0](batch[0]).sum())
    with pytest.raises(PluginError, match="'generator' and 'discriminator' share weights"):
        list(fit(shared, Points(), RECIPE, tmp_path / "b"))


def test_mixed_precision_computes_in_bfloat16_and_keeps_single(tmp_path):
    seen = set()

    class Watched(Line):
        def loss(self, model, batch):
            seen.add((model.training, model(batch[0]).dtype))
            return super().loss(model, batch)

    task = Watched()
    list(fit(task, Points(), RECIPE.model_copy(update={"precision": "bfloat16"}), tmp_path))
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    assert task.model.weight.dtype == torch.float32


def test_tensorboard_shows_figures_and_pictures_and_drops_those_of_a_lost_end(tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def train(stop=None):
        for progress in fit(Line(), Points(), RECIPE, tmp_path, tensorboard=True):
            if progress.step == stop:
                raise KeyboardInterrupt  # after the checkpoint of step 4

    with pytest.raises(KeyboardInterrupt):
        train(stop=6)
    train()
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 13))
    assert [event.step for event in events.Scalars("validation/loss")] == [4, 8, 12]
    (image, *_) = events.Images("predictions")
    assert (image.width, image.height, image.encoded_image_string) == (1, 1, PNG)


def test_counters_are_copied_into_the_average(tmp_path):
    run(tmp_path, model=forgetful)
    assert trained(tmp_path)["averaged"]["0.num_batches_tracked"] == RECIPE.steps


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
    *_, last = fit(Line(), Points(), rare, tmp_path, budget=budget)
    assert 1 <= last.step < 10**6
    assert last.validation
    assert trained(tmp_path)["step"] == last.step
    assert (tmp_path / "best.safetensors").exists()


def test_figures_that_are_not_finite_are_left_out(tmp_path):
    class Odd(Line):
        def validate(self, model, batches):
            return {"correlation": math.nan, **super().validate(model, batches)}

    *_, last = fit(Odd(), Points(), RECIPE, tmp_path)
    assert list(last.validation) == ["loss"]
    row = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert list(row) == ["step", "seconds", "training_loss", "scans_per_second", "waiting", "loss"]


def test_a_run_goes_on_where_nothing_can_draw(tmp_path, caplog):
    class Blind(Line):
        def picture(self, model, batch, path):
            raise ModuleNotFoundError("No module named 'matplotlib'")

    with caplog.at_level(logging.INFO):
        *_, last = fit(Blind(), Points(), RECIPE, tmp_path)
    assert last.step == RECIPE.steps
    assert caplog.messages == ["no pictures of the training are drawn: No module named 'matplotlib'"]


def test_a_folder_with_another_recipe_or_other_data_is_left_alone(tmp_path):
    run(tmp_path, stop=3)
    with pytest.raises(UsageError, match=r"holds a run with steps = 12, not 13.*--force"):
        run(tmp_path, RECIPE.model_copy(update={"steps": 13}))
    with pytest.raises(UsageError, match="holds a run with data = abc, not xyz"):
        run(tmp_path, sha256="xyz")
    finer = RECIPE.simulation.model_copy(update={"pixels": 64})
    with pytest.raises(UsageError, match=r"holds a run with simulation\.pixels = 128, not 64"):
        run(tmp_path, RECIPE.model_copy(update={"simulation": finer}))


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
        list(fit(task, Points(), RECIPE, tmp_path))
    assert torch.equal(task.model.weight, before)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_validation_that_is_broken_off_is_done_again(tmp_path):
    class Interrupted(Line):
        def validate(self, model, batches):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(fit(Interrupted(), Points(), RECIPE, tmp_path))
    run(tmp_path)
    run(tmp_path / "whole")
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 8, 12]
    assert equal(trained(tmp_path), trained(tmp_path / "whole"))


def test_the_learning_rate_rises_in_a_line_and_falls_as_a_cosine():
    recipe = RECIPE.model_copy(update={"steps": 110, "warmup": 10})
    rates = [training._schedule(step, recipe) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 1e-3


class Still(Line):
    """Its loss is the same whatever its weights."""

    def loss(self, model, batch):
        return 0 * super().loss(model, batch) + 1


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_without_a_gradient_weight_decay_alone_moves_the_weights(tmp_path, decay):
    task = Still()
    recipe = RECIPE.model_copy(update={"steps": 3, "warmup": 0, "learning_rate": 0.1, "weight_decay": decay})
    before = task.model.weight.item()
    list(fit(task, Points(), recipe, tmp_path))
    rates = [training._schedule(step, recipe) for step in range(3)]
    assert task.model.weight.item() == pytest.approx(before * math.prod(1 - 0.1 * decay * rate for rate in rates))


def test_a_long_gradient_is_shortened(tmp_path):
    task = Line()
    list(fit(task, Points(), RECIPE.model_copy(update={"steps": 1, "clip": 1e-3}), tmp_path))
    assert torch.cat([w.grad.flatten() for w in task.model.parameters()]).norm() == pytest.approx(1e-3, rel=1e-3)


class Told(Line):
    """Remembers its weight after each step, and validates by it alone."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def loss(self, model, batch):
        if model is self.model:
            self.seen.append(model.weight.item())
        return super().loss(model, batch)

    def validate(self, model, batches):
        return {"loss": model.weight.item()}


def test_what_is_validated_is_the_running_average_of_the_weights(tmp_path):
    task = Told()
    *_, last = fit(task, Points(), RECIPE.model_copy(update={"steps": 4, "average": 0.15}), tmp_path)
    after = [*task.seen[1:], task.model.weight.item()]
    mean = after[0]
    for step, weight in enumerate(after[1:], 1):
        decay = min(0.15, step / (10 + step))
        mean = decay * mean + (1 - decay) * weight
    assert last.validation["loss"] == pytest.approx(mean, rel=1e-5)
    assert last.validation["loss"] != pytest.approx(after[-1], rel=1e-3)


class NothingToValidate(Points):
    """Its validation cannot be made."""

    def validation(self):
        raise DataError("no scans of argon")


def test_a_validation_that_cannot_be_made_is_told_of_at_once(tmp_path):
    recipe = RECIPE.model_copy(update={"steps": 1000, "validate_every": 1000})
    with pytest.raises(DataError, match="no scans of argon"):
        list(fit(Line(), NothingToValidate(), recipe, tmp_path))
    assert not (tmp_path / "last.ckpt").exists()
