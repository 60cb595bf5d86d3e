"""How molecules lie under the tip."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from afmid.data.poses import draw_rotations, entropy, posed, random_rotations
from afmid.molecule import Molecule

ANGLES = np.arange(6) * np.pi / 3
BENZENE = Molecule(
    numbers=np.repeat([6, 1], 6),
    positions=np.concatenate([r * np.stack([np.cos(ANGLES), np.sin(ANGLES), 0 * ANGLES], 1) for r in (1.39, 2.48)]),
)
UPRIGHT = BENZENE.turned(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))
ASYMMETRIC = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [5, 1, 0.0]])


def drawn(positions, count, share_flat=1.0, seed=0, **settings):
    """Return `count` poses (count, N, 3) of one molecule, the first ones flat."""
    many = np.broadcast_to(positions, (count, *positions.shape))
    flat = np.arange(count) < share_flat * count
    rotations = draw_rotations(many, np.ones(many.shape[:2], bool), flat, np.random.default_rng(seed), **settings)
    return many @ rotations.swapaxes(1, 2)


def azimuth(vectors):
    return np.arctan2(vectors[:, 1], vectors[:, 0])


def test_flat_benzene_scores_above_upright_benzene():
    assert entropy(BENZENE.positions[:, 2]) == pytest.approx(12)
    assert entropy(UPRIGHT.positions[:, 2]) < 6


def test_where_there_is_no_atom_there_is_no_entropy():
    assert_allclose(entropy(np.array([[0.0, -1.0, -np.inf], [0.0, -np.inf, -np.inf]])), [1 + np.exp(-1), 1])


def test_rotations_are_proper_and_spread_evenly():
    rotations = random_rotations((1000, 4), np.random.default_rng(0)).reshape(-1, 3, 3)
    assert_allclose(rotations @ rotations.swapaxes(1, 2), np.broadcast_to(np.eye(3), (4000, 3, 3)), atol=1e-12)
    assert_allclose(np.linalg.det(rotations), 1)
    assert_allclose(rotations.mean(0), 0, atol=0.05)
    assert_allclose((rotations**2).mean(0), 1 / 3, atol=0.03)


def test_drawn_rotations_are_proper_and_evenly_distributed_about_z():
    many = np.broadcast_to(ASYMMETRIC, (4000, 4, 3))
    flat = np.arange(4000) < 2000
    rotations = draw_rotations(many, np.ones((4000, 4), bool), flat, np.random.default_rng(0), tilt=20.0)
    assert_allclose(rotations @ rotations.swapaxes(1, 2), np.broadcast_to(np.eye(3), (4000, 3, 3)), atol=1e-12)
    assert_allclose(np.linalg.det(rotations), 1)
    for part in (rotations[:2000], rotations[2000:]):
        for axis in range(3):
            turns = np.exp(1j * np.outer([1, 2, 3], azimuth(part[:, :, axis])))
            assert np.abs(turns.mean(1)).max() < 0.08  # of the moments of an even distribution, within 3.5 σ


def test_those_that_lie_flat_are_tilted_no_more_than_asked_and_the_others_are_steep():
    poses = drawn(UPRIGHT.positions, 100, share_flat=0.5, tilt=5.0, attempts=1)
    heights = np.ptp(poses[..., 2], axis=1)
    assert heights[:50].max() <= 4.96 * np.sin(np.deg2rad(5.0)) + 1e-9
    assert heights[:50].max() > 2 * np.sin(np.deg2rad(4.0))
    assert np.median(heights[50:]) > 2


def test_flat_molecules_are_tilted_about_any_axis_and_turned_any_way():
    poses = drawn(ASYMMETRIC, 1000, tilt=10.0)
    normals = np.cross(poses[:, 1] - poses[:, 0], poses[:, 2] - poses[:, 0])
    assert 400 < (normals[:, 2] > 0).sum() < 600  # either side up
    normals *= np.sign(normals[:, 2:])
    edges = poses[:, 1] - poses[:, 0]
    for vectors in (normals, edges):  # the way that the molecule leans, and the way that it points
        assert np.histogram(azimuth(vectors), 8, (-np.pi, np.pi))[0].min() > 80
    assert abs(np.exp(1j * (azimuth(normals) - azimuth(edges))).mean()) < 0.1  # one says nothing of the other


def test_what_fills_up_smaller_molecules_changes_nothing():
    rng = np.random.default_rng(1)
    positions, flat = rng.normal(size=(20, 5, 3)), np.arange(20) < 10
    filled, atoms = np.full((20, 9, 3), 7.0), np.zeros((20, 9), bool)
    filled[:, :5], atoms[:, :5] = positions, True
    alone = draw_rotations(positions, np.ones((20, 5), bool), flat, np.random.default_rng(2))
    assert_allclose(draw_rotations(filled, atoms, flat, np.random.default_rng(2)), alone, atol=1e-9)


def test_more_attempts_show_more_atoms():
    one, eight = (entropy(drawn(BENZENE.positions, 100, 0.0, attempts=n)[..., 2]).mean() for n in (1, 8))
    assert eight > one + 1


def test_a_molecule_that_is_asked_to_lie_flat_does_so_on_either_side_and_any_way_round():
    poses = [posed(UPRIGHT, "flat", 0, i).positions for i in range(40)]
    assert max(np.ptp(positions[:, 2]) for positions in poses) < 1e-9
    turns = [np.arctan2(*(positions[0] - positions.mean(0))[1::-1]) for positions in poses]
    assert np.abs(np.exp(1j * np.array(turns)).mean()) < 0.4
    chirality = [np.cross(p[0] - p[3], p[1] - p[4])[2] > 0 for p in poses]
    assert 10 < sum(chirality) < 30


def test_poses_by_entropy_show_more_than_random_ones():
    chosen = [entropy(posed(UPRIGHT, "entropy", 0, i).positions[:, 2]) for i in range(200)]
    random = entropy(drawn(UPRIGHT.positions, 200, 0.0, attempts=1)[..., 2])
    assert np.mean(chosen) > np.mean(random) + 1


def test_a_pose_as_given_is_the_molecule_itself():
    assert posed(UPRIGHT, "as-given", 0, 0) is UPRIGHT
