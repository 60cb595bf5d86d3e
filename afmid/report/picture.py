"""Pictures: a scan's images, and what a method says about them. x points right and y up, in Å.

Text that comes from a file is drawn as it stands: never as mathematics, cut to a line.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.identification import Atom, Identification, Map
from afmid.io.atomic import atomic_path
from afmid.molecule import SYMBOLS, Molecule
from afmid.report.raster import Scale, Window, bounded, grey_range
from afmid.scan import ABOVE_ATOM, Scan
from afmid.text import line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

SUFFIXES = (".png", ".pdf", ".svg")
DPI = 150
MOST_PIXELS = 640  # of an image along a side: more would not show
MOST_MAPS = 12
ABOVE_NEAREST = 0.3  # Å
MOST_SCANS = 60  # on a sheet

WIDTH, LEFT, RIGHT, TOP = 11.0, 0.62, 0.18, 0.4  # inches: the page, its margins, and its title
LINE, HEAD = 0.19, 0.27  # inches for a line under the title, and for a panel's name
BAR = 0.6  # inches from a panel down to its colour bar or legend
FOUND = "#ff8c00"  # an atom whose element is not known
TRUE = "#00c2e0"
COLOURS = {  # the customary ones, a little darker where they would be lost on grey
    "H": "#ffffff", "C": "#202020", "N": "#3050f8", "O": "#ff0d0d", "F": "#5fc53b", "Si": "#e0a060",
    "P": "#ff8000", "S": "#f5e020", "Cl": "#1fc01f", "Br": "#a62929", "I": "#940094",
}  # fmt: skip
STROKES = {  # of a bond of an order: how far beside it a line lies, Å, and its style
    1.0: ((0.0, "solid"),),
    1.5: ((0.09, "solid"), (-0.09, "dotted")),
    2.0: ((0.09, "solid"), (-0.09, "solid")),
    3.0: ((0.16, "solid"), (0.0, "solid"), (-0.16, "solid")),
}
DARK = ("C", "N", "Br", "I")  # of these colours: rimmed in white, the others in black


@dataclass(frozen=True)
class _Panel:
    """One square of the page: its name, and what paints it. `unit` labels a colour bar; None: there is no bar."""

    name: str
    paint: "Callable[[Axes], AxesImage]"
    unit: str | None = None


@dataclass(frozen=True)
class _Row:
    """Panels side by side, `columns` wide at most. `framed` ones have ticks in Å, and room for a colour bar."""

    panels: Sequence[_Panel]
    columns: int
    framed: bool

    @property
    def gap(self) -> float:
        return 0.32 if self.framed else 0.1

    @property
    def width(self) -> float:
        """Of a panel, in inches."""
        return (WIDTH - LEFT - RIGHT - (self.columns - 1) * self.gap) / self.columns

    @property
    def foot(self) -> float:
        """Inches below a panel."""
        return 1.1 if self.framed else 0.12


def draw_scan(scan: Scan, path: Path) -> None:
    """Draw a scan's images, the farthest to the nearest, each on its own grey scale. A long stack shows ten of them.

    Args:
        path: a .png, .pdf or .svg file; written whole or not at all.

    Raises:
        DataError: on another suffix, or where the file cannot be written.
    """
    panels = _images(scan, most=10)
    source = scan.source if scan.source.startswith("simulated") else f"scan of {scan.source}" if scan.source else "scan"
    title = line(source[:1].upper() + source[1:], 80)
    _write(path, scan, title, [_about(scan)], _rows(panels, widest=5, framed=False))


def draw_sheet(scans: Mapping[str, Scan], total: int, path: Path) -> None:
    """Draw one image of each scan under its name and SMILES, each on its own grey scale: see `telling`.

    Args:
        scans: by name, MOST_SCANS at most, each with as many pixels.
        total: of how many these are the first.
        path: a .png, .pdf or .svg file; written whole or not at all.

    Raises:
        DataError: on another suffix, or where the file cannot be written.
    """
    panels = [
        _Panel(_named(name, scan), partial(_paint_image, scan=telling(scan), index=-1)) for name, scan in scans.items()
    ]
    some = next(iter(scans.values()))
    title = f"{total} scans" if len(scans) == total else f"The first {len(scans)} of {total} scans"
    about = f"{line(some.tip, 20)} tip · Δf {ABOVE_NEAREST:g} Å above the nearest image, own scales, bright is high"
    _write(path, some, title, [about], _rows(panels, widest=6, framed=False))


def draw_change(before: Scan, after: Scan, what: str, path: Path) -> None:
    """Draw a scan's images, the farthest to the nearest, and below them those of what was made of it, on own scales.

    Args:
        before, after: with as many images.
        what: was done.
        path: a .png, .pdf or .svg file; written whole or not at all.

    Raises:
        DataError: on another suffix, or where the file cannot be written.
    """
    rows = [_Row(_images(scan, most=5), 5, framed=False) for scan in (before, after)]
    _write(path, before, line(f"Before, and after {what}", 80), [_about(before)], rows)


def telling(scan: Scan) -> Scan:
    """Return a scan of one image alone, some way above the nearest, where the probe often is pushed aside too far."""
    i = int(np.abs(scan.z - scan.z[-1] - ABOVE_NEAREST).argmin())
    return replace(scan, df=scan.df[:, :, i : i + 1].copy(), z=scan.z[i : i + 1])


def _named(name: str, scan: Scan) -> str:
    """Return a scan's name, with the SMILES of a molecule that has no name of its own."""
    smiles = scan.truth.smiles if scan.truth and not scan.truth.name else ""
    return line(f"{name} {smiles}", 28)


