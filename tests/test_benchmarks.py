"""The benchmarks run: on one small molecule, without repeating anything."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from afmid.molecule import Molecule
from afmid.simulate.scan_simulation import SimulationOptions, load_engine
from afmid.simulate.scene import Scenes

BENCHMARKS = Path(__file__).parent / "benchmarks"
RINGS = {"train": ["c1ccncc1", "Oc1ccccc1"], "val": ["c1ccoc1"], "test": ["Fc1ccccc1", "Nc1ccccc1"]}


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
    assert "| train descriptor, 4 steps for each scan |" in done.stdout


def test_refinement_is_measured():
    command = [sys.executable, BENCHMARKS / "refine.py", "--cases", "BCB", "--seeds", "1", "--pixels", "800"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| BCB" in done.stdout


def test_what_a_tilted_tip_shows_aside_is_moved_below_its_base(monkeypatch):
    pytest.importorskip("h5py")
    monkeypatch.syspath_prepend(BENCHMARKS)
    at_base = importlib.import_module("published").at_base
    tilt = (0.25, -0.375)
    options = SimulationOptions(size=10, pixels=80, heights=2, clearance=1, tilt_x=tilt[0], tilt_y=tilt[1])
    scene = options.scene(Molecule([8], [[0.0, 0, 0]]))
    images, _ = load_engine("torch", "cpu")[1].images(Scenes.of([scene]), options.weights())
    shown = images[0, ..., -1].numpy() ** 2  # of an atom at 0, over the places of the base

    def centre(image):
        return [float(scene.x @ image.sum(1) / image.sum()), float(scene.y @ image.sum(0) / image.sum())]

    assert centre(shown) == pytest.approx([-part for part in tilt], abs=0.05)  # the probe gives way a little
    assert centre(at_base(shown, tilt)) == pytest.approx([0, 0], abs=0.05)


def test_published_weights_are_read_and_scored(tmp_path):
    h5py, paper = (pytest.importorskip(name) for name in ("h5py", "afmid_descriptor.paper"))
    torch.manual_seed(0)
    network, rng = paper.Paper().eval(), np.random.default_rng(0)
    for branch in network.branches.values():
        torch.nn.init.normal_(branch.last.weight, std=0.1)
    convs = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)]
    with h5py.File(tmp_path / "model.h5", "w") as file:  # as Keras wrote it
        for i, conv in enumerate(convs):
            kind, number, order = ("3d", i + 1, (3, 4, 2, 1, 0)) if i < 3 else ("2d", i - 2, (2, 3, 1, 0))
            group = file.create_group(f"conv{kind}_reflective_{number}/conv{kind}_{number}")
            group["kernel:0"], group["bias:0"] = conv.weight.detach().permute(order), conv.bias.detach()
    df = rng.normal(size=(2, 32, 24, 10)).astype(np.float32)
    with torch.no_grad():
        seen = (df - df.mean((1, 2), keepdims=True)) / df.std((1, 2), keepdims=True)
        maps = network(torch.from_numpy(seen)).numpy()
    truth = dict(zip(network.names, maps.swapaxes(0, 1), strict=True))
    np.savez(tmp_path / "stacks.npz", df=df, light=[True, True], **truth)
    files = (tmp_path / "model.h5", "--stacks", tmp_path / "stacks.npz", "--json", tmp_path / "figures.json")
    command = [sys.executable, BENCHMARKS / "published.py", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    clean = [row for row in rows if row["network"] == "model, clean"]
    for row, lowest in zip(clean, maps.min((2, 3)), strict=True):  # the truth is brought to a minimum of zero
        np.testing.assert_allclose(row["plain"], lowest**2, rtol=1e-3, atol=1e-8)
    below = "afmid, below the tip's base"
    assert {row["network"] for row in rows} == {"model, clean", "model, noise", "afmid", below}
    aside, beneath = (next(row["plain"] for row in rows if row["network"] == name) for name in ("afmid", below))
    assert [one != other for one, other in zip(aside, beneath, strict=True)] == [True, True, False]
    assert "| afmid / best published |" in done.stdout


@pytest.mark.parametrize(("name", "row"), [("graphs", "| PTCDA |"), ("single_step", "| parallel |")])
def test_graphs_are_compared_and_asked_for_single_atoms(name, row):
    pytest.importorskip("afmid_graphgen")
    few = ["--scans", "2"] if name == "single_step" else []
    command = [sys.executable, BENCHMARKS / f"{name}.py", *few]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert row in done.stdout


def test_soap_is_timed_beside_dscribe():
    pytest.importorskip("afmid_soap")
    command = [sys.executable, BENCHMARKS / "soap_speed.py", "--batch", "1", "--repeat", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 160 |" in done.stdout


def test_the_predictor_of_soap_is_trained_and_measured_and_a_run_that_is_done_is_only_measured(tmp_path):
    pytest.importorskip("afmid_soap")
    few = ("--steps", "2", "--molecules", "100", "--run", tmp_path / "run", "--json", tmp_path / "figures.json")
    figures = []
    for _ in range(2):
        command = [sys.executable, BENCHMARKS / "soap_predictor.py", *few]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        figures.append(json.loads((tmp_path / "figures.json").read_text())["rows"][0])
    assert figures[0] == figures[1]
    assert figures[0]["mse"] == pytest.approx(figures[0]["mse_with_first"] / 0.9)
    assert 0 < figures[0]["mse"] < 3 * figures[0]["mean_square"]


def test_variants_of_soap_are_trained_on_the_same_scans_and_compared(tmp_path):
    pytest.importorskip("afmid_soap")
    rows = ["smiles,split", *(f"{smiles},{split}" for split in ("train", "val", "test") for smiles in RINGS[split])]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    prepare = [sys.executable, "-m", "afmid", "prepare", "list.csv", "-o", "pack.npz"]
    subprocess.run(prepare, cwd=tmp_path, check=True, capture_output=True)
    few = ("--steps", "1", "--tuning", "1", "--scans", "1", "--json", "figures.json", "--picture", "figures.png")
    command = [sys.executable, BENCHMARKS / "soap_ablation.py", "--data", "pack.npz", *few]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| SOAP as published, then the bond head alone |" in done.stdout
    assert (tmp_path / "figures.png").exists()
    variants = {row["variant"]: row for row in json.loads((tmp_path / "figures.json").read_text())["rows"]}
    assert variants["none"]["class_accuracy"][0] <= 1
    assert variants["tuned"]["class_accuracy"] == variants["soap"]["class_accuracy"]  # the bond head alone was trained


@pytest.mark.parametrize(
    ("values", "goal", "low", "said"),
    [
        ((0.2, 0.4, 0.6, 0.7, 0.8, 0.9), 0.8, False, "met"),
        ((0.2, 0.4, 0.6, 0.7, 0.8, 0.9), 1.0, False, "1e+04"),
        ((0.9, 0.8, 0.7, 0.6, 0.5, 0.4), 0.8, False, "never"),
        ((0.9, 0.8, 0.7, 0.6, 0.5, 0.4), 0.3, True, "1e+04"),
        ((0.9, 0.8), 0.3, True, "never"),
        ((0.9, 0.8), None, True, "–"),
    ],
)
def test_a_learning_curve_tells_where_it_meets_a_goal(values, goal, low, said, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    curves = importlib.import_module("curves")
    scans, values = np.exp(np.arange(len(values)) * 0.7 + 5), np.array(values)
    assert curves.reached(scans, values, curves.fitted(scans, values), goal, low) == said
