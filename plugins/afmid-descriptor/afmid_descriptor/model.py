"""The network of Alldritt et al., "Automated structure discovery in AFM", Sci. Adv. 6, eaay6913 (2020).

A stack of ten Δf images becomes three maps. Layer by layer this is the published network, with its 122,811 parameters:
three 3D convolutions with average pooling, the remaining heights folded into channels, two 2D convolutions, and one
branch of convolutions and nearest-neighbour upsampling for each map. Padding repeats the edge, LeakyReLU 0.1 follows
every convolution but a branch's last, and a ReLU ends the branches of the two maps that cannot be negative.

Departures from the paper:

- Initial weights are He's for LeakyReLU, and a branch's last convolution starts with weights of zero and the bias of
  `BRANCHES`. Before the first step every branch thus answers a positive constant, whatever the input, so that no final
  ReLU is dead then; the constants are near the maps' means, so that the first steps do not push them below zero.
- Nothing fixes the image size: X and Y may be any multiples of 8.

As in the paper, pooling ten heights by two twice leaves out the fifth pair: the two nearest images reach the maps only
through the convolutions before it.
"""

import json
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, leaky_relu, relu

HEIGHTS = 10  # images in a stack
STRIDE = 8  # X and Y must be multiples of this
SLOPE = 0.1  # of LeakyReLU
BRANCHES = {"disks": (0.01, False), "spheres": (0.1, True), "height": (0.5, True)}  # map: initial bias, ends in ReLU

Conv = TypeVar("Conv", nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Config:
    """Widths of the network: channels of the 3D convolutions, of the middle and of the branches."""

    encoder: tuple[int, int, int] = (4, 8, 16)
    middle: int = 64
    branch: int = 16

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Return the configuration that a weights file bears; ValueError or TypeError where it is none."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


class DescriptorCNN(nn.Module):
    """Map a Δf stack to atomic disks, vdW spheres and height map."""

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config or Config()
        a, b, c = self.config.encoder
        middle = self.config.middle
        self.encoder = nn.ModuleList(_conv(nn.Conv3d, i, o) for i, o in ((1, a), (a, b), (b, c)))
        folded = c * (HEIGHTS // 2 // 2)
        self.middle = nn.ModuleList(_conv(nn.Conv2d, i, middle) for i in (folded, middle))
        self.branches = nn.ModuleDict(
            {name: Branch(middle, self.config.branch, bias, positive) for name, (bias, positive) in BRANCHES.items()}
        )

    def forward(self, df: Tensor) -> Tensor:
        """Return maps (B, 3, X, Y), as `BRANCHES` orders them, from Δf of zero mean and unit variance per image.

        `df` is (B, X, Y, 10), from far to near, X and Y multiples of 8. Disks have no unit, spheres and height are Å.
        """
        h = df.permute(0, 3, 1, 2).unsqueeze(1)  # (B, 1, 10, X, Y): heights before pixels is faster
        for conv, pool in zip(self.encoder, ((2, 2, 2), (2, 2, 2), (1, 2, 2)), strict=True):
            h = avg_pool3d(_activate(conv(h)), pool)
        h = h.transpose(1, 2).flatten(1, 2)  # (B, 2 C, X/8, Y/8): height z and channel c at index z C + c
        for conv in self.middle:
            h = _activate(conv(h))
        return torch.cat([branch(h) for branch in self.branches.values()], 1)


class Branch(nn.Module):
    """Upsample three times by two to one map, (B, 1, 8 X, 8 Y) from (B, channels, X, Y)."""

    def __init__(self, channels: int, width: int, bias: float, positive: bool):
        super().__init__()
        self.positive = positive
        self.convs = nn.ModuleList(_conv(nn.Conv2d, i, width) for i in (channels, *[width] * 5))
        self.last = _conv(nn.Conv2d, width, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.constant_(self.last.bias, bias)

    def forward(self, h: Tensor) -> Tensor:
        for index, conv in enumerate(self.convs):
            if index % 2 == 0:
                h = interpolate(h, scale_factor=2, mode="nearest")
            h = _activate(conv(h))
        h = self.last(h)
        return relu(h) if self.positive else h


def _conv(kind: type[Conv], inputs: int, outputs: int) -> Conv:
    conv = kind(inputs, outputs, kernel_size=3, padding=1, padding_mode="replicate")
    nn.init.kaiming_normal_(conv.weight, a=SLOPE, nonlinearity="leaky_relu")
    nn.init.zeros_(conv.bias)
    return conv


def _activate(h: Tensor) -> Tensor:
    return leaky_relu(h, SLOPE)
