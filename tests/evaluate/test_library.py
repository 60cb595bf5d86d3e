"""Where candidates come from."""

import pytest
from numpy.testing import assert_array_equal

from afmid.data.pack import write_pack
from afmid.errors import DataError
from afmid.evaluate.library import CONFORMERS, is_there, open_library, row_named


def test_a_list_of_smiles_is_prepared_and_its_pack_is_read_as_it_is(tmp_path):
    (tmp_path / "list.smi").write_text("c1ccccc1\nCO\nno_smiles\n")
    steps = []
    library = open_library(tmp_path / "list.smi", progress=lambda done, total: steps.append((done, total)))
    assert library.smiles == ("c1ccccc1", "CO")
    assert len(library) == 2 * CONFORMERS
    assert steps[-1] == (3, 3)
    write_pack(library, tmp_path / "library.npz")
    again = open_library(tmp_path / "library.npz")
    assert again.smiles == library.smiles
    assert_array_equal(again.positions, library.positions)


def test_rows_that_are_left_out_are_told(tmp_path, caplog):
    (tmp_path / "list.smi").write_text("CO\n" + "no_smiles\n" * 6 + "OC\n")
    open_library(tmp_path / "list.smi")
    told = caplog.records[-1].getMessage()
    assert "list.smi: left out 7 of 8 rows: row 2 (no_smiles): smiles; row 3 (no_smiles): smiles; " in told
    assert told.endswith("row 6 (no_smiles): smiles; and 2 more")


def test_a_smiles_or_a_name_is_a_library_of_one():
    chain = "C" * 40 + "".join(f"C({'F' if i % 2 else 'Cl'})" for i in range(60)) + "C"
    assert len(chain) > 255  # no file can be called that
    assert not is_there(chain)
    assert row_named(chain).smiles == chain
    assert open_library("CO").smiles == ("CO",)
    library = open_library("Benzene")
    assert (library.name, library.smiles) == (("benzene",), (row_named("benzene").smiles,))


def test_a_library_that_is_none_is_refused_by_its_name(tmp_path):
    with pytest.raises(DataError, match=r"missing\.npz: no such file"):
        open_library(tmp_path / "missing.npz")
    (tmp_path / "list.smi").write_text("no_smiles\n")
    with pytest.raises(DataError, match=r"list\.smi: no molecule of the list"):
        open_library(tmp_path / "list.smi")
