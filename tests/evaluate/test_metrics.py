import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from afmid.builtin import afmid_evaluate
from afmid.evaluate import evaluate
from afmid.evaluate.metrics import atoms, bonds, compare, elements, match_atoms, molecule
from afmid.identification import Atom, Bond, Identification
from afmid.molecule import Molecule

AXIS = np.linspace(-8, 8, 5)
SCORES = {metric.name: metric.load() for metric in afmid_evaluate()}
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"

# Three visible atoms in a row and a hidden oxygen; C–C, C–N, N–O are bonded.
TRUTH = Molecule([6, 6, 7, 8], [[0, 0, 5.0], [1.5, 0, 4.8], [3, 0, 4.5], [4.5, 0, 3.0]], bonds=[[0, 1], [1, 2], [2, 3]],
                 smiles="CCN=O")  # fmt: skip

positions = st.integers(0, 5).flatmap(lambda n: arrays(float, (n, 3), elements=st.floats(-1, 1, width=16)))


def answer(*atoms, bonds=(), smiles=None):
    """Return an answer of atoms (element, x, y, z) and bonds (a, b)."""
    made = tuple(Atom(element, x, y, z, 0.5) for element, x, y, z in atoms)
    return Identification("test", "1", AXIS, AXIS, atoms=made, bonds=tuple(Bond(a, b, 1, 0.5) for a, b in bonds),
                          smiles=smiles)  # fmt: skip


def perfect(truth=TRUTH):
    places = zip(truth.symbols, truth.topmost_at_zero().positions, strict=True)
    return answer(*((symbol, *place) for symbol, place in places), bonds=truth.bonds, smiles=truth.smiles)


# matching


@given(predicted=positions, true=positions, cutoff=st.floats(0.05, 1))
def test_atoms_match_one_to_one_within_the_cutoff_and_as_many_as_can(predicted, true, cutoff):
    pairs = match_atoms(predicted, true, cutoff)
    lateral = np.linalg.norm(predicted[:, None, :2] - true[None, :, :2], axis=-1)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    assert (lateral[pairs[:, 0], pairs[:, 1]] <= cutoff).all()
    short, long = sorted(lateral.shape)
    table = lateral if lateral.shape[0] == short else lateral.T
    ways = [table[np.arange(short), list(way)] for way in permutations(range(long), short)] if short else []
    assert len(pairs) == max([int((way <= cutoff).sum()) for way in ways], default=0)


@given(true=positions, shift=st.floats(0, 0.3), seed=st.integers(0, 99))
def test_the_order_of_the_atoms_does_not_matter(true, shift, seed):
    order = np.random.default_rng(seed).permutation(len(true))
    moved = true + np.array([shift, 0, 0])
    straight, shuffled = match_atoms(moved, true), match_atoms(moved[order], true)
    assert len(straight) == len(shuffled) == len(true)

    def cost(a, pairs):
        return np.linalg.norm(a[pairs[:, 0], :2] - true[pairs[:, 1], :2], axis=1).sum()

    assert cost(moved, straight) == pytest.approx(cost(moved[order], shuffled), abs=0.02)


def test_two_matches_are_better_than_one_closer_match():
    predicted = np.array([[0.2, 0, 0], [0.5, 0, 0]])
    true = np.array([[-0.1, 0, 0], [0.25, 0, 0]])  # greedy would take 0.2 with 0.25 and leave two over
    np.testing.assert_array_equal(match_atoms(predicted, true), [[0, 0], [1, 1]])


def test_of_two_atoms_above_each_other_the_nearer_in_height_is_meant():
    true = np.array([[0, 0, -1.5], [0, 0, 0.0]])
    np.testing.assert_array_equal(match_atoms(np.array([[0.1, 0, -0.1]]), true), [[0, 1]])


# atoms


def test_a_perfect_answer_is_right_in_every_figure():
    figures = evaluate(perfect(), TRUTH, SCORES)
    for name, value in figures.items():
        if not name.endswith(("_true", "_found")):
            assert value == pytest.approx(0 if "error" in name or "nearest" in name else 1), name
    assert (figures["atoms_found"], figures["atoms_visible_true"], figures["atoms_whole_true"]) == (4, 3, 4)


def test_an_empty_answer_misses_all_atoms():
    figures = atoms(answer(), TRUTH)
    assert {name: value for name, value in figures.items() if "true" not in name} == {"atoms_found": 0} | {
        f"atoms_{part}_{what}_within_{cutoff}_pm": 0
        for part in ("visible", "whole") for what in ("precision", "recall") for cutoff in (35, 50)
    }  # fmt: skip
    assert elements(answer(), TRUTH) == bonds(answer(), TRUTH) == molecule(answer(), TRUTH) == {}


