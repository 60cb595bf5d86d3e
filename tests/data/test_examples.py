from dataclasses import replace

import numpy as np
import pytest
import torch

from afmid.data.examples import Examples
from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.scan import Scan

WATER = Molecule(
    np.array([8, 1, 1]),
    np.array([[0, 0, -1.0], [0.76, 0.59, -1.0], [-0.76, 0.59, -1.5]]),
    np.array([-0.86, 0.43, 0.43]),
    np.array([[0, 1], [0, 2]]),
)
ARGON = Molecule(np.array([18]), np.array([[1.0, -1.0, 0.0]]))


def scan(molecule: Molecule | None, size: int = 8) -> Scan:
    axis = (np.arange(size) - 3.5) * 0.5
    return Scan(np.zeros((size, size, 3), np.float32), axis, axis + 10, np.array([3.2, 3.1, 3.0]), truth=molecule)


def both() -> Examples:
    return Examples.joined([Examples.of(scan(WATER)), Examples.of(scan(ARGON))])


def test_smaller_molecules_are_filled_up_and_come_out_as_they_went_in():
    examples = both()
    assert examples.numbers.tolist() == [[8, 1, 1], [18, 0, 0]]
    assert examples.atoms.tolist() == [[True, True, True], [True, False, False]]
    assert examples.orders.tolist() == [[1, 1], [0, 0]]
    assert examples.maps.shape == (2, 0, 8, 8)
    water, argon = examples.molecule(0), examples.molecule(1)
    np.testing.assert_allclose(water.positions, WATER.positions + np.array([0, 0, 1]), atol=1e-6)  # topmost at 0
    np.testing.assert_allclose(water.charges, WATER.charges, atol=1e-7)
    assert water.bonds.tolist() == WATER.bonds.tolist()
    assert (argon.numbers.tolist(), len(argon.bonds)) == ([18], 0)


def test_a_part_of_the_examples_is_examples():
    part = both()[1:]
    assert (len(part), part.numbers.tolist()) == (1, [[18, 0, 0]])


def test_the_stacks_of_a_second_tip_go_along():
    examples = both()
    two = replace(examples, second=examples.df + torch.arange(2.0).view(2, 1, 1, 1))
    assert both().second is None
    assert both()[1:].second is None
    assert two[1:].second.unique().tolist() == [1]
    assert Examples.joined([two, two[1:]]).second[:, 0, 0, 0].tolist() == [0, 1, 1]
    turned = two.moved(two.df, two.maps, two.points, second=-two.second)
    assert torch.equal(turned.second, -two.second)
    assert turned.tilt.isnan().all()
    with pytest.raises(DataError, match="are no batch"):
        Examples.joined([two, examples])


def test_a_stored_scan_does_not_tell_its_tilt():
    assert both().tilt.shape == (2, 2)
    assert both().tilt.isnan().all()
    assert both()[1:].tilt.shape == (1, 2)


def test_points_also_name_the_way_from_the_tips_base_to_its_probe():
    tilt = torch.tensor([[0.3, -0.2], [torch.nan, torch.nan]])
    examples = replace(both(), tilt=tilt)
    assert examples.points.shape == (2, 3 + 2, 2)
    base, probe = examples.points[0, -2:]
    torch.testing.assert_close(probe - base, 2 * tilt[0])  # pixels of 0.5 Å

    def moved(points):
        return examples.moved(examples.df, examples.maps, points).tilt

    torch.testing.assert_close(moved(examples.points), tilt, equal_nan=True)
    torch.testing.assert_close(moved(examples.points + 5), tilt, equal_nan=True)  # a shift leaves it alone
    torch.testing.assert_close(moved(7 - examples.points), -tilt, equal_nan=True)  # a half turn
    torch.testing.assert_close(moved(examples.points.flip(2)), tilt.flip(1), equal_nan=True)  # a mirror


def test_points_are_the_atoms_in_pixels_and_lead_back_to_their_positions():
    examples = both()
    i, j = examples.points[1, 0].tolist()  # argon, at 1 and −1 Å; the first pixel is at −1.75 and 8.25 Å, 0.5 Å wide
    assert (i, j) == pytest.approx((5.5, -18.5))
    there = examples.moved(examples.df, examples.maps, examples.points + 2)
    torch.testing.assert_close(there.positions[:, 0, :2], examples.positions[:, 0, :2] + 1)
    assert torch.equal(there.positions[..., 2], examples.positions[..., 2])
    assert torch.equal(there.positions[1, 1:], examples.positions[1, 1:])  # no atom is there to be moved


def test_a_scan_without_its_molecule_is_no_example():
    with pytest.raises(DataError, match="does not hold the true molecule"):
        Examples.of(scan(None))
