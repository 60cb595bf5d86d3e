"""`afmid evaluate`: figures of scans whose molecule is known."""

import json
from dataclasses import replace
from pathlib import Path

from afmid.io import read_scan, write_scan

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
    (complaint,) = done.stderr.splitlines()
    assert b"bad.npz" in complaint
    alone = afmid("evaluate", scan, "-m", "brightest", "--metrics", "missing", *CPU, **stranger)
    assert done.stdout == alone.stdout
    assert b"brightest on 1 scans, data " in done.stdout


def test_an_unknown_metric_is_refused(afmid, stranger, scan: Path) -> None:
    done = afmid("evaluate", scan, "--metrics", "atom", *CPU, **stranger)
    assert done.returncode == 2
    assert b"no metric 'atom'; did you mean 'atoms'?" in done.stderr
