"""The published networks: Alldritt et al., "Automated structure discovery in AFM", Sci. Adv. 6, eaay6913 (2020).

`Paper` is the network of that paper, layer by layer, with its 122,811 parameters: three 3D convolutions with average
pooling, the remaining heights folded into channels, two 2D convolutions, and for each map one branch of convolutions
and nearest-neighbour upsampling. `Slides` is the variant of an earlier talk: wider 2D convolutions, and one branch for
all maps. In both, padding repeats the edge, LeakyReLU 0.1 follows every convolution but a branch's last, and a ReLU
ends the maps that cannot be negative.

Departures:

- Initial weights are He's for LeakyReLU, and a branch's last convolution starts with weights of zero and the bias of
  `START`. Before the first step every branch thus answers a positive constant, whatever the input, so that no final
  ReLU is dead then; the constants are near the maps' means, so that the first steps do not push them below zero.
- Nothing fixes the image size: X and Y may be any multiples of 8.
- The talk states the "parallel 2D convolutions" of `Slides` by their output, 128 channels, and their 5,888 parameters.
  The wiring is ours: heights are pooled once, to five, and each of the 16 channels has a 3 × 3 convolution of its own
  from its five heights to eight images, 16 · 8 · (5 · 9 + 1) = 5,888.
- The talk's branch ends in one image and does not say which map it is. Ours ends in one image per map of
  `Slides.names`, 145 parameters each; with a single name every count is the talk's.

As in the paper, pooling ten heights by two twice leaves out the fifth pair: the two nearest images reach the maps only
through the convolutions before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, leaky_relu, relu

from afmid.networks.config import config_from_json

HEIGHTS = 10  # images in a stack
STRIDE = 8  # X and Y must be multiples of this
SLOPE = 0.1  # of LeakyReLU
START = {"disks": 0.01, "spheres": 0.1, "height": 0.5}  # what an untrained branch answers
SIGNED = ("disks",)  # maps that no ReLU ends

Conv = TypeVar("Conv", nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Config:
    """Widths of `Paper`: channels of the 3D convolutions, of the middle and of the branches."""

    encoder: tuple[int, int, int] = (4, 8, 16)
    middle: int = 64
    branch: int = 16

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Return the configuration that a weights file bears; ValueError or TypeError where it is none."""
        return config_from_json(cls, text)


class Paper(nn.Module):
    """Map a Δf stack to atomic disks, vdW spheres and height map."""

    names: tuple[str, ...] = tuple(START)

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config or Config()
        a, b, c = self.config.encoder
        middle = self.config.middle
        self.encoder = nn.ModuleList(_conv(nn.Conv3d, i, o) for i, o in ((1, a), (a, b), (b, c)))
        folded = c * (HEIGHTS // 2 // 2)
        self.middle = nn.ModuleList(_conv(nn.Conv2d, i, middle) for i in (folded, middle))
        self.branches = nn.ModuleDict({name: Branch(middle, self.config.branch, [name]) for name in self.names})

    def forward(self, df: Tensor, second: Tensor | None = None) -> Tensor:
        """Return maps (B, 3, X, Y), as `names` orders them, from Δf of zero mean and unit variance per image.

        `df` is (B, X, Y, 10), from far to near, X and Y multiples of 8. Disks have no unit, spheres and height are Å.
        `second`, the stack of a second tip, makes no difference.
        """
        h = df.permute(0, 3, 1, 2).unsqueeze(1)  # (B, 1, 10, X, Y): heights before pixels is faster
        for conv, pool in zip(self.encoder, ((2, 2, 2), (2, 2, 2), (1, 2, 2)), strict=True):
            h = avg_pool3d(_activate(conv(h)), pool)
        h = h.transpose(1, 2).flatten(1, 2)  # (B, 2 C, X/8, Y/8): height z and channel c at index z C + c
        for conv in self.middle:
            h = _activate(conv(h))
        return torch.cat([branch(h) for branch in self.branches.values()], 1)


class Slides(nn.Module):
    """Map a Δf stack to the maps `names`, which share all layers but the last."""

    def __init__(self, names: Sequence[str] = tuple(START)):
        super().__init__()
        self.names = tuple(names)
        self.encoder = nn.ModuleList(_conv(nn.Conv3d, i, o) for i, o in ((1, 4), (4, 8), (8, 16)))
        self.parallel = _conv(nn.Conv2d, 16 * (HEIGHTS // 2), 128, groups=16)
        self.mix = _conv(nn.Conv2d, 128, 64, size=1)
        self.middle = nn.ModuleList(_conv(nn.Conv2d, 64, 64) for _ in range(2))
        self.branch = Branch(64, 16, self.names)

    def forward(self, df: Tensor, second: Tensor | None = None) -> Tensor:
        """Return maps (B, len(names), X, Y); stacks and units are those of `Paper.forward`."""
        h = df.permute(0, 3, 1, 2).unsqueeze(1)  # (B, 1, 10, X, Y)
        for conv, pool in zip(self.encoder, ((2, 2, 2), (1, 2, 2), (1, 2, 2)), strict=True):
            h = avg_pool3d(_activate(conv(h)), pool)
        h = h.flatten(1, 2)  # (B, 80, X/8, Y/8): the five heights of a channel together
        for conv in (self.parallel, self.mix, *self.middle):
            h = _activate(conv(h))
        maps: Tensor = self.branch(h)
        return maps


class Branch(nn.Module):
    """Upsample three times by two to the maps `names`, (B, len(names), 8 X, 8 Y) from (B, channels, X, Y)."""

    def __init__(self, channels: int, width: int, names: Sequence[str]):
        super().__init__()
        self.signed = [name in SIGNED for name in names]
        self.convs = nn.ModuleList(_conv(nn.Conv2d, i, width) for i in (channels, *[width] * 5))
        self.last = _conv(nn.Conv2d, width, len(names))
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.get_parameter("bias").copy_(torch.tensor([START[name] for name in names]))

    def forward(self, h: Tensor) -> Tensor:
        for index, conv in enumerate(self.convs):
            if index % 2 == 0:
                h = interpolate(h, scale_factor=2, mode="nearest")
            h = _activate(conv(h))
        maps = self.last(h).unbind(1)
        return torch.stack([m if signed else relu(m) for m, signed in zip(maps, self.signed, strict=True)], 1)


def _conv(kind: type[Conv], inputs: int, outputs: int, size: int = 3, groups: int = 1) -> Conv:
    conv = kind(inputs, outputs, kernel_size=size, padding=size // 2, padding_mode="replicate", groups=groups)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE, nonlinearity="leaky_relu")
    nn.init.zeros_(conv.get_parameter("bias"))
    return conv


def _activate(h: Tensor) -> Tensor:
    return leaky_relu(h, SLOPE)
