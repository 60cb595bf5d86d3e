import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afmid.errors import DataError
from afmid.evaluate.records import Evaluation
from afmid.identification import Atom, Identification, Map
from afmid.molecule import Molecule
from afmid.report.evaluation_view import evaluation_page
from afmid.report.identification_view import identification_page
from afmid.report.images import MOST_IMAGES
from afmid.report.page import write_evaluation_page, write_identification_page
from afmid.scan import Scan


class Page(HTMLParser):
    """The elements of a page: (name, attributes), and the text in those of a name."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.inside = [], {}, "html"
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.inside = tag
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        self.inside = "html"

    def handle_data(self, data):
        self.texts.setdefault(self.inside, [""])[-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def shape(self):
        """Elements and their attributes' names; without those that set digits lower, and break or narrow a line."""
        return [
            (tag, sorted(attributes.keys() - {"textlength", "lengthadjust"}))
            for tag, attributes in self.elements
            if tag not in ("sub", "br")
        ]


def test_a_second_tip_has_some_images_and_its_settings(scan_of, answer_to):
    scan = scan_of()
    z = np.arange(20.0, 0, -1)
    second = Scan(np.random.default_rng(0).normal(size=(5, 7, 20)), np.arange(5.0), np.arange(7.0), z, tip="Xe<b>")
    page = Page(identification_page(scan, answer_to(scan), second))
    alone = Page(identification_page(scan, answer_to(scan)))
    shown = [image["alt"] for image in page.all("img") if image not in alone.all("img")]
    assert (len(shown), shown[0], shown[-1]) == (6, "second scan, z = 20.00 Å", "second scan, z = 1.00 Å")
    assert page.texts["h3"].count("Second scan") == 1
    assert "Second scan" not in alone.texts["h3"]
    assert "Xe<b>" in page.texts["dd"]


@pytest.fixture(scope="module")
def pages(scan_of, answer_to, evaluation_of):
    scan = scan_of()
    return [Page(identification_page(scan, answer_to(scan))), Page(evaluation_page(evaluation_of()))]


@settings(max_examples=25)
@given(tail=st.text(st.characters(codec=None), max_size=60))
@example(tail="</script><script>alert(1)</script>")
@example(tail="<!--<script>")
@example(tail="\"'><img src=x onerror=alert(1)>")
@example(tail="</style></title><svg onload=alert(1)>")
@example(tail="{{ 7*7 }}{% for %}")
@example(tail="\0\r\n\u2028\u202e\udcff]]>")
@example(tail="9" * 4000)
def test_words_from_files_change_no_element_of_a_page(scan_of, answer_to, evaluation_of, tail):
    def shapes(text):
        scan = scan_of(text)
        texts = identification_page(scan, answer_to(scan, text)), evaluation_page(evaluation_of(text))
        return [Page(text.encode().decode()).shape for text in texts]

    assert shapes("x!" + tail) == shapes("x!")


def test_the_policy_allows_the_scripts_and_the_style_of_the_page_and_nothing_else(pages):
    for page in pages:
        policy = page.all("meta")[1]["content"]
        runs = [
            text for text, attributes in zip(page.texts.get("script", []), page.all("script"), strict=True)
            if attributes.get("type") != "application/json"
        ]  # fmt: skip
        for name, sources in (("script-src", runs), ("style-src", page.texts["style"])):
            hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in sources]
            assert f"{name} {' '.join(hashes) or chr(39) + 'none' + chr(39)};" in policy
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy


def test_a_page_names_no_address_and_has_no_inline_handler_and_no_inline_style(pages):
    for page in pages:
        for tag, attributes in page.elements:
            for name in ("src", "href", "srcset", "action", "data", "poster"):
                assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
            assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_the_page_of_an_evaluation_has_no_script(pages):
    assert pages[1].all("script") == []


def test_without_a_structure_3dmol_is_left_out(scan_of, answer_to):
    scan = scan_of()
    scan = Scan(scan.df, scan.x, scan.y, scan.z)
    page = identification_page(scan, answer_to(scan, atoms=(), bonds=(), candidates=()))
    assert len(page) < 200_000
    assert "there is nothing to show in 3D" in page


def test_a_page_says_what_the_answer_says(scan_of, answer_to):
    scan = scan_of()
    text = identification_page(scan, answer_to(scan))
    for part in (
        "CH<sub>2</sub>O", "<b>methanal</b><br>C=O", "everything 1.0", "ab" * 32, "simulated from formaldehyde",
        "0.970", "of 1\u2009000 in", "WSFSSNUMVMOOMR-UHFFFAOYSA-N", "0.250 ± 0.010 N/m",
        "The scan does not support: C 1", "H 3 → F", "0.010, 0.020, 0.030",
    ):  # fmt: skip
        assert part in text


def test_the_3d_view_is_given_the_atoms_of_the_answer(scan_of, answer_to):
    scan = scan_of()
    answer = answer_to(scan)
    page = Page(identification_page(scan, answer))
    data = json.loads(page.texts["script"][0])
    assert [structure["key"] for structure in data["structures"]] == ["found", "candidate-1", "true"]
    assert [atom[:4] for atom in data["structures"][0]["atoms"]] == [[a.element, a.x, a.y, a.z] for a in answer.atoms]
    assert data["structures"][0]["bonds"] == [[b.a, b.b, b.order] for b in answer.bonds]
    assert data["shown"] == "found"


