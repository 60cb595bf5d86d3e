"""`afmid augment`, alone and in the pipeline of the README."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from afmid.io import read_scan


def test_the_same_seed_gives_the_same_scan_which_says_what_was_done_to_it(afmid, scan: Path, tmp_path: Path) -> None:
    arguments = ("augment", scan, "--steps", "noise,cutout", "--set", "noise.level=0.3", "--seed", "7", "-o")
    filed = afmid(*arguments, tmp_path / "a.npz")
    assert (filed.returncode, filed.stdout, filed.stderr) == (0, b"", b"")
    (tmp_path / "b.npz").write_bytes(afmid(*arguments, "-").stdout)
    a, b, before = (read_scan(path) for path in (tmp_path / "a.npz", tmp_path / "b.npz", scan))
    assert np.array_equal(a.df, b.df)
    assert not np.array_equal(a.df, before.df)
    assert a.truth is not None
    assert before.truth is not None
    assert np.array_equal(a.truth.positions, before.truth.positions)
    (record,) = a.meta["augment"]
    assert record["seed"] == 7
    assert [step["name"] for step in record["steps"]] == ["noise", "cutout"]
    assert record["steps"][0]["options"]["level"] == 0.3


def test_steps_that_move_the_image_are_refused_since_the_truth_would_no_longer_fit(afmid, scan: Path) -> None:
    done = afmid("augment", scan, "-o", "-", "--steps", "rotate")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "'rotate' moves the image sideways" in done.stderr.decode()


def test_a_picture_shows_before_and_after(afmid, scan: Path, tmp_path: Path) -> None:
    steps = ("--steps", "drift,line-noise,missing-heights")
    done = afmid("augment", scan, "-o", tmp_path / "a.npz", *steps, "--plot", tmp_path / "new" / "a.svg")
    assert (done.returncode, done.stderr) == (0, b"")
    picture = (tmp_path / "new" / "a.svg").read_text()
    assert "Before, and after drift, line-noise, missing-heights" in picture
    assert "after" in picture
    for name, message in (("a.txt", "must end in .png"), ("new/a.svg", "exists")):
        done = afmid("augment", scan, "-o", tmp_path / "b.npz", *steps, "--plot", tmp_path / name)
        assert done.returncode != 0
        assert message in done.stderr.decode()
        assert not (tmp_path / "b.npz").exists()


def test_wrong_steps_and_settings_are_one_line(afmid, scan: Path) -> None:
    for arguments, message in (
        (["--steps", "nois"], "no augmentation 'nois'; did you mean 'noise'?"),
        (["--set", "noise.level=-1"], "noise: level is '-1'"),
        (["--set", "level=1"], "NAME is one of: noise, cutout"),
    ):
        done = afmid("augment", scan, "-o", "-", *arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        assert message in done.stderr.decode()
        assert len(done.stderr.splitlines()) == 1


def test_the_pipeline_runs_as_written(stranger: dict[str, str], tmp_path: Path) -> None:
    afmid = tmp_path / "afmid"
    afmid.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m afmid "$@"\n')
    afmid.chmod(0o755)
    line = "afmid simulate 'c1ccc2ccccc2c1' -o - | afmid augment - -o - | afmid identify - --json"
    environment = {**os.environ, **stranger, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, env=environment, check=True)
    answer = json.loads(done.stdout)
    assert answer["method"] == "brightest"
    assert len(answer["atoms"]) == 1
    assert done.stderr.decode() == "afmid: method: brightest\n"
