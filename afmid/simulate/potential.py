"""Potential: a Hartree potential on a lattice, in place of the molecule's point charges; and the spline through it.

The probe's energy is W = Q₀ V + Q ∂²V/∂z², its charges blurred to Gaussians, as ppafm does. A blur changes nothing in
vacuum, where V equals its own mean over any sphere; on the lattice it keeps nuclei from ringing through the box and the
rounding of files out of the second derivative. W is interpolated by cubic B-splines, whose own derivatives are the
probe's force and Hessian.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afmid.checks import finite
from afmid.errors import DataError
from afmid.simulate.tip import Tip

FEWEST = 8  # points along a side
MOST = 50_000_000  # points
STEPS = (0.01, 0.5)  # Å: finer or coarser lattices are no potential's, or not in Å
STRONGEST = 1e9  # V
WIDTH = 0.4  # Å: standard deviation of the blur

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Potential:
    """The electrostatic potential of a sample on a lattice that repeats periodically.

    Attributes:
        values: V, the energy (eV) of a charge of +1 e, (A, B, C).
        origin: where values[0, 0, 0] stands (3,), Å.
        cell: rows are the vectors that the whole lattice spans (3, 3), Å; values[i, j, k] stands at
            origin + i/A cell[0] + j/B cell[1] + k/C cell[2].

    Raises:
        DataError: values that are not finite, too few or too many of them, or a cell that does not fit them.
    """

    values: Array
    origin: Array
    cell: Array

    def __post_init__(self) -> None:
        for name in ("values", "origin", "cell"):
            object.__setattr__(self, name, finite(getattr(self, name), name))
        if self.values.ndim != 3 or min(self.values.shape) < FEWEST:
            raise DataError(f"a potential needs at least {FEWEST} points a side, has shape {self.values.shape}")
        if self.values.size > MOST:
            raise DataError(f"{self.values.size} points; afmid takes up to {MOST}: thin the potential out first")
        if self.origin.shape != (3,) or self.cell.shape != (3, 3):
            raise DataError(f"origin and cell need shapes (3,) and (3, 3), have {self.origin.shape}, {self.cell.shape}")
        sides = np.linalg.norm(self.cell, axis=1)
        steps = sides / self.values.shape
        if steps.min() < STEPS[0] or steps.max() > STEPS[1]:
            apart = " × ".join(f"{step:.3g}" for step in steps)
            raise DataError(f"the points lie {apart} Å apart; a potential needs steps of {STEPS[0]} to {STEPS[1]} Å")
        if abs(np.linalg.det(self.cell)) < 1e-3 * sides.prod():
            raise DataError(f"the cell {self.cell.round(3).tolist()} Å spans no volume")
        if np.abs(self.values).max() > STRONGEST:
            raise DataError(f"the potential reaches {np.abs(self.values).max():.3g} V; check its unit")

    def margin(self, points: Array) -> float:
        """Return how far (Å) the points (P, 3) keep from the faces of the cell; negative where one lies outside."""
        inverse = np.linalg.inv(self.cell)
        share = (points - self.origin) @ inverse
        return float((np.minimum(share, 1 - share) / np.linalg.norm(inverse, axis=0)).min())

    def moved(self, shift: Array | tuple[float, float, float]) -> "Potential":
        """Return the potential shifted by `shift` (3,), Å; it shares its splines' coefficients with this one."""
        moved = object.__new__(Potential)  # nothing else has changed that could be wrong
        moved.__dict__.update(self.__dict__, origin=self.origin + np.asarray(shift), _coefficients=self._coefficients)
        return moved

    def spline(self, tip: Tip) -> "Spline":
        """Return the energy of the tip's charges, W = Q₀ V + Q ∂²V/∂z² of the blurred potential.

        Beyond 2.5 Å from a point charge the blur changes its force by less than 5e-6. Where the lattice is a finite
        box, the jump at its faces is felt within 2 Å of them.
        """
        return Spline(self._coefficients(tip.charge, tip.quadrupole), self.origin, self.cell)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_coefficients"}

    @cached_property
    def _coefficients(self) -> Callable[[float, float], Array]:
        """Makes the coefficients of a spline from the tip's charge and quadrupole; remembers the last two."""
        return lru_cache(maxsize=2)(partial(_coefficients, self.values, self.cell))