def test_the_best_candidate_is_named_at_the_head(scan_of, answer_to):
    text = identification_page(scan_of(), answer_to(scan_of(), smiles=None))
    assert "<h1>Perhaps methanal, CH<sub>2</sub>O</h1>" in text


def test_a_placed_candidate_is_shown_where_the_atoms_have_no_elements(scan_of, answer_to):
    scan = scan_of()
    page = Page(identification_page(scan, answer_to(scan, atoms=(Atom(None, 0, 0, 0, 0.5),), bonds=())))
    assert json.loads(page.texts["script"][0])["shown"] == "candidate-1"


@given(x=st.floats(-3.9, 5.7), y=st.floats(-2.9, 4.6))
@settings(max_examples=15)
def test_a_ring_lies_where_its_atom_is_in_the_image(scan_of, answer_to, x, y):
    scan = scan_of()
    page = Page(identification_page(scan, answer_to(scan, atoms=(Atom("C", x, y, 0, 1.0),), bonds=())))
    view = next(attributes for attributes in page.all("svg") if attributes.get("id") == "view")
    width, height = map(float, view["viewbox"].split()[2:])
    ring = next(attributes for attributes in page.all("circle") if attributes["r"] == "0.5")
    column, row = (x - scan.x[0]) / 0.25 + 0.5, (scan.y[-1] - y) / 0.25 + 0.5  # pixels from the left and upper edges
    assert float(ring["cx"]) / width == pytest.approx(column / 40, abs=1e-3)
    assert float(ring["cy"]) / height == pytest.approx(row / 32, abs=1e-3)


def test_a_scan_with_another_window_is_an_error_in_words(scan_of, answer_to):
    scan = scan_of()
    moved = Scan(scan.df, scan.x + 5, scan.y, scan.z)
    with pytest.raises(DataError, match="give the scan that was identified"):
        identification_page(moved, answer_to(scan))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 2), (200, 2, 3), (24, 20, 1)])
@pytest.mark.parametrize("value", [0.0, -1e30])
def test_a_scan_of_any_shape_and_contrast_has_a_page(shape, value):
    axes = {name: np.arange(n) * 0.5 for name, n in zip("xy", shape, strict=False)}
    scan = Scan(np.full(shape, value), **axes, z=3 - 0.1 * np.arange(shape[2]))
    empty = Identification("test", "1.0", scan.x, scan.y)
    constant = Map(np.full(shape[:2], value, np.float32), "Å")
    for answer in (empty, Identification("test", "1.0", scan.x, scan.y, maps={"constant": constant})):
        assert "viewBox" in identification_page(scan, answer)
        assert "asks for nothing" in identification_page(None, answer)


def test_a_page_of_large_images_is_small_enough_to_send():
    rng = np.random.default_rng(0)
    shape = (700, 600, 30)
    scan = Scan(rng.normal(size=shape), np.arange(700) * 0.02, np.arange(600) * 0.02, 5 - 0.1 * np.arange(30))
    maps = {f"map {i}": Map(rng.normal(size=shape[:2]).astype(np.float32), "") for i in range(14)}
    atoms = tuple(Atom("C", *place, 0.5) for place in rng.uniform(0, 15, (5000, 3)).tolist())
    picture = rng.integers(0, 255, (1000, 1000, 3), dtype=np.uint8)
    text = identification_page(scan, Identification("t", "1", scan.x, scan.y, maps=maps, atoms=atoms, picture=picture))
    assert len(text) < 5_000_000
    assert len(re.findall(r"data-image=", text)) == MOST_IMAGES


def test_an_evaluation_says_what_was_found(evaluation_of):
    evaluation = evaluation_of()
    text = evaluation_page(evaluation)
    for part in (evaluation.sha256, "suite", "Robustness", "Calibration", "Worst cases", "bad.npz", "is empty", "n=4"):
        assert part in text


def test_an_evaluation_without_records_has_a_page(evaluation_of):
    evaluation = evaluation_of()
    assert "bad.npz" in evaluation_page(Evaluation(evaluation.header, (), evaluation.left_out))


def test_worst_cases_come_worst_first(evaluation_of):
    page = evaluation_page(evaluation_of(scans=12))
    scores = [float(score) for score in re.findall(r"F ([0-9.]+)</figcaption>", page)]
    first, second = scores[:12], scores[12:]
    assert first == sorted(first)
    assert second == sorted(second)


def test_a_large_evaluation_makes_a_page_small_enough_to_send(evaluation_of):
    assert len(evaluation_page(evaluation_of(scans=300))) < 4_000_000


def test_pages_are_written_whole_or_not_at_all(tmp_path, scan_of, answer_to, evaluation_of):
    path = tmp_path / "page.html"
    scan = scan_of()
    write_identification_page(scan, answer_to(scan), path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="identified"):
        write_identification_page(Scan(scan.df, scan.x + 9, scan.y, scan.z), answer_to(scan), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_evaluation_page(evaluation_of(), path)
    assert path.read_bytes() != before
    with pytest.raises(DataError, match="cannot be written"):
        write_evaluation_page(evaluation_of(), tmp_path / "missing" / "page.html")


def test_atoms_of_a_molecule_without_bonds_and_an_unknown_element_are_shown(scan_of, answer_to):
    scan = scan_of()
    gold = Molecule(np.array([79]), np.zeros((1, 3)))
    scan = Scan(scan.df, scan.x, scan.y, scan.z, truth=gold)
    assert "element not known" in identification_page(scan, answer_to(scan, atoms=(Atom("Au", 0, 0, 0, 1),), bonds=()))
