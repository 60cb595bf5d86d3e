"""Molecules and scenes that several tests simulate."""

import numpy as np
import pytest

from afmid.molecule import Molecule
from afmid.simulate.potential import Potential


@pytest.fixture
def bent() -> Molecule:
    """A small molecule that is neither flat nor symmetric, with charges: formamide with a chlorine, roughly."""
    return Molecule(
        numbers=np.array([6, 8, 7, 1, 1, 17]),
        positions=np.array([
            [0.03, 0.02, 0.0], [1.18, 0.31, 0.1], [-0.71, 1.17, -0.2],
            [-0.22, 2.05, -0.1], [-1.70, 1.10, -0.6], [-0.89, -1.52, 0.4],
        ]),
        charges=np.array([0.42, -0.51, -0.60, 0.37, 0.38, -0.06]),
    )  # fmt: skip


@pytest.fixture
def waves() -> Potential:
    """A smooth potential on a skew lattice, strong enough to be felt."""
    cell = np.array([[9.0, 0.3, 0.0], [-0.5, 8.0, 0.2], [0.4, 0.1, 11.0]])
    a, b, c = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in (36, 40, 44)), indexing="ij")
    values = 0.4 * np.cos(a + 0.3) * np.sin(b) * np.cos(c) + 0.2 * np.sin(2 * a - b)
    return Potential(values, np.array([-4, 3, -2.0]), cell)
