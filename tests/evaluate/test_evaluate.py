import numpy as np
import pytest

from afmid.errors import PluginError
from afmid.evaluate import Share, evaluate
from afmid.identification import Identification
from afmid.molecule import Molecule

TRUTH = Molecule([6], [[0.0, 0.0, 0.0]])
ANSWER = Identification("test", "1", np.arange(2.0), np.arange(2.0))


def score(**figures):
    """Return a score that is always the same."""
    return lambda answer, truth: figures


def test_the_figures_of_all_metrics_stand_in_one_flat_record():
    scores = {"one": score(a=1.0, b=Share(1, 2)), "two": score(c=np.float32(3))}
    assert evaluate(ANSWER, TRUTH, scores) == {"a": 1.0, "b": Share(1, 2), "c": 3.0}


def test_two_metrics_of_one_figure_are_an_error_that_names_both():
    with pytest.raises(PluginError, match="'one' and 'two' both give 'a'"):
        evaluate(ANSWER, TRUTH, {"one": score(a=1.0), "two": score(a=Share(1, 1))})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_not_finite_is_an_error(value):
    with pytest.raises(PluginError, match=f"'one' gives a = {value}"):
        evaluate(ANSWER, TRUTH, {"one": score(a=value)})


@pytest.mark.parametrize("value", ["much", None, [1.0], np.ones(2)])
def test_a_figure_of_no_known_kind_is_an_error(value):
    with pytest.raises(PluginError, match="'one' gives a = "):
        evaluate(ANSWER, TRUTH, {"one": score(a=value)})
