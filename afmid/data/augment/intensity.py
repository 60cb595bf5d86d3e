"""Steps that change the images' values, and leave what they show in its place."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from afmid.augmentations import BackgroundOptions, BlurOptions, CutoutOptions, LineNoiseOptions, NoiseOptions
from afmid.data.augment.draws import direction, normal, uniform
from afmid.offers import Targets


def normalised(df: Tensor) -> Tensor:
    """Return stacks (B, X, Y, Z) with zero mean and unit variance per image; one of a single value becomes zero."""
    centred = df - df.mean((1, 2), keepdim=True)
    centred = centred - centred.mean((1, 2), keepdim=True)  # what float32 left of the mean
    centred = torch.where(_range(df) == 0, 0, centred)
    largest = centred.abs().amax((1, 2), keepdim=True)
    centred = centred / torch.where(largest == 0, 1, largest)  # so that no square under- or overflows
    deviation = centred.square().mean((1, 2), keepdim=True).sqrt()
    return centred / torch.where(deviation == 0, 1, deviation)


@dataclass(frozen=True)
class Normalise:
    """Give each image zero mean and unit variance: `normalised`."""

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        return normalised(df), targets


@dataclass(frozen=True)
class Noise:
    """Add white noise in proportion to each image's range."""

    options: NoiseOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        scale = self.options.level * torch.ones(len(df), 1, 1, 1, dtype=df.dtype, device=df.device)
        if self.options.spread == "drawn":
            scale = scale * normal((len(df), 1, 1, 1), df, generator).abs()
        if self.options.distribution == "normal":
            noise = normal(tuple(df.shape), df, generator)
        else:
            noise = uniform(-0.5, 0.5, tuple(df.shape), df, generator)
        return df + scale * _range(df) * noise, targets


@dataclass(frozen=True)
class LineNoise:
    """Offset each line along X, the fast axis of a scan, in proportion to each image's range.

    The power of the offsets falls as 1/f over all lines of the stack, image after image, as that of a microscope's
    electronics and of slow changes of its tip.
    """

    options: LineNoiseOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        b, _, ny, nz = df.shape
        lines = nz * ny
        level = uniform(0, self.options.level, (b, 1, 1, 1), df, generator)
        white = torch.fft.rfft(normal((b, lines), df, generator))
        amplitude = torch.arange(white.shape[1], dtype=df.dtype, device=df.device).clamp(min=1).rsqrt()
        amplitude[0] = 0  # no offset of the whole stack
        offsets = torch.fft.irfft(white * amplitude, n=lines)
        power = amplitude.square().sum() - (0.5 * amplitude[-1].square() if lines % 2 == 0 else 0)
        offsets = offsets * (lines / (2 * power)).clamp(max=lines).sqrt()  # of unit variance; a lone line stays 0
        return df + level * _range(df) * offsets.view(b, 1, nz, ny).transpose(2, 3), targets


@dataclass(frozen=True)
class Background:
    """Add a plane of random direction, the same for all images of a stack in units of each image's range."""

    options: BackgroundOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        b, nx, ny, _ = df.shape
        along_x, along_y = direction(b, df, generator).view(b, 2, 1, 1, 1).unbind(1)
        strength = uniform(0, self.options.strength, (b, 1, 1, 1), df, generator)
        x = torch.linspace(-0.5, 0.5, nx, dtype=df.dtype, device=df.device).view(1, nx, 1, 1)
        y = torch.linspace(-0.5, 0.5, ny, dtype=df.dtype, device=df.device).view(1, 1, ny, 1)
        plane = (along_x * x + along_y * y) / (along_x.abs() + along_y.abs())
        return df + strength * _range(df) * plane, targets


@dataclass(frozen=True)
class Cutout:
    """Blank rectangles of each image: they take the image's mean, which is 0 once the stack is normalised.

    The area is uniform between the smallest and the largest, the ratio of the sides log-uniform in 1/aspect … aspect.
    """

    options: CutoutOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        holes = torch.zeros_like(df, dtype=torch.bool)
        for _ in range(self.options.tries):
            holes |= self._hole(df, generator)
        return torch.where(holes, df.mean((1, 2), keepdim=True), df), targets

    def _hole(self, df: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one try for each image: where it blanks, bool (B, X, Y, Z)."""
        b, nx, ny, nz = df.shape

        def draw(low: float, high: float) -> Tensor:
            return uniform(low, high, (b, 1, 1, nz), df, generator)

        happens = draw(0, 1) < self.options.probability
        area = draw(self.options.smallest, self.options.largest) * (nx * ny)
        aspect = draw(-math.log(self.options.aspect), math.log(self.options.aspect)).exp()
        width = (area * aspect).sqrt().round().clamp(1, nx)
        height = (area / aspect).sqrt().round().clamp(1, ny)
        left = (draw(0, 1) * (nx - width + 1)).floor()
        bottom = (draw(0, 1) * (ny - height + 1)).floor()
        x = torch.arange(nx, device=df.device).view(1, nx, 1, 1)
        y = torch.arange(ny, device=df.device).view(1, 1, ny, 1)
        return happens & (x >= left) & (x < left + width) & (y >= bottom) & (y < bottom + height)


@dataclass(frozen=True)
class Blur:
    """Smooth the images sideways with a Gaussian, cut at three of its standard deviations; the edge repeats."""

    options: BlurOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        b = len(df)
        sigma = uniform(0, self.options.sigma, (b, 1), df, generator).clamp(min=0.1)  # smooths nothing yet
        reach = math.ceil(3 * self.options.sigma)
        weights = (-0.5 * (torch.arange(-reach, reach + 1, dtype=df.dtype, device=df.device) / sigma).square()).exp()
        weights = (weights / weights.sum(1, keepdim=True)).view(b, 1, -1)
        images = pad(df.permute(3, 0, 1, 2), (reach, reach, reach, reach), mode="replicate")
        for axis in (2, 3):
            images = conv2d(images, weights.unsqueeze(5 - axis), groups=b)  # a kernel for each sample
        return images.permute(1, 2, 3, 0), targets


def _range(df: Tensor) -> Tensor:
    """Return max − min of each image, (B, 1, 1, Z)."""
    return df.amax((1, 2), keepdim=True) - df.amin((1, 2), keepdim=True)
