"""From a row to conformers: what `prepare` does with each molecule, in whatever process.

It imports RDKit, so that a process that imports it is warm.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from afmid import chem
from afmid.data.pack import MAX_ATOMS, misfit
from afmid.data.rows import Geometry, Row
from afmid.data.workers import kept_warnings
from afmid.errors import AfmidError, DataError
from afmid.io import sdf_file, xyz_file
from afmid.molecule import SYMBOLS, Molecule

if TYPE_CHECKING:
    from afmid.data.prepare import PrepareOptions

CHARGES = "afmid.chem.charges"  # warns where charges are not MMFF94's


@dataclass(frozen=True)
class Made:
    """What became of a row: its conformers and which of them are pressed, or why there are none."""

    inchikey: str = ""
    conformers: tuple[Molecule, ...] = ()
    pressed: tuple[bool, ...] = ()
    failure: str = ""
    detail: str = ""
    notes: tuple[str, ...] = ()
    other_charges: bool = False


class _LeftOutError(Exception):
    """Why a row gives no molecule, by its kind."""

    def __init__(self, kind: str, why: object) -> None:
        super().__init__(str(why))
        self.kind = kind


def make(rows: Sequence[Row], options: "PrepareOptions") -> list[Made]:
    """Return what becomes of each row; whatever fails fails alone."""
    return [_make(row, options) for row in rows]


def is_pressed(inchikey: str, conformer: int, seed: int, share: float) -> bool:
    """Draw whether a conformer is a pressed one; it does not depend on what else is in a list."""
    digest = hashlib.sha256(f"press {seed} {conformer} {inchikey}".encode()).hexdigest()
    return int(digest[:12], 16) < share * 16**12


def flatness_of(row: Row) -> float:
    """Return afmid.chem.flatness of a row; 0 where it is no molecule."""
    try:
        with kept_warnings("afmid"):
            molecule = row.geometry and _given(row.geometry, MAX_ATOMS)
        return chem.flatness(molecule.smiles if isinstance(molecule, Molecule) else molecule or row.smiles)
    except (AfmidError, _LeftOutError):
        return 0.0


def _make(row: Row, options: "PrepareOptions") -> Made:
    with kept_warnings("afmid") as records:
        try:
            made = _made(row, options)
        except _LeftOutError as failure:
            made = Made(failure=failure.kind, detail=str(failure))
    notes = tuple(record.getMessage() for record in records)
    return replace(made, notes=notes, other_charges=any(record.name == CHARGES for record in records))


def _made(row: Row, options: "PrepareOptions") -> Made:
    given: Molecule | str | None = None
    if row.geometry:
        try:
            given = _given(row.geometry, options.max_atoms)
        except DataError as error:
            raise _LeftOutError("file", error) from error
    smiles = given.smiles if isinstance(given, Molecule) else given or row.smiles
    try:
        atoms, inchikey = chem.composition(smiles), chem.inchikey(smiles)
    except DataError as error:
        raise _LeftOutError("smiles", error) from error
    if other := sorted(set(atoms) - options.numbers):
        raise _LeftOutError("element", f"{SYMBOLS[other[0]]} is not among the elements {options.elements}")
    if (count := sum(atoms.values())) > options.max_atoms:
        raise _too_many(count, options.max_atoms)
    name = given.name if isinstance(given, Molecule) else row.title
    name = "" if name in (row.name, smiles) else name
    if isinstance(given, Molecule):
        made = [(replace(given, name=name), False)]
    else:
        pressed = [is_pressed(inchikey, i, options.seed, options.press) for i in range(options.conformers)]
        seeds = [options.seed + i * chem.PRESS_TRIALS for i in range(options.conformers)]
        made = [_embedded(smiles, name, seed, flat) for seed, flat in zip(seeds, pressed, strict=True)]
    conformers = tuple(conformer for conformer, _ in made)
    if problem := next(filter(None, map(misfit, conformers)), ""):
        raise _LeftOutError("size", problem)
    return Made(inchikey, conformers, tuple(flat for _, flat in made))


def _too_many(count: int, most: int) -> _LeftOutError:
    return _LeftOutError("size", f"has {count} atoms, more than {most}")


def _embedded(smiles: str, name: str, seed: int, pressed: bool) -> tuple[Molecule, bool]:
    """Return a conformer, and whether it is a pressed one: where that cannot be it is free."""
    try:
        return chem.embed(smiles, seed, name, pressed), pressed
    except chem.PressError:
        return _embedded(smiles, name, seed, pressed=False)
    except chem.SlowError as error:
        raise _LeftOutError("timeout", error) from error
    except DataError as error:
        raise _LeftOutError("geometry", error) from error


def _given(geometry: Geometry, max_atoms: int) -> Molecule | str:
    """Return the molecule in a text with its SMILES; of a flat drawing the SMILES alone.

    Raises:
        DataError: the text is damaged, or the molecule's bonds are unclear.
        _LeftOutError: it says to have more than `max_atoms`; it is not read, which may take minutes.
    """
    count = (sdf_file if geometry.format == "sdf" else xyz_file).count(geometry.text)
    if count > max_atoms:
        raise _too_many(count, max_atoms)
    if geometry.format == "sdf":
        return sdf_file.drawn_smiles(geometry.text) or sdf_file.from_text(geometry.text, geometry.name)
    molecule = xyz_file.from_text(geometry.text, geometry.name)
    return replace(molecule, smiles=chem.smiles_of(molecule))
