"""ED-AFM: the electric field above a molecule from one Δf stack or from the stacks of two tips.

Oinonen et al., "Electrostatic discovery atomic force microscopy", ACS Nano 16, 89–97 (2022); the skips are gated as in
Oktay et al., "Attention U-Net" (arXiv:1804.03999). Each tip's stack passes a residual 3D block of its own; joined, they
pass three residual 3D stages, each followed by average pooling. What remains of the heights is folded into channels for
the 2D middle. Three stages then upsample by nearest neighbours and take in the encoder's features of that size, their
heights folded too, weighted pixel by pixel by a gate that looks at them and at the middle. LeakyReLU 0.1, padding
repeats the edge.

For six images of two tips at the published width these are 15,604,900 parameters, for one tip 15,533,252; the wiring
is that of the authors' released program. Departures:

- Initial weights keep the signal's size through every block (He's, where a LeakyReLU follows and nothing is added); the
  last convolution starts from zero, so that an untrained network answers a field of zero.
- A second tip that is missing counts as features of zero behind its block, so that a network that was trained with
  second stacks left out now and then serves both cases; the authors train one network for each.
- `Config.width` scales every number of channels, and `Config.images` says which images of the stack are looked at.
- The published gate is a softmax over all pixels: its weights fall with the image's area, so that a scan of 24 Å is not
  seen as one of 16 Å, and at first hardly anything passes. `gate="sigmoid"`, as in the Attention U-Net, has neither
  trouble.
- The map alone is answered; the authors' network can return the gates too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, leaky_relu

from afmid.networks.config import config_from_json

STRIDE = 8  # X and Y must be multiples of this
SLOPE = 0.1  # of LeakyReLU
TIP, ENCODER, MIDDLE, DECODER, GATE = 32, (48, 96, 192), 512, (256, 128, 64), 32  # channels at the published width
POOLS = (2, 1, 2)  # steps of the pooling along z, over pairs of heights; 2 along X and Y


@dataclass(frozen=True)
class Config:
    """What the network is built for.

    Attributes:
        tips: 1 or 2.
        width: factor on all numbers of channels.
        images: (first, stop) of the images that are looked at, counted from far to near, six of them at least.
        gate: what makes weights of the gates' answers.
    """

    tips: Literal[1, 2] = 2
    width: float = 1.0
    images: tuple[int, int] = (2, 8)
    gate: Literal["softmax", "sigmoid"] = "softmax"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Return the configuration that a weights file bears; ValueError or TypeError where it is none."""
        return config_from_json(cls, text)

    def channels(self, published: int) -> int:
        return max(1, round(self.width * published))


