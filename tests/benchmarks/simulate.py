"""afmid's engines and ppafm side by side: the same device, molecules, tips and heights, in one run."""

import argparse
import json
import sys
from dataclasses import replace
from typing import Any

import cases
import measure
import numpy as np
import report
from numpy.typing import NDArray

from afmid.simulate import Scene
from afmid.simulate.oscillation import weighted
from afmid.simulate.reference import forces

ENGINES = ("opencl", "torch", "torch:compile=true", "ppafm:5", "ppafm:10")
SAMPLE = 4  # every so many pixels are compared with the reference, which takes its time
ELSEWHERE = 1e-3  # eV/Å: a force this far off says that the probe went to the other side of an atom


def main() -> None:
    options = _arguments()
    rows: list[dict[str, Any]] = []
    opencl = ""
    for name in options.molecules:
        molecule = cases.molecule(name)
        for tip, settings in cases.TIPS.items():
            scenes = cases.scenes(molecule, settings, options.batch)
            weights = cases.weights(scenes[0], settings)
            exact = _reference(scenes[0])
            for engine in options.engines:
                some = scenes[:1] if engine.startswith("ppafm") else scenes
                result = measure.measure(measure.Job(engine, some, weights, options.seconds, options.device, SAMPLE))
                row = {"molecule": name, "atoms": len(molecule), "tip": tip, "engine": engine}
                if result:
                    row |= {"scans per call": len(some), **_figures(result), **_errors(result, exact, weights)}
                    opencl = result.opencl or opencl
                sys.stderr.write(f"{json.dumps(row)}\n")
                rows.append(row)
    report.publish(options, "simulate", rows, _markdown(rows, options.engines), opencl)


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__)
    add = parser.add_argument
    add("--engines", nargs="+", default=ENGINES, help="engines, with options as name:option=value, and ppafm:POINTS/Å")
    add("--molecules", nargs="+", default=list(cases.MOLECULES), choices=cases.MOLECULES, help="which molecules")
    add("--batch", type=int, default=16, help="scans per call of afmid's engines; ppafm makes one at a time")
    return parser.parse_args()


def _reference(scene: Scene) -> NDArray[np.float64]:
    """Return the reference's forces (X, Y, Z) on the sampled pixels."""
    return forces(replace(scene, x=scene.x[::SAMPLE], y=scene.y[::SAMPLE]))[0]


def _figures(result: measure.Result) -> dict[str, float]:
    return {
        "stacks per second": 1 / result.seconds,
        "CPU seconds per stack": result.cpu_seconds,
        "first call in seconds": result.first,
        "memory in MB": result.memory,
        "GPU memory in MB": result.gpu_memory,
    }


def _errors(result: measure.Result, exact: NDArray[np.float64], weights: NDArray[np.float64]) -> dict[str, float | int]:
    """Return the relative L2 error of Δf; of afmid's engines also without the pixels where the probe is elsewhere."""
    image = weighted(exact, weights)

    def error(where: NDArray[np.bool_]) -> float:
        return float(np.linalg.norm((result.images - image)[where]) / np.linalg.norm(image[where]))

    everywhere = np.ones(image.shape[:2], bool)
    if not result.forces.size:
        return {"error": error(everywhere)}
    same = np.asarray((np.abs(result.forces - exact) <= ELSEWHERE).all(-1))
    return {
        "error": error(same), "error of all pixels": error(everywhere),
        "pixels elsewhere": int((~same).sum()), "pixels": same.size,
    }  # fmt: skip


def _markdown(rows: list[dict[str, Any]], engines: list[str]) -> str:
    samples = {(row["molecule"], row["tip"]): f"{row['molecule']} ({row['atoms']} atoms), {row['tip']}" for row in rows}
    found = {(row["molecule"], row["tip"], row["engine"]): row for row in rows}
    peers = [engine for engine in engines if engine.startswith("ppafm")]
    pairs = [(engine, peer) for engine in engines if engine not in peers for peer in peers]
    elsewhere, compared = (sum(row.get(name, 0) for row in rows) for name in ("pixels elsewhere", "pixels"))

    def by_engine(figure: str) -> str:
        body = [[label, *(report.short(found[*sample, engine].get(figure)) for engine in engines)]
                for sample, label in samples.items()]  # fmt: skip
        return report.table(["", *engines], body)

    def ratio(sample: tuple[str, str], engine: str, peer: str) -> str:
        a, b = found[*sample, engine], found[*sample, peer]
        if "error" not in a or "error" not in b:  # one of them failed
            return "–"
        speed = a["stacks per second"] / b["stacks per second"]
        return f"{report.short(speed)} ({report.short(b['CPU seconds per stack'] / a['CPU seconds per stack'])})"

    def most(engine: str, figure: str) -> str:
        return report.short(max(row.get(figure, 0) for row in rows if row["engine"] == engine) or None)

    costs = ["memory in MB", "first call in seconds", "GPU memory in MB"]
    costs = [cost for cost in costs if any(row.get(cost) for row in rows)]
    parts = [
        "Stacks per second:",
        by_engine("stacks per second"),
        "Times as fast as ppafm, by the clock (in brackets: by the time of all CPU cores):",
        report.table(
            ["", *(f"{engine} / {peer}" for engine, peer in pairs)],
            [[label, *(ratio(sample, *pair) for pair in pairs)] for sample, label in samples.items()],
        ),
        "Relative error of Δf (L2) against the float64 reference, "
        f"without the {elsewhere} of {compared} pixels where the probe of afmid's engines went another way:",
        by_engine("error"),
        "The most of all cases:",
        report.table(["", *costs], [[engine, *(most(engine, figure) for figure in costs)] for engine in engines]),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
