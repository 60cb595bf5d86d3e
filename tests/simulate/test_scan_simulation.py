"""From molecules and settings to scans."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from afmid.errors import DataError, UsageError
from afmid.io import read_molecule
from afmid.molecule import Molecule, Molecules
from afmid.offers import Engine
from afmid.plugins import Plugin, Registry, checked
from afmid.scan import ABOVE_ATOM
from afmid.simulate import TIPS, Scene, SimulationOptions, Tip, frequency_shift, load_engine, probe_forces, simulate
from afmid.simulate.potential import Potential
from afmid.simulate.scan_simulation import closest_height
from afmid.units import N_per_m

SMALL = SimulationOptions(size=8, pixels=16)


def test_a_scan_has_the_settings_the_truth_and_its_images_from_far_to_near(bent):
    _, simulator = load_engine("torch", "cpu")
    scan = next(simulate([bent.moved((5.0, -3.0, 7.0))], SMALL, simulator))
    assert scan.df.shape == (16, 16, 10)
    assert scan.truth.positions[:, 2].max() == 0
    assert scan.z_reference == ABOVE_ATOM
    assert_allclose(np.diff(scan.z), -0.1)
    assert_allclose(scan.pixel, 0.5)
    centre = (scan.truth.positions[:, :2].min(0) + scan.truth.positions[:, :2].max(0)) / 2
    assert_allclose([scan.x.mean(), scan.y.mean()], centre)
    assert (scan.tip, scan.amplitude, scan.f0) == ("CO", 0.5, 30_300.0)
    assert scan.cantilever_stiffness == pytest.approx(1800 * N_per_m)
    assert scan.meta["simulation"]["pixels"] == 16
    assert np.abs(scan.df[..., -1]).max() > np.abs(scan.df[..., 0]).max()


def test_a_scan_is_the_frequency_shift_of_the_forces_at_its_heights(bent):
    scene = SMALL.scene(bent)
    fz = probe_forces(scene.molecule, Tip(), scene.x, scene.y, scene.z)
    scan = next(simulate([bent], SMALL, load_engine("torch", "cpu")[1]))
    assert_allclose(scan.df, frequency_shift(fz, 0.1, 0.5, 30_300.0, 1800 * N_per_m), atol=2e-3)
    assert_allclose(scan.z, scene.z[10:])


def test_over_a_flat_carbon_plane_the_probe_comes_as_close_as_the_papers_let_it():
    """1.91 + 1.66 + 5.25 − 1.8 − 4 = 3.02 Å between the carbons of PTCDA and the probe (Alldritt et al., 2020)."""
    carbon = Molecule(np.array([6, 6]), np.array([[0, 0, 0.0], [1.4, 0, 0]]))
    closest = closest_height(carbon.numbers, carbon.positions[:, 2], Tip().number, SimulationOptions().clearance)
    assert closest == pytest.approx(3.02, abs=0.005)


@pytest.mark.parametrize("options", [SMALL, SimulationOptions(pixels=4, heights=1, amplitude=0, tip="Xe", tilt_x=0.3)])
def test_scenes_laid_at_once_are_those_laid_one_by_one(bent, options):
    other = Molecule(np.array([53, 1]), np.array([[0.3, 0.2, 2.0], [-0.3, -0.2, 2.5]]), smiles="I")
    centred = [m.moved((*-(m.positions[:, :2].min(0) + m.positions[:, :2].max(0)) / 2, 4.0)) for m in (bent, other)]
    scenes = options.scenes(Molecules.of(centred), smiles=["", "I"])
    for scene, molecule in zip(scenes, centred, strict=True):
        alone = options.scene(molecule)
        assert scene.tip == alone.tip
        assert scene.molecule.smiles == molecule.smiles
        assert_allclose(scene.molecule.positions, alone.molecule.positions, atol=1e-12)
        for axis in ("x", "y", "z"):
            assert_allclose(getattr(scene, axis), getattr(alone, axis), atol=1e-12)


def test_clearance_and_tip_may_differ_from_scene_to_scene(bent):
    tips = {"charge": np.array([0.1, -0.1]), "offset": np.array([[0.1, 0.2], [0.0, 0.0]])}
    scenes = SMALL.scenes(Molecules.of([bent, bent]), np.array([0.0, 0.25]), tips)
    assert_allclose(scenes.z[1] - scenes.z[0], 0.25)
    assert [(tip.charge, tip.offset) for tip in map(scenes.tip, range(2))] == [(0.1, (0.1, 0.2)), (-0.1, (0.0, 0.0))]
    assert scenes.tip(1).quadrupole == Tip().quadrupole


def test_a_bond_shows_as_a_ridge_and_the_vacuum_does_not():
    """Above two carbons, near contact, Δf is higher on the bond than beside it, and about zero far away."""
    ethyne = Molecule(np.array([6, 6, 1, 1]), np.array([[-0.6, 0, 0], [0.6, 0, 0], [-1.66, 0, 0], [1.66, 0, 0.0]]))
    options = SimulationOptions(size=12, pixels=49, clearance=-0.6)
    scan = next(simulate([ethyne], options, load_engine("torch", "cpu")[1]))
    near = scan.df[..., -1]
    assert near[24, 24] > near[24, 34] + 1
    assert abs(near[0, 0]) < 0.3


def test_a_batch_equals_its_members(bent):
    _, simulator = load_engine("torch", "cpu")
    other = Molecule(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0.0]]))
    together = list(simulate([bent, other], SMALL, simulator))
    for scan, molecule in zip(together, [bent, other], strict=True):
        assert_allclose(scan.df, next(simulate([molecule], SMALL, simulator)).df, atol=2e-3)


def test_the_options_change_the_tip():
    tip = SimulationOptions(tip="Xe", lateral_stiffness=0.4, charge=0.2, tilt_x=0.1).effective_tip()
    assert (tip.probe, tip.charge, tip.quadrupole, tip.offset) == ("Xe", 0.2, 0.3, (0.1, 0.0))
    assert tip.lateral_stiffness == pytest.approx(0.4 * N_per_m)


def test_each_tip_can_be_named_and_no_other():
    assert [SimulationOptions(tip=name).effective_tip() for name in TIPS] == list(TIPS.values())
    with pytest.raises(UsageError, match="tip is 'W'; it should be 'CO', 'Xe' or 'Cl'"):
        checked(SimulationOptions, {"tip": "W"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"amplitude": 50, "step": 1e-4}, "10 images with an amplitude of 50 Å at steps of 0.0001 Å take the force at"),
        ({"step": 5e-324}, "at inf heights; 2000 are the most"),
        ({"heights": 190, "amplitude": 25, "pixels": 2048}, "2048 × 2048 pixels take the force at 2.9e[+]09 points"),
    ],
)
def test_more_forces_than_fit_into_the_memory_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        checked(SimulationOptions, values)
    largest = checked(SimulationOptions, {"heights": 200, "pixels": 2048})
    assert (largest.heights, largest.pixels) == (200, 2048)


def test_a_molecule_wider_than_the_scan_is_said(caplog):
    wide = Molecule(np.array([6, 6]), np.array([[0, 0, 0], [20.0, 0, 0]]), name="dumb-bell")
    with caplog.at_level(logging.WARNING):
        next(simulate([wide], SMALL, load_engine("torch", "cpu")[1]))
    assert "dumb-bell is 20.0 Å wide" in caplog.text


def test_engines_devices_and_their_options_are_looked_up_by_name():
    for name in ("torch", "auto"):  # of the engines only torch has this option
        assert load_engine(name, "cpu", ["precision=double"])[1].dtype.itemsize == 8
    with pytest.raises(UsageError, match="no engine 'tourch'; did you mean 'torch'"):
        load_engine("tourch")
    with pytest.raises(UsageError, match="no device 'gpu'"):
        load_engine("torch", "gpu")
    for name in ("torch", "auto"):
        with pytest.raises(UsageError, match="no option precison"):
            load_engine(name, "cpu", ["precison=double"])


def test_auto_takes_the_first_engine_that_loads_on_the_device_and_passes_over_others_in_words(monkeypatch, caplog):
    def fails(options: object, device: str) -> None:
        raise RuntimeError("no driver")

    class Loaded:
        images = None

    engines = [
        Engine(name="best", summary="", load=fails, priority=9),
        Engine(name="good", summary="", load=lambda options, device: Loaded(), priority=2, devices=("cpu",)),
        Engine(name="fair", summary="", load=lambda options, device: Loaded()),
    ]
    plugin = Plugin("some", "some", "1", "some", tuple(engines))
    registry = Registry((plugin,), {(Engine, engine.name): (plugin, engine) for engine in engines})
    assert load_engine("auto", "cpu", registry=registry)[0].name == "good"
    assert [record.message for record in caplog.records] == [
        "engine best is passed over, good simulates: no driver"
    ]
    monkeypatch.setattr("afmid.simulate.scan_simulation.resolve_device", lambda name: name)
    assert load_engine("auto", "cuda", registry=registry)[0].name == "fair"


def test_auto_takes_opencl_on_a_cpu():
    pytest.importorskip("pyopencl", reason="pyopencl is not installed; it comes with afmid[opencl]")
    assert load_engine("auto", "cpu")[0].name == "opencl"


def test_heights_that_ascend_are_refused(bent):
    with pytest.raises(DataError, match="must descend"):
        Scene(bent, Tip(), np.zeros(1), np.zeros(1), np.array([3.0, 3.1]))


def test_the_nearest_image_does_not_depend_on_the_number_of_images():
    """Next to an atom the probe rests where it comes from, and so the tip always comes from above."""
    naphthalene = read_molecule("naphthalene")
    _, simulator = load_engine("torch", "cpu")
    settings = [SimulationOptions(size=8, pixels=16, heights=n, amplitude=0, clearance=-1) for n in (1, 16)]
    few, many = (next(simulate([naphthalene], options, simulator)) for options in settings)
    assert (few.df.shape[2], many.df.shape[2]) == (1, 16)
    assert_allclose(few.df[..., -1], many.df[..., -1], atol=0.02)


def test_a_potential_goes_where_its_molecule_goes_and_a_scan_beyond_its_cell_is_said(bent, caplog):
    waves = np.meshgrid(*[2 * np.pi * np.arange(60) / 60] * 3, indexing="ij")
    potential = Potential(np.cos(waves[0]) * np.sin(waves[1] + waves[2]), np.array([-8.0, -8, -8]), 16 * np.eye(3))
    _, simulator = load_engine("torch", "cpu")
    scan = next(simulate([bent], SMALL, simulator, potential=potential))
    assert not caplog.records
    above = replace(potential, origin=potential.origin + np.array([0, 0, 5]))
    lifted = next(simulate([bent.moved((0.0, 0.0, 5.0))], SMALL, simulator, potential=above))
    assert_allclose(lifted.df, scan.df, atol=2e-3)
    assert np.abs(scan.df - next(simulate([bent], SMALL, simulator)).df).max() > 0.1
    with caplog.at_level(logging.WARNING):
        next(simulate([bent], SMALL.model_copy(update={"size": 15.0}), simulator, potential=potential))
    assert "comes within 2 Å of the ends of its potential's cell" in caplog.text
