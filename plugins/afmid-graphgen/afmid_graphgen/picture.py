"""Pictures of graphs for people: balls in the elements' colours, and sticks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from afmid.molecule import SYMBOLS
from afmid.report.picture import COLOURS

WIDTHS = {1.0: 1.5, 1.5: 2.5, 2.0: 3.5, 3.0: 5.0}  # points, of a bond of an order


def draw_graph(
    axes: Any, numbers: NDArray[np.int64], places: NDArray[Any], bonds: NDArray[np.int64], orders: NDArray[Any]
) -> None:
    """Draw atoms of elements (N,) at places (N, 2), Å, and bonds (E, 2) of orders (E,), on matplotlib's axes."""
    for (a, b), order in zip(bonds.tolist(), orders.tolist(), strict=True):
        axes.plot(*places[[a, b]].T, color="black", linewidth=WIDTHS[order], zorder=1)
    symbols = [SYMBOLS[number] for number in numbers.tolist()]
    colours = [COLOURS.get(symbol, "black") for symbol in symbols]
    sizes = [25 if symbol == "H" else 60 for symbol in symbols]
    axes.scatter(*places.T, s=sizes, c=colours, edgecolors="black", zorder=2)
