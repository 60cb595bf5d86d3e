import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from afmid.data.pack import MAX_NAME, concatenate, joined, read_pack, write_pack
from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.text import line

ARRAYS = (
    *("numbers", "positions", "charges", "bonds", "orders", "atom_offsets", "bond_offsets", "molecule_index"),
    "pressed",
    *("smiles", "source", "split", "name"),
)


@st.composite
def conformers(draw, smiles):
    n = draw(st.integers(1, 6))
    bonds = [(b - 1, b) for b in range(1, n)]
    return Molecule(
        numbers=draw(hnp.arrays(np.int64, n, elements=st.integers(1, 118))),
        positions=draw(hnp.arrays(np.float64, (n, 3), elements=st.floats(-15, 15))),
        charges=draw(hnp.arrays(np.float64, n, elements=st.floats(-3, 3))),
        bonds=np.array(bonds, np.int64).reshape(-1, 2),
        orders=np.array(draw(st.lists(st.sampled_from([1, 1.5, 2, 3]), min_size=n - 1, max_size=n - 1))),
        name=draw(st.sampled_from(["", "Crème de  la\ncrème", "x" * 300])),
        smiles=smiles,
    )


@st.composite
def groups(draw):
    return [draw(st.lists(conformers(f"C{i}"), min_size=1, max_size=3)) for i in range(draw(st.integers(0, 4)))]


def packed(molecules):
    n = len(molecules)
    splits = [("train", "val")[i % 2] for i in range(n)]
    pressed = [i % 2 == 1 for i in range(sum(map(len, molecules)))]
    return concatenate(molecules, [f"liste é {i}" for i in range(n)], splits, {"seed": 0}, pressed)


@given(groups())
def test_a_pack_gives_back_the_molecules_within_its_resolution(molecules):
    pack = packed(molecules)
    flat = [conformer for group in molecules for conformer in group]
    assert len(pack) == len(flat)
    for i, molecule in enumerate(flat):
        back = pack.molecule(i)
        assert_array_equal(back.numbers, molecule.numbers)
        assert_allclose(back.positions, molecule.positions - molecule.positions.mean(0), atol=0.00051)
        assert_allclose(back.charges, molecule.charges, atol=0.000051)
        assert_array_equal(back.bonds, molecule.bonds)
        assert_array_equal(back.orders, molecule.orders)
        assert back.smiles == molecule.smiles
    told = [line(group[0].name, MAX_NAME) for group in molecules]
    assert [pack.molecule(i).name for i in range(len(pack))] == [told[i] for i in pack.molecule_index]


@given(molecules=groups())
def test_write_then_read_changes_nothing(molecules, tmp_path_factory):
    pack, folder = packed(molecules), tmp_path_factory.mktemp("pack")
    write_pack(pack, folder / "a.npz")
    read = read_pack(folder / "a.npz")
    for name in ARRAYS:
        assert_array_equal(getattr(read, name), getattr(pack, name))
    assert read.meta == pack.meta
    assert read.sha256 == pack.sha256
    write_pack(read, folder / "b.npz")
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()


