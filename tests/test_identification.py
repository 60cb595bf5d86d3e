import numpy as np
import pytest

from afmid import Atom, Bond, Candidate, DataError, Identification, Map

ATOMS = (Atom("C", 0, 0, 0, 0.9), Atom(None, 1, 0, 0, 0.2))


def answer(**content):
    return Identification("test", "1", np.arange(4.0), np.arange(3.0), **content)


def test_what_a_method_does_not_produce_is_empty():
    nothing = answer()
    assert (nothing.smiles, nothing.picture, nothing.fit) == (None, None, None)
    assert not any((nothing.atoms, nothing.bonds, nothing.maps, nothing.candidates))


def test_the_molecule_is_that_of_the_atoms_else_the_best_candidate_that_is_placed():
    atoms = (Atom("O", 1, 2, 0, 0.9), Atom("C", 2, 2, -0.5, 0.8))
    molecule = answer(atoms=atoms, bonds=(Bond(0, 1, 2.0, 0.7),), smiles="C=O").molecule
    assert (molecule.symbols, molecule.smiles) == (["O", "C"], "C=O")
    assert molecule.positions.tolist() == [[1, 2, 0], [2, 2, -0.5]]
    assert (molecule.bonds.tolist(), molecule.orders.tolist()) == ([[0, 1]], [2])
    assert not molecule.charges.any()
    candidates = (Candidate("C", "", "CH4", 2.0), Candidate("C=O", "", "CH2O", 1.0, molecule=molecule))
    assert answer(atoms=ATOMS, candidates=candidates).molecule is molecule
    assert answer(atoms=ATOMS).molecule is answer().molecule is None
    with pytest.raises(DataError, match="the element 'Qq', which does not exist"):
        _ = answer(atoms=(Atom("Qq", 0, 0, 0, 1),)).molecule


@pytest.mark.parametrize("axis", [[], [3.0, 2.0], [1.0, 1.0]])
def test_axes_hold_pixels_and_ascend(axis):
    with pytest.raises(DataError, match="the answer's y must hold pixels, and ascend"):
        Identification("test", "1", np.arange(4.0), np.array(axis))


def test_maps_stand_on_the_scans_pixels():
    assert answer(maps={"disks": Map(np.zeros((4, 3), np.float32), "Å")}).maps["disks"].unit == "Å"
    with pytest.raises(DataError, match=r"map 'disks' has shape \(3, 4\), the scan \(4, 3\)"):
        answer(maps={"disks": Map(np.zeros((3, 4), np.float32), "Å")})


def test_the_deviations_of_a_map_stand_on_its_pixels():
    values = np.zeros((4, 3), np.float32)
    assert answer(maps={"disks": Map(values, "Å")}).maps["disks"].sigma is None
    assert answer(maps={"disks": Map(values, "Å", values + 1)}).maps["disks"].sigma.max() == 1
    with pytest.raises(DataError, match=r"map 'disks' has shape \(3, 4\), the scan \(4, 3\)"):
        answer(maps={"disks": Map(values, "Å", values.T)})


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan")])
def test_a_confidence_lies_between_zero_and_one(confidence):
    with pytest.raises(DataError, match="a confidence lies in 0–1"):
        answer(atoms=(Atom("C", 0, 0, 0, confidence),))
    with pytest.raises(DataError, match="a confidence lies in 0–1"):
        answer(atoms=ATOMS, bonds=(Bond(0, 1, 1, confidence),))


@pytest.mark.parametrize("ends", [(0, 2), (-1, 0), (1, 1)])
def test_a_bond_joins_two_atoms_of_the_answer(ends):
    with pytest.raises(DataError, match="does not join two of the 2 atoms"):
        answer(atoms=ATOMS, bonds=(Bond(*ends, 1, 1.0),))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_in_words(bad):
    unsure = np.zeros((4, 3), np.float32), "1"
    for content, says in (
        ({"atoms": (Atom("C", 0, bad, 0, 0.9),)}, "positions of the atoms"),
        ({"atoms": ATOMS, "bonds": (Bond(0, 1, bad, 0.9),)}, "orders of the bonds"),
        ({"maps": {"disks": Map(np.full((4, 3), bad, np.float32), "1")}}, "values of the map 'disks'"),
        ({"maps": {"disks": Map(*unsure, np.full((4, 3), bad, np.float32))}}, "deviations of the map 'disks'"),
        ({"candidates": (Candidate("C", "", "CH4", bad),)}, "scores of the candidates"),
        ({"fit": bad}, "values of the fit"),
    ):
        with pytest.raises(DataError, match=f"{says} hold values that are not finite"):
            answer(**content)
    with pytest.raises(DataError, match="values of x hold values that are not finite"):
        Identification("test", "1", np.array([0, bad]), np.arange(3.0))
