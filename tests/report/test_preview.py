"""The preview: a scan and an answer in half blocks."""

from dataclasses import replace

import numpy as np
import pytest

from afmid.identification import Atom, Identification, Map
from afmid.report.preview import preview
from afmid.scan import Scan

AXIS = np.arange(40) * 0.25


@pytest.fixture
def scan() -> Scan:
    df = np.zeros((40, 40, 1), np.float32)
    df[:20, 20:, 0] = 1.0  # bright where x is small and y is large
    return Scan(df, AXIS, AXIS, np.zeros(1))


@pytest.fixture
def answer() -> Identification:
    atoms = (Atom("Br", 1.0, 8.7, 0, 0.9), Atom(None, 8.7, 1.0, 0, 0.1), Atom("C", 99, 99, 0, 1))
    shown = Map(np.eye(40, dtype=np.float32), "1")
    return Identification("test", "1", AXIS, AXIS, atoms=atoms, maps={"a_map": shown})


def panels(text: str, count: int) -> list[list[str]]:
    """Return the lines of each panel, without the names above."""
    lines = text.split("\n")[1:]
    width = (len(lines[0]) + 2) // count - 2
    return [[line[i * (width + 2) :][:width] for line in lines] for i in range(count)]


def test_x_points_right_and_y_up(scan, answer):
    image = panels(preview(scan, answer, 80, colours=False).plain, 2)[0]
    assert len(image[0]) == 2 * len(image)  # half blocks make a square of a square window
    assert (image[0][0], image[0][-1], image[-1][0], image[-1][-1]) == ("@", " ", " ", " ")


def test_atoms_stand_where_they_are_and_those_outside_are_left_out(scan, answer):
    atoms = panels(preview(scan, answer, 80, colours=False).plain, 2)[1]
    letters = {letter: (column, line) for line, row in enumerate(atoms) for column, letter in enumerate(row)
               if letter in "Bo"}  # fmt: skip
    (column, line), (last_column, last_line) = letters["B"], letters["o"]
    assert column / len(atoms[0]) == pytest.approx(1.125 / 10, abs=0.03)
    assert line / len(atoms) == pytest.approx(1.175 / 10, abs=0.06)
    assert last_column / len(atoms[0]) == pytest.approx(8.825 / 10, abs=0.03)
    assert last_line / len(atoms) == pytest.approx(8.875 / 10, abs=0.06)
    assert "C" not in "".join(atoms)


def test_a_half_block_shows_two_pixels_and_a_sure_atom_is_bold(scan, answer):
    text = preview(scan, answer, 80)
    styles = {str(span.style) for span in text.spans}
    assert "#ffffff on #ffffff" in styles
    assert "bold #a62929 on #ffffff" in styles
    assert any(style.startswith("#ff8c00 on") for style in styles)


@pytest.mark.parametrize(
    ("width", "names"), [(10, ["scan"]), (80, ["scan", "atoms"]), (200, ["scan", "atoms", "a map"])]
)
def test_a_wider_terminal_shows_more(scan, answer, width, names):
    text = preview(scan, answer, width).plain
    heads = text.split("\n")[0]
    assert [word for word in ("scan", "atoms", "a map") if word in heads] == names
    assert max(map(len, text.split("\n"))) <= width


def test_a_flat_image_and_a_line_scan_are_drawn(scan, answer):
    flat = replace(scan, df=np.ones((40, 40, 1), np.float32))
    line = Scan(np.ones((40, 1, 1), np.float32), AXIS, AXIS[:1], np.zeros(1))
    assert preview(flat, answer, 80).plain.count("\n") > 10
    assert preview(line, replace(answer, y=AXIS[:1], maps={}), 80).plain.count("\n") >= 1
