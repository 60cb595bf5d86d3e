"""Tars of ml-spm (https://github.com/SINGROUP/ml-spm), in webdataset's layout.

    KEY.<slice>.<tip>.png      an image; slices from far to near, tips from 0
    KEY.xyz                    the molecule; its comment has "Scan window: [[x y z], [x y z]]" (Å), two corners
    KEY.desc_<i>.npy           maps that a network learns; afmid makes its own, and does not read them

QUAM-AFM as ml-spm packs it differs: KEY.<slice>.jpg, slices from near to far, and a comment with Lattice="…", of which
the diagonal is the far corner and the origin the near one. The images are grey, each in a scale of its own: `df` holds
0 to 255 and no hertz. Assumed, for the files do not say: images 0.1 Å apart, pixels that begin at the window's corner,
and tips in the order of ED-AFM, CO and Xe.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.io import grey_image, tar_members, xyz_file
from afmid.io.shard_file import groups
from afmid.io.stream import opened
from afmid.io.tar_members import Member
from afmid.scan import Scan

log = logging.getLogger(__name__)

STEP = 0.1  # Å between images
TIPS = ("CO", "Xe")
MAX_XYZ = 2**20
MOST_IMAGES = 200
_IMAGE = re.compile(r"\.(\d+)(?:\.(\d+))?\.(png|jpe?g)$")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_WINDOW = re.compile(r"scan window:\s*\[\[([^\[\]]*)\],?\s*\[([^\[\]]*)\]\]", re.I)
_LATTICE = re.compile(r'lattice="([^"]*)"', re.I)


@dataclass(frozen=True)
class TarSample:
    """Where the images of one scan are, by their slices' numbers, from far to near, and its molecule."""

    key: str
    tip: int
    images: Mapping[int, Member]
    xyz: Member | None

    @property
    def name(self) -> str:
        """The key, and the tip's number where there are several."""
        return f"{self.key}.{self.tip}"


def open_tar(path: Path | str) -> list[TarSample]:
    """Return the scans in a tar: of each sample one for each tip.

    Raises:
        DataError: no such file, damaged, or without images.
    """
    samples = list[TarSample]()
    with opened(path) as stream:
        try:
            for key, group in groups(stream):
                samples += _of_sample(key, group)
        except DataError as error:
            if not samples:
                raise
            log.warning("%s: %s; whole samples before: %d", path, error, len(samples))
    if not samples:
        raise DataError("holds no scans: neither afmid's samples nor images of ml-spm")
    return samples


def read_tar_sample(path: Path | str, sample: TarSample) -> Scan:
    """Return a scan; its truth has neither bonds nor charges, which are not in the tar.

    Raises:
        DataError: an image or the molecule is missing or damaged.
    """
    if sample.xyz is None:
        raise DataError("has no .xyz, and so no scan window")
    if len(sample.images) > MOST_IMAGES:
        raise DataError(f"has {len(sample.images)} images; afmid reads up to {MOST_IMAGES}")
    if max(sample.images) - min(sample.images) >= len(sample.images):
        raise DataError(f"slices are missing; it has {', '.join(map(str, sorted(sample.images)))}")
    with opened(path) as stream:
        xyz = tar_members.read(stream, sample.xyz, MAX_XYZ)
        images = []
        for member in sample.images.values():
            try:
                images.append(grey_image.read_grey(tar_members.read(stream, member, grey_image.MAX_BYTES)))
            except DataError as error:
                raise DataError(f"{member.name}: {error}") from error
    if len({image.shape for image in images}) > 1:
        raise DataError("its images differ in size")
    truth = xyz_file.atoms_from_text(xyz.decode(errors="replace"), sample.key).topmost_at_zero()
    low, high = _window(xyz.splitlines()[1].decode(errors="replace"))  # text would be split at form feeds too
    heights = [float(low[2]), float(high[2])]
    stack = np.stack(images, axis=-1)
    x, y = (low[i] + np.arange(stack.shape[i]) * (high[i] - low[i]) / stack.shape[i] for i in (0, 1))
    return Scan(
        stack,
        x=x,
        y=y,
        z=STEP * np.arange(len(images), dtype=np.float64)[::-1],
        tip=TIPS[sample.tip] if sample.tip < len(TIPS) else f"tip {sample.tip}",
        source=sample.name,
        meta={"ml_spm": {"units": "grey values of each image, no hertz", "window_z_angstrom": heights}},
        truth=truth,
    )


def _of_sample(key: str, group: Sequence[Member]) -> list[TarSample]:
    """Return the scans of a sample, one for each tip."""
    slices: dict[int, dict[int, Member]] = defaultdict(dict)
    near_first = False
    for member in group:
        if found := _IMAGE.search(member.name):
            slices[int(found[2] or 0)][int(found[1])] = member
            near_first |= found[3] != "png"
    xyz = next((member for member in group if member.name.endswith(".xyz")), None)
    return [
        TarSample(key, tip, dict(sorted(images.items(), reverse=near_first)), xyz)
        for tip, images in sorted(slices.items())
    ]


def _window(comment: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two opposite corners (Å) of the scan window."""
    if found := _WINDOW.search(comment):
        corners = [re.findall(_NUMBER, part, re.I) for part in found.groups()]
    elif found := _LATTICE.search(comment):
        vectors = re.findall(_NUMBER, found[1], re.I)
        corners = [["0"] * 3, vectors[::4] if len(vectors) == 9 else []]
    else:
        raise DataError(f"its xyz names no scan window: {comment[:80]!r}")
    if any(len(corner) != 3 for corner in corners):
        raise DataError(f"its scan window cannot be read: {comment[:120]!r}")
    low, high = np.array(corners, np.float64)
    if not (np.isfinite([low, high]).all() and (high[:2] > low[:2]).all()):
        raise DataError(f"its scan window is empty: {comment[:120]!r}")
    return low, high
