"""SOAP: the power spectrum of the smooth density of atoms around a place, by class of atom, in torch.

Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115 (2013). A Gaussian of width σ at each atom within the cutoff makes a
density for each class of atoms; its overlap with radial functions g_nl(r) and real spherical harmonics, c_nlm, gives

    p_nn'l^(ZZ') = π √(8 / (2l + 1)) Σ_m c_nlm^Z c_n'lm^Z'

which no rotation changes. Normalisation, radial functions and layout are those of `dscribe.descriptors.SOAP`, version
2.1, with rbf="gto": primitives r^l exp(−α_nl r²) that fall to 0.001 at distances spread evenly from 1 Å to the cutoff,
made orthonormal by Löwdin's S^(−1/2); of a primitive the overlap with a Gaussian at r_j is in closed form

    (π / (α + η))^(3/2) (η r_j / (α + η))^l exp(−r_j² α η / (α + η)) Y_lm(r_j / r_j),   η = 1 / (2σ²).

Departures: what an atom is may be uncertain, and its density is then shared by the classes; pairs of one class are laid
out in full (n_max² entries for each l), where dscribe leaves out the half that follows by symmetry.
"""

from dataclasses import dataclass
from functools import cached_property
from math import pi, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gamma
from torch import Tensor

FALLEN = 1e-3  # to what primitives fall at their distance, and the density at the cutoff's padding
HARMONICS = 3  # highest degree that `solid_harmonics` knows


@dataclass(frozen=True)
class Soap:
    """Settings of the descriptor.

    Attributes:
        classes: of atoms.
        n_max: radial functions.
        l_max: highest degree of the spherical harmonics, 0 to 3.
        cutoff: up to which radial functions reach, Å; atoms count a little beyond, as far as their Gaussians do.
        sigma: width of the atoms' Gaussians, Å.
    """

    classes: int = 5
    n_max: int = 3
    l_max: int = 2
    cutoff: float = 4.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.l_max <= HARMONICS and 1 <= self.n_max <= 8 and 1 <= self.classes <= 16):
            raise ValueError(f"SOAP has l_max 0 to {HARMONICS}, n_max 1 to 8, classes 1 to 16, not {self}")
        if not (self.cutoff > 1 and self.sigma > 0):
            raise ValueError(f"SOAP needs a cutoff above 1 Å and a width above 0, not {self}")

    @property
    def pairs(self) -> int:
        """How many pairs of classes there are, each class with itself and with later ones."""
        return self.classes * (self.classes + 1) // 2

    @property
    def entries(self) -> int:
        """Of each pair of classes."""
        return self.n_max**2 * (self.l_max + 1)

    @property
    def reach(self) -> float:
        """Distance from which on atoms do not count, Å."""
        return self.cutoff + self.sigma * sqrt(-2 * np.log(FALLEN))

    @cached_property
    def _radial(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """For each l what squared distances are multiplied by in the exponent (n,), and the weights of primitives."""
        eta, parts = 1 / (2 * self.sigma**2), []
        ends = np.linspace(1, self.cutoff, self.n_max)
        for degree in range(self.l_max + 1):
            alpha = -np.log(FALLEN / ends**degree) / ends**2
            overlap = gamma(degree + 1.5) / 2 * (alpha[:, None] + alpha) ** (-degree - 1.5)
            values, vectors = np.linalg.eigh(overlap)
            orthonormal = vectors / np.sqrt(values) @ vectors.T
            closed = pi**1.5 * eta**degree * (alpha + eta) ** (-degree - 1.5)
            scale = sqrt(pi * sqrt(8 / (2 * degree + 1)))  # of the power spectrum, shared by both of its factors
            parts.append((alpha * eta / (alpha + eta), scale * orthonormal * closed))
        return parts

    def __call__(self, positions: Tensor, classes: Tensor, centres: Tensor) -> Tensor:
        """Return the power spectra (B, M, pairs, entries) of the surroundings of M centres.

        Args:
            positions: of atoms (B, N, 3), Å.
            classes: how much of each class an atom is (B, N, classes); nothing of any where there is no atom.
            centres: (B, M, 3), Å; an atom that is there counts too.
        """
        with torch.autocast(positions.device.type, enabled=False):
            c = self.coefficients(positions, classes, centres)
            first, second = torch.triu_indices(self.classes, self.classes, device=positions.device)
            spectra = [torch.einsum("bmzin,bmzik->bmznk", h[:, :, first], h[:, :, second]).flatten(3) for h in c]
            return torch.cat(spectra, 3)

    def coefficients(self, positions: Tensor, classes: Tensor, centres: Tensor) -> list[Tensor]:
        """Return for each l the densities' overlaps c_nlm (B, M, classes, 2l + 1, n), scaled so that p is Σ_m c c."""
        apart = positions[:, None] - centres[:, :, None]  # (B, M, N, 3)
        squared = apart.square().sum(3)
        weights = classes[:, None] * (squared < self.reach**2)[..., None]
        c = []
        for (exponent, primitives), harmonics in zip(self._radial, solid_harmonics(apart, self.l_max), strict=True):
            radial = torch.exp(-squared[..., None] * squared.new_tensor(exponent)) @ squared.new_tensor(primitives).T
            c.append(torch.einsum("bmaz,bmai,bman->bmzin", weights, harmonics, radial))
        return c


def solid_harmonics(r: Tensor, l_max: int) -> list[Tensor]:
    """Return r^l Y_lm of vectors (…, 3), real and orthonormal, for each l up to 3: (…, 2l + 1)."""
    x, y, z = r.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    one = torch.ones_like(x)
    degrees = (
        (sqrt(1 / (4 * pi)), [one]),
        (sqrt(3 / (4 * pi)), [x, y, z]),
        (
            sqrt(15 / (4 * pi)),
            [x * y, y * z, x * z, (xx - yy) / 2, (2 * zz - xx - yy) / sqrt(12)],
        ),
        (
            sqrt(7 / (16 * pi)),
            [
                z * (2 * zz - 3 * xx - 3 * yy),
                sqrt(1.5) * x * (4 * zz - xx - yy),
                sqrt(1.5) * y * (4 * zz - xx - yy),
                sqrt(15) * z * (xx - yy),
                sqrt(60) * x * y * z,
                sqrt(2.5) * x * (xx - 3 * yy),
                sqrt(2.5) * y * (3 * xx - yy),
            ],
        ),
    )
    return [norm * torch.stack(terms, -1) for norm, terms in degrees[: l_max + 1]]


def flattened(spectra: Tensor) -> Tensor:
    """Return spectra (…, pairs, entries) as a network takes them, one row each, large entries drawn together."""
    return (spectra.sign() * spectra.abs().log1p()).flatten(-2)
