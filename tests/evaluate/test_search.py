"""Which poses are searched, and which of them are kept."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation

from afmid.chem import embed
from afmid.data.pack import concatenate
from afmid.evaluate.search import Extent, _even_directions, _poses, _upwards, best
from afmid.molecule import Molecules

EXTENT = Extent(directions=200, poses=20, turns=24, pixel=0.6, shortlist=10, starts=3)


def test_the_best_of_each_owner_are_taken_best_first_and_of_the_best_owners_alone():
    owners, totals = np.array([0, 1, 1, 2, 0, 1]), np.array([0.5, 0.9, 0.7, 0.1, 0.6, 0.8])
    assert_array_equal(best(owners, totals, 2, 2), [1, 5, 4, 0])
    assert_array_equal(best(owners, totals, 9, 1), [1, 4, 3])


def test_of_molecules_that_lie_alike_the_best_is_taken():
    molecule = embed("CO")
    moved = Molecules.of([molecule.moved((shift, 0, 0)) for shift in (0.0, 0.2, 1.0)])
    assert_array_equal(best(np.zeros(3, int), np.array([0.8, 0.9, 0.7]), 1, 3, moved), [1, 2])
    assert_array_equal(best(np.array([0, 1, 0]), np.array([0.8, 0.9, 0.7]), 2, 3, moved), [1, 0, 2])


def test_directions_and_turns_cover_the_rotations_evenly():
    views = _even_directions(EXTENT.directions)
    assert_allclose(_upwards(views) @ views[:, :, None], np.tile([[0], [0], [1]], (200, 1, 1)), atol=1e-12)
    turns = Rotation.from_rotvec(2 * np.pi / EXTENT.turns * np.arange(EXTENT.turns)[:, None] * [0, 0, 1])
    tried = [turn * Rotation.from_matrix(_upwards(views)) for turn in turns]
    drawn = Rotation.random(50, random_state=0)
    nearest = np.min([[(each * turn.inv()).magnitude() for each in drawn] for turn in tried], 0)
    assert nearest.shape == (50, 200)
    assert np.rad2deg(nearest.min(1)).max() < 15


def test_free_molecules_are_searched_in_all_directions_and_pressed_ones_about_flat():
    library = concatenate([[embed("CO"), embed("CO")]], ["test"], ["test"], {}, [False, True])
    poses = _poses(library, np.arange(2), EXTENT)
    assert_array_equal(np.bincount(poses.conformers), [14 + 200, 14])
    assert_allclose(np.linalg.det(poses.rotations), 1)
