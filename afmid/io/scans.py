"""Reads a scan from whatever file it is in, known by its content; writes afmid's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.io import array_file, npz, ppafm_file, scan_file
from afmid.io.stream import opened, source_of, write_bytes
from afmid.scan import Scan


def read_scan(
    path: Path | str,
    *,
    pixel: float | None = None,
    step: float | None = None,
    order: str | None = None,
    tip: str | None = None,
) -> Scan:
    """Return the scan in a file: afmid's npz, a ppafm or ED-AFM npz, or a bare 3D array in a npy or npz.

    Args:
        path: the file, or "-" for stdin.
        pixel, step: pixel size and distance between images (Å) of a file that does not tell; they overrule a ppafm
            file, whose images are otherwise taken as 0.1 Å apart.
        order: "far-to-near" (taken where None) or "near-to-far": the images' order in a file that does not tell.
        tip: what ends the tip, for a file that does not tell; CO where None.

    Raises:
        DataError: no such file, or no scan in it; the message names the file and what to do.
    """
    source = source_of(path)
    try:
        with opened(path) as stream:
            arrays = _arrays(stream)
        return _scan(arrays, pixel, step, order, tip, source)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error


def write_scan(scan: Scan, path: Path | str) -> None:
    """Write `scan` as an afmid.scan/1 npz file, or to stdout where `path` is "-".

    Raises:
        DataError: the place cannot be written to, or `scan.meta` holds what JSON cannot.
    """
    write_bytes(npz.npz_bytes(scan_file.to_arrays(scan)), path)


def _arrays(stream: BinaryIO) -> dict[str, NDArray[Any]]:
    magic = stream.read(len(npz.NPY))
    stream.seek(0)
    if magic == npz.NPY:
        return {"": npz.read_npy(stream)}
    if magic.startswith(npz.ZIP):
        return npz.read_npz(stream)
    if magic.startswith(npz.PICKLE):
        raise DataError("looks like a pickle, which afmid never loads; save the array with np.save")
    if not magic:
        raise DataError("is empty; the program that wrote it may have failed")
    raise DataError("holds no scan that afmid can read; it reads afmid and ppafm npz files, and 3D arrays (npy, npz)")


def _scan(
    arrays: dict[str, NDArray[Any]],
    pixel: float | None,
    step: float | None,
    order: str | None,
    tip: str | None,
    source: str,
) -> Scan:
    if scan_file.is_scan(arrays):
        told = {"pixel": pixel, "step": step, "order": order, "tip": tip}
        if given := [name for name, value in told.items() if value is not None]:
            raise DataError(f"an afmid scan brings its own axes and tip; give no {given[0]} for it")
        return scan_file.from_arrays(arrays)
    if "atom_offsets" in arrays:
        raise DataError("is a molecule pack; simulate scans of it first: afmid simulate PACK -o scans/")
    if ppafm_file.is_ppafm(arrays):
        scan = ppafm_file.from_arrays(arrays, pixel, step, order, source)
    elif len(arrays) == 1:
        name, array = next(iter(arrays.items()))
        scan = array_file.from_array(array, name, pixel, step, order, source)
    else:
        names = ", ".join(map(repr, sorted(arrays)[:8])) or "none"
        raise DataError(f"holds no scan that afmid knows; its arrays are: {names}; save the stack alone, with np.save")
    return replace(scan, tip=tip or scan.tip)
