import gzip
import logging
from collections import Counter

import pytest

from afmid.chem import inchikey
from afmid.data import prepare as module
from afmid.data.pack import write_pack
from afmid.data.prepare import Row, prepare, read_smiles_list, split_of
from afmid.errors import DataError

ROWS = [
    Row("CCO", "a", "train"),
    Row("c1ccccc1", "a", "test"),
    Row("not a smiles", "a"),
    Row("OCC", "b"),
    Row("[Fe]", "b"),
    Row("[C@@H]12CC[C@H](CC1)C2", "b"),  # norbornane with one bridgehead inside out
    Row("C" * 150, "b"),
    Row("CC(=O)O", "b", "afm"),
]


def last(rows, **settings):
    *_, progress = prepare(rows, **settings)
    return progress


def test_a_list_becomes_a_pack_in_its_order_with_failures_counted_and_logged(caplog):
    with caplog.at_level(logging.INFO):
        progress = last(ROWS, seed=1)
    pack = progress.pack
    assert pack.smiles == ("CCO", "c1ccccc1", "CC(=O)O")
    assert pack.source == ("a", "a", "b")
    assert pack.split == ("train", "test", "afm")
    assert progress.done == len(ROWS)
    assert progress.failed == {"smiles": 1, "duplicate": 1, "element": 1, "geometry": 1, "size": 1}
    assert pack.meta["failed"] == progress.failed
    assert pack.meta["seed"] == 1
    assert "row 3, not a smiles: left out: 'not a smiles' is no valid SMILES" in caplog.text
    assert "of 8 rows left out" in caplog.text


def test_several_processes_give_the_same_bytes_as_one(tmp_path):
    write_pack(last(ROWS, seed=5).pack, tmp_path / "one.npz")
    write_pack(last(ROWS, seed=5, jobs=2).pack, tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert last(ROWS, seed=6).pack.sha256 != last(ROWS, seed=5).pack.sha256


def test_each_molecule_has_its_conformers_under_seeds_of_their_own():
    pack = last([("CCCCCO", "", None), ("CCCCCCO", "", None)], conformers=3).pack
    assert pack.molecule_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert (pack.molecule(0).positions != pack.molecule(1).positions).any()


def test_a_molecule_that_takes_too_long_costs_itself_alone():
    rows = [Row("C"), Row("C" * 80), Row("O")]  # C80H162 takes seconds for each conformer
    progress = last(rows, conformers=4, jobs=2, timeout_s=2.0)
    assert progress.failed == {"timeout": 1}
    assert progress.pack.smiles == ("C", "O")


def test_progress_is_reported_on_the_way(monkeypatch):
    monkeypatch.setattr(module, "REPORT_EVERY", 2)
    steps = list(prepare([("C" * n, "", None) for n in range(1, 6)]))
    assert [step.done for step in steps] == [2, 4, 5]
    assert [step.pack is None for step in steps] == [True, True, False]


def test_a_list_without_a_single_usable_molecule_is_an_error():
    with pytest.raises(DataError, match="no molecule of the list could be prepared: 2 smiles"):
        last([("?", "", None), ("!", "", None)])
    with pytest.raises(DataError, match="it is empty"):
        last([])


def test_splits_hold_ninety_five_and_five_per_cent_and_no_skeleton_is_in_two():
    splits = Counter(split_of(f"{i:014d}-UHFFFAOYSA-N") for i in range(20_000))
    assert splits["train"] == pytest.approx(18_000, abs=150)
    assert splits["val"] == pytest.approx(1000, abs=120)
    assert split_of(inchikey("C[C@H](N)C(=O)O")) == split_of(inchikey("C[C@@H](N)C(=O)O"))


CSV = "SMILES,source,split,extra\nCCO,mine,train,1\n,,,\nc1ccccc1,,,2\n"


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("list.csv", CSV, [("CCO", "mine", "train"), ("c1ccccc1", "list.csv", None)]),
        ("list.csv", "name,smiles\nethanol,CCO\n", [("CCO", "list.csv", None)]),
        ("list.smi", "# my molecules\nCCO ethanol\n\nC#N\n", [("CCO", "list.smi", None), ("C#N", "list.smi", None)]),
        ("list.txt", "CCO\r\nCO\r\n", [("CCO", "list.txt", None), ("CO", "list.txt", None)]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_lists_are_read_as_csv_or_line_by_line_packed_or_not(name, text, rows, packed, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert list(read_smiles_list(tmp_path / name)) == rows


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name,formula\na,b\n", "no column 'smiles'"),
        (gzip.compress(b"CCO\n" * 1000)[:30], "cannot be read"),
        (b"\xff\xfe\xff", "cannot be read"),
        (b"C\n" + b"C" * 30_000, "longer than"),
    ],
)
def test_what_is_no_list_is_said_with_its_name(content, says, tmp_path):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.csv: .*{says}"):
        list(read_smiles_list(tmp_path / "bad.csv"))
    with pytest.raises(DataError, match=r"no\.csv: cannot be read"):
        list(read_smiles_list(tmp_path / "no.csv"))


def test_a_list_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    (tmp_path / "big.smi.gz").write_bytes(gzip.compress(b"C\n" * 30))
    assert len(list(read_smiles_list(tmp_path / "big.smi.gz"))) == 30
    monkeypatch.setattr(module, "MAX_LINES", 20)
    with pytest.raises(DataError, match=r"big\.smi\.gz: has more than 20 lines"):
        list(read_smiles_list(tmp_path / "big.smi.gz"))
    monkeypatch.setattr(module, "MAX_LINES", 100)
    monkeypatch.setattr(module, "MAX_CHARACTERS", 40)
    with pytest.raises(DataError, match="or 40 characters; split it first"):
        list(read_smiles_list(tmp_path / "big.smi.gz"))
