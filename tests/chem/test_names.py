import numpy as np
import pytest

from afmid.chem import SmilesError, embed, find_named, formula, inchikey, named_molecules, perceive_bonds, smiles_of
from afmid.chem.names import composition
from afmid.errors import DataError
from afmid.molecule import Molecule


def test_every_known_molecule_is_a_valid_smiles_under_a_name_of_its_own():
    assert len(named_molecules()) > 60
    assert len({name.casefold() for name in named_molecules()}) == len(named_molecules())
    for smiles in named_molecules().values():
        assert len(inchikey(smiles)) == 27


@pytest.mark.parametrize(
    ("name", "hill"),
    [
        ("pentacene", "C22H14"),
        ("PTCDA", "C24H8O6"),
        ("HBC", "C42H18"),
        ("camphor", "C10H16O"),
        ("benzene", "C6H6"),
        ("porphine", "C20H14N4"),
    ],
)
def test_known_molecules_have_the_formula_of_the_literature(name, hill):
    assert formula(find_named(name)[1]) == hill


def test_names_are_found_in_any_case_and_others_are_not():
    assert find_named(" ptcda ") == ("PTCDA", named_molecules()["PTCDA"])
    assert find_named("unobtainium") is None


def test_inchikeys_do_not_depend_on_how_the_smiles_is_written():
    assert inchikey("OCC") == inchikey("C(O)C") == "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"


def test_the_composition_counts_hydrogens_too():
    assert composition("C[Si](C)(C)Br") == {6: 3, 14: 1, 35: 1, 1: 9}


@pytest.mark.parametrize("smiles", ["xyz", "c1ccc", "C(C)(C)(C)(C)C", "C" * 5001])
def test_what_is_no_smiles_is_said(smiles, capfd):
    for ask in (inchikey, formula, composition):
        with pytest.raises(SmilesError, match="SMILES"):
            ask(smiles)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("smiles", ["", "*C"])
def test_a_smiles_without_atoms_or_elements_is_an_error(smiles):
    with pytest.raises(DataError):
        inchikey(smiles)


@pytest.mark.parametrize("smiles", ["C[C@H](N)C(=O)O", "F/C=C\\Cl", "CC[N+](=O)[O-]", "c1cc[nH]c1", "O.O"])
def test_a_molecules_smiles_follows_from_its_bonds_given_or_perceived(smiles):
    molecule = embed(smiles)
    assert inchikey(smiles_of(molecule)) == inchikey(smiles)
    bare = Molecule(molecule.numbers, molecule.positions)
    assert inchikey(smiles_of(perceive_bonds(bare))) == inchikey(smiles)


def test_bonds_that_leave_charges_or_unpaired_electrons_make_no_smiles():
    methyl = Molecule(np.array([6, 1, 1, 1]), np.zeros((4, 3)), bonds=np.array([[0, 1], [0, 2], [0, 3]]))
    methylene = Molecule(np.array([6, 1, 1]), np.zeros((3, 3)), bonds=np.array([[0, 1], [0, 2]]))
    for molecule in (methyl, methylene):
        with pytest.raises(DataError, match="its bonds are unclear"):
            smiles_of(molecule)
