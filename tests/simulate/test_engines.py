"""Laws that every engine obeys."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.simulate import TIPS, Scene, Tip, load_engine, oscillation_weights
from afmid.simulate.oscillation import weighted
from afmid.simulate.reference import forces
from afmid.simulate.torch_engine import TorchSimulator
from afmid.units import N_per_m

X, Y = np.linspace(-3.07, 3.03, 12), np.linspace(-2.91, 3.11, 10)
Z = 2.9 + 0.1 * np.arange(20)[::-1]
WEIGHTS = oscillation_weights(0.1, 0.5, 30_300.0, 1800 * N_per_m)
TIP_CASES = {**TIPS, "tilted": Tip(offset=(0.35, -0.25)), "soft": Tip(lateral_stiffness=0.12 * N_per_m),
             "charged": Tip(charge=-0.1, quadrupole=0.0), "both": Tip(charge=0.2, quadrupole=0.15),
             "neutral": Tip(quadrupole=0.0), "springy": Tip(radial_stiffness=0.5 * N_per_m)}  # fmt: skip
WATER = Molecule(
    np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0.1], [-0.76, 0.59, 0.0]]), np.array([-0.6, 0.3, 0.3])
)


@pytest.fixture(scope="module", params=["torch", "opencl", "numpy"])
def engine(request):
    """Each engine in its turn."""
    if request.param == "opencl":
        pytest.importorskip("pyopencl", reason="pyopencl is not installed; it comes with afmid[opencl]")
    return load_engine(request.param, "cpu")[1]


@pytest.mark.parametrize("tip", TIP_CASES.values(), ids=TIP_CASES)
def test_engines_agree_with_the_reference_law(engine, bent, tip):
    scene = Scene(bent, tip, X, Y, Z)
    (fz, unsettled), (reference, _) = engine.images([scene]), forces(scene)
    same = np.abs(fz[0].numpy() - reference).max(-1) < 1e-3  # elsewhere the probe snapped to another side of an atom
    df, expected = engine.images([scene], WEIGHTS).values[0].numpy()[same], weighted(reference, WEIGHTS)[same]
    assert same.mean() > 0.99
    assert not unsettled.any()
    assert np.sqrt(np.mean((df - expected) ** 2)) < 1e-4 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("dz", [0.1, 0.02])
def test_the_static_limit_agrees_too(engine, bent, dz):
    """Its differences of two forces magnify what is wrong with them."""
    scene = Scene(bent, Tip(), X, Y, 3.4 + dz * np.arange(6)[::-1])
    static = oscillation_weights(dz, 0.0, 30_300.0, 1800 * N_per_m)
    expected = weighted(forces(scene)[0], static)
    assert np.linalg.norm(engine.images([scene], static).values[0].numpy() - expected) < 1e-4 * np.linalg.norm(expected)


def test_closer_than_usual_the_probe_rests_where_double_precision_has_it_rest(engine, bent):
    """0.7 Å closer; but for pixels right above an atom, where the two ways to buckle are equal."""
    scene = Scene(bent, Tip(), X, Y, Z - 0.7)
    (fz, unsettled), (exact, _) = engine.images([scene]), TorchSimulator(precision="double").images([scene])
    error = (fz - exact)[0].abs().amax(-1)
    assert not unsettled.any()
    assert (error > 1e-3).sum() <= 1
    assert error.flatten().sort().values[:-1].max() < 2e-4


@pytest.mark.parametrize("tip", [Tip(), Tip(charge=-0.1, quadrupole=0.02, offset=(0.2, 0.1))], ids=["CO", "charged"])
def test_a_potential_takes_the_place_of_the_charges(engine, bent, waves, tip):
    scene, without, shift = Scene(bent, tip, X, Y, Z, waves), Scene(bent, tip, X, Y, Z), (1, 2, 3)
    reference, _ = forces(scene)
    shifted = Scene(bent.moved(shift), tip, X + 1, Y + 2, Z + 3, waves.moved(shift))
    bare, fz, fz_shifted = engine.images([without, scene, shifted]).values.numpy()
    assert_allclose(fz, reference, atol=2e-5)
    assert_allclose(fz_shifted, reference, atol=2e-5)
    assert_allclose(bare, engine.images([without]).values[0], atol=5e-5)
    assert np.abs(fz - bare).max() > 1e-3  # the potential is felt


def test_frequency_shift_in_the_same_pass_is_the_weighted_force(engine, bent):
    scene = Scene(bent, Tip(), X, Y, Z)
    expected = weighted(engine.images([scene]).values, WEIGHTS)
    assert_allclose(engine.images([scene], WEIGHTS).values, expected, atol=2e-3)


def test_a_batch_equals_its_members(engine, bent):
    first, last = Scene(bent, TIPS["CO"], X, Y, Z), Scene(bent, TIPS["Cl"], X, Y, Z)
    scenes = [first, Scene(WATER, TIPS["Xe"], X + 1, Y, Z + 0.3), last]
    together = engine.images(scenes).values
    assert together.shape == (3, 12, 10, 20)
    assert_allclose(together, torch.cat([engine.images([scene]).values for scene in scenes]), atol=5e-5)


@settings(max_examples=10, deadline=None)
@given(shift=st.tuples(*[st.floats(-20, 20)] * 3), angle=st.floats(0, 2 * np.pi))
def test_moving_or_turning_molecule_and_scan_together_changes_nothing(engine, shift, angle):
    x, z = np.linspace(-2.1, 1.9, 5), np.array([3.6, 3.4])
    before = engine.images([Scene(WATER, Tip(), x, x, z)]).values
    moved = engine.images([Scene(WATER.moved(shift), Tip(), x + shift[0], x + shift[1], z + shift[2])]).values
    assert_allclose(moved, before, atol=5e-5)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    places = np.array([[-1.7, 0.4, 0], [0.3, 1.1, 0], [0.9, -0.6, 0], [2.2, 1.3, 0]])
    turned = WATER.turned(rotation)
    straight = [Scene(WATER, Tip(), p[:1], p[1:2], z) for p in places]
    around = [Scene(turned, Tip(), p[:1], p[1:2], z) for p in places @ rotation.T]
    assert_allclose(engine.images(around).values, engine.images(straight).values, atol=5e-5)


def test_progress_tells_of_every_pixel_once(engine, bent):
    told = []
    engine.images([Scene(bent, Tip(), X, Y, Z[:3])] * 2, progress=told.append)
    assert sum(told) == 2 * len(X) * len(Y)


def test_what_cannot_be_simulated_is_refused_in_words(engine, bent):
    with pytest.raises(DataError, match="one shape"):
        engine.images([Scene(bent, Tip(), X, Y, Z[:2]), Scene(bent, Tip(), X, X, Z[:2])])
    with pytest.raises(DataError, match="spans 11 heights; there are 4"):
        engine.images([Scene(bent, Tip(), X, Y, Z[:4])], WEIGHTS)
    radon = replace(bent, numbers=np.array([6, 8, 7, 1, 1, 86]))
    with pytest.raises(DataError, match="no Lennard-Jones parameters for Rn"):
        engine.images([Scene(radon, Tip(), X, Y, Z[:2])])
