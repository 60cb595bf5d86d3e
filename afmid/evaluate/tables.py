"""Tables of an evaluation: figures of several methods side by side, or of two runs, in rows of words or numbers."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from afmid.errors import DataError
from afmid.evaluate.bins import BINS
from afmid.evaluate.figures import Difference, Summary, differences, summarise
from afmid.evaluate.records import Evaluation, Record

SCORES = "afmid.scores/1"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with which a spreadsheet begins one


@dataclass(frozen=True)
class Row:
    """A figure of some scans, of each method that has it.

    Attributes:
        figure: its name.
        group: name of the group of scans; "" for all of them.
        summaries: by the methods' names.
    """

    figure: str
    group: str
    summaries: dict[str, Summary]


def score_rows(evaluation: Evaluation, by: str | None = None, headline: bool = False) -> list[Row]:
    """Return the figures of all scans, or of each group of a kind, in the order in which metrics give them.

    Args:
        by: kind of group, such as "corrugation".
        headline: only the figures that a short table shows.
    """
    groups: list[dict[str, str]] = [{}] if by is None else [{by: name} for name in group_names(evaluation, by)]
    columns = [
        (next(iter(group.values()), ""), method, summarise(figures, molecules=evaluation.molecules(method, **group)))
        for group in groups
        for method in evaluation.methods
        for figures in [evaluation.figures(method, **group)]
    ]
    names = list(dict.fromkeys(name for *_, summaries in columns for name in summaries))
    wanted = [name for name in evaluation.header.headline if name in names] if headline else []
    rows = []
    for name in wanted or names:
        for group in dict.fromkeys(group for group, *_ in columns):
            found = {method: of[name] for at, method, of in columns if at == group and name in of}
            rows += [Row(name, group, found)] if found else []
    return rows


def group_names(evaluation: Evaluation, kind: str) -> list[str]:
    """Return the names of the groups of a kind: bins in their order, others as they appear."""
    names = evaluation.groups(kind)
    return sorted(names, key=BINS[kind].index) if kind in BINS and set(names) <= set(BINS[kind]) else names


def as_words(rows: Sequence[Row], methods: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows: a column for each method, its figures with interval and number of scans.

    Of groups of scans, which have rows below each other, the first alone names the figure.
    """
    grouped = any(row.group for row in rows)
    words, above = [], ""
    for row in rows:
        start = [row.figure if row.figure != above else "", *([row.group] if grouped else [])]
        words.append(start + [_words(row.summaries.get(method)) for method in methods])
        above = row.figure
    return ["figure", *(["scans"] if grouped else []), *methods], words


def as_markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; text in its cells stays text."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in lines)


def _plain(cell: str) -> str:
    """Return one line without bars, tags or links."""
    return re.sub(r"[\\|]|<(?=\S)|\](?=[(\[])", r"\\\g<0>", " ".join(cell.split()))


def as_csv(rows: Sequence[Row]) -> str:
    """Return one line for each figure, group and method; what a spreadsheet would take for a formula is quoted."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["figure", "group", "method", "value", "low", "high", "n"])
    for row in rows:
        for method, s in row.summaries.items():
            words = (f"'{text}" if text.startswith(FORMULA) else text for text in (row.figure, row.group, method))
            writer.writerow([*words, s.value, s.low, s.high, s.n])
    return text.getvalue()


def as_json(evaluation: Evaluation, rows: Sequence[Row]) -> str:
    """Return the figures as one JSON object, with what they were measured on."""
    header = evaluation.header
    content: dict[str, Any] = {
        "schema": SCORES,
        "version": header.version,
        "suite": header.suite,
        "data_sha256": evaluation.sha256,
        "scans": len(evaluation.scans),
        "methods": {name: {"version": m.version, "weights_sha256": m.weights} for name, m in header.methods.items()},
        "figures": [
            {"figure": row.figure, "group": row.group, "method": method, **vars(summary)}
            for row in rows
            for method, summary in row.summaries.items()
        ],
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def compared(a: Evaluation, b: Evaluation, headline: bool = False) -> tuple[list[str], list[list[str]], int]:
    """Return heads and rows of a table of two runs, on the scans that both have, and how many those are.

    Each method that both have is compared with itself; where each run has a single one, these two are.

    Raises:
        DataError: no method or no scan in common, or scans of one name that differ.
    """
    both = [(name, name) for name in a.methods if name in b.methods]
    pairs = both or ([(*a.methods, *b.methods)] if len(a.methods) == len(b.methods) == 1 else [])
    if not pairs:
        raise DataError(f"no method is in both: {', '.join(a.methods)}; {', '.join(b.methods)}")
    rows, scans = [], set()
    for first, second in pairs:
        mine, others = ({record.scan: record for record in run.of(name)} for run, name in ((a, first), (b, second)))
        shared = [scan for scan in mine if scan in others]
        if not shared:
            raise DataError(f"the runs have no scan of {first} in common; evaluate the same suite in both")
        _check_same((mine[scan], others[scan]) for scan in shared)
        found = differences(
            [mine[scan].figures for scan in shared],
            [others[scan].figures for scan in shared],
            molecules=[mine[scan].molecule for scan in shared],
        )
        wanted = [name for name in chain(a.header.headline, b.header.headline) if name in found] if headline else []
        label = [first if first == second else f"{first} → {second}"] * (len(pairs) > 1 or first != second)
        rows += [[*label, name, *_apart(found[name])] for name in dict.fromkeys(wanted or found)]
        scans |= set(shared)
    return [*(["method"] * (len(rows[0]) - 5)), "figure", "A", "B", "B − A", "n"], rows, len(scans)


def _check_same(pairs: Iterable[tuple[Record, Record]]) -> None:
    for one, other in pairs:
        if one.data_sha256 != other.data_sha256:
            raise DataError(
                f"{one.scan} is not the same scan in both runs: {one.data_sha256[:12]} and {other.data_sha256[:12]}"
            )


def _apart(difference: Difference) -> list[str]:
    d = difference
    ends = "" if d.low is None or d.high is None else f" [{d.low:+.3g}, {d.high:+.3g}]"
    return [f"{d.a:.3g}", f"{d.b:.3g}", f"{d.value:+.3g}{ends}", str(d.n)]


def _words(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    ends = "" if summary.low is None or summary.high is None else f" [{summary.low:.3g}, {summary.high:.3g}]"
    return f"{summary.value:.3g}{ends} n={summary.n}"
