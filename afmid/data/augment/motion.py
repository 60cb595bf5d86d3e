"""Steps that move images and targets alike. What comes from beyond the edge fades; of maps it is 0."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from afmid.augmentations import FlipOptions, RotateOptions, ShiftOptions, ZoomOptions
from afmid.data.augment.draws import disk, uniform
from afmid.data.augment.interpolation import faded, transformed, transformed_maps, transformed_points
from afmid.offers import Targets


@dataclass(frozen=True)
class Zoom:
    """Make images and targets larger or smaller about their centre."""

    options: ZoomOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        most = self.options.fraction
        size = uniform(1 - most, 1 + most, (len(df), 1, 1), df, generator)
        return _moved(df, targets, size * torch.eye(2, dtype=df.dtype, device=df.device))


@dataclass(frozen=True)
class Rotate:
    """Turn images and targets about their centre."""

    options: RotateOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        most = math.radians(self.options.degrees)
        angle = uniform(-most, most, (len(df),), df, generator)
        cos, sin = angle.cos(), angle.sin()
        return _moved(df, targets, torch.stack([cos, -sin, sin, cos], dim=-1).view(-1, 2, 2))


@dataclass(frozen=True)
class Shift:
    """Move images and targets sideways by whole pixels, so that nothing is smoothed."""

    options: ShiftOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        b, nx, ny, _ = df.shape
        shift = disk(self.options.pixels, b, df, generator).trunc()
        x = torch.arange(nx, device=df.device) - shift[:, :1].long()
        y = torch.arange(ny, device=df.device) - shift[:, 1:].long()
        inner_x, inner_y = x.clamp(0, nx - 1), y.clamp(0, ny - 1)
        at = (torch.arange(b, device=df.device).view(b, 1, 1), inner_x.unsqueeze(2), inner_y.unsqueeze(1))
        beyond_x, beyond_y = (x - inner_x).abs().unsqueeze(2), (y - inner_y).abs().unsqueeze(1)
        maps = targets.maps.permute(0, 2, 3, 1)[at].permute(0, 3, 1, 2)
        maps = torch.where(((beyond_x == 0) & (beyond_y == 0)).unsqueeze(1), maps, 0)
        new = faded(df[at], df, beyond_x.to(df), beyond_y.to(df))
        return new, Targets(maps, targets.points + shift.unsqueeze(1).to(targets.points))


@dataclass(frozen=True)
class Flip:
    """Turn images and targets by quarters and mirror them, all ways equally often; no pixel is interpolated.

    Images that are not square are turned by halves alone.
    """

    options: FlipOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        nx, ny = df.shape[1:3]
        swap, flip_x, flip_y = (uniform(0, 1, (len(df), 3), df, generator) < 0.5).unbind(1)
        swap = swap & (nx == ny)
        if not self.options.mirror:
            flip_y = flip_x ^ swap  # an even number of mirrors is a turn
        maps, points = targets
        df = _chosen(swap, df.transpose(1, 2) if nx == ny else df, df)
        maps = _chosen(swap, maps.transpose(2, 3) if nx == ny else maps, maps)
        points = _chosen(swap, points.flip(2), points)
        for axis, (flip, count) in enumerate([(flip_x, nx), (flip_y, ny)]):
            df = _chosen(flip, df.flip(1 + axis), df)
            maps = _chosen(flip, maps.flip(2 + axis), maps)
            mirrored = points.clone()
            mirrored[..., axis] = count - 1 - points[..., axis]
            points = _chosen(flip, mirrored, points)
        return df, Targets(maps, points)


def _moved(df: Tensor, targets: Targets, matrix: Tensor) -> tuple[Tensor, Targets]:
    """Return stacks and targets after `matrix` (B, 2, 2) about the images' centre."""
    nx, ny = df.shape[1:3]
    maps = transformed_maps(targets.maps, matrix)
    return transformed(df, matrix), Targets(maps, transformed_points(targets.points, matrix, (nx, ny)))


def _chosen(where: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return the samples of `one` where (B,) is true, else those of the other."""
    return torch.where(where.view(-1, *[1] * (one.dim() - 1)), one, other)
