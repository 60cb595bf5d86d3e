import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from afmid.errors import DataError
from afmid.identification import Atom, Bond, Identification, Map
from afmid.molecule import Molecule
from afmid.report.picture import draw_identification, draw_scan, draw_sheet, telling
from afmid.scan import Scan

HEADS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


def scan(shape=(24, 20, 6), **rest):
    axes = {"x": np.arange(shape[0]) * 0.5, "y": np.arange(shape[1]) * 0.5, "z": 3 - 0.1 * np.arange(shape[2])}
    return Scan(rest.pop("df", np.random.default_rng(0).normal(size=shape)), **axes, **rest)


def answer(scan, **rest):
    image = np.hypot(*np.meshgrid(scan.x, scan.y, indexing="ij")).astype(np.float32)
    atoms = (Atom("C", 2, 3, 0, 1.0), Atom(None, 4, 3, -0.2, 0.4), Atom("Qq", 99, 99, 0, 0.0))
    maps = {"disks": Map(image, "1"), "field": Map(image - 5, "V/Å")}
    parts = {"atoms": atoms, "bonds": (Bond(0, 1, 1, 0.7),), "maps": maps} | rest
    return Identification("test", "1.0", scan.x, scan.y, **parts)


def test_an_image_has_x_to_the_right_and_y_up(tmp_path):
    df = np.zeros((20, 20, 1), np.float32)
    df[12:, :6] = 1  # large x, small y: at the right, below
    draw_scan(scan(df.shape, df=df), tmp_path / "scan.png")
    page = imread(tmp_path / "scan.png")[..., 0]
    page = page[150:]  # below the title, the page is white
    dark = np.argwhere(page < 0.01)
    (top, left), (bottom, right) = dark.min(0), dark.max(0)
    height, width = bottom - top, right - left
    assert page[top + height * 9 // 10, left + width * 97 // 100] > 0.9
    for row, column in ((1, 1), (1, 9), (9, 1)):
        assert page[top + height * row // 10, left + width * column // 10] < 0.1


@pytest.mark.parametrize("suffix", [*HEADS, ".PNG"])
def test_the_suffix_names_the_format_and_the_same_picture_is_the_same_file(tmp_path, suffix):
    given_scan = scan()
    for name in ("a", "b"):
        draw_identification(given_scan, answer(given_scan), (tmp_path / name).with_suffix(suffix))
    first, second = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert first.startswith(HEADS[suffix.lower()])
    assert first == second


@pytest.mark.parametrize("name", ["picture.jpg", "picture", "picture.png.exe"])
def test_another_suffix_is_an_error_and_nothing_is_written(tmp_path, name):
    given_scan = scan()
    with pytest.raises(DataError, match=r"must end in \.png, \.pdf, \.svg"):
        draw_scan(given_scan, tmp_path / name)
    with pytest.raises(DataError, match=r"must end in \.png, \.pdf, \.svg"):
        draw_identification(given_scan, answer(given_scan), tmp_path / name)
    with pytest.raises(DataError, match=r"must end in \.png, \.pdf, \.svg"):
        draw_sheet({"benzene": given_scan}, 1, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        draw_scan(scan(), tmp_path / "missing" / "scan.png")


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "scan.png"
    draw_scan(scan(), path)
    before = path.read_bytes()
    broken = answer(scan(), picture=np.zeros((3, 3, 7), np.uint8))  # no picture has seven colours
    with pytest.raises(TypeError):
        draw_identification(scan(), broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(text=st.one_of(st.text(max_size=200), st.text("$_^{}\\\n\0<&分\udcff\u202e", max_size=9)))
@example(text="$$")
@example(text="_")
@example(text="$x^{_$ \\frac")
@example(text="a\nb\0c \udcff 分子 \u202e <b>&")
def test_any_text_from_a_file_can_be_drawn(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("text") / "picture.png"
    given_scan = scan((24, 20, 1), source=text, tip=text)
    maps = {text: Map(np.zeros((24, 20), np.float32), text)}
    atoms = (Atom(text or None, 1, 1, 0, 0.5),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_identification(given_scan, answer(given_scan, maps=maps, atoms=atoms, bonds=(), smiles=text), path)
    assert path.read_bytes().startswith(HEADS[".png"])


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 2), (200, 2, 3), (3, 150, 40), (24, 20, 1)])
@pytest.mark.parametrize("value", [None, 0.0, -1e30])
def test_scans_of_any_shape_and_contrast_can_be_drawn_on_a_page_of_bounded_size(tmp_path, shape, value):
    df = None if value is None else np.full(shape, value)
    given_scan = scan(shape, **({} if df is None else {"df": df}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_identification(given_scan, answer(given_scan), tmp_path / "answer.png")
        draw_scan(given_scan, tmp_path / "scan.png")
    for path in tmp_path.iterdir():
        height, width, _ = imread(path).shape
        assert (width, height < 3 * width) == (1650, True)


def test_a_large_scan_and_many_maps_make_a_page_of_bounded_size(tmp_path):
    given_scan = scan((1500, 1300, 3))
    image = np.zeros((1500, 1300), np.float32)
    maps = {f"m{i}": Map(image, "") for i in range(30)}
    draw_identification(given_scan, answer(given_scan, maps=maps), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < 4e6
    assert imread(tmp_path / "a.png").shape[0] < 3500


def test_an_answer_with_nothing_in_it_is_drawn_and_so_is_a_map_of_one_value(tmp_path):
    given_scan = scan(truth=Molecule([6, 8], [[2, 2, 0], [3, 3, -4]]))
    draw_identification(given_scan, Identification("none", "1", given_scan.x, given_scan.y), tmp_path / "a.png")
    flat = answer(given_scan, maps={"none": Map(np.zeros((24, 20), np.float32), "Å")})
    draw_identification(given_scan, flat, tmp_path / "b.png")
    assert not np.array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))


def test_atoms_found_and_true_atoms_show_in_the_picture(tmp_path):
    pages = {}
    for name, found, true in (("none", (), None), ("ring", (Atom(None, 5, 5, 0, 1.0),), None),
                              ("cross", (), Molecule([6], [[5, 5, 0]]))):  # fmt: skip
        given_scan = scan(truth=true)
        draw_identification(given_scan, answer(given_scan, atoms=found, bonds=(), maps={}), tmp_path / f"{name}.png")
        pages[name] = imread(tmp_path / f"{name}.png")[200:, :, :3]

    def count(name, colour):
        return int((np.abs(pages[name] - colour).max(-1) < 0.05).sum())

    orange, cyan = np.array([1, 0.55, 0]), np.array([0, 0.76, 0.88])
    assert count("ring", orange) > count("none", orange) + 50
    assert count("cross", cyan) > count("none", cyan) + 20


def test_the_order_of_a_bond_shows_in_the_picture(tmp_path):
    given_scan, pictures = scan(), []
    for order in (1, 1.5, 2, 3, 4):
        path = tmp_path / f"{order}.png"
        draw_identification(given_scan, answer(given_scan, bonds=(Bond(0, 1, order, 0.9),)), path)
        pictures.append(path.read_bytes())
    assert pictures[4] == pictures[0]  # an order that there is no sign of
    assert len(set(pictures)) == 4


def test_atoms_of_a_bond_at_one_place_can_be_drawn(tmp_path):
    given_scan = scan()
    atoms = (Atom("C", 0.0, 0.0, 0.0, 0.9), Atom("O", 0.0, 0.0, -0.1, 0.9))
    draw_identification(given_scan, answer(given_scan, atoms=atoms, bonds=(Bond(0, 1, 2, 0.9),)), tmp_path / "a.png")
    assert imread(tmp_path / "a.png").ndim == 3


def test_a_sheet_names_each_scan_and_says_of_how_many(tmp_path):
    near = telling(scan())
    draw_sheet({"benzene": near, "x$y$<z>": near}, 9, tmp_path / "sheet.svg")
    drawn = (tmp_path / "sheet.svg").read_text()
    assert "The first 2 of 9 scans" in drawn
    assert "benzene" in drawn
    assert "x$y$&lt;z&gt;" in drawn


def test_a_sheet_shows_of_each_scan_the_telling_image(tmp_path):
    given_scan = scan()
    kept = telling(given_scan)
    (height,) = kept.z
    assert height - given_scan.z[-1] == pytest.approx(0.3)
    assert np.array_equal(kept.df[:, :, 0], given_scan.df[:, :, given_scan.z.tolist().index(height)])
    assert kept.df.base is None  # the far images are free to go
    for name, shown in (("whole", given_scan), ("nearest", kept)):
        draw_sheet({"benzene": shown}, 1, tmp_path / f"{name}.png")
    assert np.array_equal(imread(tmp_path / "whole.png"), imread(tmp_path / "nearest.png"))


def test_drawing_leaves_matplotlib_as_it_was_and_needs_no_pyplot(tmp_path):
    code = """
import sys, numpy, matplotlib
from pathlib import Path
from afmid.scan import Scan
from afmid.report.picture import draw_scan
matplotlib.rcParams.update({"text.usetex": True, "font.size": 3.0})
draw_scan(Scan(numpy.zeros((4, 4, 2)), numpy.arange(4), numpy.arange(4), [1, 0]), Path(sys.argv[1]))
assert matplotlib.rcParams["font.size"] == 3.0 and matplotlib.rcParams["text.usetex"]
assert "matplotlib.pyplot" not in sys.modules
"""
    path = tmp_path / "scan.png"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert (done.returncode, path.is_file()) == (0, True), done.stderr


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, afmid.report.picture; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
