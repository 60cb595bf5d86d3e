"""Where candidates come from: a molecule pack, or a list of molecules, or a single one, that is prepared at once."""

import logging
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from afmid.chem.names import find_named, parse
from afmid.data.pack import MoleculePack, read_pack
from afmid.data.prepare import PrepareOptions, prepare
from afmid.data.rows import Row, read_rows
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
        path: of the file; a large library is better prepared once, with `afmid prepare`. Where there is no such file, a
            SMILES or the name of a molecule that afmid knows.
        jobs: processes that make the geometries of a list.
        progress: called with the number of molecules that are done, and of all, while a list is prepared.

    Raises:
        DataError: no such file or molecule, or not one molecule in it.
    """
    if not is_there(path):
        rows = [row_named(str(path))]
    elif _is_pack(path):
        return read_pack(path)
    else:
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


def is_there(path: Path | str) -> bool:
    """Return whether there is such a file or folder; a long SMILES is no name that one can have."""
    with suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def row_named(text: str) -> Row:
    """Return a molecule by its name or its SMILES.

    Raises:
        DataError: it is neither.
    """
    if named := find_named(text):
        return Row(named[1], title=named[0])
    try:
        parse(text)
    except DataError as error:
        raise DataError(
            f"{text}: no such file, and no molecule of this SMILES or name; a library is a molecule pack (npz) or a "
            "list of SMILES"
        ) from error
    return Row(text)


def _is_pack(path: Path | str) -> bool:
    if Path(path).is_dir():
        return False
    with opened(path) as stream:
        return stream.read(len(npz.ZIP)) == npz.ZIP
