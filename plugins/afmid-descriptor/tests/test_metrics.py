import numpy as np
import pytest

from afmid import Identification, Map, Molecule
from afmid_descriptor.metrics import UNITS, map_errors, true_maps

AXIS = np.arange(32) * 0.25 - 4
CARBON = Molecule([6, 8], [[0, 0, 0], [1.2, 0, -0.2]])


def answer(maps, units=UNITS):
    named = {name: Map(image.astype(np.float32), units[name]) for name, image in zip(UNITS, maps, strict=False)}
    return Identification(method="descriptor", version="0", x=AXIS, y=AXIS, maps=named)


def test_the_true_maps_have_no_error_and_full_correlation():
    figures = map_errors(answer(true_maps(CARBON, AXIS, AXIS)), CARBON)
    assert sorted(figures) == [
        "disks_correlation", "disks_mse", "height_correlation", "height_mse_angstrom2",
        "spheres_correlation", "spheres_mse_angstrom2",
    ]  # fmt: skip
    for name, value in figures.items():
        assert value == pytest.approx(1.0 if name.endswith("correlation") else 0.0, abs=1e-6)


def test_maps_of_zero_have_the_mean_square_of_the_truth_and_no_correlation():
    truth = true_maps(CARBON, AXIS, AXIS)
    figures = map_errors(answer(0 * truth), CARBON)
    assert figures == {
        "disks_mse": pytest.approx(np.square(truth[0]).mean()),
        "spheres_mse_angstrom2": pytest.approx(np.square(truth[1]).mean()),
        "height_mse_angstrom2": pytest.approx(np.square(truth[2]).mean()),
    }


def test_a_map_that_is_missing_or_in_another_unit_is_left_out():
    truth = true_maps(CARBON, AXIS, AXIS)
    disks = {"disks_mse", "disks_correlation"}
    assert set(map_errors(answer(truth[:1]), CARBON)) == disks
    assert set(map_errors(answer(truth[:2], {**UNITS, "spheres": "pm"}), CARBON)) == disks


def test_a_molecule_with_an_element_that_has_no_disk_has_no_figures():
    assert map_errors(answer(true_maps(CARBON, AXIS, AXIS)), Molecule([79], [[0, 0, 0]])) == {}
