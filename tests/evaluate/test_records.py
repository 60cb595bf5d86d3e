import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from afmid.errors import DataError
from afmid.evaluate.figures import Calls, Confusion, Samples, Share
from afmid.evaluate.records import (
    MOST_PIXELS,
    Evaluation,
    Header,
    JudgedMethod,
    LeftOut,
    Record,
    hash_of,
    read_evaluation,
    thumbnail,
    to_line,
    window_of,
    write_evaluation,
)
from afmid.identification import Atom
from afmid.molecule import Molecule
from afmid.scan import Scan

WATER = Molecule(
    numbers=[8, 1, 1], positions=[[0, 0, 0], [0.76, 0.59, -0.1], [-0.76, 0.59, -0.1]],
    bonds=[[0, 1], [0, 2]], orders=[1, 1], name="<b>water</b>", smiles="O",
)  # fmt: skip
SCAN = Scan(np.arange(12.0).reshape(2, 3, 2), [0.0, 0.5], [1.0, 1.5, 2.0], [1.0, 0.9], truth=WATER)
HEADER = Header("1.0", "sim-open", {"a": JudgedMethod("2", "f" * 64, {"k": 1}), "b": JudgedMethod("3")}, ("share",), 7)


def record(scan: str = "x/1", method: str = "a", **changes) -> Record:
    figures = {
        "number": 0.25,
        "share": Share(3, 4),
        "errors": Samples(np.array([0.1, 0.25]), "angstrom"),
        "taken": Confusion({("C", "N"): 2}),
        "sure": Calls(np.array([0.9, 0.5]), np.array([True, False])),
    }
    mine = Record(
        scan, method, hash_of(SCAN, WATER), 0.5, {"source": "muv", "atoms": "1–15"}, figures, None, WATER,
        (Atom("O", 0.1, 0.2, 0.0, 0.9), Atom(None, 1.0, 0.0, -0.5, 0.2)), window_of(SCAN), thumbnail(SCAN),
    )  # fmt: skip
    return replace(mine, **changes)


def both(*scans: str) -> Evaluation:
    return Evaluation(HEADER, tuple(record(scan, method) for scan in scans for method in "ab"))


def test_write_then_read_changes_nothing(tmp_path):
    written = Evaluation(HEADER, (record(smiles="C"), record("x/2", "b")), (LeftOut("x/3", "damaged", "b"),))
    write_evaluation(written, tmp_path / "r.jsonl")
    back = read_evaluation(tmp_path / "r.jsonl")
    assert [to_line(item) for item in (back.header, *back.records, *back.left_out)] == [
        to_line(item) for item in (written.header, *written.records, *written.left_out)
    ]
    mine, other = back.records[0], written.records[0]
    assert (mine.groups, mine.atoms, mine.window) == (other.groups, other.atoms, other.window)
    assert mine.figures["taken"] == other.figures["taken"]
    assert mine.image == other.image
    assert_array_equal(mine.truth.bonds, other.truth.bonds)
    assert (mine.truth.symbols, mine.truth.name) == (["O", "H", "H"], "<b>water</b>")
    assert back.left_out == written.left_out


@given(st.lists(st.floats(-1e6, 1e6), max_size=5))
def test_values_keep_six_digits(values):
    errors = Samples(np.array(values), "angstrom")
    line = json.loads(to_line(record(figures={"errors": errors})))
    assert_allclose(line["figures"]["errors"]["values"], values, rtol=5e-6)


def test_an_evaluation_finds_its_records_by_method_and_group():
    run = Evaluation(HEADER, (record("1"), record("2", groups={"source": "enum"}), record("1", "b")))
    assert run.methods == ("a", "b")
    assert [item.scan for item in run.of("a")] == ["1", "2"]
    assert [item.scan for item in run.of("a", source="enum")] == ["2"]
    assert len(run.figures("b", source="muv")) == 1
    assert run.groups("source") == ["muv", "enum"]
    assert run.groups("perturbation") == []


def test_the_hash_is_of_the_scans_that_were_judged_whatever_the_methods():
    assert both("1", "2").sha256 == Evaluation(HEADER, both("1", "2").records[::2]).sha256
    assert both("1", "2").sha256 != both("1").sha256
    assert hash_of(SCAN, WATER) != hash_of(replace(SCAN, df=SCAN.df + 1), WATER)
    assert hash_of(SCAN, WATER) != hash_of(SCAN, WATER.moved((0.1, 0, 0)))
    assert hash_of(SCAN, WATER) != hash_of(SCAN, replace(WATER, smiles="[OH2]"))