def draw_identification(scan: Scan, answer: Identification, path: Path) -> None:
    """Draw what a method says: some of the scan's images, twelve maps at most, and the atoms on the nearest image.

    A ring is an atom found, as opaque as the method is sure of it; a cross is a true atom, where the scan knows them,
    paler the deeper it lies.

    Args:
        path: a .png, .pdf or .svg file; written whole or not at all.

    Raises:
        DataError: on another suffix, or where the file cannot be written.
    """
    panels = [_map(scan, name, image) for name, image in list(answer.maps.items())[:MOST_MAPS]]
    if answer.picture is not None:
        panels.append(_painting(answer.picture))
    panels.append(_Panel("atoms (opaque: sure)", lambda axes: _paint_atoms(axes, scan, answer)))
    rows = _rows(_images(scan, most=5), widest=5, framed=False) + _rows(panels, widest=4, framed=True)
    found = f"{len(answer.atoms)} atom{'' if len(answer.atoms) == 1 else 's'} found"
    title = f"{line(answer.method, 40)} {line(answer.version, 20)}: {found}"
    about = [line(text, 75) for text in (answer.source or scan.source, answer.smiles) if text]
    lines = [" · ".join(about), _about(scan)] if about else [_about(scan)]
    _write(path, scan, title, lines, rows)


def _rows(panels: Sequence[_Panel], widest: int, framed: bool) -> list[_Row]:
    """Return the panels in rows of like length, of two columns at least and `widest` at most."""
    count = math.ceil(len(panels) / widest)
    columns = max(math.ceil(len(panels) / count), 2)
    return [_Row(panels[i : i + columns], columns, framed) for i in range(0, len(panels), columns)]


def _write(path: Path, scan: Scan, title: str, about: Sequence[str], rows: Sequence[_Row]) -> None:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: a picture's name must end in {', '.join(SUFFIXES)}, not {path.suffix!r}")
    undated = {".png": None, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}  # the same picture, the same file
    with plain_style(), atomic_path(path) as temporary:
        figure = _page(scan, title, about, rows)
        figure.savefig(temporary, format=suffix[1:], dpi=DPI, metadata=undated[suffix])


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own settings, whatever the user's; and no warning for a letter that the font does not have."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"font.size": 8.5, "svg.hashsalt": "afmid", "text.parse_math": False})
        yield


def _page(scan: Scan, title: str, about: Sequence[str], rows: Sequence[_Row]) -> "Figure":
    """Lay the title, the lines about it, and the rows below each other."""
    from matplotlib.figure import Figure

    window = Window.of(scan.x, scan.y)
    shape = min(max(window.height / window.width, 0.25), 2.0)  # of a panel: a line scan stays visible
    height = TOP + LINE * len(about) + sum(HEAD + row.width * shape + row.foot for row in rows)
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    at = height - 0.32
    figure.text(LEFT / WIDTH, at / height, title, size=13, weight="bold")
    for words in about:
        at -= LINE
        figure.text(LEFT / WIDTH, at / height, words, size=8.5, color="0.35")
    at -= TOP - 0.32
    for row in rows:
        at -= HEAD + row.width * shape
        for column, panel in enumerate(row.panels):
            x, width = (LEFT + column * (row.width + row.gap)) / WIDTH, row.width / WIDTH
            axes = figure.add_axes((x, at / height, width, row.width * shape / height))
            image = panel.paint(axes)
            axes.set_title(line(panel.name.replace("_", " "), 30), size=9, pad=4)
            if row.framed:
                _frame(axes, first=column == 0)
            if panel.unit is not None:
                bar = figure.add_axes((x, (at - BAR) / height, width, 0.1 / height))
                _colour_bar(bar, image, panel.unit)
        at -= row.foot
    return figure


