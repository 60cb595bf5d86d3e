"""The one loop every recipe shares.

A method brings a Task (its network, batches and loss; afmid.offers); this module fits it, keeps a running average of
its weights, validates, and leaves in the run's folder

    recipe.json         every number the run depends on, the data's hash included
    metrics.jsonl       a line per validation
    pictures/           predictions on validation scans
    last.ckpt           where the same command goes on
    best.safetensors    the averaged weights that validated best

A killed run goes on from `last.ckpt` and ends as an undisturbed one would: a step's batch and torch's random numbers
in it (dropout's) depend on the recipe and the step alone.
"""

import json
import logging
import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from afmid import __version__
from afmid.errors import DataError, UsageError
from afmid.io.atomic import atomic_path
from afmid.offers import Task
from afmid.recipe import Recipe
from afmid.weights import save_safetensors

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 120


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    Attributes:
        step, steps: done, and in all.
        loss: of this step's batch.
        rate: scans per second since the run was started or resumed.
        waiting: share of the time spent on making batches.
        validation: figures, at the steps that have a validation.
    """

    step: int
    steps: int
    loss: float
    rate: float
    waiting: float
    validation: dict[str, float] = field(default_factory=dict)


def fit(task: Task, recipe: Recipe, folder: Path, data: str = "", budget: float = math.inf) -> Generator[Progress]:
    """Train `task.model` in place and yield after each step; close the iterator to stop with a checkpoint.

    Args:
        task: network, batches and loss.
        recipe: what the run depends on.
        folder: of the run; where it holds a checkpoint of the same recipe and data, the run goes on from there.
        data: SHA-256 of the training data.
        budget: seconds after which to stop with a validation and a checkpoint; one step is always taken.

    Raises:
        UsageError: the folder holds a run of another recipe or other data.
        DataError: the run in the folder is damaged, or the loss or its gradient is no longer finite.
    """
    run = _Run(task, recipe, folder, data)
    started, waited, first = time.monotonic(), 0.0, run.step
    saved = started
    try:
        over = False
        while run.step < recipe.steps and not over:
            before = time.monotonic()
            batch = task.batch(run.step)
            waited += time.monotonic() - before
            loss = run.advance(batch)
            over = time.monotonic() - started >= budget
            due = over or run.step % recipe.validate_every == 0 or run.step == recipe.steps
            run.whole = not due  # a validation that is broken off is done again, from the checkpoint before it
            validation = run.validate() if due else {}
            run.whole = True
            if due or time.monotonic() - saved > CHECKPOINT_SECONDS:
                run.save()
                saved = time.monotonic()
            elapsed = time.monotonic() - started
            rate = (run.step - first) * recipe.batch / elapsed
            yield Progress(run.step, recipe.steps, loss, rate, waited / elapsed, validation)
    finally:
        if run.whole and run.step > run.saved:
            run.save()


class _Run:
    """The state of a run, on disk and in memory."""

    def __init__(self, task: Task, recipe: Recipe, folder: Path, data: str):
        self.task, self.recipe, self.folder, self.data = task, recipe, folder, data
        self.model = task.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=recipe.learning_rate, weight_decay=0)
        self.averaged = AveragedModel(self.model, avg_fn=partial(_average, recipe.average), use_buffers=True)
        self.step, self.saved, self.best, self.seconds = 0, 0, math.inf, 0.0
        self.whole = True  # False in the middle of a step and after one that failed: nothing to be saved
        self.draws = True
        self._resumed = time.monotonic()
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self._check_recipe({"recipe": recipe.model_dump(mode="json"), "data_sha256": data})
        if (folder / "last.ckpt").exists():
            self._load()
        self._trim_metrics()

    def advance(self, batch: Any) -> float:
        """Take one optimizer step and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * _schedule(self.step, self.recipe)
        torch.manual_seed(_seed(self.recipe.seed, self.step))
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        self.whole = False
        try:
            loss = self._differentiate(batch)
        except KeyboardInterrupt:  # of what is saved only buffers may have moved, such as running means
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            self.whole = True
            raise
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        self.step += 1
        self.whole = True
        return loss

    def _differentiate(self, batch: Any) -> float:
        """Return the loss of a batch and leave its clipped gradient in the model."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.model, batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(f"the loss is {value} at step {self.step}; try a lower learning_rate")
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0))
        if not math.isfinite(norm):
            raise DataError(f"the gradient is {norm} at step {self.step}; try a lower learning_rate")
        return value

    def validate(self) -> dict[str, float]:
        """Validate the averaged weights, keep them where they are the best so far, and record the figures."""
        model = self.averaged.module.eval()
        with torch.inference_mode():
            figures = {name: value for name, value in self.task.validate(model).items() if math.isfinite(value)}
            self._picture(model)
        if figures.get("loss", math.inf) < self.best:
            self.best = figures["loss"]
            record = {"step": str(self.step), "recipe": self.recipe.model_dump_json(), "data_sha256": self.data}
            metadata = {**self.task.metadata(model), **record, "afmid": __version__, "torch": str(torch.__version__)}
            save_safetensors(model.state_dict(), metadata, self.folder / "best.safetensors")
        row = {"step": self.step, "seconds": round(self._elapsed(), 1), **figures}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        return figures

    def _picture(self, model: torch.nn.Module) -> None:
        if self.draws:
            try:
                self.task.picture(model, self.folder / "pictures" / f"{self.step:07d}.png")
            except ImportError as error:
                self.draws = False
                log.info("no pictures of the training are drawn: %s", error)

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
        with atomic_path(self.folder / "last.ckpt") as path:
            torch.save(state, path)
        self.saved = self.step

    def _load(self) -> None:
        path = self.folder / "last.ckpt"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = self.saved = int(state["step"])
            self.best, self.seconds = float(state["best"]), float(state["seconds"])
        except Exception as error:  # torch.load raises whatever a damaged file makes it stumble over
            raise DataError(f"{path}: no checkpoint of this recipe ({error}); --force starts anew") from error

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
            old, new = ({"data": r["data_sha256"], **r["recipe"]} for r in (json.loads(path.read_text()), record))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: no recipe of a run ({error}); --force starts anew") from error
        if changed := [key for key in {**old, **new} if old.get(key) != new.get(key)]:
            key = changed[0]
            raise UsageError(
                f"{self.folder} holds a run with {key} = {old.get(key)}, not {new.get(key)}; "
                "choose another folder with --output, or start anew with --force"
            )

    def _elapsed(self) -> float:
        return self.seconds + time.monotonic() - self._resumed


def _average(decay: float, averaged: Tensor, current: Tensor, count: int | Tensor) -> Tensor:
    """Return the running average of a weight; it forgets faster at first, so that the initial weights fade at once."""
    if not averaged.is_floating_point():  # such as BatchNorm's count of batches
        return current
    return torch.lerp(current, averaged, min(decay, (1 + int(count)) / (10 + int(count))))


def _seed(seed: int, step: int) -> int:
    """Return a seed of torch's own random numbers in a step."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])


def _step_of(line: str) -> float:
    """Return the step of a line of metrics.jsonl, infinity where the line is cut or damaged."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return math.inf


def _schedule(step: int, recipe: Recipe) -> float:
    """Return the learning rate as a fraction of the highest: a linear rise, then half a cosine."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return (1 + math.cos(math.pi * done)) / 2