@given(st.lists(groups(), min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_packs_joined_are_the_pack_of_all_molecules_and_what_is_taken_out_is_the_pack_of_it(several, random):
    everything = packed([group for groups in several for group in groups])
    chosen = [i for i in range(len(everything.smiles)) if random.random() < 0.5]
    ends = np.cumsum([len(groups) for groups in several])
    parts = [everything.taken(part) for part in np.split(np.arange(len(everything.smiles)), ends[:-1])]
    assert joined(parts, {}).sha256 == everything.sha256
    some = everything.taken(chosen)
    assert some.smiles == tuple(everything.smiles[i] for i in chosen)
    of_chosen = [i for i in range(len(everything)) if everything.molecule_index[i] in chosen]
    assert len(some) == len(of_chosen)
    for new, old in enumerate(of_chosen):
        assert some.pressed[new] == everything.pressed[old]
        assert_array_equal(some.molecule(new).positions, everything.molecule(old).positions)
        assert_array_equal(some.molecule(new).bonds, everything.molecule(old).bonds)
        assert some.molecule(new).smiles == everything.molecule(old).smiles


@given(groups())
def test_each_conformer_is_in_the_split_of_its_molecule(molecules):
    pack = packed(molecules)
    parts = [pack.conformers(split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(pack)))
    for split, part in zip(("train", "val", "test"), parts, strict=True):
        assert all(pack.split[pack.molecule_index[i]] == split for i in part)


ATOM = Molecule(np.array([6, 8]), np.array([[0.0, 0, 0], [1.2, 0, 0]]), bonds=np.array([[0, 1]]), smiles="C=O")


def test_the_hash_follows_the_content():
    pack = packed([[ATOM]])
    other = packed([[ATOM.moved((1, 1, 1))]])
    assert pack.sha256 == other.sha256  # about the centre it is the same molecule
    assert packed([[replace(ATOM, charges=np.array([0.1, -0.1]))]]).sha256 != pack.sha256
    assert replace(pack, split=("test",)).sha256 != pack.sha256
    assert replace(pack, name=("methanal",)).sha256 == pack.sha256
    assert replace(pack, pressed=1 - pack.pressed).sha256 != pack.sha256


@pytest.mark.parametrize(
    ("molecule", "says"),
    [
        (Molecule(np.full(256, 1), np.zeros((256, 3))), "more than 255 atoms"),
        (Molecule(np.array([1, 1]), np.array([[0.0, 0, 0], [70.0, 0, 0]])), "from its centre"),
        (Molecule(np.array([1]), np.zeros((1, 3)), np.array([4.0])), "a charge beyond 3.3 e"),
    ],
)
def test_what_does_not_fit_is_refused_and_never_wrapped(molecule, says):
    with pytest.raises(DataError, match=says):
        packed([[molecule]])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"positions": np.zeros((1, 3), np.int16)}, "positions needs shape"),
        ({"numbers": np.array([6.0, 8.0])}, "numbers must be uint8"),
        ({"numbers": np.array([6, 200], np.uint8)}, "element that does not exist"),
        ({"bonds": np.array([[0, 2]], np.uint8)}, "a bond joins atoms"),
        ({"bonds": np.array([[1, 1]], np.uint8)}, "a bond joins an atom to itself"),
        ({"numbers": np.array(6, np.uint8)}, "numbers needs shape"),
        ({"orders": np.array(2, np.uint8)}, "orders needs shape"),
        ({"molecule_index": np.array(0)}, "molecule_index needs shape"),
        ({"atom_offsets": np.array(0)}, "atom_offsets needs shape"),
        ({"atom_offsets": np.array([0, 3])}, "offsets must rise"),
        ({"atom_offsets": np.array([1, 2])}, "offsets must rise"),
        ({"pressed": np.array([2], np.uint8)}, "pressed must be 0 or 1"),
        ({"pressed": np.array([0, 0], np.uint8)}, "pressed needs shape"),
        ({"molecule_index": np.array([1])}, "molecule_index must name"),
        ({"molecule_index": np.array([-1])}, "molecule_index must name"),
        ({"split": ()}, "one entry each"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(changes, says):
    with pytest.raises(DataError, match=says):
        replace(packed([[ATOM]]), **changes)


def test_offsets_that_only_rise_by_overflow_are_refused():
    pack = packed([[ATOM], [ATOM], [ATOM], [ATOM]])
    with pytest.raises(DataError, match="offsets must rise"):
        replace(pack, atom_offsets=np.array([0, 2**63 - 1, -(2**63), -1, 8]))


def test_a_pack_of_old_names_no_molecules(tmp_path):
    write_pack(packed([[ATOM], [ATOM]]), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        np.savez(tmp_path / "old.npz", **{name: array for name, array in file.items() if name != "name"})
    assert read_pack(tmp_path / "old.npz").name == ("", "")


def test_names_in_a_pack_of_others_are_short_and_printable(tmp_path):
    write_pack(packed([[ATOM]]), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        np.savez(tmp_path / "b.npz", **{**file, "name": np.array([b"\x1b[31mred\n" + b"x" * 1000])})
    assert read_pack(tmp_path / "b.npz").name == ("[31mred " + "x" * 71 + "…",)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"molecule": None}, "no array 'molecule'"),
        ({"smiles": None}, "no array 'smiles'"),
        ({"smiles": np.array(b"C")}, "smiles must be a list of byte strings"),
        ({"name": np.array([b"x", b"y"])}, "one entry each"),
        ({"pressed": None}, "no array 'pressed'"),
        ({"molecule": np.array(0)}, "molecule_index needs shape"),
        ({"bonds": np.array([[1, 1]], np.uint8)}, "a bond joins an atom to itself"),
        ({"smiles": np.array(["C"])}, "smiles must be a list of byte strings"),
        ({"smiles": np.array([b"\xff"])}, "smiles is not UTF-8"),
        ({"meta": np.array("{}")}, "schema is None"),
    ],
)
def test_a_file_that_is_no_pack_is_said_with_its_name(changes, says, tmp_path):
    write_pack(packed([[ATOM]]), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        arrays = {**file, **changes}
    np.savez(tmp_path / "bad.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=rf"bad\.npz: .*{says}"):
        read_pack(tmp_path / "bad.npz")


def test_a_training_process_reads_a_pack_without_chemistry():
    code = "import sys, afmid.data.pack; print([m for m in ('rdkit', 'ase', 'torch', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
