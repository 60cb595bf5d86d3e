"""Potentials come from cube and xsf files as other programs write them; what is no potential is said in one line."""

import io
import sys
import tempfile

import numpy as np
import pytest
from ase import Atoms
from ase.io.cube import write_cube
from ase.io.xsf import write_xsf
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from afmid.errors import DataError
from afmid.io import potential_file
from afmid.io.potential_file import MAX_ATOMS, MAX_LINES, read_potential
from afmid.units import HARTREE

CELL = np.array([[3.2, 0.0, 0.0], [1.0, 4.0, 0.0], [0.5, -1.0, 4.8]])
ORIGIN = np.array([-1.5, 0.25, 2.0])
WATER = Atoms("OH2", [[0.1, 0.2, 3.0], [0.9, 0.8, 3.1], [-0.8, 0.7, 2.9]], cell=CELL, pbc=True)


def energies():
    """An electron's energy (eV) on 8 × 9 × 10 points, lowest at the atoms, as a DFT code would write it."""
    fractions = np.stack(np.meshgrid(*[np.arange(n) / n for n in (8, 9, 10)], indexing="ij"), -1)
    points = fractions @ CELL + ORIGIN
    return -sum(1 / (0.3 + ((points - position) ** 2).sum(-1)) for position in WATER.positions)


def cube(atoms=WATER):
    with tempfile.TemporaryFile("w+") as file:  # ase writes to none but real files
        write_cube(file, atoms, energies() / HARTREE, origin=ORIGIN)
        file.seek(0)
        return file.read()


def xsf():
    text = io.StringIO()
    write_xsf(text, [WATER], np.pad(energies(), [(0, 1)] * 3, mode="wrap"), origin=ORIGIN, span_vectors=CELL)
    return text.getvalue()


def read(text, tmp_path, **options):
    path = tmp_path / "potential"
    path.write_text(text)
    return read_potential(path, **options)


@pytest.mark.parametrize(("write", "precision"), [(cube, 2e-5), (xsf, 1e-6)])
def test_what_ase_writes_is_read_and_an_electrons_energy_becomes_a_positive_charges(write, precision, tmp_path, caplog):
    potential, molecule = read(write(), tmp_path)
    assert_allclose(potential.values, -energies(), atol=precision)  # ase prints six digits
    assert_allclose(potential.origin, ORIGIN, atol=1e-6)
    assert_allclose(potential.cell, CELL, atol=1e-5)
    assert_array_equal(molecule.numbers, WATER.numbers)
    assert_allclose(molecule.positions, WATER.positions, atol=1e-6)
    assert not molecule.charges.any()
    assert not caplog.messages


@pytest.mark.parametrize("write", [cube, xsf])
def test_a_positive_charges_energy_is_taken_as_it_is_and_a_likely_mistake_is_said(write, tmp_path, caplog):
    potential, _ = read(write(), tmp_path, sign="positive")
    assert_allclose(potential.values, energies(), atol=2e-5)
    assert "as if the sign were reversed" in caplog.text
    assert "--potential-sign electron turns it" in caplog.text


def test_a_point_of_a_cube_stands_where_gaussian_puts_it_the_third_axis_running_fastest(tmp_path):
    values = np.arange(512.0).reshape(8, 8, 8)
    rows = "\n".join(" ".join(f"{v:.1f}" for v in row) for row in values.reshape(-1, 4))
    text = f"a\nb\n 1 1.0 2.0 3.0\n 8 0.5 0 0\n 8 0 0.5 0\n 8 0 0 0.5\n 1 1.0 2.0 2.0 2.0\n{rows}\n"
    potential, molecule = read(text, tmp_path, sign="positive")
    bohr = 0.529177210903
    assert_allclose(potential.values, values * 27.211386245988)
    assert_allclose(potential.origin, np.array([1, 2, 3]) * bohr)
    assert_allclose(potential.cell, np.eye(3) * 4 * bohr)
    assert_allclose(molecule.positions, [[2 * bohr] * 3])