def test_scans_of_one_molecule_are_known_by_its_smiles_or_its_name():
    named, nameless = replace(WATER, smiles=""), replace(WATER, smiles="", name="")
    run = Evaluation(HEADER, (record("1"), record("2"), record("3", truth=named), record("4", truth=nameless)))
    assert run.molecules("a") == ["O", "O", "<b>water</b>", "4"]


def test_a_name_that_utf8_cannot_hold_is_written_all_the_same(tmp_path):
    write_evaluation(Evaluation(HEADER, (record("b\udcff"),)), tmp_path / "r.jsonl")
    assert read_evaluation(tmp_path / "r.jsonl").records[0].scan == "b?"


def test_a_folder_of_the_command_is_read_too(tmp_path):
    write_evaluation(both("1"), tmp_path / "records.jsonl")
    assert len(read_evaluation(tmp_path).records) == 2


@given(st.integers(1, 250), st.integers(1, 250))
def test_a_thumbnail_is_a_small_png_with_the_largest_y_on_top(nx, ny):
    y = np.linspace(0, 1, ny)
    image = np.broadcast_to(y, (nx, ny))
    scan = Scan(image[..., None], np.arange(nx, dtype=float), np.arange(ny, dtype=float), np.zeros(1))
    png = thumbnail(scan)
    width, height = struct.unpack(">II", png[16:24])
    assert 1 <= width <= MOST_PIXELS
    assert 1 <= height <= MOST_PIXELS
    length = struct.unpack(">I", png[33:37])[0]
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + length]), np.uint8).reshape(height, width + 1)[:, 1:]
    assert (np.diff(rows.astype(int), axis=0) <= 0).all()
    assert (rows == rows[:, :1]).all()


def test_the_window_ends_half_a_pixel_beyond_the_last_ones():
    assert window_of(SCAN) == (-0.25, 0.75, 0.75, 2.25)


def altered(**changes) -> str:
    return json.dumps(json.loads(to_line(record())) | changes)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "is empty"),
        (["{"], "line 1: is not JSON"),
        (["[]"], "line 1: is no JSON object"),
        (['{"schema": "afmid.scan/1"}'], "line 1: schema is 'afmid.scan/1'"),
        ([to_line(HEADER), altered(method="c")], "line 2: is of the method 'c'"),
        ([to_line(HEADER), altered(extra=1)], "line 2: 'extra'"),
        ([to_line(HEADER), altered(data_sha256="xyz")], "line 2: 'data_sha256'"),
        ([to_line(HEADER), altered(image="@")], "line 2: the image is not base64"),
        ([to_line(HEADER), altered(image="PHNjcmlwdD4=")], "line 2: the image is no PNG"),
        ([to_line(HEADER), altered(figures={"a": "many"})], "line 2: not a figure"),
        ([to_line(HEADER), altered(window_angstrom=[1.0, 0.0])], "line 2: 'window_angstrom'"),
        ([to_line(HEADER), altered(window_angstrom=[1.0, 0.0, 0.0, 1.0])], "line 2: the window's edges"),
        ([to_line(HEADER), to_line(record()).replace('"element": "H"', '"element": "Hh"')], "no element 'Hh'"),
        ([to_line(HEADER), to_line(record()).replace("0.25", "NaN", 1)], "line 2: is not JSON: NaN"),
        ([to_line(HEADER), to_line(record()).replace("0.25", "1e999", 1)], "line 2: is not JSON: 1e999"),
        ([to_line(HEADER), to_line(record()).replace('"b": 2', f'"b": {10**30}')], "line 2: 'truth.bonds.1.b'"),
        ([to_line(HEADER), altered(**{"k" * 10**6: 1})], "line 2: 'kkk"),
        ([to_line(HEADER), altered(method="k" * 10**6)], "line 2: is of the method 'kkk"),
        ([to_line(HEADER), to_line(record())[:100]], "line 2: is not JSON"),
    ],
)
def test_what_is_no_evaluation_is_refused_in_one_line_that_names_it(lines, words, tmp_path):
    (tmp_path / "bad.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"bad\.jsonl: ") as caught:
        read_evaluation(tmp_path / "bad.jsonl")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_line_without_end_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("afmid.evaluate.records.MAX_LINE", 1000)
    (tmp_path / "long.jsonl").write_text(to_line(HEADER) + "\n" + " " * 2000)
    with pytest.raises(DataError, match="larger than an evaluation may be"):
        read_evaluation(tmp_path / "long.jsonl")
