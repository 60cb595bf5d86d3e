import numpy as np
import pytest
import torch

from afmid import Molecule
from afmid.data.examples import Examples
from afmid.io import read_molecule
from afmid.scan import Scan
from afmid_graphgen.graph import ELEMENTS, ORDERS
from afmid_graphgen.model import pairs_of
from afmid_graphgen.targets import truth_of

AXIS = np.arange(64) * 0.125 - 4


def examples_of(*molecules):
    z = np.arange(10)[::-1] * 0.1
    scans = [Scan(df=np.zeros((64, 64, 10)), x=AXIS, y=AXIS, z=z, truth=molecule) for molecule in molecules]
    return Examples.joined([Examples.of(scan) for scan in scans])


def truth(examples, found, batch=None):
    found = torch.tensor(np.array(found), dtype=torch.float32)
    batch = torch.zeros(len(found), dtype=torch.long) if batch is None else torch.tensor(batch)
    return truth_of(examples, found, batch, pairs_of((found + 4) / 0.125, batch))


@pytest.fixture(scope="module")
def benzene():
    return read_molecule("benzene")


def test_atoms_found_where_they_are_are_told_what_they_are(benzene):
    told = truth(examples_of(benzene), benzene.positions[:, :2])
    assert told.atom.tolist() == list(range(12))
    assert [ELEMENTS[i] for i in told.elements] == benzene.symbols
    np.testing.assert_allclose(told.positions, benzene.topmost_at_zero().positions, atol=1e-5)
    assert not told.missing.any()
    orders = [ORDERS[i] for i in told.bonds]
    assert (orders.count(1.5), orders.count(1.0)) == (6, 6)


def test_a_peak_beside_all_atoms_is_none_and_of_two_at_one_atom_the_nearer_counts(benzene):
    near = benzene.positions[0, :2]
    told = truth(examples_of(benzene), [near + np.array([0.3, 0]), near + np.array([0.1, 0]), [3.9, 3.9]])
    assert told.exists.tolist() == [False, True, False]


def test_of_two_peaks_equally_near_to_an_atom_one_is_it():
    molecule = Molecule([6], [[0.0, 0, 0]])
    assert truth(examples_of(molecule), [[0.1, 0], [-0.1, 0]]).exists.tolist() == [True, False]


def test_a_bond_is_one_only_between_atoms_that_exist(benzene):
    a, b = benzene.positions[benzene.bonds[0], :2]
    told = truth(examples_of(benzene), [a, b, (a + b) / 2 + 0.6])
    assert (told.bonds > 0).tolist() == [True, False, False]


def test_valences_to_atoms_that_were_not_found_are_missing(benzene):
    carbons = benzene.positions[benzene.numbers == 6]
    told = truth(examples_of(benzene), carbons[:, :2])
    assert told.missing.tolist() == [1] * 6
    assert truth(examples_of(benzene), carbons[:1, :2]).missing.tolist() == [4]
    ends = benzene.bonds[benzene.orders == 1.5][0]
    assert truth(examples_of(benzene), benzene.positions[ends, :2]).missing.tolist() == [3, 3]  # 1.5 + 1, rounded up


def test_a_hidden_atom_below_a_visible_one_is_not_meant():
    molecule = Molecule([6, 8, 7], [[0, 0, 0], [0.05, 0, -1.4], [2, 0, -2.5]])
    told = truth(examples_of(molecule), [[0.05, 0], [2, 0]])
    assert told.atom.tolist() == [0, -1]


def test_each_scan_has_its_own_truth_and_padding_is_no_atom(benzene):
    small = Molecule([17], [[1.0, 1.0, 5.0]])
    told = truth(examples_of(benzene, small), [benzene.positions[0, :2], [1.0, 1.0], [0.0, 0.0]], [0, 1, 1])
    assert told.atom.tolist() == [0, 0, -1]
    assert ELEMENTS[told.elements[1]] == "Cl"
    assert told.positions[1, 2] == 0
