"""`afmid prepare`: lists to packs, whatever is killed on the way."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afmid.data.pack import read_pack
from afmid.data.parts import Parts
from afmid.data.prepare import prepare as make_pack
from afmid.data.rows import read_rows

SOME = "smiles,source,split,flat\nc1ccccc1,mine,train,1\nCCO,mine,val,0\nnonsense,mine,train,1\nOCC,yours,train,0.5\n"


@pytest.fixture
def molecules(tmp_path: Path) -> Path:
    path = tmp_path / "some.csv"
    path.write_text(SOME)
    return path


def test_a_list_becomes_a_pack_and_what_failed_is_shown_and_listed(afmid, molecules: Path, tmp_path: Path) -> None:
    done = afmid("prepare", molecules, "-o", tmp_path / "packs" / "pack.npz", "--seed", "3", "--conformers", "2")
    assert (done.returncode, done.stdout) == (0, b"")
    first, disputed, heads, smiles, duplicate, last = done.stderr.decode().splitlines()
    assert first == "afmid: preparing 4 molecules"
    assert "name several splits: 1; they are kept from training" in disputed  # CCO, which is OCC
    assert heads.split() == ["left", "out", "rows", "for", "example"]
    assert smiles.split(maxsplit=2) == ["smiles", "1", "row 3: 'nonsense' is no valid SMILES"]
    assert duplicate.startswith("duplicate  1     row 4: is row 2 again")
    assert "pack.npz: 2 molecules, 4 conformers of which " in last
    assert "; 2 of 4 rows left out, listed in " in last
    assert last.endswith(" molecules/s")
    pack = read_pack(tmp_path / "packs" / "pack.npz")
    assert (pack.smiles, pack.split) == (("c1ccccc1", "CCO"), ("train", "val"))
    assert pack.meta["options"]["seed"] == 3
    with (tmp_path / "packs" / "pack.failed.csv").open() as file:
        assert [row["reason"] for row in csv.DictReader(file)] == ["smiles", "duplicate"]
    assert sorted(path.name for path in (tmp_path / "packs").iterdir()) == ["pack.failed.csv", "pack.npz"]


def test_a_killed_run_is_finished_by_the_same_command_with_the_same_bytes(afmid, tmp_path: Path) -> None:
    path = tmp_path / "chains.smi"
    path.write_text("".join(f"{'C' * n}{end}\n" for end in ("", "O", "N", "F", "Cl", "Br", "I") for n in range(1, 56)))
    assert afmid("prepare", path, "-o", tmp_path / "whole.npz", "--jobs", "2", "--max-atoms", "50").returncode == 0
    arguments = ["prepare", str(path), "-o", str(tmp_path / "killed.npz"), "--jobs", "1", "--max-atoms", "50"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([sys.executable, "-m", "afmid", *arguments], stderr=-1, env=environment)
    part = tmp_path / "killed.npz.parts" / "part-000000.npz"
    while not part.exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.communicate()
    assert not (tmp_path / "killed.npz").exists()

    other = afmid(*arguments, "--seed", "1")
    assert other.returncode == 1
    assert b"holds parts of another job (other options)" in other.stderr
    assert re.search(rb"0 of 385 rows were prepared before", afmid("--verbose", *arguments).stderr)
    assert (tmp_path / "killed.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not part.parent.exists()


def test_what_is_there_is_not_written_over_unless_a_run_goes_on_from_its_parts(
    afmid, molecules: Path, tmp_path: Path
) -> None:
    (tmp_path / "pack.failed.csv").write_text("mine\n")
    done = afmid("prepare", molecules, "-o", tmp_path / "pack.npz")
    assert done.returncode == 1
    assert b"pack.failed.csv: exists; give --force to write over it" in done.stderr
    assert (tmp_path / "pack.failed.csv").read_text() == "mine\n"
    assert afmid("prepare", molecules, "-o", tmp_path / "pack.npz", "--force").returncode == 0
    assert afmid("prepare", molecules, "-o", tmp_path / "pack.npz").stderr.count(b"pack.npz: exists; give --force") == 1

    rows = list(read_rows([str(molecules)]))
    with Parts(tmp_path / "pack.npz.parts") as parts:  # as a kill leaves them that comes between the pack and their end
        list(make_pack(rows, parts=parts))
    before = (tmp_path / "pack.npz").read_bytes()
    done = afmid("--verbose", "prepare", molecules, "-o", tmp_path / "pack.npz")
    assert done.returncode == 0
    assert b"4 of 4 rows were prepared before" in done.stderr
    assert (tmp_path / "pack.npz").read_bytes() == before
    assert not (tmp_path / "pack.npz.parts").exists()


def test_a_second_run_on_the_same_pack_is_one_line(afmid, molecules: Path, tmp_path: Path) -> None:
    with Parts(tmp_path / "pack.npz.parts"):
        done = afmid("prepare", molecules, "-o", tmp_path / "pack.npz")
    assert done.returncode == 1
    assert b"pack.npz.parts: another process is writing it; wait for that, or end it" in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.csv"]


def test_where_every_row_fails_it_is_said_why(afmid, tmp_path: Path) -> None:
    (tmp_path / "bad.smi").write_text("nonsense\n[Fe]\n")
    done = afmid("prepare", "bad.smi", "-o", "a.npz", cwd=tmp_path)
    assert done.returncode == 1
    *_, last = lines = done.stderr.decode().splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["left", "smiles", "element"]
    assert last.endswith("1 smiles, 1 element; the first: row 1: 'nonsense' is no valid SMILES")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.failed.csv", "bad.smi"]
    with (tmp_path / "a.failed.csv").open() as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["1", "2"]


def test_limits_and_flatness_choose_rows_and_stdin_and_stdout_work(afmid, molecules: Path, tmp_path: Path) -> None:
    done = afmid(
        "prepare", "-", "-o", "-", "--limit", "1", "--flat-first", "--seed", "1", stdin=b"C1CCCCC1\nc1ccccc1\n"
    )
    assert done.returncode == 0
    (tmp_path / "piped.npz").write_bytes(done.stdout)
    assert read_pack(tmp_path / "piped.npz").smiles == ("c1ccccc1",)


def test_a_pack_is_shown_as_tables_and_as_json(afmid, molecules: Path, tmp_path: Path) -> None:
    afmid("prepare", molecules, "-o", tmp_path / "pack.npz", "--press", "1")
    done = afmid("prepare", "--show", tmp_path / "pack.npz")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = [" ".join(line.split()) for line in done.stdout.decode().splitlines()]
    assert {"molecules conformers", "2 2", "O 1", "source train val", "all 1 1", "0 to 9 1", "10 to 19 1"} <= set(lines)
    assert "0 to 0.25 Å 0 2" in lines
    (line,) = afmid("prepare", "--show", tmp_path / "pack.npz", "--json").stdout.splitlines()
    record = json.loads(line)
    assert record["elements"] == {"H": 2, "C": 2, "O": 1}
    assert record["splits"] == {"train": {"mine": 1}, "val": {"mine": 1}}
    assert len(record["pressed_by_height"]) == len(record["height_bins_angstrom"]) - 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", "a.npz"], 2, "missing argument 'INPUT'"),
        (["some.csv"], 2, "missing option '-o'"),
        (["some.csv", "-o", "a.npz", "--press", "2"], 2, "--press is '2'; it should be less than or equal to 1"),
        (["some.csv", "-o", "a.npz", "--elements", "H,Xy"], 2, "there is no element 'Xy'"),
        (["some.csv", "-o", "a.npz", "--flat-first"], 2, "--limit N"),
        (["some.csv", "--show", "a.npz"], 2, "--show prints what is in a pack"),
        (["nowhere.csv", "-o", "a.npz"], 1, "nowhere.csv: no such file"),
        (["some.csv", "-o", "some.csv"], 2, "some.csv: a pack's name ends in .npz; give -o NAME.npz"),
        (["some.csv", "-o", "some.csv/a.npz"], 1, "cannot be written"),
        (["--show", "some.csv"], 1, "some.csv: is no molecule pack; make one with: afmid prepare"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    afmid, molecules: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = afmid("prepare", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, b"")
    (line,) = done.stderr.decode().splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == [molecules]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["some.csv", "--scheduler", "node7"], 2, "--scheduler is 'node7'; write an address such as tcp://HOST:8786"),
        (["some.csv", "--scheduler", "tcp://127.0.0.1:9"], 1, "no Dask scheduler answers at tcp://127.0.0.1:9"),
        (["empty.smi"], 1, "no molecule of the list could be prepared: it is empty"),
    ],
)
def test_work_that_ends_with_nothing_leaves_nothing(
    afmid, molecules: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "empty.smi").write_text("\n")
    done = afmid("prepare", *arguments, "-o", "a.npz", cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr.decode().splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.smi", "some.csv"]
