import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid import DataError
from afmid.simulate.elements import lennard_jones
from afmid.units import COULOMB
from afmid_descriptor.maps import MAPS
from afmid_descriptor.targets import DISK_RADIUS, descriptor_maps

PIXEL = 0.25
X = (torch.arange(48, dtype=torch.float64) - 23.5) * PIXEL  # symmetric about 0, so that turns map pixels on pixels
RADIUS = {symbol: float(lennard_jones([number])[0][0]) for symbol, number in (("H", 1), ("C", 6), ("O", 8))}


SURFACE = ("disks", "spheres", "height")  # what geometry alone tells


def maps(numbers, positions, x=X, y=X, names=SURFACE, charges=None, bonds=(), orders=None):
    """Return maps (len(names), X, Y) of a molecule."""
    numbers, positions = torch.as_tensor(numbers)[None], torch.as_tensor(positions, dtype=torch.float64)[None]
    bonds = torch.as_tensor(np.reshape(bonds, (-1, 2)), dtype=torch.long)[None]
    charges = torch.zeros(numbers.shape) if charges is None else torch.as_tensor(charges)[None]
    orders = torch.ones(bonds.shape[:2]) if orders is None else torch.as_tensor(orders)[None]
    mask = torch.ones_like(numbers, dtype=torch.bool)
    return descriptor_maps(
        numbers, positions, mask, x[None], y[None], charges=charges, bonds=bonds, orders=orders, names=names
    )[0]


def all_maps(molecule, positions=None, **kwargs):
    """Return all maps of what `molecules` draws, its atoms moved to `positions`."""
    numbers, at, charges, bonds = molecule
    return maps(numbers, at if positions is None else positions, names=MAPS, charges=charges, bonds=bonds, **kwargs)


def assert_close(first, second, atol=1e-9):
    torch.testing.assert_close(first, second, atol=atol, rtol=0)


def assert_alike(first, second):
    """Compare all maps; the height is close, not the same, where the search for it begins elsewhere."""
    height = list(MAPS).index("height")
    off = (first - second).abs()
    assert (off[height] > 1e-3).double().mean() < 0.003  # a ledge thinner than the search's step may be passed over
    off[height] = 0
    assert off.max() < 1e-9


@st.composite
def molecules(draw):
    """Draw some atoms in the middle of the window, their charges, and bonds between any of them."""
    count = draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = np.stack(np.triu_indices(count, 1), 1)
    return (
        rng.choice([1, 6, 7, 8, 9, 16, 17, 35], count), rng.uniform((-3, -3, -2), (3, 3, 0), (count, 3)),
        rng.uniform(-0.5, 0.5, count), pairs[rng.random(len(pairs)) < 0.3],
    )  # fmt: skip


laws = settings(max_examples=15, deadline=None)


@laws
@given(molecules())
def test_turning_the_molecule_turns_the_maps(molecule):
    turned = molecule[1] @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # x, y → −y, x
    assert_alike(all_maps(molecule, turned), all_maps(molecule).rot90(1, (1, 2)))


@laws
@given(molecules())
def test_mirroring_the_molecule_mirrors_the_maps(molecule):
    assert_alike(all_maps(molecule, molecule[1] * (-1, 1, 1)), all_maps(molecule).flip(1))


@laws
@given(molecules(), st.integers(-4, 4), st.integers(-4, 4))
def test_moving_the_molecule_with_its_window_changes_nothing_and_within_it_moves_the_maps(molecule, right, up):
    move = np.array([right * PIXEL, up * PIXEL, 0])
    here = all_maps(molecule)
    window = {"x": X + move[0], "y": X + move[1]}
    assert_alike(all_maps(molecule, molecule[1] + move, **window), here)
    assert_alike(all_maps(molecule, **window), all_maps(molecule, molecule[1] - move))


@laws
@given(molecules(), st.floats(-50, 50))
def test_only_differences_of_height_count(molecule, lift):
    assert_alike(all_maps(molecule, molecule[1] + np.array([0, 0, lift])), all_maps(molecule))


@laws
@given(molecules(), st.randoms(use_true_random=False))
def test_the_order_of_atoms_and_bonds_does_not_matter(molecule, random):
    numbers, positions, charges, bonds = molecule
    order = list(range(len(numbers)))
    random.shuffle(order)
    places = np.argsort(order)[bonds][::-1, ::-1]  # also each bond from its other end
    assert_alike(all_maps((numbers[order], positions[order], charges[order], places.copy())), all_maps(molecule))


