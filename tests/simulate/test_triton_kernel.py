"""The kernel for CUDA: Triton interprets it, which is held to the reference law, and compiles it, without a GPU."""

import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from afmid.errors import DataError
from afmid.simulate import TIPS, Scene, Tip, newton, oscillation_weights
from afmid.simulate.batch import Batch
from afmid.simulate.oscillation import weighted
from afmid.simulate.reference import forces
from afmid.simulate.torch_engine import TorchSimulator
from afmid.units import N_per_m

triton = pytest.importorskip("triton", reason="Triton is not installed; it comes with torch for CUDA")

X, Y = np.linspace(-2.07, 2.03, 5), np.linspace(-2.91, 3.11, 9)  # neither is a multiple of the kernel's tile
Z = 2.9 + 0.1 * np.arange(12)[::-1]
TIP_CASES = {"quadrupole": Tip(), "monopole": Tip(charge=-0.1, quadrupole=0.0), "both": Tip(charge=-0.1),
             "neither": Tip(quadrupole=0.0), "tilted": Tip(offset=(0.35, -0.25))}  # fmt: skip
FORCE = np.ones(1)

INTERPRET = """
import pickle, sys
from afmid.simulate import newton
newton.ITERATIONS = int(sys.argv[1])
from afmid.simulate.batch import Batch
from afmid.simulate.triton_kernel import triton_images
done = [triton_images(Batch.of(scenes), weights) for scenes, weights in pickle.load(sys.stdin.buffer)]
pickle.dump([(images.values.numpy(), images.unsettled.numpy()) for images in done], sys.stdout.buffer)
"""


def interpreted(*cases, iterations=newton.ITERATIONS):
    """Return (values, unsettled) of each case (scenes, weights) from a process of its own, for Triton interprets or
    compiles as it was told when it was imported.
    """
    command = [sys.executable, "-c", INTERPRET, str(iterations)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, input=pickle.dumps(cases), stdout=subprocess.PIPE, check=True, env=environment)
    return pickle.loads(done.stdout)


def test_the_kernel_agrees_with_the_reference(bent):
    weights = oscillation_weights(dz=0.1, amplitude=0.5, f0=30_300.0, cantilever_stiffness=1800 * N_per_m)
    scenes = [Scene(bent, tip, X[1:4], Y, Z) for tip in TIP_CASES.values()]
    for scene, (values, unsettled) in zip(scenes, interpreted(*[([s], weights) for s in scenes]), strict=True):
        reference = weighted(forces(scene)[0], weights)
        assert values.shape == (1, 3, 9, 2)
        assert not unsettled.any()
        assert np.sqrt(np.mean((values[0] - reference) ** 2)) < 1e-4 * np.sqrt(np.mean(reference**2)), scene.tip


def test_one_launch_equals_the_scenes_apart(bent):
    """Also where they differ in size, place and tip, and so in what is compiled away."""
    other = replace(bent, numbers=bent.numbers[:3], positions=bent.positions[:3], charges=bent.charges[:3])
    scenes = [Scene(other, TIPS["Cl"], X + 1, Y, Z[-3:] + 0.3), Scene(bent, TIPS["CO"], X, Y, Z[-3:])]
    together, *alone = interpreted((scenes, FORCE), *[([scene], FORCE) for scene in scenes])
    assert_allclose(together[0], np.concatenate([values for values, _ in alone]), atol=1e-6)


def test_the_kernel_counts_the_heights_where_the_probe_did_not_settle(bent, monkeypatch):
    monkeypatch.setattr("afmid.simulate.torch_engine.ITERATIONS", 2)
    scene = Scene(bent, Tip(), X, Y, Z[-4:])
    ((_, unsettled),) = interpreted(([scene], FORCE), iterations=2)
    assert 0 < unsettled.mean() < 4
    assert_array_equal(unsettled, TorchSimulator().images([scene]).unsettled)


def test_fewer_heights_than_weights_are_refused(bent):
    from afmid.simulate.triton_kernel import triton_images

    with pytest.raises(DataError, match="one oscillation spans 13 heights; there are 12"):
        triton_images(Batch.of([Scene(bent, Tip(), X, Y, Z)]), np.ones(13))


@pytest.mark.parametrize("quadrupole", [False, True])
@pytest.mark.parametrize("monopole", [False, True])
def test_the_kernel_compiles_for_hopper_without_spilling_registers(monopole, quadrupole, tmp_path):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from afmid.simulate.triton_kernel import OPTIONS, TILE, _scan

    constants = {"TILE_X": TILE[0], "TILE_Y": TILE[1], "MONOPOLE": monopole, "QUADRUPOLE": quadrupole}
    kinds = dict.fromkeys(_scan.arg_names, "*fp32") | dict.fromkeys(("unsettled", "counts"), "*i32")
    kinds |= dict.fromkeys(("atoms", "nx", "ny", "nz", "span"), "i32") | dict.fromkeys(("enough", "last_step"), "fp32")
    kinds |= dict.fromkeys(constants, "constexpr")
    compiled = triton.compile(ASTSource(_scan, kinds, constants), target=GPUTarget("cuda", 90, 32), options=OPTIONS)
    (tmp_path / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    report = subprocess.run([tool, "-res-usage", tmp_path / "kernel.cubin"], capture_output=True, text=True, check=True)
    used = {name: int(number) for name, number in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", report.stdout)}
    assert used["STACK"] == used["LOCAL"] == used["SHARED"] == 0
    assert used["REG"] < 128


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_agrees_with_the_cpu(bent):
    from afmid.simulate.triton_kernel import triton_images

    scenes = [Scene(bent, tip, X, Y, Z) for tip in TIP_CASES.values()]
    on_cuda, on_cpu = triton_images(Batch.of(scenes, device="cuda")), TorchSimulator().images(scenes)
    assert_allclose(on_cuda.values.cpu(), on_cpu.values, atol=5e-5)
    assert_array_equal(on_cuda.unsettled.cpu(), on_cpu.unsettled)
