"""What a metric may return, and how it is pooled over scans: one value, with the interval of a cluster bootstrap."""

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from afmid.checks import finite
from afmid.errors import DataError, PluginError

FEWEST = 5  # molecules that tell a spread
RESAMPLES = 2000  # of the bootstrap: the ends of a 95 % interval then rest on 50 resamples each
MAX_VALUES = 100_000  # in one figure of a file; a scan has some hundred atoms
EDGES = np.linspace(0, 1, 11)  # of the bins of confidence; each holds its upper edge
SURE = 0.9  # a confidence from which on a wrong call is a grave one
_LARGEST = 1e100  # of a number in a file, whole ones included
_CELLS = 2**18  # numbers held at once while resampling: what a processor keeps near
_PERCENTILES = {"median": 0.5, "90_percent": 0.9, "95_percent": 0.95, "99_percent": 0.99}


@dataclass(frozen=True)
class Share:
    """How many of how many; over scans Σ right / Σ of, so that every atom counts alike.

    Raises:
        DataError: unless 0 ≤ right ≤ of.
    """

    right: float
    of: float

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.of < np.inf:
            raise DataError(f"a share lies within 0 and 1, not {self.right} of {self.of}")


@dataclass(frozen=True, eq=False)
class Samples:
    """Values such as errors, one per atom; over scans all of them together, by their mean and percentiles.

    Attributes:
        values: float64 (n,).
        unit: as figures spell it, such as "angstrom"; "" where there is none.

    Raises:
        DataError: where the values are not a list of finite numbers, or the unit is no plain word.
    """

    values: NDArray[np.float64]
    unit: str

    def __post_init__(self) -> None:
        values = finite(self.values, "samples")
        if values.ndim != 1:
            raise DataError(f"samples need shape (n,), have {values.shape}")
        if not re.fullmatch(r"[a-z0-9_]{0,40}", self.unit):
            raise DataError(f"a unit is spelt in lower-case letters, not {self.unit!r}")
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class Confusion:
    """What was taken for what: counts of (true, said); over scans their sum.

    Raises:
        DataError: where a count is no whole number of 0 or more.
    """

    counts: Mapping[tuple[str, str], int]

    def __post_init__(self) -> None:
        for pair, count in self.counts.items():
            if len(pair) != 2 or isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise DataError(f"a confusion counts pairs (true, said), not {pair}: {count}")


@dataclass(frozen=True, eq=False)
class Calls:
    """How sure an answer was, and whether it was right; over scans all calls together.

    Attributes:
        confidence: float64 (n,), 0–1.
        right: bool (n,).

    Raises:
        DataError: where the two do not belong together, or a confidence leaves 0–1.
    """

    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]

    def __post_init__(self) -> None:
        confidence, right = finite(self.confidence, "confidences"), np.asarray(self.right)
        if confidence.ndim != 1 or confidence.shape != right.shape or (right.size and right.dtype != bool):
            raise DataError("calls need one confidence, and true or false, for each")
        if ((confidence < 0) | (confidence > 1)).any():
            raise DataError("a confidence lies in 0–1")
        object.__setattr__(self, "confidence", confidence)
        object.__setattr__(self, "right", right.astype(bool))


Figure: TypeAlias = float | Share | Samples | Confusion | Calls
Record: TypeAlias = Mapping[str, Figure]  # the figures of one scan by name


