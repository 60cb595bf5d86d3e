"""Reads a molecule from a file, known by its content, a SMILES or a name; writes xyz and sdf."""

import re
from collections.abc import Callable
from pathlib import Path

from afmid.errors import DataError
from afmid.io import sdf_file, xyz_file
from afmid.io.atomic import atomic_path
from afmid.io.stream import STREAM, opened, source_of
from afmid.molecule import Molecule

MAX_BYTES = 64 * 2**20
WRITERS: dict[str, Callable[[Molecule], str]] = {
    ".xyz": xyz_file.to_text,
    ".extxyz": xyz_file.to_text,
    ".sdf": sdf_file.to_text,
    ".mol": sdf_file.to_text,
}


def read_molecule(text: Path | str) -> Molecule:
    """Return a molecule from a file (xyz, extended xyz, sdf, mol), from stdin ("-"), a SMILES, or a known name.

    A file comes first, then a name in any case, then SMILES. Charges that a file does not give are MMFF94's, else
    Gasteiger's, else zero, with a warning; bonds that it does not give are perceived from the distances. A folder is
    no file, unless `text` looks like a path.

    Raises:
        DataError: none of these, or a file that holds no molecule; the message says what was tried.
    """
    if not str(text).strip():
        raise DataError("no molecule given; give a file (xyz, sdf, mol), a SMILES or a name")
    if str(text) == STREAM or _is_file(text):
        source = source_of(text)
        try:
            return _from_text(_text(text), source)
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
    if isinstance(text, Path):
        raise DataError(f"{text}: no such file")
    return _from_words(text.strip())


def write_molecule(molecule: Molecule, path: Path | str) -> None:
    """Write `molecule` as extended xyz (with charges) or sdf (with bonds), by the suffix of `path`.

    Raises:
        DataError: another suffix, or the place cannot be written to.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise DataError(f"{path}: molecules are written as {', '.join(WRITERS)}; give one of these suffixes")
    content = WRITERS[suffix](molecule)
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _is_file(text: Path | str) -> bool:
    try:
        path = Path(text)
        return path.is_file() or (path.exists() and (isinstance(text, Path) or looks_like_path(text)))
    except (OSError, ValueError):  # too long for a file name, or with a NUL
        return False


def _text(path: Path | str) -> str:
    with opened(path, MAX_BYTES) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataError(f"is larger than {MAX_BYTES // 2**20} MiB; give one molecule")
    if b"\0" in content:
        raise DataError("is no text; molecules are read from xyz, sdf and mol files")
    return content.decode("utf-8", errors="replace")


def _from_text(text: str, source: str) -> Molecule:
    lines = text.splitlines()
    if not text.strip():
        raise DataError("is empty; a molecule needs at least one atom")
    if xyz_file.COUNT.fullmatch(lines[0]):
        return xyz_file.from_text(text, Path(source).stem)
    if any(re.search(r"V[23]000\s*$", line) for line in lines[:4]):
        return sdf_file.from_text(text, Path(source).stem)
    raise DataError("holds no molecule that afmid can read; it reads xyz, extended xyz, sdf and mol files")


def _from_words(text: str) -> Molecule:
    from afmid import chem

    if named := chem.find_named(text):
        name, smiles = named
        return chem.embed(smiles, name=name)
    try:
        return chem.embed(text)
    except chem.SmilesError as error:
        if looks_like_path(text):
            raise DataError(f"{text[:200]}: no such file (and neither a SMILES nor a name that afmid knows)") from error
        raise DataError(
            f"{text[:80]!r} is no file, no valid SMILES and no name that afmid knows; "
            "give an xyz or sdf file, or a SMILES in quotes"
        ) from error


def looks_like_path(text: str) -> bool:
    """Return whether a text that is no file was probably meant as one."""
    return bool(re.search(r"\.(xyz|extxyz|sdf|mol|mol2|pdb|cif|smi|csv|npz|npy|txt)$", text, re.I)) or text.startswith(
        ("/", "./", "../", "~")
    )
