import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

from afmid.errors import DataError
from afmid.io import read_scan, write_scan
from afmid.io.scan_file import from_arrays, to_arrays
from afmid.molecule import Molecule
from afmid.scan import Scan
from afmid.units import N_per_m

TEXT = st.text(max_size=8)
FINITE = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-3, 1e6)
NAMES = ("channel", "tip", "z_reference", "amplitude", "f0", "cantilever_stiffness", "source", "meta")


def axes(n):
    return hnp.arrays(np.float64, n, elements=st.floats(0.01, 10)).map(np.cumsum)


@st.composite
def molecules(draw):
    n = draw(st.integers(1, 5))
    bonds = draw(st.lists(st.integers(1, n - 1).map(lambda b: (0, b)), max_size=3)) if n > 1 else []
    return Molecule(
        numbers=draw(hnp.arrays(np.int64, n, elements=st.integers(1, 118))),
        positions=draw(hnp.arrays(np.float64, (n, 3), elements=FINITE)),
        charges=draw(hnp.arrays(np.float64, n, elements=FINITE)),
        bonds=np.array(bonds, np.int64).reshape(-1, 2),
        orders=np.full(len(bonds), 1.5),
        name=draw(TEXT),
        smiles=draw(TEXT),
    )


@st.composite
def scans(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=4))
    return Scan(
        df=draw(hnp.arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32))),
        x=draw(axes(shape[0])),
        y=draw(axes(shape[1])),
        z=draw(axes(shape[2]))[::-1],
        z_reference=draw(st.sampled_from(["topmost atom", "last image"])),
        channel=draw(st.sampled_from(["df", "amplitude", "phase"])),
        tip=draw(TEXT),
        amplitude=draw(st.none() | POSITIVE),
        f0=draw(st.none() | POSITIVE),
        cantilever_stiffness=draw(st.none() | st.integers(1, 10**9).map(lambda k: k / 1000 * N_per_m)),
        source=draw(TEXT),
        meta=draw(st.dictionaries(TEXT, FINITE | TEXT | st.lists(st.integers()), max_size=3)),
        truth=draw(st.none() | molecules()),
    )


def example(**changes):
    shape = (4, 3, 2)
    df = np.arange(24, dtype=np.float32).reshape(shape)
    return Scan(df, np.arange(4.0), np.arange(3.0), np.array([0.1, 0.0]), **changes)


@given(scan=scans())
def test_write_then_read_changes_nothing(scan, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.npz"
    write_scan(scan, path)
    read = read_scan(path)
    for name in ("df", "x", "y", "z"):
        assert getattr(read, name).dtype == getattr(scan, name).dtype
        assert_array_equal(getattr(read, name), getattr(scan, name))
    assert all(getattr(read, name) == getattr(scan, name) for name in NAMES)
    assert (read.truth is None) == (scan.truth is None)
    if scan.truth:
        for name in ("numbers", "positions", "charges", "bonds", "orders", "name", "smiles"):
            assert_array_equal(getattr(read.truth, name), getattr(scan.truth, name))


def test_files_hold_newtons_per_metre():
    meta = str(to_arrays(example(cantilever_stiffness=1800 * N_per_m))["meta"])
    assert '"schema": "afmid.scan/1"' in meta
    assert '"cantilever_stiffness": 1800.0' in meta


@pytest.mark.parametrize(("name", "axis"), [("x", 0), ("y", 1), ("z", 2)])
def test_an_axis_in_the_reverse_order_is_turned_with_its_images_and_said(name, axis, caplog):
    scan = example()
    arrays = to_arrays(scan)
    arrays[name] = arrays[name][::-1]
    arrays["df"] = np.flip(arrays["df"], axis)
    with caplog.at_level(logging.WARNING):
        read = from_arrays(arrays)
    assert_array_equal(read.df, scan.df)
    assert_array_equal(getattr(read, name), getattr(scan, name))
    assert f"{name} is stored in the reverse order" in caplog.text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"df": np.zeros((4, 3))}, r"array 'df' is a single image \(4, 3\); a scan needs a stack"),
        ({"df": np.zeros((4, 3, 2, 1))}, "three axes"),
        ({"df": np.zeros((4, 3, 0)), "z": np.zeros(0)}, "empty"),
        ({"df": np.full((4, 3, 2), np.nan)}, "24 values that are not finite"),
        ({"df": np.full((4, 3, 2), 1e300)}, "not finite"),
        ({"df": np.zeros((4, 3, 2), complex)}, "complex128, not real numbers"),
        ({"df": np.full((4, 3, 2), "a")}, "not real numbers"),
        ({"x": np.arange(5.0)}, "x, y, z have shapes"),
        ({"x": np.array([0.0, 2.0, 1.0, 3.0])}, "x must ascend"),
        ({"z": np.array([0.0, 0.0])}, "z must descend"),
        ({"y": np.array(["a", "b", "c"])}, "not real numbers"),
        ({"meta": np.array('{"schema": "afmid.scan/1", "tip": 3}')}, "meta: 'tip'"),
        ({"meta": np.array('{"schema": "afmid.scan/1", "amplitude": "large"}')}, "meta: 'amplitude'"),
        ({"meta": np.array('{"schema": "afmid.scan/1", "amplitude": -1}')}, "amplitude is -1"),
        ({"meta": np.array('{"schema": "afmid.scan/1", "channel": "current"}')}, "channel is 'current'"),
        ({"meta": np.array('{"schema": "afmid.scan/1", "truth": {"mass": 3}}')}, r"'truth\.mass'"),
        ({"meta": np.array('{"schema": "afmid.scan/9"}')}, "schema is 'afmid.scan/9'"),
        ({"meta": np.array("text")}, "not JSON"),
        ({"meta": np.zeros(3)}, "meta must be one JSON text"),
        ({"truth_numbers": np.array([6])}, "no array 'truth_positions'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(changes, says, tmp_path):
    np.savez(tmp_path / "bad.npz", **{**to_arrays(example()), **changes})
    with pytest.raises(DataError, match=rf"bad\.npz: .*{says}"):
        read_scan(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("numbers", np.array([600]), "no element has the atomic number 600"),
        ("numbers", np.array([6.0]), "not whole numbers"),
        ("numbers", np.zeros(0, int), "at least one atom"),
        ("positions", np.zeros((1, 2)), "positions need shape"),
        ("positions", np.full((1, 3), np.inf), "not finite"),
        ("bonds", np.array([[0, 1]]), "bonds must join"),
        ("bonds", np.array([[0, 1, 2, 3]]), "shape"),
    ],
)
def test_a_truth_that_is_no_molecule_is_said(name, value, says):
    truth = Molecule(np.array([6]), np.zeros((1, 3)))
    with pytest.raises(DataError, match=says):
        from_arrays({**to_arrays(example(truth=truth)), f"truth_{name}": value})


@pytest.mark.parametrize("name", ["x", "z", "meta"])
def test_a_missing_array_is_named(name):
    arrays = to_arrays(example())
    del arrays[name]
    with pytest.raises(DataError, match=f"no array '{name}'"):
        from_arrays(arrays)


def test_a_scan_whose_record_is_no_json_is_not_written(tmp_path):
    with pytest.raises(DataError, match="cannot be written as JSON"):
        write_scan(example(meta={"rate": np.float32(1)}), tmp_path / "scan.npz")
    assert not list(tmp_path.iterdir())
