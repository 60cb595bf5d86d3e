from dataclasses import replace

import numpy as np
import pytest

from afmid import Identification, Map, Molecule
from afmid_descriptor.maps import MAPS
from afmid_descriptor.metrics import map_errors, true_maps

AXIS = np.arange(32) * 0.25 - 4
CARBONYL = Molecule([6, 8], [[0, 0, 0], [1.2, 0, -0.2]], charges=[0.4, -0.4], bonds=[(0, 1)], orders=[2])


def answer(maps, units=MAPS):
    named = {name: Map(image.astype(np.float32), units[name]) for name, image in zip(MAPS, maps, strict=False)}
    return Identification(method="descriptor", version="0", x=AXIS, y=AXIS, maps=named)


def about(figures):
    """Return which maps have figures."""
    return {name.split("_")[0] for name in figures}


def test_the_true_maps_have_no_error_and_full_correlation():
    figures = map_errors(answer(true_maps(CARBONYL, AXIS, AXIS)), CARBONYL)
    assert sorted(figures) == [
        "bonds_correlation", "bonds_mse", "bonds_relative_error",
        "disks_correlation", "disks_mse", "disks_relative_error",
        "field_correlation", "field_mse_volt2_per_angstrom2", "field_relative_error",
        "height_correlation", "height_mse_angstrom2", "height_relative_error",
        "peaks_correlation", "peaks_mse", "peaks_relative_error",
        "spheres_correlation", "spheres_mse_angstrom2", "spheres_relative_error",
    ]  # fmt: skip
    for name, value in figures.items():
        assert value == pytest.approx(1.0 if name.endswith("correlation") else 0.0, abs=1e-6)


def test_maps_of_zero_have_the_mean_square_of_the_truth_and_no_correlation():
    truth = true_maps(CARBONYL, AXIS, AXIS)
    figures = map_errors(answer(0 * truth), CARBONYL)
    squares = dict(zip(MAPS, np.square(truth).mean((1, 2)), strict=True))
    spelt = {"1": "", "Å": "_angstrom2", "V/Å": "_volt2_per_angstrom2"}
    assert figures == {
        **{f"{name}_mse{spelt[MAPS[name]]}": pytest.approx(square) for name, square in squares.items()},
        **{f"{name}_relative_error": pytest.approx(1) for name in MAPS},
    }


def test_a_map_that_is_missing_or_in_another_unit_is_left_out():
    truth = true_maps(CARBONYL, AXIS, AXIS)
    assert about(map_errors(answer(truth[:1]), CARBONYL)) == {"disks"}
    assert about(map_errors(answer(truth[:2], {**MAPS, "spheres": "pm"}), CARBONYL)) == {"disks"}
    assert map_errors(answer([]), CARBONYL) == {}


def test_what_the_truth_does_not_tell_has_no_figures():
    said = answer(true_maps(CARBONYL, AXIS, AXIS))
    bare = Molecule(CARBONYL.numbers, CARBONYL.positions)
    assert about(map_errors(said, bare)) == set(MAPS) - {"bonds", "field"}
    assert about(map_errors(said, replace(CARBONYL, charges=[0.0, 0.0]))) == set(MAPS) - {"field"}
    assert map_errors(said, Molecule([79], [[0, 0, 0]])) == {}


def test_a_wide_scan_has_the_maps_of_its_parts():
    wide = np.arange(2000) * 0.25 - 250
    middle = slice(980, 1020)
    whole = true_maps(CARBONYL, wide, AXIS)[:, middle]
    assert np.allclose(whole, true_maps(CARBONYL, wide[middle], AXIS), atol=1e-3)
    assert whole[0].max() == pytest.approx(1, abs=0.01)
