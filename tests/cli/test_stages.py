"""`afmid identify` and `afmid evaluate` with --candidates and --refine: what follows a method's answer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from afmid.cli.identify import _summary
from afmid.cli.stages import _refined
from afmid.errors import DataError
from afmid.evaluate.refine import RefineOptions, refine
from afmid.identification import Atom, Identification
from afmid.io import read_molecule, read_scan, write_scan
from afmid.molecule import Molecule

CPU = ("--device", "cpu")
LIBRARY = "Clc1ccccc1 chlorobenzene\nC1CCCCC1\nc1ccccc1\n"


@pytest.fixture(scope="module")
def place(afmid, tmp_path_factory) -> Path:
    """A folder with a scan of chlorobenzene, and a library of three molecules."""
    folder = tmp_path_factory.mktemp("stages")
    (folder / "library.smi").write_text(LIBRARY)
    small = ("--pixels", "40", "--size", "12", "--heights", "6")
    done = afmid("simulate", "Clc1ccccc1", "--pose", "flat", "-o", "scan.npz", *small, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def farthest(molecule: Molecule, truth: Molecule) -> float:
    """Return how far (Å) a true atom is from the nearest one of its element at most, either numbered anyhow."""
    apart = np.linalg.norm(molecule.positions[:, None] - truth.topmost_at_zero().positions, axis=-1)
    return float(np.where(molecule.numbers[:, None] == truth.numbers, apart, 99).min(0).max())


def test_candidates_are_ranked_placed_and_refined(afmid, stranger, place: Path) -> None:
    arguments = ("scan.npz", "-m", "silent", "--candidates", "library.smi", "--top", "2", *CPU)
    ranked = afmid("identify", *arguments, "-o", "ranked/", cwd=place, **stranger)
    assert ranked.returncode == 0, ranked.stderr
    refined = afmid("identify", *arguments, "--refine", "--set", "refine.swaps=false", "-o", "refined/", cwd=place,
                    **stranger)  # fmt: skip
    assert refined.returncode == 0, refined.stderr
    before, after = (json.loads((place / name / "result.json").read_text()) for name in ("ranked", "refined"))
    assert len(before["candidates"]) == 2
    assert before["candidates"][0]["formula"] == "C6H5Cl"
    assert before["candidates"][0]["name"] == "chlorobenzene"
    assert before["meta"]["candidates"]["pool"] == 3
    assert before["candidates"][0]["scores"]["fit"] == before["fit"] > 0.98
    assert after["fit"] >= before["fit"]
    assert after["meta"]["refinement"]["fit_after"] == after["fit"]

    truth = read_scan(place / "scan.npz").truth
    placed, moved = (read_molecule(place / name / "molecule.sdf") for name in ("ranked", "refined"))
    assert farthest(placed, truth) < 0.3
    assert farthest(moved, truth) < 0.05
    assert (place / "refined" / "report.html").stat().st_size > 100_000
    assert not (place / "refined" / "atoms.xyz").exists()  # silent found none
    words = refined.stdout.decode()
    assert "chlorobenzene: Clc1ccccc1 C6H5Cl" in words
    assert f"fit {after['meta']['refinement']['fit_before']:.3f} before; " in words


def test_what_refinement_says_is_said_in_words() -> None:
    record = {
        "fit_before": 0.5, "rms_before_hz": 1.0, "rms_after_hz": 0.25, "converged": False,
        "atoms": [{"supported": True}, {"supported": False}],
        "swaps": [
            {"adopted": True, "probability": 0.97, "changes": [{"atom": 1, "from": "Cl", "to": "Br"}]},
            {"adopted": False, "probability": 0.03, "changes": [{"atom": 0, "from": "O", "to": "S"}]},
        ],
    }  # fmt: skip
    answer = Identification("m", "1", np.arange(2.0), np.arange(2.0), meta={"refinement": record})
    (words,) = [value for name, value in _summary(answer) if name == "refined"]
    assert words.split("; ") == [
        "fit 0.500 before", "0.25 Hz of 1 left",
        "not come to rest: trust it less, or give more iterations, --set refine.iterations=N",
        "1 of 2 atoms not supported by the scan", "Cl 2 is Br, with a probability of 0.970",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "arguments", "words"),
    [
        ({"tip": "Cu"}, ("--candidates", "library.smi"), "not ranked: scan: no tip 'Cu'; there are: CO, Xe, Cl"),
        ({"tip": "Cu"}, ("--refine",), "not refined: no tip 'Cu'; there are: CO, Xe, Cl"),
        ({}, ("--candidates", "self"), "not ranked: the answer has no molecule of its own"),
    ],
)
def test_an_answer_is_kept_that_cannot_be_ranked_or_refined(
    afmid, stranger, place: Path, tmp_path: Path, fault, arguments, words
) -> None:
    write_scan(replace(read_scan(place / "scan.npz"), source="scan", meta={}, **fault), tmp_path / "scan.npz")
    given = (tmp_path / "scan.npz", "-m", "brightest", *arguments, "--json", *CPU)
    done = afmid("identify", *given, cwd=place, **stranger)
    assert done.returncode == 0, done.stderr
    (answer,) = map(json.loads, done.stdout.splitlines())
    assert (len(answer["atoms"]), answer["candidates"]) == (1, [])
    assert f"warning: {words}" in done.stderr.decode()


def test_a_refinement_after_which_the_answer_fits_worse_is_not_taken(place: Path, monkeypatch) -> None:
    scan = read_scan(place / "scan.npz")
    atoms = (Atom("C", 0.0, 0.0, 0.0, 0.9),)
    answer = Identification("m", "1", scan.x, scan.y, atoms=atoms)
    found = refine(scan, answer.molecule, RefineOptions(iterations=1, swaps=False))
    worse = replace(found, fit_before=0.9, fit_after=0.8)
    monkeypatch.setattr("afmid.evaluate.refine.refine", lambda *given: worse)
    with pytest.raises(DataError, match=r"the fit fell from 0\.900 to 0\.800"):
        _refined(answer, scan, None, print, RefineOptions())


def test_one_molecule_is_given_by_its_smiles_and_shown_in_the_ways_it_may_lie(afmid, stranger, place: Path) -> None:
    given = ("scan.npz", "-m", "silent", "--candidates", "Clc1ccccc1", "--top", "4", *CPU)
    done = afmid("identify", *given, "--json", cwd=place, **stranger)
    assert done.returncode == 0, done.stderr
    (answer,) = map(json.loads, done.stdout.splitlines())
    assert 1 < len(answer["candidates"]) <= 4
    assert {candidate["smiles"] for candidate in answer["candidates"]} == {"Clc1ccccc1"}
    fits = [candidate["scores"]["fit"] for candidate in answer["candidates"]]
    assert fits[0] == answer["fit"] > 0.98 > fits[1]
    refused = afmid("identify", *given, "--set", "candidates.by=maps", cwd=place, **stranger)
    assert b"not ranked: silent draws no maps of candidates" in refused.stderr


def test_candidates_that_are_hardly_told_apart_are_said_to_be(afmid, stranger, place: Path) -> None:
    (place / "twins.smi").write_text("Clc1ccccc1\nClc1ccccc1Cl\n")
    (place / "same.smi").write_text("Clc1ccccc1\n[2H]c1ccccc1Cl\n")
    words = {}
    for name in ("twins", "same"):
        done = afmid("identify", "scan.npz", "-m", "silent", "--candidates", f"{name}.smi", *CPU, cwd=place, **stranger)
        assert done.returncode == 0, done.stderr
        words[name] = done.stdout.decode()
    assert "candidate 1" in words["twins"]
    assert "hardly told apart" not in words["twins"]
    assert "the first 2 are within 0.01 of each other: they are hardly told apart" in words["same"]


def test_an_answer_of_no_atoms_is_kept_and_said_not_to_be_refined(afmid, stranger, place: Path) -> None:
    done = afmid("identify", "scan.npz", "-m", "mapper", "--refine", "--json", *CPU, cwd=place, **stranger)
    assert json.loads(done.stdout)["meta"].keys() == {"tips", "scan"}
    assert b"warning: not refined: " in done.stderr


def test_candidates_are_judged_with_the_size_of_their_pool(afmid, stranger, place: Path) -> None:
    arguments = ("scan.npz", "-m", "silent", "--candidates", "library.smi", "--metrics", "candidates", *CPU)
    done = afmid("evaluate", *arguments, "--json", cwd=place, **stranger)
    assert done.returncode == 0, done.stderr
    header, record = map(json.loads, done.stdout.splitlines())
    assert header["methods"]["silent"]["settings"]["candidates"]["library"] == "library.smi"
    assert record["figures"]["candidates_pool"] == 3.0
    assert record["figures"]["candidates_top_1"] in (1.0, {"right": 1.0, "of": 1.0})


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--refine", "-m", "blind"), 2, "--refine needs atoms with their elements, which blind does not give"),
        (("--set", "refine.swaps=false"), 2, "--set refine.swaps=false is for --refine, which is not given"),
        (("--refine", "--set", "refine.swap=false"), 2, "swaps"),
        (("--refine", "--set", "refine.iterations=0"), 2, "iterations"),
        (("--top", "3"), 2, "--top is the number of candidates; name them: --candidates LIB"),
        (("--candidates", "gone.npz"), 1, "gone.npz: no such file"),
    ],
)
def test_what_cannot_follow_is_refused_in_one_line(afmid, stranger, place: Path, arguments, code, words) -> None:
    method = () if "-m" in arguments else ("-m", "brightest")
    done = afmid("identify", "scan.npz", *arguments, *method, *CPU, cwd=place, **stranger)
    assert (done.returncode, done.stdout) == (code, b"")
    (line,) = done.stderr.decode().splitlines()
    assert words in line


@pytest.mark.parametrize(("name", "option"), [("candidates", "poses"), ("refine", "iterations")])
def test_what_can_be_set_of_a_stage_is_listed(afmid, name: str, option: str) -> None:
    words = afmid("plugins", name).stdout.decode()
    assert f"--{name}" in words
    (line,) = [line for line in words.splitlines() if line.startswith(f"{name}.{option} ")]
    assert "integer" in line
    records = [json.loads(line) for line in afmid("plugins", name, "--json").stdout.splitlines()]
    (stage,) = [record for record in records if record.get("stage") == name]
    assert option in [field["name"] for field in stage["options"]]