@dataclass(frozen=True, eq=False)
class Spline:
    """A periodic energy as a sum of cubic B-splines.

    Attributes:
        coefficients: eV, (A + 3, B + 3, C + 3): coefficients[i + 1, j + 1, k + 1] belongs to the lattice point i, j, k,
            and the three planes more repeat the others, so that each cube of 4 × 4 × 4 lies in one piece.
        origin, cell: of the lattice (3,) and (3, 3), Å, as in `Potential`.
    """

    coefficients: Array
    origin: Array
    cell: Array

    @property
    def counts(self) -> NDArray[np.int64]:
        """Points of the lattice (3,): A, B, C."""
        return np.array(self.coefficients.shape) - 3

    @property
    def steps(self) -> Array:
        """Lattice steps per Å (3, 3): (point − origin) @ steps is where a point (3,) stands in the lattice."""
        return np.asarray(np.linalg.inv(self.cell) * self.counts)

    def law(self, points: Array) -> tuple[Array, Array, Array]:
        """Return energy (P,), force (P, 3) and the energy's Hessian (P, 3, 3) at points (P, 3): eV, Å."""
        steps = self.steps
        at = (points - self.origin) @ steps
        base = np.floor(at)
        i, j, k = ((base.astype(np.int64) % self.counts)[:, :, None] + np.arange(4)).swapaxes(0, 1)  # (P, 4) each
        cube = self.coefficients[i[:, :, None, None], j[:, None, :, None], k[:, None, None, :]]
        values, slopes, curves = (np.stack(w, -1) for w in weights(at - base))  # (P, 3, 4)

        def derivative(*axes: int) -> Array:
            rows = [(values, slopes, curves)[axes.count(axis)][:, axis] for axis in range(3)]
            return np.asarray(np.einsum("pijk,pi,pj,pk->p", cube, *rows, optimize=True))

        gradient = np.stack([derivative(a) for a in range(3)], -1)
        hessian = np.stack([np.stack([derivative(a, b) for b in range(3)], -1) for a in range(3)], -1)
        return derivative(), -gradient @ steps.T, steps @ hessian @ steps.T


def weights(f: Any) -> tuple[tuple[Any, ...], ...]:
    """Return the values, slopes and curvatures of the four cubic B-splines around a point (arrays or tensors).

    Args:
        f: how far the point is from the lattice point below it to the next, 0 … 1.
    """
    g = 1 - f
    return (
        (g * g * g / 6, (f * f * (f - 2) * 3 + 4) / 6, (g * g * (g - 2) * 3 + 4) / 6, f * f * f / 6),
        (-g * g / 2, f * (3 * f - 4) / 2, -g * (3 * g - 4) / 2, f * f / 2),
        (g, 3 * f - 2, 3 * g - 2, f),
    )


def _coefficients(values: Array, cell: Array, charge: float, quadrupole: float) -> Array:
    """Return the coefficients (A + 3, B + 3, C + 3) of the spline through W: a product in Fourier space."""
    from scipy.fft import irfftn, rfftn

    counts = values.shape
    cycles = [np.fft.fftfreq(counts[0]), np.fft.fftfreq(counts[1])[:, None], np.fft.rfftfreq(counts[2])]  # per step
    waves = 2 * np.pi * np.linalg.inv(cell) * counts  # rad/Å along x, y, z (rows) of one cycle per step
    knots = [(2 + np.cos(2 * np.pi * cycle)) / 3 for cycle in cycles]  # a B-spline's values at the lattice points
    spectrum = rfftn(values)
    for i, plane in enumerate(spectrum):
        x, y, z = (wave[0] * cycles[0][i] + wave[1] * cycles[1] + wave[2] * cycles[2] for wave in waves)
        blur = np.exp(-(WIDTH**2) / 2 * (x**2 + y**2 + z**2))
        plane *= (charge - quadrupole * z**2) * blur / (knots[0][i] * knots[1] * knots[2])
    return np.pad(irfftn(spectrum, s=counts, overwrite_x=True), [(1, 2)] * 3, mode="wrap")