@dataclass(frozen=True)
class Summary:
    """A figure over many scans.

    Attributes:
        value: of all scans together.
        n: how many scans have the figure.
        low, high: ends of the value's 95 % interval; None for fewer than FEWEST molecules, which tell no spread.
    """

    value: float
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A figure of two runs over the same scans.

    Attributes:
        a, b: the figure in the first and in the second run, over the scans that have it in both.
        n: how many those are.
        low, high: ends of the 95 % interval of b − a; None for fewer than FEWEST molecules.
    """

    a: float
    b: float
    n: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float:
        """b − a."""
        return self.b - self.a


class Bin(NamedTuple):
    """The calls of like confidence: its mean, the share that is right, and how many they are."""

    confidence: float
    right: float
    calls: int


def summarise(records: Sequence[Record], seed: int = 0, molecules: Sequence[str] | None = None) -> dict[str, Summary]:
    """Return each figure over all scans (one record each), with the percentile bootstrap's 95 % interval.

    Molecules are resampled with all their scans and atoms, since these are not independent. Numbers and shares keep
    their names; samples become NAME_mean_UNIT, NAME_median_UNIT, NAME_90_percent_UNIT, …; calls become NAME_ece and
    others (see `_parts`); a confusion has no summary. A figure's summary depends on its own values and the seed alone.

    Args:
        molecules: which one each scan shows; by default each another.

    Raises:
        PluginError: a figure of different kinds in different scans.
    """
    summaries = {}
    for name, (which, items) in _columns(records).items():
        pool, n = _pool(items), len(items)
        ends = _ends(pool, _clusters(which, molecules), sum(map(_size, items)), seed)
        for statistic, value in pool(np.ones((1, n))).items():
            summaries[name + statistic] = Summary(float(value[0]), n, *ends[statistic])
    return summaries


def differences(
    a: Sequence[Record], b: Sequence[Record], seed: int = 0, molecules: Sequence[str] | None = None
) -> dict[str, Difference]:
    """Return each figure of two runs and the interval of b − a, the paired bootstrap's: both see the same resamples.

    Args:
        a, b: one record per scan, of the same scans in the same order.
        molecules: which one each scan shows; by default each another.

    Raises:
        DataError: runs of different lengths.
        PluginError: a figure of different kinds.
    """
    if len(a) != len(b):
        raise DataError(f"runs of {len(a)} and {len(b)} scans; compare those that both have")
    found = {}
    for name, (which, *columns) in _columns(a, b).items():
        first, second = map(_pool, columns)
        n, size = len(which), sum(_size(item) for items in columns for item in items)
        ends = _ends(_apart(first, second), _clusters(which, molecules), size, seed)
        before, after = first(np.ones((1, n))), second(np.ones((1, n)))
        for statistic in before:
            values = float(before[statistic][0]), float(after[statistic][0])
            found[name + statistic] = Difference(*values, n, *ends[statistic])
    return found


def confusion(records: Sequence[Record], name: str) -> Confusion:
    """Return the confusion of this name over all scans that have it."""
    counts: dict[tuple[str, str], int] = {}
    for record in records:
        figure = record.get(name)
        if isinstance(figure, Confusion):
            for pair, count in figure.counts.items():
                counts[pair] = counts.get(pair, 0) + count
    return Confusion(counts)


def reliability(records: Sequence[Record], name: str) -> list[Bin]:
    """Return how often calls of each confidence are right, ten bins in order; bins without a call are left out."""
    calls = [figure for record in records if isinstance(figure := record.get(name), Calls)]
    if not calls:
        return []
    confidence, right = (np.concatenate([getattr(c, field) for c in calls]) for field in ("confidence", "right"))
    bins = _bin(confidence)
    return [
        Bin(float(confidence[bins == b].mean()), float(right[bins == b].mean()), int((bins == b).sum()))
        for b in np.unique(bins)
    ]


def to_json(figure: Figure) -> Any:
    """Return a figure as what JSON can hold; `from_json` reads it back."""
    match figure:
        case Share(right, of):
            return {"right": float(right), "of": float(of)}
        case Samples():
            return {"values": figure.values.tolist(), "unit": figure.unit}
        case Confusion(counts):
            return {"confusion": [[true, said, count] for (true, said), count in counts.items()]}
        case Calls():
            return {"confidence": figure.confidence.tolist(), "right": figure.right.tolist()}
    return float(figure)


def from_json(value: Any) -> Figure:
    """Return the figure that `to_json` wrote.

    Raises:
        DataError: anything else.
    """
    match value:
        case {"right": right, "of": of, **rest} if not rest and _is_number(right) and _is_number(of):
            return Share(right, of)
        case {"values": list() as values, "unit": str() as unit, **rest} if not rest:
            return Samples(finite(_bounded(values), "values of a figure"), unit)
        case {"confidence": list() as confidence, "right": list() as right, **rest} if not rest:
            if all(isinstance(item, bool) for item in _bounded(right)):
                return Calls(finite(_bounded(confidence), "confidences"), np.array(right, bool))
        case {"confusion": list() as rows, **rest} if not rest:
            return Confusion(dict(map(_counted, _bounded(rows))))
        case _ if _is_number(value):
            return float(value)
    raise DataError(f"not a figure: {reprlib.repr(value)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _bounded(values: list[Any]) -> list[Any]:
    if len(values) > MAX_VALUES:
        raise DataError(f"a figure of {len(values)} values; afmid reads up to {MAX_VALUES}")
    return values


def _counted(row: Any) -> tuple[tuple[str, str], int]:
    match row:
        case [str() as true, str() as said, int() as count]:
            return (true, said), count
    raise DataError(f"a confusion has rows [true, said, count], not {reprlib.repr(row)}")


# From the records of scans to the columns of figures


def _parts(record: Record) -> Iterator[tuple[str, Figure]]:
    """Yield what is summarised: calls as several figures, and nothing that is empty."""
    for name, figure in record.items():
        if isinstance(figure, Confusion) or not _size(figure):
            continue
        if isinstance(figure, Calls):
            sure = figure.confidence >= SURE
            calls, high = len(sure), int(sure.sum())
            yield f"{name}_ece", figure
            yield f"{name}_mean", Share(float(figure.confidence.sum()), calls)
            yield f"{name}_right", Share(int(figure.right.sum()), calls)
            yield f"{name}_at_90", Share(high, calls)
            if high:
                yield f"{name}_wrong_at_90", Share(int((sure & ~figure.right).sum()), high)
        else:
            yield name, figure


def _size(figure: Figure) -> int:
    """Return how many numbers a figure pools; 0 where it adds nothing."""
    match figure:
        case Share():
            return int(figure.of > 0)
        case Samples():
            return len(figure.values)
        case Calls():
            return len(figure.confidence)
    return 1


def _columns(*runs: Sequence[Record]) -> dict[str, list[tuple[Any, ...]]]:
    """Return by name the numbers of the scans that have the figure in all runs, and the figures of each run."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for number, scan in enumerate(zip(*runs, strict=True)):
        first, *others = (dict(_parts(record)) for record in scan)
        for name, figure in first.items():
            if all(name in other for other in others):
                rows.setdefault(name, []).append((number, figure, *(other[name] for other in others)))
    columns = {name: list(zip(*figures, strict=True)) for name, figures in rows.items()}
    for name, (_, *found) in columns.items():
        kinds = {_kind(figure) for figures in found for figure in figures}
        if len(kinds) > 1:
            raise PluginError(f"the figure {name!r} has several kinds: {', '.join(sorted(kinds))}; give it one")
    return columns


