import logging
from contextlib import suppress

import ase
import ase.io
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from afmid.errors import DataError
from afmid.io import read_molecule, write_molecule
from afmid.io.xyz_file import count, from_text, to_text
from afmid.molecule import Molecule

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
PLAIN = "3\ncomment\nO 0 0 0 -0.8\nH 0.96 0 0 0.4\nH -0.24 0.93 0 0.4\n"
WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12).map(lambda w: " ".join(w.split()))


@given(
    positions=hnp.arrays(np.float64, (4, 3), elements=st.floats(-100, 100)),
    charges=hnp.arrays(np.float64, 4, elements=st.floats(-3, 3)),
    numbers=hnp.arrays(np.int64, 4, elements=st.integers(1, 118)),
    name=WORDS.filter(bool),
    smiles=WORDS | st.sampled_from(["F", "T", "F/C=C\\F", "[H][H]"]),
)
def test_write_then_read_keeps_atoms_charges_and_words(positions, charges, numbers, name, smiles):
    read = from_text(to_text(Molecule(numbers, positions, charges, name=name, smiles=smiles)), "")
    assert_array_equal(read.numbers, numbers)
    assert_allclose(read.positions, positions, atol=1e-8)
    assert_allclose(read.charges, charges, atol=1e-8)
    assert (read.name, read.smiles) == (name, smiles)


def test_a_plain_fifth_column_holds_charges():
    molecule = from_text(PLAIN, "water")
    assert molecule.charges.tolist() == [-0.8, 0.4, 0.4]
    assert molecule.symbols == ["O", "H", "H"]
    assert sorted(map(sorted, molecule.bonds.tolist())) == [[0, 1], [0, 2]]
    assert molecule.name == "water"


def test_atomic_numbers_stand_for_elements_and_case_does_not_matter():
    text = "3\n\n8 0 0 0\n1 0.96 0 0\nh -0.24 0.93 0\n"
    assert from_text(text, "").symbols == ["O", "H", "H"]


def test_missing_charges_are_those_of_mmff94():
    molecule = from_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n", "")
    assert_allclose(molecule.charges, [-0.86, 0.43, 0.43])  # Halgren, J. Comput. Chem. 17, 616 (1996)


@pytest.mark.parametrize("key", ["charges", "initial_charges"])
def test_charges_that_ase_writes_are_read(key, tmp_path):
    atoms = ase.Atoms("OHH", WATER)
    atoms.set_array(key, np.array([-0.6, 0.3, 0.3]))
    ase.io.write(tmp_path / "water.xyz", atoms, format="extxyz")
    assert read_molecule(tmp_path / "water.xyz").charges.tolist() == [-0.6, 0.3, 0.3]


@pytest.mark.parametrize(
    "columns",
    ["Properties=species:S:1:pos:R:3:charges:R:1", "properties = 'species:S:1:pos:R:3:charges:R:1' pbc='F F F'"],
)
def test_the_columns_of_extended_xyz_are_found_however_they_are_quoted(columns):
    assert from_text(f"1\nLattice='9 0 0 0 9 0 0 0 9' {columns}\nH 1 2 3 0.5\n", "").charges.tolist() == [0.5]


def test_ase_reads_what_afmid_writes(tmp_path):
    water = Molecule(np.array([8, 1, 1]), WATER, np.array([-0.6, 0.3, 0.3]), name='say "water"')
    write_molecule(water, tmp_path / "a.xyz")
    atoms = ase.io.read(tmp_path / "a.xyz")
    assert_allclose(atoms.positions, WATER)
    assert atoms.get_chemical_formula() == "H2O"
    assert atoms.info["name"] == 'say "water"'


def test_a_metal_slab_keeps_its_charges_and_has_no_fatal_bonds(caplog):
    slab = "2\n\nCu 0 0 0\nCu 2.5 0 0\n"
    with caplog.at_level(logging.WARNING):
        molecule = from_text(slab, "slab")
    assert molecule.charges.tolist() == [0, 0]
    assert "charges" in caplog.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0\n\n", "holds 0 atoms; a molecule needs at least one"),
        ("-3\n\n", "holds -3 atoms"),
        ("999999999\n\n", "afmid reads up to"),
        ("3\n\nH 0 0 0\n", "says 3 atoms, holds 1 lines"),
        ("1\n\nXq 0 0 0\n", "line 3 has the element 'Xq'"),
        ("1\n\nX 0 0 0\n", "line 3 has the element 'X'"),
        ("1\n\n0 0 0 0\n", "line 3 has the element '0'"),
        ("1\n\n999 0 0 0\n", "line 3 has the element '999'"),
        ("1\n\nH 0 0\n", "line 3 needs an element and three coordinates"),
        ("1\n\nH 0 zero 0\n", "line 3 has 'zero'"),
        ("1\n\nH 0 nan 0\n", "line 3 has 'nan'"),
        ("1\nProperties=species:S:1:pos:R:3\nXq 0 0 0\n", "Xq"),
        ("1\nProperties=species:S:1:pos:R:3\nX 0 0 0\n", "atom 1 is 'X', which is no element"),
        ("1\nProperties=species:S:1:pos:R:3\nH 0 0\n", "extended xyz cannot be read"),
        ("1\nProperties=species:S:1:pos:R:3:foo:R:200\nH 0 0 0\n", "declares 204 columns; afmid reads up to 200"),
        ("1\nProperties=species:S:1:pos:R:3:foo:R:1000000000\nH 0 0 0\n", "name each column as species:S:1:pos:R:3"),
        ('1\nProperties="species:S:1:pos:R:3:foo:R:1_000_000_000"\nH 0 0 0\n', "name each column"),
        ("1\nProperties=species:S:1:pos:R:3 Properties=foo:R:1000000000\nH 0 0\n", "extended xyz cannot be read"),
        (f"{'1' * 5000}\n\nH 0 0 0\n", "holds no molecule that afmid can read"),
        (f"1\n\n{'1' * 5000} 0 0 0\n", "line 3 has the element '11111111111111111111'"),
        ("1\nProperties=species:S:1:pos:R:3:charges:R:1\nH 0 0 0 nan\n", "charges hold values that are not finite"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(text, says, tmp_path):
    (tmp_path / "bad.xyz").write_text(text)
    with pytest.raises(DataError, match=rf"bad\.xyz: .*{says}"):
        read_molecule(tmp_path / "bad.xyz")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("comment", ["form\ffeed", "two\u2028lines", "Properties=species:S:1:pos:R:3 name=a\u2028b"])
def test_only_ends_of_lines_end_a_line(comment, end):
    text = f"3\n{comment}\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n".replace("\n", end)
    assert_array_equal(from_text(text, "").positions, WATER)
    assert count(text) == 3


@given(st.text(max_size=60))
def test_any_text_after_a_count_is_a_molecule_or_a_data_error(text):
    for start in ("2\n", "1\nProperties=species:S:1:pos:R:3\n"):
        with suppress(DataError):
            assert len(from_text(start + text, "")) in (1, 2)
