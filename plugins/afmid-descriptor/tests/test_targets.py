import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid import DataError
from afmid.simulate.elements import lennard_jones
from afmid_descriptor.targets import DISK_RADIUS, descriptor_maps

PIXEL = 0.25
X = (torch.arange(48, dtype=torch.float64) - 23.5) * PIXEL  # symmetric about 0, so that turns map pixels on pixels
RADIUS = {symbol: float(lennard_jones([number])[0][0]) for symbol, number in (("H", 1), ("C", 6), ("O", 8))}


def maps(numbers, positions, x=X, y=X):
    """Return the maps (3, X, Y) of a molecule."""
    numbers, positions = torch.as_tensor(numbers)[None], torch.as_tensor(positions, dtype=torch.float64)[None]
    return descriptor_maps(numbers, positions, torch.ones_like(numbers, dtype=torch.bool), x[None], y[None])[0]


def assert_close(first, second):
    torch.testing.assert_close(first, second, atol=1e-9, rtol=0)


@st.composite
def molecules(draw):
    """Draw some atoms in the middle of the window."""
    count = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.choice([1, 6, 7, 8, 9, 16, 17, 35], count), rng.uniform((-3, -3, -2), (3, 3, 0), (count, 3))


laws = settings(max_examples=15, deadline=None)


@laws
@given(molecules())
def test_turning_the_molecule_turns_the_maps(molecule):
    numbers, positions = molecule
    turned = positions @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # x, y → −y, x
    assert_close(maps(numbers, turned), maps(numbers, positions).rot90(1, (1, 2)))


@laws
@given(molecules())
def test_mirroring_the_molecule_mirrors_the_maps(molecule):
    numbers, positions = molecule
    assert_close(maps(numbers, positions * (-1, 1, 1)), maps(numbers, positions).flip(1))


@laws
@given(molecules(), st.integers(-4, 4), st.integers(-4, 4))
def test_moving_the_molecule_by_whole_pixels_moves_the_maps(molecule, right, up):
    numbers, positions = molecule
    here = maps(numbers, positions, X + right * PIXEL, X + up * PIXEL)
    there = maps(numbers, positions - (right * PIXEL, up * PIXEL, 0))
    assert_close(here, there)


@laws
@given(molecules(), st.floats(-50, 50))
def test_only_differences_of_height_count(molecule, lift):
    numbers, positions = molecule
    assert_close(maps(numbers, positions + np.array([0, 0, lift])), maps(numbers, positions))


@laws
@given(molecules(), st.randoms(use_true_random=False))
def test_the_order_of_atoms_does_not_matter(molecule, random):
    numbers, positions = molecule
    order = list(range(len(numbers)))
    random.shuffle(order)
    assert_close(maps(numbers[order], positions[order]), maps(numbers, positions))


@laws
@given(molecules())
def test_each_map_stays_in_its_range_over_an_empty_background(molecule):
    disks, spheres, height = maps(*molecule)
    assert disks.min() == spheres.min() == height.min() == 0
    assert disks[0, 0] == spheres[0, 0] == height[0, 0] == 0
    assert spheres.max() <= 1.5
    assert height.max() <= 2 + 1e-9


@laws
@given(molecules(), molecules())
def test_padding_and_batching_change_nothing(first, second):
    longest = max(len(numbers) for numbers, _ in (first, second))
    numbers, positions = torch.zeros(2, longest, dtype=torch.long), torch.zeros(2, longest, 3, dtype=torch.float64)
    for row, (n, p) in enumerate((first, second)):
        numbers[row, : len(n)], positions[row, : len(n)] = torch.from_numpy(n), torch.from_numpy(p)
    together = descriptor_maps(numbers, positions, numbers > 0, X.expand(2, -1), X.expand(2, -1))
    alone = torch.stack([maps(*first), maps(*second)])
    assert_close(together, alone)
    padded = descriptor_maps(numbers[:1], positions[:1], numbers[:1] > 0, X[None], X[None])
    assert_close(padded[0], alone[0])


@pytest.mark.parametrize("symbol", ["H", "C", "O"])
def test_one_atom_gives_the_analytic_cone_and_cap(symbol):
    number = {"H": 1, "C": 6, "O": 8}[symbol]
    disks, spheres, _ = maps([number], [[0.3, -0.2, 5.0]])
    rho = torch.hypot(X[:, None] - 0.3, X[None] + 0.2)
    radius = RADIUS[symbol] - 0.5
    cap = (radius**2 - rho**2).clamp_min(0).sqrt() - radius + 1.5
    assert_close(disks, (1 - rho / DISK_RADIUS[symbol]).clamp_min(0))
    torch.testing.assert_close(spheres, torch.where(rho < radius, cap, 0).clamp_min(0))


