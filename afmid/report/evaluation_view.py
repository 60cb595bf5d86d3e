"""What the page of an evaluation shows: tables, calibration, confusion, depth, groups, the worst cases."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from afmid.evaluate.bins import BINS
from afmid.evaluate.figures import Calls, Confusion, Figure, Share, Summary, confusion, reliability, summarise
from afmid.evaluate.metrics import DEPTHS
from afmid.evaluate.records import Evaluation, Record
from afmid.molecule import SYMBOLS
from afmid.report import overlay
from afmid.report.document import data_uri, document
from afmid.report.facts import Fact, facts, number
from afmid.report.plots import SERIES, Plot, binned, calibration, said, short
from afmid.report.raster import Window
from afmid.text import line

MOST_FIGURES = 400  # in the table of all
IN_GROUPS = 6  # figures shown for each group
WORST, MOST_METHODS = 12, 6  # cases of a method, and methods that cases are shown of
MOST_LEFT_OUT = 50
MOST_IMAGE = 40_000  # bytes
MARGIN = 2.0  # Å about the atoms of a thumbnail
UNITS = {
    "_volt2_per_angstrom2": "(V/Å)²", "_angstrom": "Å", "_angstrom2": "Å²", "_hz": "Hz", "_seconds": "s",
    "_percent": "%",
}  # fmt: skip
PRECISION, RECALL = "atoms_visible_precision_within_35_pm", "atoms_visible_recall_within_35_pm"


@dataclass(frozen=True)
class _Whisker:
    """An interval on a line from 0 to 100."""

    colour: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Row:
    """A figure, its words for each method, and its intervals where it lies within 0 and 1."""

    name: str
    unit: str
    cells: list[str]
    whiskers: list[_Whisker]


@dataclass(frozen=True)
class _Cell:
    """Of a confusion matrix; the shade is its share of the row."""

    count: int
    shade: float


@dataclass(frozen=True)
class _Matrix:
    """What was taken for what, of one method; aside: where a matrix of the visible part says it better."""

    title: str
    is_aside: bool
    method: str
    said: list[str]
    rows: list[tuple[str, list[_Cell]]]


@dataclass(frozen=True)
class _Table:
    """Headline figures of one method by the groups of a kind."""

    method: str
    heads: list[str]
    rows: list[tuple[str, int, list[str]]]


@dataclass(frozen=True)
class _Case:
    """A scan as a thumbnail, with the atoms found and the true ones."""

    scan: str
    molecule: str
    figures: str
    src: str
    window: Window
    box: str
    crosses: list[overlay.Cross]
    rings: list[overlay.Ring]


def evaluation_page(evaluation: Evaluation) -> str:
    """Return the page of an evaluation. It has no scripts."""
    methods = evaluation.methods
    summaries = [_summaries(evaluation, method) for method in methods]
    names = list(dict.fromkeys(name for summary in summaries for name in summary))
    headline = [name for name in evaluation.header.headline if name in names] or names[:IN_GROUPS]
    return document(
        "evaluation",
        [],
        None,
        title=line(f"{evaluation.header.suite} · evaluation · afmid", 100),
        suite=line(evaluation.header.suite, 120),
        methods=[(line(name, 40), index % SERIES) for index, name in enumerate(methods)],
        cards=list(_cards(evaluation)),
        headline=_rows(headline, summaries),
        everything=_rows(names[:MOST_FIGURES], summaries),
        calibrations=list(_calibrations(evaluation)),
        matrices=list(_matrices(evaluation)),
        depths=list(_depths(summaries)),
        by_bins={kind: plots for kind in BINS if (plots := list(_by_bins(evaluation, kind, headline)))},
        by_groups={kind: list(_tables(evaluation, kind, headline)) for kind in _kinds(evaluation)},
        worst=[(line(method, 40), cases) for method in methods[:MOST_METHODS] if (cases := _worst(evaluation, method))],
        left_out=[(line(case.scan, 80), line(case.method, 40), line(case.error)) for case in evaluation.left_out],
        most_left_out=MOST_LEFT_OUT,
        provenance=list(_provenance(evaluation)),
        by_method=[(line(name, 40), list(_of_method(evaluation, name))) for name in methods],
    )


def _cards(evaluation: Evaluation) -> Iterator[tuple[str, str, str]]:
    yield "Scans", number(len(evaluation.scans)), f"data {evaluation.sha256[:12]}"
    yield "Methods", number(len(evaluation.methods)), line(", ".join(evaluation.methods), 80)
    atoms = {record.scan: len(record.truth) for record in evaluation.records}
    if atoms:
        yield "True atoms", number(sum(atoms.values())), f"{min(atoms.values())} to {max(atoms.values())} a molecule"
        seconds = sum(record.seconds for record in evaluation.records) / len(evaluation.records)
        yield "Time", f"{short(seconds)} s", "for an answer, in the mean"
    if evaluation.left_out:
        yield "Left out", number(len(evaluation.left_out)), "scans that could not be judged"


def _rows(names: Sequence[str], summaries: Sequence[Mapping[str, Summary]]) -> list[_Row]:
    return [_row(name, [summary.get(name) for summary in summaries]) for name in names]


def _row(name: str, found: Sequence[Summary | None]) -> _Row:
    known = [(i, summary) for i, summary in enumerate(found) if summary is not None]
    words, unit = _label(name)
    shares = [
        _Whisker(i % SERIES, *(round(100 * v, 1) for v in (s.value, s.low, s.high)))
        for i, s in known
        if s.low is not None and s.high is not None and not unit and 0 <= s.low <= s.high <= 1
    ]
    cells = ["–" if summary is None else said(summary) for summary in found]
    return _Row(words, unit, cells, shares if len(shares) == len(known) else [])


def _label(name: str) -> tuple[str, str]:
    """Return a figure's name in words, and its unit."""
    for end, unit in UNITS.items():
        if name.endswith(end):
            return line(name.removesuffix(end).replace("_", " "), 80), unit
    return line(name.replace("_", " "), 80), ""


