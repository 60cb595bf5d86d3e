from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from afmid.evaluate.perturbations import NONE, PERTURBATIONS, higher, nearest, shifted, turned, with_stiffness
from afmid.molecule import Molecule
from afmid.scan import Scan
from afmid.simulate import SimulationOptions, load_engine
from afmid.units import N_per_m

WATER = Molecule(numbers=[8, 1, 1], positions=[[0, 0, 0], [0.76, 0.59, -0.1], [-0.76, 0.59, -0.1]])
OPTIONS = SimulationOptions(size=10, pixels=20, heights=3)
OTHERWISE = {change.name: change for change in PERTURBATIONS}


def scene_at(x: float):
    """A scene whose molecule lies at x in a window about 0."""
    scene = OPTIONS.scene(WATER)
    return replace(scene, molecule=scene.molecule.moved((x, 0, 0)))


@given(st.floats(-3, 3))
def test_a_shifted_molecule_is_elsewhere_and_still_in_the_window(x):
    scene = scene_at(x)
    moved = shifted(scene, 2.0)
    step = moved.molecule.positions - scene.molecule.positions
    assert_allclose(np.abs(step[:, 0]), 2.0)
    assert_array_equal(step[:, 1:], 0)
    assert scene.x[0] < moved.molecule.positions[:, 0].min() < moved.molecule.positions[:, 0].max() < scene.x[-1]


def test_a_higher_tip_raises_every_image_and_a_stiffer_one_changes_nothing_else():
    scene = scene_at(0.0)
    assert_allclose(higher(scene, -0.4).z, scene.z - 0.4)
    stiff = with_stiffness(scene, 0.5)
    assert stiff.tip.lateral_stiffness == pytest.approx(0.5 * N_per_m)
    assert stiff.tip.quadrupole == scene.tip.quadrupole
    assert_array_equal(stiff.z, scene.z)


def test_a_turned_scan_is_the_scan_of_the_turned_molecule():
    simulator = load_engine("torch", "cpu")[1]

    def scan_of(molecule):
        scene = OPTIONS.scene(molecule)  # around the molecule
        images = simulator.images([scene], OPTIONS.weights()).values[0, ..., -OPTIONS.heights :].numpy()
        return OPTIONS.scan(scene, images)

    molecule = WATER.moved((1.0, -0.5, 0.0))
    mine = turned(scan_of(molecule))
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    other = scan_of(molecule.turned(quarter))
    assert_allclose(mine.truth.positions, other.truth.positions, atol=1e-12)
    assert_allclose(mine.x, other.x, atol=1e-9)
    assert_allclose(mine.df, other.df, atol=1e-3 * np.abs(other.df).max())


@given(st.integers(1, 4), st.integers(1, 4))
def test_four_quarter_turns_change_nothing(nx, ny):
    rng = np.random.default_rng([nx, ny])
    scan = Scan(rng.normal(size=(nx, ny, 2)), np.arange(nx) * 0.3, 1 + np.arange(ny) * 0.2, np.array([1.0, 0.0]))
    back = turned(turned(turned(turned(scan))))
    assert_array_equal(back.df, scan.df)
    assert_allclose(back.x, scan.x)
    assert_allclose(back.y, scan.y)


def test_the_nearest_images_are_the_last_ones():
    scan = Scan(np.arange(5.0).reshape(1, 1, 5), np.zeros(1), np.zeros(1), np.arange(5.0)[::-1])
    assert_array_equal(nearest(scan, 2).df.ravel(), [3, 4])
    assert_array_equal(nearest(scan, 2).z, [1, 0])


def test_every_perturbation_has_a_name_of_its_own_and_the_first_is_none():
    assert PERTURBATIONS[0].name == NONE
    assert len(OTHERWISE) == len(PERTURBATIONS) == 13
    assert OTHERWISE["noise 0.3 Hz"].noise == 0.3
