import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from afmid.chem import embed, mmff_charges, named_molecules, with_charges
from afmid.molecule import Molecule

PORPHINE = named_molecules()["porphine"]


def bare(molecule):
    return replace(molecule, charges=np.zeros(len(molecule)), bonds=np.empty((0, 2), int), orders=np.empty(0))


@pytest.mark.parametrize("smiles", ["O", "CC[N+](=O)[O-]", "[O-][n+]1ccccc1", "c1cc[nH]c1", "OC(=O)c1ccccc1"])
def test_charges_are_those_of_the_smiles_whether_bonds_are_given_or_perceived(smiles):
    molecule = embed(smiles)
    assert_allclose(mmff_charges(molecule), molecule.charges)
    assert_allclose(mmff_charges(bare(molecule)), molecule.charges)


@given(st.sampled_from(["O", "CCO", "c1ccccc1", "C[N+](=O)[O-]", "[NH4+].[Cl-]", "[NH4+]", "CC(=O)[O-]", PORPHINE]))
def test_charges_add_up_to_the_formal_charge(smiles):
    formal = {"[NH4+]": 1, "CC(=O)[O-]": -1}.get(smiles, 0)
    assert embed(smiles).charges.sum() == pytest.approx(formal, abs=1e-2)


def test_macrocycles_whose_mmff94_charges_do_not_add_up_get_gasteigers_and_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        porphine = embed(PORPHINE, name="porphine")
    assert mmff_charges(porphine) is None
    assert "porphine" in caplog.text
    assert "Gasteiger charges instead" in caplog.text
    assert np.abs(porphine.charges).max() > 0.1


def test_atoms_that_no_scheme_knows_get_zero_and_a_warning(caplog):
    gold = Molecule(np.array([79, 79]), np.array([[0.0, 0, 0], [2.5, 0, 0]]), name="gold")
    with caplog.at_level(logging.WARNING):
        charged = with_charges(gold)
    assert charged.charges.tolist() == [0, 0]
    assert "gold" in caplog.text
    assert "zero" in caplog.text


def test_bonds_that_make_no_molecule_give_zero_and_a_warning(caplog):
    star = Molecule(np.array([6] * 7), 3 * np.eye(7, 3), bonds=np.array([[0, i] for i in range(1, 7)]), name="star")
    assert mmff_charges(star) is None
    with caplog.at_level(logging.WARNING):
        assert not with_charges(star).charges.any()
    assert "its bonds are unclear" in caplog.text
