import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.calibration import calibration_curve

from afmid.errors import DataError, PluginError
from afmid.evaluate import figures as module
from afmid.evaluate.figures import (
    Bin,
    Calls,
    Confusion,
    Difference,
    Samples,
    Share,
    Summary,
    confusion,
    differences,
    from_json,
    reliability,
    summarise,
    to_json,
)

numbers = st.floats(-100, 100, width=32)
lists = st.lists(numbers, min_size=5, max_size=40)
shares = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda pair: Share(min(pair), max(pair)))
samples = st.integers(0, 8).flatmap(lambda n: arrays(float, n, elements=numbers)).map(lambda v: Samples(v, "angstrom"))
confusions = st.dictionaries(st.tuples(st.text(), st.text()), st.integers(0, 9)).map(Confusion)
# in hundredths, so that the edges of the bins are among them
calls = st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=12).map(
    lambda pairs: Calls(np.array([c / 100 for c, _ in pairs]), np.array([r for _, r in pairs], bool))
)


def value(summaries, name):
    return summaries[name].value


# values


@given(items=st.lists(shares, min_size=1, max_size=9))
def test_shares_are_pooled_so_that_each_atom_counts_alike(items):
    right, of = sum(item.right for item in items), sum(item.of for item in items)
    found = summarise([{"a": item} for item in items])
    assert value(found, "a") == pytest.approx(right / of) if of else found == {}


@given(items=st.lists(samples, min_size=1, max_size=9))
def test_the_statistics_of_samples_are_those_of_all_of_them_together(items):
    together = np.concatenate([item.values for item in items])
    found = {name: s.value for name, s in summarise([{"a": item} for item in items]).items()}
    if not len(together):
        assert found == {}
        return
    percentiles = stats.mstats.mquantiles(together, [0.5, 0.9, 0.95, 0.99], alphap=1, betap=1)
    names = [f"a_{part}_angstrom" for part in ("mean", "median", "90_percent", "95_percent", "99_percent")]
    assert found == pytest.approx(dict(zip(names, [together.mean(), *percentiles], strict=True)), abs=1e-9)


def test_samples_without_a_unit_name_none():
    assert set(summarise([{"a": Samples(np.ones(1), "")}])) >= {"a_mean", "a_99_percent"}


@given(items=st.lists(calls, min_size=1, max_size=9))
def test_bins_of_confidence_agree_with_scikit_learn(items):
    records = [{"a": item} for item in items]
    confidence, right = (np.concatenate([getattr(item, part) for item in items]) for part in ("confidence", "right"))
    bins = reliability(records, "a")
    if not len(right):
        assert (bins, summarise(records)) == ([], {})
        return
    shares_right, means = calibration_curve(right, confidence, n_bins=10)
    np.testing.assert_allclose([(b.confidence, b.right) for b in bins], np.stack([means, shares_right], axis=1))
    ece = sum(b.calls * abs(b.confidence - b.right) for b in bins) / len(right)
    assert value(summarise(records), "a_ece") == pytest.approx(ece)


def test_the_figures_of_calls_are_those_worked_out_by_hand():
    records = [{"a": Calls([0.95, 0.9, 0.3], [True, False, False])}, {"a": Calls([0.99], [True])}, {"b": 1.0}]
    found = summarise(records)
    assert {name: s.value for name, s in found.items() if name != "b"} == pytest.approx({
        "a_ece": (abs(0.95 + 0.99 - 2) + 0.9 + 0.3) / 4,  # bins (0.9, 1], (0.8, 0.9], (0.2, 0.3]
        "a_mean": (0.95 + 0.9 + 0.3 + 0.99) / 4,
        "a_right": 2 / 4,
        "a_at_90": 3 / 4,
        "a_wrong_at_90": 1 / 3,
    })  # fmt: skip
    assert [found[name].n for name in ("a_ece", "a_wrong_at_90")] == [2, 2]
    assert reliability(records, "a")[0] == Bin(0.3, 0.0, 1)
    assert reliability(records, "b") == []


def test_nothing_is_wrong_at_90_where_nothing_is_said_with_90():
    found = summarise([{"a": Calls([0.89], [False])}])
    assert value(found, "a_at_90") == 0
    assert "a_wrong_at_90" not in found


@given(items=st.lists(confusions, max_size=5))
def test_confusions_are_summed_and_have_no_summary(items):
    records = [{"a": item} for item in items] + [{"b": 1.0}]
    total = Counter()
    for item in items:
        total.update(item.counts)
    assert confusion(records, "a").counts == dict(total)
    assert set(summarise(records)) == {"b"}


