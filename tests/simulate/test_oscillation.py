"""Δf from force: Giessibl's average over one oscillation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats
from numpy.testing import assert_allclose
from scipy.integrate import quad

from afmid.errors import DataError
from afmid.simulate import frequency_shift, oscillation_weights
from afmid.units import N_per_m

DZ = 0.1
HEIGHTS = np.arange(12.0, 3.0, -DZ)
QPLUS = {"f0": 30_300.0, "cantilever_stiffness": 1800 * N_per_m}


def giessibl(force, z, amplitude, f0, cantilever_stiffness):
    """The textbook integral over the phase of the oscillation, by adaptive quadrature."""
    mean = quad(lambda phi: force(z + amplitude * (1 + np.cos(phi))) * np.cos(phi), 0, np.pi, epsabs=1e-12)[0] / np.pi
    return -f0 / (cantilever_stiffness * amplitude) * mean


@given(k_ts=floats(-1, 1), amplitude=floats(0.0, 4.0))
def test_a_constant_force_gradient_gives_the_same_shift_at_every_amplitude(k_ts, amplitude):
    df = frequency_shift(-k_ts * HEIGHTS, DZ, amplitude, f0=30e3, cantilever_stiffness=112.0)
    assert_allclose(df, 30e3 * k_ts / (2 * 112.0), rtol=1e-9, atol=1e-6)  # Giessibl, PRB 56, 16010 (1997)


@given(amplitude=floats(1e-3, 4.0), constant=floats(-10, 10))
def test_a_constant_force_shifts_nothing(amplitude, constant):
    df = frequency_shift(np.full(100, constant), DZ, amplitude, **QPLUS)
    assert_allclose(df, 0, atol=1e-9 * QPLUS["f0"])


@given(factor=floats(-5, 5), amplitude=floats(0, 2))
def test_twice_the_force_gives_twice_the_shift(factor, amplitude):
    fz = np.sin(HEIGHTS)
    assert_allclose(
        frequency_shift(factor * fz, DZ, amplitude, **QPLUS), factor * frequency_shift(fz, DZ, amplitude, **QPLUS),
        rtol=1e-9, atol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("amplitude", [0.05, 0.13, 0.5, 0.77, 2.0])
def test_the_weights_integrate_a_piecewise_linear_force_exactly(amplitude):
    rng = np.random.default_rng(1)
    z = 3 + DZ * np.arange(60)
    values = rng.normal(size=60)
    df = frequency_shift(values[::-1], DZ, amplitude, **QPLUS)[-1]
    phases = np.linspace(0, np.pi, 2_000_001)
    mean = np.trapezoid(np.interp(3 + amplitude * (1 + np.cos(phases)), z, values) * np.cos(phases), phases) / np.pi
    assert_allclose(df, -QPLUS["f0"] / (QPLUS["cantilever_stiffness"] * amplitude) * mean, rtol=1e-5)


def test_a_lennard_jones_force_gives_giessibls_integral():
    def force(z):
        return 12 * 0.005 / z * ((3.5 / z) ** 12 - (3.5 / z) ** 6)

    dz = 0.005
    z = np.arange(8, 3.0 - dz / 2, -dz)
    df = frequency_shift(force(z), dz, 0.5, **QPLUS)[-1]
    assert_allclose(df, giessibl(force, z[-1], 0.5, **QPLUS), rtol=1e-4)


def test_the_large_amplitude_limit_of_an_inverse_square_force_is_giessibls():
    """F = −C/z² gives Δf → −f₀ C/(k A^{3/2} (2 z)^{3/2}): Giessibl, PRB 56, 16010 (1997)."""
    amplitude, closest, strength, dz = 300.0, 3.0, 10.0, 0.005
    z = np.arange(2 * amplitude + closest + 1, closest - dz / 2, -dz)
    df = frequency_shift(-strength / z**2, dz, amplitude, **QPLUS)[-1]
    limit = -QPLUS["f0"] * strength / (QPLUS["cantilever_stiffness"] * amplitude**1.5 * (2 * z[-1]) ** 1.5)
    assert_allclose(df, limit, rtol=0.02)


def test_half_an_angstrom_at_tenths_averages_eleven_heights():
    assert len(oscillation_weights(0.1, 0.5, **QPLUS)) == 11
    assert frequency_shift(np.zeros((3, 2, 20)), 0.1, 0.5, **QPLUS).shape == (3, 2, 10)


def test_torch_and_numpy_agree_and_torch_has_gradients():
    fz = np.random.default_rng(0).normal(size=(4, 3, 20))
    tensor = torch.tensor(fz, requires_grad=True)
    df = frequency_shift(tensor, 0.1, 0.5, **QPLUS)
    df.sum().backward()
    assert_allclose(df.detach().numpy(), frequency_shift(fz, 0.1, 0.5, **QPLUS), rtol=1e-12)
    assert torch.isfinite(tensor.grad).all()


def test_too_few_heights_and_impossible_settings_are_refused_in_words():
    with pytest.raises(DataError, match="spans 11 heights; there are 5"):
        frequency_shift(np.zeros(5), 0.1, 0.5, **QPLUS)
    with pytest.raises(DataError, match="above 0"):
        oscillation_weights(0.0, 0.5, **QPLUS)
