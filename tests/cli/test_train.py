"""`afmid train`: a short run, stopped, killed and resumed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

MOLECULES = "smiles,split\nc1ccccc1,train\nCC(=O)O,val\nCCO,train\nC1CCCCC1,test\n"


@pytest.fixture
def molecules(tmp_path: Path) -> Path:
    path = tmp_path / "molecules.csv"
    path.write_text(MOLECULES)
    return path


def started(*arguments: str, until: str, cwd: Path, **environment: str) -> "subprocess.Popen[str]":
    """Start the real command and wait until it has said something on stderr."""
    running = subprocess.Popen(
        [sys.executable, "-m", "afmid", *arguments], stdout=-1, stderr=-1, text=True, cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    assert any(line.startswith(f"afmid: {until}") for line in running.stderr)
    return running


def validations(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_is_stopped_by_a_signal_and_resumed_by_the_same_command(
    afmid, stranger, molecules: Path, tmp_path: Path, how: signal.Signals
) -> None:
    arguments = ["train", "line", "--data", str(molecules), "--device", "cpu", "--set", "pause=0.03"]
    running = started(*arguments, until="step 20 of 60: loss", cwd=tmp_path, **stranger)
    running.send_signal(how)
    stdout, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert stdout == ""
    stopped = int(re.search(r"afmid: stopped after step (\d+) of 60; the same command goes on from there", stderr)[1])
    assert torch.load(tmp_path / "runs/line/last.ckpt", weights_only=True)["step"] == stopped
    assert "Traceback" not in stderr

    done = afmid(*arguments, cwd=tmp_path, **stranger)
    assert done.returncode == 0
    assert done.stdout.decode() == "runs/line/best.safetensors\n"
    assert b"preparing" not in done.stderr
    assert [row["step"] for row in validations(tmp_path / "runs/line")] == [20, 40, 60]


def test_a_run_that_was_killed_is_resumed_and_ends_as_an_undisturbed_one(
    afmid, stranger, pack: Path, tmp_path: Path
) -> None:
    arguments = ["train", "line", "--data", str(pack), "--device", "cpu", "--set", "pause=0.02", "-o"]
    running = started(*arguments, "broken", until="step 20 of 60: loss", cwd=tmp_path, **stranger)
    time.sleep(0.2)  # for some steps after the checkpoint
    running.kill()
    running.communicate()
    assert afmid(*arguments, "broken", cwd=tmp_path, **stranger).returncode == 0
    assert afmid(*arguments, "whole", cwd=tmp_path, **stranger).returncode == 0
    broken, whole = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("broken", "whole"))
    for part in ("model", "averaged"):
        assert all(torch.equal(broken[part][name], value) for name, value in whole[part].items())
    assert (tmp_path / "broken/best.safetensors").read_bytes() == (tmp_path / "whole/best.safetensors").read_bytes()
    losses = [[(row["step"], row["loss"]) for row in validations(tmp_path / name)] for name in ("broken", "whole")]
    assert losses[0] == losses[1]


def test_a_second_interrupt_does_not_wait_for_the_step(stranger, pack: Path, tmp_path: Path) -> None:
    arguments = ["train", "line", "--data", str(pack), "--device", "cpu", "--set", "pause=100"]
    running = started(*arguments, until="training line on cpu", cwd=tmp_path, **stranger)
    for _ in range(2):
        time.sleep(2)
        running.send_signal(signal.SIGINT)
    assert "Traceback" not in running.communicate(timeout=30)[1]
    assert running.returncode == 130


def test_two_processes_stop_at_a_signal_and_go_on_as_one_run(afmid, stranger, molecules: Path, tmp_path: Path) -> None:
    arguments = ["train", "line", "--data", str(molecules), "--device", "cpu", "--nproc", "2", "--set", "pause=0.03"]
    running = started(*arguments, until="step 20 of 60: loss", cwd=tmp_path, **stranger)
    running.terminate()
    stdout, stderr = running.communicate(timeout=60)
    assert (running.returncode, stdout) == (130, "")
    assert stderr.count("the same command goes on from there") == 1
    done = afmid(*arguments, cwd=tmp_path, **stranger)
    assert (done.returncode, done.stdout) == (0, b"runs/line/best.safetensors\n")
    assert done.stderr.count(b"training line on cpu") == 1
    assert [row["step"] for row in validations(tmp_path / "runs/line")] == [20, 40, 60]
    other = afmid(*arguments, "--seed", "1", cwd=tmp_path, **stranger)
    assert other.returncode == 2
    assert other.stderr.count(b"holds a run with seed = 0, not 1") == 1


def test_a_recipe_comes_from_a_file_and_is_overruled_by_the_command(
    afmid, stranger, pack: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(
        "steps = 4\nvalidate_every = 2\naugment = ['flip']\n\n[simulation]\nheights = 3\n"
    )
    arguments = ("train", "line", "--data", pack, "--device", "cpu")
    first = afmid(*arguments, "--recipe", "recipe.toml", "--set", "steps=2", "-o", "a", cwd=tmp_path, **stranger)
    assert first.returncode == 0
    made = json.loads((tmp_path / "a/recipe.json").read_text())["recipe"]
    assert (made["steps"], made["validate_every"], [step["name"] for step in made["augment"]]) == (2, 2, ["flip"])
    assert (made["simulation"]["heights"], made["simulation"]["pixels"]) == (3, 8)
    again = afmid(*arguments, "--recipe", "a/recipe.json", "--seed", "5", "-o", "b", cwd=tmp_path, **stranger)
    assert again.returncode == 0
    assert json.loads((tmp_path / "b/recipe.json").read_text())["recipe"] == {**made, "seed": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 4", "recipe.toml: line: no option stepz; did you mean: steps"),
        (
            "[simulation]\nheigths = 4",
            "recipe.toml: line: no option simulation.heigths; did you mean: simulation.heights",
        ),
        (
            "[[augment]]\nname = 'noise'\nopt = {}",
            "recipe.toml: line: no option augment.opt; did you mean: augment.options",
        ),
        ("steps = 0", "recipe.toml: line: steps is 0; it should be greater than or equal to 1"),
        ("steps =", "recipe.toml: no recipe, neither in TOML nor the recipe.json of a run"),
    ],
)
def test_what_is_wrong_in_a_recipe_file_is_said(
    afmid, stranger, pack: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    done = afmid("train", "line", "--data", pack, "--recipe", "recipe.toml", cwd=tmp_path, **stranger)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.decode().splitlines()
    assert message in line


def test_it_trains_on_a_folder_of_molecules_and_on_stored_scans(afmid, stranger, pack: Path, tmp_path: Path) -> None:
    (tmp_path / "molecules").mkdir()
    (tmp_path / "molecules/water.xyz").write_text("3\n\nO 0 0 0\nH 0.76 0.59 0\nH -0.76 0.59 0\n")
    peroxide = "4\n\nO 0 0 0\nO 1.45 0 0\nH -0.3 0.9 0\nH 1.75 -0.45 0.77\n"  # whose InChIKey is in the split val
    (tmp_path / "molecules/peroxide.xyz").write_text(peroxide)
    shape = ("--pixels", "8", "--size", "6", "--heights", "2")
    made = afmid("simulate", pack, "-o", "shards/", "--shard", "1", *shape, "--device", "cpu", cwd=tmp_path)
    assert made.returncode == 0, made.stderr.decode()
    for data, words in (("molecules", b"2 molecules"), ("shards", b"2 scans to learn from and 1 to validate with")):
        arguments = ("train", "line", "--data", data, "-o", f"of-{data}", "--device", "cpu", "--set", "steps=2")
        done = afmid(*arguments, cwd=tmp_path, **stranger)
        assert done.returncode == 0, done.stderr.decode()
        assert words in done.stderr


def test_figures_go_to_tensorboard_where_it_is_there(afmid, stranger, pack: Path, tmp_path: Path) -> None:
    arguments = ("train", "line", "--data", pack, "-o", tmp_path / "run", "--device", "cpu", "--set", "steps=2")
    pytest.importorskip("tensorboard")
    done = afmid(*arguments, "--tensorboard", **stranger)
    assert (done.returncode, done.stderr.count(b"warning")) == (0, 0)
    assert len(list((tmp_path / "run").glob("events.out.tfevents.*"))) == 1
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['tensorboard'] = None\n")
    without = {**stranger, "PYTHONPATH": f"{tmp_path}{os.pathsep}{stranger['PYTHONPATH']}"}
    missing = afmid(*arguments, "--tensorboard", **without)
    assert missing.returncode == 2
    assert missing.stderr == b"afmid: --tensorboard needs the package tensorboard: pip install 'afmid[tensorboard]'\n"


def test_time_limits_and_fresh_starts(afmid, stranger, molecules: Path, tmp_path: Path) -> None:
    arguments = ("train", "line", "--data", molecules, "-o", tmp_path / "run", "--device", "cpu", "--set", "pause=0.05")
    short = afmid(*arguments, "--budget", "1s", **stranger)
    assert short.returncode == 0
    assert b"time is up after step" in short.stderr
    assert re.search(rb"scans/s, waits for data \d+ %; validation: loss", short.stderr)
    assert short.stdout.decode().endswith("best.safetensors\n")
    fewer = afmid(*arguments, "--limit", "3", **stranger)
    assert fewer.returncode == 2
    assert b"other molecules" in fewer.stderr
    fresh = afmid(*arguments[:-1], "pause=0", "--seed", "3", "--limit", "3", "--force", **stranger)
    assert fresh.returncode == 0
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["recipe"]["seed"] == 3


def test_a_run_begins_with_the_weights_of_another(afmid, stranger, pack: Path, tmp_path: Path) -> None:
    arguments = ("train", "line", "--data", pack, "--device", "cpu", "--set", "steps=1", "--set", "average=0")
    afmid(*arguments, "-o", tmp_path / "first", "--set", "learning_rate=0.5", **stranger)
    first = tmp_path / "first" / "best.safetensors"
    again = (*arguments, "-o", tmp_path / "second", "--set", "learning_rate=1e-12", "--set", f"start={first}")
    assert afmid(*again, **stranger).returncode == 0
    before, after = (load_file(tmp_path / name / "best.safetensors") for name in ("first", "second"))
    assert all(torch.allclose(before[name], after[name], atol=1e-9) for name in before)
    wrong = afmid(*arguments, "-o", tmp_path / "third", "--set", "start=nowhere.safetensors", **stranger)
    assert (wrong.returncode, wrong.stderr.count(b"\n")) == (1, 1)


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
        (["line", "--recipe", "nowhere.toml"], 1, "nowhere.toml: no such file"),
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
