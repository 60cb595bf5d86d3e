"""Least squares through the simulator: a molecule and a tip are moved until their Δf is the measured one.

All parameters are counted in standard deviations of their Gaussian priors (`WIDTHS`), so that a prior is the identity
beside the normal matrix. What is not told apart by any scan is held: the sample's charges, since the tip's scale
against them; all radii but for one common factor, since each trades against its atom's height; the radial stiffness
and the length of the tip.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.scan import Scan
from afmid.simulate import TIPS, Batch, Scene, SimulationOptions, Tip, TorchSimulator, oscillation_weights
from afmid.simulate.elements import lennard_jones
from afmid.simulate.scan_simulation import APPROACH
from afmid.units import N_per_m

DISPLACEMENT = 0.15  # Å, along each axis
WIDTHS = {  # of the priors
    "shift_x": 0.3, "shift_y": 0.3, "shift_z": 0.5,  # Å, of all atoms
    "log_lateral_stiffness": 0.5, "charge": 0.1, "quadrupole": 0.1,  # 1, e, e·Å²
    "log_radius": 0.02,  # of the factor of all Lennard-Jones distances
    "tilt_x": 0.1, "tilt_y": 0.1,  # Å
    "log_gain": 0.1,  # of the factor of Δf, which the cantilever's stiffness and the amplitude make uncertain
    "offset": 1.0, "slope": 1.0,  # Δf's standard deviation over the scan, and that per Å
}  # fmt: skip
OF_TIP = ("log_lateral_stiffness", "charge", "quadrupole", "log_radius", "tilt_x", "tilt_y")
OF_IMAGES = ("log_gain", "offset", "slope")  # what becomes of Δf beyond the simulator
FAR_FIRST = (0.55, 0.8, 1.0)  # of the images, from the far one on
HUBER = 2.0  # noises: residuals beyond count linearly
STEP = 0.15  # Å: the longest step of an atom
FORCE_STEP = 0.1  # Å: heights of the force are no further apart
ALIGNED = 0.02  # Å: how far an image may be from a height of the force
MARGIN = 2.5  # Å: what a scan shows further from all atoms is left out
MOST_ATOMS = 300
MOST_VALUES = 2**24  # of the derivatives, which fill the memory: many images of many atoms take fewer pixels
FEWEST = 8  # pixels along an axis
FLAT, SPIKES = 1e-3, 0.1  # of Δf's range without so many percent at its ends: less noise is not believed
ENOUGH = 5.0  # of χ²: a smaller gain ends a fit


@dataclass(frozen=True, eq=False)
class Measured:
    """A scan as the fit sees it: the pixels about a molecule, and which heights of the force its images are made of.

    Attributes:
        df: Hz, (X, Y, Z).
        x, y: Å, of the pixels, (X,), (Y,).
        z: Å, of the force, (H,), descending to the last image.
        images: which of the H − K + 1 images that the force makes the scan's are (Z,).
        weights: of the force, (K,), Hz/(eV/Å).
        scale: Δf's standard deviation, Hz.
        noise: standard deviation of one value, Hz.
    """

    df: Tensor
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    images: NDArray[np.int64]
    weights: NDArray[np.float64]
    scale: float
    noise: float

    @classmethod
    def of(cls, scan: Scan, molecule: Molecule, pixels: int, noise: float | None) -> "Measured":
        """Return what a scan shows of a molecule, on no more than so many pixels.

        Raises:
            DataError: no Δf, or a molecule beside the scan.
        """
        if scan.channel != "df":
            raise DataError(f"the scan holds {scan.channel}, and refinement needs Δf in Hz")
        if not float(np.ptp(scan.df)) > 0:
            raise DataError("the scan is the same everywhere; there is nothing to refine against")
        usual = SimulationOptions()
        step, places = _ladder(scan.z)
        amplitude = usual.amplitude if scan.amplitude is None else scan.amplitude
        stiffness = scan.cantilever_stiffness or usual.cantilever_stiffness * N_per_m
        weights = oscillation_weights(step, amplitude, scan.f0 or usual.f0, stiffness)
        heights = max(places[0] + len(weights), ceil(APPROACH / step) + 1)
        values = len(scan.z) * (4 * len(molecule) + len(WIDTHS))  # of a pixel, those of presences too
        x, y = _about(scan, molecule, min(pixels, max(MOST_VALUES // values, FEWEST**2)))
        df = scan.df[x, y]
        low, high = np.percentile(scan.df, (SPIKES, 100 - SPIKES))
        return cls(
            df=torch.tensor(df),
            x=scan.x[x],
            y=scan.y[y],
            z=scan.z[-1] + step * np.arange(heights)[::-1],
            images=heights - len(weights) - places,
            weights=weights,
            scale=float(df.std()),
            noise=max(noise if noise is not None else noise_of(scan.df), FLAT * float(high - low), 1e-12),
        )

    def thinned(self, stride: int) -> "Measured":
        """Return every so many pixels."""
        return replace(self, df=self.df[::stride, ::stride], x=self.x[::stride], y=self.y[::stride])


def _ladder(z: NDArray[np.float64]) -> tuple[float, NDArray[np.int64]]:
    """Return the step (Å) of heights of which all images are some, and how many steps above the last image each is."""
    gaps = z - z[-1]
    nearest = float(-np.diff(z).max()) if len(z) > 1 else FORCE_STEP
    division = ceil(nearest / FORCE_STEP - 1e-6)
    while True:  # until the step is so small that any height is near a multiple of it
        step = nearest / division
        places = np.rint(gaps / step)
        if np.abs(places * step - gaps).max() < ALIGNED:
            return step, places.astype(np.int64)
        division += 1


def _about(scan: Scan, molecule: Molecule, pixels: int) -> tuple[slice, slice]:
    """Return which pixels along x and y show a molecule, no more than so many: the denser axis is thinned first."""
    ends = []
    for axis, place in zip((scan.x, scan.y), molecule.positions.T, strict=False):
        inside = np.flatnonzero((axis > place.min() - MARGIN) & (axis < place.max() + MARGIN))
        if not len(inside):
            raise DataError("the molecule lies beside the scan; give both in one frame")
        if len(inside) < FEWEST:
            raise DataError(f"the scan shows the molecule on {len(inside)} pixels across; refinement takes {FEWEST}")
        ends.append((int(inside[0]), int(inside[-1]) + 1))
    strides = [1, 1]
    while np.prod([len(range(*end, stride)) for end, stride in zip(ends, strides, strict=True)]) > pixels:
        spacing = np.multiply(strides, scan.pixel)
        strides[int(spacing.argmin())] += 1
    x, y = (slice(*end, stride) for end, stride in zip(ends, strides, strict=True))
    return x, y


def noise_of(df: NDArray[np.float32]) -> float:
    """Return the standard deviation (Hz) of noise in Δf (X, Y, Z), from what second differences along x and y leave.

    After Immerkær, Comput. Vis. Image Underst. 64, 300 (1996), with the median. 0 where there are too few pixels.
    """
    differences = np.diff(np.diff(df, 2, axis=0), 2, axis=1)
    return float(np.median(np.abs(differences)) / 0.6745 / 6) if differences.size else 0.0


def tip_of(scan: Scan) -> Tip:
    """Return the tip that a simulated scan says it was made with, else the usual one of its name.

    Raises:
        DataError: no such tip.
    """
    record = scan.meta.get("tip")
    if isinstance(record, dict):
        with suppress(KeyError, TypeError, ValueError, OverflowError, DataError):  # it is only what some file says
            values = {name: float(record[name]) for name in ("charge", "quadrupole", "length")}
            values |= {name: record[f"{name}_n_per_m"] * N_per_m for name in ("lateral_stiffness", "radial_stiffness")}
            x, y = record["offset"]
            tip = Tip(probe=str(record["probe"]), offset=(float(x), float(y)), **values)
            lennard_jones([tip.number])
            if np.isfinite([*values.values(), *tip.offset]).all():
                return tip
    if scan.tip not in TIPS:
        raise DataError(f"no tip {scan.tip!r}; there are: {', '.join(TIPS)}")
    return TIPS[scan.tip]


class Model:
    """Δf of a molecule and a tip, as a function of parameters in standard deviations of their priors.

    Args:
        measured: the scan.
        molecule: with charges, in the scan's frame, as the priors expect it.
        tip: as the priors expect it.
        fit_tip: whether the tip's parameters are free.

    Raises:
        DataError: too many atoms, or an element without Lennard-Jones parameters.
    """

    def __init__(self, measured: Measured, molecule: Molecule, tip: Tip, fit_tip: bool = True):
        if len(molecule) > MOST_ATOMS:
            raise DataError(f"refinement takes up to {MOST_ATOMS} atoms; the molecule has {len(molecule)}")
        self.measured, self.molecule, self.tip, self.fit_tip = measured, molecule, tip, fit_tip
        free = [name for name in WIDTHS if fit_tip or name not in OF_TIP]
        self.names = [name for name in free if name not in OF_IMAGES] + [*OF_IMAGES]
        self.atoms = 3 * len(molecule)
        units = [WIDTHS[name] * (measured.scale if name in OF_IMAGES[1:] else 1) for name in self.names]
        self.widths = torch.tensor([DISPLACEMENT] * self.atoms + units)
        x, y = (axis - offset for axis, offset in zip((measured.x, measured.y), tip.offset, strict=True))
        self.batch = Batch.of([Scene(molecule, tip, x, y, measured.z)])
        self.engine = TorchSimulator()
        spread = torch.from_numpy(measured.z[measured.images + len(measured.weights) - 1]).float()
        self.linear = torch.stack([torch.ones_like(spread), spread - spread.mean()], dim=1)  # (Z, 2)

    def thinned(self, molecule: Molecule | None = None) -> "Model":
        """Return the model on every other pixel along each side, of another molecule where one is given."""
        return Model(self.measured.thinned(2), molecule or self.molecule, self.tip, self.fit_tip)

    def start(self) -> Tensor:
        """Return the parameters that the priors expect (Q,)."""
        return torch.zeros_like(self.widths)

    def value(self, theta: Tensor, name: str) -> Tensor:
        """Return a parameter in its own unit, as the difference from what its prior expects; 0 where it is held."""
        return (theta * self.widths)[self.atoms + self.names.index(name)] if name in self.names else theta.new_zeros(())

    def displacements(self, theta: Tensor) -> Tensor:
        """Return how far the atoms move (N, 3), Å, in the scan's frame, that of the resting probe."""
        own = (theta * self.widths)[: self.atoms].reshape(-1, 3)
        return own + torch.stack([self.value(theta, f"shift_{axis}") for axis in "xyz"])

    def moved(self, theta: Tensor) -> Molecule:
        """Return the molecule where it is for parameters (Q,), in the scan's frame."""
        return replace(self.molecule, positions=self.molecule.positions + self.displacements(theta).numpy())

    def scenes(self, theta: Tensor, presence: Tensor | None = None, heights: int | None = None) -> Batch:
        """Return what is simulated, the first so many heights of it.

        Args:
            theta: parameters (Q,).
            presence: factor (N,) of each atom's force.
            heights: how many; all of them by default.
        """
        batch, size = self.batch, self.value(theta, "log_radius").exp()
        tilt = torch.stack([self.value(theta, "tilt_x"), self.value(theta, "tilt_y")])
        shift = torch.cat([tilt, tilt.new_zeros(1)])  # it is the base's grid that is held
        here = batch.positions.new_ones(()) if presence is None else presence
        return replace(
            batch,
            positions=batch.positions + self.displacements(theta) + shift,
            radii=batch.radii * size,
            probe_radius=batch.probe_radius * size,
            depths=batch.depths * here**2,
            charges=batch.charges * here,
            charge=batch.charge + self.value(theta, "charge"),
            quadrupole=batch.quadrupole + self.value(theta, "quadrupole"),
            lateral_stiffness=batch.lateral_stiffness * self.value(theta, "log_lateral_stiffness").exp(),
            offset=batch.offset + tilt,
            z=batch.z[:, :heights],
        )

    def compare(self, theta: Tensor, images: int, presence: bool = False) -> tuple[Tensor, Tensor]:
        """Return what is left of the first `images` (X, Y, Z), Hz, and the model's derivatives (X, Y, Z, Q).

        With `presence` N columns more: derivatives with respect to each atom's presence.
        """
        measured, inner = self.measured, len(theta) - len(OF_IMAGES)
        wanted = measured.images[:images]
        heights = int(wanted[-1]) + len(measured.weights)

        def scenes(given: Tensor) -> Batch:
            whole = torch.cat([given[:inner], theta[inner:]])
            return self.scenes(whole, given[inner:] if presence else None, heights)

        at = torch.cat([theta[:inner], theta.new_ones(self.atoms // 3 if presence else 0)])
        values, jacobian = self.engine.jacobian(scenes, at, measured.weights)
        gain = self.value(theta, "log_gain").exp()
        values, jacobian = gain * values[0][..., wanted], jacobian[0][..., wanted, :].mul_(gain)  # large: in place
        linear = self.linear[:images].expand(*values.shape, -1)
        of_images = torch.cat([values[..., None], linear], dim=-1) * self.widths[inner:]
        values = values + of_images[..., 1:] @ theta[inner + 1 :]
        columns = [jacobian[..., :inner], of_images, jacobian[..., inner:]]
        return measured.df[..., :images] - values, torch.cat(columns, dim=-1)


class Fit(NamedTuple):
    """Where a fit ended.

    Attributes:
        theta: parameters (Q,).
        noise: of the residual, Hz.
        residual: (X, Y, Z), Hz.
        jacobian: (X, Y, Z, Q), Hz.
        iterations: how many.
        converged: whether nothing more was to be gained.
    """

    theta: Tensor
    noise: float
    residual: Tensor
    jacobian: Tensor
    iterations: int
    converged: bool

    def cost(self, noise: float) -> float:
        """Return Huber's loss of the residual and the priors' share, Hz², for this noise (Hz)."""
        return _cost(self.residual, self.theta, noise)


def fits(model: Model, theta: Tensor, images: int, iterations: int) -> Iterator[Fit]:
    """Fit by Levenberg–Marquardt with Huber's loss to the first `images`, and yield after each iteration."""
    residual, jacobian = model.compare(theta, images)
    noise = _noise(residual, model.measured.noise)
    damping, longest = 1e-2, _limits(model)
    for iteration in range(1, iterations + 1):
        cost = _cost(residual, theta, noise)
        weight = weights_of(residual, noise)
        normal, gradient = normal_equations(residual, jacobian, weight, noise**2)
        gradient = gradient - theta.double()
        inner = normal + torch.eye(len(theta), dtype=torch.float64) + damping * torch.diag(normal.diagonal())
        step = longest(torch.linalg.solve(inner, gradient).float())
        trial, slopes = model.compare(theta + step, images)
        after = _cost(trial, theta + step, noise)
        better = after < cost
        if better:
            theta, residual, jacobian = theta + step, trial, slopes
            noise = _noise(residual, model.measured.noise)
        damping = max(damping / 3, 1e-4) if better else 4 * damping
        done = cost - after < ENOUGH * noise**2 if better else damping > 1e4
        yield Fit(theta, noise, residual, jacobian, iteration, done)
        if done:
            return


def far_images(measured: Measured) -> list[int]:
    """Return how many images, from the far one on, are fitted first, next and last."""
    return [max(1, round(share * len(measured.images))) for share in FAR_FIRST]


def far_first(model: Model, theta: Tensor, iterations: int) -> Iterator[Fit]:
    """Fit to the far images, then to more, then to all, and yield after each iteration: near images trap a fit."""
    for images in far_images(model.measured):
        for fit in fits(model, theta, images, iterations):
            theta = fit.theta
            yield fit


def _limits(model: Model) -> Callable[[Tensor], Tensor]:
    def limited(step: Tensor) -> Tensor:
        """Return the step with no atom moved by more than STEP, and no other parameter by more than its prior."""
        own = step[: model.atoms].reshape(-1, 3)
        reach = (own.norm(dim=1, keepdim=True) * DISPLACEMENT / STEP).clamp(min=1)
        return torch.cat([(own / reach).flatten(), step[model.atoms :].clamp(-1, 1)])

    return limited


def normal_equations(residual: Tensor, jacobian: Tensor, weight: Tensor, variance: float) -> tuple[Tensor, Tensor]:
    """Return the normal matrix (Q, Q) and its right side (Q,), double precision, without the priors."""
    columns = jacobian.reshape(-1, jacobian.shape[-1])
    weighted = columns * weight.reshape(-1, 1)
    return (columns.T @ weighted).double() / variance, (weighted.T @ residual.reshape(-1)).double() / variance


def explained(measured: Measured, fit: Fit) -> float:
    """Return how much of Δf's variance within each image, that of the noise taken off, a fit explains; 1 for all."""
    df = measured.df[..., : fit.residual.shape[2]]
    contrast, left = (float((part - part.mean((0, 1))).square().mean()) for part in (df, fit.residual))
    return 1 - (left - measured.noise**2) / max(contrast - measured.noise**2, 1e-30)


def weights_of(residual: Tensor, noise: float) -> Tensor:
    return (HUBER * noise / residual.abs().clamp(min=1e-12)).clamp(max=1)


def _noise(residual: Tensor, least: float) -> float:
    return max(least, float(residual.abs().median()) / 0.6745)


def _cost(residual: Tensor, theta: Tensor, noise: float) -> float:
    size, knee = residual.abs().double(), HUBER * noise
    loss = torch.where(size < knee, size**2, knee * (2 * size - knee)).sum()
    return float(loss + noise**2 * theta.double().square().sum())


def scatter(fit: Fit, atoms: int) -> float:
    """Return the variance (Hz²) that counts beside the normal matrix: of the residual where and how the atoms act.

    That of independent noise is its variance. Errors of the model are larger at the atoms than elsewhere, and smooth,
    so that neighbouring points say the same: the residual's power spectrum is averaged over the wavelengths that moving
    atoms change.
    """
    clipped = fit.residual * weights_of(fit.residual, fit.noise)
    columns = fit.jacobian[..., :atoms]
    columns = columns / columns.flatten(0, 2).norm(dim=0).clamp(min=1e-12)
    acts = columns.square().sum(-1)
    spectrum = torch.fft.fftn(clipped, dim=(0, 1, 2)).abs().square()
    moved = sum(torch.fft.fftn(column).abs().square() for column in columns.unbind(-1))
    colour = (spectrum * moved).sum() * spectrum.numel() / (spectrum.sum() * moved.sum())
    return max(fit.noise**2, float((clipped.square() * acts).sum() / acts.sum() * colour.clamp(min=1)))
