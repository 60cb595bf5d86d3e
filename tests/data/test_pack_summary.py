import numpy as np
from numpy.testing import assert_allclose

from afmid.data.pack import concatenate
from afmid.data.pack_summary import HEIGHTS, height_ranges, summarise
from afmid.molecule import Molecule


def tetrahedron(height):
    positions = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [4, 4, height]])
    return Molecule(np.array([6, 7, 6, 6]), positions)


BUTTERFLY = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [4, 4, 0], [2, 2, 5.0]])
MOLECULE = Molecule(np.array([6, 6, 6, 6, 1]), BUTTERFLY, smiles="C")  # flat but for its hydrogen
PACK = concatenate(
    [[MOLECULE, tetrahedron(3.0)], [tetrahedron(0.1)], [MOLECULE]],
    ["a", "a", "b"], ["train", "val", "train"], {}, [False, True, False, False],
)  # fmt: skip


def test_a_summary_counts_molecules_and_conformers_where_they_belong():
    summary = summarise(PACK)
    assert (summary.molecules, summary.conformers) == (3, 4)
    assert summary.elements == {"H": 2, "C": 3, "N": 2}
    assert summary.splits == {"train": {"a": 1, "b": 1}, "val": {"a": 1}}
    assert summary.atoms == {0: 3}
    assert sum(summary.free_by_height) == 3
    assert summary.free_by_height[0] == 3
    assert sum(summary.pressed_by_height) == 1
    assert len(summary.pressed_by_height) == len(HEIGHTS) + 1


def test_heights_are_those_of_heavy_atoms_in_any_pose():
    heights = height_ranges(PACK)
    assert_allclose(heights[[0, 3]], 0, atol=0.003)
    assert 1.0 < heights[1] < 3.0


def test_an_empty_pack_has_a_summary():
    summary = summarise(concatenate([], [], [], {}))
    assert (summary.molecules, summary.elements, summary.splits, summary.atoms) == (0, {}, {}, {})
