"""sdf and mol files, through RDKit: bonds and their orders come from the file.

Charges stand in the list `atom.dprop.PartialCharge` that RDKit reads and writes; a file without it gets MMFF94's.
"""

import io
import logging
import re
from typing import Any

import numpy as np

from afmid.errors import DataError
from afmid.molecule import Molecule

log = logging.getLogger(__name__)

CHARGES = "PartialCharge"
_COUNT = re.compile(r"(?:.*\n){3} *([0-9]{1,3})")  # of a V2000 file, in the first columns of its fourth line
_COUNT_V3000 = re.compile(r"^M  V30 COUNTS\s+([0-9]{1,18})", re.M)


def count(text: str) -> int:
    """Return how many atoms an sdf or mol file with one molecule says that it has; 0 where it says nothing."""
    found = _COUNT_V3000.search(text) or _COUNT.match(text)
    return int(found[1]) if found else 0


def from_text(text: str, name: str) -> Molecule:
    """Return the first molecule of an sdf or mol file; missing hydrogens are added, a flat drawing is embedded.

    Raises:
        DataError: damaged, no atoms, a valence that cannot be, a bond without an order, or a drawing without geometry.
    """
    from rdkit import Chem, rdBase

    from afmid.chem.bonds import from_rdkit
    from afmid.chem.charges import charges_of
    from afmid.chem.geometry import place

    mol, drawn = _parsed(text)
    if text.partition("$$$$")[2].strip():
        log.warning("%s: holds several molecules; the first is read", name)
    name = (mol.GetProp("_Name").strip() if mol.HasProp("_Name") else "") or name
    with rdBase.BlockLogs():
        if not drawn:
            Chem.AssignStereochemistryFrom3D(mol)
        full = Chem.AddHs(mol, addCoords=not drawn)
    smiles = _smiles(mol)
    if added := full.GetNumAtoms() - mol.GetNumAtoms():
        log.warning("%s: %d hydrogen atoms added", name, added)
    if drawn:
        log.warning("%s: a flat drawing; placed in space by ETKDG and MMFF94", name)
        place(full, name)
    given = [atom.GetDoubleProp(CHARGES) for atom in full.GetAtoms() if atom.HasProp(CHARGES)]
    charges = np.array(given) if len(given) == full.GetNumAtoms() else charges_of(full, name)
    return from_rdkit(full, charges, name=name, smiles=smiles)


def drawn_smiles(text: str) -> str:
    """Return the SMILES of an sdf or mol file's first molecule where that is a flat drawing, else "".

    Raises:
        DataError: damaged, no atoms, a valence that cannot be, or a bond without an order.
    """
    mol, drawn = _parsed(text)
    return _smiles(mol) if drawn else ""


def to_text(molecule: Molecule) -> str:
    """Return `molecule` as an sdf file with one molecule, its charges among the data.

    Where its SMILES has more hydrogens than there are atoms of, the file leaves them to be understood.
    """
    from rdkit import Chem, rdBase

    from afmid.chem.bonds import sanitised, to_rdkit

    valid = _without_hydrogens(molecule) or sanitised(molecule)
    if valid is not None:
        Chem.AssignStereochemistryFrom3D(valid)
    mol = to_rdkit(molecule) if valid is None else valid
    mol.SetProp("_Name", " ".join((molecule.name or molecule.smiles).split())[:80])
    for atom, charge in zip(mol.GetAtoms(), molecule.charges.tolist(), strict=True):
        atom.SetDoubleProp(CHARGES, charge)
    Chem.CreateAtomDoublePropertyList(mol, CHARGES)
    stream = io.StringIO()
    with rdBase.BlockLogs(), Chem.SDWriter(stream) as writer:
        writer.SetKekulize(valid is not None)  # else aromatic bonds stay what they are
        writer.write(mol)
    return stream.getvalue()


def _without_hydrogens(molecule: Molecule) -> Any | None:
    """Return an RDKit molecule whose open valences are hydrogens that are understood; None where none are meant."""
    from rdkit import Chem, rdBase

    from afmid.chem.bonds import to_rdkit

    with rdBase.BlockLogs():
        whole = Chem.MolFromSmiles(molecule.smiles) if molecule.smiles else None
        if whole is None or Chem.AddHs(whole).GetNumAtoms() <= len(molecule):
            return None
        mol = to_rdkit(molecule)
        for atom in mol.GetAtoms():
            atom.SetNoImplicit(atom.GetAtomicNum() == 1)
            if atom.GetFormalCharge() and not any(other.GetFormalCharge() for other in atom.GetNeighbors()):
                atom.SetFormalCharge(0)  # which stood for an open valence
        return None if Chem.SanitizeMol(mol, catchErrors=True) else mol


def _parsed(text: str) -> tuple[Any, bool]:
    """Return the first molecule, and whether it is a flat drawing: z is 0 throughout, and the file does not say 3D."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = next(Chem.ForwardSDMolSupplier(io.BytesIO(text.encode()), removeHs=False), None)
    if mol is None:
        raise DataError("its molecule cannot be read; check its counts line, elements and valences")
    if not mol.GetNumAtoms():
        raise DataError("holds no atoms; a molecule needs at least one")
    if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
        raise DataError("holds an atom without an element; name each element")
    if any(bond.GetBondTypeAsDouble() == 0 for bond in mol.GetBonds()):
        raise DataError("holds a bond without an order, such as a query's (types 5 to 8); give each bond its order")
    drawn = not (mol.GetConformer().Is3D() or text.split("\n", 2)[1][20:22] == "3D")  # RDKit calls a planar molecule 2D
    mol.GetConformer().Set3D(not drawn)
    return mol, drawn


def _smiles(mol: Any) -> str:
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        try:
            return str(Chem.MolToSmiles(Chem.RemoveHs(mol)))
        except ValueError as error:  # RDKit reads what it does not sanitise
            raise DataError(f"its bonds make no valid molecule: {str(error).strip()}") from error
