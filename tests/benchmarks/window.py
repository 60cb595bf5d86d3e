"""What the window does to the descriptor's maps: molecules moved by 2 Å in it, and seen in a wider one.

Molecules of the suite sim-open that leave room for it are simulated once over a wide window; each view is a part of
that scan. Errors are means over scans, scored in the middle 16 Å of each view.
"""

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import ours
import report

from afmid import Scan
from afmid.data.scenes import draw_scenes
from afmid.evaluate.suites import RANGES, open_molecules
from afmid.simulate.scan_simulation import SimulationOptions, load_engine
from afmid_descriptor.metrics import true_maps

SIZE, WIDE, MOVED, PIXEL = 16, 24, 2, 0.125  # Å
SHARES = 11 / 16, 12 / 16  # of `MOVED` along x and y: pixels of which no network makes a round number
ROOM = 1.0  # Å: how far from the edge atoms keep when they are moved
VIEWS = {"centred": (SIZE, 0), f"moved by {MOVED} Å": (SIZE, MOVED), f"{WIDE} Å wide": (WIDE, 0)}


def main() -> None:
    options = _arguments()
    identifier, method = ours.method(options.ours)
    rows: list[dict[str, Any]] = []
    for number, scan in enumerate(_scans(options.scans)):
        for view, (size, moved) in VIEWS.items():
            seen = part(scan, size, moved)
            answer = method.identify([replace(seen, truth=None)], identifier.options())
            inner = _middle(seen.x), _middle(seen.y)
            names = [name for name in answer.maps if name != "field" or np.any(scan.truth.charges)]
            truths = true_maps(scan.truth, seen.x[inner[0]], seen.y[inner[1]], names)
            for name, truth in zip(names, truths, strict=True):
                error = float(np.square(answer.maps[name].values[np.ix_(*inner)] - truth).mean())
                rows.append({"scan": number, "view": view, "map": name, "mse": error})
    report.publish(options, "window", rows, _table(rows), "")


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scans", type=int, default=100, help="how many")
    ours.add_option(parser)
    return parser.parse_args()


def _scans(count: int) -> list[Scan]:
    """Return scans over `WIDE` + 2 `MOVED` Å of molecules that stay in a `SIZE` Å window when they are moved."""
    pack = open_molecules()
    size = WIDE + 2 * MOVED
    options = SimulationOptions(size=size, pixels=round(size / PIXEL))
    simulator = load_engine("auto", "cpu")[1]
    rng, scans = np.random.default_rng(0), []
    ranges = RANGES.model_copy(update={"offset": 0.0, "flat": 0.5})
    for conformer in rng.permutation(len(pack)):
        scene = draw_scenes(pack, np.array([conformer]), options, ranges, rng)[0]
        if np.ptp(scene.molecule.positions[:, :2], axis=0).max() > SIZE - 2 * MOVED - 2 * ROOM:
            continue
        images, unsettled = simulator.images([scene], options.weights())
        df = images[0, ..., -options.heights :].cpu().numpy()
        scans.append(options.scan(scene, df, int(unsettled.sum())))
        if len(scans) == count:
            return scans
    raise SystemExit(f"sim-open holds {len(scans)} molecules of that size, not {count}")


def part(scan: Scan, size: float, moved: float) -> Scan:
    """Return the middle of a scan, `size` Å wide, in which the molecule lies `moved` Å to the side."""
    axes = zip((scan.x, scan.y), SHARES, strict=True)
    i, j = (np.flatnonzero(np.abs(axis - (axis[0] + axis[-1]) / 2 - moved * share) < size / 2) for axis, share in axes)
    return replace(scan, df=scan.df[np.ix_(i, j)], x=scan.x[i], y=scan.y[j])


def _middle(axis: np.ndarray) -> np.ndarray:
    """Return which pixels lie in the middle `SIZE` Å of an axis."""
    return np.flatnonzero(np.abs(axis - (axis[0] + axis[-1]) / 2) < SIZE / 2)


def _table(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(row["map"] for row in rows))
    scans = 1 + max(row["scan"] for row in rows)

    def mean(view: str, name: str) -> float:
        return float(np.mean([row["mse"] for row in rows if row["view"] == view and row["map"] == name]))

    base = {name: mean("centred", name) for name in names}
    lines = [[view, *(f"{mean(view, name):.2e} ({mean(view, name) / base[name] - 1:+.1%})" for name in names)]
             for view in VIEWS]  # fmt: skip
    return report.table([f"{scans} scans", *names], lines)


if __name__ == "__main__":
    main()
