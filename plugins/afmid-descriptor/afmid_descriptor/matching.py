"""Maps of candidates, as they are compared with those that the network predicted."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afmid.molecule import Molecules
from afmid_descriptor.targets import descriptor_maps

RENDERED = ("spheres", "height")  # they show the shape as a whole; disks and bonds, small and sharp, find no more


def rendered(
    molecules: Molecules, x: NDArray[np.float64], y: NDArray[np.float64], names: tuple[str, ...] = RENDERED
) -> Tensor:
    """Return maps (B, C, X, Y), float32, of molecules (B) on the axes `x` (X,) and `y` (Y,), Å; see afmid's `Renders`.

    Raises:
        DataError: an element that the maps do not know.
    """
    numbers = torch.from_numpy(molecules.numbers)
    axes = (torch.from_numpy(axis).float().expand(len(numbers), -1) for axis in (x, y))
    return descriptor_maps(numbers, torch.from_numpy(molecules.positions).float(), numbers > 0, *axes, names=names)
