"""The presets are what was published."""

from itertools import product

import pytest

from afmid.errors import UsageError
from afmid.simulate import SimulationOptions
from afmid.simulate.presets import variants


def test_quam_is_24_scans_of_each_amplitude_with_each_stiffness() -> None:
    scans = variants("quam", SimulationOptions())
    assert len(scans) == 24
    amplitudes, stiffnesses = (0.4, 0.6, 0.8, 1.0, 1.2, 1.4), (0.4, 0.6, 0.8, 1.0)
    found = {(scan.amplitude, scan.lateral_stiffness) for scan in scans.values()}
    assert found == set(product(amplitudes, stiffnesses))
    assert {(scan.size, scan.pixels, scan.heights, scan.step) for scan in scans.values()} == {(24.0, 256, 10, 0.1)}


def test_the_names_say_stiffness_and_amplitude() -> None:
    scans = variants("quam", SimulationOptions())
    assert list(scans)[:2] == ["K040_Amp040", "K040_Amp060"]
    assert (scans["K100_Amp140"].lateral_stiffness, scans["K100_Amp140"].amplitude) == (1.0, 1.4)


def test_what_is_set_goes_before_what_the_scans_share() -> None:
    scans = variants("quam", SimulationOptions(pixels=128, tip="Xe", clearance=0.1))
    assert {(scan.pixels, scan.tip, scan.clearance, scan.size) for scan in scans.values()} == {(128, "Xe", 0.1, 24.0)}


@pytest.mark.parametrize("varied", ["amplitude", "lateral_stiffness"])
def test_what_the_scans_differ_in_cannot_be_set(varied: str) -> None:
    with pytest.raises(UsageError, match="leave yours out"):
        variants("quam", SimulationOptions(**{varied: 0.5}))


def test_settings_that_do_not_go_with_a_preset_are_refused_in_words() -> None:
    with pytest.raises(UsageError, match="take a longer step"):
        variants("quam", SimulationOptions(step=0.001))