@laws
@given(molecules())
def test_each_map_stays_in_its_range_over_an_empty_background(molecule):
    found = dict(zip(MAPS, all_maps(molecule), strict=True))
    assert all(abs(image[0, 0]) < 1e-6 for image in found.values())  # where only the tails of peaks reach
    assert all(0 <= image.min() < 1e-6 for name, image in found.items() if name != "field")
    for name, most in {"spheres": 1.5, "height": 2.0, "bonds": 1.0, "peaks": 1.0}.items():
        assert found[name].max() <= most + 1e-9


@laws
@given(st.lists(molecules(), min_size=2, max_size=10))
def test_padding_and_batching_change_nothing(several):
    atoms, edges = (max(len(molecule[k]) for molecule in several) for k in (0, 3))
    count = len(several)
    numbers, positions = torch.zeros(count, atoms, dtype=torch.long), torch.zeros(count, atoms, 3, dtype=torch.float64)
    charges = torch.ones(count, atoms, dtype=torch.float64)  # also where there is no atom
    bonds, orders = torch.zeros(count, edges, 2, dtype=torch.long), torch.zeros(count, edges)
    for row, (n, p, q, b) in enumerate(several):
        numbers[row, : len(n)], positions[row, : len(n)] = torch.from_numpy(n), torch.from_numpy(p)
        charges[row, : len(n)] = torch.from_numpy(q)
        bonds[row, : len(b)], orders[row, : len(b)] = torch.from_numpy(b), 1.5
    axes = X.expand(count, -1), X.expand(count, -1)
    together = descriptor_maps(numbers, positions, numbers > 0, *axes, charges=charges, bonds=bonds, orders=orders)
    for answer, molecule in zip(together, several, strict=True):
        assert_alike(answer, all_maps(molecule))


def test_maps_come_in_the_order_asked_for_and_need_only_what_they_show():
    numbers, positions = torch.tensor([[6, 8]]), torch.tensor([[[0, 0, 0], [1.2, 0, -0.2]]])
    molecule = numbers, positions, numbers > 0, X[None], X[None]
    surface = descriptor_maps(*molecule, names=SURFACE)
    assert torch.equal(descriptor_maps(*molecule, names=["height", "disks"]), surface[:, [2, 0]])
    with pytest.raises(ValueError, match="field map needs charges"):
        descriptor_maps(*molecule, names=["field"])
    with pytest.raises(ValueError, match="bond map needs bonds"):
        descriptor_maps(*molecule, names=["bonds"])
    with pytest.raises(ValueError, match="no map hight"):
        descriptor_maps(*molecule, names=["hight"])


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
    numbers, positions, *_ = molecule
    x, top = X[::3], positions[:, 2].max()
    height = maps(numbers, positions, x, x)[2]
    rho2 = [(x[:, None] - px) ** 2 + (x[None] - py) ** 2 for px, py, _ in positions]
    scan = torch.arange(top + 5.0, top - 1.0, -0.005, dtype=torch.float64)
    push = force(rho2, scan[:, None, None].expand(-1, len(x), len(x)), positions, numbers) - 0.1
    index = (push >= 0).to(torch.uint8).argmax(0, keepdim=True)
    after, before = push.gather(0, index)[0], push.gather(0, (index - 1).clamp_min(0))[0]
    first = torch.where(after >= 0, scan[index[0]] + 0.005 * after / (after - before), -torch.inf)
    error = height - (first - first.max() + 2).clamp_min(0)
    assert error.abs().quantile(0.99) < 1e-3  # a ledge thinner than the search's step may be passed over


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


@laws
@given(molecules())
def test_single_precision_agrees_with_double(molecule):
    numbers, positions, charges, bonds = (torch.from_numpy(np.ascontiguousarray(part))[None] for part in molecule)
    single, double = (
        descriptor_maps(
            numbers, positions.to(kind), numbers > 0, X[None].to(kind), X[None].to(kind),
            charges=charges, bonds=bonds, orders=torch.ones(bonds.shape[:2]),
        )[0]
        for kind in (torch.float32, torch.float64)
    )  # fmt: skip
    assert single.dtype == torch.float32
    off = (single.double() - double).abs()
    assert (off > 1e-4).double().mean() < 0.002  # but for pixels on the edge of a sphere, of the outline or of a ledge


def test_an_element_without_a_disk_is_named():
    with pytest.raises(DataError, match="the disks map knows H C N O F Si P S Cl Br I; not Au"):
        maps([6, 79], [[0, 0, 0], [3, 0, 0]])


def test_a_molecule_outside_the_window_gives_empty_maps():
    far = maps([6, 6], [[100, 0, 0], [101.4, 0, 0]], names=MAPS, charges=[0.1, -0.1], bonds=[(0, 1)])
    assert far.abs().max() == 0


