"""Lay molecules under the tip of a scan: simulate them as the scan was taken, and find where they match it best.

The match is the correlation of the stacks, each image less its mean. A coarse search takes every turn in the plane at
all shifts at once, by the Fourier transform; what it finds is settled in the scan's own frame by Gauss–Newton steps
of the whole molecule: turn, tilt, shift and, where the scan does not tell it, height.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation
from torch import Tensor

from afmid.errors import DataError
from afmid.molecule import Molecules
from afmid.offers import Simulator
from afmid.scan import ABOVE_ATOM, Scan
from afmid.simulate.oscillation import oscillation_weights
from afmid.simulate.scan_simulation import APPROACH, APPROACH_STEP, SimulationOptions
from afmid.simulate.scene import OF_TIPS, Scenes
from afmid.simulate.tip import TIPS, Tip

Array = NDArray[np.float64]

DEPTH = 3.0  # Å: how far below the topmost atom others are felt
REACH = 1.0  # Å: images further than this above the nearest one show little
AT_ONCE = 16  # templates whose transforms fit into a processor's cache together
# Turns about x, y, z (radians), shifts along them (Å); of the tip: tilt along x and y (Å), the logarithm of the lateral
# stiffness, monopole (e) and quadrupole (e·Å²).
STEPS = np.array([0.02, 0.02, 0.02, 0.05, 0.05, 0.05, 0.05, 0.05, 0.1, 0.02, 0.02])  # of the differences
FARTHEST = np.array([0.15, 0.15, 0.2, 0.4, 0.4, 0.2, 0.3, 0.3, 0.5, 0.1, 0.1])  # at once
MOST_OF_TIPS = np.array([1.0, 1.0, 1.6, 0.3, 0.3])  # away from a straight tip of the usual kind
DAMPING = 1e-2


@dataclass(frozen=True, eq=False)
class Bench:
    """Simulates molecules as a scan was taken, as far as the scan tells.

    Attributes:
        simulator: an engine's.
        tip: a straight one.
        known: whether the scan tells its height: z = 0 is then the topmost atom.
        chosen: which of the scan's images are simulated (C,).
        z: heights of the unrelaxed probe in the scan's frame (Z,), Å.
        weights: from forces to Δf, see `oscillation_weights`.
        blend: from the images that follow to the chosen ones (Z', C).
    """

    simulator: Simulator
    tip: Tip
    known: bool
    chosen: NDArray[np.int64]
    z: Array
    weights: Array
    blend: Tensor

    @classmethod
    def of(cls, scan: Scan, simulator: Simulator, count: int, tip: Tip | None = None, step: float = 0.1) -> Self:
        """Return the bench of a scan.

        Args:
            scan: what it does not tell of amplitude and cantilever is as in `SimulationOptions`.
            simulator: an engine's.
            count: of images, at most, the nearest one and others up to `REACH` above it.
            tip: in place of the usual one of the scan's name.
            step: about the distance of heights at which the force is taken, Å.

        Raises:
            DataError: the scan does not hold Δf, or its tip is not known.
        """
        if scan.channel != "df":
            raise DataError(f"{scan.source or 'the scan'} holds {scan.channel}, which is not simulated; it takes Δf")
        if tip is None and scan.tip not in TIPS:
            raise DataError(f"{scan.source or 'the scan'}: no tip {scan.tip!r}; there are: {', '.join(TIPS)}")
        near = np.flatnonzero(scan.z <= scan.z[-1] + REACH + 1e-6)
        chosen = near[np.unique(np.linspace(len(near) - 1, 0, min(count, len(near))).round().astype(int))]
        if len(scan.z) > 1:  # images that are evenly apart are met exactly
            apart = float(np.median(-np.diff(scan.z)))
            step = apart / max(1, round(apart / step)) if apart >= step else apart * round(step / apart)
        usual = SimulationOptions()
        amplitude = usual.amplitude if scan.amplitude is None else scan.amplitude
        weights = oscillation_weights(step, amplitude, usual.f0, 1.0)  # the match takes no account of the scale
        images = int(np.ceil((scan.z[chosen[0]] - scan.z[-1]) / step - 1e-6)) + 1
        heights = step * np.arange(images + len(weights) - 1)
        approach = np.arange(heights[-1] + APPROACH_STEP, APPROACH, APPROACH_STEP)
        shown = heights[:images][::-1]
        blend = [np.interp(scan.z[-1] - scan.z[chosen], -shown, row) for row in np.eye(images)]
        return cls(
            simulator,
            tip or TIPS[scan.tip],  # type: ignore[index]
            scan.z_reference == ABOVE_ATOM,
            chosen,
            scan.z[-1] + np.concatenate([heights, approach])[::-1],
            weights,
            torch.tensor(np.array(blend), dtype=torch.float32),
        )

    def images(self, molecules: Molecules, x: Array, y: Array, tips: Array | None = None) -> Tensor:
        """Return the chosen images (B, X, Y, C), float32, of molecules (B) that lie in the scan's frame.

        Args:
            molecules: with z in the frame of the scan's z.
            x, y: where the resting probe goes (X,) and (Y,), Å.
            tips: how each is another than the bench's (B, 5): tilt along x and y (Å), logarithm of the lateral
                stiffness' factor, and what is added to monopole (e) and quadrupole (e·Å²).

        Raises:
            DataError: an element without Lennard-Jones parameters.
        """
        count = len(molecules.numbers)
        tips = np.zeros((count, 5)) if tips is None else tips
        columns: dict[str, Any] = {name: np.full(count, getattr(self.tip, name)) for name in OF_TIPS}
        columns["lateral_stiffness"] *= np.exp(tips[:, 2])
        columns["charge"], columns["quadrupole"] = self.tip.charge + tips[:, 3], self.tip.quadrupole + tips[:, 4]
        columns |= {"probe": np.full(count, self.tip.number), "offset": tips[:, :2]}
        columns |= {"x": x - tips[:, :1], "y": y - tips[:, 1:2], "z": np.broadcast_to(self.z, (count, len(self.z)))}
        values = self.simulator.images(Scenes(**molecules._asdict(), **columns), self.weights).values
        return values[..., -len(self.blend) :].cpu() @ self.blend

    def levelled(self, molecules: Molecules) -> Molecules:
        """Return molecules with their topmost atoms at z = 0 where the scan counts its height from there."""
        if not self.known:
            return molecules
        tops = np.where(molecules.numbers > 0, molecules.positions[..., 2], -np.inf).max(1)
        return molecules._replace(positions=molecules.positions - tops[:, None, None] * [0.0, 0.0, 1.0])


class Match(NamedTuple):
    """Where templates match images best, each (B,): the correlation, the turn (radians) and the shift (Å) after it."""

    score: Array
    turn: Array
    x: Array
    y: Array


class Matcher:
    """Finds templates in images, over all turns in the plane and all shifts at once, by the Fourier transform.

    The correlation is that of the images within their window; what of a template is beyond it counts as missing.

    Args:
        images: (X, Y, C), on the axes `x` (X,) and `y` (Y,), Å; such as Δf at C heights, or C maps.
        pixel: of the search, Å; it finds shifts to within half of it.
        turns: tried, evenly over the whole circle.
        patch: pixels along each side of the templates.
    """

    def __init__(self, images: NDArray[Any], x: Array, y: Array, pixel: float, turns: int, patch: int) -> None:
        spans = np.array([x[-1] - x[0], y[-1] - y[0]])
        half = spans[:, None, None, None] / 2
        self.centre = np.array([x[0] + x[-1], y[0] + y[-1]]) / 2
        self.angles = 2 * np.pi * np.arange(turns) / turns
        least = max(int(np.ceil(np.hypot(*spans) / pixel + patch / 2)) + 1, patch)  # so that nothing comes round
        size = self.size = int(fft.next_fast_len(least, real=True))
        grid = np.asarray((np.arange(size) - (size - 1) / 2) * pixel, np.float64)

        places = _turned(grid, self.angles)
        inside = np.asarray((np.abs(places) <= half).all(0))[:, None]  # (T, 1, F, F)
        self.within = float(inside.sum((1, 2, 3)).mean())  # pixels
        indices = [
            np.interp(p + c, axis, np.arange(len(axis))) for p, c, axis in zip(places, self.centre, (x, y), strict=True)
        ]
        blur = [0.5 * pixel * (len(axis) - 1) / span if span else 0.0 for axis, span in zip((x, y), spans, strict=True)]
        smooth = np.moveaxis(ndimage.gaussian_filter(images.astype(np.float32), (*blur, 0), mode="nearest"), 2, 0)
        seen = inside * np.stack([ndimage.map_coordinates(image, indices, order=1) for image in smooth], 1)
        seen -= inside * seen.sum((2, 3), keepdims=True) / np.maximum(inside.sum((2, 3), keepdims=True), 1)
        seen /= np.maximum(np.sqrt((seen**2).sum((1, 2, 3), keepdims=True)), 1e-30)  # (T, C, F, F)
        self.spectra = torch.fft.rfft2(torch.tensor(seen, dtype=torch.float32))

        shift = grid + (patch - 1) / 2 * pixel  # that of the patch's middle when the patch is moved by k pixels
        self.shift = np.where(shift > size * pixel / 2, shift - size * pixel, shift)
        outside = (np.abs(_turned(self.shift, self.angles)) > half).any(0)
        self.barred = torch.tensor(np.where(outside, -np.inf, 0.0), dtype=torch.float32)

    def __call__(self, templates: Tensor) -> Match:
        """Return the best match of each template (B, P, P, C), float32, whose edges are taken as its background."""
        edge = torch.cat([templates[:, [0, -1]].flatten(1, 2), templates[:, :, [0, -1]].flatten(1, 2)], 1).mean(1)
        templates = templates - edge[:, None, None]
        area = max(self.within, templates[0, ..., 0].numel())
        variance = (templates**2).sum((1, 2)) - templates.sum((1, 2)) ** 2 / area  # (B, C)
        scale = variance.sum(1).clamp_min(1e-30).rsqrt()
        best, where = [], []
        spectra = torch.fft.rfft2(templates.movedim(3, 1), s=(self.size, self.size)).conj()
        for few in torch.split(spectra, AT_ONCE):
            products = torch.einsum("tcfg,bcfg->btfg", self.spectra, few)
            scores = torch.fft.irfft2(products, s=(self.size, self.size)) + self.barred
            peak = scores.flatten(1).max(1)
            best.append(peak.values)
            where.append(peak.indices)
        turn, i, j = np.unravel_index(torch.cat(where).numpy(), self.barred.shape)
        cos, sin = np.cos(self.angles[turn]), np.sin(self.angles[turn])
        x, y = self.shift[i], self.shift[j]
        score = (torch.cat(best) * scale).double().numpy()
        return Match(score, self.angles[turn], self.centre[0] + cos * x - sin * y, self.centre[1] + sin * x + cos * y)


class Settled(NamedTuple):
    """Molecules (B) where they match a scan best, under what tips (B, 5), see `Bench.images`, and how well (B,)."""

    molecules: Molecules
    tips: Array
    scores: Array


def settle(bench: Bench, scan: Scan, molecules: Molecules, pixel: float, rounds: int, fit_tip: bool = False) -> Settled:
    """Return molecules (B) moved as a whole to where they match the scan best.

    Levenberg–Marquardt steps of all of them at once; gain and offsets of the images follow from the linear fit.

    Args:
        bench: that of the scan.
        scan: what they are to match.
        molecules: in the scan's frame, about where they lie; not turned by more than some 10°.
        pixel: pixels of the scan are left out until they are about this far apart, Å.
        rounds: of simulations.
        fit_tip: fit the tip's tilt, lateral stiffness and charges along, which else shift the molecule.

    Raises:
        DataError: an element without Lennard-Jones parameters.
    """
    every = [max(1, round(pixel / spacing)) if spacing else 1 for spacing in scan.pixel]
    x, y = scan.x[:: every[0]], scan.y[:: every[1]]
    target = _centred(scan.df[:: every[0], :: every[1], bench.chosen].astype(np.float64)).ravel()
    target /= max(float(np.linalg.norm(target)), 1e-300)
    free = np.flatnonzero([True] * 5 + [not bench.known] + [fit_tip] * 5)
    nudges = np.concatenate([np.zeros((1, len(STEPS))), np.diag(STEPS)[free]])
    count = len(molecules.numbers)
    best = trial = Settled(bench.levelled(molecules), np.zeros((count, 5)), np.full(count, -np.inf))
    damping, slope = np.full(count, DAMPING), np.zeros((count, len(free)))
    normal = np.zeros((count, len(free), len(free)))
    for left in reversed(range(rounds)):
        varied = [_moved(bench, trial, np.tile(nudge, (count, 1))) for nudge in (nudges if left else nudges[:1])]
        columns = (np.concatenate(column) for column in zip(*(each.molecules for each in varied), strict=True))
        stacks = bench.images(Molecules._make(columns), x, y, np.concatenate([each.tips for each in varied])).numpy()
        stacks = _centred(stacks).reshape(len(varied), count, -1)
        norms = np.maximum(np.linalg.norm(stacks[0], axis=-1), 1e-30)
        trial = trial._replace(scores=np.minimum(stacks[0] @ target / norms, 1.0))
        better = trial.scores > best.scores
        best = _where(better, trial, best)
        if not left:
            break
        gain = (trial.scores / norms)[:, None]  # |target − gain · stack| is least
        jacobian = gain[..., None] * np.moveaxis((stacks[1:] - stacks[0]) / STEPS[free, None, None], 0, 1)  # (B, K, D)
        unit = stacks[0] / norms[:, None]
        jacobian -= (jacobian @ unit[..., None]) * unit[:, None]
        residual = target - gain * stacks[0]
        normal[better] = (jacobian @ jacobian.swapaxes(1, 2))[better]
        slope[better] = (jacobian @ residual[..., None])[better, :, 0]
        damping = np.where(better, damping / 3, damping * 8)
        diagonal = np.einsum("bkk->bk", normal)
        ridge = damping[:, None] * diagonal + 1e-9 * diagonal.max(1, keepdims=True) + 1e-30
        moves = np.zeros((count, len(STEPS)))
        moves[:, free] = np.linalg.solve(normal + ridge[..., None] * np.eye(len(free)), slope[..., None])[..., 0]
        trial = _moved(bench, best, np.clip(moves, -FARTHEST, FARTHEST))
    return best


def _moved(bench: Bench, settled: Settled, moves: Array) -> Settled:
    """Return molecules turned about the middle of their upper side and shifted, and tips changed.

    Args:
        bench: says whether their tops stay at z = 0.
        settled: B of them.
        moves: (B, 11): turns (radians), shifts (Å), and changes of the tips.
    """
    molecules = settled.molecules
    pivot = upper_middle(molecules.numbers, molecules.positions)[:, None]
    rotations = Rotation.from_rotvec(moves[:, :3]).as_matrix()
    positions = (molecules.positions - pivot) @ rotations.swapaxes(1, 2) + pivot + moves[:, None, 3:6]
    tips = np.clip(settled.tips + moves[:, 6:], -MOST_OF_TIPS, MOST_OF_TIPS)
    return settled._replace(molecules=bench.levelled(molecules._replace(positions=positions)), tips=tips)


def _where(first: NDArray[np.bool_], one: Settled, other: Settled) -> Settled:
    """Return of each scene the first where so said (B,), else the other."""

    def chosen(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return np.where(first.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    molecules = Molecules._make(map(chosen, one.molecules, other.molecules))
    return Settled(molecules, chosen(one.tips, other.tips), chosen(one.scores, other.scores))


def upper_middle(numbers: NDArray[np.int64], positions: Array) -> Array:
    """Return the mean place (B, 3), Å, of the atoms that a tip may feel, those down to `DEPTH`; its z is the top.

    It turns with the molecule in the plane.

    Args:
        numbers: atomic numbers (B, N), 0 where there is no atom.
        positions: (B, N, 3), Å.
    """
    top = np.where(numbers > 0, positions[..., 2], -np.inf).max(1, keepdims=True)
    felt = (numbers > 0) & (positions[..., 2] >= top - DEPTH)
    middle = (positions[..., :2] * felt[..., None]).sum(1) / felt.sum(1, keepdims=True)
    return np.concatenate([middle, top], 1)


def _centred(stacks: Array) -> Array:
    """Return stacks (…, X, Y, C), each image less its mean."""
    return np.asarray(stacks - stacks.mean((-3, -2), keepdims=True))


def _turned(axis: Array, angles: Array) -> Array:
    """Return the places (2, T, F, F) of a square grid with both axes `axis` (F,) turned by angles (T,), radians."""
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return np.stack([cos * axis[:, None] - sin * axis, sin * axis[:, None] + cos * axis])
