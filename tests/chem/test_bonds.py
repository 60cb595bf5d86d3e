from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from afmid.chem import embed, perceive_bonds
from afmid.chem.bonds import from_rdkit, sanitised, to_rdkit
from afmid.molecule import Molecule

EVERYDAY = ["O", "CCO", "c1ccc2ccccc2c1", "CC#N", "CC[N+](=O)[O-]", "OC(=O)c1ccccc1", "CS(=O)(=O)C", "O.O", "c1ccsc1"]


def graph(molecule):
    pairs = np.sort(molecule.bonds, axis=1)
    return sorted((*pair, order) for pair, order in zip(pairs.tolist(), molecule.orders.tolist(), strict=True))


@pytest.mark.parametrize("smiles", EVERYDAY)
def test_bonds_and_orders_are_found_again_from_the_positions(smiles):
    molecule = embed(smiles)
    lost = replace(molecule, bonds=np.empty((0, 2), int), orders=np.empty(0))
    assert graph(perceive_bonds(lost)) == graph(molecule)


@given(
    hnp.arrays(np.int64, 5, elements=st.sampled_from([1, 6, 7, 8, 29, 53, 92])),
    hnp.arrays(np.float64, (5, 3), elements=st.floats(-3, 3)),
)
def test_any_heap_of_atoms_keeps_its_atoms(numbers, positions):
    molecule = perceive_bonds(Molecule(numbers, positions))
    assert_array_equal(molecule.numbers, numbers)
    assert_array_equal(molecule.positions, positions)


@pytest.mark.parametrize("smiles", [*EVERYDAY, "C[n+]1ccccc1[O-]", "c1cc[nH+]cc1", "c1cc[nH]c1", "CN=[N+]=[N-]"])
def test_to_rdkit_and_back_changes_nothing(smiles):
    molecule = embed(smiles)
    back = from_rdkit(sanitised(molecule), molecule.charges)
    assert graph(back) == graph(molecule)
    assert_allclose(back.positions, molecule.positions)


@pytest.mark.parametrize(
    ("smiles", "charges"),
    [("C[N+](=O)[O-]", [0, 1, 0, -1]), ("CN=[N+]=[N-]", [0, 0, 1, -1]), ("[C-]#[N+]C", [-1, 1, 0]), ("CO", [0, 0])],
)
def test_formal_charges_follow_from_the_valences(smiles, charges):
    mol = to_rdkit(embed(smiles))
    assert [atom.GetFormalCharge() for atom in mol.GetAtoms()][: len(charges)] == charges


def test_a_bond_given_in_both_directions_counts_once():
    molecule = embed("CO")
    twice = replace(molecule, bonds=np.tile(molecule.bonds, (2, 1))[:, ::-1], orders=np.tile(molecule.orders, 2))
    assert to_rdkit(twice).GetNumBonds() == len(molecule.bonds)


def test_six_bonds_on_a_carbon_make_no_valid_molecule():
    star = Molecule(np.array([6] * 7), 3 * np.eye(7, 3), bonds=np.array([[0, i] for i in range(1, 7)]))
    assert sanitised(star) is None
