"""From any scan to what the networks see: 0.125 Å pixels and ten images 0.1 Å apart."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn.functional import interpolate, pad

from afmid.errors import DataError
from afmid.networks.unet import HEIGHTS
from afmid.scan import Scan

PIXEL = 0.125  # Å
STEP = 0.1  # Å between images
TOLERANCE = 0.02  # of a pixel size or a step, relative: below this a scan is taken as it is
LARGEST = 1024  # pixels along a side


@dataclass(frozen=True, eq=False)
class Stack:
    """A scan as a network sees it, or two of one sample.

    Attributes:
        df: Δf, float32 (1, X, Y, 10), Hz, from far to near.
        x, y: pixel positions (Å), (X,) and (Y,), evenly spaced.
        notes: what was done to the scan, for people.
        second: Δf of the second tip over the same pixels, like `df`; None where there is none.
    """

    df: Tensor
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    notes: tuple[str, ...]
    second: Tensor | None = None


def fill_heights(df: Tensor) -> Tensor:
    """Return the ten nearest images of stacks (B, X, Y, Z); of fewer, the farthest is repeated in front."""
    missing = max(0, HEIGHTS - df.shape[3])
    return torch.cat([df[..., :1].expand(-1, -1, -1, missing), df[..., -HEIGHTS:]], 3)


def prepare(scan: Scan, second: Scan | None = None) -> Stack:
    """Return a scan as the networks see it, with that of a second tip on its pixels.

    Pixels are resampled linearly (and averaged where they become coarser), heights linearly from the nearest image on.
    The second scan is not averaged; beyond its edge it is continued by its last pixels.

    Raises:
        DataError: fewer than two images or two pixels along a side, images or pixels at odd places, too wide a scan.
    """
    _check(scan)
    images, notes = _ten_images(scan)
    x, y = (_axis(scan, name) for name in "xy")
    if (len(x), len(y)) != scan.df.shape[:2]:
        images = resample(images.permute(2, 0, 1), (len(x), len(y))).permute(1, 2, 0)
        notes.append(f"resampled from {len(scan.x)} × {len(scan.y)} to {len(x)} × {len(y)} pixels of {PIXEL} Å")
    if second is None:
        return Stack(images[None], x, y, tuple(notes))
    try:
        _check(second)
    except DataError as error:
        raise DataError(f"the scan of the {second.tip} tip: {error}") from error
    others, second_notes = _ten_images(second)
    notes += [f"{second.tip}: {note}" for note in second_notes]
    return Stack(images[None], x, y, tuple(notes), _on_pixels(others, second, x, y)[None])


def _check(scan: Scan) -> None:
    """Raise DataError where the networks cannot see a scan."""
    if scan.channel != "df":
        raise DataError(f"{_where(scan)}the stack holds {scan.channel!r}; the network was trained on df")
    if len(scan.z) < 2:
        raise DataError(f"{_where(scan)}a single image; the network needs two at least, at known heights")
    if not np.ptp(scan.df[..., -1]):
        raise DataError(f"{_where(scan)}the nearest image holds a single value; leave it out")
    if (span := scan.z[0] - scan.z[-1]) < (1 - TOLERANCE) * STEP:
        raise DataError(
            f"{_where(scan)}the images lie within {span:.2g} Å; the network needs {STEP} Å at least between "
            "the farthest and the nearest"
        )


def _ten_images(scan: Scan) -> tuple[Tensor, list[str]]:
    """Return the ten images (X, Y, 10) of a scan on its own pixels, and what was done."""
    images, note = _even_heights(scan)
    notes = [note] if note else []
    if (count := images.shape[2]) < HEIGHTS:
        notes.append(f"{count} images {STEP} Å apart; the farthest was repeated to make {HEIGHTS}")
    elif count > HEIGHTS:
        notes.append(f"the nearest {HEIGHTS} of {count} images {STEP} Å apart were used")
    return fill_heights(torch.from_numpy(np.asarray(images, np.float32))[None])[0], notes


def _on_pixels(images: Tensor, scan: Scan, x: NDArray[np.float64], y: NDArray[np.float64]) -> Tensor:
    """Return images (X', Y', Z) of a scan at other pixels (X, Y, Z), linear."""
    place = np.meshgrid(*(np.interp(axis, own, np.arange(len(own))) for axis, own in ((x, scan.x), (y, scan.y))),
                        indexing="ij")  # fmt: skip
    there = [map_coordinates(image, place, order=1, mode="nearest") for image in images.permute(2, 0, 1).numpy()]
    return torch.from_numpy(np.stack(there, 2))


def padded(df: Tensor, multiple: int) -> Tensor:
    """Return stacks (B, X, Y, Z) whose last pixels are repeated until X and Y are multiples of a number."""
    x, y = df.shape[1:3]
    return pad(df.permute(0, 3, 1, 2), (0, -y % multiple, 0, -x % multiple), mode="replicate").permute(0, 2, 3, 1)


def resample(images: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return images (C, X, Y) on `shape` pixels over the same area, linear, averaged where pixels become coarser."""
    if images.shape[1:] == shape:
        return images
    return interpolate(images[None], shape, mode="bilinear", align_corners=False, antialias=True)[0]


def _even_heights(scan: Scan) -> tuple[NDArray[np.float32], str]:
    """Return images (X, Y, Z) `STEP` apart, counted from the nearest, and what was done."""
    steps = -np.diff(scan.z)
    if np.abs(steps - STEP).max() <= TOLERANCE * STEP:
        return scan.df, ""
    count = int((scan.z[0] - scan.z[-1]) / STEP + 0.5) + 1
    above = np.minimum(STEP * np.arange(min(count, HEIGHTS))[::-1], scan.z[0] - scan.z[-1])
    place = np.interp(above, (scan.z - scan.z[-1])[::-1], np.arange(len(scan.z))[::-1])
    far = np.minimum(place.astype(int), len(scan.z) - 2)
    part = (place - far).astype(np.float32)
    images = scan.df[..., far] * (1 - part) + scan.df[..., far + 1] * part
    return images, f"images {steps.min():.3g}–{steps.max():.3g} Å apart were interpolated to {STEP} Å"


def _axis(scan: Scan, name: str) -> NDArray[np.float64]:
    """Return the pixel positions (Å) after resampling."""
    axis = getattr(scan, name)
    if len(axis) < 2:
        raise DataError(f"{_where(scan)}a single pixel along {name}; the network needs an image")
    spacing = np.diff(axis)
    pixel = spacing.mean()
    if np.abs(spacing - pixel).max() > 0.1 * pixel:
        raise DataError(
            f"{_where(scan)}pixels along {name} are {spacing.min():.3g}–{spacing.max():.3g} Å apart; "
            "resample the scan to even pixels first"
        )
    close = abs(pixel / PIXEL - 1) <= TOLERANCE
    count = len(axis) if close else max(2, round(len(axis) * pixel / PIXEL))
    if count > LARGEST:
        raise DataError(
            f"{_where(scan)}the scan is {len(axis) * pixel:.0f} Å wide along {name}; the network takes "
            f"up to {LARGEST * PIXEL:.0f} Å: crop it to the molecule"
        )
    return np.asarray(axis[0] - pixel / 2 + (np.arange(count) + 0.5) * (len(axis) * pixel / count))


def _where(scan: Scan) -> str:
    return f"{scan.source}: " if scan.source else ""