def _kind(figure: Figure) -> str:
    match figure:
        case Samples():
            return f"samples ({figure.unit})"
        case Share() | Calls():
            return type(figure).__name__.lower()
    return "number"


# Statistics of weighted scans: weights (R, n) say how often each of n scans counts in each of R resamples

_Statistics: TypeAlias = dict[str, NDArray[np.float64]]  # by the ending of their name, (R,)
_Pool: TypeAlias = Callable[[NDArray[np.float64]], _Statistics]


def _pool(items: Sequence[Figure]) -> _Pool:
    """Return what computes the statistics of figures of one kind, none of them empty, under weights."""
    match items[0]:
        case Samples():
            return _pool_samples([item for item in items if isinstance(item, Samples)])
        case Calls():
            return _pool_calls([item for item in items if isinstance(item, Calls)])
    pairs = [(item.right, item.of) if isinstance(item, Share) else (item, 1.0) for item in items]
    right, of = np.array(pairs, np.float64).T
    return lambda weights: {"": weights @ right / (weights @ of)}


def _apart(first: _Pool, second: _Pool) -> _Pool:
    """Return what computes second − first, both under the same weights."""

    def statistics(weights: NDArray[np.float64]) -> _Statistics:
        before = first(weights)
        return {name: value - before[name] for name, value in second(weights).items()}

    return statistics


