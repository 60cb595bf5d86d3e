"""What molecules look like under the tip of a scan: images, simulated as it was taken, or a method's maps of them.

Both are laid beside what the scan shows in the same way, by `placement` and `search`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afmid.errors import DataError
from afmid.identification import Identification
from afmid.molecule import Molecules
from afmid.offers import Renders, Simulator
from afmid.scan import ABOVE_ATOM, Scan
from afmid.simulate.oscillation import oscillation_weights
from afmid.simulate.scan_simulation import APPROACH, APPROACH_STEP, SimulationOptions, closest_height
from afmid.simulate.scene import OF_TIPS, Scenes
from afmid.simulate.tip import TIPS, Tip

Array = NDArray[np.float64]

REACH = 1.0  # Å: images further than this above the nearest one show little
ALONG_TIP = 5  # tilt along x and y (Å), the logarithm of the lateral stiffness, monopole (e) and quadrupole (e·Å²)


class Bench(Protocol):
    """Makes of molecules what the scan shows of its own.

    Attributes:
        x, y: axes of what the scan shows (X,) and (Y,), Å.
        target: what it shows (X, Y, C).
        margin: how far beyond its atoms' centres a molecule shows, Å.
        levelled: whether topmost atoms lie at z = 0; else the height is not known.
    """

    @property
    def x(self) -> Array: ...

    @property
    def y(self) -> Array: ...

    @property
    def target(self) -> NDArray[np.float32]: ...

    @property
    def margin(self) -> float: ...

    @property
    def levelled(self) -> bool: ...

    def images(self, molecules: Molecules, x: Array, y: Array, tips: Array | None = None) -> Tensor:
        """Return what is like the target (B, X, Y, C), float32, of molecules (B) on the axes (X,) and (Y,), Å.

        Args:
            molecules: in the scan's frame.
            x, y: Å.
            tips: how each is another than the usual one (B, 5), where that makes a difference: tilt along x and y (Å),
                logarithm of the lateral stiffness' factor, what is added to monopole (e) and quadrupole (e·Å²).

        Raises:
            DataError: an element that is not known.
        """

    def laid(self, molecules: Molecules) -> Molecules:
        """Return molecules at the height at which they most likely lie."""


@dataclass(frozen=True, eq=False)
class ImageBench:
    """Simulates molecules as a scan was taken, as far as the scan tells.

    Attributes:
        x, y, target, levelled: see `Bench`; the images are those of `chosen`.
        simulator: an engine's.
        tip: a straight one.
        chosen: which of the scan's images are simulated (C,).
        z: heights of the unrelaxed probe in the scan's frame (Z,), Å.
        weights: from forces to Δf, see `oscillation_weights`.
        blend: from the images that follow to the chosen ones (Z', C).
    """

    x: Array
    y: Array
    target: NDArray[np.float32]
    levelled: bool
    simulator: Simulator
    tip: Tip
    chosen: NDArray[np.int64]
    z: Array
    weights: Array
    blend: Tensor
    margin: float = 2.0

    @classmethod
    def of(cls, scan: Scan, simulator: Simulator, count: int, tip: Tip | None = None, step: float = 0.1) -> Self:
        """Return the bench of a scan.

        Args:
            scan: what it does not tell of amplitude and cantilever is as in `SimulationOptions`. Where it tells its
                height, z = 0 is the topmost atom.
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
            x=scan.x,
            y=scan.y,
            target=scan.df[..., chosen],
            levelled=scan.z_reference == ABOVE_ATOM,
            simulator=simulator,
            tip=tip or TIPS[scan.tip],  # type: ignore[index]
            chosen=chosen,
            z=scan.z[-1] + np.concatenate([heights, approach])[::-1],
            weights=weights,
            blend=torch.tensor(np.array(blend), dtype=torch.float32),
        )

    def images(self, molecules: Molecules, x: Array, y: Array, tips: Array | None = None) -> Tensor:
        """Return the chosen images (B, X, Y, C), see `Bench`; x and y are where the resting probe goes."""
        count = len(molecules.numbers)
        tips = np.zeros((count, ALONG_TIP)) if tips is None else tips
        columns: dict[str, Any] = {name: np.full(count, getattr(self.tip, name)) for name in OF_TIPS}
        columns["lateral_stiffness"] *= np.exp(tips[:, 2])
        columns["charge"], columns["quadrupole"] = self.tip.charge + tips[:, 3], self.tip.quadrupole + tips[:, 4]
        columns |= {"probe": np.full(count, self.tip.number), "offset": tips[:, :2]}
        columns |= {"x": x - tips[:, :1], "y": y - tips[:, 1:2], "z": np.broadcast_to(self.z, (count, len(self.z)))}
        values = self.simulator.images(Scenes(**molecules._asdict(), **columns), self.weights).values
        return values[..., -len(self.blend) :].cpu() @ self.blend

    def laid(self, molecules: Molecules) -> Molecules:
        """Return molecules with their tops at z = 0 where the scan counts its height from there, else as far as usual.

        What is usual is the clearance of `SimulationOptions`.
        """
        molecules = topped(molecules)
        if self.levelled:
            return molecules
        usual = SimulationOptions().clearance
        lowest = closest_height(molecules.numbers, molecules.positions[..., 2], self.tip.number, usual)
        return molecules._replace(positions=molecules.positions + _up(self.z[-1] - lowest))


@dataclass(frozen=True, eq=False)
class MapBench:
    """Draws maps of molecules as a method predicts them of scans, each in units of its deviation in the answer.

    Attributes:
        x, y, target: see `Bench`.
        method: that of the answer.
        deviations: of the answer's maps, by their names.
    """

    x: Array
    y: Array
    target: NDArray[np.float32]
    method: Renders
    deviations: Mapping[str, float]
    margin: float = 3.0
    levelled: bool = True

    @classmethod
    def of(cls, answer: Identification, method: Renders) -> Self | None:
        """Return the bench of an answer with maps; None where it has none that the method draws, or they are empty."""
        maps = {name: answer.maps[name].values for name in method.rendered_maps if name in answer.maps}
        deviations = {name: float(values.std()) for name, values in maps.items() if np.ptp(values) > 0}
        if not deviations:
            return None
        target = np.stack([maps[name] / deviation for name, deviation in deviations.items()], -1)
        return cls(answer.x, answer.y, target.astype(np.float32), method, deviations)

    def images(self, molecules: Molecules, x: Array, y: Array, tips: Array | None = None) -> Tensor:
        """Return maps (B, X, Y, C), see `Bench`; no tip makes a difference to them."""
        maps = self.method.rendered(molecules, x, y, tuple(self.deviations))
        return maps.movedim(1, -1) / maps.new_tensor(list(self.deviations.values()))

    def laid(self, molecules: Molecules) -> Molecules:
        """Return molecules with their tops at z = 0."""
        return topped(molecules)


def topped(molecules: Molecules) -> Molecules:
    """Return molecules (B) with their topmost atoms at z = 0."""
    tops = np.where(molecules.numbers > 0, molecules.positions[..., 2], -np.inf).max(1)
    return molecules._replace(positions=molecules.positions + _up(-tops))


def _up(heights: Array) -> Array:
    """Return shifts (B, 1, 3) by heights (B,)."""
    return np.asarray(heights[:, None, None] * [0.0, 0.0, 1.0])
