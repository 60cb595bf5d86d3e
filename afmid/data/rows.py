"""What `prepare` starts from: the molecules of lists of SMILES, sdf files and folders, one row each, as text.

Nothing is parsed but the lines, so that a damaged molecule fails alone, in the process that prepares it.
"""

import csv
import gzip
import hashlib
import io
import itertools
import json
import logging
import random
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from afmid.errors import DataError
from afmid.io.stream import opened, source_of

log = logging.getLogger(__name__)

MAX_LINE = 20_000  # characters
MAX_LINES = 5_000_000  # of a list
MAX_CHARACTERS = 2**30
MAX_RECORD = 2**22  # characters of one molecule in an sdf or xyz file
GZIP = b"\x1f\x8b"
LISTS = (".csv", ".smi", ".smiles", ".txt")
GEOMETRIES = (".xyz", ".extxyz", ".sdf", ".mol")
END = "$$$$"  # of a record in an sdf file


class Geometry(NamedTuple):
    """A molecule in a file: its text there, as xyz ("xyz") or mol ("sdf"), and what messages call it."""

    text: str
    format: str
    name: str


class Row(NamedTuple):
    """A molecule of a list, by its SMILES, or one of another file, by its geometry.

    Attributes:
        smiles: "" where it follows from the geometry.
        source: where it comes from.
        split: in small letters; None where the list does not give it.
        flat: how flat it can lie, 0 … 1; None where the list does not say.
        geometry: None for a SMILES.
        title: the molecule's name, where the list gives one.
    """

    smiles: str
    source: str = ""
    split: str | None = None
    flat: float | None = None
    geometry: Geometry | None = None
    title: str = ""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.geometry.name if self.geometry else self.smiles


def read_rows(inputs: Sequence[str]) -> Iterator[Row]:
    """Yield the molecules of lists (see `read_smiles_list`), sdf, mol and xyz files, and folders of the latter.

    All may be gzipped. The source of a molecule in a file is the file's name, in a folder the folder's.

    Raises:
        DataError: one of them cannot be read, or is too large.
    """
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            yield from _folder(path)
        elif _suffix(path) in GEOMETRIES:
            yield from read_geometries(path, path.name)
        else:
            yield from read_smiles_list(text)


def read_smiles_list(path: Path | str) -> Iterator[Row]:
    """Yield the molecules of a list, which may be gzipped: a csv with a column `smiles`, or one SMILES per line.

    A csv may have columns `name`, `source`, `split` (in any case) and `flat`; in a plain list the name follows the
    SMILES, up to a tab after it, and a line that starts with # is a comment. The file's name is the source where none
    is given. "-" is stdin.

    Raises:
        DataError: no such file, no list of SMILES, or one beyond `MAX_LINES` or `MAX_CHARACTERS` (unpacked).
    """
    with _text(path, "a list of SMILES") as file:
        yield from _rows(file, Path(source_of(path)).name)


def read_geometries(path: Path, source: str) -> Iterator[Row]:
    """Yield all molecules of an sdf, mol or xyz file, which may be gzipped.

    Raises:
        DataError: no such file, no text, or one beyond `MAX_RECORD` or `MAX_CHARACTERS` (unpacked).
    """
    form = "xyz" if _suffix(path) in (".xyz", ".extxyz") else "sdf"
    with _text(path, f"an {form} file") as file:
        records = (_frames if form == "xyz" else _records)(_lines(file, MAX_CHARACTERS))
        first = next(records, "")
        for number, record in enumerate(itertools.chain([first], records), 1):
            name = path.name if number == 1 else f"{path.name}, molecule {number}"
            title = record.partition("\n")[0].strip() if form == "sdf" else ""
            yield Row("", source, geometry=Geometry(record, form, name), title=title)


def select(rows: Iterable[Row], limit: int | None = None, flat_first: bool = False, seed: int = 0) -> list[Row]:
    """Return `limit` of the rows in their order: drawn by chance, or the flattest ones; all where `limit` is None.

    How flat a row can lie is its `flat`, else afmid.chem.flatness. Among equally flat ones chance decides.
    """
    listed = list(rows)
    if limit is None or limit >= len(listed):
        return listed
    drawn = random.Random(seed).sample(range(len(listed)), len(listed) if flat_first else limit)  # noqa: S311 (no secret)
    if flat_first:
        flat = [_flat(row) for row in listed]
        drawn = sorted(drawn, key=lambda i: -flat[i])[:limit]
    return [listed[i] for i in sorted(drawn)]


