"""Molecules under the tip of a scan."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from afmid.chem import embed
from afmid.evaluate.bench import ImageBench
from afmid.evaluate.placement import Matcher, apart, settle, taken, together, upper_middle
from afmid.molecule import Molecules
from afmid.simulate import SimulationOptions, load_engine, simulate

SPOTS = np.array([[0, 0, 1], [2.5, 0, 0.7], [0, 1.6, -0.8], [-1.5, -1.8, 0.5]])  # x, y, height
PIXEL = 0.4
_, SIMULATOR = load_engine("auto", "cpu")
MOLECULE = embed("Cc1ccc(Cl)nc1O")


def picture(x, y, spots):
    """Return Gaussian spots on the axes, in two channels of which the second is fainter and broader."""
    distance = (x[:, None, None] - spots[:, 0]) ** 2 + (y[:, None] - spots[:, 1]) ** 2
    return np.stack(
        [(spots[:, 2] * np.exp(-distance / width)).sum(-1) * gain for width, gain in ((0.8, 1), (1.5, 0.4))], 2
    )


@settings(max_examples=20)
@given(angle=floats(0, 2 * np.pi), at=floats(-2.5, 2.5), side=floats(-1.5, 1.5))
def test_a_template_is_found_wherever_it_lies_in_a_window_of_any_shape_and_pixel(angle, at, side):
    x, y = np.arange(10, 26, 0.23), np.linspace(-6, 7, 70)
    turned = np.concatenate([Rotation.from_euler("z", angle).apply(SPOTS * [1, 1, 0])[:, :2], SPOTS[:, 2:]], 1)
    middle = np.array([x.mean() + at, y.mean() + side, 0])
    axis = (np.arange(24) - 11.5) * PIXEL
    templates = torch.tensor(np.stack([picture(axis, axis, SPOTS), picture(axis, axis, SPOTS * [1, 1, -1])]))
    match = Matcher(3 * picture(x, y, turned + middle) + 5, x, y, PIXEL, 36, 24)(templates.float())
    assert match.score[0] > 0.9
    assert match.score[1] < match.score[0] - 0.1
    assert_allclose([match.x[0], match.y[0]], middle[:2], atol=0.75 * PIXEL)
    assert abs(np.angle(np.exp(1j * (match.turn[0] - angle)))) < np.deg2rad(8)


def test_the_middle_of_a_molecule_turns_with_it_and_leaves_deep_atoms_out():
    numbers, positions = MOLECULE.numbers[None], MOLECULE.positions[None]
    rotation = Rotation.from_euler("z", 0.7).as_matrix()
    middle = upper_middle(numbers, positions)
    assert_allclose(upper_middle(numbers, positions @ rotation.T), middle @ rotation.T, atol=1e-9)
    deep = np.concatenate([positions, [[[9.0, 9.0, -9.0]]]], 1)
    assert_allclose(upper_middle(np.append(numbers, [[6]], 1), deep), middle, atol=1e-9)


@pytest.fixture(scope="module")
def scan():
    return next(simulate([MOLECULE], SimulationOptions(size=12, pixels=40), SIMULATOR))


@pytest.mark.parametrize("known", [True, False])
def test_molecules_that_are_a_little_off_settle_where_they_are(scan, known):
    truth, depth = Molecules.of([scan.truth] * 3), 0.0
    if not known:
        depth = scan.z[-1]
        scan = replace(scan, z=scan.z - depth, z_reference="last image")
    off = Rotation.from_rotvec([[0.05, -0.05, 0.1], [0, 0.08, -0.1], [0, 0, 0]]).as_matrix()
    moves = np.array([[0.2, -0.1, 0.1], [-0.15, 0.2, -0.1], [0, 0, 0]]) - [0, 0, depth]
    start = truth._replace(positions=truth.positions @ off.swapaxes(1, 2) + moves[:, None])
    bench = ImageBench.of(scan, SIMULATOR, 10)
    found = settle(bench, start, 0.3, 7)
    assert found.scores.min() > 0.9999
    assert np.abs(found.molecules.positions - truth.positions + [0, 0, depth]).max() < 0.01


def test_molecules_lie_apart_by_how_far_their_atoms_are_and_not_where_a_symmetry_turns_them_onto_themselves():
    benzene = embed("c1ccccc1")
    level = benzene.moved(-benzene.positions.mean(0))
    quarter, sixth = (level.turned(Rotation.from_euler("z", angle, degrees=True).as_matrix()) for angle in (30, 60))
    far = apart(Molecules.of([level, level.moved((0.3, 0, 0.4)), sixth, quarter]), 0, [1, 2, 3])
    assert_allclose(far[:2], [0.5, 0], atol=0.02)
    assert 0.7 < far[2] < 1.3  # Å: half a bond of carbon, and half the way between two hydrogens


def test_settled_molecules_of_different_sizes_are_brought_together_and_taken_apart_again(scan):
    bench = ImageBench.of(scan, SIMULATOR, 3)
    parts = [settle(bench, Molecules.of([molecule]), 1.0, 1) for molecule in (MOLECULE, embed("CO"))]
    both = together(parts)
    assert both.molecules.numbers.shape == (2, len(MOLECULE))
    assert (both.molecules.numbers[1] > 0).sum() == 6
    (alone,) = taken(both.molecules, np.array([1])).positions
    assert_allclose(alone[:6], parts[1].molecules.positions[0])
    assert_allclose(both.scores, [parts[0].scores[0], parts[1].scores[0]])
