"""Random draws: made on the generator's device, given with a stack's device and type."""

import math

import torch
from torch import Tensor


def uniform(low: float, high: float, shape: tuple[int, ...], df: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from [low, high)."""
    return (low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)).to(df)


def normal(shape: tuple[int, ...], df: Tensor, generator: torch.Generator) -> Tensor:
    """Draw from the normal distribution of mean 0 and variance 1."""
    return torch.randn(shape, generator=generator, device=generator.device).to(df)


def direction(count: int, df: Tensor, generator: torch.Generator) -> Tensor:
    """Draw directions in the plane: unit vectors (count, 2)."""
    angle = uniform(0, 2 * math.pi, (count,), df, generator)
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def disk(radius: float, count: int, df: Tensor, generator: torch.Generator) -> Tensor:
    """Draw points of a disk, evenly over its area, (count, 2)."""
    length = radius * uniform(0, 1, (count, 1), df, generator).sqrt()
    return length * direction(count, df, generator)
