"""Other people's data sets, imitated."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

XYZ = "3\n{}\n8\t1.0\t2.0\t0.5\n1\t1.8\t2.5\t0.1\n1\t0.2\t2.1\t0.0\n"


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """Return grey pixels (rows, columns) with a bright spot that shows which way is up: near the upper left corner."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    spot = np.exp(-((rows - size[1] / 8) ** 2 + (columns - size[0] / 4) ** 2) / 8)
    return (200 * spot + 5 * seed + 3).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def quam(root: Path, cids=(12, 7), settings=((1, 40, 40), (24, 100, 140))) -> Path:
    """Write a folder as QUAM-AFM's, its image 000 the nearest: the one of the least seed."""
    for number, stiffness, amplitude in settings:
        for cid in cids:
            name = f"Conformer3D_CID_{cid}_K{stiffness:03d}_Amp{amplitude:03d}"
            folder = root / f"K-{number}" / name
            folder.mkdir(parents=True)
            for i in range(10):
                (folder / f"{name}_df_{i:03d}.jpg").write_bytes(encoded(picture(i), "jpeg"))
    for cid in cids:
        (root / "XYZ_FILES" / str(cid)).mkdir(parents=True)
        (root / "XYZ_FILES" / str(cid) / f"{cid}.xyz").write_text(XYZ.format(""))
    return root


def ml_spm(path: Path, keys=(0, 1), tips=2, window="Scan window: [[0.0 1.0 5.0], [16.0 1.7e1 6.9]]") -> Path:
    """Write a tar as ml-spm's TarWriter does, its slice 00 the farthest: the one of the greatest seed."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for key in keys:
            for tip in range(tips):
                for i in range(10):
                    add(tar, f"{key}.{i:02d}.{tip}.png", encoded(picture(9 - i + 10 * tip), "png"))
            add(tar, f"{key}.xyz", XYZ.format(window).encode())
            stream = io.BytesIO()
            np.save(stream, np.zeros((32, 32), np.float32))
            add(tar, f"{key}.desc_0.npy", stream.getvalue())
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(content), 1_700_000_000
    tar.addfile(info, io.BytesIO(content))
