"""The one loop every recipe shares.

A method brings a Task (its network and loss; afmid.offers) and a feed brings the batches; this module fits the network,
keeps a running average of its weights, validates, and leaves in the run's folder

    recipe.json         every number the run depends on, the data's hash included
    metrics.jsonl       a line per validation
    curves.png          those figures over the steps
    pictures/           predictions on validation scans
    last.ckpt           where the same command goes on
    best.safetensors    the averaged weights that validated best

A run that was stopped or killed goes on from `last.ckpt` and ends as an undisturbed one would, but for the validation
that a budget ends with: a step's batch and torch's random numbers in it (dropout's) depend on the recipe and the step
alone. Of several processes (afmid.processes) each fits the same network on its own share of the batches; the first
validates and writes.
"""

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from afmid import __version__, processes
from afmid.errors import DataError, PluginError, UsageError
from afmid.io.atomic import atomic_path
from afmid.offers import Task
from afmid.optimizers import Optimizers
from afmid.recipe import Recipe
from afmid.report.curves import draw_curves
from afmid.weights import save_safetensors

if TYPE_CHECKING:
    from afmid.data.examples import Examples

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 120
NETWORK = 2  # what seeds are for, beside what afmid.data.feed draws


class Feed(Protocol):
    """Where batches come from; afmid.data.feed has the core's own. It leaves torch's global random numbers alone."""

    @property
    def sha256(self) -> str:
        """Of the data."""

    def batch(self, step: int) -> "Examples":
        """Return this process' examples of a step, which depend on the step alone."""

    def validation(self) -> "Sequence[Examples]":
        """Return the validation's examples in batches."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    Attributes:
        step, steps: done, and in all.
        losses: of this step's batch, by the names of their submodules; "" where it is the whole network.
        rate: scans per second since the run was started or resumed, validations left out.
        waiting: share of that time spent on waiting for batches.
        validation: figures, at the steps that have a validation, in the process that validates.
        stopped: whether any of the processes was told to stop; this step was the last.
    """

    step: int
    steps: int
    losses: Mapping[str, float]
    rate: float
    waiting: float
    validation: Mapping[str, float] = field(default_factory=dict)
    stopped: bool = False

    @property
    def loss(self) -> float:
        """The sum of the losses."""
        return sum(self.losses.values())


def fit(
    task: Task,
    feed: Feed,
    recipe: Recipe,
    folder: Path,
    budget: float = math.inf,
    stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = False,
) -> Generator[Progress]:
    """Train `task.model` in place and yield after each step.

    Batches are made in the background, one step ahead.

    Args:
        task: network and loss.
        feed: batches.
        recipe: what the run depends on.
        folder: of the run; where it holds a checkpoint of the same recipe and data, the run goes on from there.
        budget: seconds after which to have stopped with a validation and a checkpoint, as far as the time that the
            validation takes is known; one step is always taken.
        stop: asked after each step; where it says so, the run stops with a checkpoint.
        tensorboard: write figures and pictures for TensorBoard into the folder, too; needs the extra `tensorboard`.

    Raises:
        UsageError: the folder holds a run of another recipe or other data.
        DataError: the run in the folder is damaged, or the loss or its gradient is no longer finite.
        PluginError: the task's losses do not name submodules of its network, each with weights of its own.
    """
    run = _Run(task, feed.sha256, recipe, folder)
    if run.step == recipe.steps:
        return
    started, waited, first = time.monotonic(), 0.0, run.step
    saved, over, validating, validated = started, False, 0.0, 0.0  # seconds of the last validation, and of all
    shown = tensorboard and run.writes
    with _background(run.device) as background, _board(folder, run.step) if shown else nullcontext() as board:
        coming = background.submit(feed.batch, run.step)
        validation = background.submit(feed.validation) if run.writes else None
        while not over:
            asked = time.monotonic()
            batch = coming.result()
            waited += time.monotonic() - asked
            if validation and validation.done():
                validation.result()  # what it cannot be made of is said at once
            if run.step + 1 < recipe.steps:
                coming = background.submit(feed.batch, run.step + 1)
            losses = run.advance(batch)
            spent, steps = time.monotonic() - started, run.step - first
            reserve = validating or 2 * spent / steps * recipe.validation_scans / recipe.batch
            stopped, late = processes.any_of(stop(), spent + reserve >= budget)
            last = late or run.step == recipe.steps
            over = stopped or last
            learnt = spent - validated
            rate = steps * recipe.batch / learnt
            progress = Progress(run.step, recipe.steps, losses, rate, waited / learnt, stopped=stopped)
            due = last or run.step % recipe.validate_every == 0
            if due and validation:
                begun = time.monotonic()
                progress = replace(progress, validation=run.validate(validation.result(), progress))
                validating = time.monotonic() - begun
                validated += validating
            if run.writes and (due or over or time.monotonic() - saved > CHECKPOINT_SECONDS):
                run.save()
                saved = time.monotonic()
            if board:
                board(progress)
            yield progress
        processes.any_of(False)  # the others wait until the first has validated and saved