def _frame(axes: "Axes", first: bool) -> None:
    """Give a panel ticks in Å; only the first of a row names y."""
    from matplotlib.ticker import MaxNLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.tick_params(size=3, labelsize=7.5, labelleft=first, color="0.4")
    axes.set_xlabel("x (Å)", size=8, labelpad=1)
    if first:
        axes.set_ylabel("y (Å)", size=8, labelpad=1)


def _colour_bar(axes: "Axes", image: "AxesImage", unit: str) -> None:
    from matplotlib.colorbar import Colorbar
    from matplotlib.ticker import MaxNLocator

    bar = Colorbar(axes, image, orientation="horizontal", ticks=MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(size=2, labelsize=7.5, color="0.4")
    bar.set_label(line(unit, 20) if unit not in ("", "1") else "", size=8, labelpad=1)


def _images(scan: Scan, most: int) -> list[_Panel]:
    """Return the scan's images, evenly chosen from the farthest to the nearest; the first has a scale bar."""
    chosen = np.unique(np.linspace(0, len(scan.z) - 1, min(most, len(scan.z))).round().astype(int))

    def panel(index: int) -> _Panel:
        def paint(axes: "Axes") -> "AxesImage":
            if index == chosen[0]:
                _scale_bar(axes, scan)
            return _paint_image(axes, scan, index)

        return _Panel(f"z = {scan.z[index]:.2f} Å".replace("-", "−"), paint)

    return [panel(int(index)) for index in chosen]


def _paint_image(axes: "Axes", scan: Scan, index: int) -> "AxesImage":
    """Paint one image in grey; the darkest and the brightest 0.5 % of its pixels saturate."""
    values = scan.df[:, :, index]
    axes.set(xticks=[], yticks=[])
    return _show(axes, scan, values, "gray", *grey_range(values))


def _map(scan: Scan, name: str, image: Map) -> _Panel:
    """Return a map's panel: on one scale of brightness, or on two colours about zero where both signs matter."""
    values = image.values
    scale = Scale.of(values)

    def paint(axes: "Axes") -> "AxesImage":
        return _show(axes, scan, values, "RdBu_r" if scale.signed else "magma", scale.low, scale.high)

    return _Panel(name, paint, unit=image.unit)


def _painting(picture: NDArray[np.uint8]) -> _Panel:
    def paint(axes: "Axes") -> "AxesImage":
        step = math.ceil(max(picture.shape[:2]) / MOST_PIXELS)
        axes.set_axis_off()
        return axes.imshow(picture[::step, ::step])

    return _Panel("picture", paint)


def _paint_atoms(axes: "Axes", scan: Scan, answer: Identification) -> "AxesImage":
    """Paint the nearest image with the atoms found as rings, their bonds, and the true atoms as crosses.

    A bond of an order that `STROKES` lacks is drawn as a single one.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba
    from matplotlib.transforms import ScaledTranslation

    image = _paint_image(axes, scan, -1)
    strokes = [(bond, *stroke) for bond in answer.bonds for stroke in STROKES.get(bond.order, STROKES[1.0])]
    lines = [_beside(answer.atoms[bond.a], answer.atoms[bond.b], apart) for bond, apart, _ in strokes]
    colours = [to_rgba(FOUND, _opacity(bond.confidence)) for bond, *_ in strokes]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=1.5, linestyles=[s for *_, s in strokes]))
    _paint_rings(axes, answer.atoms)
    elements = sorted({atom.element for atom in answer.atoms if atom.element}, key=_order)
    signs = [_sign("o", _colour(element), _rim(element), element) for element in elements]
    if len(signs) < len({atom.element for atom in answer.atoms}):
        signs.append(_sign("o", FOUND, "black", "found"))
    if scan.truth is not None:
        _paint_truth(axes, scan.truth)
        signs.append(_sign("+", TRUE, "white", "true (pale: deep)"))
    below = axes.transAxes + ScaledTranslation(0, 0.1 - BAR, axes.figure.dpi_scale_trans)
    axes.legend(
        handles=signs, loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=4, frameon=False,
        fontsize=7.5, handletextpad=0, columnspacing=0.8, borderaxespad=0, borderpad=0,
    )  # fmt: skip
    return image


def _beside(a: Atom, b: Atom, apart: float) -> NDArray[np.float64]:
    """Return the ends of a line between two atoms, moved to its left by `apart`, Å (2, 2)."""
    ends = np.array([[a.x, a.y], [b.x, b.y]])
    along = ends[1] - ends[0]
    moved: NDArray[np.float64] = ends + apart * np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9)
    return moved


def _paint_rings(axes: "Axes", atoms: Sequence[Atom]) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Circle

    rings = [Circle((atom.x, atom.y), 0.32 if atom.element == "H" else 0.5) for atom in atoms]
    opacity = [_opacity(atom.confidence) for atom in atoms]
    for colour_of, width in ((_rim, 3.0), (_colour, 1.6)):
        edges = [to_rgba(colour_of(atom.element), alpha) for atom, alpha in zip(atoms, opacity, strict=True)]
        axes.add_collection(PatchCollection(rings, facecolors="none", edgecolors=edges, linewidths=width))


def _sign(marker: str, colour: str, rim: str, label: str) -> "Line2D":
    """Return an entry of the legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    return Line2D(
        [], [], linestyle="", marker=marker, markersize=7, markeredgewidth=1.6, markerfacecolor="none",
        markeredgecolor=colour, path_effects=[withStroke(linewidth=3.0, foreground=rim)], label=" " + line(label, 20),
    )  # fmt: skip


def _colour(element: str | None) -> str:
    return COLOURS.get(element or "", FOUND)


def _rim(element: str | None) -> str:
    """Return the colour around a ring, so that it shows on any grey."""
    return "white" if element in DARK else "black"


def _order(element: str) -> tuple[int, str]:
    return (SYMBOLS.index(element), element) if element in SYMBOLS else (len(SYMBOLS), element)


def _paint_truth(axes: "Axes", truth: Molecule) -> None:
    x, y, z = truth.topmost_at_zero().positions.T
    axes.scatter(x, y, s=30, c=TRUE, marker="+", linewidths=1.2, alpha=np.clip(np.exp(z), 0.12, 1))


def _scale_bar(axes: "Axes", scan: Scan) -> None:
    """Draw a bar of a round length, about a quarter of the image wide."""
    from matplotlib.patheffects import withStroke

    window = Window.of(scan.x, scan.y)
    power = 10.0 ** math.floor(math.log10(0.35 * window.width))
    length = max(n * power for n in (1, 2, 5) if n * power <= 0.35 * window.width)
    x, y = window.right - 0.06 * window.width - length, window.bottom + 0.07 * window.height
    rim = [withStroke(linewidth=4, foreground="black")]
    axes.plot([x, x + length], [y, y], color="white", linewidth=2.5, solid_capstyle="butt", path_effects=rim)
    axes.text(
        x + length / 2, y + 0.03 * window.height, f"{length:g} Å", color="white", size=7.5, ha="center", va="bottom",
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )  # fmt: skip


def _show(
    axes: "Axes", scan: Scan, values: NDArray[np.floating[Any]], colours: str, low: float, high: float
) -> "AxesImage":
    """Paint (X, Y) values on the scan's x and y."""
    left, right, bottom, top = astuple(Window.of(scan.x, scan.y))
    values = bounded(values, MOST_PIXELS)
    high = high if high > low else low + 1  # a map of one value
    image = axes.imshow(
        values.T, cmap=colours, vmin=low, vmax=high, origin="lower", extent=(left, right, bottom, top),
        interpolation="bilinear",
    )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(bottom, top))
    return image


def _about(scan: Scan) -> str:
    above = "the topmost atom" if scan.z_reference == ABOVE_ATOM else "the last image"
    shown = "Δf" if scan.channel == "df" else scan.channel
    return f"{line(scan.tip, 20)} tip · {shown}, each image on its own scale, bright is high · z from {above}"


def _opacity(confidence: float) -> float:
    return 0.15 + 0.85 * confidence
