"""Learning curves: the figures of a training run's validations, drawn."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from afmid.io.atomic import atomic_path
from afmid.report.picture import plain_style

NOT_DRAWN = ("step", "seconds", "scans_per_second", "waiting")  # the axis, and what tells of the machine
ACROSS = 4  # panels in a row


def draw_curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw each figure of validations over the steps, one panel each, into a file that the suffix of `path` names.

    Args:
        rows: lines of metrics.jsonl, by their steps.
        path: of the picture.

    Raises:
        ImportError: there is no matplotlib.
    """
    from matplotlib.figure import Figure

    names = [name for name in {name: None for row in rows for name in row} if name not in NOT_DRAWN]
    across = min(ACROSS, max(1, len(names)))
    down = max(1, math.ceil(len(names) / across))
    with plain_style():
        figure = Figure(figsize=(2.9 * across, 2.2 * down), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False).flat
        for panel, name in zip(panels, names, strict=False):
            points = [(row["step"], row[name]) for row in rows if name in row]
            panel.plot(*zip(*points, strict=True), marker=".", linewidth=1.2)
            panel.set_title(name.replace("_", " "), fontsize=8)
            panel.tick_params(labelsize=7)
            panel.grid(alpha=0.3)
        for panel in panels[len(names) :]:
            panel.set_axis_off()
        figure.supxlabel("step", fontsize=8)
        with atomic_path(path) as fresh:
            figure.savefig(fresh, dpi=80, format=path.suffix[1:])
