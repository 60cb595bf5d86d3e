"""`afmid identify`: answers on stdout and in files, and exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from afmid.io import read_scan, write_scan

CPU = ("--device", "cpu")


def test_a_folder_receives_all_results(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    done = afmid("identify", scan, "-m", "brightest", "-o", "out/", *CPU, cwd=tmp_path, **stranger)
    assert (done.returncode, done.stderr) == (0, b"")
    names = ["atoms.xyz", "maps.npz", "molecule.sdf", "picture.png", "report.html", "result.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert json.loads((tmp_path / "out" / "result.json").read_text())["method"] == "brightest"
    assert np.load(tmp_path / "out" / "maps.npz")["map_nearest"].shape == (24, 24)
    words = done.stdout.decode()
    for part in ("brightest 1.0", "1 found, 1 of them with a confidence of 0.5 or more (1 C)", "out/picture.png", "Hz"):
        assert part in words


def test_a_second_run_overwrites_only_by_force(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    arguments = ("identify", scan, "-m", "brightest", "-o", "answer.json", *CPU)
    assert afmid(*arguments, cwd=tmp_path, **stranger).returncode == 0
    again = afmid(*arguments, cwd=tmp_path, **stranger)
    assert (again.returncode, again.stdout) == (1, b"")
    assert again.stderr == b"afmid: answer.json: exists; give --force to write over it\n"
    assert afmid(*arguments, "--force", cwd=tmp_path, **stranger).returncode == 0


def test_json_is_one_line_for_each_scan_with_units_in_the_keys(afmid, stranger, scan: Path) -> None:
    done = afmid("identify", scan, scan, "--json", *CPU, **stranger)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert json.loads(lines[0])["meta"]["scan"] == str(scan)
    (atom,) = json.loads(lines[0])["atoms"]
    assert sorted(atom) == ["confidence", "element", "sigma_angstrom", "x_angstrom", "y_angstrom", "z_angstrom"]
    assert done.stderr == b"afmid: method: brightest\n"


def test_what_the_method_notes_is_told_each_in_a_line(afmid, stranger, scan: Path) -> None:
    done = afmid("identify", scan, "--method", "brightest", **stranger)
    assert "note         one image of several was used" in done.stdout.decode().splitlines()


def test_a_preview_goes_to_people_and_not_among_the_data(afmid, stranger, scan: Path) -> None:
    words = afmid("identify", scan, "-m", "brightest", "--preview", *CPU, **stranger).stdout.decode().splitlines()
    (heads,) = [number for number, line in enumerate(words) if line.split() == ["scan", "atoms"]]
    assert sum("C" in line[40:] for line in words[heads + 1 :]) == 1
    data = afmid("identify", scan, "-m", "brightest", "--preview", "--json", *CPU, **stranger)
    assert len(data.stdout.splitlines()) == 1
    assert len(data.stderr.decode().rstrip().splitlines()) > 10


def test_one_bad_scan_among_several_costs_itself_and_one_line(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 cut short")
    done = afmid("identify", tmp_path / "bad.npz", scan, "-o", tmp_path / "out", "--json", *CPU, **stranger)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert [b"bad.npz" in line for line in done.stderr.splitlines()] == [False, True]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["benzene"]


def test_a_scan_whose_folder_has_the_name_of_a_picture_has_a_folder_all_the_same(
    afmid, stranger, scan: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.png.npz").write_bytes(scan.read_bytes())
    done = afmid("identify", tmp_path / "x.png.npz", scan, "-o", tmp_path / "out", *CPU, **stranger)
    assert done.returncode == 0
    results = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").glob("*/result.json")]
    assert sorted(map(str, results)) == ["benzene/result.json", "x.png/result.json"]


def test_all_methods_answer_side_by_side(afmid, stranger, scan: Path, tmp_path: Path) -> None:
    options = ("-o", tmp_path / "out", "--set", "brightest.element=N", *CPU)
    done = afmid("identify", scan, "-m", "all", *options, **stranger)
    assert done.returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["blind", "brightest", "mapper", "silent"]
    folders = [tmp_path / "out" / name for name in ("silent", "brightest")]
    assert {folder.name: sorted(path.stem for path in folder.iterdir()) for folder in folders} == {
        "silent": ["maps", "picture", "report", "result"],
        "brightest": ["atoms", "maps", "molecule", "picture", "report", "result"],
    }


@pytest.mark.parametrize(
    "arguments", [("-m", "silent"), ("-m", "blind"), ("-m", "brightest", "--set", "confidence=0.49")]
)
def test_no_confident_answer_is_exit_code_3(afmid, stranger, scan: Path, arguments: tuple[str, ...]) -> None:
    done = afmid("identify", scan, *arguments, "--json", *CPU, **stranger)
    assert done.returncode == 3
    assert json.loads(done.stdout)
    assert b"no confident answer" in done.stderr


def test_maps_are_an_answer_of_a_method_that_gives_nothing_else(afmid, stranger, scan: Path) -> None:
    done = afmid("identify", scan, "-m", "mapper", *CPU, **stranger)
    assert done.returncode == 0
    assert "map nearest" in done.stdout.decode()


@pytest.mark.parametrize("swapped", [False, True])
def test_a_second_tip_reaches_the_method_the_answer_and_the_page(
    afmid, stranger, scan: Path, xenon: Path, tmp_path: Path, swapped: bool
) -> None:
    first, second = (xenon, scan) if swapped else (scan, xenon)
    done = afmid("identify", first, "--second", second, "-m", "mapper", "-o", "out/", *CPU, cwd=tmp_path, **stranger)
    assert (done.returncode, done.stderr) == (0, b"")
    meta = json.loads((tmp_path / "out" / "result.json").read_text())["meta"]
    assert meta.pop("tips") == (["Xe", "CO"] if swapped else ["CO", "Xe"])
    assert meta == {"scan": str(scan), "second": {"file": str(xenon), "tip": "Xe"}}  # the answer's pixels are CO's
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('alt="second scan, z = ') == 2
    assert afmid("report", "out/", "-o", "again.html", cwd=tmp_path).returncode == 0
    assert (tmp_path / "again.html").read_text() == page


def test_of_two_scans_on_the_same_pixels_the_answer_stands_on_the_one_whose_source_it_names(
    afmid, stranger, scan: Path, tmp_path: Path
) -> None:
    for name, tip in (("co.npz", "CO"), ("xe.npz", "Xe")):
        write_scan(replace(read_scan(scan), tip=tip, source=f"measured with {tip}"), tmp_path / name)
    command = ("identify", "xe.npz", "--second", "co.npz", "-m", "mapper", "-o", "out/", *CPU)
    assert afmid(*command, cwd=tmp_path, **stranger).returncode == 0
    meta = json.loads((tmp_path / "out" / "result.json").read_text())["meta"]
    assert (meta["scan"], meta["second"]) == ("co.npz", {"file": "xe.npz", "tip": "Xe"})
    done = afmid("report", "out/", "-o", "again.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_second_scan_may_come_from_stdin_and_tell_no_tip(afmid, stranger, xenon: Path, tmp_path: Path) -> None:
    stack = np.random.default_rng(0).normal(size=(2, 12, 16, 3)).astype(np.float32)
    for name, part in zip("ab", stack, strict=True):
        np.save(tmp_path / f"{name}.npy", part)
    scale = ("--pixel", "0.5", "--step", "0.1", "--json", *CPU)
    command = ("identify", "a.npy", "--second", "-", "--second-tip", "Br", *scale, "-m", "mapper")
    done = afmid(*command, cwd=tmp_path, stdin=(tmp_path / "b.npy").read_bytes(), **stranger)
    meta = json.loads(done.stdout)["meta"]
    assert (meta["tips"], meta["second"]) == (["CO", "Br"], {"file": "-", "tip": "Br"})
    done = afmid(*command[:4], *scale, cwd=tmp_path, stdin=(tmp_path / "b.npy").read_bytes(), **stranger)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"-: both scans are of a CO tip, and the second is to be of another" in done.stderr
    assert b"name it: --second-tip Xe" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["co.npz", "--second", "far.npz"], 1, "far.npz: reaches from x = 14.20 to 25.60 Å, the first scan from -7.67"),
        (["co.npz", "--second", "xe.npz", "--second-tip", "Xe"], 1, "xe.npz: an afmid scan brings its own axes"),
        (["co.npz", "co.npz", "--second", "xe.npz"], 2, "second scan of one sample, and 2 scans are given"),
        (["co.npz", "--second-tip", "Xe"], 2, "give that: --second SCAN"),
        (["co.npz", "--second", "absent.npz"], 1, "absent.npz: no such file"),
        (["-", "--second", "-"], 2, "stdin (-) can be read only once"),
        (["co.npz", "--second", "xe.npz", "-o", "xe.npz", "--force"], 2, "xe.npz: is the scan itself"),
    ],
)
def test_a_second_scan_that_cannot_be_one_is_refused(
    afmid, stranger, scan: Path, xenon: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "co.npz").write_bytes(scan.read_bytes())
    (tmp_path / "xe.npz").write_bytes(xenon.read_bytes())
    other = read_scan(xenon)
    write_scan(replace(other, x=other.x - other.x[0] + 14.2), tmp_path / "far.npz")
    done = afmid("identify", *arguments, "-m", "mapper", *CPU, cwd=tmp_path, **stranger)
    assert (done.returncode, done.stdout) == (code, b"")
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_bare_stack_needs_its_scale(afmid, stranger, tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).normal(size=(12, 16, 3)).astype(np.float32))
    lost = afmid("identify", "stack.npy", *CPU, cwd=tmp_path, **stranger)
    assert lost.returncode == 1
    assert b"--pixel" in lost.stderr
    found = afmid("identify", "stack.npy", "--pixel", "0.5", "--step", "0.1", "--json", *CPU, cwd=tmp_path, **stranger)
    assert found.returncode == 0
    assert json.loads(found.stdout)["y"]["pixels"] == 16


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scan.npz", "-m", "brigthest"], 2, "no method 'brigthest'; did you mean 'brightest'?"),
        (["scan.npz", "-m", "weighty"], 1, "weighty comes without weights"),
        (["scan.npz", "-m", "brightest", "--weights", "best"], 2, "no weights 'best'"),
        (["scan.npz", "-m", "all", "--weights", "best"], 2, "--weights is for one method"),
        (["scan.npz", "-m", "brightest", "--weights", "best.safetensors"], 1, "best.safetensors: no such file"),
        (["scan.npz", "-m", "brightest", "--set", "elment=C"], 2, "did you mean: element"),
        (["scan.npz", "-o", "out.csv"], 2, "out.csv: answers are written as"),
        (["scan.npz", "scan.npz", "-o", "out.json"], 2, "several answers need a folder"),
        (["scan.npz", "./scan.npz", "-o", "out/"], 2, "2 scans are called 'scan'"),
        (["scan.npz", "-o", "scan.npz/out/"], 1, "cannot be written"),
        (["nowhere.npz"], 1, "nowhere.npz: no such file"),
        (["tiny.npy", "--pixel", "1", "--step", "1"], 1, "needs 100 pixels"),
        (["pickle.npy", "--pixel", "1", "--step", "1"], 1, "pickle.npy: "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    afmid, stranger, scan: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "scan.npz").write_bytes(scan.read_bytes())
    np.save(tmp_path / "tiny.npy", np.ones((4, 4, 2)))
    np.save(tmp_path / "pickle.npy", np.array([{}], object))
    before = sorted(tmp_path.iterdir())
    done = afmid("identify", *arguments, *CPU, cwd=tmp_path, **stranger)
    assert (done.returncode, done.stdout) == (code, b"")
    *_, last = lines = done.stderr.decode().splitlines()
    assert message in last
    assert [line for line in lines if line != "afmid: method: brightest"] == [last]
    assert sorted(tmp_path.iterdir()) == before