def rows_sha256(rows: Iterable[Row]) -> str:
    """Return the SHA-256 of all that is known of the rows, in their order; a pack keeps it as meta["rows_sha256"]."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _flat(row: Row) -> float:
    if row.flat is not None:
        return row.flat
    from afmid.data.conformers import flatness_of

    return flatness_of(row)


def molecule_files(folder: Path, packed: bool = True) -> list[Path]:
    """Return the sdf, mol and xyz files of a folder by their names; others are skipped with a warning.

    Args:
        packed: those that are gzipped too.

    Raises:
        DataError: there are none, or the folder cannot be read.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    molecules = [file for file in files if (_suffix(file) if packed else file.suffix.lower()) in GEOMETRIES]
    if not molecules:
        raise DataError(f"{folder}: holds no molecule files ({', '.join(GEOMETRIES)})")
    if skipped := len(files) - len(molecules):
        log.warning("%s: files that are none of %s are skipped: %d", folder, ", ".join(GEOMETRIES), skipped)
    return molecules


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _folder(path: Path) -> Iterator[Row]:
    for file in molecule_files(path):
        yield from read_geometries(file, path.resolve().name)


@contextmanager
def _text(path: Path | str, kind: str) -> Iterator[TextIO]:
    """Open a file, or stdin for "-", as text, unpacked. Raises DataError, also for what happens in the block."""
    source = source_of(path)
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(opened(path, MAX_CHARACTERS))
            magic = raw.read(2)
            raw.seek(0)
            unpacked = stack.enter_context(gzip.open(raw)) if magic == GZIP else raw
            yield io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="")
    except DataError as error:
        raise DataError(f"{source}: {error}") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{source}: cannot be read as {kind}: {reason}") from error


def _rows(file: TextIO, name: str) -> Iterator[Row]:
    first = file.readline(MAX_LINE).strip()
    header = [column.strip().lower() for column in next(csv.reader([first]), [])]
    if "smiles" in header:
        for record in csv.DictReader(_lines(file, MAX_CHARACTERS, MAX_LINES), header):
            keys = ("smiles", "source", "split", "name")
            smiles, source, split, title = ((record.get(key) or "").strip() for key in keys)
            if smiles:
                yield Row(smiles, source or name, split.lower() or None, _share(record.get("flat")), title=title)
        return
    for mark in ";|\t":
        columns = [column.strip(' "').lower() for column in first.split(mark)]
        if "smiles" in columns and first.split()[0].lower() != "smiles":
            raise DataError(f"its first line separates columns by {mark!r}; separate them by commas: {first[:80]!r}")
    if "," in first.partition(" ")[0].partition("\t")[0] and not first.startswith("#"):
        raise DataError(f"its first line names no column 'smiles': {first[:80]!r}")
    for line in (first, *_lines(file, MAX_CHARACTERS, MAX_LINES)):
        if (words := line.split(maxsplit=1)) and not words[0].startswith("#"):
            yield Row(words[0], name, title=_after_smiles(*words[1:]))


def _after_smiles(text: str = "") -> str:
    """Return the name that follows a SMILES, and an extension such as |c:0,1| to it."""
    return re.sub(r"^\|[^|]*\|\s*", "", text).partition("\t")[0].strip()


def _share(word: str | None) -> float | None:
    try:
        share = float(word or "")
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None


def _lines(file: TextIO, most_characters: int, most_lines: int | None = None) -> Iterator[str]:
    characters = 0
    for count in itertools.count():
        if not (line := file.readline(MAX_LINE)):
            return
        if len(line) == MAX_LINE:
            raise DataError(f"a line is longer than {MAX_LINE} characters; is this a list of SMILES?")
        characters += len(line)
        if count == most_lines:
            raise DataError(f"has more than {most_lines:,} lines; split it first")
        if characters > most_characters:
            raise DataError(f"has more than {most_characters:,} characters; split it first")
        yield line


def _records(lines: Iterator[str]) -> Iterator[str]:
    """Yield the molecules of an sdf file; what follows the last end, if anything, is one too."""
    record: list[str] = []
    for line in _bounded(lines, record):
        record.append(line)
        if line.startswith(END):
            yield "".join(record)
            record.clear()
    if "".join(record).strip():
        yield "".join(record)


def _frames(lines: Iterator[str]) -> Iterator[str]:
    """Yield the molecules of an xyz file, each a count, a comment and as many atoms; what fits no count is one too."""
    record: list[str] = []
    atoms = 0
    for line in _bounded(lines, record):
        if not record:
            if not line.strip():
                continue
            count = re.fullmatch(r"\s*([0-9]{1,6})\s*", line)
            atoms = int(count[1]) if count else MAX_RECORD
        record.append(line)
        if len(record) == atoms + 2:
            yield "".join(record)
            record.clear()
    if record:
        yield "".join(record)


def _bounded(lines: Iterator[str], record: list[str]) -> Iterator[str]:
    """Yield the lines while the record that they go into is of a size that a molecule may have."""
    size = 0
    for line in lines:
        size = size + len(line) if record else len(line)
        if size > MAX_RECORD:
            raise DataError(f"a molecule takes more than {MAX_RECORD:,} characters; is the file damaged?")
        yield line
