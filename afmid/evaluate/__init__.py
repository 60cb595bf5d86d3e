"""Judge answers against the truth: figures of one answer, and their summary over many scans.

docs/reference/metrics.md defines each figure of the core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from afmid.errors import PluginError
from afmid.identification import Identification
from afmid.molecule import Molecule
from afmid.offers import Score

RESAMPLES = 2000  # of the bootstrap: the ends of a 95 % interval then rest on 50 resamples each


@dataclass(frozen=True)
class Summary:
    """A figure over many scans.

    Attributes:
        mean: over the scans that have the figure.
        n: how many those are.
        low, high: ends of the 95 % bootstrap interval of the mean; None for a single scan, which tells no spread.
    """

    mean: float
    n: int
    low: float | None
    high: float | None


def evaluate(answer: Identification, truth: Molecule, scores: Mapping[str, Score]) -> dict[str, float]:
    """Return all figures for one answer, by name; a figure that does not apply is not there.

    Args:
        answer: of a method.
        truth: the molecule under the tip, in the frame of the answer's axes.
        scores: what the metrics of these names load.

    Raises:
        PluginError: two metrics that give a figure of one name, or a figure that is not a finite number.
    """
    figures: dict[str, float] = {}
    origin: dict[str, str] = {}
    for metric, score in scores.items():
        for name, value in score(answer, truth).items():
            if name in origin:
                raise PluginError(f"the metrics {origin[name]!r} and {metric!r} both give {name!r}; leave out one")
            if not isfinite(value):
                raise PluginError(f"the metric {metric!r} gives {name} = {value}; it must be finite or left out")
            origin[name], figures[name] = metric, float(value)
    return figures


def summarise(records: Sequence[Mapping[str, float]], seed: int = 0) -> dict[str, Summary]:
    """Return each figure's mean over the scans (one record each), with the percentile bootstrap's 95 % interval.

    A figure's summary depends on its own values and the seed alone.
    """
    names = dict.fromkeys(name for record in records for name in record)
    return {name: _summary([record[name] for record in records if name in record], seed) for name in names}


def _summary(values: Sequence[float], seed: int) -> Summary:
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Summary(mean, n, None, None)
    rng = np.random.default_rng(seed)
    array = np.asarray(values)
    means = [array[rng.integers(n, size=(100, n))].mean(axis=1) for _ in range(RESAMPLES // 100)]  # bounds the memory
    low, high = np.percentile(means, [2.5, 97.5])
    return Summary(mean, n, float(low), float(high))
