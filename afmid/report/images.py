"""The images of a page: the stack's, and the maps on its window."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.identification import Identification, Map
from afmid.report.document import data_uri
from afmid.report.facts import signed
from afmid.report.picture import ABOVE_NEAREST
from afmid.report.raster import Scale, bar_png, grey_png, grey_range, map_png
from afmid.scan import ABOVE_ATOM, Scan
from afmid.text import line

MOST_PIXELS = 320  # of an image along a side …
MOST_IN_ALL = 1_200_000  # … and of a stack's images together: a page is to be small enough to send
MOST_IMAGES, MOST_OF_SECOND, MOST_MAPS = 24, 6, 12
MAP_PIXELS = 256


@dataclass(frozen=True)
class Image:
    """One height of the stack."""

    src: str
    height: str
    range: str
    number: int


@dataclass(frozen=True)
class Stack:
    """The images, the farthest first; with which of them to start; and what to know of them."""

    images: list[Image]
    start: int
    notes: str


@dataclass(frozen=True)
class Painting:
    """A map, its image, the ends of its scale and its unit in words; a picture painted by the method has none."""

    name: str
    src: str
    low: str = ""
    high: str = ""
    unit: str = ""
    bar: str = ""


def stack_of(scan: Scan, answer: Identification) -> Stack:
    """Return the images of a scan, evenly chosen where there are too many.

    The one to start with tells most: some way above the nearest, where the probe is not pushed aside too far.

    Raises:
        DataError: the scan has another window than the answer.
    """
    _check_window(scan, answer)
    return _stack(scan, MOST_IMAGES, MOST_IN_ALL)


def second_of(scan: Scan) -> Stack:
    """Return some images of what a second tip shows, in a window of its own."""
    return _stack(scan, MOST_OF_SECOND, MOST_IN_ALL // 4)


def paintings(answer: Identification) -> list[Painting]:
    """Return the first MOST_MAPS maps, and the picture that the method painted."""
    return [_map(name, image) for name, image in list(answer.maps.items())[:MOST_MAPS]] + list(_painted(answer.picture))


def _check_window(scan: Scan, answer: Identification) -> None:
    """Raise DataError where the answer's axes are not the scan's."""
    for name in ("x", "y"):
        of_scan, of_answer = getattr(scan, name), getattr(answer, name)
        pixel = max(scan.pixel) or 1.0
        if np.abs(of_scan[[0, -1]] - of_answer[[0, -1]]).max() > pixel:
            raise DataError(
                f"the scan reaches from {name} = {of_scan[0]:.2f} to {of_scan[-1]:.2f} Å, the answer from "
                f"{of_answer[0]:.2f} to {of_answer[-1]:.2f} Å; give the scan that was identified"
            )


def _image(scan: Scan, index: int, most: int) -> Image:
    values = scan.df[:, :, index]
    low, high = grey_range(values)
    height = signed(scan.z[index])
    unit = " Hz" if scan.channel == "df" else ""
    return Image(data_uri(grey_png(values, most)), height, f"{_short(low)} to {_short(high)}{unit}", index + 1)


def _stack(scan: Scan, most: int, pixels: int) -> Stack:
    """Return `most` images of a scan at most, of so many pixels together."""
    chosen = np.unique(np.linspace(0, len(scan.z) - 1, min(most, len(scan.z))).round().astype(int))
    side = min(MOST_PIXELS, math.isqrt(pixels // len(chosen)))
    start = int(np.abs(scan.z[chosen] - scan.z[-1] - ABOVE_NEAREST).argmin())
    return Stack([_image(scan, int(index), side) for index in chosen], start, _notes(scan, most))


def _notes(scan: Scan, most: int) -> str:
    above = "the topmost atom" if scan.z_reference == ABOVE_ATOM else "the last image"
    some = f"; {most} of {len(scan.z)} images" if len(scan.z) > most else ""
    return f"z from {above}; each image on its own grey scale, bright is high{some}."


def _map(name: str, image: Map) -> Painting:
    scale = Scale.of(image.values)
    low, high = (_short(0.0 if abs(v) < 1e-3 * (scale.high - scale.low) else v) for v in (scale.low, scale.high))
    unit = "" if image.unit == "1" else line(image.unit, 20)
    if image.sigma is not None:
        unit = f"{unit}, σ ≤ {np.percentile(image.sigma, 95):.2g}".removeprefix(", ")
    src = data_uri(map_png(image.values, MAP_PIXELS))
    return Painting(line(name.replace("_", " "), 40), src, low, high, unit, data_uri(bar_png(scale.signed)))


def _short(value: float) -> str:
    """Return a number in three digits."""
    return f"{value:.3g}".replace("-", "−")


def _painted(picture: NDArray[np.uint8] | None) -> Iterator[Painting]:
    from PIL import Image as Picture

    if picture is not None:
        step = math.ceil(max(picture.shape[:2]) / MOST_PIXELS)
        stream = io.BytesIO()
        Picture.fromarray(np.ascontiguousarray(picture[::step, ::step])).save(stream, "png")
        yield Painting("painted by the method", data_uri(stream.getvalue()))
