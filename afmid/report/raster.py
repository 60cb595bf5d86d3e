"""Images (X, Y) of a scan as PNG: x to the right, y up, and small enough for a page."""

import io
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SATURATED = (0.5, 99.5)  # percent: the darkest and the brightest pixels of a grey image


@dataclass(frozen=True)
class Window:
    """The outer edges (Å) of an image: half a pixel beyond the centres of the first and the last."""

    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def of(cls, x: NDArray[np.float64], y: NDArray[np.float64]) -> "Window":
        """Return the window of pixels centred at x (X,) and y (Y,), Å."""
        sizes = [float(np.ptp(axis)) / (len(axis) - 1) if len(axis) > 1 else 0.0 for axis in (x, y)]
        half_x, half_y = ((size or max(sizes) or 1.0) / 2 for size in sizes)
        return cls(float(x[0]) - half_x, float(x[-1]) + half_x, float(y[0]) - half_y, float(y[-1]) + half_y)

    @property
    def width(self) -> float:
        """Å."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Å."""
        return self.top - self.bottom

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point lies in a drawing: Å to the right of the left edge, and Å down from the upper one."""
        return round(x - self.left, 3), round(self.top - y, 3)


class Scale(NamedTuple):
    """The ends of a map's colours. Signed: two colours about zero."""

    low: float
    high: float
    signed: bool

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> "Scale":
        """Return the scale of a map: signed where it goes clearly below zero, more than a network misses zero by."""
        low, high = float(values.min()), float(values.max())
        bound = max(-low, high)
        return cls(-bound, bound, True) if -low > 0.1 * bound else cls(low, high, False)


def grey_range(values: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return the values that are drawn black and white."""
    low, high = np.percentile(values, SATURATED)
    return float(low), float(high)


def grey_png(values: NDArray[np.floating[Any]], most: int) -> bytes:
    """Return an image (X, Y) in grey on its own scale, bright is high, with at most `most` pixels along a side."""
    values = bounded(values, most)
    return _png(_levels(values, *grey_range(values)))


def map_png(values: NDArray[np.floating[Any]], most: int) -> bytes:
    """Return a map (X, Y) in the colours of its scale."""
    scale = Scale.of(values)
    return _png(_levels(bounded(values, most), scale.low, scale.high), _palette(scale.signed))


def bar_png(signed: bool) -> bytes:
    """Return the colours of maps, low to high, one pixel high."""
    return _png(np.arange(256, dtype=np.uint8)[None], _palette(signed))


def bounded(values: NDArray[np.floating[Any]], most: int) -> NDArray[np.floating[Any]]:
    """Return (X, Y) values with at most `most` pixels along a side: the means of blocks."""
    for axis in (0, 1):
        block = math.ceil(values.shape[axis] / most)
        starts = np.arange(0, values.shape[axis], block)
        counts = np.diff(np.append(starts, values.shape[axis]))
        values = np.add.reduceat(values, starts, axis) / (counts[:, None] if axis == 0 else counts)
    return values


def _levels(values: NDArray[np.floating[Any]], low: float, high: float) -> NDArray[np.uint8]:
    """Return (X, Y) values as rows of a picture, the largest y first; `low` is 0 and `high` 255."""
    shares = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    levels: NDArray[np.uint8] = (255 * shares.clip(0, 1)).round().astype(np.uint8).T[::-1]
    return levels


def _png(levels: NDArray[np.uint8], palette: bytes | None = None) -> bytes:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(levels))
    if palette:
        image.putpalette(palette)
    stream = io.BytesIO()
    image.save(stream, "png", optimize=True)
    return stream.getvalue()


@cache
def _palette(signed: bool) -> bytes:
    from matplotlib import colormaps

    colours = colormaps["RdBu_r" if signed else "magma"](np.linspace(0, 1, 256), bytes=True)
    return bytes(colours[:, :3].tobytes())