def test_the_figures_of_the_atoms_are_those_worked_out_by_hand():
    found = answer(
        (None, 0.3, 0.0, 0.0),  # 0.3 Å off the first atom
        (None, 1.5, 0.4, -0.3),  # 0.4 Å off the second, 0.1 Å too low: only within 50 pm
        (None, 4.5, 0.1, -1.5),  # the hidden atom, 0.5 Å too high
        (None, 7.0, 7.0, 0.0),  # nothing there
    )
    figures = atoms(found, TRUTH)
    expected = {
        "atoms_found": 4,
        "atoms_visible_precision_within_35_pm": 1 / 3,  # first | second, fourth; the third is not counted
        "atoms_visible_recall_within_35_pm": 1 / 3,
        "atoms_visible_precision_within_50_pm": 2 / 3,
        "atoms_visible_recall_within_50_pm": 2 / 3,
        "atoms_whole_precision_within_35_pm": 2 / 4,
        "atoms_whole_recall_within_35_pm": 2 / 4,
        "atoms_whole_precision_within_50_pm": 3 / 4,
        "atoms_whole_recall_within_50_pm": 3 / 4,
        "atoms_visible_error_x_mean_angstrom": 0.3,
        "atoms_visible_error_y_mean_angstrom": 0.0,
        "atoms_visible_error_z_mean_angstrom": 0.0,
        "atoms_whole_error_x_mean_angstrom": 0.15,
        "atoms_whole_error_y_mean_angstrom": 0.05,
        "atoms_whole_error_z_mean_angstrom": 0.25,
        "atoms_whole_error_xy_mean_angstrom": 0.2,
        "atoms_whole_error_xy_median_angstrom": 0.2,
        "atoms_visible_nearest_xy_mean_angstrom": (0.3 + 0.4 + np.hypot(1.5, 0.1)) / 3,
        "atoms_whole_nearest_xy_median_angstrom": 0.35,  # of 0.3, 0.4, 1.503 (both neighbours), 0.1
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_a_visible_atom_is_matched_before_a_hidden_one_below_it():
    truth = Molecule([6, 6], [[0, 0, 0], [0.1, 0, -1.5]])
    held = compare(answer((None, 0.1, 0, -1.0)), truth, "visible")
    assert (held.pairs.tolist(), held.false) == ([[0, 0]], 0)


@given(lift=st.floats(-50, 50))
def test_heights_count_from_the_topmost_atom(lift):
    moved = atoms(perfect(), TRUTH.moved((0, 0, lift)))
    assert moved == pytest.approx(atoms(perfect(), TRUTH), abs=1e-6)


# elements


def test_the_figures_of_the_elements_are_those_worked_out_by_hand():
    found = answer(
        ("C", 0, 0, 0),  # right
        ("Si", 1.5, 0, 0),  # C: the right class
        ("O", 3, 0, 0),  # N: wrong
        (None, 4.5, 0, -2),  # not given
        ("H", 7, 7, 0),  # not matched
    )
    assert elements(found, TRUTH) == pytest.approx({
        "elements_visible_given": 1,
        "elements_visible_accuracy": 1 / 3,
        "elements_visible_accuracy_five_classes": 2 / 3,
        "elements_whole_given": 3 / 4,
        "elements_whole_accuracy": 1 / 3,
        "elements_whole_accuracy_five_classes": 2 / 3,
    })  # fmt: skip


def test_a_method_that_names_no_element_is_not_judged_by_elements():
    assert elements(answer((None, 0, 0, 0)), TRUTH) == {"elements_visible_given": 0, "elements_whole_given": 0}


# bonds


def test_the_figures_of_the_bonds_are_those_worked_out_by_hand():
    places = [(None, 0, 0, 0), (None, 1.5, 0, 0), (None, 3, 0, 0), (None, 4.5, 0, -2), (None, 7, 7, 0)]
    found = answer(*places, bonds=[(1, 0), (0, 2), (3, 4)])  # right, wrong, and one of an atom that matches nothing
    assert bonds(found, TRUTH) == pytest.approx({
        "bonds_visible_precision": 1 / 2,
        "bonds_visible_recall": 1 / 2,
        "bonds_whole_precision": 1 / 2,
        "bonds_whole_recall": 1 / 3,
    })  # fmt: skip


def test_atoms_without_bonds_miss_all_bonds_between_them_and_have_no_precision():
    figures = bonds(answer(("C", 0, 0, 0), ("C", 1.5, 0, 0)), TRUTH)
    assert figures == {"bonds_visible_recall": 0, "bonds_whole_recall": 0}


def test_a_truth_without_bonds_does_not_judge_them():
    assert bonds(perfect(), Molecule(TRUTH.numbers, TRUTH.positions)) == {}


# molecule


@pytest.mark.parametrize(("said", "right"), [
    ("N(=O)CC", 1), ("CCNO", 0), ("no smiles at all", 0),
])  # fmt: skip
def test_a_molecule_is_right_if_its_connectivity_is(said, right):
    assert molecule(answer(smiles=said), TRUTH) == {"molecule_exact": right}


def test_stereochemistry_does_not_matter():
    alanine = Molecule([6], [[0, 0, 0]], smiles="C[C@H](N)C(=O)O")
    assert molecule(answer(smiles="C[C@@H](N)C(=O)O"), alanine) == {"molecule_exact": 1}


def test_without_a_smiles_there_is_nothing_to_say_about_the_molecule():
    assert molecule(answer(), TRUTH) == {}
    assert molecule(answer(smiles="C"), Molecule([6], [[0, 0, 0]])) == {}


# the offers and their page


def test_each_figure_is_defined_on_the_reference_page_and_each_definition_is_a_figure():
    page = PAGE.read_text(encoding="utf-8")
    sets = {"PART": "(visible|whole)", "AXIS": "(x|y|z|xy)", "STATISTIC": "(mean|median)"}
    rows = [row for row in page.splitlines() if row.startswith("| `")]
    patterns = [name for row in rows for name in re.findall(r"`([A-Za-z0-9_]+)`", row.split("|")[1])]
    patterns = [re.sub("|".join(sets), lambda match: sets[match[0]], pattern) for pattern in patterns]
    figures = evaluate(perfect(), TRUTH, SCORES)
    assert all(any(re.fullmatch(pattern, name) for pattern in patterns) for name in figures)
    assert all(any(re.fullmatch(pattern, name) for name in figures) for pattern in patterns)
    assert all(f"## `{metric}`" in page for metric in SCORES)
