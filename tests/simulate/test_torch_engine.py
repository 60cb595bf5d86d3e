"""The torch engine: precision, memory and devices; the laws of all engines are in test_engines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from afmid.simulate import TIPS, Scene, Tip
from afmid.simulate.batch import Batch
from afmid.simulate.gradient import LONGEST
from afmid.simulate.reference import TOLERANCE, forces, sample_law, tip_law
from afmid.simulate.torch_engine import TorchSimulator, _Law

X, Y = np.linspace(-3.07, 3.03, 12), np.linspace(-2.91, 3.11, 10)
Z = 2.9 + 0.1 * np.arange(20)[::-1]


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


def test_the_chunk_changes_nothing(bent):
    other = replace(bent, numbers=bent.numbers[:3], positions=bent.positions[:3], charges=bent.charges[:3])
    first, last = Scene(bent, TIPS["CO"], X, Y, Z), Scene(bent, TIPS["Cl"], X, Y, Z)
    scenes = [first, Scene(other, TIPS["Xe"], X + 1, Y, Z + 0.3), last]
    together = TorchSimulator(chunk=10**6).images(scenes).values
    alone = torch.cat([TorchSimulator(chunk=100).images([scene]).values for scene in scenes])
    assert together.shape == (3, 12, 10, 20)
    assert_allclose(together, alone, atol=5e-5)


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


def test_a_probe_that_is_nowhere_has_not_settled(bent):
    values, unsettled = TorchSimulator().images([Scene(replace(bent, charges=bent.charges * 1e25), Tip(), X, Y, Z[:2])])
    assert (unsettled[values.isnan().any(-1)] > 0).all()
    assert values.isnan().any()


def test_where_the_kernel_for_cuda_fails_tensor_operations_take_over_and_say_so_once(bent, caplog):
    engine, scene = TorchSimulator(), Scene(bent, Tip(), X, Y, Z)
    engine._fused = True  # on a CPU, for which the kernel cannot be compiled
    first, second = engine.images([scene]).values, engine.images([scene]).values
    assert [record.message[:33] for record in caplog.records] == ["the kernel for CUDA does not work"]
    assert torch.equal(first, second)
    assert torch.equal(first, TorchSimulator().images([scene]).values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_agrees_with_the_cpu(bent):
    scene = Scene(bent, Tip(), X, Y, Z)
    on_cuda, on_cpu = (TorchSimulator(device).images([scene]).values.cpu() for device in ("cuda", "cpu"))
    assert_allclose(on_cuda, on_cpu, atol=5e-5)
