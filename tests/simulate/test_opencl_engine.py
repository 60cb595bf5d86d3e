"""The opencl engine is held to the reference law."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.simulate import TIPS, Scene, Tip, newton, oscillation_weights
from afmid.simulate.oscillation import weighted
from afmid.simulate.reference import forces
from afmid.units import N_per_m

pytest.importorskip("pyopencl", reason="pyopencl is not installed; it comes with afmid[opencl]")
from afmid.simulate.opencl_engine import OpenCLSimulator
from afmid.simulate.opencl_kernels import Kernels

X, Y = np.linspace(-3.07, 3.03, 12), np.linspace(-2.91, 3.11, 10)
Z = 2.9 + 0.1 * np.arange(20)[::-1]
WEIGHTS = oscillation_weights(0.1, 0.5, 30_300.0, 1800 * N_per_m)
TIP_CASES = {**TIPS, "tilted": Tip(offset=(0.35, -0.25)), "soft": Tip(lateral_stiffness=0.12 * N_per_m),
             "charged": Tip(charge=-0.1, quadrupole=0.0), "both": Tip(charge=0.2, quadrupole=0.15),
             "neutral": Tip(quadrupole=0.0)}  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> OpenCLSimulator:
    return OpenCLSimulator()


@pytest.mark.parametrize("tip", TIP_CASES.values(), ids=TIP_CASES)
def test_the_engine_agrees_with_the_reference(engine, bent, tip):
    scene = Scene(bent, tip, X, Y, Z)
    (fz, unsettled), (reference, _) = engine.images([scene]), forces(scene)
    settled = np.abs(fz[0].numpy() - reference).max(-1) < 1e-3  # elsewhere the probe snapped to another side of an atom
    df, expected = engine.images([scene], WEIGHTS).values[0].numpy()[settled], weighted(reference, WEIGHTS)[settled]
    assert settled.mean() > 0.99
    assert not unsettled.any()
    assert np.sqrt(np.mean((df - expected) ** 2)) < 1e-4 * np.sqrt(np.mean(expected**2))


def test_frequency_shift_in_the_same_pass_is_the_weighted_force(engine, bent):
    scene = Scene(bent, Tip(), X, Y, Z)
    expected = weighted(engine.images([scene]).values, WEIGHTS)
    assert_allclose(engine.images([scene], WEIGHTS).values, expected, atol=2e-3)


def test_a_batch_equals_its_members(engine, bent):
    other = replace(bent, numbers=bent.numbers[:3], positions=bent.positions[:3], charges=bent.charges[:3])
    first, last = Scene(bent, TIPS["CO"], X, Y, Z), Scene(bent, TIPS["Cl"], X, Y, Z)
    scenes = [first, Scene(other, TIPS["Xe"], X + 1, Y, Z + 0.3), last]
    together = engine.images(scenes).values
    assert together.shape == (3, 12, 10, 20)
    assert_allclose(together, torch.cat([engine.images([scene]).values for scene in scenes]), atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(shift=st.tuples(*[st.floats(-20, 20)] * 3), quarter=st.integers(0, 3))
def test_moving_or_turning_molecule_and_scan_together_changes_nothing(shift, quarter):
    molecule = Molecule(np.array([6, 8]), np.array([[0, 0, 0], [0.9, 0.5, 0.2]]), np.array([0.3, -0.3]))
    x, z = np.linspace(-2.1, 1.9, 5), np.array([3.6, 3.4])
    engine = OpenCLSimulator()
    before = engine.images([Scene(molecule, Tip(), x, x, z)]).values
    moved = engine.images([Scene(molecule.moved(shift), Tip(), x + shift[0], x + shift[1], z + shift[2])]).values
    assert_allclose(moved, before, atol=5e-5)
    c, s = np.cos(quarter * np.pi / 2), np.sin(quarter * np.pi / 2)
    turned = molecule.turned(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))
    symmetric = np.linspace(-2, 2, 5)
    image = engine.images([Scene(molecule, Tip(), symmetric, symmetric, z)]).values
    image_turned = engine.images([Scene(turned, Tip(), symmetric, symmetric, z)]).values
    assert_allclose(image_turned, image.rot90(quarter, (1, 2)), atol=5e-5)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
def test_pixels_side_by_side_give_what_pixels_alone_give(engine, bent, lanes, monkeypatch):
    scene = Scene(bent, Tip(charge=0.05), X, Y[:7], Z)  # 84 pixels: the last block is not full
    monkeypatch.setattr(engine, "kernels", Kernels(engine.kernels.context))
    engine.kernels.lanes = lanes
    fz, (reference, _) = engine.images([scene]).values[0].numpy(), forces(scene)
    assert np.quantile(np.abs(fz - reference), 0.98) < 5e-5


@pytest.mark.parametrize("tip", [Tip(), Tip(charge=-0.1, quadrupole=0.02, offset=(0.2, 0.1))], ids=["CO", "charged"])
def test_a_potential_takes_the_place_of_the_charges(engine, bent, waves, tip):
    scene = Scene(bent, tip, X, Y, Z, waves)
    reference, _ = forces(scene)
    without, shift = Scene(bent, tip, X, Y, Z), (1, 2, 3)
    shifted = Scene(bent.moved(shift), tip, X + 1, Y + 2, Z + 3, waves.moved(shift))
    bare, fz, fz_shifted = engine.images([without, scene, shifted]).values.numpy()
    assert_allclose(fz, reference, atol=2e-5)
    assert_allclose(fz_shifted, reference, atol=2e-5)
    assert_allclose(bare, engine.images([without]).values[0], atol=1e-6)
    assert np.abs(fz - bare).max() > 1e-3  # the potential is felt


def test_progress_tells_of_every_pixel_once_and_launches_in_parts_change_nothing(engine, bent, monkeypatch):
    scenes = [Scene(bent, Tip(), X, Y, Z)] * 2
    whole, told = engine.images(scenes), []
    monkeypatch.setattr("afmid.simulate.opencl_kernels.LAUNCH", 10**4)
    parts = engine.images(scenes, progress=told.append)
    assert len(told) > 3
    assert sum(told) == 2 * len(X) * len(Y)
    assert torch.equal(parts.values, whole.values)


def test_images_stay_finite_inside_the_atoms(engine, bent):
    assert torch.isfinite(engine.images([Scene(bent, Tip(), X, Y, Z - 3)]).values).all()


def test_a_probe_that_finds_no_rest_is_counted(engine, bent, monkeypatch):
    monkeypatch.setattr(newton, "ITERATIONS", 1)
    monkeypatch.setattr(engine, "kernels", Kernels(engine.kernels.context))
    assert engine.images([Scene(bent, Tip(), X, Y, Z)]).unsettled.sum() > 100


def test_what_cannot_be_simulated_is_refused_in_words(engine, bent):
    with pytest.raises(DataError, match="one shape"):
        engine.images([Scene(bent, Tip(), X, Y, Z), Scene(bent, Tip(), X, X, Z)])
    with pytest.raises(DataError, match="spans 11 heights; there are 4"):
        engine.images([Scene(bent, Tip(), X, Y, Z[:4])], WEIGHTS)
    radon = replace(bent, numbers=np.array([6, 8, 7, 1, 1, 86]))
    with pytest.raises(DataError, match="no Lennard-Jones parameters for Rn"):
        engine.images([Scene(radon, Tip(), X, Y, Z)])