@pytest.mark.parametrize("empty", [Share(0, 0), Samples(np.empty(0), "angstrom"), Calls([], [])])
def test_what_is_empty_counts_as_absent(empty):
    full = {Share: Share(1, 2), Samples: Samples(np.ones(2), "angstrom"), Calls: Calls([1], [True])}[type(empty)]
    assert summarise([{"a": empty}, {"a": full}, {"a": full}]) == summarise([{"a": full}, {"a": full}])


@pytest.mark.parametrize(("a", "b"), [(1.0, Share(1, 2)), (Samples([1.0], "angstrom"), Samples([1.0], "hertz"))])
def test_a_figure_has_one_kind(a, b):
    with pytest.raises(PluginError, match="the figure 'x' has several kinds"):
        summarise([{"x": a}, {"x": b}])


# intervals


@given(items=st.lists(samples.filter(lambda s: len(s.values)) , min_size=1, max_size=6), seed=st.integers(0, 99))
def test_a_scan_that_is_drawn_twice_counts_as_two(items, seed):
    times = np.random.default_rng(seed).multinomial(len(items), np.full(len(items), 1 / len(items)), size=3)
    found = module._pool(items)(times.astype(float))
    for row, counts in enumerate(times):
        drawn = np.concatenate([item.values for item, count in zip(items, counts, strict=True) for _ in range(count)])
        assert found["_mean_angstrom"][row] == pytest.approx(drawn.mean(), abs=1e-9)
        for part in (90, 95, 99):
            assert found[f"_{part}_percent_angstrom"][row] == pytest.approx(np.percentile(drawn, part), abs=1e-9)


@given(values=lists, seed=st.integers(0, 2**32))
def test_the_interval_is_seeded_and_lies_within_the_values(values, seed):
    summary = summarise([{"a": value} for value in values], seed)["a"]
    assert summary == summarise([{"a": value} for value in values], seed)["a"]
    assert summary.value == pytest.approx(np.mean(values), abs=1e-9)
    assert summary.n == len(values)
    assert min(values) - 1e-9 <= summary.low <= summary.high <= max(values) + 1e-9


@given(values=lists)
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


@pytest.mark.parametrize(("name", "part"), [("a_median_angstrom", 50), ("a_90_percent_angstrom", 90)])
def test_the_interval_of_a_percentile_agrees_with_scipy(name, part):
    values = np.random.default_rng(1).exponential(1.0, 300)
    summary = summarise([{"a": Samples([value], "angstrom")} for value in values])[name]
    theirs = stats.bootstrap(
        (values,), lambda v, axis: np.percentile(v, part, axis=axis), n_resamples=2000, method="percentile", rng=2
    ).confidence_interval
    assert (summary.low, summary.high) == pytest.approx(tuple(theirs), rel=0.03)


def test_atoms_of_one_scan_are_not_taken_for_independent():
    rights = np.random.default_rng(0).integers(0, 2, 40).tolist()
    one = summarise([{"a": float(right)} for right in rights])["a"]
    assert summarise([{"a": Share(30 * right, 30)} for right in rights])["a"] == one
    many = summarise([{"a": Samples(np.full(30, float(right)), "")} for right in rights])["a_mean"]
    assert (many.low, many.high) == pytest.approx((one.low, one.high))


@given(values=lists, times=st.integers(1, 4))
def test_scans_of_one_molecule_are_not_taken_for_independent(values, times):
    records = [{"a": value, "b": Samples([value], "")} for value in values]
    alone = summarise(records)
    many = summarise(records * times, molecules=[str(i) for i in range(len(values))] * times)
    for name in ("a", "b_mean"):
        one, same = alone[name], many[name]
        assert (same.value, same.low, same.high) == pytest.approx((one.value, one.low, one.high), abs=1e-9)
        assert same.n == times * one.n


def test_the_interval_over_molecules_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    molecules = ["a", "b", "a", "c", "b", "a", "d", "e"]
    items = [rng.random(rng.integers(1, 5)) for _ in molecules]
    summary = summarise([{"x": Samples(item, "")} for item in items], molecules=molecules)["x_mean"]
    means, again = [], np.random.default_rng(0)
    for drawn in again.integers(5, size=(2000, 5)):
        scans = [item for d in drawn for name, item in zip(molecules, items, strict=True) if name == "abcde"[d]]
        means.append(np.concatenate(scans).mean())
    assert (summary.low, summary.high) == pytest.approx(np.percentile(means, [2.5, 97.5]))


@pytest.mark.parametrize("molecules", ["xxxxxx", "abcdda"])
def test_fewer_than_five_molecules_have_no_interval_however_many_their_scans(molecules):
    records = [{"a": 1.0}, {"a": 2.0}] * 3
    assert summarise(records, molecules=list(molecules)) == {"a": Summary(1.5, 6, None, None)}
    assert differences(records, records[::-1], molecules=list(molecules)) == {"a": Difference(1.5, 1.5, 6, None, None)}
    assert summarise(records, molecules=list("abcdea"))["a"].low is not None


