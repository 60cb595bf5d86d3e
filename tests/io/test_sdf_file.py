import io
import logging

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rdkit import Chem
from rdkit.Chem import AllChem

from afmid.chem import embed, inchikey
from afmid.errors import DataError
from afmid.io import read_molecule, write_molecule
from afmid.io.sdf_file import count, drawn_smiles, from_text, to_text
from afmid.molecule import Molecule

EVERYDAY = [
    "c1ccccc1",
    "CC[N+](=O)[O-]",
    "C[n+]1ccccc1[O-]",
    "[O-][n+]1ccccc1",
    "c1cc[nH]c1",
    "CN=[N+]=[N-]",
    "[C-]#[N+]C",
    "N[C@@H](C)C(=O)O",
    "OS(=O)(=O)c1ccsc1",
    "F/C=C/Cl",
    "c1cc[nH+]cc1.[Cl-]",
]


@pytest.mark.parametrize("smiles", EVERYDAY)
def test_write_then_read_keeps_atoms_bonds_charges_and_stereochemistry(smiles):
    molecule = embed(smiles, name="some name")
    read = from_text(to_text(molecule), "")
    assert_array_equal(read.numbers, molecule.numbers)
    assert_allclose(read.positions, molecule.positions, atol=5.1e-5)  # an sdf file has four decimals
    assert_allclose(read.charges, molecule.charges)
    order = np.lexsort(molecule.bonds.T)
    assert_array_equal(read.bonds[np.lexsort(read.bonds.T)], molecule.bonds[order])
    assert sorted(read.orders) == sorted(molecule.orders)
    assert inchikey(read.smiles) == inchikey(smiles)
    assert read.name == "some name"


