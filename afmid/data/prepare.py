"""From a list of SMILES to a molecule pack: geometries and charges by RDKit, splits by InChIKey, failures counted."""

import csv
import gzip
import hashlib
import io
import itertools
import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

from afmid.data.pack import MAX_ATOMS, MoleculePack, concatenate, misfit
from afmid.data.workers import LostError, in_order, kept_warnings
from afmid.errors import AfmidError, DataError
from afmid.molecule import LEARNT, SYMBOLS, Molecule

log = logging.getLogger(__name__)

TRAIN, VAL = 0.90, 0.95  # upper ends of the splits
TIMEOUT_S = 60.0
MAX_LINE = 20_000  # characters
MAX_LINES = 5_000_000
MAX_CHARACTERS = 2**30
GZIP = b"\x1f\x8b"
REPORT_EVERY = 50  # molecules


class Row(NamedTuple):
    """A molecule of a list; `split` is None where the list does not give it."""

    smiles: str
    source: str = ""
    split: str | None = None


@dataclass(frozen=True)
class Progress:
    """How far `prepare` is; `pack` comes with the last one."""

    done: int
    failed: Mapping[str, int]
    pack: MoleculePack | None = None


class _Kept(NamedTuple):
    conformers: tuple[Molecule, ...]
    source: str
    split: str


@dataclass(frozen=True)
class _Made:
    """What became of a row: its conformers, or why there are none."""

    inchikey: str = ""
    conformers: tuple[Molecule, ...] = ()
    failure: str = ""
    detail: str = ""
    notes: tuple[str, ...] = ()


def read_smiles_list(path: Path | str) -> Iterator[Row]:
    """Yield the molecules of a list, which may be gzipped: a csv with a column `smiles`, or one SMILES per line.

    A csv may have columns `source` and `split`; of a plain list the first word of each line counts, and a line that
    starts with # is a comment. The file's name is the source where none is given.

    Raises:
        DataError: no such file, no list of SMILES, or one beyond `MAX_LINES` or `MAX_CHARACTERS` (unpacked).
    """
    path = Path(path)
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            magic = raw.read(2)
            raw.seek(0)
            unpacked = stack.enter_context(gzip.open(raw)) if magic == GZIP else raw
            yield from _rows(io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline=""), path.name)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read as a list of SMILES: {reason}") from error


def prepare(
    rows: Iterable[Row | tuple[str, str, str | None]],
    *,
    seed: int = 0,
    jobs: int = 1,
    conformers: int = 1,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Progress]:
    """Make a pack of the molecules in `rows`; yield the progress now and then, last with the pack.

    The order of the rows is kept, and `jobs` does not change the result. Molecules with elements that are not learnt,
    duplicates (by InChIKey), failures and those that take longer than `timeout_s` are left out, counted by reason and
    logged. A split that the row does not give follows from the InChIKey: see `split_of`.

    Args:
        seed: of the conformers.
        jobs: processes. With 1 all runs in this process, and RDKit's own limits alone stop a slow molecule.
        conformers: per molecule, under seeds `seed`, `seed + 1`, …

    Raises:
        DataError: not one molecule could be made.
    """
    listed = [Row(*row) for row in rows]
    make = partial(_make, seed=seed, conformers=conformers)
    kept: list[_Kept] = []
    failed: Counter[str] = Counter()
    seen: set[str] = set()
    noted = 0
    with closing(in_order(make, listed, jobs if jobs > 1 else 0, timeout_s)) as results:
        for done, (row, made) in enumerate(results, 1):
            if isinstance(made, LostError):
                made = _Made(failure=made.kind, detail=str(made))
            elif isinstance(made, AfmidError):
                raise made
            if made.inchikey in seen:
                made = _Made(failure="duplicate", detail=f"has the InChIKey {made.inchikey} of another row")
            for note in made.notes:
                log.info("row %d: %s", done, note)
            noted += bool(made.notes)
            if made.failure:
                failed[made.failure] += 1
                log.info("row %d, %s: left out: %s", done, row.smiles, made.detail)
            else:
                seen.add(made.inchikey)
                kept.append(_Kept(made.conformers, row.source, row.split or split_of(made.inchikey)))
            if done % REPORT_EVERY == 0:
                yield Progress(done, dict(failed))
    reasons = ", ".join(f"{count} {reason}" for reason, count in failed.most_common())
    if not kept:
        raise DataError(f"no molecule of the list could be prepared: {reasons or 'it is empty'}")
    if failed or noted:
        log.warning("of %d rows left out: %s; charges other than MMFF94's: %d", len(listed), reasons or "none", noted)
    meta = {
        "seed": seed,
        "conformers": conformers,
        "rows": len(listed),
        "molecules": len(kept),
        "failed": dict(failed),
        "other_charges": noted,
    }
    pack = concatenate([k.conformers for k in kept], [k.source for k in kept], [k.split for k in kept], meta)
    yield Progress(len(listed), dict(failed), pack)


def split_of(inchikey: str) -> str:
    """Return the split of a molecule: 90 % train, 5 % val, 5 % test, by the hash of its InChIKey's first block.

    All stereoisomers of a skeleton are in the same split, in any list.
    """
    digest = hashlib.sha256(b"split" + inchikey.partition("-")[0].encode()).hexdigest()
    share = int(digest[:12], 16) / 16**12
    return "train" if share < TRAIN else "val" if share < VAL else "test"


def _rows(file: TextIO, name: str) -> Iterator[Row]:
    first = file.readline(MAX_LINE).strip()
    header = [column.strip().lower() for column in next(csv.reader([first]), [])]
    if "smiles" in header:
        for record in csv.DictReader(_lines(file), header):
            if smiles := (record["smiles"] or "").strip():
                yield Row(smiles, record.get("source") or name, record.get("split") or None)
        return
    if "," in first:
        raise DataError(f"its first line names no column 'smiles': {first[:80]!r}")
    for line in (first, *_lines(file)):
        if (words := line.split()) and not words[0].startswith("#"):
            yield Row(words[0], name)


def _lines(file: TextIO) -> Iterator[str]:
    characters = 0
    for count in itertools.count():
        if not (line := file.readline(MAX_LINE)):
            return
        if len(line) == MAX_LINE:
            raise DataError(f"a line is longer than {MAX_LINE} characters; is this a list of SMILES?")
        characters += len(line)
        if count == MAX_LINES or characters > MAX_CHARACTERS:
            raise DataError(f"has more than {MAX_LINES:,} lines or {MAX_CHARACTERS:,} characters; split it first")
        yield line


def _make(row: Row, seed: int, conformers: int) -> _Made:
    with kept_warnings("afmid.chem") as records:
        made = _made(row.smiles, seed, conformers)
    return replace(made, notes=tuple(record.getMessage() for record in records))


def _made(smiles: str, seed: int, conformers: int) -> _Made:
    from afmid import chem

    try:
        atoms = chem.composition(smiles)
        inchikey = chem.inchikey(smiles)
    except DataError as error:
        return _Made(failure="smiles", detail=str(error))
    if other := sorted(set(atoms) - set(LEARNT)):
        return _Made(failure="element", detail=f"{SYMBOLS[other[0]]} is not among the elements that are learnt")
    if sum(atoms.values()) > MAX_ATOMS:
        return _Made(failure="size", detail=f"has more than {MAX_ATOMS} atoms")
    try:
        made = tuple(chem.embed(smiles, seed + i) for i in range(conformers))
    except DataError as error:
        return _Made(failure="geometry", detail=str(error))
    if problem := next(filter(None, map(misfit, made)), ""):
        return _Made(failure="size", detail=problem)
    return _Made(inchikey, made)
