"""Steps that change at which heights the images lie; between images they are linear."""

from dataclasses import dataclass

import torch
from torch import Tensor

from afmid.augmentations import MissingHeightsOptions, TipHeightOptions
from afmid.data.augment.draws import uniform
from afmid.data.augment.interpolation import at_heights
from afmid.offers import Targets


@dataclass(frozen=True)
class TipHeight:
    """Take each stack as if the tip had been higher or lower by some images, or a part of one.

    Beyond the two ends each pixel follows the line through the two images that are next. It holds well far from the
    molecule. Close to it Δf soon bends, and the line multiplies noise: hence the separate, shorter reach downwards.
    A stack of one image stays.
    """

    options: TipHeightOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        lower = uniform(-self.options.higher, self.options.lower, (len(df), 1), df, generator)
        return at_heights(df, torch.arange(df.shape[3], dtype=df.dtype, device=df.device) + lower), targets


@dataclass(frozen=True)
class MissingHeights:
    """Keep some neighbouring images of each stack, and fill the stack from these alone.

    To interpolate, they are spread from the first to the last image, so that a network meets other heights and other
    steps between images. To repeat, they stay at their heights, as where a scan began closer to the molecule.
    """

    options: MissingHeightsOptions

    def __call__(self, df: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        b, nz = len(df), df.shape[3]
        fewest = min(self.options.fewest, nz)
        kept = uniform(fewest, nz + 1, (b, 1), df, generator).floor().clamp(max=nz)
        first = (uniform(0, 1, (b, 1), df, generator) * (nz - kept + 1)).floor()
        image = torch.arange(nz, dtype=df.dtype, device=df.device)
        if self.options.fill == "repeat":
            return at_heights(df, torch.maximum(image, nz - kept)), targets
        return at_heights(df, first + image * (kept - 1) / max(nz - 1, 1)), targets
