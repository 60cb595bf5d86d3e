"""Augmentation: make simulated stacks look measured.

A step takes stacks (B, X, Y, Z), Z from far to near, their aligned targets (B, C, X, Y), and a generator. It returns
new stacks and the targets, and changes nothing that it was given. Its draws come from the generator alone: neither
their number nor their order depends on the values of the stacks. The generator may live on another device.

The steps are those of ASD-AFM (Alldritt et al., Sci. Adv. 6, eaay6913, 2020), ED-AFM (Oinonen et al., ACS Nano 16,
89, 2022) and Graph-AFM (Oinonen et al., MRS Bull. 47, 895, 2022); their published values are the defaults of the
options in afmid.builtin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn.functional import grid_sample

from afmid.errors import DataError, PluginError
from afmid.offers import Augmentation
from afmid.scan import Scan


@dataclass(frozen=True)
class Normalise:
    """Give each image zero mean and unit variance; an image of a single value becomes zero."""

    def __call__(self, df: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        centred = df - df.mean((1, 2), keepdim=True)
        centred = centred - centred.mean((1, 2), keepdim=True)  # what float32 left of the mean
        centred = torch.where(_range(df) == 0, 0, centred)
        largest = centred.abs().amax((1, 2), keepdim=True)
        centred = centred / torch.where(largest == 0, 1, largest)  # so that no square under- or overflows
        deviation = centred.square().mean((1, 2), keepdim=True).sqrt()
        return centred / torch.where(deviation == 0, 1, deviation), targets


@dataclass(frozen=True)
class Noise:
    """Add uniform white noise of ± half of `level` times the image's range.

    Attributes:
        level: fraction of each image's range.
        spread: "drawn": a level |N(0, level)| for each sample; "fixed": `level` itself.
    """

    level: float
    spread: str

    def __call__(self, df: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = (len(df), 1, 1, 1)
        scale = torch.ones(shape, device=generator.device)
        if self.spread == "drawn":
            scale = torch.randn(shape, generator=generator, device=generator.device).abs()
        noise = _uniform(-0.5, 0.5, tuple(df.shape), df, generator)
        return df + self.level * scale.to(df) * _range(df) * noise, targets


@dataclass(frozen=True)
class PlaneShift:
    """Shift the images sideways against each other, as drift does; the closest image and the targets stay in place.

    The shifts walk at random from the closest image to the farthest, on a disk. They are bilinear between pixels, and
    the edge repeats.

    Attributes:
        step: longest shift between neighbouring images, fraction of the image's shorter side.
        total: longest shift of any image, likewise.
    """

    step: float
    total: float

    def __call__(self, df: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        moved = _shifted(df, self._walk(df, generator))
        return torch.cat([moved[..., :-1], df[..., -1:]], dim=-1), targets

    def _walk(self, df: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the shift of each image (pixels), (B, Z, 2)."""
        b, nx, ny, nz = df.shape
        angle = _uniform(0, 2 * math.pi, (b, nz - 1, 1), df, generator)
        length = _uniform(0, self.step * min(nx, ny), (b, nz - 1, 1), df, generator)
        steps = length * torch.cat([angle.cos(), angle.sin()], dim=-1)
        walk = [steps.new_zeros(b, 2)]
        for step in steps.unbind(1):
            at = walk[-1] + step
            distance = at.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(at.dtype).tiny)
            walk.append(at * (self.total * min(nx, ny) / distance).clamp(max=1))  # the nearest point of the disk
        return torch.stack(walk[::-1], dim=1)


