"""Steps that displace the images against their targets, as microscopes do; the targets stay."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from afmid.augmentations import DriftOptions, PlaneShiftOptions, ShearOptions, TipTiltOptions
from afmid.data.augment.draws import direction, disk, uniform
from afmid.data.augment.interpolation import displaced, transformed
from afmid.offers import Targets


@dataclass(frozen=True)
class TipTilt:
    """Let the tip come in at an angle: an image lies sideways in proportion to its height above the closest.

    It is for stacks that exist already, such as shards and measured sets. Where stacks are simulated for training, the
    probe's rest position is drawn before, from the recipe's ranges, and the image bends with it.
    """

    options: TipTiltOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        b, _, _, nz = df.shape
        step = disk(self.options.step, b, df, generator).view(b, 1, 1, 2)
        above = torch.arange(nz - 1, -1, -1, dtype=df.dtype, device=df.device).view(nz, 1, 1)
        return _closest_in_place(df, step * above), targets


@dataclass(frozen=True)
class PlaneShift:
    """Shift the images sideways against each other; the closest stays.

    The shifts walk at random from the closest image to the farthest, on a disk.
    """

    options: PlaneShiftOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        return _closest_in_place(df, self._walk(df, generator)), targets

    def _walk(self, df: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the shift of each image (pixels), (B, Z, 1, 2)."""
        b, nx, ny, nz = df.shape
        length = uniform(0, self.options.step * min(nx, ny), (b, nz - 1, 1), df, generator)
        steps = length * direction(b * (nz - 1), df, generator).view(b, nz - 1, 2)
        walk = [steps.new_zeros(b, 2)]
        for step in steps.unbind(1):
            at = walk[-1] + step
            distance = at.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(at.dtype).tiny)
            walk.append(at * (self.options.total * min(nx, ny) / distance).clamp(max=1))  # the disk's nearest point
        return torch.stack(walk[::-1], dim=1).unsqueeze(2)


@dataclass(frozen=True)
class Drift:
    """Let the sample creep evenly in one direction, while lines along X are taken one after the other, far to near.

    The middle of the closest image is in place.
    """

    options: DriftOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        b, nx, ny, nz = df.shape
        speed = disk(self.options.step * min(nx, ny), b, df, generator).view(b, 1, 1, 2)
        image = torch.arange(1 - nz, 1, dtype=df.dtype, device=df.device).view(nz, 1, 1)
        line = (torch.arange(ny, dtype=df.dtype, device=df.device) - (ny - 1) / 2).view(ny, 1) / ny
        return displaced(df, speed * (image + line)), targets


@dataclass(frozen=True)
class Shear:
    """Shear the images about their centre, along a random direction, as scanners that are not square do."""

    options: ShearOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        b, most = len(df), math.radians(self.options.degrees)
        slope = uniform(-most, most, (b, 1, 1), df, generator).tan()
        along = direction(b, df, generator)
        across = torch.stack([-along[:, 1], along[:, 0]], dim=-1)
        identity = torch.eye(2, dtype=df.dtype, device=df.device)
        return transformed(df, identity + slope * along.unsqueeze(2) * across.unsqueeze(1)), targets


def _closest_in_place(df: Tensor, shift: Tensor) -> Tensor:
    """Return stacks whose images lie `shift` (B, Z, 1, 2) farther, in pixels, but the closest, to the last bit."""
    return torch.cat([displaced(df, shift)[..., :-1], df[..., -1:]], dim=-1)
