"""Lennard-Jones parameters."""

import numpy as np
import pytest

from afmid.errors import DataError
from afmid.molecule import LEARNT, SYMBOLS
from afmid.simulate.elements import lennard_jones


def test_every_element_up_to_iodine_has_parameters_but_krypton():
    numbers = [n for n in range(1, SYMBOLS.index("I") + 1) if SYMBOLS[n] != "Kr"]
    radii, depths = lennard_jones(numbers)
    assert ((radii > 1.4) & (radii < 3.3)).all()
    assert ((depths > 5e-4) & (depths < 0.03)).all()
    assert set(LEARNT) <= set(numbers)


def test_carbon_has_the_parameters_of_amber():
    radii, depths = lennard_jones(np.array([6]))
    assert radii == pytest.approx([1.9080])
    assert depths == pytest.approx([0.086 / 23.0605], rel=1e-3)  # kcal/mol: Cornell et al., JACS 117, 5179 (1995)


def test_an_element_without_parameters_is_named():
    with pytest.raises(DataError, match="no Lennard-Jones parameters for Kr"):
        lennard_jones([6, 36])
