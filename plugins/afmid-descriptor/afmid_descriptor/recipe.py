"""What a training run of the descriptor network depends on, and the task that the core's loop fits."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from afmid.data.examples import Examples
from afmid_descriptor import NAME, Options, __version__
from afmid_descriptor.atoms import calibrate
from afmid_descriptor.method import ARCHITECTURE, DescriptorMethod
from afmid_descriptor.model import BRANCHES, DescriptorCNN
from afmid_descriptor.options import DescriptorRecipe
from afmid_descriptor.stack import Stack
from afmid_descriptor.targets import descriptor_maps

DISKS, SPHERES, HEIGHT = 20.0, 0.2, 0.1  # weights of their losses: Alldritt et al. (2020)


class DescriptorTask:
    """The network, its maps and the published loss."""

    def __init__(self, recipe: DescriptorRecipe, device: str):
        torch.manual_seed(recipe.seed)
        self.model: nn.Module = DescriptorCNN().to(device)
        for module in self.model.modules():
            if isinstance(module, nn.Conv2d):  # the layout that CPUs prefer
                module.to(memory_format=torch.channels_last)

    def maps(self, examples: Examples) -> Tensor:
        """Return disks, spheres and height map, (B, 3, X, Y)."""
        return descriptor_maps(examples.numbers, examples.positions, examples.atoms, examples.x, examples.y)

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Return 20 MSE(disks) + 0.2 MSE(spheres) + 0.1 MSE(height)."""
        return _loss(model(examples.df), examples.maps)

    def validate(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, float]:
        """Return the loss, and of each map the mean squared error and the correlation over all pixels."""
        predicted = torch.cat([model(b.df).float() for b in batches])
        truth = torch.cat([b.maps for b in batches])
        figures = {"loss": float(_loss(predicted, truth))}
        for k, name in enumerate(BRANCHES):
            pair = torch.stack([predicted[:, k].flatten(), truth[:, k].flatten()])
            figures[f"{name}_mse"] = float(mse_loss(*pair))
            figures[f"{name}_correlation"] = float(torch.corrcoef(pair)[0, 1])
        return figures

    def picture(self, model: nn.Module, examples: Examples, path: Path) -> None:
        """Draw four validation scans: the far and the near image, then each map, predicted above true."""
        from matplotlib.figure import Figure

        maps = model(examples.df[:4]).float()
        figure = Figure(figsize=(10, 2 * 2 * len(maps)), layout="constrained")
        axes = figure.subplots(2 * len(maps), 4)
        for row, (df, predicted, truth) in enumerate(zip(examples.df, maps, examples.maps, strict=False)):
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

    def metadata(self, model: DescriptorCNN, batches: Sequence[Examples]) -> dict[str, str]:
        """Return what the weights file says of itself, with the atoms' confidence where the examples settle it."""
        method, threshold = DescriptorMethod(model), Options().threshold
        disks, axes, truths = [], [], []
        for batch in batches:
            for i, df in enumerate(batch.df):
                x, y = (axis[i].cpu().double().numpy() for axis in (batch.x, batch.y))
                axes.append((x, y))
                truths.append(batch.molecule(i))
                disks.append(method.maps(Stack(df[None], x, y, ()), average=True)[0].numpy())
        told = {"method": NAME, "architecture": ARCHITECTURE, "version": __version__}
        told["config"] = json.dumps(asdict(model.config))
        if coefficients := calibrate(disks, axes, truths, threshold):
            told["confidence"] = json.dumps(coefficients)
        return told


def _loss(predicted: Tensor, truth: Tensor) -> Tensor:
    disks, spheres, height = (predicted - truth).square().mean((0, 2, 3))
    return DISKS * disks + SPHERES * spheres + HEIGHT * height


def load(recipe: DescriptorRecipe, device: str) -> DescriptorTask:
    """Return the task that `afmid train descriptor` fits."""
    return DescriptorTask(recipe, device)
