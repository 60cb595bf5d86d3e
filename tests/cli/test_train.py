"""`afmid train`: a short run, stopped and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MOLECULES = "smiles,split\nc1ccccc1,train\nCCO,train\nCC(=O)O,val\nC1CCCCC1,test\n"


@pytest.fixture
def molecules(tmp_path: Path) -> Path:
    path = tmp_path / "molecules.csv"
    path.write_text(MOLECULES)
    return path


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_is_stopped_by_a_signal_and_resumed_by_the_same_command(
    afmid, stranger, molecules: Path, tmp_path: Path, how: signal.Signals
) -> None:
    arguments = ["train", "line", "--data", str(molecules), "--device", "cpu", "--set", "pause=0.03"]
    running = subprocess.Popen(
        [sys.executable, "-m", "afmid", *arguments],
        stdout=-1, stderr=-1, text=True, cwd=tmp_path, env={**os.environ, **stranger},
    )  # fmt: skip
    for line in running.stderr:
        if line.startswith("afmid: step 20 of 60: loss"):
            break
    running.send_signal(how)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert stdout == ""
    assert "the same command goes on from there" in stderr
    assert "Traceback" not in stderr

    done = afmid(*arguments, cwd=tmp_path, **stranger)
    assert done.returncode == 0
    assert done.stdout.decode() == "runs/line/best.safetensors\n"
    assert b"preparing" not in done.stderr
    steps = [json.loads(line)["step"] for line in (tmp_path / "runs/line/metrics.jsonl").read_text().splitlines()]
    assert steps == [20, 40, 60]


def test_time_limits_and_fresh_starts(afmid, stranger, molecules: Path, tmp_path: Path) -> None:
    arguments = ("train", "line", "--data", molecules, "-o", tmp_path / "run", "--device", "cpu", "--set", "pause=0.05")
    short = afmid(*arguments, "--budget", "1s", **stranger)
    assert short.returncode == 0
    assert b"time is up after step" in short.stderr
    assert re.search(rb"scans/s, waits for data \d+ %; validation: loss", short.stderr)
    assert short.stdout.decode().endswith("best.safetensors\n")
    fewer = afmid(*arguments, "--limit", "2", **stranger)
    assert fewer.returncode == 2
    assert b"other molecules" in fewer.stderr
    fresh = afmid(*arguments[:-1], "pause=0", "--seed", "3", "--limit", "2", "--force", **stranger)
    assert fresh.returncode == 0
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]["seed"] == 3


def test_the_help_lists_what_can_be_trained(afmid, stranger) -> None:
    assert b"line  Learn a straight line." in afmid("train", "--help", **stranger).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["lin"], 2, "no trainer 'lin'; did you mean 'line'?"),
        (["line", "--set", "steps=0"], 2, "line: steps is '0'"),
        (["line", "--seed", str(2**63)], 2, f"line: seed is '{2**63}'; it should be less than or equal to {2**63 - 1}"),
        (["line", "--budget", "soon"], 2, "'soon' is no time"),
        (["line", "-o", "molecules.csv/run"], 1, "cannot be written"),
        (["line", "--data", "nowhere.csv"], 1, "nowhere.csv: no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(
    afmid, stranger, molecules: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = afmid("train", "--data", molecules, *arguments, cwd=tmp_path, **stranger)
    assert (done.returncode, done.stdout) == (code, b"")
    (line,) = done.stderr.decode().splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == [molecules]
