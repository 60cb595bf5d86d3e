"""QUAM-AFM's folders (J. Carracedo-Cosme et al., J. Chem. Inf. Model. 62, 1214, 2022), as they are published.

    K-1 … K-24 / …CID_<cid>_K<kkk>_Amp<aaa> / …_df_000.jpg … _009.jpg     the images of a scan, 000 the nearest
    XYZ_FILES / <cid> / <cid>.xyz                                        the molecules

K040 is a lateral stiffness of 0.40 N/m, Amp060 an amplitude of 0.60 Å. The images are grey, each in a scale of its own:
`df` holds 0 to 255 and no hertz, as the scan's meta says.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.io import grey_image, xyz_file
from afmid.io.stream import opened
from afmid.molecule import Molecule
from afmid.scan import Scan

WINDOW = 24.0  # Å
STEP = 0.1  # Å between images
HEIGHTS = 10
MAX_XYZ = 2**20
MOLECULES = "XYZ_FILES"
_SETTING = re.compile(r"K-\d+$")
_SCAN = re.compile(r"CID_(\d+)_K(\d+)_Amp(\d+)$")
_IMAGE = re.compile(r"_df_(\d{3})\.jpe?g$")
# Assumed, for the publication does not say: images are drawn as pictures are (columns along x, rows from the largest y
# down, which is how ml-spm reads them), and the window's centre is that of the molecule's box. Check it on real data.
FRAME = "columns along x, rows against y, window centred on the molecule's box"


@dataclass(frozen=True)
class QuamFolder:
    """Scans in folders.

    Attributes:
        root: where XYZ_FILES is.
        names: folders of the scans, from there.
    """

    root: Path
    names: list[str]


def open_quam(path: Path) -> QuamFolder | None:
    """Return the scans in a folder, the whole set's or one K-…; None if it is not one of these.

    Raises:
        DataError: it cannot be read.
    """
    settings = [name for name in _listed(path, True) if _SETTING.match(name)]
    if settings:
        settings.sort(key=lambda name: int(name[2:]))
        listed = [f"{setting}/{name}" for setting in settings for name in _listed(path / setting, True)]
        return QuamFolder(path, [name for name in listed if _SCAN.search(name)])
    names = [name for name in _listed(path, True) if _SCAN.search(name)]
    if not names:
        return None
    path = path.absolute()
    return QuamFolder(path.parent, [f"{path.name}/{name}" for name in names])


def molecule_of(name: str) -> str:
    """Return what all scans of a molecule share: CID_<cid>."""
    found = _SCAN.search(name)
    return f"CID_{found[1]}" if found else name


def read_quam(folder: QuamFolder, name: str) -> Scan:
    """Return a scan; its truth has neither bonds nor charges, which are not in the set.

    Raises:
        DataError: an image or the molecule is missing, or cannot be what it should.
    """
    found = _SCAN.search(name)
    if not found:
        raise DataError(f"{name}: is not named …CID_<cid>_K<kkk>_Amp<aaa>")
    images = _images(folder.root / name)
    stack = np.stack(images[::-1], axis=-1)  # 000 is the nearest
    if stack.shape[0] != stack.shape[1]:
        raise DataError(f"{name}: its images have {stack.shape[0]} × {stack.shape[1]} pixels; they should be square")
    truth = _molecule(folder.root, found[1])
    centre = np.zeros(2) if truth is None else (truth.positions.max(0) + truth.positions.min(0))[:2] / 2
    pixels = len(stack)
    x, y = centre[:, None] + (np.arange(pixels) - (pixels - 1) / 2) * WINDOW / pixels
    stiffness, amplitude = (int(digits) / 100 for digits in found.groups()[1:])
    record = {"lateral_stiffness_n_per_m": stiffness, "units": "grey values of each image, no hertz", "frame": FRAME}
    return Scan(
        stack,
        x=x,
        y=y,
        z=STEP * np.arange(HEIGHTS, dtype=np.float64)[::-1],
        amplitude=amplitude,
        source=name,
        meta={"quam": record},
        truth=truth,
    )


def _images(path: Path) -> list[NDArray[np.float32]]:
    """Return the images (X, Y) of a scan, from near to far."""
    files = {int(found[1]): path / name for name in _listed(path, False) if (found := _IMAGE.search(name))}
    if sorted(files) != list(range(HEIGHTS)):
        raise DataError(f"{path}: holds {len(files)} images; they should be …_df_000.jpg to …_df_{HEIGHTS - 1:03d}.jpg")
    images = []
    for _, file in sorted(files.items()):
        try:
            images.append(grey_image.read_grey(_content(file, grey_image.MAX_BYTES)))
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
    if len({image.shape for image in images}) > 1:
        raise DataError(f"{path}: its images differ in size")
    return images


def _molecule(root: Path, cid: str) -> Molecule | None:
    if not (root / MOLECULES).is_dir():
        return None
    file = root / MOLECULES / cid / f"{cid}.xyz"
    try:
        text = _content(file, MAX_XYZ).decode(errors="replace")
        return xyz_file.atoms_from_text(text, f"CID {cid}").topmost_at_zero()
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _content(file: Path, most: int) -> bytes:
    with opened(file) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise DataError(f"is larger than {most // 2**20} MiB")
    return content


def _listed(path: Path, folders: bool) -> list[str]:
    """Return the names of the folders in a folder, or of all else, sorted."""
    try:
        with os.scandir(path) as items:
            return sorted(item.name for item in items if item.is_dir() == folders)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
