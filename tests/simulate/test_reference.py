"""The law in float64: force and Hessian are derivatives of the energy, and the probe comes to rest."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from afmid.molecule import Molecule
from afmid.simulate import TIPS, Scene, Tip
from afmid.simulate.elements import lennard_jones
from afmid.simulate.reference import forces, relax, sample_law, tip_law
from afmid.units import COULOMB

STEP = 1e-5


def numeric_gradient(function, points):
    """Central differences along x, y, z; the new axis goes last."""
    columns = [(function(points + STEP * e) - function(points - STEP * e)) / (2 * STEP) for e in np.eye(3)]
    return np.stack(columns, -1)


@pytest.mark.parametrize("tip", [*TIPS.values(), Tip(charge=0.2, quadrupole=0.15)], ids=[*TIPS, "both"])
def test_the_samples_force_is_minus_the_gradient_of_its_energy_and_so_on(bent, tip):
    points = np.random.default_rng(0).uniform([-3, -3, 2.2], [3, 3, 4.5], (40, 3))
    _, force, hessian = sample_law(bent, tip, points)
    gradient = numeric_gradient(lambda p: sample_law(bent, tip, p)[0], points)
    curvature = numeric_gradient(lambda p: -sample_law(bent, tip, p)[1], points)
    assert_allclose(force, -gradient, rtol=1e-6, atol=1e-8)
    assert_allclose(hessian, curvature, rtol=1e-5, atol=1e-7)


def test_the_springs_force_is_minus_the_gradient_of_their_energy_and_so_on():
    tip = Tip(offset=(0.3, -0.2))
    u = np.random.default_rng(0).normal([0.3, -0.2, -4.0], 0.4, (40, 3))
    _, force, hessian = tip_law(tip, u)
    assert_allclose(force, -numeric_gradient(lambda p: tip_law(tip, p)[0], u), rtol=1e-6, atol=1e-8)
    assert_allclose(hessian, numeric_gradient(lambda p: -tip_law(tip, p)[1], u), rtol=1e-5, atol=1e-7)


def test_two_atoms_at_the_sum_of_their_radii_have_the_depth_of_the_well():
    carbon = Molecule(np.array([6]), np.zeros((1, 3)))
    (radius,), (depth,) = lennard_jones([6])
    probe_radius, probe_depth = lennard_jones(8)
    at = np.array([[0.0, 0.0, radius + probe_radius]])
    energy, force, _ = sample_law(carbon, Tip(), at)
    assert_allclose(energy, -np.sqrt(depth * probe_depth), rtol=1e-12)
    assert_allclose(force, 0, atol=1e-12)


@given(q=st.floats(-1, 1), charge=st.floats(-1, 1), quadrupole=st.floats(-1, 1), z=st.floats(2, 9))
def test_above_a_point_charge_the_tip_has_the_energy_of_its_monopole_and_quadrupole(q, charge, quadrupole, z):
    bare = Molecule(np.array([1]), np.zeros((1, 3)))
    charged = replace(bare, charges=np.array([q]))
    tip = Tip(charge=charge, quadrupole=quadrupole)
    point = np.array([[0.0, 0.0, z]])
    coulomb = sample_law(charged, tip, point)[0] - sample_law(bare, tip, point)[0]
    assert_allclose(coulomb, COULOMB * q * (charge / z + 2 * quadrupole / z**3), rtol=1e-6, atol=1e-9)


def test_the_quadrupole_is_the_limit_of_three_charges(bent):
    """Charges c, −2c, c at heights h, 0, −h, with Q = c h² (ppafm's dz2 tip)."""
    h, quadrupole = 1e-3, -0.1
    point = np.array([[0.4, 0.3, 3.1]])
    uncharged = replace(bent, charges=np.zeros(6))
    energy = sample_law(bent, Tip(quadrupole=quadrupole), point)[0] - sample_law(uncharged, Tip(), point)[0]
    c = quadrupole / h**2
    three = sum(
        charge * (COULOMB * bent.charges / np.linalg.norm(point + np.array([0, 0, dz]) - bent.positions, axis=1)).sum()
        for charge, dz in ((c, h), (-2 * c, 0.0), (c, -h))
    )
    assert_allclose(energy, three, rtol=1e-4)


def test_the_law_stays_finite_inside_an_atom(bent):
    assert np.isfinite(sample_law(bent, Tip(charge=1.0), bent.positions)[1]).all()


def test_the_relaxed_probe_rests_where_all_forces_cancel(bent):
    tip = Tip()
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(-2.9, 3.1, 8), np.linspace(-3.05, 2.9, 8), indexing="ij"))
    base = np.column_stack([x, y, np.full(64, 3.2 + 4.0)])
    u, sample, residual = relax(lambda points: sample_law(bent, tip, points), tip, base, np.tile(tip.rest, (64, 1)))
    spring = tip_law(tip, u)[1]
    assert_allclose(sample + spring, 0, atol=1e-8)
    assert residual.max() < 1e-8
    curvature = sample_law(bent, tip, base + u)[2] + tip_law(tip, u)[2]
    assert np.linalg.eigvalsh(curvature).min() > 0  # a minimum, no saddle


def test_far_away_the_tip_hangs_at_rest_and_feels_the_sum_of_the_tails():
    carbon = Molecule(np.array([6]), np.zeros((1, 3)))
    z = np.array([30.0, 29.0])
    fz, _ = forces(Scene(carbon, Tip(), np.array([0.0]), np.array([0.0]), z))
    assert_allclose(fz[0, 0], sample_law(carbon, Tip(), np.array([[0, 0, 30.0], [0, 0, 29.0]]))[1][:, 2], rtol=1e-4)


def test_a_tilted_tip_is_an_image_shifted_by_its_offset_where_the_probe_cannot_bend(bent):
    stiff = Tip(lateral_stiffness=1e3, radial_stiffness=1e3)
    tilted = replace(stiff, offset=(0.5, -0.25))
    x, z = np.linspace(-3, 3, 13), np.array([4.0, 3.9])
    straight, _ = forces(Scene(bent, stiff, x + 0.5, x - 0.25, z))
    assert_allclose(forces(Scene(bent, tilted, x, x, z))[0], straight, atol=1e-4)


@settings(max_examples=5, deadline=None)
@given(shift=st.tuples(*[st.floats(-20, 20)] * 3), quarter=st.integers(0, 3))
def test_moving_or_turning_molecule_and_scan_together_changes_nothing(shift, quarter):
    molecule = Molecule(np.array([6, 8]), np.array([[0, 0, 0], [0.9, 0.5, 0.2]]), np.array([0.3, -0.3]))
    x, z = np.linspace(-2.1, 1.9, 5), np.array([3.6, 3.4])
    before, _ = forces(Scene(molecule, Tip(), x, x, z))
    moved, _ = forces(Scene(molecule.moved(shift), Tip(), x + shift[0], x + shift[1], z + shift[2]))
    assert_allclose(moved, before, atol=1e-7)
    c, s = np.cos(quarter * np.pi / 2), np.sin(quarter * np.pi / 2)
    symmetric = np.linspace(-2, 2, 5) + 0.0
    turned = molecule.turned(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]))
    image, _ = forces(Scene(molecule, Tip(), symmetric, symmetric, z))
    image_turned, _ = forces(Scene(turned, Tip(), symmetric, symmetric, z))
    assert_allclose(image_turned, np.rot90(image, quarter), atol=1e-7)