def test_a_level_bond_is_a_stick_of_one_height_between_its_atoms():
    stick = maps([6, 6], [[-1, 0.125, 0], [1, 0.125, 0]], names=["bonds"], bonds=[(0, 1)])[0]
    beyond = (X.abs() - 1).clamp_min(0)
    s = torch.hypot(beyond[:, None], X[None] - 0.125)
    assert_close(stick, (1 - s / 0.5).clamp_min(0))


def test_a_bond_is_the_fainter_the_deeper_it_lies_and_ends_where_it_is_too_deep():
    down = maps([6, 6], [[-2.125, 0.125, 0], [2.125, 0.125, -2.4]], names=["bonds"], bonds=[(0, 1)])[0]
    along = (X + 2.125) / 4.25
    on_axis = down[:, X.tolist().index(0.125)]
    assert_close(on_axis[(along >= 0)], (1 - along * 2)[along >= 0].clamp_min(0))


def test_bonds_that_meet_do_not_add_up():
    fork = maps([6, 6, 6], [[0.125, 0.125, 0], [1.5, 0, 0], [0, 1.5, 0]], names=["bonds"], bonds=[(0, 1), (0, 2)])[0]
    assert float(fork[X.tolist().index(0.125), X.tolist().index(0.125)]) == pytest.approx(1)


def test_a_bond_of_order_zero_is_padding_and_one_straight_down_shows_its_upper_atom():
    atoms = [6, 1], [[0.125, 0.125, 0], [0.125, 0.125, -1.1]]
    assert maps(*atoms, names=["bonds"], bonds=[(0, 1)], orders=[0.0]).abs().max() == 0
    for bond in ((0, 1), (1, 0)):
        assert float(maps(*atoms, names=["bonds"], bonds=[bond]).max()) == pytest.approx(1)


@pytest.mark.parametrize(("depth", "top"), [(0.0, 1.0), (0.6, 1.0), (0.9, 0.5), (1.2, 0.0)])
def test_an_atom_of_any_element_is_the_same_peak_down_to_half_of_its_depth(depth, top):
    peaks = maps([8, 1, 53], [[-3, 0, 0], [1, 0.3, -depth], [3, 0, -5]], names=["peaks"])[0]
    rho = torch.hypot(X[:, None] - 1, X[None] - 0.3)
    beside = X > -1
    assert_close(peaks[beside], (top * torch.exp(-(rho**2) / (2 * 0.25**2)))[beside], atol=4e-4)


def test_the_field_is_that_of_coulomb_four_angstrom_above_the_top_atom():
    numbers, charges = [8, 6, 1], [-0.4, 0.3, 0.2]
    positions = np.array([[0.3, -0.2, 1.0], [1.5, 0.4, 0.2], [-0.7, 0.5, 0.6]])
    answer = maps(numbers, positions, names=["field"], charges=charges)[0]
    wanted = torch.zeros(len(X), len(X), dtype=torch.float64)
    for (px, py, pz), q in zip(positions, charges, strict=True):
        h = 1.0 + 4.0 - pz
        wanted += COULOMB * q * h / ((X[:, None] - px) ** 2 + (X[None] - py) ** 2 + h**2) ** 1.5
    seen = answer != 0
    assert 0.1 < seen.double().mean() < 0.9
    assert_close(answer[seen], wanted[seen], atol=1e-7)


@pytest.mark.parametrize("width", [1.0, 16.0, 60.0])
def test_a_positive_charge_has_a_positive_field_within_its_grown_sphere(width):
    axis = torch.linspace(-width / 2, width / 2, 41, dtype=torch.float64)
    answer = maps([8], [[0, 0, 0]], axis, axis, names=["field"], charges=[0.5])[0]
    rho = torch.hypot(axis[:, None], axis[None])
    radius = RADIUS["O"] + 1.0
    edge = np.sqrt(radius**2 - (radius - 2.0) ** 2)  # where it is 2 Å below its top
    assert torch.equal(answer > 0, rho < edge)
    assert float(answer[20, 20]) == pytest.approx(COULOMB * 0.5 / 16, rel=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_maps():
    rng = np.random.default_rng(0)
    numbers = torch.from_numpy(rng.choice([1, 6, 8], (3, 20)))
    positions = torch.from_numpy(rng.uniform((-3, -3, -2), (3, 3, 0), (3, 20, 3))).float()
    bonds, orders = torch.tensor([[[0, 1], [2, 3]]] * 3), torch.ones(3, 2)
    fields = numbers, positions, numbers > 0, X.float().expand(3, -1), X.float().expand(3, -1)
    more = {"charges": torch.full((3, 20), 0.1), "bonds": bonds, "orders": orders}
    there = descriptor_maps(*(t.cuda() for t in fields), **{name: t.cuda() for name, t in more.items()}).cpu()
    off = (there - descriptor_maps(*fields, **more)).abs()
    assert (off > 1e-3).double().mean() < 0.002
