"""Atoms and bonds drawn over an image, in Å from its upper left corner."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afmid.identification import Atom, Bond
from afmid.molecule import Molecule
from afmid.report.facts import signed
from afmid.report.picture import COLOURS, DARK, FOUND
from afmid.report.raster import Window
from afmid.text import line

MOST_ATOMS = 600  # of a structure
IN_SPACE = {**COLOURS, "C": "#7d868c", "H": "#f2f2f2", "X": FOUND}  # colours that show on light and dark ground


@dataclass(frozen=True)
class Ring:
    """An atom: a circle, as opaque as it is sure, with the words shown where the pointer rests on it."""

    x: float
    y: float
    radius: float
    colour: str
    rim: str
    opacity: float
    text: str


@dataclass(frozen=True)
class Line:
    """A bond."""

    x1: float
    y1: float
    x2: float
    y2: float
    opacity: float


@dataclass(frozen=True)
class Cross:
    """A true atom, paler the deeper it lies."""

    x: float
    y: float
    opacity: float


def rings(window: Window, atoms: Sequence[Atom]) -> list[Ring]:
    """Return the first MOST_ATOMS atoms as rings."""
    return [_ring(window, number, atom) for number, atom in enumerate(atoms[:MOST_ATOMS], 1)]


def lines(window: Window, atoms: Sequence[Atom], bonds: Sequence[Bond]) -> list[Line]:
    """Return the bonds between the first MOST_ATOMS atoms as lines."""
    ends = [(bond, atoms[bond.a], atoms[bond.b]) for bond in bonds if max(bond.a, bond.b) < MOST_ATOMS]
    found = (_line(window, a, b, round(opacity(bond.confidence), 2)) for bond, a, b in ends[: 4 * MOST_ATOMS])
    return [bond for bond in found if bond is not None]


def crosses(window: Window, truth: Molecule) -> list[Cross]:
    """Return a molecule's atoms as crosses."""
    places = truth.topmost_at_zero().positions[:MOST_ATOMS].tolist()
    return [Cross(*window.place(x, y), round(float(np.clip(np.exp(z), 0.2, 1)), 2)) for x, y, z in places]


def atoms_of(molecule: Molecule) -> list[Atom]:
    """Return a molecule's atoms as those of an answer that is sure of them, its topmost at z = 0."""
    places = molecule.topmost_at_zero().positions.tolist()
    return [Atom(symbol, x, y, z, 1.0) for symbol, (x, y, z) in zip(molecule.symbols, places, strict=True)]


def bonds_of(molecule: Molecule) -> list[Bond]:
    """Return a molecule's bonds as those of an answer that is sure of them."""
    pairs = zip(molecule.bonds.tolist(), molecule.orders.tolist(), strict=True)
    return [Bond(a, b, order, 1.0) for (a, b), order in pairs]


def colour(element: str | None) -> str:
    """Return the colour of an element's ring."""
    return COLOURS.get(element or "", FOUND)


def opacity(confidence: float) -> float:
    """Return how opaque what a method is as sure of is drawn."""
    return 0.15 + 0.85 * confidence


def words(number: int, atom: Atom) -> str:
    """Return what there is to say about an atom."""
    place = ", ".join(f"{name} {signed(value)}" for name, value in (("x", atom.x), ("y", atom.y), ("z", atom.z)))
    sure = "" if atom.sigma is None else f" ± {', '.join(f'{value:.3f}' for value in atom.sigma)}"
    return f"{line(atom.element or 'atom', 8)} {number}: {place}{sure} Å; confidence {atom.confidence:.2f}"


def _line(window: Window, a: Atom, b: Atom, opaque: float) -> Line | None:
    """Return a bond from ring to ring; None where these touch, as seen from above."""
    length = math.hypot(b.x - a.x, b.y - a.y)
    if length <= _radius(a) + _radius(b):
        return None
    along = (b.x - a.x) / length, (b.y - a.y) / length
    from_, to = (
        window.place(atom.x + reach * along[0], atom.y + reach * along[1])
        for atom, reach in ((a, _radius(a)), (b, -_radius(b)))
    )
    return Line(*from_, *to, opaque)


def _radius(atom: Atom) -> float:
    return 0.32 if atom.element == "H" else 0.5


def _ring(window: Window, number: int, atom: Atom) -> Ring:
    x, y = window.place(atom.x, atom.y)
    return Ring(
        x=x,
        y=y,
        radius=_radius(atom),
        colour=colour(atom.element),
        rim="#fff" if atom.element in DARK else "#000",
        opacity=round(opacity(atom.confidence), 2),
        text=words(number, atom),
    )