class EDAFM(nn.Module):
    """Map the Δf stacks of one or two tips to the vertical electric field."""

    names: tuple[str, ...] = ("field",)

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config or Config()
        tip, middle, gate = (self.config.channels(n) for n in (TIP, MIDDLE, GATE))
        widths = [self.config.channels(n) for n in ENCODER]
        first, stop = self.config.images
        heights = [stop - first]  # before each stage of the encoder, and after the last
        for step in POOLS:
            heights.append((heights[-1] - 2) // step + 1)
        skips = [width * count for width, count in zip(widths, heights, strict=False)]
        inputs = self.config.tips * tip
        self.tips = nn.ModuleList(Block(nn.Conv3d, 1, tip, 2) for _ in range(self.config.tips))
        self.encoder = nn.ModuleList(Block(nn.Conv3d, i, o, 3) for i, o in zip([inputs, *widths], widths, strict=False))
        self.middle = Block(nn.Conv2d, widths[-1] * heights[-1], middle, 3)
        self.decoder = nn.ModuleList()
        below = middle
        for skip, published in zip(reversed(skips), DECODER, strict=True):
            width = self.config.channels(published)
            self.decoder.append(Up(below, skip, middle, width, Gate(skip, middle, gate, self.config.gate)))
            below = width
        last = _conv(nn.Conv2d, below, 1)
        nn.init.zeros_(last.weight)
        self.head = nn.Sequential(Block(nn.Conv2d, below, below, 3), last)

    def forward(self, df: Tensor, second: Tensor | None = None) -> Tensor:
        """Return the field (B, 1, X, Y), V/Å, from Δf of zero mean and unit variance per image.

        `df` and `second`, the stack of the second tip over the same pixels, are (B, X, Y, Z), from far to near, X and Y
        multiples of 8, Z ten or whatever `Config.images` needs. A network for one tip does not look at `second`.
        """
        # (B, C, X, Y, Z): with the heights before the pixels torch takes a far slower convolution for a single scan
        h = torch.cat(self._joined([df, second]), 1)
        skips = []
        for stage, step in zip(self.encoder, POOLS, strict=True):
            h = stage(h)
            skips.append(_fold(h))
            h = avg_pool3d(h, 2, (2, 2, step))
        h = middle = self.middle(_fold(h))
        for up, skip in zip(self.decoder, reversed(skips), strict=True):
            h = up(h, skip, middle)
        field: Tensor = self.head(h)
        return field

    def _joined(self, stacks: Sequence[Tensor | None]) -> list[Tensor]:
        features: list[Tensor] = []
        for block, df in zip(self.tips, stacks, strict=False):
            if df is None:
                features.append(torch.zeros_like(features[0]))
            else:
                features.append(block(df[..., slice(*self.config.images)].unsqueeze(1)))
        return features


class Up(nn.Module):
    """Upsample by two and take in the gated skip."""

    def __init__(self, inputs: int, skip: int, middle: int, width: int, gate: "Gate"):
        super().__init__()
        self.gate = gate
        self.first = Block(nn.Conv2d, inputs, width, 2)
        self.joined = Block(nn.Conv2d, width + skip, width, 2)

    def forward(self, h: Tensor, skip: Tensor, middle: Tensor) -> Tensor:
        h = self.first(interpolate(h, scale_factor=2, mode="nearest"))
        joined: Tensor = self.joined(torch.cat([h, skip * self.gate(skip, middle)], 1))
        return joined


class Gate(nn.Module):
    """Weigh the pixels of a skip by what it and the middle show there: (B, 1, X, Y)."""

    def __init__(self, skip: int, middle: int, width: int, kind: Literal["softmax", "sigmoid"]):
        super().__init__()
        self.softmax = kind == "softmax"
        self.skip = _conv(nn.Conv2d, skip, width)
        self.middle = _conv(nn.Conv2d, middle, width)
        self.last = _conv(nn.Conv2d, width, 1)

    def forward(self, skip: Tensor, middle: Tensor) -> Tensor:
        middle = interpolate(middle, size=skip.shape[2:], mode="bilinear", align_corners=False)
        seen = _activate(self.skip(skip)) + _activate(self.middle(middle))
        answer: Tensor = self.last(_activate(seen))
        return answer.flatten(1).softmax(1).view_as(answer) if self.softmax else answer.sigmoid()


class Block(nn.Module):
    """`depth` convolutions beside a shortcut, which is 1 × 1 convolved where the number of channels changes."""

    def __init__(self, kind: type[nn.Conv2d] | type[nn.Conv3d], inputs: int, outputs: int, depth: int):
        super().__init__()
        inner = [_conv(kind, i, outputs) for i in [inputs] + [outputs] * (depth - 2)]
        self.convs = nn.ModuleList([*inner, _conv(kind, outputs, outputs, added=True)])
        self.shortcut = nn.Identity() if inputs == outputs else _conv(kind, inputs, outputs, size=1, added=True)

    def forward(self, h: Tensor) -> Tensor:
        *inner, last = self.convs
        change = h
        for conv in inner:
            change = _activate(conv(change))
        return _activate(last(change) + self.shortcut(h))


def _fold(h: Tensor) -> Tensor:
    """Return (B, C Z, X, Y) from (B, C, X, Y, Z): channel c and height z at index c Z + z."""
    return h.movedim(4, 2).flatten(1, 2)


def _conv(
    kind: type[nn.Conv2d] | type[nn.Conv3d], inputs: int, outputs: int, size: int = 3, added: bool = False
) -> nn.Conv2d | nn.Conv3d:
    """Return a convolution; `added` says that its output is one of two that a sum joins."""
    conv = kind(inputs, outputs, kernel_size=size, padding=size // 2, padding_mode="replicate")
    nn.init.kaiming_normal_(conv.weight, a=1 if added else SLOPE)  # two variances of 1 add up to He's 2
    nn.init.zeros_(conv.get_parameter("bias"))
    return conv


def _activate(h: Tensor) -> Tensor:
    return leaky_relu(h, SLOPE)
