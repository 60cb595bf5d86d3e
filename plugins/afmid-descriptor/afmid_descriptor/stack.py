"""From any scan to what the network sees: 0.125 Å pixels, ten images 0.1 Å apart, normalised one by one."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from afmid import DataError, Scan
from afmid.data.augment import Normalise
from afmid_descriptor.model import HEIGHTS

PIXEL = 0.125  # Å
STEP = 0.1  # Å between images
TOLERANCE = 0.02  # of a pixel size or a step, relative: below this a scan is taken as it is
LARGEST = 1024  # pixels along a side


@dataclass(frozen=True, eq=False)
class Stack:
    """A scan as the network sees it.

    Attributes:
        df: Δf, normalised per image, float32 (1, X, Y, 10), from far to near.
        x, y: pixel positions (Å), (X,) and (Y,), evenly spaced.
        notes: what was done to the scan, for people.
    """

    df: Tensor
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    notes: tuple[str, ...]


def fill_heights(df: Tensor) -> Tensor:
    """Return the ten nearest images of stacks (B, X, Y, Z); of fewer, the farthest is repeated in front."""
    missing = max(0, HEIGHTS - df.shape[3])
    return torch.cat([df[..., :1].expand(-1, -1, -1, missing), df[..., -HEIGHTS:]], 3)


def normalise(df: Tensor) -> Tensor:
    """Return stacks (B, X, Y, Z) with zero mean and unit variance per image; an image of one value becomes zero."""
    return Normalise()(df, df.new_empty(0), torch.Generator())[0]


def prepare(scan: Scan) -> Stack:
    """Return a scan as the network sees it.

    Pixels are resampled linearly (and averaged where they become coarser), heights linearly from the nearest image on.

    Raises:
        DataError: fewer than two images or two pixels along a side, images or pixels at odd places, too wide a scan.
    """
    if scan.channel != "df":
        raise DataError(f"{_where(scan)}the stack holds {scan.channel!r}; the descriptor network was trained on df")
    if len(scan.z) < 2:
        raise DataError(f"{_where(scan)}a single image; the descriptor network needs two at least, at known heights")
    if (span := scan.z[0] - scan.z[-1]) < (1 - TOLERANCE) * STEP:
        raise DataError(
            f"{_where(scan)}the images lie within {span:.2g} Å; the descriptor network needs {STEP} Å at least between "
            "the farthest and the nearest"
        )
    images, images_note = _even_heights(scan)
    x, y = (_axis(scan, name) for name in "xy")
    df = torch.from_numpy(images)
    notes = [images_note] if images_note else []
    if (len(x), len(y)) != df.shape[:2]:
        df = resample(df.permute(2, 0, 1), (len(x), len(y))).permute(1, 2, 0)
        notes.append(f"resampled from {len(scan.x)} × {len(scan.y)} to {len(x)} × {len(y)} pixels of {PIXEL} Å")
    if (count := df.shape[2]) < HEIGHTS:
        notes.append(f"{count} images {STEP} Å apart; the farthest was repeated to make {HEIGHTS}")
    elif count > HEIGHTS:
        notes.append(f"the nearest {HEIGHTS} of {count} images {STEP} Å apart were used")
    return Stack(normalise(fill_heights(df[None])), x, y, tuple(notes))


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
        raise DataError(f"{_where(scan)}a single pixel along {name}; the descriptor network needs an image")
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
            f"{_where(scan)}the scan is {len(axis) * pixel:.0f} Å wide along {name}; the descriptor network takes "
            f"up to {LARGEST * PIXEL:.0f} Å: crop it to the molecule"
        )
    return axis[0] - pixel / 2 + (np.arange(count) + 0.5) * (len(axis) * pixel / count)


def _where(scan: Scan) -> str:
    return f"{scan.source}: " if scan.source else ""