def force(rho2, z, positions, numbers):
    """Return the Lennard-Jones force (eV/Å) on an oxygen probe at height z, summed atom by atom."""
    total = torch.zeros_like(z)
    (r_probe,), (e_probe,) = lennard_jones([8])
    for square, position, r, e in zip(rho2, positions, *lennard_jones(numbers), strict=True):
        dz = z - position[2]
        distance, well = torch.sqrt(square + dz**2), r + r_probe
        pull = 12 * np.sqrt(e * e_probe) / distance * ((well / distance) ** 12 - (well / distance) ** 6)
        total += pull * dz / distance
    return total


@settings(max_examples=5, deadline=None)
@given(molecules())
def test_the_height_map_is_where_a_scan_from_above_first_meets_a_tenth_of_an_ev_per_angstrom(molecule):
    numbers, positions = molecule
    x, top = X[::3], positions[:, 2].max()
    height = maps(numbers, positions, x, x)[2]
    rho2 = [(x[:, None] - px) ** 2 + (x[None] - py) ** 2 for px, py, _ in positions]
    scan = torch.arange(top + 5.0, top - 1.0, -0.005, dtype=torch.float64)
    strong = force(rho2, scan[:, None, None].expand(-1, len(x), len(x)), positions, numbers) >= 0.1
    first = torch.where(strong.any(0), scan[strong.to(torch.uint8).argmax(0)], -torch.inf)
    error = height - (first - first.max() + 2).clamp_min(0)
    assert error.abs().quantile(0.99) < 0.006  # a ledge thinner than the search's step may be passed over


def test_the_height_map_of_one_atom_is_that_of_its_pair_force():
    height = maps([6], [[X[20], X[20], 0.0]])[2]
    z = torch.linspace(2.0, 4.0, 200_001, dtype=torch.float64)
    top = z[force([torch.zeros_like(z)], z, np.zeros((1, 3)), [6]) >= 0.1].max()
    aside = z[force([torch.full_like(z, (4 * PIXEL) ** 2)], z, np.zeros((1, 3)), [6]) >= 0.1].max()
    assert float(height[20, 20]) == pytest.approx(2.0, abs=1e-6)
    assert float(height[24, 20]) == pytest.approx(2.0 - float(top - aside), abs=1e-4)


def test_an_atom_below_the_cut_leaves_no_disk():
    alone = maps([6], [[0, 0, 0]])[0]
    assert torch.equal(maps([6, 6], [[0, 0, 0], [2, 0, -1.2]])[0], alone)
    assert not torch.equal(maps([6, 6], [[0, 0, 0], [2, 0, -1.19]])[0], alone)


def test_an_atom_whose_sphere_lies_below_the_cut_leaves_no_disk():
    carbon_below_bromine = maps([35, 6], [[0, 0, 0], [3, 0, -0.95]])[0]  # 0.95 + 2.22 − 1.908 > 1.2
    assert torch.equal(carbon_below_bromine, maps([35], [[0, 0, 0]])[0])


def test_single_precision_agrees_with_double():
    numbers = torch.tensor([[6, 6, 1, 8]])
    positions = torch.tensor([[[0, 0, 0], [1.4, 0, -0.3], [-1, 0.3, 0.1], [2, 1, -2]]])
    answers = [
        descriptor_maps(numbers, positions.to(kind), numbers > 0, X[None].to(kind), X[None].to(kind))
        for kind in (torch.float32, torch.float64)
    ]
    assert answers[0].dtype == torch.float32
    torch.testing.assert_close(answers[0].double(), answers[1], atol=2e-3, rtol=0)


def test_an_element_without_a_disk_is_named():
    with pytest.raises(DataError, match="know H C N O F Si P S Cl Br I; not Au"):
        maps([6, 79], [[0, 0, 0], [3, 0, 0]])


def test_a_molecule_outside_the_window_gives_empty_disks_and_finite_maps():
    answer = maps([6, 6], [[100, 0, 0], [101.4, 0, 0]])
    assert torch.isfinite(answer).all()
    assert answer.abs().max() == 0
