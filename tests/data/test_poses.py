"""How molecules lie when training draws them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pydantic import ValidationError

from afmid.data.poses import SceneRanges, draw_pose, draw_scene, entropy, posed, random_rotation
from afmid.molecule import Molecule
from afmid.simulate import SimulationOptions
from afmid.units import N_per_m

ANGLES = np.arange(6) * np.pi / 3
BENZENE = Molecule(
    numbers=np.repeat([6, 1], 6),
    positions=np.concatenate([r * np.stack([np.cos(ANGLES), np.sin(ANGLES), 0 * ANGLES], 1) for r in (1.39, 2.48)]),
)
UPRIGHT = BENZENE.turned(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))


def test_flat_benzene_scores_above_upright_benzene():
    assert entropy(BENZENE) == pytest.approx(12)
    assert entropy(UPRIGHT) < 6


def test_rotations_are_proper_and_spread_evenly():
    rng = np.random.default_rng(0)
    rotations = np.stack([random_rotation(rng) for _ in range(4000)])
    assert_allclose(rotations @ rotations.swapaxes(1, 2), np.broadcast_to(np.eye(3), (4000, 3, 3)), atol=1e-12)
    assert_allclose(np.linalg.det(rotations), 1)
    assert_allclose(rotations.mean(0), 0, atol=0.05)
    assert_allclose((rotations**2).mean(0), 1 / 3, atol=0.03)


def test_molecules_lie_flat_as_often_as_asked():
    rng = np.random.default_rng(0)
    flat = SceneRanges(flat=1.0, flat_tilt=5.0)
    for _ in range(20):
        assert np.ptp(draw_pose(UPRIGHT, flat, rng).positions[:, 2]) <= 4.96 * np.sin(np.deg2rad(5.0)) + 1e-9
    steep = SceneRanges(flat=0.0, attempts=1)
    assert np.median([np.ptp(draw_pose(UPRIGHT, steep, rng).positions[:, 2]) for _ in range(50)]) > 2


def test_flat_molecules_are_tilted_about_any_axis_and_turned_any_way():
    rng = np.random.default_rng(0)
    asymmetric = Molecule(numbers=[6, 6, 8, 1], positions=[[0, 0, 0], [3, 0, 0], [0, 2, 0], [5, 1, 0]])
    poses = [draw_pose(asymmetric, SceneRanges(flat=1.0), rng).positions for _ in range(1000)]
    edges = np.array([(p[1] - p[0], p[2] - p[0]) for p in poses])
    normals = np.cross(edges[:, 0], edges[:, 1])
    normals *= np.sign(normals[:, 2:])
    for vectors in (normals, edges[:, 0]):  # the way that the molecule leans, and the way that it points
        azimuth = np.arctan2(vectors[:, 1], vectors[:, 0])
        assert np.histogram(azimuth, 8, (-np.pi, np.pi))[0].min() > 80
    leaning, pointing = (np.exp(1j * np.arctan2(v[:, 1], v[:, 0])) for v in (normals, edges[:, 0]))
    assert abs((leaning / pointing).mean()) < 0.1  # one says nothing of the other


@pytest.mark.parametrize(
    "wrong",
    [{"stiffness": (0.5, 0.2)}, {"stiffness": (0, 0.5)}, {"charge": (0, -0.1)}, {"quadrupole": (-np.inf, 0)},
     {"charge": (0, np.nan)}],
)  # fmt: skip
def test_a_range_goes_from_low_to_high_within_reason(wrong):
    with pytest.raises(ValidationError, match="the lower and the upper end of a range within"):
        SceneRanges(**wrong)


def test_more_attempts_show_more_atoms():
    def mean(attempts):
        rng = np.random.default_rng(0)
        return np.mean([entropy(draw_pose(BENZENE, SceneRanges(flat=0, attempts=attempts), rng)) for _ in range(100)])

    assert mean(8) > mean(1) + 1


def test_scenes_stay_in_their_ranges_and_repeat_under_a_seed():
    options, ranges = SimulationOptions(pixels=8), SceneRanges()
    scenes = [draw_scene(BENZENE, options, ranges, np.random.default_rng([7, i])) for i in range(50)]
    again = draw_scene(BENZENE, options, ranges, np.random.default_rng([7, 3]))
    assert_allclose(again.molecule.positions, scenes[3].molecule.positions)
    for scene in scenes:
        tip = scene.tip
        assert 0.2 <= tip.lateral_stiffness / N_per_m <= 0.5
        assert np.hypot(*tip.offset) <= 0.5
        assert tip.charge == 0 or tip.quadrupole == 0
        assert scene.molecule.positions[:, 2].max() == 0
        middle = (scene.molecule.positions[:, :2].min(0) + scene.molecule.positions[:, :2].max(0)) / 2
        assert (np.abs(middle - [scene.x.mean(), scene.y.mean()]) <= 2.0).all()
    closest = [scene.z[-1] for scene in scenes]
    assert np.ptp(closest) > 0.3


def test_a_molecule_that_is_asked_to_lie_flat_does_so_on_either_side_and_any_way_round():
    poses = [posed(UPRIGHT, "flat", 0, i).positions for i in range(40)]
    assert max(np.ptp(positions[:, 2]) for positions in poses) < 1e-9
    turns = [np.arctan2(*(positions[0] - positions.mean(0))[1::-1]) for positions in poses]
    assert np.abs(np.exp(1j * np.array(turns)).mean()) < 0.4
    chirality = [np.cross(p[0] - p[3], p[1] - p[4])[2] > 0 for p in poses]
    assert 10 < sum(chirality) < 30


def test_poses_by_entropy_show_more_than_random_ones():
    chosen = [entropy(posed(UPRIGHT, "entropy", 0, i)) for i in range(200)]
    rng = np.random.default_rng(0)
    random = [entropy(UPRIGHT.turned(random_rotation(rng))) for _ in range(200)]
    assert np.mean(chosen) > np.mean(random) + 1


def test_a_pose_as_given_is_the_molecule_itself():
    assert posed(UPRIGHT, "as-given", 0, 0) is UPRIGHT
