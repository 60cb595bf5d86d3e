"""How flat a molecule can lie, told from its bonds alone."""

from rdkit import Chem

from afmid.chem.bonds import Mol
from afmid.chem.names import parse


def flatness(smiles: str) -> float:
    """Return the share of heavy atoms in the largest planar unit, 0 … 1: 1 for benzene and toluene, 0 for cyclohexane.

    A unit is what conjugated and multiple bonds hold together, with the direct neighbours of its atoms. It takes no
    account of crowding: biphenyl counts as flat.

    Raises:
        DataError: it is no SMILES.
    """
    mol = Chem.RemoveHs(parse(smiles))
    stiff = [bond for bond in mol.GetBonds() if bond.GetIsConjugated() or bond.GetBondTypeAsDouble() > 1]
    units = {atom.GetIdx(): {atom.GetIdx()} for atom in mol.GetAtoms()}
    for bond in stiff:
        one, other = units[bond.GetBeginAtomIdx()], units[bond.GetEndAtomIdx()]
        if one is not other:
            one |= other
            units.update(dict.fromkeys(other, one))
    found = {id(unit): unit for unit in units.values() if len(unit) > 1}.values()
    return max((len(unit | _neighbours(mol, unit)) for unit in found), default=0) / mol.GetNumAtoms()


def _neighbours(mol: Mol, atoms: set[int]) -> set[int]:
    return {neighbour.GetIdx() for i in atoms for neighbour in mol.GetAtomWithIdx(i).GetNeighbors()}
