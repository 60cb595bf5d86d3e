"""`afmid evaluate`: figures of scans whose molecule is known."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from afmid.evaluate.records import read_evaluation
from afmid.io import read_scan, write_scan

CPU = ("--device", "cpu")
MISSING = ("--metrics", "missing")


@pytest.fixture(scope="module")
def scans(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two scans of one molecule, so that there are no intervals."""
    folder = tmp_path_factory.mktemp("scans")
    for name in ("a.npz", "b.npz"):
        write_scan(read_scan(scan), folder / name)
    return folder


@pytest.fixture(scope="module")
def runs(afmid, stranger, scans: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Records of two runs, of which the second answers with other elements."""
    folder = tmp_path_factory.mktemp("runs")
    files = [folder / "carbon.jsonl", folder / "hydrogen.jsonl"]
    for file, element in zip(files, "CH", strict=True):
        done = afmid("evaluate", scans, "-o", file, "--set", f"element={element}", *CPU, **stranger)
        assert done.returncode == 0
    return files


def test_each_figure_is_printed_with_its_interval_and_number_of_scans(afmid, stranger, scans: Path) -> None:
    done = afmid("evaluate", scans, *MISSING, *CPU, **stranger)
    assert done.returncode == 0
    title, _, heads, row = done.stdout.decode().splitlines()
    assert title.startswith(f"{scans}: 2 scans, data ")
    assert heads.split() == ["figure", "brightest"]
    assert row.split(maxsplit=1) == ["missing_atoms", "11 n=2"]


def test_several_methods_stand_side_by_side(afmid, stranger, scans: Path) -> None:
    done = afmid("evaluate", scans, *MISSING, "-m", "brightest, mapper", *CPU, **stranger)
    *_, heads, row = done.stdout.decode().splitlines()
    assert heads.split() == ["figure", "brightest", "mapper"]
    assert row.split() == ["missing_atoms", "11", "n=2", "12", "n=2"]


def test_json_is_a_header_and_one_record_for_each_scan_that_can_be_read_back(
    afmid, stranger, scans: Path, tmp_path: Path
) -> None:
    done = afmid("evaluate", scans, "--json", *CPU, **stranger)
    header, *records = [json.loads(line) for line in done.stdout.splitlines()]
    assert header["schema"] == "afmid.evaluation/1"
    assert header["methods"]["brightest"]["version"] == "1.0"
    assert header["methods"]["brightest"]["settings"]["element"] == "C"
    assert [Path(record["scan"]).name for record in records] == ["a.npz", "b.npz"]
    assert records[0]["figures"]["missing_atoms"] == 11
    (tmp_path / "out.jsonl").write_bytes(done.stdout)
    assert len(read_evaluation(tmp_path / "out.jsonl").records) == 2


def test_a_method_does_not_see_what_it_is_judged_by(afmid, stranger, scans: Path) -> None:
    done = afmid("evaluate", scans, *MISSING, "-m", "brightest", "--set", "fault=peek", *CPU, **stranger)
    assert (done.returncode, done.stderr) == (0, b"")


def test_csv_is_printed_too(afmid, stranger, scans: Path) -> None:
    done = afmid("evaluate", scans, *MISSING, "--csv", *CPU, **stranger)
    assert done.stdout == b"figure,group,method,value,low,high,n\nmissing_atoms,,brightest,11.0,,,2\n"


def test_a_folder_takes_everything(afmid, stranger, scans: Path, tmp_path: Path) -> None:
    command = ("evaluate", scans, "-o", tmp_path / "out", "--by", "atoms", *CPU)
    done = afmid(*command, **stranger)
    assert done.returncode == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["records.jsonl", "report.html", "scores.csv", "scores.json", "scores.md"]
    assert b"\natoms_found,1\xe2\x80\x9315,brightest," in (tmp_path / "out" / "scores.csv").read_bytes()
    again = afmid(*command, **stranger)
    assert again.returncode == 1
    assert b"exists; give --force" in again.stderr


def test_one_file_is_written_by_its_suffix(afmid, stranger, scans: Path, tmp_path: Path) -> None:
    done = afmid("evaluate", scans, *MISSING, "--markdown", "-o", tmp_path / "scores.json", *CPU, **stranger)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == b"| missing_atoms | 11 n=2 |"
    assert json.loads((tmp_path / "scores.json").read_text())["figures"][0]["value"] == 11


def test_two_runs_are_compared(afmid, stranger, runs: list[Path]) -> None:
    done = afmid("evaluate", "--compare", *runs, "--all-figures", **stranger)
    assert done.returncode == 0
    title, _, heads, *rows = done.stdout.decode().splitlines()
    first, second = (f"{run} (2 scans)" for run in runs)
    assert title == f"A {first}, B {second}: 2 in both; differences with their 95 % intervals"
    assert heads.split() == ["figure", "A", "B", "B", "−", "A", "n"]
    assert any(row.split() == ["missing_atoms", "11", "11", "+0", "2"] for row in rows)
    for other in (["--json"], ["--by", "atoms"], ["--limit", "1"], ["--metrics", "atoms"], ["-m", "brightest"]):
        done = afmid("evaluate", "--compare", *runs, *other, **stranger)
        assert done.returncode == 2
        assert b"--compare takes two files of records" in done.stderr


def test_runs_of_different_versions_are_compared_with_a_warning(afmid, runs: list[Path], tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text(runs[0].read_text().replace('"version": "', '"version": "0.0.', 1))
    done = afmid("evaluate", "--compare", tmp_path / "old.jsonl", runs[0])
    assert done.returncode == 0
    assert b"warning: A is of afmid 0.0." in done.stderr


def test_metrics_that_do_not_judge_what_the_method_gives_are_said(afmid, stranger, scans: Path) -> None:
    done = afmid("evaluate", scans, "--metrics", "molecule", "-m", "blind", *CPU, **stranger)
    assert (done.returncode, done.stderr) == (
        0, b"afmid: blind: gives nothing that these metrics judge; see: afmid plugins\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--suite", "sim-opne"], 2, "did you mean 'sim-open'?"),
        (["--suite", "sim-test", "-m", "weighty"], 2, "give --data PACK"),  # before the weights are missed
        (["a.npz", "-o", "scores.pdf"], 2, "evaluations are written as .jsonl, .json, .csv, .md, .html"),
        (["absent.npz"], 1, "absent.npz: no such file"),
        ([], 2, "give either scans or --suite NAME"),
        (["a.npz", "--suite", "robust"], 2, "give either scans or --suite NAME"),
        (["--suite", "robust", "--data", "absent.npz"], 1, "absent.npz: no such file"),
        (["a.npz", "--metrics", "atom"], 2, "no metric 'atom'; did you mean 'atoms'?"),
        (["--suite", "sim-open", "--only-first"], 2, "--only-first is for scans with two tips: --suite two-tips"),
        (["a.npz", "--json", "--csv"], 2, "give one of --json, --csv and --markdown"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(afmid, stranger, arguments, code, words) -> None:
    done = afmid("evaluate", *arguments, **stranger)
    assert (done.returncode, done.stdout) == (code, b"")
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_a_scan_without_truth_is_refused(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    write_scan(replace(read_scan(scan), truth=None), tmp_path / "blind.npz")
    done = afmid("evaluate", tmp_path / "blind.npz", *CPU, **stranger)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"blind.npz: does not hold the true molecule" in done.stderr


def test_one_bad_scan_among_several_costs_itself_and_one_line(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 cut short")
    done = afmid("evaluate", tmp_path / "bad.npz", scan, *MISSING, "--json", "-m", "brightest", *CPU, **stranger)
    assert done.returncode == 1
    complaint, count = done.stderr.splitlines()
    assert b"bad.npz" in complaint
    assert count == b"afmid: 1 of 2 scans were left out"
    header, record, left_out = [json.loads(line) for line in done.stdout.splitlines()]
    alone = afmid("evaluate", scan, *MISSING, "--json", "-m", "brightest", *CPU, **stranger)
    assert json.loads(alone.stdout.splitlines()[1]) | {"seconds": 0} == record | {"seconds": 0}
    assert left_out["scan"].endswith("bad.npz")
    assert header["headline"] == ["missing_atoms"]


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
    _, *lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in line for line in lines] == [False] * 7 + [True] * 2
    assert lines[0]["scan"].startswith("shards/list-00000-of-00001.tar/00000001-")


def test_the_first_of_two_tips_is_judged_alone_on_the_same_data(afmid, stranger, tmp_path: Path) -> None:
    command = ("evaluate", "--suite", "two-tips", "--limit", "1", *MISSING, *CPU)
    both = afmid(*command, "-o", tmp_path / "both.jsonl", **stranger)
    one = afmid(*command, "--only-first", "--set", "fault=single", "-o", tmp_path / "one.jsonl", **stranger)
    assert (both.returncode, one.returncode) == (0, 0)
    titles = [done.stdout.decode().splitlines()[0].partition(": ") for done in (both, one)]
    assert [title[0] for title in titles] == ["two-tips", "two-tips, first tip alone"]
    assert titles[0][2] == titles[1][2]
    done = afmid("evaluate", "--compare", tmp_path / "both.jsonl", tmp_path / "one.jsonl", **stranger)
    assert ": 1 in both" in done.stdout.decode()
    done = afmid(*command, "--set", "fault=single", **stranger)
    assert done.returncode == 1
    assert b"two-tips/000: brightest has seen CO and Xe" in done.stderr


def test_robustness_is_told_apart_by_what_was_done(afmid, stranger) -> None:
    done = afmid("evaluate", "--suite", "robust", "--limit", "1", *MISSING, *CPU, **stranger)
    assert done.returncode == 0
    _, _, heads, first, *others = done.stdout.decode().splitlines()
    assert heads.split() == ["figure", "scans", "brightest"]
    assert first.split("  ")[0] == "missing_atoms"
    assert "as it is" in first
    assert [row.strip().split("  ")[0] for row in others][:2] == ["shifted by 2 Å", "turned by 90°"]
    assert len(others) == 12
