"""A potential on a lattice: its spline is Q₀ V + Q ∂²V/∂z² with the right derivatives, and acts as the charges do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io.cube import write_cube
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from afmid.errors import DataError
from afmid.io.potential_file import read_potential
from afmid.simulate import Scene, Tip
from afmid.simulate.potential import WIDTH, Potential
from afmid.simulate.reference import forces
from afmid.simulate.splines import Splines, spline_field
from afmid.units import COULOMB, HARTREE

BOTH = Tip(charge=0.3, quadrupole=-0.2)
STRAIGHT = np.diag([9.0, 8.4, 9.6])
SKEW = np.array([[8.0, 0.4, 0.8], [3.0, 8.0, -1.0], [-2.0, 1.5, 9.0]])
CENTRE = np.array([0.3, -0.2, 0.4])
POINTS = np.random.default_rng(0).uniform(-1.5, 1.5, (50, 3))
COARSE, FINE = (60, 56, 64), (120, 112, 128)
SIZE = 0.7  # Å: standard deviation of the hill


def lattice(cell, counts, origin):
    fractions = np.stack(np.meshgrid(*[np.arange(n) / n for n in counts], indexing="ij"), -1)
    return fractions @ cell + origin


def hill(cell, counts=COARSE):
    """A Gaussian of 1 V at CENTRE, in the middle of the cell."""
    origin = CENTRE - cell.sum(0) / 2
    squares = ((lattice(cell, counts, origin) - CENTRE) ** 2).sum(-1)
    return Potential(np.exp(-squares / 2 / SIZE**2), origin, cell)


def noise(counts=(8, 9, 11)):
    cell = np.array([[2.0, 0.1, 0.2], [0.8, 2.5, 0.0], [-0.3, 0.4, 3.0]])
    return Potential(np.random.default_rng(1).normal(size=counts), np.array([0.3, -7.0, 2.0]), cell)


def numeric_gradient(function, points, step=1e-5):
    columns = [(function(points + step * e) - function(points - step * e)) / (2 * step) for e in np.eye(3)]
    return np.stack(columns, -1)


@pytest.mark.parametrize("potential", [hill(SKEW), noise()], ids=["hill", "noise"])
def test_the_force_is_minus_the_gradient_of_the_energy_and_so_on(potential):
    spline = potential.spline(BOTH)
    _, force, hessian = spline.law(POINTS)
    assert_allclose(force, -numeric_gradient(lambda p: spline.law(p)[0], POINTS), atol=1e-9)
    assert_allclose(hessian, numeric_gradient(lambda p: -spline.law(p)[1], POINTS), atol=1e-8)  # also at the knots
    assert_allclose(hessian, hessian.swapaxes(1, 2), atol=1e-12)


def blurred_hill(tip, points):
    """Energy (P,) and force (P, 3) of a tip over the blurred hill."""
    square, d = SIZE**2 + WIDTH**2, points - CENTRE
    height = (SIZE**2 / square) ** 1.5 * np.exp(-(d**2).sum(1) / 2 / square)
    share = tip.charge + tip.quadrupole * (d[:, 2] ** 2 / square**2 - 1 / square)
    force = height[:, None] * share[:, None] * d / square
    force[:, 2] -= height * tip.quadrupole * 2 * d[:, 2] / square**2
    return height * share, force


@pytest.mark.parametrize("cell", [STRAIGHT, SKEW], ids=["straight", "skew"])
def test_the_spline_of_a_gaussian_nears_the_law_of_the_blurred_gaussian_as_the_lattice_gets_finer(cell):
    energy, force = blurred_hill(BOTH, POINTS)
    laws = [hill(cell, counts).spline(BOTH).law(POINTS) for counts in (COARSE, FINE)]
    coarse, fine = (np.sqrt(((found - energy) ** 2).mean()) for found, _, _ in laws)
    assert fine < coarse / 12  # the fourth power of the step
    assert_allclose(laws[1][0], energy, atol=2e-6)
    coarse, fine = (np.sqrt(((found - force) ** 2).mean()) for _, found, _ in laws)
    assert fine < coarse / 6  # the third power
    assert_allclose(laws[1][1], force, atol=5e-5)


def test_a_skew_lattice_gives_the_force_of_a_straight_one():
    (_, straight, _), (_, skew, _) = (hill(cell, FINE).spline(BOTH).law(POINTS) for cell in (STRAIGHT, SKEW))
    assert_allclose(skew, straight, atol=5e-5)


@given(shift=st.tuples(*[st.floats(-50, 50)] * 3), whole=st.tuples(*[st.integers(-5, 5)] * 3), lift=st.floats(-20, 20))
def test_moving_potential_and_points_going_a_cell_further_or_lifting_all_changes_no_force(shift, whole, lift):
    potential = noise()
    expected = potential.spline(BOTH).law(POINTS)
    moved = potential.moved(shift)
    for a, b in zip(moved.spline(BOTH).law(POINTS + shift), expected, strict=True):
        assert_allclose(a, b, atol=1e-9)
    for a, b in zip(potential.spline(BOTH).law(POINTS + np.array(whole) @ potential.cell), expected, strict=True):
        assert_allclose(a, b, atol=1e-9)
    lifted = replace(potential, values=potential.values + lift).spline(BOTH).law(POINTS)
    assert_allclose(lifted[0], expected[0] + BOTH.charge * lift, atol=1e-9)
    assert_allclose(lifted[1], expected[1], atol=1e-9)


def test_the_energy_is_linear_in_the_tips_charges():
    monopole, quadrupole = (noise().spline(tip).law(POINTS)[0] for tip in (Tip(charge=1, quadrupole=0), Tip()))
    both = noise().spline(Tip(charge=0.5, quadrupole=-0.3)).law(POINTS)[0]
    assert_allclose(both, 0.5 * monopole + 3 * quadrupole, atol=1e-12)


def test_a_nucleus_does_not_ring_through_the_box():
    values = np.zeros((64, 64, 64))
    values[32, 32, 32] = 1000.0  # V, at one point
    spline = Potential(values, np.zeros(3), np.eye(3) * 9.6).spline(Tip(charge=1.0))
    far = np.random.default_rng(0).uniform(0, 9.6, (2000, 3))
    far = far[np.linalg.norm(far - 4.8, axis=1) > 3]
    assert np.abs(spline.law(far)[1]).max() < 1e-6


def fields(splines, centres, points, dtype):
    """The field of each spline at points (B, P, 3), from tensors and from NumPy: (9, B, P) each."""
    relative = torch.as_tensor(points - centres[:, None]).to(dtype)
    tensors = torch.stack(spline_field(Splines.of(splines, centres, dtype), *relative.movedim(-1, 0)))
    nothing = np.zeros((points.shape[1], 3)), np.zeros((points.shape[1], 3, 3))
    laws = [spline.law(p)[1:] if spline else nothing for spline, p in zip(splines, points, strict=True)]
    rows = [[*f.T, *(h[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))] for f, h in laws]
    return tensors.double().numpy(), np.moveaxis(np.array(rows), 0, 1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 3e-6)], ids=str)
def test_tensors_give_what_numpy_gives_for_each_scene_of_a_batch(dtype, tolerance):
    potentials = [hill(SKEW), None, noise(), hill(STRAIGHT).moved((400.0, 0.0, -90.0)), noise((10, 8, 9))]
    splines = [p and p.spline(BOTH) for p in potentials]
    centres = np.array([[0.5, 0.2, 0.1], [0, 0, 0], [55.0, -32.0, 17.0], [399.0, 1.0, -90.5], [-3.0, 0.0, 1e3]])
    points = centres[:, None] + np.random.default_rng(2).uniform(-4, 4, (5, 300, 3))
    tensors, numpy = fields(splines, centres, points, dtype)
    largest = np.abs(numpy).max((0, 2), keepdims=True)
    assert_allclose(tensors / np.maximum(largest, 1e-30), numpy / np.maximum(largest, 1e-30), atol=tolerance)
    assert not tensors[:, 1].any()


def test_autograd_of_the_force_is_minus_the_hessian():
    splines = Splines.of([noise().spline(BOTH)], np.zeros((1, 3)), torch.float64)
    x, y, z = torch.as_tensor(POINTS.T.copy())[:, None].requires_grad_().unbind()
    fx, _, fz, hxx, _, hzz, hxy, hxz, _ = spline_field(splines, x, y, z)
    for force, expected in ((fx, (hxx, hxy, hxz)), (fz, (hxz, None, hzz))):
        for point, h in zip((x, y, z), expected, strict=True):
            if h is not None:
                (gradient,) = torch.autograd.grad(force.sum(), point, retain_graph=True)
                assert_allclose(gradient, -h.detach(), atol=1e-10)


def test_scenes_that_share_a_potential_and_a_tips_charges_share_its_coefficients():
    potential = noise()
    splines = [p.spline(tip) for p in (potential, potential.moved((1.0, 0.0, 0.0))) for tip in (BOTH, replace(BOTH))]
    packed = Splines.of([*splines, None], np.zeros((5, 3)))
    assert packed.coefficients.numel() == 11 * 12 * 14 + 64


@pytest.mark.parametrize(
    "tip", [Tip(charge=-0.1, quadrupole=0.0), Tip(), Tip(charge=0.1)], ids=["monopole", "quadrupole", "both"]
)
def test_a_cube_of_point_charges_gives_the_relaxed_forces_of_the_point_charges(bent, tip, cube):
    """To 1e-5 eV/Å, where the charges alone change the forces by 0.006 to 0.012 eV/Å rms.

    What is left is the cubic spline between points 0.15 Å apart: it falls as the third power of their distance.
    """
    potential, molecule = read_potential(cube)
    x, z = np.linspace(-2.4, 2.6, 7), np.array([3.4, 3.2, 3.0])
    expected, _ = forces(Scene(bent, tip, x, x, z))
    found, unsettled = forces(Scene(molecule, tip, x, x, z, potential))
    assert_allclose(found, expected, atol=1e-5)
    assert not unsettled.any()
    without, _ = forces(Scene(molecule, tip, x, x, z))
    assert np.sqrt(((without - expected) ** 2).mean()) > 3e-3
    again, _ = forces(Scene(bent, tip, x, x, z, potential))  # its own charges count no more
    assert_allclose(again, found, atol=1e-5)


@pytest.fixture
def cube(bent, tmp_path):
    """The electron's energy around `bent`, within 12 × 12 × 12 Å, every 0.15 Å, and to six digits."""
    cell, origin = np.eye(3) * 12.0, np.array([-6.0, -6.0, -4.0])
    values = np.full((80, 80, 80), 0.1 * HARTREE)  # as many programs put zero somewhere inside the sample
    points = lattice(cell, values.shape, origin)
    for charge, position in zip(bent.charges, bent.positions, strict=True):
        values -= COULOMB * charge / np.linalg.norm(points - position, axis=-1).clip(0.1)
    path = tmp_path / "bent.cube"
    with path.open("w") as file:
        write_cube(file, Atoms(bent.numbers, bent.positions, cell=cell), values / HARTREE, origin=origin)
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"values": np.zeros((8, 8))}, "at least 8 points a side"),
        ({"values": np.zeros((8, 8, 7))}, "at least 8 points a side"),
        ({"values": np.full((8, 8, 8), np.nan)}, "not finite"),
        ({"values": np.full((8, 8, 8), -1e12)}, r"reaches 1e\+12 V"),
        ({"values": np.zeros((8, 8, 8), bool)}, "must be real numbers"),
        ({"values": np.broadcast_to(0.0, (400, 400, 400))}, "takes up to 50000000"),
        ({"origin": np.zeros(2)}, "need shapes"),
        ({"cell": np.ones((3, 3))}, "spans no volume"),
        ({"cell": np.eye(3) * 8}, "1 × 1 × 1 Å apart"),
        ({"cell": np.eye(3) * 0.01}, "0.00125 × 0.00125 × 0.00125 Å apart"),
        ({"cell": np.full((3, 3), np.inf)}, "not finite"),
    ],
)
def test_what_is_no_potential_is_refused(changes, says):
    fields = {"values": np.zeros((8, 8, 8)), "origin": np.zeros(3), "cell": np.eye(3) * 2}
    with pytest.raises(DataError, match=says):
        Potential(**{**fields, **changes})
