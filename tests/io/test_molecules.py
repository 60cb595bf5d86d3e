import io
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from afmid.chem import embed
from afmid.errors import DataError
from afmid.io import read_molecule, write_molecule
from afmid.io.molecules import MAX_BYTES
from afmid.molecule import Molecule


def test_a_smiles_a_name_and_a_name_in_capitals_are_the_same_molecule():
    molecules = [read_molecule(text) for text in ("c1ccc2ccccc2c1", "naphthalene", " NAPHTHALENE ")]
    for molecule in molecules:
        assert_array_equal(molecule.positions, molecules[0].positions)
        assert molecule.smiles == "c1ccc2ccccc2c1"
    assert [molecule.name for molecule in molecules] == ["", "naphthalene", "naphthalene"]


def test_a_file_comes_before_a_smiles_of_the_same_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C").write_text("1\n\nHe 0 0 0 0\n")
    assert read_molecule("C").symbols == ["He"]


def test_a_folder_does_not_hide_a_smiles_or_a_name_of_the_same_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("C", "PTCDA"):
        (tmp_path / name).mkdir()
    assert read_molecule("C").smiles == "C"
    assert read_molecule("PTCDA").name == "PTCDA"
    for path in ("./C", tmp_path / "C"):
        with pytest.raises(DataError, match="is a folder; give one file"):
            read_molecule(path)


def test_a_molecule_comes_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1\n\nAr 0 0 0 0\n")))
    assert read_molecule("-").symbols == ["Ar"]


@pytest.mark.parametrize("suffix", [".xyz", ".sdf"])
def test_writing_is_chosen_by_the_suffix(suffix, tmp_path):
    molecule = embed("CO")
    write_molecule(molecule, tmp_path / f"a{suffix}")
    assert_array_equal(read_molecule(tmp_path / f"a{suffix}").numbers, molecule.numbers)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.pdb: molecules are written as \.xyz"):
        write_molecule(Molecule(np.array([1]), np.zeros((1, 3))), tmp_path / "a.pdb")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("xyzzy", "'xyzzy' is no file, no valid SMILES and no name that afmid knows"),
        ("c1ccccc", "no valid SMILES"),
        ("C(C)(C)(C)(C)C", "no valid SMILES"),
        ("missing.xyz", r"missing\.xyz: no such file"),
        ("./missing", "no such file"),
        ("C" * 6000, "no valid SMILES"),
        ("", "no molecule given"),
        ("  ", "no molecule given"),
        ("C*", "an atom without an element"),
        ("C" * 400, "atoms; afmid places up to"),
    ],
)
def test_words_that_are_no_molecule_are_said(text, says, capfd):
    with pytest.raises(DataError, match=says) as error:
        read_molecule(text)
    assert len(str(error.value)) < 400
    assert capfd.readouterr() == ("", "")  # RDKit's own talk stays out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x00\x01\x02", "is no text"),
        (b"just words\n", "holds no molecule that afmid can read"),
        (b"x" * (MAX_BYTES + 1), "larger than 64 MiB"),
    ],
)
def test_files_that_hold_no_molecule_are_said_with_their_name(content, says, tmp_path):
    (tmp_path / "bad.xyz").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.xyz: .*{says}"):
        read_molecule(str(tmp_path / "bad.xyz"))


def test_a_folder_is_said(tmp_path):
    with pytest.raises(DataError, match="is a folder; give one file"):
        read_molecule(str(tmp_path))


def test_a_path_is_never_taken_as_a_smiles(tmp_path):
    with pytest.raises(DataError, match="C: no such file"):
        read_molecule(tmp_path / "C")
