"""The opencl engine: lanes, launches and failures; the laws of all engines are in test_engines."""

import numpy as np
import pytest
import torch

from afmid.simulate import Scene, Tip, newton
from afmid.simulate.reference import forces

pytest.importorskip("pyopencl", reason="pyopencl is not installed; it comes with afmid[opencl]")
from afmid.simulate.opencl_engine import OpenCLSimulator
from afmid.simulate.opencl_kernels import Kernels

X, Y = np.linspace(-3.07, 3.03, 12), np.linspace(-2.91, 3.11, 10)
Z = 2.9 + 0.1 * np.arange(20)[::-1]


@pytest.fixture(scope="module")
def engine() -> OpenCLSimulator:
    return OpenCLSimulator()


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16])
def test_pixels_side_by_side_give_what_pixels_alone_give(engine, bent, lanes, monkeypatch):
    scene = Scene(bent, Tip(charge=0.05), X, Y[:7], Z)  # 84 pixels: the last block is not full
    monkeypatch.setattr(engine, "kernels", Kernels(engine.kernels.context))
    engine.kernels.lanes = lanes
    fz, (reference, _) = engine.images([scene]).values[0].numpy(), forces(scene)
    assert np.quantile(np.abs(fz - reference), 0.98) < 5e-5


def test_a_scan_in_several_launches_is_the_same_scan(engine, bent, monkeypatch):
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
