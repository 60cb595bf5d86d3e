"""How sure a refinement is: of places, of the tip, and of each atom being there at all."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afmid.evaluate.refine.fit import OF_TIP, Fit, Model, normal_equations, weights_of
from afmid.units import N_per_m


def deviations(model: Model, fit: Fit, variance: float) -> tuple[NDArray[np.float64], dict[str, tuple[float, float]]]:
    """Return standard deviations of the positions (N, 3), Å, and the tip's parameters with theirs, by name.

    They are those of the posterior: the normal matrix over `variance` (Hz²), and the priors.
    """
    weight = weights_of(fit.residual, fit.noise)
    normal, _ = normal_equations(fit.residual, fit.jacobian, weight, variance)
    covariance = torch.linalg.inv(normal + torch.eye(len(normal), dtype=torch.float64))
    to_places = torch.func.jacrev(lambda theta: model.displacements(theta).flatten())(fit.theta).double()
    places = torch.einsum("pq,qr,pr->p", to_places, covariance, to_places).clamp(min=0).sqrt()
    spread = covariance.diagonal().clamp(min=0).sqrt() * model.widths

    def found(name: str) -> tuple[float, float]:
        at = model.atoms + model.names.index(name)
        return float(model.value(fit.theta, name)), float(spread[at])

    tip = {}
    if OF_TIP[0] in model.names:
        (log_k, of_k), (log_size, of_size) = found("log_lateral_stiffness"), found("log_radius")
        stiffness, size = model.tip.lateral_stiffness / N_per_m * np.exp(log_k), np.exp(log_size)
        tip = {
            "lateral_stiffness_n_per_m": (float(stiffness), float(stiffness * of_k)),
            "charge_e": _added(model.tip.charge, found("charge")),
            "quadrupole_e_angstrom2": _added(model.tip.quadrupole, found("quadrupole")),
            "tilt_x_angstrom": _added(model.tip.offset[0], found("tilt_x")),
            "tilt_y_angstrom": _added(model.tip.offset[1], found("tilt_y")),
            "radius_factor": (float(size), float(size * of_size)),
        }
    log_gain, of_gain = found("log_gain")
    tip |= {"df_factor": (float(np.exp(log_gain)), float(np.exp(log_gain) * of_gain))}
    tip |= {"df_offset_hz": found("offset"), "df_slope_hz_per_angstrom": found("slope")}
    return places.reshape(-1, 3).numpy(), tip


def _added(start: float, found: tuple[float, float]) -> tuple[float, float]:
    return start + found[0], found[1]


def presences(model: Model, fit: Fit, variance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much of each atom's force the scan asks for (N,), and the standard deviations (N,).

    To first order, and one atom at a time, all other parameters following.
    """
    images, count = fit.residual.shape[2], model.atoms // 3
    _, jacobian = model.compare(fit.theta, images, presence=True)
    weight = weights_of(fit.residual, fit.noise)
    normal, gradient = normal_equations(fit.residual, jacobian, weight, variance)
    inner = normal[:-count, :-count] + torch.eye(len(fit.theta), dtype=torch.float64)
    across: Tensor = normal[:-count, -count:]
    follow = torch.linalg.solve(inner, across)  # (Q, N)
    curvature = normal.diagonal()[-count:] - (across * follow).sum(0)
    sigma = curvature.clamp(min=1e-12).rsqrt()
    pull = gradient[-count:] - follow.T @ (gradient[:-count] - fit.theta.double())
    return (1 + sigma**2 * pull).numpy(), sigma.numpy()