def _titled(name: str) -> str:
    words, unit = _label(name)
    return f"{words} ({unit})" if unit else words


def _named(evaluation: Evaluation, kind: type) -> list[str]:
    """Return the names of the figures of a kind."""
    figures = (item for record in evaluation.records for item in record.figures.items())
    return list(dict.fromkeys(name for name, figure in figures if isinstance(figure, kind)))


def _calibrations(evaluation: Evaluation) -> Iterator[Plot]:
    for name in _named(evaluation, Calls):
        rows = [reliability(evaluation.figures(method), name) for method in evaluation.methods]
        if plot := calibration(_titled(name), rows):
            yield plot


def _matrices(evaluation: Evaluation) -> Iterator[_Matrix]:
    names = _named(evaluation, Confusion)
    for name in sorted(names, reverse=True):  # elements before bonds
        for method in evaluation.methods:
            counts = confusion(evaluation.figures(method), name).counts
            if counts and sum(counts.values()):
                is_aside = "_whole_" in name and name.replace("_whole_", "_visible_") in names
                yield _matrix(_titled(name), is_aside, line(method, 40), counts)


def _matrix(title: str, is_aside: bool, method: str, counts: Mapping[tuple[str, str], int]) -> _Matrix:
    true, said_ = (sorted({pair[side] for pair in counts}, key=_order)[:20] for side in (0, 1))
    rows = []
    for name in true:
        row = [counts.get((name, other), 0) for other in said_]
        rows.append((line(name, 12), [_Cell(count, round(count / max(sum(row), 1), 3)) for count in row]))
    return _Matrix(title, is_aside, method, [line(name, 12) for name in said_], rows)


def _order(name: str) -> tuple[int, str]:
    """Return by what names of a confusion are sorted: elements as in the periodic table, then others, "none" last."""
    first = name.split(",")[0]
    return (SYMBOLS.index(first) if first in SYMBOLS else len(SYMBOLS) + (name == "none"), name)


def _depths(summaries: Sequence[Mapping[str, Summary]]) -> Iterator[Plot]:
    bins = [name.replace("_to_", "–").replace("over_", "> ").replace("_pm", "") for name in DEPTHS]
    for what in ("precision", "recall", "error_xy_median_angstrom", "error_z_median_angstrom"):
        rows = [[summary.get(f"depth_{name}_{what}") for name in DEPTHS] for summary in summaries]
        if plot := binned(_titled(what), "depth below the topmost atom (pm)", bins, rows):
            yield plot


def _by_bins(evaluation: Evaluation, kind: str, headline: Sequence[str]) -> Iterator[Plot]:
    """Yield the first headline figures over the bins of a kind."""
    present = evaluation.groups(kind)
    bins = [name for name in BINS[kind] if name in present]
    if len(bins) < 2:
        return
    shown = headline[:IN_GROUPS]
    found = [
        [_summaries(evaluation, method, shown, **{kind: name}) for name in bins]
        for method in evaluation.methods
    ]
    for name in shown:
        rows = [[summaries.get(name) for summaries in row] for row in found]
        if plot := binned(_titled(name), kind, bins, rows):
            yield plot