def _pool_calls(items: Sequence[Calls]) -> _Pool:
    """Pool into the expected calibration error: Σ_bins |Σ confidence − Σ right| / all (Guo et al., ICML 2017)."""
    gaps = [np.bincount(_bin(item.confidence), item.confidence - item.right, len(EDGES) - 1) for item in items]
    table, counts = np.array(gaps), np.array([len(item.right) for item in items])
    return lambda weights: {"": np.abs(weights @ table).sum(1) / (weights @ counts)}


def _pool_samples(items: Sequence[Samples]) -> _Pool:
    """Pool into mean and percentiles; these interpolate linearly between ranks, as numpy.percentile does."""
    unit = f"_{items[0].unit}" if items[0].unit else ""
    lengths = np.array([len(item.values) for item in items])
    sums = np.array([item.values.sum() for item in items])
    values = np.concatenate([item.values for item in items])
    order = np.argsort(values)
    values, scans = values[order], np.repeat(np.arange(len(items)), lengths)[order]

    def statistics(weights: NDArray[np.float64]) -> _Statistics:
        counts = weights @ lengths
        found = {f"_mean{unit}": weights @ sums / counts}
        # Resamples one behind the other: what has been counted up to each value, so that one search serves them all.
        counted = weights.astype(np.int64).take(scans, axis=1).ravel()
        np.cumsum(counted, out=counted)
        before = np.cumsum(counts) - counts

        def ranked(rank: NDArray[np.float64]) -> NDArray[np.float64]:
            places = np.searchsorted(counted, (before + rank).astype(np.int64), side="right")
            return np.asarray(values[places - len(values) * np.arange(len(weights))])

        for name, part in _PERCENTILES.items():
            rank = part * (counts - 1)
            below, above = ranked(np.floor(rank)), ranked(np.ceil(rank))
            found[f"_{name}{unit}"] = below + (rank % 1) * (above - below)
        return found

    return statistics


def _bin(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.searchsorted(EDGES[1:-1], confidence)


def _clusters(which: Sequence[int], molecules: Sequence[str] | None) -> NDArray[np.int64]:
    """Return the number of the molecule of each of these scans, as they appear."""
    if molecules is None:
        return np.arange(len(which))
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(molecules[scan], len(numbers)) for scan in which])


def _ends(
    pool: _Pool, clusters: NDArray[np.int64], size: int, seed: int
) -> dict[str, tuple[float | None, float | None]]:
    """Return the 2.5 and 97.5 percentiles of each statistic over resamples.

    Args:
        pool: the statistics of scans.
        clusters: number of each scan's molecule (n,): these are resampled.
        size: how many numbers the scans hold.
        seed: of the draws.
    """
    n = int(clusters.max()) + 1
    if n < FEWEST:
        return dict.fromkeys(pool(np.ones((1, len(clusters)))), (None, None))
    rng = np.random.default_rng(seed)
    rows = max(_CELLS // max(len(clusters), size), 1)
    steps = [*range(0, RESAMPLES, rows), RESAMPLES]
    drawn = [pool(_resampled(rng, stop - start, n).take(clusters, axis=1)) for start, stop in pairwise(steps)]
    ends: dict[str, tuple[float | None, float | None]] = {}
    for name in drawn[0]:
        low, high = np.percentile(np.concatenate([part[name] for part in drawn]), [2.5, 97.5])
        ends[name] = (float(low), float(high))
    return ends


def _resampled(rng: np.random.Generator, rows: int, n: int) -> NDArray[np.float64]:
    """Return how often each of n molecules is drawn in each of `rows` resamples of n, (rows, n)."""
    drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
