"""Plots as geometry for a template to draw as SVG: values with their intervals over bins, and calibration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from afmid.evaluate.figures import Bin, Summary
from afmid.report.facts import number

WIDTH, HEIGHT = 330.0, 215.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 10.0, 12.0, 38.0
SERIES = 6  # colours there are
LEAST = 1e-9  # that a scale spans


@dataclass(frozen=True)
class Mark:
    """A value, the ends of its interval (all y, in the drawing), and the words shown where the pointer rests on it."""

    x: float
    y: float
    low: float
    high: float
    radius: float
    text: str


@dataclass(frozen=True)
class Series:
    """Marks of one method, and the line that joins them."""

    colour: int
    marks: list[Mark]

    @property
    def path(self) -> str:
        """As SVG writes it."""
        return "M" + "L".join(f"{mark.x:.1f} {mark.y:.1f}" for mark in self.marks)


@dataclass(frozen=True)
class Plot:
    """A diagram; ticks are (place in the drawing, words)."""

    title: str
    x_label: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    series: list[Series]
    is_calibration: bool = False


def binned(title: str, x_label: str, bins: Sequence[str], rows: Sequence[Sequence[Summary | None]]) -> Plot | None:
    """Return values over bins, with 95 % intervals; None where no bin has one.

    Args:
        rows: of each method, a summary for each bin; None where there is none.
    """
    known = [summary for row in rows for summary in row if summary is not None]
    if not known:
        return None
    top = max(value for summary in known for value in (summary.value, summary.high or 0.0))
    ticks = _ticks(min(0.0, *(s.value for s in known), *(s.low or 0.0 for s in known)), top)
    width = (WIDTH - LEFT - RIGHT) / len(bins)

    def mark(place: int, method: int, summary: Summary) -> Mark:
        low = summary.value if summary.low is None else summary.low
        high = summary.value if summary.high is None else summary.high
        x = LEFT + (place + 0.5) * width + 7 * (method - (len(rows) - 1) / 2)
        text = f"{bins[place]}: {said(summary)}"
        return Mark(x, _y(summary.value, ticks), _y(low, ticks), _y(high, ticks), 3.2, text)

    series = [
        Series(method % SERIES, [mark(i, method, summary) for i, summary in enumerate(row) if summary is not None])
        for method, row in enumerate(rows)
    ]
    x_ticks = [(LEFT + (place + 0.5) * width, name) for place, name in enumerate(bins)]
    return Plot(title, x_label, x_ticks, [(_y(t, ticks), number(t)) for t in ticks], [s for s in series if s.marks])


def calibration(title: str, rows: Sequence[Sequence[Bin]]) -> Plot | None:
    """Return how often calls of each confidence are right, of each method; None where there are no calls."""
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    most = max((b.calls for row in rows for b in row), default=0)
    if not most:
        return None

    def mark(found: Bin) -> Mark:
        y = _y(found.right, ticks)
        text = f"said {found.confidence:.2f}, right {found.right:.2f}, n = {found.calls}"
        return Mark(_x(found.confidence), y, y, y, 2 + 5 * math.sqrt(found.calls / most), text)

    series = [Series(method % SERIES, [mark(found) for found in row]) for method, row in enumerate(rows)]
    return Plot(
        title, "confidence", [(_x(t), number(t)) for t in ticks], [(_y(t, ticks), number(t)) for t in ticks],
        [s for s in series if s.marks], is_calibration=True,
    )  # fmt: skip


def said(summary: Summary) -> str:
    """Return a summary in words: its value, interval and number of scans."""
    ends = "" if summary.low is None or summary.high is None else f" [{short(summary.low)}, {short(summary.high)}]"
    return f"{short(summary.value)}{ends} n={summary.n}"


def short(value: float) -> str:
    """Return a figure in as many digits as its interval usually bears."""
    text = f"{value:.2f}" if 0.095 <= abs(value) < 100 else f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"
    return text.replace("-", "−")


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(value: float, ticks: Sequence[float]) -> float:
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 2)


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers from below `low` to above `high`, four to seven of them."""
    span = high - low if high - low > LEAST else 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(n * power for n in (1, 2, 2.5, 5, 10) if span / (n * power) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, max(last, first + 1) + 1)]