def _summaries(
    evaluation: Evaluation, method: str, shown: Sequence[str] | None = None, **groups: str
) -> dict[str, Summary]:
    """Return the summaries of a method's figures, or of those that are shown, over the scans of some groups."""
    figures = evaluation.figures(method, **groups)
    return summarise(
        figures if shown is None else _only(figures, shown), molecules=evaluation.molecules(method, **groups)
    )


def _kinds(evaluation: Evaluation) -> list[str]:
    """Return the kinds of groups that have no plots and tell scans apart, such as perturbations."""
    kinds = dict.fromkeys(kind for record in evaluation.records for kind in record.groups)
    return [kind for kind in kinds if kind not in BINS and len(evaluation.groups(kind)) > 1]


def _tables(evaluation: Evaluation, kind: str, headline: Sequence[str]) -> Iterator[_Table]:
    shown = headline[:IN_GROUPS]
    for method in evaluation.methods:
        rows = []
        for name in evaluation.groups(kind):
            found = _summaries(evaluation, method, shown, **{kind: name})
            cells = [_cell(found.get(figure)) for figure in shown]
            rows.append((line(name, 60), len(evaluation.of(method, **{kind: name})), cells))
        yield _Table(line(method, 40), [_titled(name) for name in shown], rows)


def _cell(summary: Summary | None) -> str:
    return "–" if summary is None else said(summary).rpartition(" n=")[0]


def _only(records: Sequence[Mapping[str, Figure]], names: Sequence[str]) -> list[dict[str, Figure]]:
    """Return of each record the figures that these names in a summary come from: resampling all takes its time."""
    return [
        {name: figure for name, figure in record.items() if any(wanted.startswith(name) for wanted in names)}
        for record in records
    ]


def _worst(evaluation: Evaluation, method: str) -> list[_Case]:
    """Return the scans that a method is worst at, by the harmonic mean of the atoms' precision and recall."""
    judged = [(score, record) for record in evaluation.of(method) if (score := _score(record)) is not None]
    judged.sort(key=lambda pair: (pair[0], pair[1].scan))
    return [_case(record, score) for score, record in judged[:WORST]]


def _score(record: Record) -> float | None:
    precision, recall = (record.figures.get(name) for name in (PRECISION, RECALL))
    if not (isinstance(precision, Share) and isinstance(recall, Share)):
        return None
    missed, wrong = recall.of - recall.right, precision.of - precision.right
    return 2 * recall.right / max(2 * recall.right + missed + wrong, 1e-9)


def _case(record: Record, score: float) -> _Case:
    left, right, bottom, top = record.window
    window = Window(left, max(right, left + 0.1), bottom, max(top, bottom + 0.1))
    return _Case(
        box=" ".join(map(str, _box(record, window))),
        scan=line(record.scan, 60),
        molecule=line(record.truth.name or record.truth.smiles, 60),
        figures=f"{_right(record)}; F {score:.2f}",
        src=data_uri(record.image) if len(record.image) <= MOST_IMAGE and record.image else "",
        window=window,
        crosses=overlay.crosses(window, record.truth),
        rings=overlay.rings(window, record.atoms),
    )


def _box(record: Record, window: Window) -> tuple[float, float, float, float]:
    """Return what is shown of a window: a square about the true atoms and those found, as SVG's viewBox."""
    places = [(x, y) for x, y, _ in record.truth.positions.tolist()] + [(atom.x, atom.y) for atom in record.atoms]
    points = np.array([window.place(x, y) for x, y in places])
    inside = points[((points >= 0) & (points <= (window.width, window.height))).all(1)]
    if not len(inside):
        return (0.0, 0.0, window.width, window.height)
    low, high = inside.min(0), inside.max(0)
    side = float((high - low).max()) + 2 * MARGIN
    x, y = ((low + high) / 2 - side / 2).round(3).tolist()
    return (x, y, round(side, 3), round(side, 3))


def _right(record: Record) -> str:
    recall, precision = record.figures[RECALL], record.figures[PRECISION]
    if isinstance(recall, Share) and isinstance(precision, Share):
        return f"{recall.right:g} of {recall.of:g} visible atoms, {precision.of - precision.right:g} wrong"
    return ""


def _provenance(evaluation: Evaluation) -> Iterator[Fact]:
    header = evaluation.header
    yield Fact("suite", line(header.suite))
    yield Fact("data (SHA-256)", evaluation.sha256)
    yield Fact("seed", number(header.seed))
    yield Fact("afmid", line(header.version, 40))


def _of_method(evaluation: Evaluation, name: str) -> Iterator[Fact]:
    judged = evaluation.header.methods[name]
    yield Fact("version", line(judged.version, 40))
    yield Fact("weights (SHA-256)", line(judged.weights) or "none used")
    yield from facts(judged.settings)
