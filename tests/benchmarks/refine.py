"""How well refinement finds atoms again: displaced ones, swapped elements, scans of another simulator; in what time."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import cases
import numpy as np
import report
import torch
from numpy.typing import NDArray

from afmid.chem import with_charges
from afmid.evaluate.refine import Refinement, RefineOptions, refine
from afmid.molecule import Molecule
from afmid.scan import ABOVE_LAST_IMAGE, Scan
from afmid.simulate import Scene, SimulationOptions, Tip, TorchSimulator
from afmid.simulate.batch import Batch
from afmid.units import N_per_m

NOISE = 0.1  # Hz
OFFSET = 0.15  # Hz, of all hidden truths
PLACED = 0.1  # Å: atoms of larger deviations along an axis do not count
DISPLACED = 0.2  # Å, rms over the atoms
HIDDEN_TIP = Tip(charge=-0.08, quadrupole=-0.05, lateral_stiffness=0.2 * N_per_m)
SIZE = 1.015  # factor of all Lennard-Jones distances in the hidden truth
SETTINGS = SimulationOptions(heights=11)
PPAFM_AMPLITUDE = (cases.PER_IMAGE - 1) * SETTINGS.step / 2  # Å: what its images, made of ten heights, span
BCB = "1-bromo-3,5-dichlorobenzene"
Rng = np.random.Generator
Truth = Callable[[Rng], tuple[Scan, Molecule]]  # makes a scan and what it shows


def by_afmid(name: str, noise: float = NOISE) -> Truth:
    """Scans by a tip whose parameters are not the usual ones."""

    def made(rng: Rng) -> tuple[Scan, Molecule]:
        (scene,) = cases.scenes(cases.molecule(name), SETTINGS, 1)
        batch = Batch.of([replace(scene, tip=HIDDEN_TIP)], torch.float64)
        batch = replace(batch, radii=SIZE * batch.radii, probe_radius=SIZE * batch.probe_radius)
        values = TorchSimulator(precision="double").batch_images(batch, SETTINGS.weights()).values
        return _scan(scene, values[0].numpy() + OFFSET, noise, rng), scene.molecule

    return made


def by_ppafm(name: str, density: int) -> Truth:
    """Scans by ppafm with its usual CO tip, made of forces on a grid of so many points per Å."""

    def made(rng: Rng) -> tuple[Scan, Molecule]:
        from ppafm_stacks import PpafmSimulator

        (scene,) = cases.scenes(cases.molecule(name), SETTINGS, 1)
        df = PpafmSimulator(density, scene, cases.PER_IMAGE)([scene])[0]
        return replace(_scan(scene, df, NOISE, rng), amplitude=PPAFM_AMPLITUDE), scene.molecule

    return made


def _scan(scene: Scene, df: NDArray[Any], noise: float, rng: Rng) -> Scan:
    """Return a scan that says nothing of the tip but that it ends in CO, and nothing of its height."""
    df, z = df[..., -SETTINGS.heights :], scene.z[-SETTINGS.heights :]
    return Scan(
        df=df + noise * rng.standard_normal(df.shape), x=scene.x, y=scene.y, z=z - z[-1],
        z_reference=ABOVE_LAST_IMAGE, amplitude=SETTINGS.amplitude, f0=SETTINGS.f0,
        cantilever_stiffness=SETTINGS.cantilever_stiffness * N_per_m,
    )  # fmt: skip


def swapped(molecule: Molecule) -> Molecule:
    """Return BCB with its bromine and one chlorine exchanged."""
    numbers = molecule.numbers.copy()
    bromine, chlorine = (int(np.flatnonzero(numbers == number)[0]) for number in (35, 17))
    numbers[[bromine, chlorine]] = numbers[[chlorine, bromine]]
    return with_charges(replace(molecule, numbers=numbers))


CASES: dict[str, tuple[Truth, Callable[[Molecule], Molecule], float]] = {  # and by how much atoms are displaced, Å
    "PTCDA": (by_afmid("PTCDA"), lambda m: m, DISPLACED),
    "megestrol acetate": (by_afmid("megestrol acetate"), lambda m: m, DISPLACED),
    "BCB": (by_afmid(BCB), lambda m: m, DISPLACED),
    "BCB, swapped": (by_afmid(BCB), swapped, 0.0),
    "BCB, swapped and displaced": (by_afmid(BCB), swapped, DISPLACED),
    "BCB, swapped and displaced, 0.5 Hz": (by_afmid(BCB, 0.5), swapped, DISPLACED),
    "PTCDA, ppafm:10": (by_ppafm("PTCDA", 10), lambda m: m, DISPLACED),
    "PTCDA, ppafm:5": (by_ppafm("PTCDA", 5), lambda m: m, DISPLACED),
    "BCB, ppafm:5": (by_ppafm(BCB, 5), lambda m: m, DISPLACED),
    "BCB, ppafm:5, swapped and displaced": (by_ppafm(BCB, 5), swapped, DISPLACED),
}  # fmt: skip


def main() -> None:
    options = _arguments()
    torch.set_num_threads(options.threads)
    settings = RefineOptions(pixels=options.pixels)
    rows: list[dict[str, Any]] = []
    for name in options.cases:
        for seed in range(options.seeds):
            try:
                row = _run(*CASES[name], np.random.default_rng(seed), settings)
            except ImportError as error:
                sys.stderr.write(f"{name} is left out: {error}\n")
                break
            rows.append({"case": name, "seed": seed, **row})
            sys.stderr.write(f"{json.dumps(rows[-1])}\n")
    about = f"{options.threads} threads, {options.pixels} pixels, {options.seeds} seeds"
    report.publish(options, "refine", rows, f"- Run: {about}\n\n{_markdown(rows)}", "")


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, timed=False)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES, help="which")
    parser.add_argument("--seeds", type=int, default=3, help="noises and displacements of each case")
    parser.add_argument("--pixels", type=int, default=RefineOptions().pixels, help="most that are used")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    return parser.parse_args()


def _run(
    made: Truth, change: Callable[[Molecule], Molecule], displaced: float, rng: Rng, settings: RefineOptions
) -> Any:
    scan, truth = made(rng)
    start = change(truth)
    step = rng.standard_normal(truth.positions.shape) * displaced / np.sqrt(3)
    start = replace(start, positions=start.positions + step)
    clocks = time.perf_counter(), time.process_time()
    found = refine(scan, start, settings)
    wall, cpu = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
    return {**_figures(found, truth, start), "seconds": wall, "CPU seconds": cpu}


def _figures(found: Refinement, truth: Molecule, start: Molecule) -> dict[str, Any]:
    seen = found.sigma.max(1) < PLACED
    before, after = (_errors(molecule, truth, seen) for molecule in (start, found.molecule))
    wrong = start.numbers != truth.numbers
    certain = [t.probability for t in found.swaps if t.adopted]
    return {
        "placed": int(seen.sum()), "supported": int(found.supported.sum()), "atoms": len(truth),
        "before": _rms(before), "after": _rms(after), "xy": _rms(after[:, :2]), "z": _rms(after[:, 2:]),
        "by sigma": float(np.sqrt(np.mean((after / found.sigma[seen]) ** 2))),
        "elements right": bool((found.molecule.numbers == truth.numbers).all()),
        "probability": min(certain) if wrong.any() and certain else None, "tried": len(found.swaps),
        "fit": found.fit_after, "left in Hz": found.rms_after, "iterations": found.iterations,
        "tip": {name: value for name, (value, _) in found.tip.items()},
    }  # fmt: skip


def _errors(molecule: Molecule, truth: Molecule, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how far the atoms that are seen lie from the truth (n, 3), Å, their mean height taken off."""
    left = (molecule.positions - truth.positions)[seen]
    return np.asarray(left - [0, 0, left[:, 2].mean()])


def _rms(left: NDArray[np.float64]) -> float:
    return float(np.sqrt((left**2).sum(-1).mean()))


def _markdown(rows: list[dict[str, Any]]) -> str:
    body = []
    for case in dict.fromkeys(row["case"] for row in rows):
        some = [row for row in rows if row["case"] == case]
        worst = partial(_worst, some)
        right = f"{sum(row['elements right'] for row in some)} of {len(some)}"
        placed = f"{min(row['placed'] for row in some)} of {some[0]['atoms']}"
        sure = [row["probability"] for row in some if row["probability"] is not None]
        body.append([
            case, placed, worst("before"), worst("after"), worst("xy"), worst("z"), worst("by sigma"), right,
            f"{min(sure):.3f}" if sure else "–", worst("seconds"), worst("CPU seconds"),
        ])  # fmt: skip
    header = ["", "atoms placed", "before, Å", "after, Å", "lateral", "height", "after / σ", "elements right",
              "least probability", "seconds", "CPU seconds"]  # fmt: skip
    return report.table(header, body)


def _worst(rows: list[dict[str, Any]], figure: str) -> str:
    return f"{max(row[figure] for row in rows):.2g}"


if __name__ == "__main__":
    main()
