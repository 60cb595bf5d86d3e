"""Point charges of a molecule whose file gives none: MMFF94's, else Gasteiger's, else zero."""

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers, rdPartialCharges

from afmid.chem.bonds import Mol, connected, ordered, sanitised
from afmid.molecule import Molecule

log = logging.getLogger(__name__)

TOLERANCE = 1e-2  # e: how far a molecule's charges may miss its formal charge


def mmff_charges(molecule: Molecule) -> NDArray[np.float64] | None:
    """Return the MMFF94 charges (e), (N,), of `molecule`; None where it has no MMFF94 types or they do not add up.

    Bonds are those of the molecule, or are perceived from its positions where it has none.
    """
    mol = _typed(molecule)
    return None if mol is None else mmff(mol)


def with_charges(molecule: Molecule) -> Molecule:
    """Return `molecule` with MMFF94 charges, else Gasteiger's, else zero ones; a warning says when not MMFF94's."""
    mol = _typed(molecule)
    what = molecule.name or molecule.smiles or "the molecule"
    if mol is None:
        log.warning("%s: no charges given, and its bonds are unclear; all charges are zero", what)
        return molecule
    return replace(molecule, charges=charges_of(mol, what))


def charges_of(mol: Mol, what: str) -> NDArray[np.float64]:
    """Return charges (e), (N,), of a sanitised RDKit molecule with explicit hydrogens, as `with_charges` does."""
    charges = mmff(mol)
    if charges is not None:
        return charges
    charges = gasteiger(mol)
    if charges is not None:
        log.warning("%s: its MMFF94 charges are missing or do not add up; Gasteiger charges instead", what)
        return charges
    log.warning("%s: neither MMFF94 nor Gasteiger charges exist; all charges are zero", what)
    return np.zeros(mol.GetNumAtoms())


def mmff(mol: Mol) -> NDArray[np.float64] | None:
    """Return MMFF94 charges of a sanitised RDKit molecule, or None where they are missing or do not add up.

    They fail to add up where the typing goes wrong: porphine gets +2 e, phthalocyanine +6 e.
    """
    with rdBase.BlockLogs():
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(Chem.Mol(mol))  # which changes what is aromatic
    if properties is None:
        return None
    return _adding_up(mol, [properties.GetMMFFPartialCharge(i) for i in range(mol.GetNumAtoms())])


def gasteiger(mol: Mol) -> NDArray[np.float64] | None:
    """Return Gasteiger charges of a sanitised RDKit molecule, or None where they are missing or do not add up."""
    mol = Chem.Mol(mol)
    with rdBase.BlockLogs():
        try:
            rdPartialCharges.ComputeGasteigerCharges(mol, throwOnParamFailure=True)
        except (ValueError, RuntimeError):
            return None
    return _adding_up(mol, [atom.GetDoubleProp("_GasteigerCharge") for atom in mol.GetAtoms()])


def _adding_up(mol: Mol, charges: list[float]) -> NDArray[np.float64] | None:
    array = np.array(charges)
    good = np.isfinite(array).all() and abs(array.sum() - Chem.GetFormalCharge(mol)) < TOLERANCE
    return array if good else None


def _typed(molecule: Molecule) -> Mol | None:
    if len(molecule.bonds):
        return sanitised(molecule)
    mol = connected(molecule)
    return None if mol is None else ordered(mol)
