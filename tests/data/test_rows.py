import gzip

import pytest

from afmid.chem import embed
from afmid.data import rows as module
from afmid.data.rows import Row, read_geometries, read_rows, read_smiles_list, select
from afmid.errors import DataError
from afmid.io import sdf_file, xyz_file

CSV = "SMILES,source,split,extra\nCCO,mine,train,1\n,,,\nc1ccccc1,,,2\n"


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("list.csv", CSV, [("CCO", "mine", "train"), ("c1ccccc1", "list.csv", None)]),
        (
            "list.csv",
            "smiles,source,split\nCCO, mine , Val\nCO,  , train \nCC,,  \n",
            [("CCO", "mine", "val"), ("CO", "list.csv", "train"), ("CC", "list.csv", None)],
        ),
        ("list.smi", "smiles\tname\nCO\tx\n", [("smiles", "list.smi", None), ("CO", "list.smi", None)]),
        ("list.csv", "name,smiles\nethanol,CCO\n", [("CCO", "list.csv", None)]),
        ("list.smi", "# my molecules\nCCO ethanol\n\nC#N\n", [("CCO", "list.smi", None), ("C#N", "list.smi", None)]),
        ("list.txt", "CCO\r\nCO\r\n", [("CCO", "list.txt", None), ("CO", "list.txt", None)]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_lists_are_read_as_csv_or_line_by_line_packed_or_not(name, text, rows, packed, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert [row[:3] for row in read_smiles_list(tmp_path / name)] == rows


@pytest.mark.parametrize(
    ("name", "text", "titles"),
    [
        ("list.csv", "Name,SMILES\n ethanol ,CCO\n,CO\n", ["ethanol", ""]),
        ("list.smi", "CCO drinking alcohol\nCO\n", ["drinking alcohol", ""]),
        ("list.smi", "OCCO 1,2-ethanediol\nCO |c:0,1| wood alcohol\n", ["1,2-ethanediol", "wood alcohol"]),
        ("list.smi", "# mine, all\nCCO\tethanol\t46.07\nCO |c:0|\n", ["ethanol", ""]),
        ("list.sdf", "ethanol \n\n\nM  END\n$$$$\n\n\n\nM  END\n$$$$\n", ["ethanol", ""]),
    ],
)
def test_a_list_names_its_molecules(name, text, titles, tmp_path):
    (tmp_path / name).write_text(text)
    assert [row.title for row in read_rows([str(tmp_path / name)])] == titles


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"name,formula\na,b\n", "no column 'smiles'"),
        (b"smiles;source\nCCO;mine\n", "separates columns by ';'; separate them by commas: 'smiles;source'"),
        (b'"name";"SMILES"\n"a";"C"\n', "separates columns by ';'"),
        (b"name\tsmiles\na\tC\n", r"separates columns by '\\t'"),
        (gzip.compress(b"CCO\n" * 1000)[:30], "cannot be read"),
        (b"\xff\xfe\xff", "cannot be read"),
        (b"C\n" + b"C" * 30_000, "longer than"),
    ],
)
def test_what_is_no_list_is_said_with_its_name(content, says, tmp_path):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.csv: .*{says}"):
        list(read_smiles_list(tmp_path / "bad.csv"))
    with pytest.raises(DataError, match=r"no\.csv: no such file"):
        list(read_smiles_list(tmp_path / "no.csv"))


def test_a_list_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    (tmp_path / "big.smi.gz").write_bytes(gzip.compress(b"C\n" * 30))
    assert len(list(read_smiles_list(tmp_path / "big.smi.gz"))) == 30
    monkeypatch.setattr(module, "MAX_LINES", 20)
    with pytest.raises(DataError, match=r"big\.smi\.gz: has more than 20 lines"):
        list(read_smiles_list(tmp_path / "big.smi.gz"))
    monkeypatch.setattr(module, "MAX_LINES", 100)
    monkeypatch.setattr(module, "MAX_CHARACTERS", 40)
    with pytest.raises(DataError, match="more than 40 characters; split it first"):
        list(read_smiles_list(tmp_path / "big.smi.gz"))


