"""What molecules are called: SMILES, InChIKey, formula, and the names that afmid knows."""

import csv
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from rdkit import Chem, rdBase
from rdkit.Chem import rdinchi, rdMolDescriptors

from afmid.chem.bonds import Mol, sanitised
from afmid.errors import DataError
from afmid.molecule import Molecule

MAX_SMILES = 5000  # characters


class SmilesError(DataError):
    """A text that is no SMILES."""


def parse(smiles: str) -> Mol:
    """Return the RDKit molecule of a SMILES, hydrogens implicit.

    Raises:
        SmilesError: it is no SMILES.
        DataError: it holds no atoms, or an atom without an element.
    """
    if len(smiles) > MAX_SMILES:
        raise SmilesError(f"a SMILES of {len(smiles)} characters; afmid reads up to {MAX_SMILES}")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles) if smiles.isascii() else None
    if mol is None:
        raise SmilesError(f"{smiles[:80]!r} is no valid SMILES")
    if not mol.GetNumAtoms():
        raise DataError("the SMILES is empty; a molecule needs at least one atom")
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        raise DataError(f"{smiles[:80]!r} holds '*', an atom without an element; name each element")
    return mol


def inchikey(smiles: str) -> str:
    """Return the standard InChIKey of a SMILES. Raises DataError where it has none."""
    mol = parse(smiles)
    with rdBase.BlockLogs():
        key = str(rdinchi.MolToInchiKey(mol))
    if not key:
        raise DataError(f"{smiles[:80]!r} has no InChIKey")
    return key


def smiles_of(molecule: Molecule) -> str:
    """Return the SMILES of a neutral molecule with bonds, stereochemistry from its positions.

    Raises:
        DataError: the bonds make no valid molecule, or leave charges or unpaired electrons, as wrong bond orders do.
    """
    mol = sanitised(molecule)
    if mol is None or Chem.GetFormalCharge(mol) or any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
        raise DataError("its bonds are unclear: afmid finds them for neutral molecules with all hydrogens")
    Chem.AssignStereochemistryFrom3D(mol)
    with rdBase.BlockLogs():
        return str(Chem.MolToSmiles(Chem.RemoveHs(mol)))


def composition(smiles: str) -> dict[int, int]:
    """Return how many atoms of each element a SMILES has, by atomic number. Raises DataError where it is no SMILES."""
    return dict(Counter(int(atom.GetAtomicNum()) for atom in Chem.AddHs(parse(smiles)).GetAtoms()))


def formula(smiles: str) -> str:
    """Return the molecular formula of a SMILES, in Hill order. Raises DataError where it is no SMILES."""
    return str(rdMolDescriptors.CalcMolFormula(parse(smiles)))


@cache
def named_molecules() -> dict[str, str]:
    """Return the molecules that afmid knows by name: name to SMILES."""
    return {row["name"]: row["smiles"] for row in _rows()}


def imaged_molecules() -> dict[str, str]:
    """Return those that experiments with CO tips have shown: name to SMILES; molecules.csv has the publication."""
    return {row["name"]: row["smiles"] for row in _rows() if row["reference"]}


@cache
def imaged_inchikeys() -> tuple[str, ...]:
    """Return the InChIKeys of the molecules that experiments with CO tips have shown."""
    return tuple(map(inchikey, imaged_molecules().values()))


def find_named(name: str) -> tuple[str, str] | None:
    """Return the known name and the SMILES of `name` in any case, or None."""
    wanted = name.strip().casefold()
    return next((item for item in named_molecules().items() if item[0].casefold() == wanted), None)


def _rows() -> Iterator[dict[str, str]]:
    text = files("afmid.chem").joinpath("molecules.csv").read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines())
