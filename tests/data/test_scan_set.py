"""Stored scans of any kind, by their number."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from afmid.data.scan_set import open_scans
from afmid.errors import DataError
from afmid.io import write_scan
from afmid.io.shard_file import ShardWriter
from afmid.molecule import Molecule
from afmid.scan import Scan

WATER = Molecule(numbers=[8, 1, 1], positions=[[0, 0, 0], [0.8, 0, -0.6], [-0.8, 0, -0.6]], smiles="O")


def scan_of(value: float, split: str = "", **changes) -> Scan:
    df = np.linspace(-1, value, 5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    meta = {"sample": {"split": split}} if split else {}
    return replace(Scan(df, np.arange(5.0), np.arange(4.0), np.arange(3.0)[::-1], meta=meta, truth=WATER), **changes)


@pytest.fixture
def mixed(tmp_path: Path, pictures) -> Path:
    """Two files, a shard of three scans, four scans of QUAM-AFM, four of ml-spm."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_scan(scan_of(1, "val"), folder / "a.npz")
    write_scan(scan_of(2), folder / "b.npz")
    with ShardWriter(folder / "c.tar", "job") as writer:
        for i, split in enumerate(("train", "test", "")):
            writer.add(f"{i}", scan_of(3 + i, split))
        writer.finish(0)
    pictures.quam(tmp_path / "quam")
    pictures.ml_spm(tmp_path / "spm.tar")
    return tmp_path


def test_a_set_holds_the_scans_of_all_that_is_named(mixed: Path) -> None:
    scans = open_scans([mixed / "files", mixed / "quam", mixed / "spm.tar"])
    assert len(scans) == len(scans.names) == 2 + 3 + 4 + 4
    assert [scans[i].df[-1, -1, -1] for i in range(5)] == [1, 2, 3, 4, 5]
    assert scans.names[3].endswith("c.tar/1")
    assert scans[5].meta["quam"]["lateral_stiffness_n_per_m"] == 0.4
    assert scans[12].tip == "Xe"
    with pytest.raises(IndexError):
        scans[13]


def test_globs_and_single_files_are_read(mixed: Path) -> None:
    assert len(open_scans([f"{mixed}/files/*.npz"])) == 2
    assert len(open_scans([mixed / "files" / "c.tar", mixed / "quam" / "K-1"])) == 3 + 2


def test_the_split_is_that_of_the_record_or_else_of_the_molecule(mixed: Path) -> None:
    scans = open_scans([mixed / "files", mixed / "quam", mixed / "spm.tar"])
    splits = [scans.split(i) for i in range(len(scans))]
    assert [splits[0], splits[2], splits[3]] == ["val", "train", "test"]
    assert splits[1] == splits[4]  # the same SMILES
    assert splits[5] == splits[7]  # both settings of CID 12
    assert splits[9] == splits[10]  # both tips
    assert set(splits) <= {"train", "val", "test"}
    for split in ("train", "val", "test"):
        assert_array_equal(scans.of_split(split), np.flatnonzero(np.array(splits) == split))


def test_without_a_record_most_molecules_are_for_training_as_in_a_pack(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "many.tar", "") as writer:
        for i in range(300):
            writer.add(f"{i}", scan_of(1, truth=replace(WATER, smiles=f"C-{i}")))
        writer.finish(0)
    scans = open_scans([tmp_path / "many.tar"])
    assert 250 < len(scans.of_split("train")) < 290
    assert len(scans.of_split("val")) > 3


def test_the_hash_tells_sets_apart_and_their_place_not(mixed: Path, tmp_path: Path) -> None:
    paths = [mixed / "files", mixed / "quam", mixed / "spm.tar"]
    before = open_scans(paths).sha256
    assert open_scans(paths).sha256 == before
    assert open_scans(paths[::-1]).sha256 != before
    moved = (mixed / "files").rename(mixed / "moved")
    assert open_scans([moved, *paths[1:]]).sha256 == before
    write_scan(scan_of(1, df=np.ones((6, 4, 3)), x=np.arange(6.0)), moved / "a.npz")
    assert open_scans([moved, *paths[1:]]).sha256 != before


def test_corrupt_scans_are_told_by_name_and_are_in_no_split_that_needs_them(mixed: Path) -> None:
    (mixed / "files" / "b.npz").write_bytes(b"PK\x03\x04 cut short")
    image = next((mixed / "quam" / "K-1" / "Conformer3D_CID_12_K040_Amp040").iterdir())
    image.write_bytes(b"no picture")
    scans = open_scans([mixed / "files", mixed / "quam"])
    for bad, name in ((1, "b.npz"), (5, "Conformer3D_CID_12_K040_Amp040")):
        with pytest.raises(DataError, match=name):
            scans[bad]
    assert sum(len(scans.of_split(split)) for split in ("train", "val", "test")) == len(scans) - 1  # b.npz has none


@pytest.mark.parametrize("name", ["nowhere.npz", "nothing*.npz"])
def test_what_is_not_there_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_scans([tmp_path / name])


def test_a_folder_without_scans_is_told(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("none")
    with pytest.raises(DataError, match="holds no scans"):
        open_scans([tmp_path])
    with pytest.raises(DataError, match="no scans are given"):
        open_scans([])


def test_an_empty_shard_is_no_trouble_unless_there_is_nothing_else(mixed: Path) -> None:
    with ShardWriter(mixed / "files" / "empty.tar", "job") as writer:
        writer.finish(3)
    assert len(open_scans([mixed / "files"])) == 5
    with pytest.raises(DataError, match=r"no scans in .*empty\.tar"):
        open_scans([mixed / "files" / "empty.tar"])


def test_neither_chemistry_nor_torch_is_needed(mixed: Path) -> None:
    code = f"""
import sys
for name in ("rdkit", "ase", "dscribe", "pyopencl", "torch"):
    sys.modules[name] = None
from afmid.data.scan_set import open_scans
from afmid.data.resample import on_grid
scans = open_scans([{str(mixed / "files")!r}, {str(mixed / "quam")!r}, {str(mixed / "spm.tar")!r}])
for i in range(len(scans)):
    scan = scans[i]
    on_grid(scan, 2, 8, 10, 0.1, (scan.x.mean(), scan.y.mean()))
print(len(scans.of_split("train")) > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\n", "")
