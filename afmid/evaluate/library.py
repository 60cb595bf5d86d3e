"""Where candidates come from: a molecule pack, or a list of molecules that is prepared at once."""

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from afmid.data.pack import MoleculePack, read_pack
from afmid.data.prepare import PrepareOptions, prepare
from afmid.data.rows import read_rows
from afmid.errors import DataError
from afmid.io import npz
from afmid.io.stream import opened

log = logging.getLogger(__name__)

MOST_TOLD = 5  # rows that are left out
CONFORMERS = 2  # of each molecule of a list, about half of them pressed


def open_library(
    path: Path | str, jobs: int = 1, progress: Callable[[int, int], None] = lambda done, total: None
) -> MoleculePack:
    """Return the candidates in a file: a molecule pack, or a list of SMILES, an sdf, mol or xyz file, or a folder.

    Args:
        path: of the file; a large library is better prepared once, with `afmid prepare`.
        jobs: processes that make the geometries of a list.
        progress: called with the number of molecules that are done, and of all, while a list is prepared.

    Raises:
        DataError: no such file, or not one molecule in it.
    """
    if not Path(path).exists():
        raise DataError(f"{path}: no such file; a library is a molecule pack (npz) or a list of SMILES")
    if _is_pack(path):
        return read_pack(path)
    rows = list(read_rows([str(path)]))
    try:
        with closing(prepare(rows, PrepareOptions(conformers=CONFORMERS), jobs=jobs)) as steps:
            for step in steps:
                progress(step.done, len(rows))
                pack = step.pack
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if pack is None:
        raise AssertionError("the last progress brings the pack")
    if failures := step.failures:
        told = failures[:MOST_TOLD]
        some = "; ".join(f"row {failure.row} ({failure.smiles[:40]}): {failure.reason}" for failure in told)
        more = f"; and {len(failures) - MOST_TOLD} more" * (len(failures) > MOST_TOLD)
        log.warning("%s: left out %d of %d rows: %s%s", path, len(failures), len(rows), some, more)
    return pack


def _is_pack(path: Path | str) -> bool:
    if Path(path).is_dir():
        return False
    with opened(path) as stream:
        return stream.read(len(npz.ZIP)) == npz.ZIP
