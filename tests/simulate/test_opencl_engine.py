"""The opencl engine: lanes, launches and failures; the laws of all engines are in test_engines."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from afmid.errors import DataError, PluginError
from afmid.simulate import Scene, Tip, newton

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
    expected = engine.images([scene]).values
    monkeypatch.setattr(engine, "kernels", Kernels(engine.kernels.context))
    engine.kernels.lanes = lanes
    assert_allclose(engine.images([scene]).values, expected, atol=5e-5)


def test_a_scan_in_several_launches_is_the_same_scan(engine, bent, monkeypatch):
    scenes = [Scene(bent, Tip(), X, Y, Z)] * 2
    whole, told = engine.images(scenes), []
    monkeypatch.setattr("afmid.simulate.opencl_kernels.LAUNCH", 10**3)
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


def test_where_the_images_find_no_room_fewer_pixels_go_side_by_side_and_then_words_are_said(engine, bent, monkeypatch):
    scene = Scene(bent, Tip(), X, Y, Z)
    expected = engine.images([scene]).values
    monkeypatch.setattr(engine.kernels, "local_memory", 4 * len(Z) * 3)
    assert engine.kernels._block(len(Z)) == (2, 1)
    assert_allclose(engine.images([scene]).values, expected, atol=5e-5)
    monkeypatch.setattr(engine.kernels, "local_memory", 4 * len(Z) - 1)
    with pytest.raises(DataError, match="20 images at once are more than OpenCL has room for"):
        engine.images([scene])


def test_what_opencl_fails_at_is_said_in_words(engine, bent, monkeypatch):
    monkeypatch.setattr(engine.kernels, "local_memory", 2**60)
    scene = Scene(bent, Tip(), X[:2], Y[:2], np.linspace(9, 3, 40_000))
    with pytest.raises(PluginError, match=r"OpenCL on .* fails: .*; try: --engine torch"):
        engine.images([scene])
