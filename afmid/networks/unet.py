"""A residual U-Net on Δf stacks, of one tip or two, which methods end with heads of their own.

After Ronneberger et al., "U-Net" (arXiv 1505.04597, 2015), with residual blocks without normalisation layers. It reads
down as follows; "2×" and "½" are changes of the images' size.

- Each image is brought to zero mean; of the stack go in both the images in units of their own spread and all in units
  of the nearest one's, which tells how contrast grows towards the molecule. Mean and spread are taken in the square of
  `WINDOW` pixels that holds the most contrast, so that empty surroundings do not matter.
- Stem, one for each tip: a 3D convolution over all heights (½), then 1 × 1 to the first width. A second tip's images
  are added to the first's there.
- Stages of 3 × 3 residual blocks (½ between them); the deepest also sees the largest value that each of its channels
  takes anywhere, since depths count from the highest atom. Then stages up again (2×) with the images of the way down
  added.

Departures from a plain U-Net: additions in place of concatenations, strided convolutions in place of pooling.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, leaky_relu

HEIGHTS = 10  # images in a stack
WINDOW = 128  # pixels along the square whose mean and spread normalise an image
SLOPE = 0.1  # of LeakyReLU


class UNet(nn.Module):
    """Map Δf stacks to features on several scales.

    Args:
        stem: channels after the 3D convolution.
        widths: channels of the stages, from the finest to the deepest.
        blocks: residual blocks of a stage; the deepest has twice as many.
    """

    def __init__(self, stem: int, widths: Sequence[int], blocks: int):
        super().__init__()
        first, *_, deepest = widths
        self.stride = 2 ** len(widths)  # X and Y must be multiples of this
        self.first, self.second = Stem(stem, first), Stem(stem, first)
        pairs = list(pairwise(widths))
        self.encoder = nn.ModuleList(_stage(width, blocks) for width in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, kernel_size=2, stride=2) for a, b in pairs)
        self.everywhere = nn.Linear(deepest, deepest)
        self.middle = _stage(deepest, 2 * blocks)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, kernel_size=2, stride=2) for a, b in reversed(pairs))
        self.decoder = nn.ModuleList(_stage(width, blocks) for width in reversed(widths[:-1]))
        start_from_zero(self.second.fold, self.everywhere)

    def features(self, df: Tensor, second: Tensor | None = None) -> list[Tensor]:
        """Return features of each stage, from the finest, (B, widths[0], X/2, Y/2), to the deepest.

        Args:
            df: Δf, (B, X, Y, 10), from far to near, in any unit and with any offset; X and Y multiples of `stride`.
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
        h = self.middle(h + self.everywhere(activate(h.amax((2, 3))))[..., None, None])
        scales = [h]
        for up, stage, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            h = stage(skip + up(h))
            scales.append(h)
        return scales[::-1]


class Stem(nn.Module):
    """Ten images to features of half their size, (B, width, X/2, Y/2) from (B, X, Y, 10)."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.heights = nn.Conv2d(2 * HEIGHTS, channels, kernel_size=4, stride=2, padding=1)
        self.fold = nn.Conv2d(channels, width, kernel_size=1)

    def forward(self, df: Tensor) -> Tensor:
        h: Tensor = self.fold(activate(self.heights(normalise(df))))
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
            change = conv(activate(change))
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


def activate(h: Tensor) -> Tensor:
    """Return what goes on through LeakyReLU."""
    return leaky_relu(h, SLOPE)


def start_from_zero(*layers: nn.Module) -> None:
    """Make layers answer zero until they have learnt."""
    for layer in layers:
        nn.init.zeros_(layer.get_parameter("weight"))
        nn.init.zeros_(layer.get_parameter("bias"))
