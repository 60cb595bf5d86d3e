"""Graph: what a network of this package says of the atoms under a scan, before they are made a molecule."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afmid.molecule import LEARNT, SYMBOLS

Array = NDArray[np.float64]

NUMBERS = LEARNT  # atomic numbers of the elements, in the order of their probabilities
ELEMENTS = tuple(SYMBOLS[number] for number in NUMBERS)  # H C N O F Si P S Cl Br I
CLASSES = (("H",), ("C", "Si"), ("N", "P"), ("O", "S"), ("F", "Cl", "Br", "I"))  # that look alike (Oinonen et al.)
CLASS_OF = tuple(next(i for i, names in enumerate(CLASSES) if name in names) for name in ELEMENTS)
CLASS_BY_NUMBER = tuple(CLASS_OF[NUMBERS.index(n)] if n in NUMBERS else -1 for n in range(len(SYMBOLS)))
N_P = CLASSES.index(("N", "P"))
ORDERS = (0.0, 1.0, 1.5, 2.0, 3.0)  # of bonds, in the order of their probabilities; 0 is none
MOST_MISSING = 4  # valences


@dataclass(frozen=True, eq=False)
class Graph:
    """N atoms that a network found, each with what it may be.

    Attributes:
        positions: (N, 3), Å, in the scan's frame; z is 0 at the topmost atom of the molecule, and below it less.
        exists: how likely each is there (N,).
        elements: how likely each is of the elements `ELEMENTS`, (N, 11); each row adds up to 1.
        bonds: how likely two have a bond of the `ORDERS`, (N, N, 5), symmetric; each adds up to 1.
        missing: how likely 0 to `MOST_MISSING` of each atom's valences go to atoms that are not here (N, 5): hidden
            ones, or ones that were not found.
        sigma: standard deviations of the positions (N, 3), Å.
    """

    positions: Array
    exists: Array
    elements: Array
    bonds: Array
    missing: Array
    sigma: Array | None = None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def classes(self) -> Array:
        """How likely each atom is of the `CLASSES`, (N, 5)."""
        return np.asarray(self.elements @ np.eye(len(CLASSES))[list(CLASS_OF)])

    def where(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> "Graph":
        """Return the graph of some of its atoms."""
        return Graph(
            self.positions[keep], self.exists[keep], self.elements[keep], self.bonds[keep][:, keep],
            self.missing[keep], None if self.sigma is None else self.sigma[keep],
        )  # fmt: skip


def empty() -> Graph:
    """Return a graph without atoms."""
    zeros = np.zeros
    return Graph(
        zeros((0, 3)), zeros(0), zeros((0, len(ELEMENTS))), zeros((0, 0, len(ORDERS))), zeros((0, MOST_MISSING + 1))
    )