def test_an_xsf_grid_of_a_box_that_does_not_repeat_keeps_its_last_planes(tmp_path):
    values = np.random.default_rng(0).normal(size=(8, 9, 10)).round(3)
    head = "\n# made by hand\nMOLECULE\nATOMS\n# one atom\n O 0 0 0\n\nBEGIN_BLOCK_DATAGRID_3D\n any words\n"
    grid = "8 9 10\n0 0 0\n 3.5 0 0\n0 4.0 0\n 0 0 4.5\n" + "\n".join(map(str, values.ravel(order="F")))
    text = f"{head}DATAGRID_3D_potential\n{grid}\nEND_DATAGRID_3D\nEND_BLOCK_DATAGRID_3D\n"
    potential, molecule = read(text, tmp_path, sign="positive")
    assert_array_equal(potential.values, values)
    assert_allclose(potential.cell, np.diag([4.0, 4.5, 5.0]))  # 0.5 Å apart
    assert molecule.symbols == ["O"]


def test_of_several_grids_the_first_is_taken_with_a_warning(tmp_path, caplog):
    block = xsf().partition("BEGIN_BLOCK")
    potential, _ = read("".join(block) + "BEGIN_BLOCK" + block[2], tmp_path)
    assert_allclose(potential.values, -energies(), atol=1e-6)
    assert caplog.messages == ["the xsf file holds several grids; the first is taken"]


def test_a_potential_comes_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(cube().encode())))
    assert read_potential("-")[0].values.shape == (8, 9, 10)


@pytest.mark.parametrize("block", [16, 64, 2**22])
def test_where_the_text_is_cut_into_blocks_does_not_matter(block, tmp_path, monkeypatch):
    whole, _ = read(cube(), tmp_path)
    monkeypatch.setattr(potential_file, "BLOCK", block)
    for text in (cube(), cube().rstrip(), cube().replace("\n", "\r\n"), cube() + "\n \n"):
        assert_array_equal(read(text, tmp_path)[0].values, whole.values)


