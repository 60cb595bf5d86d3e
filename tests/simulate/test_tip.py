"""Tips: presets and what a tip cannot be."""

import numpy as np
import pytest

from afmid.errors import DataError
from afmid.simulate import TIPS, Tip
from afmid.units import N_per_m


def test_the_presets_are_those_of_the_literature():
    co, xe, cl = (TIPS[name] for name in ("CO", "Xe", "Cl"))
    assert (co.probe, co.charge, co.quadrupole, co.lateral_stiffness) == ("O", 0.0, -0.1, 0.25 * N_per_m)
    assert (xe.probe, xe.charge, xe.quadrupole) == ("Xe", 0.0, 0.3)
    assert (cl.probe, cl.charge, cl.lateral_stiffness) == ("Cl", -0.3, 0.5 * N_per_m)


def test_the_probe_at_rest_hangs_its_length_below_the_base_also_when_tilted():
    rest = np.array(Tip(offset=(0.3, -0.4)).rest)
    assert rest[:2] == pytest.approx([0.3, -0.4])
    assert np.linalg.norm(rest) == pytest.approx(4.0)
    assert rest[2] < 0


def test_a_newton_per_metre_is_a_sixteenth_of_an_electronvolt_per_square_angstrom():
    assert 1 / N_per_m == pytest.approx(16.0217663, rel=1e-8)


def test_impossible_tips_are_refused_in_words():
    with pytest.raises(DataError, match="no element 'Qq'"):
        Tip(probe="Qq")
    with pytest.raises(DataError, match="shorter than the tip"):
        Tip(offset=(4.0, 1.0))
    with pytest.raises(DataError, match="must be positive"):
        Tip(lateral_stiffness=0.0)
