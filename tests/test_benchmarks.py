"""The benchmarks run: on one small molecule, without repeating anything."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_simulation_is_measured_and_held_to_the_reference(tmp_path):
    few = ("--molecules", "1-bromo-3,5-dichlorobenzene", "--engines", "torch", "--batch", "1", "--seconds", "0")
    command = [sys.executable, BENCHMARKS / "simulate.py", *few, "--json", tmp_path / "figures.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["tip"] for row in rows] == ["monopole", "quadrupole"]
    assert all(row["error"] < 1e-4 and row["stacks per second"] > 0 for row in rows)
    assert "| 1-bromo-3,5-dichlorobenzene (12 atoms), monopole |" in done.stdout


def test_gradients_are_measured():
    command = [sys.executable, BENCHMARKS / "gradient.py", "--pixels", "8", "--repeat", "1", "--engines", "eager"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| eager |" in done.stdout


def test_training_is_measured():
    small = ("--molecules", "10", "--batch", "2", "--steps", "2", "--seconds", "0", "--engine", "torch")
    grid = ("--set", "simulation.size=4", "--set", "simulation.pixels=32", "--set", "validation_scans=1")
    command = [sys.executable, BENCHMARKS / "training.py", *small, *grid]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| train descriptor, 2 steps for each scan |" in done.stdout


def test_refinement_is_measured():
    command = [sys.executable, BENCHMARKS / "refine.py", "--cases", "BCB", "--seeds", "1", "--pixels", "800"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| BCB" in done.stdout
