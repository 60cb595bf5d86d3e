"""The torch engine is held to the reference law."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.simulate import TIPS, Scene, Tip, frequency_shift
from afmid.simulate.batch import Batch
from afmid.simulate.gradient import LONGEST
from afmid.simulate.reference import TOLERANCE, forces, sample_law, tip_law
from afmid.simulate.torch_engine import TorchSimulator, _Law
from afmid.units import N_per_m

X, Y = np.linspace(-3.07, 3.03, 12), np.linspace(-2.91, 3.11, 10)
Z = 2.9 + 0.1 * np.arange(20)[::-1]
TIP_CASES = {**TIPS, "tilted": Tip(offset=(0.35, -0.25)), "soft": Tip(lateral_stiffness=0.12 * N_per_m),
             "charged": Tip(charge=-0.1, quadrupole=0.0)}  # fmt: skip


@pytest.mark.parametrize("tip", TIP_CASES.values(), ids=TIP_CASES)
def test_the_engine_agrees_with_the_reference(bent, tip):
    scene = Scene(bent, tip, X, Y, Z)
    cantilever = {"dz": 0.1, "amplitude": 0.5, "f0": 30_300.0, "cantilever_stiffness": 1800 * N_per_m}
    fz, (reference, _) = TorchSimulator().images([scene]).values[0].numpy(), forces(scene)
    settled = np.abs(fz - reference).max(-1) < 1e-3  # elsewhere the probe snapped to the other side of an atom
    error = frequency_shift(fz - reference, **cantilever)[settled]
    assert settled.mean() > 0.99
    assert np.sqrt(np.mean(error**2)) < 1e-4 * np.sqrt(np.mean(frequency_shift(reference, **cantilever) ** 2))


def test_single_and_double_precision_agree(bent):
    scene = Scene(bent, Tip(), X, Y, Z)
    single, double = (TorchSimulator(precision=p).images([scene]).values for p in ("single", "double"))
    assert double.dtype == torch.float64
    assert_allclose(single, double, atol=5e-5)


def test_double_precision_is_the_reference_to_the_last_digits(bent):
    scene = Scene(bent, Tip(charge=-0.05), X, Y, Z)
    (fz, unsettled), (reference, _) = TorchSimulator(precision="double").images([scene]), forces(scene)
    same = np.abs(fz[0].numpy() - reference).max(-1) < 1e-3  # elsewhere the probe snapped to the other side of an atom
    assert same.mean() > 0.99
    assert_allclose(fz[0].numpy()[same], reference[same], atol=(LONGEST + 1) * TOLERANCE)  # what the reference leaves
    assert not unsettled.any()


def test_a_batch_equals_its_members_whatever_the_chunk(bent):
    other = replace(bent, numbers=bent.numbers[:3], positions=bent.positions[:3], charges=bent.charges[:3])
    first, last = Scene(bent, TIPS["CO"], X, Y, Z), Scene(bent, TIPS["Cl"], X, Y, Z)
    scenes = [first, Scene(other, TIPS["Xe"], X + 1, Y, Z + 0.3), last]
    together = TorchSimulator(chunk=10**6).images(scenes).values
    alone = torch.cat([TorchSimulator(chunk=100).images([scene]).values for scene in scenes])
    assert together.shape == (3, 12, 10, 20)
    assert_allclose(together, alone, atol=5e-5)


@settings(max_examples=10)
@given(shift=st.tuples(*[st.floats(-20, 20)] * 3), quarter=st.integers(0, 3))
def test_moving_or_turning_molecule_and_scan_together_changes_nothing(shift, quarter):
    molecule = Molecule(np.array([6, 8]), np.array([[0, 0, 0], [0.9, 0.5, 0.2]]), np.array([0.3, -0.3]))
    x, z = np.linspace(-2.1, 1.9, 5), np.array([3.6, 3.4])
    engine = TorchSimulator()
    before = engine.images([Scene(molecule, Tip(), x, x, z)]).values
    moved = engine.images([Scene(molecule.moved(shift), Tip(), x + shift[0], x + shift[1], z + shift[2])]).values
    assert_allclose(moved, before, atol=5e-5)
    c, s = np.cos(quarter * np.pi / 2), np.sin(quarter * np.pi / 2)
    turned = molecule.turned(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))
    symmetric = np.linspace(-2, 2, 5)
    image = engine.images([Scene(molecule, Tip(), symmetric, symmetric, z)]).values
    image_turned = engine.images([Scene(turned, Tip(), symmetric, symmetric, z)]).values
    assert_allclose(image_turned, image.rot90(quarter, (1, 2)), atol=5e-5)


def test_the_probe_has_settled_everywhere_also_closer_than_usual(bent):
    """Where the engine says it is, the residual force on the probe is under 1e-4 eV/Å by the float64 law."""
    engine = TorchSimulator()
    batch = Batch.of([Scene(bent, Tip(), X, Y, Z - 0.7)])
    law, pixels = _Law.of(batch), batch.pixels()
    centred = replace(bent, positions=batch.positions[0].double().numpy())
    u = law.springs[3:].expand(-1, -1, pixels.shape[-1])
    for z in (batch.z - law.springs[5])[0]:
        base = torch.cat([pixels, z.expand(1, *pixels.shape[1:])])
        u, _, unsettled = engine._relax(law, base, u)
        assert not unsettled.any()
        below, at = base[:, 0].T.double().numpy(), u[:, 0].T.double().numpy()
        residual = np.linalg.norm(sample_law(centred, Tip(), below + at)[1] + tip_law(Tip(), at)[1], axis=1)
        assert residual.max() < 1e-4


def test_a_potential_takes_the_place_of_the_charges(bent, waves):
    tip = Tip(charge=-0.1, quadrupole=0.02, offset=(0.2, 0.1))
    with_potential, without = Scene(bent, tip, X, Y, Z, waves), Scene(bent, tip, X, Y, Z)
    reference, _ = forces(with_potential)
    fz, bare = TorchSimulator().images([with_potential, without]).values.numpy()
    assert_allclose(fz, reference, atol=2e-5)
    assert_allclose(bare, TorchSimulator().images([without]).values[0], atol=5e-5)
    assert np.abs(fz - bare).max() > 1e-3  # the potential is felt


def test_grids_of_two_shapes_in_a_batch_are_refused(bent):
    with pytest.raises(DataError, match="one shape"):
        TorchSimulator().images([Scene(bent, Tip(), X, Y, Z), Scene(bent, Tip(), X, X, Z)])


def test_an_element_without_parameters_is_named(bent):
    radon = replace(bent, numbers=np.array([6, 8, 7, 1, 1, 86]))
    with pytest.raises(DataError, match="no Lennard-Jones parameters for Rn"):
        TorchSimulator().images([Scene(radon, Tip(), X, Y, Z)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_agrees_with_the_cpu(bent):
    scene = Scene(bent, Tip(), X, Y, Z)
    on_cuda, on_cpu = (TorchSimulator(device).images([scene]).values.cpu() for device in ("cuda", "cpu"))
    assert_allclose(on_cuda, on_cpu, atol=5e-5)