def test_the_column_flat_is_read_where_it_is_a_share(tmp_path):
    (tmp_path / "a.csv").write_text("smiles,flat\nC,0.5\nCC,\nCCC,2\nCCCC,nan\nCCCCC,one\n")
    assert [row.flat for row in read_smiles_list(tmp_path / "a.csv")] == [0.5, None, None, None, None]


WATER, METHANE = embed("O"), embed("C")


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("form", ["sdf", "xyz"])
def test_every_molecule_of_a_file_is_a_row_with_its_text(form, packed, tmp_path):
    write = sdf_file.to_text if form == "sdf" else xyz_file.to_text
    texts = [write(WATER), write(METHANE), write(WATER)]
    content = ("\n" if form == "xyz" else "").join(texts).encode()
    path = tmp_path / f"three.{form}{packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    rows = list(read_geometries(path, "somewhere"))
    assert [row.geometry.text for row in rows] == texts
    assert [row.name for row in rows] == [path.name, f"{path.name}, molecule 2", f"{path.name}, molecule 3"]
    assert {(row.smiles, row.source, row.split, row.geometry.format) for row in rows} == {("", "somewhere", None, form)}


def test_inputs_follow_each_other_and_a_folder_says_what_it_skips(tmp_path, caplog):
    folder = tmp_path / "structures"
    folder.mkdir()
    (folder / "b.mol").write_text(sdf_file.to_text(WATER).partition("$$$$")[0])
    (folder / "a.xyz").write_text(xyz_file.to_text(METHANE))
    (folder / "notes.txt").write_text("CCO")
    (tmp_path / "list.smi").write_text("CC\n")
    rows = list(read_rows([str(tmp_path / "list.smi"), str(folder)]))
    assert [row.name for row in rows] == ["CC", "a.xyz", "b.mol"]
    assert [row.source for row in rows] == ["list.smi", "structures", "structures"]
    assert "are skipped: 1" in caplog.text
    (folder / "a.xyz").unlink()
    (folder / "b.mol").unlink()
    with pytest.raises(DataError, match="structures: holds no molecule files"):
        list(read_rows([str(folder)]))


@pytest.mark.parametrize("name", ["a.sdf", "a.xyz"])
def test_a_molecule_without_end_is_refused(name, tmp_path, monkeypatch):
    (tmp_path / name).write_text("999\n" + "C 0 0 0\n" * 200)
    monkeypatch.setattr(module, "MAX_RECORD", 1000)
    with pytest.raises(DataError, match=rf"{name}: a molecule takes more than 1,000 characters"):
        list(read_rows([str(tmp_path / name)]))


ROWS = [Row(f"C{i}", flat=0.1 * (i % 10)) for i in range(40)]


def test_rows_are_drawn_by_chance_in_their_order():
    chosen = select(ROWS, 10, seed=1)
    assert len(chosen) == 10
    assert sorted(chosen, key=ROWS.index) == chosen
    assert select(ROWS, 10, seed=1) == chosen != select(ROWS, 10, seed=2)
    assert select(ROWS) == select(ROWS, 40) == ROWS


def test_the_flattest_rows_come_first_and_chance_decides_among_equals():
    chosen = select(ROWS, 6, flat_first=True, seed=1)
    assert sorted(row.flat for row in chosen) == pytest.approx([0.8, 0.8, 0.9, 0.9, 0.9, 0.9])
    assert select(ROWS, 6, flat_first=True, seed=1) == chosen != select(ROWS, 6, flat_first=True, seed=2)


def test_rows_that_do_not_say_how_flat_they_lie_are_estimated(tmp_path):
    (tmp_path / "benzene.xyz").write_text(xyz_file.to_text(embed("c1ccccc1")))
    (tmp_path / "damaged.xyz").write_text("9\n")
    (tmp_path / "cyclohexane.xyz").write_text(xyz_file.to_text(embed("C1CCCCC1")))
    rows = [Row("CCC=C"), Row("c1ccccc1C"), Row("nonsense"), *read_rows([str(tmp_path)])]
    assert [row.name for row in select(rows, 2, flat_first=True)] == ["c1ccccc1C", "benzene.xyz"]
    assert select(rows, 3, flat_first=True)[0] == Row("CCC=C")
