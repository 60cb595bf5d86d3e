"""A look at a scan and an answer in the terminal: half blocks, two pixels to a character. x points right and y up."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from afmid.identification import Identification
from afmid.report.picture import COLOURS, FOUND, telling
from afmid.report.raster import Window, grey_range
from afmid.scan import Scan

if TYPE_CHECKING:
    from rich.text import Text

WIDEST, NARROWEST, GAP = 56, 34, 2  # characters: of an image, and between two
SHADES = " .:-=+*#%@"  # where there are no colours
DARK, BRIGHT = (40, 20, 90), (255, 235, 150)  # ends of a map's scale

Cell = tuple[str, str | None]  # a character and its style


def preview(scan: Scan, answer: Identification, width: int, colours: bool = True) -> "Text":
    """Return the scan, the atoms over it, and as many maps as have room beside each other.

    An atom is the first letter of its element, or o where that is not known, and bold where it is rather sure than not.

    Args:
        width: of the terminal, in characters.
        colours: whether to use them; letters and shades alone tell less.
    """
    from rich.text import Text

    image = telling(scan).df[:, :, 0]
    panels = [("scan", image, False), ("atoms", image, True)]
    panels += [(name, shown.values, False) for name, shown in answer.maps.items()]
    count = max(1, min(len(panels), (width + GAP) // (NARROWEST + GAP)))
    columns = max(2, min((width + GAP) // count - GAP, WIDEST) // 2 * 2)
    window = Window.of(scan.x, scan.y)
    lines = max(1, round(columns * window.height / window.width / 2))
    text = Text("  ".join(f"{name.replace('_', ' ')[:columns]:{columns}}" for name, _, _ in panels[:count]), "bold")
    drawn = []
    for name, values, with_atoms in panels[:count]:
        grey = name in ("scan", "atoms")
        cells = _cells(_resized(values, columns, 2 * lines), _grey if grey else _warm, colours)
        if with_atoms:
            _write_atoms(cells, scan, answer, colours)
        drawn.append(cells)
    for line in range(lines):
        text.append("\n")
        for number, cells in enumerate(drawn):
            text.append(" " * GAP if number else "")
            for letter, style in cells[line]:
                text.append(letter, style)
    return text


def _resized(image: NDArray[np.float32], columns: int, rows: int) -> NDArray[np.float64]:
    """Return an image (X, Y) as brightness from 0 to 1 (rows, columns), the first row that of the greatest y."""
    values = image.astype(np.float64)
    for axis, count in ((0, columns), (1, rows)):
        edges = np.linspace(0, values.shape[axis], count + 1).astype(int)
        sizes = np.maximum(np.diff(edges), 1)
        values = np.add.reduceat(values, edges[:-1], axis) / (sizes[:, None] if axis == 0 else sizes)
    low, high = grey_range(values)
    return np.asarray(np.clip((values.T[::-1] - low) / max(high - low, 1e-12), 0, 1))


def _cells(image: NDArray[np.float64], colour: Callable[[float], str], colours: bool) -> list[list[Cell]]:
    """Return lines of characters of an image (2 lines, columns)."""
    if not colours:
        means = (image[::2] + image[1::2]) / 2
        return [[(SHADES[int(value * (len(SHADES) - 1))], None) for value in row] for row in means]
    pairs = zip(image[::2], image[1::2], strict=True)
    return [[("▀", f"{colour(a)} on {colour(b)}") for a, b in zip(*pair, strict=True)] for pair in pairs]


def _write_atoms(cells: list[list[Cell]], scan: Scan, answer: Identification, colours: bool) -> None:
    """Write the atoms into lines of characters, the least sure first."""
    window = Window.of(scan.x, scan.y)
    for atom in sorted(answer.atoms, key=lambda atom: atom.confidence):
        column = math.floor((atom.x - window.left) / window.width * len(cells[0]))
        line = math.floor((window.top - atom.y) / window.height * len(cells))
        if not (0 <= line < len(cells) and 0 <= column < len(cells[0])):
            continue
        shade = (cells[line][column][1] or "").partition(" on ")[2]
        style = f"{'bold ' if atom.confidence >= 0.5 else ''}{_readable(atom.element)} on {shade}" if colours else None
        cells[line][column] = (atom.element[0] if atom.element else "o", style)


def _readable(element: str | None) -> str:
    """Return an element's colour; carbon's dark one would be lost on grey."""
    colour = COLOURS.get(element or "", FOUND)
    return "#00d7ff" if element == "C" else colour


def _grey(value: float) -> str:
    return _rgb([255 * value] * 3)


def _warm(value: float) -> str:
    return _rgb([low + value * (high - low) for low, high in zip(DARK, BRIGHT, strict=True)])


def _rgb(values: Sequence[float]) -> str:
    return "#" + "".join(f"{round(value):02x}" for value in values)
