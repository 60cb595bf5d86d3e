import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmid.errors import PluginError
from afmid.evaluate import Summary, evaluate, summarise
from afmid.identification import Identification
from afmid.molecule import Molecule

TRUTH = Molecule([6], [[0.0, 0.0, 0.0]])
ANSWER = Identification("test", "1", np.arange(2.0), np.arange(2.0))

values = st.lists(st.floats(-100, 100), min_size=2, max_size=40)


def score(**figures):
    """Return a score that is always the same."""
    return lambda answer, truth: figures


def test_the_figures_of_all_metrics_stand_in_one_flat_record():
    assert evaluate(ANSWER, TRUTH, {"one": score(a=1.0, b=2), "two": score(c=3.0)}) == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_two_metrics_of_one_figure_are_an_error_that_names_both():
    with pytest.raises(PluginError, match="'one' and 'two' both give 'a'"):
        evaluate(ANSWER, TRUTH, {"one": score(a=1.0), "two": score(a=1.0)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_an_error(value):
    with pytest.raises(PluginError, match=f"'one' gives a = {value}"):
        evaluate(ANSWER, TRUTH, {"one": score(a=value)})


@given(values=values, seed=st.integers(0, 2**32))
def test_the_interval_is_seeded_and_lies_within_the_values(values, seed):
    summary = summarise([{"a": value} for value in values], seed)["a"]
    assert summary == summarise([{"a": value} for value in values], seed)["a"]
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.n == len(values)
    assert min(values) - 1e-9 <= summary.low <= summary.high <= max(values) + 1e-9


@given(values=values)
def test_another_figure_changes_nothing(values):
    alone = summarise([{"a": value} for value in values])
    beside = summarise([{"b": 1.0, "a": value} for value in values] + [{"b": 2.0}])
    assert beside["a"] == alone["a"]


def test_the_interval_is_the_normal_one_for_many_scans():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    summary = summarise([{"a": value} for value in values])["a"]
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert summary.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert summary.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_a_single_scan_has_no_interval():
    assert summarise([{"a": 2.0}, {"b": 1.0}]) == {"a": Summary(2.0, 1, None, None), "b": Summary(1.0, 1, None, None)}


def test_no_scans_have_no_figures():
    assert summarise([]) == {}
