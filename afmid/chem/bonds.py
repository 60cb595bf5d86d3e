"""Between afmid's Molecule and RDKit's; bonds perceived from positions."""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds
from rdkit.Geometry import Point3D

from afmid.molecule import Molecule

Mol: TypeAlias = Any  # rdkit.Chem.Mol, which carries no types

# (element, bonds) that carry a formal charge: isocyanides, azides, nitro groups, N-oxides, ylides, bare ions
_CHARGES = {(5, 4): -1, (6, 3): -1, (7, 2): -1, (7, 4): 1, (8, 1): -1, (8, 3): 1, (15, 4): 1, (16, 1): -1, (16, 3): 1}
_CHARGES |= {(3, 0): 1, (11, 0): 1, (19, 0): 1, (9, 0): -1, (17, 0): -1, (35, 0): -1, (53, 0): -1}
MAX_TRIALS = 2000  # of ways to give the bonds their orders
_TYPES = {1.0: Chem.BondType.SINGLE, 1.5: Chem.BondType.AROMATIC, 2.0: Chem.BondType.DOUBLE, 3.0: Chem.BondType.TRIPLE}


def to_rdkit(molecule: Molecule, bonds: bool = True) -> Mol:
    """Return `molecule` as an RDKit molecule with its positions, not sanitised, all hydrogens explicit.

    Formal charges, which a Molecule does not carry, follow from the valences: a nitrogen with four bonds is N+.
    """
    mol = Chem.RWMol()
    molecule = _once(molecule)
    formal = formal_charges(molecule) if bonds else [0] * len(molecule)
    for number, charge in zip(molecule.numbers.tolist(), formal, strict=True):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        atom.SetFormalCharge(charge)
        mol.AddAtom(atom)
    if bonds:
        for (a, b), order in zip(molecule.bonds.tolist(), molecule.orders.tolist(), strict=True):
            mol.AddBond(a, b, bond_type(order))
            if order == 1.5:
                for end in (a, b):
                    mol.GetAtomWithIdx(end).SetIsAromatic(True)
    conformer = Chem.Conformer(len(molecule))
    conformer.Set3D(True)
    for i, position in enumerate(molecule.positions.tolist()):
        conformer.SetAtomPosition(i, Point3D(*position))
    mol.AddConformer(conformer)
    return mol.GetMol()


def _once(molecule: Molecule) -> Molecule:
    """Return `molecule` with each bond once, where it is given in both directions."""
    _, first = np.unique(np.sort(molecule.bonds, axis=1), axis=0, return_index=True)
    kept = np.sort(first)
    return replace(molecule, bonds=molecule.bonds[kept], orders=molecule.orders[kept])


def bond_type(order: float) -> Any:
    """Return RDKit's bond type of the order nearest to `order`."""
    return _TYPES[min(_TYPES, key=lambda known: abs(known - order))]


def sanitised(molecule: Molecule) -> Mol | None:
    """Return `molecule` as an RDKit molecule, sanitised; None where its bonds make no valid one."""
    mol = to_rdkit(molecule)
    ring_nitrogens = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() == 7 and a.GetIsAromatic()]
    with rdBase.BlockLogs():
        for cation in (None, *ring_nitrogens):  # pyridinium and pyrrole differ in the formal charge alone
            trial = Chem.Mol(mol)
            if cation is not None:
                trial.GetAtomWithIdx(cation).SetFormalCharge(1)
            if not Chem.SanitizeMol(trial, catchErrors=True):
                return trial
    return None


def formal_charges(molecule: Molecule) -> list[int]:
    """Return the formal charge of each atom that its bonds imply; an aromatic nitrogen is N+ beside an O−."""
    ends = molecule.bonds.ravel()
    bonds = np.repeat(molecule.orders, 2)
    valences = np.bincount(ends, bonds, len(molecule))
    aromatic = np.bincount(ends, bonds == 1.5, len(molecule)) > 0
    charges = [
        0 if ring else _CHARGES.get((number, round(valence)), 0)
        for number, valence, ring in zip(molecule.numbers.tolist(), valences, aromatic, strict=True)
    ]
    for a, b in (*molecule.bonds.tolist(), *molecule.bonds[:, ::-1].tolist()):
        if aromatic[a] and molecule.numbers[a] == 7 and charges[b] < 0:
            charges[a] = 1
    return charges


def from_rdkit(mol: Mol, charges: Any = (), name: str = "", smiles: str = "") -> Molecule:
    """Return an RDKit molecule with a conformer and explicit hydrogens; aromatic bonds have the order 1.5."""
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()]
    return Molecule(
        numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]),
        positions=np.array(mol.GetConformer().GetPositions()),
        charges=np.asarray(charges),
        bonds=np.array(bonds, np.int64).reshape(-1, 2),
        orders=np.array([bond.GetBondTypeAsDouble() for bond in mol.GetBonds()]),
        name=name,
        smiles=smiles,
    )


def perceive_bonds(molecule: Molecule) -> Molecule:
    """Return `molecule` with bonds found from its distances.

    Their orders are those of a neutral molecule where RDKit finds such, else 1. Where even the distances tell nothing
    the molecule keeps no bonds.
    """
    mol = connected(molecule)
    if mol is None:
        return replace(molecule, bonds=np.empty((0, 2), np.int64), orders=np.empty(0))
    valid = ordered(mol)
    found = from_rdkit(mol if valid is None else valid)
    return replace(molecule, bonds=found.bonds, orders=found.orders)


def connected(molecule: Molecule) -> Mol | None:
    """Return `molecule` as an RDKit molecule whose bonds, all single, follow from the distances; None where none do."""
    mol = to_rdkit(molecule, bonds=False)
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineConnectivity(mol)
        except (ValueError, RuntimeError):
            return None
    return mol


def ordered(mol: Mol) -> Mol | None:
    """Return an RDKit molecule from `connected` with the bond orders of a neutral one, sanitised; None without such."""
    mol = Chem.Mol(mol)
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineBondOrders(mol, charge=0, embedChiral=False, maxIterations=MAX_TRIALS)
        except (ValueError, RuntimeError, IndexError):  # IndexError for metals, before RDKit 2026
            return None
        return None if Chem.SanitizeMol(mol, catchErrors=True) else mol
