"""`afmid evaluate`: figures of scans whose molecule is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from afmid.cli.evaluate import _truth
from afmid.io import read_scan, write_scan
from afmid.molecule import Molecule
from afmid.scan import Scan

CPU = ("--device", "cpu")


def test_each_figure_is_printed_with_its_number_of_scans_and_interval(afmid, stranger, scan: Path) -> None:
    done = afmid("evaluate", scan, scan, "--metrics", "missing", *CPU, **stranger)
    assert done.returncode == 0
    title, heads, row = done.stdout.decode().splitlines()
    assert title.startswith("brightest on 2 scans, data ")
    assert heads.split() == ["figure", "mean", "95", "%", "interval", "n"]
    assert row.split() == ["missing_atoms", "11", "11", "to", "11", "2"]


def test_json_is_one_record_for_each_scan(afmid, stranger, scan: Path) -> None:
    done = afmid("evaluate", scan, scan, "--json", *CPU, **stranger)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["scan"], record["method"], record["missing_atoms"]) for record in records] == [
        (str(scan), "brightest", 11.0)
    ] * 2
    assert "atoms_whole_recall_within_35_pm" in records[0]


def test_a_scan_without_truth_is_refused(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    write_scan(replace(read_scan(scan), truth=None), tmp_path / "blind.npz")
    done = afmid("evaluate", tmp_path / "blind.npz", *CPU, **stranger)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"blind.npz: does not hold the true molecule" in done.stderr


def test_one_bad_scan_among_several_costs_itself_and_one_line(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 cut short")
    done = afmid("evaluate", tmp_path / "bad.npz", scan, "-m", "brightest", "--metrics", "missing", *CPU, **stranger)
    assert done.returncode == 1
    complaint, count = done.stderr.splitlines()
    assert b"bad.npz" in complaint
    assert count == b"afmid: 1 of 2 scans were left out"
    alone = afmid("evaluate", scan, "-m", "brightest", "--metrics", "missing", *CPU, **stranger)
    assert done.stdout == alone.stdout
    assert b"brightest on 1 scans, data " in done.stdout


def test_an_unknown_metric_is_refused(afmid, stranger, scan: Path) -> None:
    done = afmid("evaluate", scan, "--metrics", "atom", *CPU, **stranger)
    assert done.returncode == 2
    assert b"no metric 'atom'; did you mean 'atoms'?" in done.stderr


def test_a_data_set_is_judged_and_its_corrupt_scans_are_counted(afmid, stranger, tmp_path: Path, pictures) -> None:
    (tmp_path / "list.smi").write_text("O\nCO\nCC\n")
    small = ("--pixels", "24", "--heights", "2")
    assert afmid("simulate", "list.smi", "--shard", "1", "-o", "shards", *small, cwd=tmp_path).returncode == 0
    (shard,) = (tmp_path / "shards").iterdir()
    shard.write_bytes(shard.read_bytes().replace(b'"schema": "afmid.sample/1"', b'"schema": "afmid.sample/9"', 1))
    pictures.quam(tmp_path / "quam")
    for folder in sorted((tmp_path / "quam" / "K-1").iterdir())[:1]:
        next(folder.iterdir()).write_bytes(b"no picture")
    pictures.ml_spm(tmp_path / "spm.tar", keys=(0,))
    sets = ("shards", "quam", "*.tar")
    done = afmid("evaluate", *sets, "-m", "brightest", "--json", *CPU, cwd=tmp_path, **stranger)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == b"afmid: 2 of 9 scans were left out"
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 7
    assert records[0]["scan"].startswith("shards/list-00000-of-00001.tar/00000001-")


def test_bonds_that_a_set_does_not_bring_are_perceived_for_their_metric() -> None:
    bare = Molecule(numbers=[8, 1, 1], positions=[[0, 0, 0], [0.76, 0, -0.59], [-0.76, 0, -0.59]])
    scan = Scan(np.zeros((2, 2, 2)), np.arange(2.0), np.arange(2.0), np.array([1.0, 0.0]), truth=bare)
    assert len(_truth(scan, "a", with_bonds=True).bonds) == 2
    assert len(_truth(scan, "a", with_bonds=False).bonds) == 0
