"""What a training run of the descriptor network depends on, and the task that the core's loop fits."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from afmid import DataError
from afmid.data.augment import Cutout, Noise, Normalise, PlaneShift
from afmid.data.pack import MoleculePack
from afmid.data.poses import draw_scene
from afmid.offers import Augment
from afmid.simulate import Scene
from afmid.simulate.torch_engine import TorchSimulator
from afmid_descriptor import NAME, Options, __version__
from afmid_descriptor.atoms import calibrate
from afmid_descriptor.method import ARCHITECTURE, DescriptorMethod
from afmid_descriptor.model import BRANCHES, HEIGHTS, DescriptorCNN
from afmid_descriptor.options import DescriptorRecipe
from afmid_descriptor.stack import Stack, fill_heights
from afmid_descriptor.targets import descriptor_maps

log = logging.getLogger(__name__)

LOSS_WEIGHTS = (20.0, 0.2, 0.1)  # of disks, spheres, height: Alldritt et al. (2020)
VALIDATION = 2**32  # steps of the training stay below; validation scans are drawn above


class Batch(NamedTuple):
    """Stacks (B, X, Y, Z), normalised where a network sees them, and their maps (B, 3, X, Y)."""

    df: Tensor
    maps: Tensor


class DescriptorTask:
    """Scans simulated as they are needed; the published loss."""

    def __init__(self, recipe: DescriptorRecipe, pack: MoleculePack, device: str):
        self.train, self.val = (_conformers(pack, split) for split in ("train", "val"))
        torch.manual_seed(recipe.seed)
        self.recipe, self.pack, self.device = recipe, pack, device
        self.model: nn.Module = DescriptorCNN().to(device)
        for module in self.model.modules():
            if isinstance(module, nn.Conv2d):  # the layout that CPUs prefer
                module.to(memory_format=torch.channels_last)
        compiler = device == "cuda" or shutil.which("c++") is not None
        self.simulator = TorchSimulator(device, compile=recipe.compile and compiler)
        self._fresh = -1  # which draw the scans at hand are from

    def batch(self, step: int) -> Batch:
        """Return the stacks and maps of a step: simulated, turned or mirrored, made to look measured, normalised."""
        fresh = step // self.recipe.reuse
        if fresh != self._fresh:
            self._fresh = fresh
            self._scans = self._simulated(self._scenes(fresh, self.train, self.recipe.batch))
        rng = np.random.default_rng([self.recipe.seed, step, 1])
        turns, mirror = int(rng.integers(4)), rng.random() < 0.5
        df, maps = (images.rot90(turns, axes) for images, axes in zip(self._scans, ((1, 2), (2, 3)), strict=True))
        if mirror:
            df, maps = df.flip(1), maps.flip(2)
        return Batch(self._measured(df, rng), maps)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return 20 MSE(disks) + 0.2 MSE(spheres) + 0.1 MSE(height)."""
        errors = (model(batch.df) - batch.maps).square().mean((0, 2, 3))
        return errors @ errors.new_tensor(LOSS_WEIGHTS)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the loss, and of each map the mean squared error and the correlation over all pixels."""
        predicted = torch.cat([model(b.df) for b in self._validation])
        truth = torch.cat([b.maps for b in self._validation])
        figures = {"loss": float(torch.stack([self.loss(model, b) for b in self._validation]).mean())}
        for k, name in enumerate(BRANCHES):
            pair = torch.stack([predicted[:, k].flatten(), truth[:, k].flatten()])
            figures[f"{name}_mse"] = float(mse_loss(*pair))
            figures[f"{name}_correlation"] = float(torch.corrcoef(pair)[0, 1])
        return figures

    def picture(self, model: nn.Module, path: Path) -> None:
        """Draw four validation scans: the far and the near image, then each map, predicted above true."""
        from matplotlib.figure import Figure

        batch = self._validation[0]
        maps = model(batch.df[:4])
        figure = Figure(figsize=(10, 2 * 2 * len(maps)), layout="constrained")
        axes = figure.subplots(2 * len(maps), 4)
        for row, (df, predicted, truth) in enumerate(zip(batch.df, maps, batch.maps, strict=False)):
            for half, (label, images) in enumerate((("predicted", predicted), ("true", truth))):
                left, *right = axes[2 * row + half]
                left.imshow(df[..., 0 if half else -1].cpu().numpy().T, origin="lower", cmap="gray")
                left.set_title("far" if half else "near", fontsize=8)
                for axis, name, image, scale in zip(right, BRANCHES, images, truth, strict=True):
                    axis.imshow(image.cpu().numpy().T, origin="lower", vmin=0, vmax=max(float(scale.max()), 1e-6))
                    axis.set_title(f"{name}, {label}", fontsize=8)
        for axis in axes.flat:
            axis.set_axis_off()
        figure.savefig(path, dpi=60)

    def metadata(self, model: DescriptorCNN) -> dict[str, str]:
        """Return what the weights file says of itself, with the atoms' confidence where validation scans settle it."""
        method, threshold = DescriptorMethod(model), Options().threshold
        disks, axes, truths = [], [], []
        for batch, scenes in zip(self._validation, self._validation_scenes, strict=True):
            for df, scene in zip(batch.df, scenes, strict=True):
                axes.append((scene.x, scene.y))
                truths.append(scene.molecule)
                disks.append(method.maps(Stack(df[None], scene.x, scene.y, ()), average=True)[0].numpy())
        told = {"method": NAME, "architecture": ARCHITECTURE, "version": __version__}
        told["config"] = json.dumps(asdict(model.config))
        if coefficients := calibrate(disks, axes, truths, threshold):
            told["confidence"] = json.dumps(coefficients)
        return told

    @cached_property
    def _validation_scenes(self) -> list[list[Scene]]:
        size, count = self.recipe.batch, self.recipe.validation_scans
        return [
            self._scenes(VALIDATION + start, self.val, min(size, count - start)) for start in range(0, count, size)
        ]

    @cached_property
    def _validation(self) -> list[Batch]:
        batches = []
        for number, scenes in enumerate(self._validation_scenes):
            df, maps = self._simulated(scenes)
            batches.append(Batch(self._measured(df, np.random.default_rng([self.recipe.seed, number, 2])), maps))
        return batches

    def _scenes(self, draw: int, conformers: NDArray[np.int64], size: int) -> list[Scene]:
        """Return scenes that depend on the seed and `draw` alone."""
        rng = np.random.default_rng([self.recipe.seed, draw, 0])
        chosen = [self.pack.molecule(int(i)) for i in rng.choice(conformers, size)]
        return [draw_scene(molecule, self.recipe.simulation, self.recipe.ranges, rng) for molecule in chosen]

    @torch.no_grad()
    def _simulated(self, scenes: list[Scene]) -> Batch:
        """Return Δf (Hz) and maps of scenes."""
        settings = self.recipe.simulation
        images = self.simulator.images(scenes, settings.weights()).values[..., -settings.heights :]
        return Batch(images, self._maps(scenes))

    def _measured(self, df: Tensor, rng: np.random.Generator) -> Tensor:
        """Return stacks as a microscope would bring them, normalised: noisy, at times drifted, with images missing."""
        recipe, generator = self.recipe, torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        before = [PlaneShift(recipe.drift, 2 * recipe.drift)] if rng.random() < recipe.drifted else []
        after = [Cutout(5, 0.2, 0.001, 0.01, 10.0)] if rng.random() < recipe.cut else []
        df = _augmented(df, [*before, Noise(recipe.noise, "drawn")], generator)
        df = torch.cat([fill_heights(stack[None, ..., self._missing(rng) :]) for stack in df])
        return _augmented(df, [Normalise(), *after], generator)

    def _missing(self, rng: np.random.Generator) -> int:
        """Return how many of the far images a stack lacks."""
        return int(rng.integers(1, HEIGHTS - self.recipe.fewest + 1)) if rng.random() < self.recipe.fewer else 0

    def _maps(self, scenes: list[Scene]) -> Tensor:
        longest = max(len(scene.molecule) for scene in scenes)
        numbers = np.zeros((len(scenes), longest), np.int64)
        positions = np.zeros((len(scenes), longest, 3))
        for row, scene in enumerate(scenes):
            numbers[row, : len(scene.molecule)] = scene.molecule.numbers
            positions[row, : len(scene.molecule)] = scene.molecule.positions
        x, y = (np.stack([getattr(scene, axis) for scene in scenes]) for axis in "xy")
        to = {"device": self.device, "dtype": torch.float32}
        return descriptor_maps(
            torch.tensor(numbers, device=self.device), torch.tensor(positions, **to),
            torch.tensor(numbers > 0, device=self.device), torch.tensor(x, **to), torch.tensor(y, **to),
        )  # fmt: skip


def _conformers(pack: MoleculePack, split: str) -> NDArray[np.int64]:
    """Return the conformers of a split, of which there must be some."""
    conformers = pack.conformers(split)
    if not len(conformers):
        raise DataError(
            f"none of the {len(pack)} molecules is in the split {split!r}, which training needs; "
            "give more molecules (a longer list, a higher --limit), or name their splits in the list's column 'split'"
        )
    return conformers


def _augmented(df: Tensor, steps: Sequence[Augment], generator: torch.Generator) -> Tensor:
    for augment in steps:
        df, _ = augment(df, df.new_empty(0), generator)
    return df


def load(recipe: DescriptorRecipe, pack: MoleculePack, device: str) -> DescriptorTask:
    """Return the task that `afmid train descriptor` fits.

    Raises:
        DataError: no molecules to train on, or none to validate with.
    """
    return DescriptorTask(recipe, pack, device)
