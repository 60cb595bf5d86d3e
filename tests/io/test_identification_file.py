import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from rdkit import Chem

from afmid.errors import DataError
from afmid.identification import Atom, Bond, Candidate, Identification, Map
from afmid.io import read_identification, to_json, write_identification
from afmid.molecule import Molecule

SHARE = st.floats(0, 1)
FINITE = st.floats(-1e3, 1e3)
TEXT = st.text(max_size=6)
SAME = ("method", "version", "weights", "source", "smiles", "atoms", "bonds", "candidates", "fit", "meta")


@st.composite
def answers(draw):
    sigma = st.none() | st.tuples(FINITE, FINITE, FINITE)
    found = st.builds(Atom, st.sampled_from(["C", "H", "Br", None]), FINITE, FINITE, FINITE, SHARE, sigma)
    candidates = st.builds(Candidate, TEXT, TEXT, TEXT, FINITE, st.dictionaries(TEXT, FINITE, max_size=2))
    atoms = tuple(draw(st.lists(found, max_size=4)))
    bonds = tuple(Bond(0, b, draw(st.sampled_from([1.0, 1.5, 2.0])), draw(SHARE)) for b in range(1, len(atoms)))
    x, y = np.arange(draw(st.integers(1, 4))) * 0.1, np.arange(draw(st.integers(1, 4))) * 0.3
    numbers = st.lists(st.floats(-9, 9, width=32), min_size=x.size * y.size, max_size=x.size * y.size)
    images = numbers.map(lambda values: np.array(values, np.float32).reshape(x.size, y.size))
    image = Map(draw(images), draw(TEXT), draw(st.none() | images))
    return Identification(
        draw(TEXT),
        draw(TEXT),
        x,
        y,
        weights=draw(TEXT),
        source=draw(TEXT),
        smiles=draw(st.none() | TEXT),
        atoms=atoms,
        bonds=bonds,
        maps=draw(st.dictionaries(st.from_regex(r"[a-z ]{1,8}", fullmatch=True), st.just(image), max_size=2)),
        picture=draw(st.none() | st.just(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))),
        candidates=tuple(draw(st.lists(candidates, max_size=2))),
        fit=draw(st.none() | FINITE),
        meta=draw(st.dictionaries(TEXT, FINITE | TEXT, max_size=2)),
    )


EXAMPLE = Identification(
    "descriptor",
    "0.1",
    np.arange(4.0),
    np.arange(3.0),
    atoms=(Atom("C", 1, 2, 0, 0.5), Atom(None, 0, np.float32(1.5), -1, 0.25), Atom("O", 1, 0.8, 0, 1)),
    bonds=(Bond(0, 1, 1.2, 0.5), Bond(0, 2, 2, 0.5)),
    maps={"disks": Map(np.arange(12, dtype=np.float32).reshape(4, 3), "Å")},
)
PLACED = replace(EXAMPLE, candidates=(Candidate("C", "", "CH4", 1, {}, Molecule([6], [[0, 0, 0]])),))


@given(answer=answers())
def test_npz_keeps_everything(answer, tmp_path_factory):
    path = tmp_path_factory.mktemp("answer") / "answer.npz"
    write_identification(answer, path)
    read = read_identification(path)
    assert all(getattr(read, name) == getattr(answer, name) for name in SAME)
    assert_array_equal(read.x, answer.x)
    assert_array_equal(read.y, answer.y)
    assert list(read.maps) == list(answer.maps)
    for name, image in answer.maps.items():
        assert_array_equal(read.maps[name].values, image.values)
        assert read.maps[name].unit == image.unit
        assert (read.maps[name].sigma is None) == (image.sigma is None)
        assert image.sigma is None or np.array_equal(read.maps[name].sigma, image.sigma)
    assert (read.picture is None) == (answer.picture is None)
    assert answer.picture is None or (read.picture == answer.picture).all()
    assert to_json(read) == to_json(answer)


@given(answer=answers())
def test_json_keeps_all_but_images(answer, tmp_path_factory):
    path = tmp_path_factory.mktemp("answer") / "answer.json"
    write_identification(answer, path)
    read = read_identification(path)
    assert all(getattr(read, name) == getattr(answer, name) for name in SAME)
    assert (len(read.x), len(read.y)) == (len(answer.x), len(answer.y))
    assert not read.maps
    assert read.picture is None


def test_json_is_one_line_with_stable_keys():
    line = to_json(EXAMPLE)
    assert "\n" not in line
    content = json.loads(line)
    assert list(content) == [
        *("schema", "method", "version", "weights_sha256", "source", "smiles", "atoms", "bonds", "candidates"),
        *("fit", "x", "y", "maps", "meta"),
    ]
    assert content["schema"] == "afmid.identification/1"
    assert content["atoms"][1] == {
        "element": None,
        "x_angstrom": 0.0,
        "y_angstrom": 1.5,
        "z_angstrom": -1.0,
        "confidence": 0.25,
        "sigma_angstrom": None,
    }
    assert content["bonds"][0] == {"a": 0, "b": 1, "order": 1.2, "confidence": 0.5}
    assert content["x"] == {"first_angstrom": 0.0, "last_angstrom": 3.0, "pixels": 4}
    assert content["maps"] == {"disks": {"unit": "Å", "min": 0.0, "max": 11.0, "shape": [4, 3]}}


