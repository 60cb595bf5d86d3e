"""How far an answer's maps are from those of the true molecule."""

import numpy as np
import torch

from afmid import DataError, Identification, Molecule
from afmid.evaluate import Figure, map_figures
from afmid_descriptor.model import BRANCHES
from afmid_descriptor.targets import descriptor_maps

UNITS = {"disks": "1", "spheres": "Å", "height": "Å"}
_AT_ONCE = 2**21  # atom-pixel pairs whose maps are made together, which bounds the memory
_SPELT = {"1": "", "Å": "angstrom"}  # as the names of figures say it


def true_maps(molecule: Molecule, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the maps (3, X, Y) of a molecule on the axes (Å) of its frame, (X,) and (Y,), in float64.

    Raises:
        DataError: an element that the maps do not know.
    """
    numbers, positions = torch.from_numpy(molecule.numbers)[None], torch.from_numpy(molecule.positions)[None]
    x_axis, y_axis = (torch.as_tensor(axis, dtype=torch.float64)[None] for axis in (x, y))
    mask = torch.ones_like(numbers, dtype=torch.bool)
    parts = torch.split(x_axis, max(1, _AT_ONCE // (len(y) * len(molecule))), dim=1)
    return torch.cat([descriptor_maps(numbers, positions, mask, part, y_axis)[0] for part in parts], dim=1).numpy()


def map_errors(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return of each map of the answer the mean squared error and, where neither is constant, the correlation."""
    try:
        truths = true_maps(truth, answer.x, answer.y)
    except DataError:  # an element without a disk: the maps have no truth
        return {}
    figures: dict[str, Figure] = {}
    for name, true in zip(BRANCHES, truths, strict=True):
        found = answer.maps.get(name)
        if found is not None and found.unit == UNITS[name]:
            figures |= map_figures(name, found.values, true, _SPELT[found.unit])
    return figures
