"""How an engine's speed and memory go with atoms, pixels and the number of molecules per call."""

import argparse
import json
import sys
from typing import Any

import cases
import measure
import numpy as np
import report

from afmid.molecule import Molecule
from afmid.simulate import SimulationOptions

ENGINES = ("opencl", "torch")
ATOMS = (10, 30, 100, 300, 1000)
PIXELS = (64, 128, 256, 512)
MOLECULES = (1, 4, 16, 64)


def main() -> None:
    options = _arguments()
    ptcda = cases.molecule("PTCDA")
    runs = [
        *(("atoms", cases.flake(atoms), 128, 10, 4) for atoms in ATOMS),
        *(("pixels", ptcda, pixels, 10, 1) for pixels in PIXELS),
        *(("molecules per call", ptcda, 128, 10, count) for count in MOLECULES),
        ("the largest", cases.flake(1000), 512, 30, 1),
    ]
    rows: list[dict[str, Any]] = []
    opencl = ""
    for what, molecule, pixels, heights, count in runs:
        size = max(16.0, 4 + float(np.ptp(molecule.positions[:, :2], axis=0).max()))
        settings = SimulationOptions(size=size, pixels=pixels, heights=heights)
        row = {"scaling with": what, "atoms": len(molecule), "pixels": pixels, "images": heights, "molecules": count}
        for engine in options.engines:
            if result := _measure(engine, molecule, settings, count, options):
                row[engine] = {"seconds": result.seconds, "memory": result.memory, "GPU memory": result.gpu_memory}
                opencl = result.opencl or opencl
        sys.stderr.write(f"{json.dumps(row)}\n")
        rows.append(row)
    report.publish(options, "scaling", rows, _markdown(rows, options.engines), opencl)


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--engines", nargs="+", default=ENGINES, help="engines, with options as name:option=value")
    return parser.parse_args()


def _measure(
    engine: str, molecule: Molecule, settings: SimulationOptions, count: int, options: argparse.Namespace
) -> measure.Result | None:
    scenes = cases.scenes(molecule, settings, count)
    return measure.measure(measure.Job(engine, scenes, settings.weights(), options.seconds, options.device))


def _markdown(rows: list[dict[str, Any]], engines: list[str]) -> str:
    header = ["atoms", "pixels", "images", "molecules per call"]
    header += [f"{engine}: {unit}" for engine in engines for unit in ("stacks/s", "s per stack", "MB")]
    body = []
    for row in rows:
        line = [str(row["atoms"]), f"{row['pixels']}²", str(row["images"]), str(row["molecules"])]
        for engine in engines:
            figures = row.get(engine)
            seconds, memory = (figures["seconds"], figures["memory"]) if figures else (None, None)
            line += [report.short(seconds and 1 / seconds), report.short(seconds), report.short(memory)]
        body.append(line)
    return report.table(header, body)


if __name__ == "__main__":
    main()
