import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from afmid import DataError, Molecule
from afmid.molecule import LEARNT, SYMBOLS

POSITIONS = hnp.arrays(np.float64, (4, 3), elements=st.floats(-50, 50))
SHIFTS = hnp.arrays(np.float64, 3, elements=st.floats(-50, 50))
NUMBERS = np.array([6, 1, 8, 53])


@given(POSITIONS, SHIFTS)
def test_shifting_there_and_back_changes_nothing(positions, shift):
    molecule = Molecule(NUMBERS, positions)
    assert_allclose(molecule.moved(shift).moved(-shift).positions, positions, atol=1e-9)


@given(POSITIONS, st.floats(0, 7))
def test_turning_keeps_distances_and_turning_back_changes_nothing(positions, angle):
    c, s = np.cos(angle), np.sin(angle)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    turned = Molecule(NUMBERS, positions).turned(rotation)
    assert_allclose(turned.positions[:, 0], c * positions[:, 0] - s * positions[:, 1], atol=1e-9)
    assert_allclose(turned.turned(rotation.T).positions, positions, atol=1e-9)


@given(POSITIONS)
def test_the_topmost_atom_comes_to_zero(positions):
    molecule = Molecule(NUMBERS, positions).topmost_at_zero()
    assert molecule.positions[:, 2].max() == 0
    assert_allclose(molecule.positions[:, :2], positions[:, :2])


def test_charges_are_zero_and_orders_one_where_none_are_given():
    molecule = Molecule([6, 1], np.zeros((2, 3)), bonds=[[0, 1]])
    assert molecule.charges.tolist() == [0, 0]
    assert molecule.orders.tolist() == [1]
    assert (len(molecule), molecule.symbols) == (2, ["C", "H"])


def test_symbols_stand_at_their_atomic_number():
    assert [SYMBOLS[n] for n in LEARNT] == ["H", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I"]
    assert len(SYMBOLS) == 119
    assert SYMBOLS[79] == "Au"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"numbers": []}, "at least one atom"),
        ({"numbers": [[6, 1]]}, "at least one atom"),
        ({"numbers": [6, 0]}, "no element has the atomic number 0"),
        ({"numbers": [6, 119]}, "no element has the atomic number 119"),
        ({"positions": np.zeros((2, 2))}, "positions need shape"),
        ({"positions": np.full((2, 3), np.nan)}, "positions hold values that are not finite"),
        ({"charges": [0.1]}, "charges need shape"),
        ({"bonds": [[0, 2]]}, "bonds must join"),
        ({"bonds": [[1, 1]]}, "bonds must join"),
        ({"numbers": [6.7, 1]}, "numbers must be whole numbers, not float64"),
        ({"numbers": ["C", "H"]}, "numbers must be whole numbers, not <U1"),
        ({"positions": np.zeros((2, 3), complex)}, "positions must be real numbers, not complex128"),
        ({"positions": [[0, 0, 0], [0, 0]]}, "positions must have rows of one length"),
        ({"charges": ["a", "b"]}, "charges must be real numbers"),
        ({"bonds": [0, 1]}, r"bonds need shape \(E, 2\), have \(2,\)"),
        ({"bonds": [[0, 1, 1]]}, r"bonds need shape \(E, 2\), have \(1, 3\)"),
        ({"bonds": [[0, 1], [1]]}, "bonds must have rows of one length"),
        ({"bonds": [[0.5, 1]]}, "bonds must be whole numbers"),
        ({"bonds": [[0, 1]], "orders": [1, 2]}, "orders need shape"),
    ],
)
def test_what_is_no_molecule_is_refused_in_words(content, says):
    with pytest.raises(DataError, match=says):
        Molecule(**{"numbers": [6, 1], "positions": np.zeros((2, 3)), **content})