def test_charges_are_mmff94s_where_the_file_has_none():
    mol = Chem.AddHs(Chem.MolFromSmiles("O"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    assert_allclose(from_text(Chem.MolToMolBlock(mol), "").charges, [-0.86, 0.43, 0.43])


def test_a_flat_drawing_is_placed_in_space_and_said(caplog):
    mol = Chem.MolFromSmiles("CC(C)(C)C")
    AllChem.Compute2DCoords(mol)
    with caplog.at_level(logging.WARNING):
        molecule = from_text(Chem.MolToMolBlock(mol), "neopentane")
    assert np.linalg.svd(molecule.positions, compute_uv=False)[2] > 1
    assert len(molecule) == 17
    assert "neopentane: 12 hydrogen atoms added" in caplog.text
    assert "flat drawing" in caplog.text


def test_missing_hydrogens_of_a_geometry_are_added_and_the_rest_stays():
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    heavy = Chem.RemoveHs(mol)
    molecule = from_text(Chem.MolToMolBlock(heavy), "")
    assert len(molecule) == 9
    assert_allclose(molecule.positions[:3], heavy.GetConformer().GetPositions(), atol=1e-4)


def test_of_several_molecules_the_first_is_read_and_said(caplog):
    text = to_text(embed("O", name="first")) + to_text(embed("C"))
    with caplog.at_level(logging.WARNING):
        assert from_text(text, "").name == "first"
    assert "several molecules" in caplog.text


def test_bonds_that_make_no_valid_molecule_are_written_as_they_are():
    bonds = np.array([[0, i] for i in range(1, 7)])
    star = Molecule(np.array([6] * 7), np.eye(7, 3), bonds=bonds, orders=np.full(6, 1.5))
    mol = Chem.MolFromMolBlock(to_text(star), sanitize=False)
    assert mol.GetNumBonds() == 6


BLOCK = to_text(embed("O"))
UNSANITISED = """which RDKit reads, and then makes nothing of
     RDKit          3D

  6  5  0  0  0  0  0  0  0  0999 V2000
    0.4059    1.3814   -1.4010 C   0  0
   -0.0635    0.5234    0.2225 C   0  0
   -0.1634   -0.0430    1.1638 H   0  0
   -0.8049    0.2097   -0.5874 P   0  5
   -1.9044    1.3475   -1.2601 P   0  0
    1.0791   -0.2308   -0.8830 C   0  0
  2  1  9  0
  3  1  4  0
  4  1  1  0
  5  1  2  0
  6  5  3  0
M  END
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BLOCK.replace(" O ", " Xq"), "cannot be read"),
        (BLOCK.replace(" O ", " * "), "without an element"),
        (BLOCK[:120], "cannot be read"),
        ("\n     RDKit          3D\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n", "holds no atoms"),
        (BLOCK.replace("  1  2  1  0", "  1  2  3  0"), "cannot be read"),
        (BLOCK.replace("  1  2  1  0", "  1  2  8  0"), r"a bond without an order, such as a query's \(types 5 to 8\)"),
        (BLOCK.replace("  1  2  1  0", "  1  2 61  0"), "a bond without an order"),
        (UNSANITISED, "its bonds make no valid molecule: Explicit valence for atom # 0 C, 5, is greater"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(text, says, tmp_path, capfd):
    (tmp_path / "bad.sdf").write_text(text)
    with pytest.raises(DataError, match=rf"bad\.sdf: .*{says}"):
        read_molecule(tmp_path / "bad.sdf")
    assert capfd.readouterr() == ("", "")  # RDKit's own talk stays out


def test_mol_files_are_written_too(tmp_path):
    write_molecule(embed("CO"), tmp_path / "a.mol")
    assert read_molecule(tmp_path / "a.mol").symbols.count("H") == 4


def test_of_a_flat_drawing_the_smiles_can_be_had_alone():
    drawing = Chem.MolFromSmiles("C[C@H](N)C(=O)O")
    AllChem.Compute2DCoords(drawing)
    assert inchikey(drawn_smiles(Chem.MolToMolBlock(drawing))) == inchikey("C[C@H](N)C(=O)O")
    assert drawn_smiles(to_text(embed("c1ccccc1"))) == ""
    with pytest.raises(DataError, match="cannot be read"):
        drawn_smiles("junk\n")


def test_the_number_of_atoms_is_known_without_reading_them():
    ethanol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(ethanol, randomSeed=1)
    assert count(Chem.MolToMolBlock(ethanol)) == count(Chem.MolToV3KMolBlock(ethanol)) == 9
    assert count(Chem.MolToMolBlock(ethanol).replace("\n", "\r\n")) == 9
    assert count("\n\n\n100 99  0\n") == count("\n\n\n100100  0\n") == 100
    assert count("junk") == count("") == 0


def test_a_title_may_hold_what_other_programs_take_for_the_end_of_a_line():
    assert_allclose(from_text("form\ffeed" + BLOCK[BLOCK.index("\n") :], "").positions, from_text(BLOCK, "").positions)
    drawing = Chem.MolFromSmiles("CCO")
    AllChem.Compute2DCoords(drawing)
    assert drawn_smiles("two\u2028lines" + Chem.MolToMolBlock(drawing)) == "CCO"


@pytest.mark.parametrize("smiles", ["Cc1ccc(N)cc1", "O", "C=CC#N", "CC[N+](=O)[O-]"])
def test_hydrogens_that_only_the_smiles_has_are_understood(smiles):
    whole = embed(smiles)
    hydrogen = int(np.flatnonzero(whole.numbers == 1)[0])
    keep = np.arange(len(whole)) != hydrogen
    bonds = (whole.bonds != hydrogen).all(1)
    rank = np.cumsum(keep) - 1
    part = Molecule(
        whole.numbers[keep], whole.positions[keep], bonds=rank[whole.bonds[bonds]], orders=whole.orders[bonds],
        smiles=whole.smiles,
    )  # fmt: skip
    text = to_text(part)
    assert count(text) == len(part)
    read = next(Chem.ForwardSDMolSupplier(io.BytesIO(text.encode())))
    assert inchikey(Chem.MolToSmiles(read)) == inchikey(smiles)
