"""The default network: a residual U-Net from Δf stacks, of one tip or two, to all maps, with their uncertainty.

The U-Net is that of afmid.networks.unet; a last convolution makes a value and a variance for each map at each of 2 × 2
pixels, and the mean of the deepest features tells how far the tip hangs aside.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, softplus

from afmid.networks.config import config_from_json
from afmid.networks.unet import UNet, activate, start_from_zero
from afmid_descriptor.maps import MAPS

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
        return config_from_json(cls, text)


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


class DescriptorNet(UNet):
    """Map Δf stacks to the maps of `config.names`."""

    def __init__(self, config: Config | None = None):
        config = config or Config()
        super().__init__(config.stem, config.widths, config.blocks)
        self.config, self.names = config, config.names
        first, *_, deepest = config.widths
        self.last = nn.Conv2d(first, 2 * 4 * len(self.names), kernel_size=3, padding=1)
        self.tilt = nn.Linear(deepest, 2)
        start_from_zero(self.last, self.tilt)
        scales = torch.tensor([SCALES[name] for name in self.names]).view(-1, 1, 1)
        self.scales: Tensor
        self.register_buffer("scales", scales, persistent=False)

    def forward(self, df: Tensor, second: Tensor | None = None) -> Tensor:
        """Return maps (B, C, X, Y) from Δf stacks (B, X, Y, 10), far to near, in any unit; see `predict`."""
        return self.predict(df, second).maps

    def predict(self, df: Tensor, second: Tensor | None = None) -> Prediction:
        """Return the maps with their uncertainty, from what `UNet.features` takes."""
        finest, *_, deepest = self.features(df, second)
        tilt = self.tilt(deepest.mean((2, 3))).float()
        values, variances = pixel_shuffle(self.last(activate(finest)), 2).float().chunk(2, 1)
        log_variance = torch.log(softplus(variances - 3) + LEAST) + 2 * self.scales.log()
        return Prediction(values * self.scales, log_variance, tilt)
