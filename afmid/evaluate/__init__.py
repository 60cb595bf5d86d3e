"""Judge answers against the truth: figures of one answer, and their summary over many scans.

docs/reference/metrics.md defines each figure of the core.
"""

from collections.abc import Mapping
from math import isfinite
from numbers import Real

from afmid.errors import PluginError
from afmid.evaluate.bins import BINS as BINS
from afmid.evaluate.bins import groups_of as groups_of
from afmid.evaluate.figures import Calls as Calls
from afmid.evaluate.figures import Confusion as Confusion
from afmid.evaluate.figures import Difference as Difference
from afmid.evaluate.figures import Figure as Figure
from afmid.evaluate.figures import Samples as Samples
from afmid.evaluate.figures import Share as Share
from afmid.evaluate.figures import Summary as Summary
from afmid.evaluate.figures import confusion as confusion
from afmid.evaluate.figures import differences as differences
from afmid.evaluate.figures import reliability as reliability
from afmid.evaluate.figures import summarise as summarise
from afmid.evaluate.matching import match_atoms as match_atoms
from afmid.evaluate.metrics import map_figures as map_figures
from afmid.identification import Identification
from afmid.molecule import Molecule
from afmid.offers import Score


def evaluate(answer: Identification, truth: Molecule, scores: Mapping[str, Score]) -> dict[str, Figure]:
    """Return all figures for one answer, by name; a figure that does not apply is not there.

    Args:
        answer: of a method.
        truth: the molecule under the tip, in the frame of the answer's axes.
        scores: what the metrics of these names load.

    Raises:
        PluginError: two metrics that give a figure of one name, or a figure that is not a finite number.
    """
    figures: dict[str, Figure] = {}
    origin: dict[str, str] = {}
    for metric, score in scores.items():
        for name, figure in score(answer, truth).items():
            if name in origin:
                raise PluginError(f"the metrics {origin[name]!r} and {metric!r} both give {name!r}; leave out one")
            origin[name], figures[name] = metric, _checked(figure, f"the metric {metric!r} gives {name}")
    return figures


def _checked(figure: Figure, where: str) -> Figure:
    if isinstance(figure, Share | Samples | Confusion | Calls):  # those check themselves
        return figure
    if not isinstance(figure, Real) or not isfinite(figure):
        raise PluginError(f"{where} = {figure}; it must be finite, or left out, or of afmid.evaluate.figures")
    return float(figure)
