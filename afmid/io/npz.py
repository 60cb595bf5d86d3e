"""npy and npz files from strangers: NumPy's format, read within bounds and without pickle.

What a file declares (the zip's directory, each array's header) is checked before memory is taken for it.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError

ZIP = b"PK"
NPY = b"\x93NUMPY"
PICKLE = b"\x80"
MAX_BYTES = 2**30  # of all arrays of a file together
MAX_ARRAYS = 1000
MAX_RATIO = 200  # a compression beyond this smells of a zip bomb …
SMALL = 64 * 2**20  # … unless the file is small when unpacked (a stack of zeros is legitimate)
_BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError)


def read_npz(
    stream: BinaryIO, max_bytes: int = MAX_BYTES, only: Collection[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Return the arrays of a npz file by name, or those among them that are named in `only`.

    Raises:
        DataError: cut short, damaged, too large when unpacked, or holding anything but plain arrays.
    """
    with _readable():
        archive = zipfile.ZipFile(stream)
    with archive:
        members = archive.infolist()
        _check_sizes(members, max_bytes)
        arrays: dict[str, NDArray[Any]] = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if only is not None and name not in only:
                continue
            with _readable(f"{called(name)}: "), archive.open(member) as file:
                arrays[name] = _read_array(file, called(name), member.file_size)
                file.read()  # to its end, where zipfile compares the checksum
    return arrays


def read_npy(stream: BinaryIO, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Return the array of a npy file.

    Raises:
        DataError: cut short, damaged, too large, or not a plain array.
    """
    with _readable():
        start = stream.tell()
        size = stream.seek(0, io.SEEK_END) - start
        stream.seek(start)
        if size > max_bytes:
            raise DataError(f"{_gib(size)} of data; afmid reads up to {_gib(max_bytes)}; crop it first")
        return _read_array(stream, called(""), size)


def npz_bytes(arrays: Mapping[str, NDArray[Any]], compress: bool = False) -> bytes:
    """Return `arrays` as the bytes of a npz file; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that time does not change the bytes
            member.compress_type = archive.compression
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def called(name: str) -> str:
    """Return what to call an array in messages; the one of a npy file has no name."""
    return f"array {name!r}" if name else "the array"


@contextmanager
def _readable(where: str = "") -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise DataError(f"{where}damaged or cut short ({str(error)[:100]!r}); copy the file again") from error


def _check_sizes(members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    if len(members) > MAX_ARRAYS:
        raise DataError(f"holds {len(members)} entries; afmid reads at most {MAX_ARRAYS}")
    unpacked = sum(member.file_size for member in members)
    packed = max(1, sum(member.compress_size for member in members))
    if unpacked > max_bytes:
        raise DataError(f"unpacks to {_gib(unpacked)}; afmid reads up to {_gib(max_bytes)}; crop it first")
    if unpacked > SMALL and unpacked > MAX_RATIO * packed:
        raise DataError(f"unpacks to {unpacked // packed} times its size; refused as a likely zip bomb")
    for member in members:
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
            raise DataError(f"{member.filename!r} is encrypted or packed in an unusual way; save it with np.savez")
        if not member.filename.endswith(".npy"):
            raise DataError(f"holds {member.filename[:80]!r}, which is no array; give a file written by np.savez")


def _read_array(file: Any, what: str, size: int) -> NDArray[Any]:
    if size < len(NPY) + 4:
        raise DataError(f"{what}: damaged or cut short ({size} bytes); copy the file again")
    head = io.BytesIO(file.read(min(size, 2**16)))  # a header is limited to 10,000 characters by NumPy
    version = np.lib.format.read_magic(head)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(head)
    if dtype.hasobject:
        raise DataError(f"{what} holds python objects (a pickle), which afmid never loads; save plain numbers")
    if dtype.names or dtype.subdtype:
        raise DataError(f"{what} holds records; save plain numbers")
    have = size - head.tell()
    need = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or need != have:
        raise DataError(f"{what}: header says {need} bytes, the file holds {have}; it looks cut short")
    file.seek(-len(head.getvalue()), io.SEEK_CUR)
    return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
