"""Scan: a Δf stack with its axes and its tip."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afmid.checks import real
from afmid.errors import DataError
from afmid.molecule import Molecule

ABOVE_ATOM = "topmost atom"
ABOVE_LAST_IMAGE = "last image"
CHANNELS = ("df", "amplitude", "phase")


@dataclass(frozen=True, eq=False)
class Scan:
    """A constant-height AFM scan: one image per tip height.

    Attributes:
        df: frequency shift (Hz), float32 (X, Y, Z), Z from far to near, x before y.
        x, y: pixel positions (Å), (X,) and (Y,), ascending.
        z: height (Å) of the unrelaxed probe at the lowest point of its oscillation, (Z,), descending.
        z_reference: what z counts from: "topmost atom" (its centre) or "last image".
        channel: "df", or "amplitude" or "phase" where the stack holds those.
        tip: what ends the tip, such as "CO" or "Xe".
        amplitude: oscillation amplitude (Å), zero to peak; None where unknown.
        f0: resonance frequency (Hz); None where unknown.
        cantilever_stiffness: eV/Å² (N/m in files); None where unknown.
        source: where the scan comes from: a file, or the molecule it was simulated from.
        meta: JSON-able record of how it was made: settings, steps taken since.
        truth: the molecule under the tip, in the scan's frame, where it is known.

    Raises:
        DataError: on shapes that do not belong together, values that are not finite or no real numbers, or axes in the
            wrong order.
    """

    df: NDArray[np.float32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    z_reference: str = ABOVE_LAST_IMAGE
    channel: str = "df"
    tip: str = "CO"
    amplitude: float | None = None
    f0: float | None = None
    cantilever_stiffness: float | None = None
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    truth: Molecule | None = None

    def __post_init__(self) -> None:
        for name, dtype in (("df", np.float32), ("x", np.float64), ("y", np.float64), ("z", np.float64)):
            object.__setattr__(self, name, real(getattr(self, name), name, dtype))
        if self.df.ndim != 3:
            raise DataError(f"df needs axes X, Y, Z, has shape {self.df.shape}; for one image use df[:, :, None]")
        if not self.df.size:
            raise DataError(f"df is empty: shape {self.df.shape}")
        axes = tuple(axis.shape for axis in (self.x, self.y, self.z))
        if axes != tuple((n,) for n in self.df.shape):
            raise DataError(f"df has shape {self.df.shape}, but x, y, z have shapes {', '.join(map(str, axes))}")
        for name in ("df", "x", "y", "z"):
            if bad := int((~np.isfinite(getattr(self, name))).sum()):
                raise DataError(f"{name} holds {bad} values that are not finite; crop or fill them first")
        for name in ("x", "y"):
            if not (np.diff(getattr(self, name)) > 0).all():
                raise DataError(f"{name} must ascend; flip df along with it")
        if not (np.diff(self.z) < 0).all():
            raise DataError("z must descend, from the far image to the near one; reverse df along with it")
        if self.z_reference not in (ABOVE_ATOM, ABOVE_LAST_IMAGE):
            raise DataError(f"z_reference is {self.z_reference!r}; it must be {ABOVE_ATOM!r} or {ABOVE_LAST_IMAGE!r}")
        if self.channel not in CHANNELS:
            raise DataError(f"channel is {self.channel!r}; it must be one of: {', '.join(CHANNELS)}")
        for name in ("amplitude", "f0", "cantilever_stiffness"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise DataError(f"{name} is {value}; it must be a positive number")

    @property
    def pixel(self) -> tuple[float, float]:
        """Pixel size (Å) along x and y: the mean spacing; 0 where there is a single pixel."""
        return _spacing(self.x), _spacing(self.y)


def _spacing(axis: NDArray[np.float64]) -> float:
    return float((axis[-1] - axis[0]) / (len(axis) - 1)) if len(axis) > 1 else 0.0
