"""Scenes as columns."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.simulate import Scene, Scenes, Tip
from afmid.simulate.scene import shared_shape

X, Y, Z = np.linspace(4, 7, 5), np.linspace(-3, 1, 4), np.array([3.6, 3.4, 3.2])
SMALL = Molecule(np.array([8]), np.zeros((1, 3)), name="oxygen", smiles="O")


@pytest.fixture
def scenes(bent, waves):
    bonded = replace(bent, bonds=np.array([[0, 1], [0, 2]]), orders=np.array([2.0, 1.5]))
    return [
        Scene(SMALL, Tip(charge=0.1, offset=(0.2, 0.1)), X, Y, Z),
        Scene(bonded, Tip("Xe", length=3.0), X + 1, Y - 1, Z + 0.5, waves),
        Scene(SMALL.moved((1.0, 2.0, 3.0)), Tip(lateral_stiffness=0.1), X, Y, Z),
    ]


def test_scenes_as_columns_are_the_scenes(scenes):
    columns = Scenes.of(scenes)
    assert len(columns) == 3
    assert columns.counts.tolist() == [1, 6, 1]
    assert columns.shape == shared_shape(columns) == shared_shape(scenes) == (5, 4, 3)
    for scene, given in zip(columns, scenes, strict=True):
        for name in ("numbers", "positions", "charges", "bonds", "orders"):
            assert_array_equal(getattr(scene.molecule, name), getattr(given.molecule, name))
        for name in ("x", "y", "z"):
            assert_array_equal(getattr(scene, name), getattr(given, name))
        assert (scene.tip, scene.potential) == (given.tip, given.potential)
        assert (scene.molecule.name, scene.molecule.smiles) == (given.molecule.name, given.molecule.smiles)
    assert columns[-1].tip == scenes[2].tip
    with pytest.raises(IndexError):
        columns[3]


def test_a_slice_is_no_wider_than_it_needs_to_be(scenes):
    columns = Scenes.of(scenes)
    assert Scenes.of(columns) is columns
    assert columns[::2].numbers.shape == (2, 1)
    assert columns[::2].bonds.shape == (2, 0, 2)
    assert [scene.molecule.smiles for scene in columns[::2]] == ["O", "O"]
    assert columns[1:].positions.shape == (2, 6, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": np.tile([3.0, 3.1, 3.2], (3, 1))}, "z must descend"),
        ({"charges": np.zeros((3, 5))}, r"charges of 3 scenes need shape \(3, 6\), have \(3, 5\)"),
        ({"charge": np.zeros(2)}, r"charge of 3 scenes need shape \(3,\)"),
        ({"numbers": np.array([[1, 0, 1, 0, 0, 0]] * 3)}, "what fills it up comes last"),
        ({"numbers": np.zeros((3, 6), np.int64)}, "each scene needs an atom"),
        ({"offset": np.full((3, 2), 4.0)}, "shorter than the tip"),
        ({"radial_stiffness": np.zeros(3)}, "must be positive"),
        ({"smiles": ("O",)}, "3 scenes have 1 smiles"),
    ],
)
def test_columns_that_do_not_belong_together_are_refused(scenes, changes, message):
    with pytest.raises(DataError, match=message):
        replace(Scenes.of(scenes), **changes)


def test_scenes_of_different_grids_are_no_columns(scenes):
    with pytest.raises(DataError, match="grids of one shape"):
        Scenes.of([*scenes, Scene(SMALL, Tip(), X[1:], Y, Z)])
