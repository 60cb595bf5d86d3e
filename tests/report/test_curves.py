import pytest
from matplotlib.image import imread

from afmid.report.curves import draw_curves

FALLING = [{"step": step, "seconds": step, "loss": 1 / step} for step in (1, 2, 3)]
RISING = [{**row, "loss": -row["loss"]} for row in FALLING]


def drawn(rows, path):
    draw_curves(rows, path)
    return imread(path)


def test_each_figure_has_a_panel_and_its_own_curve(tmp_path):
    falling, rising = (drawn(rows, tmp_path / "curves.png") for rows in (FALLING, RISING))
    assert falling.shape == rising.shape
    assert (falling != rising).any()
    more = drawn([{**row, "recall": row["step"]} for row in FALLING], tmp_path / "curves.png")
    assert more.shape[1] > falling.shape[1]


@pytest.mark.parametrize("rows", [[], FALLING[:1], [*FALLING, {"step": 4, "recall": 0.5}], [{"step": 1, "$x_{": 1.0}]])
def test_any_rows_can_be_drawn(tmp_path, rows):
    assert drawn(rows, tmp_path / "curves.png").ndim == 3
