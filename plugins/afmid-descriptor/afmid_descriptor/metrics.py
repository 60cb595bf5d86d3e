"""How far an answer's maps are from those of the true molecule."""

import numpy as np
import torch

from afmid import DataError, Identification, Molecule
from afmid_descriptor.model import BRANCHES
from afmid_descriptor.targets import descriptor_maps

UNITS = {"disks": "1", "spheres": "Å", "height": "Å"}
_SQUARED = {"1": "", "Å": "_angstrom2"}


def true_maps(molecule: Molecule, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the maps (3, X, Y) of a molecule on the axes (Å) of its frame, (X,) and (Y,), in float64.

    Raises:
        DataError: an element that the maps do not know.
    """
    numbers, positions = torch.from_numpy(molecule.numbers)[None], torch.from_numpy(molecule.positions)[None]
    x_axis, y_axis = (torch.as_tensor(axis, dtype=torch.float64)[None] for axis in (x, y))
    mask = torch.ones_like(numbers, dtype=torch.bool)
    return descriptor_maps(numbers, positions, mask, x_axis, y_axis)[0].numpy()


def map_errors(answer: Identification, truth: Molecule) -> dict[str, float]:
    """Return of each map of the answer the mean squared error and, where neither is constant, the correlation."""
    try:
        truths = true_maps(truth, answer.x, answer.y)
    except DataError:  # an element without a disk: the maps have no truth
        return {}
    figures = {}
    for name, true in zip(BRANCHES, truths, strict=True):
        found = answer.maps.get(name)
        if found is None or found.unit != UNITS[name]:
            continue
        figures[f"{name}_mse{_SQUARED[found.unit]}"] = float(np.square(found.values - true).mean())
        if found.values.std() > 0 and true.std() > 0:
            figures[f"{name}_correlation"] = float(np.corrcoef(found.values.ravel(), true.ravel())[0, 1])
    return figures