@pytest.mark.parametrize("bonds", [[[0, 1]], []])
def test_a_candidate_keeps_how_it_lies(bonds, tmp_path):
    words = {"name": "methanal", "smiles": "C=O"}
    placed = Molecule([6, 8], [[0.12345, 1, 0], [1, 1, -0.5]], [0.2, -0.2], bonds, [2.0][: len(bonds)], **words)
    candidate = Candidate("C=O", "WSFSSNUMVMOOMR", "CH2O", 0.9, {"fit": 0.9}, placed)
    write_identification(replace(EXAMPLE, candidates=(candidate,)), tmp_path / "a.json")
    (read,) = read_identification(tmp_path / "a.json").candidates
    assert replace(read, molecule=None) == replace(candidate, molecule=None)
    assert (read.molecule.symbols, read.molecule.name, read.molecule.smiles) == (["C", "O"], "methanal", "C=O")
    np.testing.assert_allclose(read.molecule.positions, placed.positions, atol=1e-4)
    assert_array_equal(read.molecule.charges, placed.charges)
    assert_array_equal(read.molecule.bonds, placed.bonds)
    assert_array_equal(read.molecule.orders, placed.orders)


def test_ase_reads_the_xyz_with_unknown_elements_as_x(tmp_path):
    write_identification(EXAMPLE, tmp_path / "a.xyz")
    atoms = ase.io.read(tmp_path / "a.xyz")
    assert atoms.get_chemical_symbols() == ["C", "X", "O"]
    assert atoms.arrays["confidence"].tolist() == [0.5, 0.25, 1.0]


def test_rdkit_reads_the_sdf_with_unknown_elements_as_dummy_atoms(tmp_path):
    twice = replace(EXAMPLE, bonds=(*EXAMPLE.bonds, Bond(1, 0, 2, 0.5)))
    write_identification(twice, tmp_path / "a.sdf")
    mol = next(Chem.SDMolSupplier(str(tmp_path / "a.sdf"), removeHs=False))
    assert [atom.GetAtomicNum() for atom in mol.GetAtoms()] == [6, 0, 8]
    assert [bond.GetBondTypeAsDouble() for bond in mol.GetBonds()] == [1.0, 2.0]
    assert mol.GetAtomWithIdx(1).GetDoubleProp("Confidence") == 0.25


@pytest.mark.parametrize(
    ("answer", "name", "says"),
    [
        (EXAMPLE, "a.png", r"a\.png: an identification is written as \.json, \.npz, \.xyz, \.sdf"),
        (replace(EXAMPLE, atoms=(), bonds=()), "a.xyz", "found no atoms to write"),
        (replace(EXAMPLE, atoms=(), bonds=()), "a.sdf", "found no atoms to write"),
        (replace(EXAMPLE, atoms=(Atom("Qq", 0, 0, 0, 1),), bonds=()), "a.sdf", "element 'Qq'"),
        (replace(EXAMPLE, meta={"drift": float("nan")}), "a.json", "cannot be written as JSON"),
        (EXAMPLE, "no/a.json", "cannot be written: no such file"),
    ],
)
def test_what_cannot_be_written_is_said_and_leaves_nothing(answer, name, says, tmp_path):
    with pytest.raises(DataError, match=says):
        write_identification(answer, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("{}", "schema is None"),
        (to_json(EXAMPLE).replace('"element": "C"', '"element": 6'), r"'atoms\.0\.element'"),
        (to_json(EXAMPLE).replace('"confidence": 0.25', '"confidence": 2.5'), "confidence lies in 0–1"),
        (to_json(EXAMPLE).replace('"a": 0', '"a": 7'), "does not join"),
        (to_json(PLACED).replace('"elements": ["C"]', '"elements": ["Qq"]'), "element 'Qq'"),
        (to_json(PLACED).replace('"elements": ["C"]', '"elements": ["C", "C"]'), "positions need shape"),
        (to_json(EXAMPLE).replace('"pixels": 4', '"pixels": 400000000'), r"'x\.pixels'"),
    ],
)
def test_a_file_that_is_no_identification_is_said_with_its_name(content, says, tmp_path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(DataError, match=rf"bad\.json: .*{says}"):
        read_identification(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"map_disks": None}, "no array 'map_disks'"),
        ({"x": None}, "no array 'x'"),
        ({"meta": None}, "no array 'meta'"),
        ({"map_disks": np.zeros(3)}, "'map_disks' has shape"),
        ({"map_disks": np.zeros((9, 9))}, "map 'disks' has shape"),
        ({"sigma_disks": np.zeros(3)}, "'sigma_disks' has shape"),
        ({"sigma_disks": np.zeros((4, 3), int)}, "'sigma_disks' has shape .* and type int64"),
        ({"sigma_disks": np.zeros((9, 9))}, "map 'disks' has shape"),
        ({"picture": np.zeros((3, 3))}, "picture must be RGB"),
    ],
)
def test_a_damaged_npz_is_said(changes, says, tmp_path):
    write_identification(EXAMPLE, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        arrays = {**file, **changes}
    np.savez(tmp_path / "bad.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=rf"bad\.npz: .*{says}"):
        read_identification(tmp_path / "bad.npz")
