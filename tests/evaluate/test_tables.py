import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from afmid.errors import DataError
from afmid.evaluate.figures import Share, Summary
from afmid.evaluate.records import Evaluation, Header, JudgedMethod, Record
from afmid.evaluate.tables import Row, as_csv, as_json, as_markdown, as_words, compared, score_rows
from afmid.molecule import Molecule

WATER = Molecule(numbers=[8], positions=np.zeros((1, 3)), smiles="O")


def run(shares: dict[str, list[int]], corrugation: list[str] | None = None, headline: tuple[str, ...] = ()):
    """Methods that are right about so many of four atoms of each scan."""
    records = [
        Record(
            f"s/{i}", method, f"{i:064d}", 0.1, {"corrugation": corrugation[i]} if corrugation else {},
            {"found": Share(right, 4), "size": 4.0}, None, replace(WATER, smiles="C" * i), (), (0, 1, 0, 1),
        )
        for method, rights in shares.items()
        for i, right in enumerate(rights)
    ]  # fmt: skip
    header = Header("1", "made-up", {method: JudgedMethod("1") for method in shares}, headline)
    return Evaluation(header, tuple(records))


def test_a_figure_has_a_row_and_a_method_a_column_with_interval_and_number_of_scans():
    heads, rows = as_words(score_rows(run({"a": [4] * 5, "b": [1] * 5})), ["a", "b"])
    assert heads == ["figure", "a", "b"]
    assert rows == [["found", "1 [1, 1] n=5", "0.25 [0.25, 0.25] n=5"], ["size", "4 [4, 4] n=5", "4 [4, 4] n=5"]]


def test_the_short_table_has_the_headline_in_its_order_and_all_where_there_is_none():
    both = {"a": [1]}
    assert [row.figure for row in score_rows(run(both, headline=("size", "absent", "found")), headline=True)] == [
        "size",
        "found",
    ]
    assert [row.figure for row in score_rows(run(both), headline=True)] == ["found", "size"]


def test_groups_have_rows_of_their_own_in_the_order_of_their_bins():
    rows = score_rows(run({"a": [1, 4]}, ["> 150 pm", "< 50 pm"]), by="corrugation")
    assert [(row.figure, row.group, row.summaries["a"].value) for row in rows[:2]] == [
        ("found", "< 50 pm", 1.0),
        ("found", "> 150 pm", 0.25),
    ]
    assert as_words(rows, ["a"])[1][:2] == [["found", "< 50 pm", "1 n=1"], ["", "> 150 pm", "0.25 n=1"]]


def test_a_figure_that_a_method_does_not_have_is_a_dash():
    few = run({"a": [1], "b": [1]})
    without = replace(few, records=(few.records[0], replace(few.records[1], figures={"size": 4.0})))
    assert as_words(score_rows(without), ["a", "b"])[1][0] == ["found", "0.25 n=1", "–"]


def test_csv_and_json_hold_the_same_numbers():
    evaluation = run({"a": [1, 2, 3, 4, 4], "b": [4] * 5})
    rows = score_rows(evaluation)
    lines = list(csv.DictReader(io.StringIO(as_csv(rows))))
    content = json.loads(as_json(evaluation, rows))
    assert (content["schema"], content["scans"], content["data_sha256"]) == ("afmid.scores/1", 5, evaluation.sha256)
    assert len(lines) == len(content["figures"]) == 4
    for line, figure in zip(lines, content["figures"], strict=True):
        assert (line["figure"], line["method"]) == (figure["figure"], figure["method"])
        assert [float(line[key]) for key in ("value", "low", "high", "n")] == [
            figure[key] for key in ("value", "low", "high", "n")
        ]


@pytest.mark.parametrize(("cell", "plain"), [
    ("a|b", "a\\|b"), ("a\\|b", "a\\\\\\|b"), ("a\nb", "a b"), ("<script>", "\\<script>"), ("< 50 pm", "< 50 pm"),
    ("![x](http://y)", "![x\\](http://y)"), ("0.9 [0.8, 1] n=5", "0.9 [0.8, 1] n=5"),
])  # fmt: skip
def test_a_name_stays_in_its_cell_of_a_markdown_table_and_text(cell, plain):
    assert as_markdown(["a"], [[cell]]) == f"| a |\n| --- |\n| {plain} |\n"


def test_a_name_is_no_formula_in_csv():
    text = as_csv([Row("found", "=cmd()", {"@m": Summary(-1.0, 1, None, None)})])
    assert text.splitlines()[1] == "found,'=cmd(),'@m,-1.0,,,1"


def test_scans_of_one_molecule_count_as_one_for_the_interval():
    rights = [0] * 4 + [4] * 6
    apart = run({"a": rights})
    truths = [apart.records[i].truth for i in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4)]
    five = replace(apart, records=tuple(map(lambda r, truth: replace(r, truth=truth), apart.records, truths)))
    (wide, *_), (narrow, *_) = (score_rows(run_) for run_ in (five, run({"a": rights * 4})))
    assert wide.summaries["a"].low < narrow.summaries["a"].low < narrow.summaries["a"].high < wide.summaries["a"].high
    one = replace(apart, records=tuple(replace(record, truth=WATER) for record in apart.records))
    assert score_rows(one)[0].summaries["a"].low is None
    assert compared(one, one)[1][0] == ["found", "0.6", "0.6", "+0", "10"]


def test_two_runs_are_compared_scan_by_scan_on_those_that_both_have():
    heads, rows, scans = compared(run({"a": [0, 1, 2, 2, 1, 3]}), run({"a": [1, 2, 3, 3, 2]}))
    assert heads == ["figure", "A", "B", "B − A", "n"]
    assert rows[0] == ["found", "0.3", "0.55", "+0.25 [+0.25, +0.25]", "5"]  # each by one atom: no spread
    assert scans == 5


def test_single_methods_are_compared_whatever_their_names():
    heads, rows, _ = compared(run({"a": [1]}), run({"b": [1]}))
    assert heads[0] == "method"
    assert rows[0] == ["a → b", "found", "0.25", "0.25", "+0", "1"]


def test_methods_that_both_runs_have_are_compared_each_with_itself():
    _, rows, _ = compared(run({"a": [1], "b": [2], "c": [3]}), run({"b": [2], "a": [1]}))
    assert [row[0] for row in rows] == ["a", "a", "b", "b"]


def test_runs_that_cannot_be_compared_are_refused():
    one = run({"a": [1]})
    for a, b in ((run({"a": [1], "b": [1]}), run({"c": [1]})), (run({}), run({})), (run({}), one)):
        with pytest.raises(DataError, match="no method is in both"):
            compared(a, b)
    other = replace(one, records=(replace(one.records[0], scan="elsewhere"),))
    with pytest.raises(DataError, match="no scan of a in common"):
        compared(one, other)
    changed = replace(one, records=(replace(one.records[0], data_sha256="f" * 64),))
    with pytest.raises(DataError, match="s/0 is not the same scan"):
        compared(one, changed)
