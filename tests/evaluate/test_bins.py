import pytest

from afmid.evaluate.bins import BINS, corrugation, groups_of
from afmid.molecule import Molecule


def bent(height, n=6):
    """Return n carbon atoms, one of them `height` Å above the others, and a hydrogen far above them all."""
    return Molecule([6] * n + [1], [[i, 0, height if i == 0 else 0.0] for i in range(n)] + [[0, 0, 9.0]])


@pytest.mark.parametrize(("height", "name"), [
    (0, "< 50 pm"), (0.49, "< 50 pm"), (0.5, "50–100 pm"), (1.25, "100–150 pm"), (3, "> 150 pm"),
])  # fmt: skip
def test_corrugation_is_the_height_range_of_the_heavy_atoms(height, name):
    assert corrugation(bent(height)) == height
    assert groups_of(bent(height))["corrugation"] == name


@pytest.mark.parametrize(("n", "name"), [(1, "1–15"), (14, "1–15"), (15, "16–30"), (44, "31–45"), (45, "> 45")])
def test_size_counts_all_atoms(n, name):
    assert groups_of(bent(0, n))["atoms"] == name


def test_hydrogen_alone_is_flat():
    assert corrugation(Molecule([1, 1], [[0, 0, 0], [0, 0, 0.74]])) == 0


@pytest.mark.parametrize("group", BINS)
def test_each_bin_of_the_order_is_reached(group):
    molecules = [bent(height, n) for height, n in ((0, 1), (0.6, 20), (1.2, 40), (2, 80))]
    assert tuple(groups_of(molecule)[group] for molecule in molecules) == BINS[group]
