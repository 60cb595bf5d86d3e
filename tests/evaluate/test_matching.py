from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from afmid.evaluate.matching import compare, match_atoms, visible
from afmid.identification import Atom, Identification
from afmid.molecule import Molecule

positions = st.integers(0, 5).flatmap(lambda n: arrays(float, (n, 3), elements=st.floats(-1, 1, width=16)))


def answer(*places):
    axis = np.linspace(-8, 8, 5)
    return Identification("test", "1", axis, axis, atoms=tuple(Atom(None, *place, 0.5) for place in places))


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


def test_an_atom_is_visible_down_to_80_pm_below_the_topmost():
    molecule = Molecule([6, 6, 6], [[0, 0, 0.0], [2, 0, -0.8], [4, 0, -0.8125]])
    assert visible(molecule).tolist() == [True, True, False]


def test_a_visible_atom_is_matched_before_a_hidden_one_below_it():
    truth = Molecule([6, 6], [[0, 0, 0], [0.1, 0, -1.5]])
    held = compare(answer((0.1, 0, -1.0)), truth, "visible")
    assert (held.pairs.tolist(), held.false) == ([[0, 0]], 0)


def test_what_matches_a_hidden_atom_is_not_false_where_the_visible_ones_are_judged():
    truth = Molecule([6, 6], [[0, 0, 0], [2, 0, -1.5]])
    places = (2.1, 0, -1.5), (5, 5, 0), (0.1, 0, 0.2)  # hidden, false, visible
    held = compare(answer(*places), truth, "visible")
    assert (held.partners, held.false) == ({2: 0}, 1)
    np.testing.assert_allclose(held.off, [[0.1, 0, 0.2]])
    assert compare(answer(*places), truth, "whole").partners == {0: 1, 2: 0}