@contextmanager
def _background(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Yield one thread, since a simulator serves one at a time, that uses the same GPU as this one."""
    use = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
    pool = ThreadPoolExecutor(1, initializer=use)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class _Run:
    """The state of a run, on disk and in memory."""

    def __init__(self, task: Task, data: str, recipe: Recipe, folder: Path):
        self.task, self.data, self.recipe, self.folder = task, data, recipe, folder
        self.model = task.model
        self.device = next(self.model.parameters()).device
        self.writes = processes.rank() == 0
        self.draws = True
        processes.take_first([*self.model.parameters(), *self.model.buffers()])
        self.optimizer = Optimizers(self.model.parameters(), recipe)
        self.averaged = copy.deepcopy(self.model).eval()
        self.step, self.best, self.seconds = 0, math.inf, 0.0
        self._resumed = time.monotonic()
        state = processes.first(self._open)
        if state and not self.writes:
            self._restore(state)

    def advance(self, batch: "Examples") -> dict[str, float]:
        """Take one optimizer step and return the losses."""
        torch.manual_seed(_seed(self.recipe.seed, self.step, NETWORK, processes.rank()))
        losses = self._differentiate(batch)
        self.optimizer.step(_schedule(self.step, self.recipe))
        processes.take_first(list(self.model.buffers()))
        self._average()
        self.step += 1
        return losses

    @torch.no_grad()
    def _average(self) -> None:
        """Take the weights into their running average, which forgets faster at first: the initial ones fade at once."""
        decay = min(self.recipe.average, self.step / (10 + self.step))
        for mean, now in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            mean.copy_(torch.lerp(now, mean, decay) if mean.is_floating_point() else now)

    def _differentiate(self, batch: "Examples") -> dict[str, float]:
        """Return the losses of a batch and leave their clipped gradients in the model."""
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            loss = self.task.loss(self.model, batch)
        losses = {"": loss} if isinstance(loss, Tensor) else dict(loss)
        weights = _weights(self.model, losses)
        for name, loss in losses.items():  # the graphs of several may share nodes
            loss.backward(inputs=weights[name], retain_graph=len(losses) > 1)  # type: ignore[no-untyped-call]
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        processes.average([*(_gradient(weight) for group in weights.values() for weight in group), values])
        figures = dict(zip(losses, values.tolist(), strict=True))
        for name, value in figures.items():
            self._check_finite(f"loss {name}".strip(), value)
            norm = float(nn.utils.clip_grad_norm_(weights[name], self.recipe.clip))
            self._check_finite(f"gradient {name}".strip(), norm)
        return figures

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            error = DataError(f"the {what} is {value} at step {self.step}; try a lower learning_rate")
            raise error if self.writes else SystemExit(error.exit_code)  # which all processes meet, and one tells of

    def validate(self, batches: "Sequence[Examples]", progress: Progress) -> dict[str, float]:
        """Validate the averaged weights, keep them where they are the best so far, and record the figures."""
        model = self.averaged
        with torch.inference_mode():
            validated = self.task.validate(model, batches)
            figures = {name: value for name, value in validated.items() if math.isfinite(value)}
            if figures.get("loss", math.inf) < self.best:
                self.best = figures["loss"]
                self._keep(model, batches)
        told = {"training_loss": progress.loss, "scans_per_second": progress.rate, "waiting": progress.waiting}
        row = {"step": self.step, "seconds": round(self._elapsed(), 1), **told, **figures}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        with torch.inference_mode():
            self._picture(model, batches)
        return figures

    def _picture(self, model: nn.Module, batches: "Sequence[Examples]") -> None:
        if self.draws:
            try:
                lines = (self.folder / "metrics.jsonl").read_text().splitlines()
                draw_curves([json.loads(line) for line in lines], self.folder / "curves.png")
                self.task.picture(model, batches[0], _picture_file(self.folder, self.step))
            except ImportError as error:
                self.draws = False
                log.info("no pictures of the training are drawn: %s", error)

    def _keep(self, model: nn.Module, batches: "Sequence[Examples]") -> None:
        names = {field: Path(getattr(self.recipe, field)).name for field in self.recipe.files}
        recipe = self.recipe.model_copy(update=names)  # their folders are nobody's matter
        record = {"step": str(self.step), "recipe": recipe.model_dump_json(), "data_sha256": self.data}
        made_by = {"afmid": __version__, "torch": str(torch.__version__)}
        metadata = {**self.task.metadata(model, batches), **record, **made_by}
        save_safetensors(model.state_dict(), metadata, self.folder / "best.safetensors")

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "step": self.step,
            "best": self.best,
            "seconds": self._elapsed(),
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(self._checkpoint) as path:
            torch.save(state, path)

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "last.ckpt"

    def _open(self) -> dict[str, Any] | None:
        """Make the folder, or check that it holds this run; go to its checkpoint and return it where there is one."""
        (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
        self._check_recipe({"recipe": self.recipe.model_dump(mode="json"), "data_sha256": self.data})
        state: dict[str, Any] | None = None
        if self._checkpoint.exists():
            try:
                state = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
                self._restore(state)
            except Exception as error:  # torch.load raises whatever a damaged file makes it stumble over
                what = f"{self._checkpoint}: no checkpoint of this recipe"
                raise DataError(f"{what} ({error}); --force starts anew") from error
        self._trim_metrics()
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.best, self.seconds = float(state["best"]), float(state["seconds"])

    def _trim_metrics(self) -> None:
        """Drop cut lines, and those after this step: a kill may have come between a validation and its checkpoint."""
        path = self.folder / "metrics.jsonl"
        if path.exists():
            lines = path.read_text(errors="replace").splitlines()
            with atomic_path(path) as fresh:
                fresh.write_text("".join(f"{line}\n" for line in lines if _step_of(line) <= self.step))

    def _check_recipe(self, record: dict[str, Any]) -> None:
        path = self.folder / "recipe.json"
        if not path.exists():
            with atomic_path(path) as fresh:
                fresh.write_text(json.dumps(record, indent=1) + "\n")
            return
        try:
            old, new = (
                {"data": r["data_sha256"], **_flat(r["recipe"])} for r in (json.loads(path.read_text()), record)
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path}: no recipe of a run ({error}); --force starts anew") from error
        if changed := [key for key in {**old, **new} if old.get(key) != new.get(key)]:
            key = changed[0]
            others = f" (also another {', '.join(changed[1:6])})" if len(changed) > 1 else ""
            raise UsageError(
                f"{self.folder} holds a run with {key} = {old.get(key)}, not {new.get(key)}{others}; choose another "
                f"folder with -o (and go on from its weights with --set start={self.folder}/best.safetensors), or "
                "--force"
            )

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._resumed


def _weights(model: nn.Module, losses: Mapping[str, Tensor]) -> dict[str, list[nn.Parameter]]:
    """Return the weights that each loss moves.

    Raises:
        PluginError: a loss that names no submodule with weights, or two that share a weight.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    owner: dict[int, str] = {}
    for name in losses:
        module = getattr(model, name, None) if name else model
        weights = list(module.parameters()) if isinstance(module, nn.Module) else []
        groups[name] = [weight for weight in weights if weight.requires_grad]
        if not groups[name]:
            there = ", ".join(child for child, _ in model.named_children())
            raise PluginError(f"a loss is named {name!r}, which is no submodule with weights; there are: {there}")
        for weight in groups[name]:
            if (other := owner.setdefault(id(weight), name)) != name:
                raise PluginError(f"the submodules {other!r} and {name!r} share weights; each loss needs its own")
    return groups


def _gradient(weight: nn.Parameter) -> Tensor:
    """Return the gradient of a weight, which is zero where the loss does not depend on it."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def _seed(*numbers: int) -> int:
    """Return a seed of torch's own random numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, by "outer.inner"."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _step_of(line: str) -> float:
    """Return the step of a line of metrics.jsonl, infinity where the line is cut or damaged."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _schedule(step: int, recipe: Recipe) -> float:
    """Return the learning rates as a fraction of the highest: a linear rise, then half a cosine."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return (1 + math.cos(math.pi * done)) / 2


def _picture_file(folder: Path, step: int) -> Path:
    return folder / "pictures" / f"{step:07d}.png"


@contextmanager
def _board(folder: Path, step: int) -> Iterator[Callable[[Progress], None]]:
    """Yield what shows progress in TensorBoard, from which what came after `step` is dropped."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def write(progress: Progress) -> None:
            figures = {"scans per second": progress.rate, "share of waiting": progress.waiting, "loss": progress.loss}
            if len(progress.losses) > 1:
                figures |= {f"loss/{name}": value for name, value in progress.losses.items()}
            figures |= {f"validation/{name}": value for name, value in progress.validation.items()}
            for name, value in figures.items():
                writer.add_scalar(name, value, progress.step)
            picture = _picture_file(folder, progress.step)
            if progress.validation and picture.exists():
                png = picture.read_bytes()
                width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
                image = Summary.Image(width=width, height=height, encoded_image_string=png)
                summary = Summary(value=[Summary.Value(tag="predictions", image=image)])
                writer.file_writer.add_summary(summary, progress.step)
                writer.flush()

        yield write
