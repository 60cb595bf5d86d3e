"""The default network: a residual U-Net from Δf stacks, of one tip or two, to all maps, with their uncertainty.

After Ronneberger et al., "U-Net" (arXiv 1505.04597, 2015), with residual blocks without normalisation layers. It reads
down as follows; "2×" and "½" are changes of the images' size.

- Each image is brought to zero mean; of the stack go in both the images in units of their own spread and all in units
  of the nearest one's, which tells how contrast grows towards the molecule. Mean and spread are taken in the square of
  `WINDOW` pixels that holds the most contrast, so that empty surroundings do not matter.
- Stem, one for each tip: a 3D convolution over all heights (½), then 1 × 1 to the first width. A second tip's images
  are added to the first's there.
- Stages of 3 × 3 residual blocks (½ between them); the deepest also sees the largest value that each of its channels
  takes anywhere, since depths count from the highest atom. Then stages up again (2×) with the images of the way down
  added, and a last convolution to a value and a variance for each map at each of 2 × 2 pixels.

Departures from a plain U-Net: additions in place of concatenations, strided convolutions in place of pooling.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu, pixel_shuffle, softplus

from afmid_descriptor.maps import MAPS

HEIGHTS = 10  # images in a stack
WINDOW = 128  # pixels along the square whose mean and spread normalise an image
SLOPE = 0.1  # of LeakyReLU
SCALES = {"disks": 0.3, "spheres": 0.5, "height": 0.7, "bonds": 0.3, "field": 0.03, "peaks": 0.3}  # size of each map
LEAST = 1e-4  # variance in units of a map's size


@dataclass(frozen=True)
class Config:
    """Sizes of the network.

    Attributes:
        stem: channels after the 3D convolution.
        widths: channels of the stages, from the finest to the deepest.
        blocks: residual blocks of a stage; the deepest has twice as many.
        names: the maps, in the order of the channels.
    """

    stem: int = 80
    widths: tuple[int, ...] = (32, 64, 128, 192)
    blocks: int = 1
    names: tuple[str, ...] = tuple(MAPS)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the configuration that a weights file bears; ValueError or TypeError where it is none."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(text).items()}
        return cls(**fields)


class Prediction(NamedTuple):
    """What the network says of B stacks.

    Attributes:
        maps: (B, C, X, Y), in the units of `MAPS`.
        log_variance: of the maps, (B, C, X, Y), in those units squared.
        tilt: where the probe rests beside the tip's base (B, 2), Å, along x and y.
    """

    maps: Tensor
    log_variance: Tensor
    tilt: Tensor


class DescriptorNet(nn.Module):
    """Map Δf stacks to the maps of `config.names`."""

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config or Config()
        self.names = self.config.names
        self.stride = 2 ** len(self.config.widths)  # X and Y must be multiples of this
        first, *_, deepest = widths = self.config.widths
        self.first, self.second = Stem(self.config.stem, first), Stem(self.config.stem, first)
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(_stage(width, self.config.blocks) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, kernel_size=2, stride=2) for a, b in pairs)
        self.everywhere = nn.Linear(deepest, deepest)
        self.middle = _stage(deepest, 2 * self.config.blocks)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, kernel_size=2, stride=2) for a, b in reversed(pairs))
        self.decoder = nn.ModuleList(_stage(width, self.config.blocks) for width in reversed(widths[:-1]))
        self.last = nn.Conv2d(first, 2 * 4 * len(self.names), kernel_size=3, padding=1)
        self.tilt = nn.Linear(deepest, 2)
        for layer in (self.second.fold, self.everywhere, self.last, self.tilt):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.get_parameter("bias"))
        scales = torch.tensor([SCALES[name] for name in self.names]).view(-1, 1, 1)
        self.scales: Tensor
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, df: Tensor, second: Tensor | None = None) -> Tensor:
        """Return maps (B, C, X, Y) from Δf stacks (B, X, Y, 10), far to near, in any unit; see `predict`."""
        return self.predict(df, second).maps

    def predict(self, df: Tensor, second: Tensor | None = None) -> Prediction:
        """Return the maps with their uncertainty.

        Args:
            df: Δf, (B, X, Y, 10), from far to near, in any unit; X and Y multiples of `stride`.
            second: those of a second tip over the same pixels; a stack of zeros is none.
        """
        h = self.first(df)
        if second is not None:
            there = (second != 0).any(dim=(1, 2, 3), keepdim=True)
            h = h + self.second(second) * there
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            h = stage(h)
            skips.append(h)
            h = down(h)
        h = self.middle(h + self.everywhere(_activate(h.amax((2, 3))))[..., None, None])
        tilt = self.tilt(h.mean((2, 3))).float()
        for up, stage, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            h = stage(skip + up(h))
        values, variances = pixel_shuffle(self.last(_activate(h)), 2).float().chunk(2, 1)
        log_variance = torch.log(softplus(variances - 3) + LEAST) + 2 * self.scales.log()
        return Prediction(values * self.scales, log_variance, tilt)


class Stem(nn.Module):
    """Ten images to features of half their size, (B, width, X/2, Y/2) from (B, X, Y, 10)."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.heights = nn.Conv2d(2 * HEIGHTS, channels, kernel_size=4, stride=2, padding=1)
        self.fold = nn.Conv2d(channels, width, kernel_size=1)

    def forward(self, df: Tensor) -> Tensor:
        h: Tensor = self.fold(_activate(self.heights(normalise(df))))
        return h


class Block(nn.Module):
    """Two 3 × 3 convolutions whose result is added; at first they add nothing."""

    def __init__(self, width: int):
        super().__init__()
        first, last = (nn.Conv2d(width, width, kernel_size=3, padding=1) for _ in range(2))
        nn.init.kaiming_normal_(first.weight, a=SLOPE, nonlinearity="leaky_relu")
        nn.init.zeros_(last.weight)
        for conv in (first, last):
            nn.init.zeros_(conv.get_parameter("bias"))
        self.convs = nn.ModuleList([first, last])

    def forward(self, h: Tensor) -> Tensor:
        change = h
        for conv in self.convs:
            change = conv(_activate(change))
        return h + change


def normalise(df: Tensor) -> Tensor:
    """Return stacks (B, X, Y, Z) as channels (B, 2 Z, X, Y): images of unit spread, and in units of the nearest's."""
    images = df.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    images = images - images.mean((2, 3), keepdim=True)  # else squares would lose what is small
    images = images / images.abs().amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(df.dtype).tiny)
    mean, spread = _moments(images)
    images = images - mean
    unit = spread[:, -1:].maximum(0.1 * spread.amax(1, keepdim=True)).clamp_min(1e-6)  # the nearest may be empty
    return torch.cat([images / spread.maximum(1e-3 * unit), images / unit], 1)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of images (B, Z, X, Y) in the square of most contrast, each (B, Z, 1, 1)."""
    size = [min(WINDOW, side) for side in images.shape[2:]]
    cell = [max(1, side // 16) for side in size]
    cells = [side // step for side, step in zip(size, cell, strict=True)]  # along the square, whose mean is theirs
    mean, square = (avg_pool2d(avg_pool2d(values, cell), cells, 1) for values in (images, images.square()))
    variance = (square - mean.square()).clamp_min(0)
    best = variance[:, -1].flatten(1).argmax(1)[:, None, None].expand(-1, images.shape[1], 1)
    mean, variance = (values.flatten(2).gather(2, best)[..., None] for values in (mean, variance))
    return mean, variance.sqrt()


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width) for _ in range(blocks)))


def _activate(h: Tensor) -> Tensor:
    return leaky_relu(h, SLOPE)
