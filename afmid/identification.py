"""Identification: what a method answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from afmid.checks import finite
from afmid.errors import DataError
from afmid.molecule import SYMBOLS, Molecule


@dataclass(frozen=True)
class Atom:
    """An atom that a method found.

    Attributes:
        element: its symbol; None where not known.
        x, y, z: where it is, Å.
        confidence: that it is there and is of this element, 0–1.
        sigma: standard deviations of x, y and z, Å; None where not known.
    """

    element: str | None
    x: float
    y: float
    z: float
    confidence: float
    sigma: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Bond:
    """A bond between the atoms `a` and `b` (indices into the answer's atoms), with its order and confidence 0–1."""

    a: int
    b: int
    order: float
    confidence: float


@dataclass(frozen=True)
class Candidate:
    """A molecule that the scan may show.

    Attributes:
        smiles, inchikey, formula: which it is.
        score: what candidates are ranked by, higher is better.
        scores: what the score is made of, by name, such as "fit".
        molecule: how it lies under the tip, in the frame of the answer's axes, its topmost atom at z = 0; None where
            that is not known.
    """

    smiles: str
    inchikey: str
    formula: str
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)
    molecule: Molecule | None = None

    @property
    def name(self) -> str:
        """What the library calls it; "" where it gives no name."""
        return self.molecule.name if self.molecule else ""


@dataclass(frozen=True, eq=False)
class Map:
    """An image on the scan's x and y: values float32 (X, Y), their unit, and where known their standard deviations."""

    values: NDArray[np.float32]
    unit: str
    sigma: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Identification:
    """What a method says about a scan. What a method does not produce is empty, never invented.

    Attributes:
        method: the method's name; `version` of the package that brings it.
        x, y: the scan's axes (Å), (X,) and (Y,), on which the maps stand; atoms are in the same frame.
        weights: SHA-256 of the weights used, or "".
        source: the scan's source.
        smiles: of the identified molecule; None where the atoms make no valid molecule.
        atoms, bonds: what was found; z of an atom is relative to the topmost one (0 or below).
        maps: named images.
        picture: RGB uint8 (H, W, 3), for methods that paint.
        candidates: molecules that fit, best first.
        fit: how well the answer, simulated again, matches the scan (correlation); None where not tested.
        meta: JSON-able record of how the answer was made: options, steps, notes.

    Raises:
        DataError: where x or y do not ascend, a map does not lie on them, a bond joins no atoms, a confidence leaves
            0–1, or a number is not finite.
    """

    method: str
    version: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    weights: str = ""
    source: str = ""
    smiles: str | None = None
    atoms: tuple[Atom, ...] = ()
    bonds: tuple[Bond, ...] = ()
    maps: Mapping[str, Map] = field(default_factory=dict)
    picture: NDArray[np.uint8] | None = None
    candidates: tuple[Candidate, ...] = ()
    fit: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.x), len(self.y))
        for name, image in self.maps.items():
            for values in (image.values, *([] if image.sigma is None else [image.sigma])):
                if values.shape != shape:
                    raise DataError(f"map {name!r} has shape {values.shape}, the scan {shape}")
        self._check_finite()
        for name, axis in (("x", self.x), ("y", self.y)):
            if not (len(axis) and (np.diff(axis) > 0).all()):
                raise DataError(f"the answer's {name} must hold pixels, and ascend")
        for confidence in [item.confidence for items in (self.atoms, self.bonds) for item in items]:
            if not 0 <= confidence <= 1:
                raise DataError(f"a confidence lies in 0–1, not {confidence}")
        for bond in self.bonds:
            if bond.a == bond.b or not all(0 <= end < len(self.atoms) for end in (bond.a, bond.b)):
                raise DataError(f"bond {bond.a}–{bond.b} does not join two of the {len(self.atoms)} atoms")

    @property
    def molecule(self) -> Molecule | None:
        """What is said to lie under the tip: the atoms where all have elements, else the best placed candidate.

        Raises:
            DataError: an element that does not exist.
        """
        elements = [atom.element for atom in self.atoms]
        if not elements or None in elements:
            return next((candidate.molecule for candidate in self.candidates if candidate.molecule), None)
        if unknown := [element for element in elements if element not in SYMBOLS[1:]]:
            raise DataError(f"{self.method} answered with the element {unknown[0]!r}, which does not exist")
        return Molecule(
            numbers=np.array([SYMBOLS.index(str(element)) for element in elements]),
            positions=np.array([(atom.x, atom.y, atom.z) for atom in self.atoms]),
            bonds=np.array([(bond.a, bond.b) for bond in self.bonds], np.int64),
            orders=np.array([bond.order for bond in self.bonds], np.float64),
            smiles=self.smiles or "",
        )

    def _check_finite(self) -> None:
        numbers: dict[str, ArrayLike] = {
            "values of x": self.x,
            "values of y": self.y,
            "positions of the atoms": [(atom.x, atom.y, atom.z) for atom in self.atoms],
            "orders of the bonds": [bond.order for bond in self.bonds],
            "deviations of the atoms": [atom.sigma for atom in self.atoms if atom.sigma is not None],
            "scores of the candidates": [v for c in self.candidates for v in (c.score, *c.scores.values())],
            "values of the fit": [] if self.fit is None else [self.fit],
            **{f"values of the map {name!r}": image.values for name, image in self.maps.items()},
            **{f"deviations of the map {n!r}": m.sigma for n, m in self.maps.items() if m.sigma is not None},
        }
        for name, values in numbers.items():
            finite(values, name)
