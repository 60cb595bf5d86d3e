"""`afmid simulate`, run for real on small scans."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from afmid.io import read_scan

SMALL = ("--pixels", "16", "--heights", "2")
WATER = "3\n\nO 0 0 0\nH 0.76 0 -0.59\nH -0.76 0 -0.59\n"


def test_the_scan_has_the_options_that_were_typed_and_the_molecule_as_its_truth(afmid, tmp_path: Path) -> None:
    path, picture = tmp_path / "new" / "scan.npz", tmp_path / "scan.png"
    options = ("--tip", "Xe", "--size", "8", "--step", "0.2", "--amplitude", "0.4")
    done = afmid("simulate", "-", "-o", path, "--plot", picture, *SMALL, *options, stdin=WATER.encode())
    assert (done.returncode, done.stdout) == (0, b"")
    scan = read_scan(path)
    assert scan.df.shape == (16, 16, 2)
    assert scan.pixel == pytest.approx((0.5, 0.5))
    assert scan.z[0] - scan.z[1] == pytest.approx(0.2)
    assert (scan.tip, scan.amplitude) == ("Xe", 0.4)
    assert scan.truth is not None
    assert scan.truth.symbols == ["O", "H", "H"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_several_molecules_go_into_a_folder_under_their_names(afmid, tmp_path: Path) -> None:
    done = afmid("simulate", "benzene", "CC", "CC", "-o", "out/", *SMALL, cwd=tmp_path)
    assert done.returncode == 0
    names = ["C2H6-2.npz", "C2H6.npz", "benzene.npz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert done.stderr.decode().count("afmid: wrote out/") == 3


def test_standard_output_carries_the_same_scan_as_a_file(afmid, scan: Path, tmp_path: Path) -> None:
    done = afmid("simulate", "benzene", "-o", "-", "--pixels", "24", "--heights", "2")
    assert done.stderr == b""
    (tmp_path / "piped.npz").write_bytes(done.stdout)
    assert np.array_equal(read_scan(tmp_path / "piped.npz").df, read_scan(scan).df)


def test_a_terminal_is_spared_the_binary() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "afmid", "simulate", "benzene", "-o", "-"]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"would spoil the terminal" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["benzene", "--pixels", "1"], 2, "--pixels is '1'; it should be greater than or equal to 2"),
        (["benzene", "--tip", "W"], 2, "--tip is 'W'; it should be 'CO', 'Xe' or 'Cl'"),
        (["benzene", "--amplitude", "50", "--step", "0.0001"], 2, "the force at 1000010 heights; 2000 are the most"),
        (["benzene", "--engine", "tourch"], 2, "no engine 'tourch'; did you mean 'torch'?"),
        (["nowhere.xyz", "--engine", "tourch"], 2, "no engine 'tourch'"),
        (["nowhere.xyz", "--device", "abacus"], 2, "no device 'abacus'"),
        (["benzene", "-o", "/dev/null"], 1, "/dev/null: is not a regular file"),
        (["benzene", "-o", "kept.npz"], 1, "kept.npz: exists; give --force"),
        (["benzene", "-o", "kept.npz/scan.npz"], 1, "kept.npz/scan.npz: cannot be written"),
        (["benzene", "CC", "-o", "one.npz"], 2, "several molecules need -o FOLDER/"),
        (["benzene", "CC", "-o", "-"], 2, "several molecules need -o FOLDER/"),
        (["nowhere.xyz"], 1, "nowhere.xyz: no such file"),
        (["no molecule"], 1, "'no molecule'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    afmid, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "kept.npz").write_text("kept")
    done = afmid("simulate", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, b"")
    line, *rest = done.stderr.decode().splitlines()
    assert line.startswith("afmid: ")
    assert message in line
    assert rest == []
    assert [path.name for path in tmp_path.iterdir()] == ["kept.npz"]
    assert (tmp_path / "kept.npz").read_text() == "kept"
