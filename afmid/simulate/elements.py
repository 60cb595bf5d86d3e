"""Lennard-Jones parameters: R_i (Å), half the distance of the well between two atoms of a kind, and its depth E_i (eV).

Values: AMBER/OPLS where they exist (H, He, B–Ne, P–Ar); Br, I, Xe and Si as used with the probe-particle model; the
radii of the metals and metalloids are Batsanov's van der Waals radii (Inorg. Mater. 37, 871, 2001) with a nominal
depth of 0.01 eV. Krypton has no parameters. After the table that ppafm ships (Hapala et al., PRB 90, 085421, 2014).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from afmid.errors import DataError
from afmid.molecule import SYMBOLS

_NOMINAL = 0.01  # eV
_PARAMETERS = {
    "H": (1.4870, 0.000681), "He": (1.4815, 0.000945),
    "Li": (2.00, _NOMINAL), "Be": (2.00, _NOMINAL), "B": (2.08, 0.003729), "C": (1.9080, 0.003729),
    "N": (1.7800, 0.007372), "O": (1.6612, 0.009106), "F": (1.7500, 0.002645), "Ne": (1.5435, 0.003643),
    "Na": (2.77, _NOMINAL), "Mg": (2.42, _NOMINAL), "Al": (2.40, _NOMINAL), "Si": (1.90, 0.025490),
    "P": (2.10, 0.008673), "S": (2.00, 0.010841), "Cl": (1.948, 0.011491), "Ar": (1.8805, 0.012341),
    "K": (3.02, _NOMINAL), "Ca": (2.78, _NOMINAL), "Sc": (2.62, _NOMINAL), "Ti": (2.44, _NOMINAL),
    "V": (2.27, _NOMINAL), "Cr": (2.23, _NOMINAL), "Mn": (2.25, _NOMINAL), "Fe": (2.27, _NOMINAL),
    "Co": (2.25, _NOMINAL), "Ni": (2.23, _NOMINAL), "Cu": (2.23, _NOMINAL), "Zn": (2.24, _NOMINAL),
    "Ga": (2.41, _NOMINAL), "Ge": (2.32, _NOMINAL), "As": (2.25, _NOMINAL), "Se": (2.18, _NOMINAL),
    "Br": (2.22, 0.013876),
    "Rb": (3.15, _NOMINAL), "Sr": (2.94, _NOMINAL), "Y": (2.71, _NOMINAL), "Zr": (2.57, _NOMINAL),
    "Nb": (2.46, _NOMINAL), "Mo": (2.39, _NOMINAL), "Tc": (2.37, _NOMINAL), "Ru": (2.35, _NOMINAL),
    "Rh": (2.32, _NOMINAL), "Pd": (2.35, _NOMINAL), "Ag": (2.37, _NOMINAL), "Cd": (2.37, _NOMINAL),
    "In": (2.53, _NOMINAL), "Sn": (2.46, _NOMINAL), "Sb": (2.41, _NOMINAL), "Te": (2.36, _NOMINAL),
    "I": (2.35, 0.017345), "Xe": (2.1815, 0.024344),
}  # fmt: skip
_TABLE = np.full((len(SYMBOLS), 2), np.nan)
for _symbol, _values in _PARAMETERS.items():
    _TABLE[SYMBOLS.index(_symbol)] = _values


def lennard_jones(numbers: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return R (Å) and E (eV) of atomic numbers (N,), each (N,).

    Raises:
        DataError: an element that has no parameters.
    """
    numbers = np.asarray(numbers, np.int64)
    rows = _TABLE[numbers]
    if np.isnan(rows).any():
        symbol = SYMBOLS[int(numbers[np.isnan(rows[..., 0])][0])]
        raise DataError(f"no Lennard-Jones parameters for {symbol}; there are some for: {' '.join(_PARAMETERS)}")
    return rows[..., 0], rows[..., 1]
