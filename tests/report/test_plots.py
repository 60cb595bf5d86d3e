import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmid.evaluate.figures import Bin, Summary
from afmid.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, binned, calibration

NUMBERS = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(values=st.lists(st.tuples(NUMBERS, st.floats(0, 10)), min_size=1, max_size=5))
def test_every_mark_lies_within_the_diagram_and_where_its_value_is(values):
    summaries = [Summary(value, 3, value - spread, value + spread) for value, spread in values]
    plot = binned("figure", "bin", [str(i) for i in range(len(values))], [summaries])
    ticks = [y for y, _ in plot.y_ticks]
    assert ticks == sorted(ticks, reverse=True)
    assert 2 <= len(ticks) <= 12
    marks = plot.series[0].marks
    for mark in marks:
        assert LEFT <= mark.x <= WIDTH - RIGHT
        assert TOP - 0.01 <= mark.high <= mark.y <= mark.low <= HEIGHT - BOTTOM + 0.01
    order = sorted(range(len(marks)), key=lambda i: summaries[i].value)
    heights = [marks[i].y for i in order]
    assert heights == sorted(heights, reverse=True)


def test_a_calibrated_method_lies_on_the_diagonal():
    plot = calibration("atoms", [[Bin(share, share, 5) for share in (0.0, 0.25, 1.0)]])
    for mark in plot.series[0].marks:
        along = (mark.x - LEFT) / (WIDTH - LEFT - RIGHT)
        assert (HEIGHT - BOTTOM - mark.y) / (HEIGHT - BOTTOM - TOP) == pytest.approx(along, abs=1e-3)


def test_without_values_there_is_no_diagram():
    assert binned("figure", "bin", ["a", "b"], [[None, None]]) is None
    assert calibration("atoms", [[], []]) is None
