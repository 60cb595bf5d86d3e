"""What may be typed for molecules, and what each is called."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from afmid.data.pack import concatenate, write_pack
from afmid.data.sources import Source, open_sources
from afmid.errors import DataError, UsageError
from afmid.molecule import Molecule

WATER = "3\n\nO 0 0 0\nH 0.76 0 -0.59\nH -0.76 0 -0.59\n"
LIST = "smiles,split\nO,train\nCO,test\nN,test\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, content: str = WATER) -> None:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)


def write_pack_of(*smiles: str) -> None:
    molecules = [[Molecule(np.array([8]), np.zeros((1, 3)), smiles=words)] for words in smiles]
    write_pack(concatenate(molecules, [""] * len(smiles), ["train", "test", "test"][: len(smiles)], {}), "pack.npz")


def names(sources: list[Source]) -> list[str]:
    return [entry.name for source in sources for entry in source.entries()]


def test_files_and_words_are_one_molecule_each_under_names_of_their_own() -> None:
    write("some water.xyz")
    sources = open_sources(["some water.xyz", "CCO", "ptcda", "CCO", "OCC"])
    assert names(sources) == ["some_water", "C2H6O", "PTCDA", "C2H6O-2", "C2H6O-3"]
    assert [source.count for source in sources] == [1] * 5
    assert not any(source.several for source in sources)
    assert len(next(iter(sources[0].entries())).load()) == 3


def test_a_folder_gives_its_files_in_order_and_says_how_many_it_skips(caplog) -> None:
    for name in ("b.xyz", "a.xyz", "a.mol", "notes.md", ".hidden"):
        write(f"mols/{name}")
    (source,) = open_sources(["mols"])
    assert (source.count, names([source])) == (3, ["a", "a-2", "b"])
    assert caplog.messages == ["mols: files that are none of .xyz, .extxyz, .sdf, .mol are skipped: 1"]


def test_a_folder_that_is_called_as_a_molecule_is_meant_with_a_slash(caplog) -> None:
    write("CO/water.xyz")
    assert names(open_sources(["CO"])) == ["CH4O"]
    assert "for the folder of that name write CO/" in caplog.text
    assert names(open_sources(["CO/"])) == ["water"]


@pytest.mark.parametrize("file", ["list.csv", "list.csv.gz", "list.CSV"])
def test_a_list_gives_its_rows_by_number_and_those_of_a_split(file: str) -> None:
    Path(file).write_bytes(gzip.compress(LIST.encode()) if file.endswith("gz") else LIST.encode())
    (source,) = open_sources([file])
    assert [str(entry) for entry in source.entries()] == ["list-000000 (O)", "list-000001 (CO)", "list-000002 (N)"]
    for split in ("test", "Test"):
        (source,) = open_sources([file], split=split)
        assert (source.count, names([source])) == (2, ["list-000001", "list-000002"])


def test_a_word_of_a_list_is_a_smiles_whatever_files_there_are() -> None:
    write("list.smi", "O\n")
    write("O", "no molecule")
    (source,) = open_sources(["list.smi"])
    assert next(iter(source.entries())).load().smiles == "O"


def test_a_pack_gives_its_conformers_by_number_and_those_of_a_split() -> None:
    write_pack_of("O", "N", "C")
    (source,) = open_sources(["pack.npz"], split="test")
    assert [str(entry) for entry in source.entries()] == ["pack-000001 (N)", "pack-000002 (C)"]
    assert next(iter(source.entries())).load().smiles == "N"
    assert source.at_hand


def test_members_and_single_files_never_share_a_name() -> None:
    for path in ("list.txt", "x/list.txt"):
        write(path, "O\nN\n")
    for path in ("list-000000.xyz", "x/LIST-000001.xyz", "x/list.xyz"):
        write(path)
    for arguments in (["list.txt", "list-000000.xyz", "x", "x/list.txt"], ["x/", "x/list.txt", "list.txt"]):
        found = [name.lower() for name in names(open_sources(arguments))]
        assert len(set(found)) == len(found) >= 6


def test_entries_can_be_sent_to_another_process_and_start_anew_at_each_call() -> None:
    write_pack_of("O")
    write("list.smi", "O\nN\n")
    write("water.xyz")
    for source in open_sources(["pack.npz", "list.smi", "water.xyz", "CCO"]):
        for entry, again in zip(source.entries(), source.entries(), strict=True):
            sent = pickle.loads(pickle.dumps(entry))
            assert sent.name == again.name
            assert np.array_equal(sent.load().positions, entry.load().positions)


@pytest.mark.parametrize(
    ("arguments", "split", "error", "message"),
    [
        (["nowhere.xyz"], None, DataError, "nowhere.xyz: no such file"),
        (["no molecule"], None, DataError, "'no molecule' is no file, no valid SMILES and no name"),
        ([" "], None, DataError, "no molecule given"),
        (["empty/"], None, DataError, "empty: holds no molecule files"),
        (["empty.smi"], None, DataError, "empty.smi: holds no molecules"),
        (["-", "-"], None, UsageError, "stdin"),
        (["CCO"], "test", UsageError, "--split is for lists of SMILES and molecule packs"),
        (["pack.npz"], "exam", DataError, "no molecules of the split 'exam'; it has: test, train"),
        (["list.csv"], "exam", DataError, "list.csv: holds no molecules of the split 'exam'"),
    ],
)
def test_what_is_no_molecule_is_said_before_any_is_read(
    arguments: list[str], split: str | None, error: type[Exception], message: str
) -> None:
    Path("empty").mkdir()
    write("empty.smi", "")
    write("list.csv", LIST)
    write_pack_of("O", "N")
    with pytest.raises(error, match=message.replace("(", r"\(")):
        open_sources(arguments, split)