def test_resampling_piece_by_piece_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    records = [{"a": Samples(rng.random(5), ""), "b": float(rng.random())} for _ in range(7)]
    whole = summarise(records)
    monkeypatch.setattr(module, "_CELLS", 100)
    assert summarise(records) == whole


def test_a_single_scan_has_no_interval():
    assert summarise([{"a": 2.0}, {"b": Share(1, 2)}]) == {
        "a": Summary(2.0, 1, None, None), "b": Summary(0.5, 1, None, None)
    }  # fmt: skip


def test_no_scans_have_no_figures():
    assert summarise([]) == {}


# differences


@given(values=lists, shift=st.integers(-5, 5))
def test_a_shift_common_to_all_scans_has_no_spread(values, shift):
    found = differences([{"a": value} for value in values], [{"a": value + shift} for value in values])["a"]
    assert (found.value, found.low, found.high) == pytest.approx((shift, shift, shift), abs=1e-9)
    assert found.n == len(values)


@given(runs=st.lists(st.tuples(shares, shares), min_size=5, max_size=12))
def test_swapping_the_runs_turns_the_sign(runs):
    a, b = ([{"a": run[i]} for run in runs] for i in (0, 1))
    there, back = differences(a, b), differences(b, a)
    assert there.keys() == back.keys()
    for name, found in there.items():
        other = back[name]
        assert (found.a, found.b, found.n) == (other.b, other.a, other.n)
        if found.n >= 5:
            assert (found.low, found.high) == pytest.approx((-other.high, -other.low))


def test_differences_are_those_of_the_scans_that_have_the_figure_in_both():
    a = [*[{"a": Share(1, 2)}, {"a": Share(1, 4)}] * 20, {"a": Share(9, 9)}, {}]
    b = [*[{"a": Share(2, 2)}, {"a": Share(4, 8)}] * 20, {"a": Share(0, 0)}, {"a": Share(9, 9)}]
    found = differences(a, b)["a"]
    assert (found.a, found.b, found.n) == (pytest.approx(2 / 6), pytest.approx(6 / 10), 40)
    assert found.value == pytest.approx(6 / 10 - 2 / 6)
    assert 0.25 < found.low < found.value < found.high < 0.5  # those of one kind of scan alone, and of the other


def test_pairing_narrows_the_interval():
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, 200)
    b = a + rng.normal(0.1, 0.1, 200)
    found = differences([{"a": v} for v in a], [{"a": v} for v in b])["a"]
    assert found.low > 0.05
    assert found.high < 0.15


def test_a_single_scan_differs_without_an_interval():
    assert differences([{"a": 1.0}], [{"a": 3.0}]) == {"a": Difference(1.0, 3.0, 1, None, None)}


def test_runs_of_different_lengths_are_not_compared():
    with pytest.raises(DataError, match="runs of 1 and 2 scans"):
        differences([{}], [{}, {}])


# files


@given(figure=st.one_of(numbers, shares, samples, confusions, calls))
def test_a_figure_survives_json(figure):
    text = json.dumps(to_json(figure))
    read = from_json(json.loads(text))
    assert json.dumps(to_json(read)) == text
    assert type(read) is type(figure)


@pytest.mark.parametrize("content", [
    None, True, "1", [1.0], {}, float("nan"), float("inf"), 10**400,
    {"right": 1}, {"right": 2, "of": 1}, {"right": -1, "of": 1}, {"right": 1, "of": float("nan")},
    {"right": 1, "of": 2, "more": 3}, {"right": True, "of": True}, {"right": 1, "of": 10**400},
    {"values": [1.0], "unit": "<b>"}, {"values": [1.0], "unit": 1}, {"values": ["a"], "unit": ""},
    {"values": [[1.0]], "unit": ""}, {"values": [1.0, [2.0]], "unit": ""}, {"values": [10**400], "unit": ""},
    {"values": [None], "unit": ""}, {"values": [0.0] * (module.MAX_VALUES + 1), "unit": ""},
    {"confidence": [0.5], "right": []}, {"confidence": [1.5], "right": [True]}, {"confidence": [0.5], "right": [1]},
    {"confidence": [0.5], "right": [[True]]}, {"confidence": [0.5, 0.5], "right": [True, [True]]},
    {"confusion": [["C", "N"]]}, {"confusion": [["C", 1, 1]]}, {"confusion": [["C", "N", -1]]},
    {"confusion": [["C", "N", 1.5]]}, {"confusion": [["C", "N", True]]}, {"confusion": [1]},
    {"confusion": [["C", "N", 1]] * (module.MAX_VALUES + 1)},
])  # fmt: skip
def test_what_is_no_figure_is_refused_in_words(content):
    with pytest.raises(DataError) as caught:
        from_json(content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
