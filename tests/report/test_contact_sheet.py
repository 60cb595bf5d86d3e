"""Many scans on one page."""

from pathlib import Path

import numpy as np
import pytest

from afmid.errors import DataError
from afmid.report.contact_sheet import draw_sheet, nearest
from afmid.scan import Scan

AXIS = np.arange(8.0)
SCAN = Scan(np.random.default_rng(0).normal(size=(8, 8, 3)).astype(np.float32), AXIS, AXIS, np.array([2.0, 1.0, 0.0]))


def test_of_a_scan_the_nearest_image_is_kept() -> None:
    kept = nearest(SCAN)
    assert np.array_equal(kept.df, SCAN.df[:, :, -1:])
    assert kept.z.tolist() == [0.0]
    assert kept.df.base is None  # the far images are free to go


def test_the_page_names_each_scan_and_says_of_how_many(tmp_path: Path) -> None:
    path = tmp_path / "sheet.svg"
    draw_sheet({"benzene": nearest(SCAN), "x$y$<z>": nearest(SCAN)}, 9, path)
    drawn = path.read_text()
    assert "The first 2 of 9 scans" in drawn
    assert "benzene" in drawn
    assert "x$y$&lt;z&gt;" in drawn


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a picture's name must end in \.png, \.pdf, \.svg"):
        draw_sheet({"benzene": SCAN}, 1, tmp_path / "sheet.gif")
