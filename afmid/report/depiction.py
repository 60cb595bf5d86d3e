"""What a SMILES from a file shows: its formula, and its structural formula as SVG. One that is no molecule has none."""

from dataclasses import dataclass
from typing import Any

from rdkit import rdBase
from rdkit.Chem.Draw import rdMolDraw2D

from afmid.chem.names import formula, parse
from afmid.errors import DataError
from afmid.report.document import data_uri

MOST_ATOMS = 200  # heavy ones


@dataclass(frozen=True)
class Depiction:
    """A structural formula, as the address of an image: on light and on dark ground."""

    light: str
    dark: str


def formula_of(smiles: str | None) -> str:
    """Return the molecular formula of a SMILES; "" where it is no molecule."""
    try:
        return formula(smiles or "")
    except DataError:
        return ""


def depict(smiles: str | None, width: int = 320, height: int = 240) -> Depiction | None:
    """Return the structural formula of a SMILES; None where it is no molecule, or too large to be drawn."""
    try:
        mol = parse(smiles or "")
    except DataError:
        return None
    if mol.GetNumAtoms() > MOST_ATOMS:
        return None
    light, dark = (_drawn(mol, width, height, is_dark) for is_dark in (False, True))
    return Depiction(light, dark)


def _drawn(mol: object, width: int, height: int, is_dark: bool) -> str:
    drawing = rdMolDraw2D.MolDraw2DSVG(width, height)
    if is_dark:
        rdMolDraw2D.SetDarkMode(drawing)
    options: Any = drawing.drawOptions()
    options.clearBackground = False
    options.bondLineWidth = 1.4
    options.fixedBondLength = 28
    with rdBase.BlockLogs():
        rdMolDraw2D.PrepareAndDrawMolecule(drawing, mol)
    drawing.FinishDrawing()
    return data_uri(drawing.GetDrawingText().encode(), "image/svg+xml")