CUBE_HEAD = "a\nb\n{atoms}\n{a} 0.5 0 0\n8 0 0.5 0\n8 0 0 0.5\n 1 1.0 2.0 2.0 2.0\n"
WRONG = {
    "empty": ("", "is empty"),
    "blank": ("\n\n", "holds no potential that afmid can read"),
    "words": ("once upon a time\n" * 9, "holds no potential that afmid can read"),
    "xyz": ("1\n\nHe 0 0 0\n", "holds no potential that afmid can read"),
    "one line": ("x" * 100_000, "holds no potential that afmid can read"),
    "orbitals": (CUBE_HEAD.format(atoms="-1 0 0 0", a=8), "several values at each point"),
    "nval": (CUBE_HEAD.format(atoms="1 0 0 0 2", a=8), "several values at each point"),
    "ångström": (CUBE_HEAD.format(atoms="1 0 0 0", a=-8), "negative counts"),
    "atoms": (CUBE_HEAD.format(atoms="999999999 0 0 0", a=8), "says 999999999 atoms"),
    "no atoms": (CUBE_HEAD.format(atoms="0 0 0 0", a=8), "holds no atoms"),
    "huge": (CUBE_HEAD.format(atoms="1 0 0 0", a=900_000_000), "says 900000000 × 8 × 8 points; afmid takes"),
    "few": (CUBE_HEAD.format(atoms="1 0 0 0", a=7), "says 7 × 8 × 8 points; afmid takes 8 or more"),
    "claims": (CUBE_HEAD.format(atoms="1 0 0 0", a=500_000), "says 32000000 values, but only 0 bytes follow"),
    "header": ("\n".join(cube().splitlines()[:5]), "ends after line 5"),
    "element": (CUBE_HEAD.format(atoms="1 0 0 0", a=8).replace("1 1.0", "444 1.0") + "0 " * 512, "number 444"),
    "cut": (cube()[:-7001], "says 720 values, holds"),
    "short": ("\n".join(cube().splitlines()[:-1]), "says 720 values, holds 719"),
    "long": (cube() + "\n1.0", "holds more than the 720 values"),
    "nan": (cube().rpartition("\n")[0] + "\nnan", "not finite"),
    "infinite": (cube().rpartition("\n")[0] + "\n1e999", "not finite"),
    "strong": (cube().rpartition("\n")[0] + "\n1e300", "check its unit"),
    "stars": (cube().rpartition("\n")[0] + "\n********", r"has '\*\*\*\*\*\*\*\*' where value 720 of 720"),
    "one value": (CUBE_HEAD.format(atoms="1 0 0 0", a=8) + "1" * 5000, "has no number where value 1 of 512"),
    "far": (CUBE_HEAD.format(atoms="1 0 0 0", a=8).replace("1 1.0 2.0", "1 1.0 2e9"), "'2e9 2.0 2.0' where a length"),
    "flat": (cube(atoms=Atoms("H", [[0, 0, 0]], cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]])), "spans no volume"),
    "coarse": (cube(atoms=Atoms("H", [[0, 0, 0]], cell=[40, 40, 40])), "Å apart"),
    "animation": ("ANIMSTEPS 2\n" + xsf(), "is an animation"),
    "endless": ("CRYSTAL\n" + "\n" * MAX_LINES, "line 300001 leads to no potential"),
    "crowd": ("ATOMS\n" + "1 0 0 0\n" * (MAX_ATOMS + 1), "holds more than 100000 atoms"),
    "structure": (xsf().partition("BEGIN_BLOCK")[0], "before the potential"),
    "empty block": (xsf().partition("BEGIN_DATAGRID")[0], "before the potential"),
    "xsf cut": (xsf()[:-2000], "says 990 values"),
    "xsf short": (xsf().replace(" END_DATAGRID_3D", "", 1), "no END_DATAGRID_3D after"),
    "xsf few": (xsf().replace("9 10 11", "9 10 12"), "'END_DATAGRID_3D' where value 991 of 1080 should stand"),
    "xsf many": (xsf().replace("9 10 11", "9 10 10"), "no END_DATAGRID_3D after the 900 values"),
    "xsf counts": (xsf().replace("9 10 11", "9 ten 11"), "'ten' where a whole number"),
    "xsf element": (xsf().replace("\n  8 ", "\n Qq "), "atomic number 0"),
    "xsf no atoms": ("BEGIN_BLOCK" + xsf().partition("BEGIN_BLOCK")[2], "holds no atoms"),
    "xsf counted": (xsf().replace("\n 3 1", "\n -3 1"), "holds no atoms"),
}


@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG)
def test_what_is_no_potential_is_said_in_one_line(text, says, tmp_path):
    with pytest.raises(DataError, match=rf"^\S*potential: .*{says}") as error:
        read(text, tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_bytes_that_are_no_text_and_what_is_no_file_are_said(tmp_path):
    path = tmp_path / "a.cube"
    for content in (b"\x80\x04\x95" + bytes(100), b"PK\x03\x04\0", bytes(10_000)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.cube: (is no text|holds no potential)"):
            read_potential(path)
    with pytest.raises(DataError, match="no such file"):
        read_potential(tmp_path / "missing.cube")
    with pytest.raises(DataError, match="is a folder"):
        read_potential(tmp_path)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(potential_file, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="afmid reads up to"):
        read(cube(), tmp_path)


@given(data=st.data())
def test_a_damaged_file_gives_a_potential_or_an_error_in_words(data, tmp_path_factory):
    text = data.draw(st.sampled_from([cube(), xsf()])).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(text), 800)))
        text = text[:at] + data.draw(st.binary(max_size=6)) + text[at + data.draw(st.integers(0, 6)) :]
    path = tmp_path_factory.mktemp("damaged") / "file"
    path.write_bytes(text)
    try:
        potential, _ = read_potential(path)
    except DataError:
        return
    assert np.isfinite(potential.values).all()
