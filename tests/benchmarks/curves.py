"""How graphgen's networks came to know what they do: figures of the validations over the scans that were seen.

Each was trained in runs one after the other, each from the best weights of the one before; a name and the folders of
its runs, such as parallel=runs/a,runs/b, put them into DATA, from which the picture and the table are made. The line is
what fits the second half of a curve best, linear in the logarithm of the scans; the table says where it meets a goal.
A line is a guess, the farther the poorer.
"""

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import report
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

DOCS = Path(__file__).parents[2] / "docs"
DATA = DOCS / "data" / "graphgen-curves.jsonl"
PICTURE = DOCS / "images" / "graphgen-curves.png"
LEAST = 3  # points that a line is put through
GOALS = {  # of figures of validation scans, by network
    "parallel": {"precision": 0.90, "element_accuracy": None, "precision_n_p": 0.80, "bond_recall": 0.95},
    "paper": {"grid_mse": None, "class_accuracy": None, "np_precision": 0.563, "bond_recall": 0.857},
    "resimulate": {"error_mean_angstrom": 0.50, "class_accuracy": None, "bond_recall": 0.857, "no_bond_rate": 0.983},
}


def main() -> None:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("runs", nargs="*", metavar="NETWORK=RUN,RUN", help="runs, to replace those of a network")
    options = parser.parse_args()
    known = [json.loads(line) for line in DATA.read_text().splitlines()] if DATA.exists() else []
    for name, _, folders in (given.partition("=") for given in options.runs):
        known = [row for row in known if row["network"] != name] + list(_chained(name, map(Path, folders.split(","))))
    if options.runs:
        DATA.write_text("".join(json.dumps(row) + "\n" for row in known))
    figure = Figure(figsize=(11, 2.4 * len(GOALS)), layout="constrained")
    rows: list[dict[str, Any]] = []
    for panels, (network, goals) in zip(figure.subplots(len(GOALS), 4), GOALS.items(), strict=True):
        for panel, (name, goal) in zip(panels, goals.items(), strict=True):
            panel.set_title(f"{network}: {name.replace('_', ' ')}", fontsize=9)
            if not (points := [(r["scans"], r[name]) for r in known if r["network"] == network and name in r]):
                continue
            scans, values = np.array(points).T
            rows.append({"network": network, "figure": name, "goal": goal} | _drawn(panel, scans, values, goal))
    figure.supxlabel("scans seen", fontsize=9)
    figure.savefig(PICTURE, dpi=80)
    lines = [
        [r["network"], r["figure"], f"{r['scans']:,}", f"{r['last']:.3f}", report.short(r["goal"]), _told(r["reached"])]
        for r in rows
    ]
    header = ["network", "figure of the validation", "scans seen", "last", "goal", "line meets it at"]
    report.publish(options, "curves", rows, report.table(header, lines), "")


def _chained(network: str, folders: Iterable[Path]) -> Iterable[dict[str, Any]]:
    """Yield the validations of runs as one; a run that others follow counts to its best, with which they began."""
    folders, seen = list(folders), 0
    for folder in folders:
        batch = json.loads((folder / "recipe.json").read_text())["recipe"]["batch"]
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        if folder != folders[-1]:
            rows = rows[: 1 + min(range(len(rows)), key=lambda k: rows[k]["loss"])]
        for row in rows:
            named = {name: row[name] for name in GOALS[network] if name in row}
            yield {"network": network, "scans": seen + batch * row["step"], **named}
        seen += batch * rows[-1]["step"]


def _drawn(panel: Any, scans: np.ndarray, values: np.ndarray, goal: float | None) -> dict[str, Any]:
    """Draw a curve, its line and its goal; return how far it came and where the line meets the goal."""
    panel.plot(scans, values, ".-", linewidth=1)
    late = slice(len(scans) // 2, None)
    reached = None
    if goal is not None and len(scans[late]) >= LEAST:
        slope, level = np.polyfit(np.log(scans[late]), values[late], 1)
        rises = goal > values[late].mean()
        reached = math.exp(min((goal - level) / slope, 40)) if (slope > 0) == rises and slope else math.inf
        ahead = np.geomspace(scans[late][0], 4 * scans[-1])
        panel.plot(ahead, level + slope * np.log(ahead), "--", linewidth=1, color="tab:gray")
        panel.axhline(goal, color="tab:green", linewidth=0.8)
    panel.set_xscale("log")
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(labelsize=7)
    panel.grid(alpha=0.3)
    return {"scans": int(scans[-1]), "last": float(values[-1]), "reached": reached}


def _told(reached: float | None) -> str:
    if reached is None:
        return "–"
    return f"{reached:.1e}" if reached < 1e12 else "never"


if __name__ == "__main__":
    main()
