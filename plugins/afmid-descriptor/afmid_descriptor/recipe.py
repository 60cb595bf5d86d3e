"""What a training run of a descriptor network depends on, and the task that the core's loop fits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from afmid.data.examples import Examples
from afmid.networks.stack import Stack
from afmid_descriptor import NAME, Options, __version__
from afmid_descriptor.atoms import PEAKS, calibrate, with_sigma
from afmid_descriptor.calibration import ONE, TWO, Calibration, written
from afmid_descriptor.edafm import EDAFM
from afmid_descriptor.method import DescriptorMethod
from afmid_descriptor.model import SCALES, DescriptorNet, Prediction
from afmid_descriptor.networks import Network, build, described, seen
from afmid_descriptor.options import DescriptorRecipe
from afmid_descriptor.targets import descriptor_maps

PUBLISHED = {"disks": 20.0, "spheres": 0.2, "height": 0.1}  # weights of their losses: Alldritt et al. (2020)
SMALLEST = 1e-4  # squared error in units of a map's size, below which a map gains no more weight
UNCERTAINTY, TILT = 0.02, 0.3  # weights of their losses
CLOSE = 1e-4  # Å²: likewise of the tilt
SKILL = 0.8  # the tilt is told where its error is less than this share of its size
ALONE = 0.5  # share of the scans that come without their second tip


class DescriptorTask:
    """A network, its maps and its loss."""

    def __init__(self, recipe: DescriptorRecipe, device: str):
        torch.manual_seed(recipe.seed)
        network = build(recipe.architecture, recipe.config()).to(device)
        self.model: nn.Module = network
        self.names = network.names
        self.second = recipe.second

    def maps(self, examples: Examples) -> Tensor:
        """Return the network's maps, (B, C, X, Y)."""
        return true_maps(examples, self.names)

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Return the published loss for the published networks, for the default one `balanced`."""
        df, second = seen(model, examples.df), examples.second
        if not isinstance(model, DescriptorNet):
            second = None if second is None else seen(model, second)
            errors = _errors(model(df, second), examples.maps)
            return torch.stack([PUBLISHED.get(name, 1.0) * e for name, e in zip(self.names, errors, strict=True)]).sum()
        if second is not None:
            second = second * (torch.rand(len(second), 1, 1, 1, device=second.device) >= ALONE)
        return balanced(model.predict(df, second), examples, model.scales)

    def validate(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, float]:
        """Return of each map the mean squared error and the correlation over all pixels, and a loss made of them.

        With a second tip they are those of both together; "field_mse_alone" is that of the first tip alone.
        """
        truth = torch.cat([b.maps for b in batches])
        figures = {"loss": 0.0}
        for suffix in ("", "_alone") if batches[0].second is not None else ("",):
            predicted = torch.cat([self._predicted(model, b, alone=bool(suffix)) for b in batches])
            errors = _errors(predicted, truth)
            for k, name in enumerate(self.names):
                pair = torch.stack([predicted[:, k].flatten(), truth[:, k].flatten()])
                figures[f"{name}_mse{suffix}"] = float(mse_loss(*pair))
                figures[f"{name}_correlation{suffix}"] = float(torch.corrcoef(pair)[0, 1])
            relative = errors / errors.new_tensor([SCALES[name] for name in self.names]).square()
            if not suffix or isinstance(model, DescriptorNet):  # the others are not trained for the first tip alone
                figures["loss"] += float((relative + SMALLEST).log().mean())
        return figures

    def picture(self, model: nn.Module, examples: Examples, path: Path) -> None:
        """Draw four validation scans: the far and the near image, then each map, predicted above true."""
        from matplotlib.figure import Figure

        examples = examples[:4]
        maps = self._predicted(model, examples)
        figure = Figure(figsize=(2.5 * (1 + len(self.names)), 2 * 2 * len(maps)), layout="constrained")
        axes = figure.subplots(2 * len(maps), 1 + len(self.names))
        for row, (df, predicted, truth) in enumerate(zip(examples.df, maps, examples.maps, strict=True)):
            for half, (label, images) in enumerate((("predicted", predicted), ("true", truth))):
                left, *right = axes[2 * row + half]
                left.imshow(df[..., 0 if half else -1].cpu().numpy().T, origin="lower", cmap="gray")
                left.set_title("far" if half else "near", fontsize=8)
                for axis, name, image, scale in zip(right, self.names, images, truth, strict=True):
                    low, high = min(float(scale.min()), 0), max(float(scale.max()), 1e-6)
                    axis.imshow(image.cpu().numpy().T, origin="lower", vmin=low, vmax=high)
                    axis.set_title(f"{name}, {label}", fontsize=8)
        for axis in axes.flat:
            axis.set_axis_off()
        figure.savefig(path, dpi=60)

    def metadata(self, model: Network, batches: Sequence[Examples]) -> dict[str, str]:
        """Return what the weights file says of itself, and what the examples settle of its answers."""
        settled: dict[str, Calibration] = {}
        if not (self.second and isinstance(model, EDAFM)):  # which is not trained for one tip alone then
            settled[ONE] = self._settled(model, [replace(batch, second=None) for batch in batches])
        if self.second:
            settled[TWO] = self._settled(model, batches)
        told = {"method": NAME, "version": __version__, "second": self.second, "calibration": written(settled)}
        return told | described(model)

    def _settled(self, model: Network, batches: Sequence[Examples]) -> Calibration:
        method, looks, axes, truths, errors, tilts = DescriptorMethod(model), [], [], [], [], []
        for batch in batches:
            for i, df in enumerate(batch.df):
                x, y = (axis[i].cpu().double().numpy() for axis in (batch.x, batch.y))
                second = None if batch.second is None else batch.second[i, None]
                look = method.look(Stack(df[None], x, y, (), second), average=True)
                errors.append(((look.maps - batch.maps[i].cpu()) / look.sigma.clamp_min(1e-9)).square().mean((1, 2)))
                tilts.append(torch.stack([look.tilt, batch.tilt[i].cpu()]))
                looks.append(look)
                axes.append((x, y))
                truths.append(batch.molecule(i))
        tells_more = isinstance(model, DescriptorNet)
        spread = torch.stack(errors).mean(0).sqrt() if tells_more else torch.ones(len(self.names))
        fit = None
        if any(name in self.names for name in PEAKS):
            pairs = ((look.maps, look.sigma * spread[:, None, None]) for look in looks)
            named = ((dict(zip(self.names, images.numpy(), strict=True)) for images in pair) for pair in pairs)
            fit = calibrate((with_sigma(maps, sigma) for maps, sigma in named), axes, truths, Options().threshold)
        if not tells_more:
            return Calibration(fit)
        told, true = torch.stack(tilts, 1)
        error, size = (float(values.square().mean().sqrt()) for values in (told - true, true))
        told_tilt = error if error < SKILL * size else None
        return Calibration(fit, dict(zip(self.names, spread.tolist(), strict=True)), told_tilt)

    def _predicted(self, model: nn.Module, examples: Examples, alone: bool = False) -> Tensor:
        second = None if alone or examples.second is None else seen(model, examples.second)
        maps: Tensor = model(seen(model, examples.df), second)
        return maps.float()


def balanced(predicted: Prediction, examples: Examples, scales: Tensor) -> Tensor:
    """Return the loss of the default network.

    It is the sum of the logarithms of the maps' mean squared errors, so that each map, however hard and in whatever
    unit, is worth the same relative gain; with small weights the likelihood of each pixel's error, which teaches the
    variances alone, and the logarithm of the tilt's squared error.
    """
    squared = ((predicted.maps - examples.maps) / scales).square()
    loss = (squared.mean((0, 2, 3)) + SMALLEST).log().sum()
    log_variance = predicted.log_variance - 2 * scales.log()
    loss = loss + UNCERTAINTY * (squared.detach() * torch.exp(-log_variance) + log_variance).mean()
    known = ~examples.tilt.isnan().any(1)
    if known.any():
        loss = loss + TILT * ((predicted.tilt - examples.tilt)[known].square().mean() + CLOSE).log()
    return loss


def true_maps(examples: Examples, names: Sequence[str]) -> Tensor:
    """Return the true maps of examples (B, len(names), X, Y)."""
    return descriptor_maps(
        examples.numbers, examples.positions, examples.atoms, examples.x, examples.y,
        charges=examples.charges, bonds=examples.bonds, orders=examples.orders, names=names,
    )  # fmt: skip


def _errors(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error of each map (C,)."""
    return (predicted.float() - truth).square().mean((0, 2, 3))


def load(recipe: DescriptorRecipe, device: str) -> DescriptorTask:
    """Return the task that `afmid train descriptor` fits."""
    return DescriptorTask(recipe, device)