@dataclass(frozen=True)
class Cutout:
    """Blank rectangles of each image: they take the image's mean, which is 0 once the stack is normalised.

    Attributes:
        tries: rectangles tried in each image.
        probability: that a try blanks.
        smallest, largest: a rectangle's area, fraction of the image, uniform between them.
        aspect: widest ratio of the sides; the ratio is log-uniform in 1/aspect … aspect.
    """

    tries: int
    probability: float
    smallest: float
    largest: float
    aspect: float

    def __call__(self, df: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        holes = torch.zeros_like(df, dtype=torch.bool)
        for _ in range(self.tries):
            holes |= self._hole(df, generator)
        return torch.where(holes, df.mean((1, 2), keepdim=True), df), targets

    def _hole(self, df: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one try for each image: where it blanks, bool (B, X, Y, Z)."""
        b, nx, ny, nz = df.shape

        def draw(low: float, high: float) -> Tensor:
            return _uniform(low, high, (b, 1, 1, nz), df, generator)

        happens = draw(0, 1) < self.probability
        area = draw(self.smallest, self.largest) * (nx * ny)
        aspect = draw(-math.log(self.aspect), math.log(self.aspect)).exp()
        width = (area * aspect).sqrt().round().clamp(1, nx)
        height = (area / aspect).sqrt().round().clamp(1, ny)
        left = (draw(0, 1) * (nx - width + 1)).floor()
        bottom = (draw(0, 1) * (ny - height + 1)).floor()
        x = torch.arange(nx, device=df.device).view(1, nx, 1, 1)
        y = torch.arange(ny, device=df.device).view(1, 1, ny, 1)
        return happens & (x >= left) & (x < left + width) & (y >= bottom) & (y < bottom + height)


@dataclass(frozen=True)
class Background:
    """Add a plane of random direction, the same for all images of a stack in units of each image's range.

    Attributes:
        strength: largest height of the plane from corner to corner, fraction of the image's range; uniform from 0.
    """

    strength: float

    def __call__(self, df: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        b, nx, ny, _ = df.shape
        angle = _uniform(0, 2 * math.pi, (b, 1, 1, 1), df, generator)
        strength = _uniform(0, self.strength, (b, 1, 1, 1), df, generator)
        x = torch.linspace(-0.5, 0.5, nx).to(df).view(1, nx, 1, 1)
        y = torch.linspace(-0.5, 0.5, ny).to(df).view(1, 1, ny, 1)
        plane = (angle.cos() * x + angle.sin() * y) / (angle.cos().abs() + angle.sin().abs())
        return df + strength * _range(df) * plane, targets


def augment_scan(scan: Scan, steps: Sequence[tuple[Augmentation, BaseModel]], seed: int) -> Scan:
    """Return the scan after `steps`, each an augmentation and its options, in this order.

    Axes and truth stay. `meta["augment"]`, a list, gains one record: the seed, and the steps with their options.

    Raises:
        DataError: a step that moves pixels sideways, so that axes and truth would no longer fit; or a `meta["augment"]`
            that is no list.
        PluginError: a step that returns another shape, or values that are not finite.
    """
    before = scan.meta.get("augment", [])
    if not isinstance(before, list):
        raise DataError(f"meta of the scan: augment must be a list of steps taken, is {before!r}")
    generator = torch.Generator().manual_seed(seed)
    df = torch.from_numpy(scan.df.copy())[None]
    _, nx, ny, _ = df.shape
    pixels = torch.arange(nx * ny, dtype=df.dtype).view(1, 1, nx, ny)  # a target that shows where each pixel went
    for offer, options in steps:
        new, targets = offer.load(options)(df, pixels.clone(), generator)
        if new.shape != df.shape or not torch.isfinite(new).all():
            raise PluginError(
                f"augmentation {offer.name!r} must return finite values of shape {tuple(df.shape)}, "
                f"returned {int((~torch.isfinite(new)).sum())} that are not finite and shape {tuple(new.shape)}"
            )
        if not torch.equal(targets, pixels):
            raise DataError(
                f"augmentation {offer.name!r} moves the image sideways, so that the scan's axes and truth would no "
                "longer fit; leave it out: it is for training"
            )
        df = new
    taken = [{"name": offer.name, "options": options.model_dump(mode="json")} for offer, options in steps]
    return replace(scan, df=df[0].numpy(), meta={**scan.meta, "augment": [*before, {"seed": seed, "steps": taken}]})


def _range(df: Tensor) -> Tensor:
    """Return max − min of each image, (B, 1, 1, Z)."""
    return df.amax((1, 2), keepdim=True) - df.amin((1, 2), keepdim=True)


def _uniform(low: float, high: float, shape: tuple[int, ...], df: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from [low, high) on the generator's device; return it with the stack's device and type."""
    return (low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)).to(df)


def _shifted(df: Tensor, shift: Tensor) -> Tensor:
    """Return each image moved by `shift` (B, Z, 2), pixels."""
    b, nx, ny, nz = df.shape
    images = df.permute(0, 3, 1, 2).reshape(b * nz, 1, nx, ny)
    dx, dy = shift.reshape(b * nz, 2, 1, 1).unbind(1)
    from_x = 2 * (torch.arange(nx).to(df).view(1, nx, 1) - dx) / max(nx - 1, 1) - 1  # grid_sample counts from −1 to 1
    from_y = 2 * (torch.arange(ny).to(df).view(1, 1, ny) - dy) / max(ny - 1, 1) - 1
    size = (b * nz, nx, ny)
    grid = torch.stack([from_y.expand(size), from_x.expand(size)], dim=-1)  # the last axis of an image goes first
    moved = grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.reshape(b, nz, nx, ny).permute(0, 2, 3, 1)
