"""How far an answer's maps are from those of the true molecule."""

from collections.abc import Sequence

import numpy as np
import torch

from afmid import DataError, Identification, Molecule
from afmid.evaluate import Figure, map_figures
from afmid_descriptor.maps import MAPS
from afmid_descriptor.targets import descriptor_maps

_SPELT = {"1": "", "Å": "angstrom", "V/Å": "volt_per_angstrom"}  # as the names of figures say it


def true_maps(molecule: Molecule, x: np.ndarray, y: np.ndarray, names: Sequence[str] = tuple(MAPS)) -> np.ndarray:
    """Return maps (len(names), X, Y) of a molecule on the axes (Å) of its frame, (X,) and (Y,), in float64.

    Raises:
        DataError: an element that the maps do not know.
    """
    fields = molecule.numbers, molecule.positions, np.ones(len(molecule), bool)
    numbers, positions, mask = (torch.from_numpy(values)[None] for values in fields)
    x_axis, y_axis = (torch.as_tensor(axis, dtype=torch.float64)[None] for axis in (x, y))
    charges, bonds, orders = (
        torch.from_numpy(values)[None] for values in (molecule.charges, molecule.bonds, molecule.orders)
    )
    return descriptor_maps(
        numbers, positions, mask, x_axis, y_axis, charges=charges, bonds=bonds, orders=orders, names=names
    )[0].numpy()


def map_errors(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return the figures (`afmid.evaluate.map_figures`) of each map that the answer has and the truth tells.

    A truth without bonds tells no bond map, one whose charges are all zero no field, and one with an element that has
    no disk nothing at all.
    """
    untold = {"bonds": not len(truth.bonds), "field": not np.any(truth.charges)}
    names = [
        name for name, unit in MAPS.items()
        if name in answer.maps and answer.maps[name].unit == unit and not untold.get(name)
    ]  # fmt: skip
    if not names:
        return {}
    try:
        truths = true_maps(truth, answer.x, answer.y, names)
    except DataError:
        return {}
    figures: dict[str, Figure] = {}
    for name, true in zip(names, truths, strict=True):
        figures |= map_figures(name, answer.maps[name].values, true, _SPELT[MAPS[name]])
    return figures
