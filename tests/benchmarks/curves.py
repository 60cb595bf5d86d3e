"""How graphgen's networks came to know what they do: figures of the validations over the scans that were seen.

Each was trained in runs one after the other, each from the best weights of the one before. A network's name and the
folders of its runs, such as parallel=runs/a,runs/b, put their figures into DATA, from which the table and with --page
the picture are made; parallel+=runs/c adds runs that went on from the last. The line is what fits the second half of a
curve best, linear in the logarithm of the scans; the table says where it meets a goal. A line is a guess, the farther
the poorer.
"""

import argparse
import json
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
LOW = ("grid_mse", "error_mean_angstrom")  # of these less is better
GOALS = {  # of figures of validation scans: what we mean to reach with ours, the published ones for the others
    "parallel": {"precision": 0.90, "element_accuracy": None, "precision_n_p": 0.80, "bond_recall": 0.95},
    "paper": {"grid_mse": None, "class_accuracy": None, "np_precision": 0.563, "bond_recall": None},
    "resimulate": {"error_mean_angstrom": 0.50, "class_accuracy": None, "bond_recall": 0.857, "no_bond_rate": 0.983},
}


def main() -> None:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    meaning = "runs, to replace those of a network, or with + to follow them"
    parser.add_argument("runs", nargs="*", metavar="NETWORK[+]=RUN,RUN", help=meaning)
    options = parser.parse_args()
    known = [json.loads(line) for line in DATA.read_text().splitlines()] if DATA.exists() else []
    for name, _, folders in (given.partition("=") for given in options.runs):
        network = name.removesuffix("+")
        known = [row for row in known if row["network"] != network or name.endswith("+")]
        seen = max((row["scans"] for row in known if row["network"] == network), default=0)
        known += _chained(network, map(Path, folders.split(",")), seen)
    if options.runs:
        DATA.write_text("".join(json.dumps(row) + "\n" for row in known))
    figure = Figure(figsize=(11, 2.4 * len(GOALS)), layout="constrained")
    rows: list[dict[str, Any]] = []
    for panels, (network, goals) in zip(figure.subplots(len(GOALS), 4), GOALS.items(), strict=True):
        for panel, (name, goal) in zip(panels, goals.items(), strict=True):
            panel.set_title(f"{network}: {name.replace('_', ' ')}", fontsize=9)
            if points := [(row["scans"], row[name]) for row in known if row["network"] == network and name in row]:
                scans, values = np.array(points).T
                line = fitted(scans, values)
                _draw(panel, scans, values, line, goal)
                told = reached(scans, values, line, goal, name in LOW)
                last = {"scans": int(scans[-1]), "last": float(values[-1])}
                rows.append({"network": network, "figure": name, "goal": goal, **last, "reached": told})
            else:
                panel.set_axis_off()
    figure.supxlabel("scans seen", fontsize=9)
    if options.page:
        figure.savefig(PICTURE, dpi=80)
    lines = [
        [row["network"], row["figure"], f"{row['scans']:,}", f"{row['last']:.3f}", _number(row["goal"]), row["reached"]]
        for row in rows
    ]
    header = ["network", "figure of the validation", "scans seen", "last", "goal", "line meets it at"]
    report.publish(options, "curves", rows, report.table(header, lines), "")


def _chained(network: str, folders: Iterable[Path], seen: int = 0) -> Iterable[dict[str, Any]]:
    """Yield the validations of runs as one; a run that others follow counts to its best, with which they began.

    Args:
        network: whose figures are taken.
        folders: of the runs.
        seen: scans before the first.
    """
    folders = list(folders)
    for folder in folders:
        batch = json.loads((folder / "recipe.json").read_text())["recipe"]["batch"]
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        if folder != folders[-1]:
            rows = rows[: 1 + min(range(len(rows)), key=lambda k: rows[k]["loss"])]
        for row in rows:
            named = {name: row[name] for name in GOALS[network] if name in row}
            yield {"network": network, "scans": seen + batch * row["step"], **named}
        seen += batch * rows[-1]["step"]


def fitted(scans: np.ndarray, values: np.ndarray) -> tuple[float, float] | None:
    """Return slope and level of the line through the second half of a curve; None where there are too few points."""
    late = slice(len(scans) // 2, None)
    if len(scans[late]) < LEAST:
        return None
    slope, level = np.polyfit(np.log(scans[late]), values[late], 1)
    return float(slope), float(level)


def reached(
    scans: np.ndarray, values: np.ndarray, line: tuple[float, float] | None, goal: float | None, low: bool
) -> str:
    """Return in words after how many scans a line meets the goal; `low` says that less is better."""
    if goal is None:
        return "–"
    if (values[-1] <= goal) if low else (values[-1] >= goal):
        return "met"
    if line is None or line[0] == 0 or (line[0] < 0) != low:
        return "never"
    scans_at = np.exp(min((goal - line[1]) / line[0], 60.0))
    return f"{max(scans_at, scans[-1]):.0e}"


def _draw(
    panel: Any, scans: np.ndarray, values: np.ndarray, line: tuple[float, float] | None, goal: float | None
) -> None:
    panel.plot(scans, values, ".-", linewidth=1)
    if goal is not None:
        panel.axhline(goal, color="tab:green", linewidth=0.8)
        if line is not None:
            ahead = np.geomspace(scans[len(scans) // 2], 4 * scans[-1])
            guess = np.minimum(line[0] * np.log(ahead) + line[1], max(1.0, values.max()))  # no share exceeds 1
            panel.plot(ahead, guess, "--", linewidth=1, color="tab:gray")
    panel.set_xscale("log")
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(labelsize=7)
    panel.grid(alpha=0.3)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
