"""From molecules as text to a molecule pack: geometries and charges by RDKit, splits by InChIKey, failures counted."""

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, field_validator

import afmid
from afmid.data.pack import MAX_ATOMS, MoleculePack, concatenate, joined
from afmid.data.parts import Failure, Part, Parts, Record
from afmid.data.rows import Row, rows_sha256
from afmid.data.workers import LostError, in_order
from afmid.errors import AfmidError, DataError
from afmid.molecule import LEARNT, SYMBOLS

if TYPE_CHECKING:
    from afmid.data.conformers import Made

log = logging.getLogger(__name__)

TRAIN, VAL = 0.90, 0.95  # upper ends of the splits
SEEN = {"train": 2, "val": 1}  # how much training sees of a split; nothing of any other
TIMEOUT_S = 60.0
REPORT_EVERY = 50  # molecules
PART_ROWS = 50
CLUSTER_ROWS = 16  # in one task: a second of work, beside which its way there and back is nothing


class PrepareOptions(BaseModel, extra="forbid", frozen=True):
    """What the molecules of a pack depend on beside the list."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="the same seed gives the same pack")
    conformers: int = Field(1, ge=1, le=100, description="geometries of each molecule that comes without one")
    press: float = Field(
        0.5, ge=0, le=1, description="share of them that are pressed flat, as a surface would hold the molecule"
    )
    elements: str = Field(
        ",".join(SYMBOLS[n] for n in LEARNT), description="leave out molecules with elements other than these"
    )
    max_atoms: int = Field(MAX_ATOMS, ge=1, le=MAX_ATOMS, description="leave out molecules with more atoms")

    @field_validator("elements")
    @classmethod
    def _symbols(cls, text: str) -> str:
        symbols = {word.strip().capitalize() for word in text.split(",") if word.strip()}
        if unknown := sorted(symbols - set(SYMBOLS[1:])):
            raise ValueError(f"there is no element {unknown[0]!r}; write symbols such as H,C,N,O")
        return ",".join(sorted(symbols, key=SYMBOLS.index))

    @property
    def numbers(self) -> set[int]:
        """Atomic numbers of the elements."""
        return {SYMBOLS.index(symbol) for symbol in self.elements.split(",")}


@dataclass(frozen=True)
class Progress:
    """How far `prepare` is.

    Attributes:
        done: rows; `before` of them were done by an earlier call, `kept` are in finished parts.
        failed: how many are left out, by reason; duplicates are found in the end.
        pack: comes with the last one, as do `failures`: all rows that are left out.
    """

    done: int
    failed: Mapping[str, int]
    pack: MoleculePack | None = None
    failures: Sequence[Failure] = ()
    before: int = 0
    kept: int = 0


class NothingMadeError(DataError):
    """Not one molecule of a list could be made; `failures` says why."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        counts = Counter(failure.reason for failure in failures).most_common()
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
        first = f"; the first: row {failures[0].row}: {failures[0].detail}" if failures else ""
        super().__init__(f"no molecule of the list could be prepared: {reasons or 'it is empty'}{first}")
        self.failures = failures


def prepare(
    rows: Sequence[Row],
    options: PrepareOptions = PrepareOptions(),  # noqa: B008 (frozen)
    *,
    jobs: int = 1,
    scheduler: str = "",
    parts: Parts | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Generator[Progress, None, None]:
    """Make a pack of the molecules in `rows`; yield the progress now and then, last with the pack.

    The order of the rows is kept, and neither `jobs` nor `scheduler` changes the result, unless a molecule takes longer
    than `timeout_s` allows. A geometry that is given is kept, and is the molecule's only one. Molecules with other
    elements, duplicates (by InChIKey) and failures are left out, counted by reason, listed, and logged at INFO.

    All stereoisomers of a molecule are in one split: that which a row names for one of them, be it a duplicate. Where
    rows name several, it is what training sees least: any other before val, val before train. Without any it follows
    from the InChIKey: see `own_split`.

    Args:
        jobs: processes. With 1 all runs in this process.
        scheduler: address of a Dask cluster that takes the place of processes. There, as in this process, RDKit's own
            limits alone stop a slow molecule.
        parts: where finished parts are kept, so that the same call goes on after a kill, until `Parts.clear`.
        timeout_s: for one embedding; a process may take that for each conformer, and for each trial of a pressed one.

    Raises:
        NothingMadeError: not one molecule could be made.
        DataError: `parts` are those of another job.
        AfmidError: the processes do not start, or the cluster does not answer.
    """
    job = _job(rows, options)
    if parts:
        parts.begin(job)
    starts = range(0, len(rows), PART_ROWS)
    finished = {i: part for i in range(len(starts)) if parts and (part := parts.read(i))}
    done = before = sum(len(rows[starts[i] : starts[i] + PART_ROWS]) for i in finished)
    failed = Counter(failure.reason for part in finished.values() for failure in part.record.failures)
    if done:
        log.info("%d of %d rows were prepared before", done, len(rows))
        yield Progress(done, dict(failed), before=before, kept=done)
    todo = itertools.chain.from_iterable(
        rows[start : start + PART_ROWS] for i, start in enumerate(starts) if i not in finished
    )
    kept = done if parts else 0
    made = _made(todo, options, jobs, scheduler, timeout_s)
    with closing(made):
        for i, start in enumerate(starts):
            if i in finished:
                continue
            results: list[Made] = []
            for row in rows[start : start + PART_ROWS]:
                results.append(next(made))
                done += 1
                _log(start + len(results), row, results[-1])
                failed.update([results[-1].failure] if results[-1].failure else [])
                if done % REPORT_EVERY == 0:
                    yield Progress(done, dict(failed), before=before, kept=kept)
            finished[i] = _part(start, rows[start : start + PART_ROWS], results)
            if parts:
                parts.write(i, finished[i])
                kept = done
    in_all = [finished[i] for i in range(len(starts))]
    if not any(part.record.rows for part in in_all):
        raise NothingMadeError([failure for part in in_all for failure in part.record.failures])
    yield replace(_joined(in_all, job), before=before)


def split_of(inchikey: str) -> str:
    """Return the split of a molecule: 90 % train, 5 % val, 5 % test, by the hash of its InChIKey's first block.

    All stereoisomers of a skeleton are in the same split, in any list that names none.
    """
    digest = hashlib.sha256(b"split" + _skeleton(inchikey).encode()).hexdigest()
    share = int(digest[:12], 16) / 16**12
    return "train" if share < TRAIN else "val" if share < VAL else "test"


def own_split(inchikey: str) -> str:
    """Return the split of a molecule for which no list names one: that of `split_of`.

    But molecules that experiments have shown are "test", as a suite is made of them.
    """
    return "test" if _skeleton(inchikey) in _imaged() else split_of(inchikey)


@cache
def _imaged() -> frozenset[str]:
    from afmid.chem import imaged_inchikeys

    return frozenset(map(_skeleton, imaged_inchikeys()))


def _skeleton(inchikey: str) -> str:
    """Return what the stereoisomers of a molecule have in common."""
    return inchikey.partition("-")[0]


def _job(rows: Sequence[Row], options: PrepareOptions) -> dict[str, Any]:
    """Return all that a pack depends on."""
    import rdkit

    return {
        "afmid": afmid.__version__,
        "rdkit": rdkit.__version__,
        "options": options.model_dump(),
        "rows": len(rows),
        "rows_sha256": rows_sha256(rows),
    }


def _made(
    rows: Iterable[Row], options: PrepareOptions, jobs: int, scheduler: str, timeout_s: float
) -> "Generator[Made, None, None]":
    """Yield what becomes of each row, in their order; several of them go to a cluster together."""
    from afmid.chem import PRESS_TRIALS
    from afmid.data.conformers import Made, make

    remaining, size = iter(rows), CLUSTER_ROWS if scheduler else 1
    tasks = iter(lambda: tuple(itertools.islice(remaining, size)), ())
    function = partial(make, options=options)
    patience_s = timeout_s * options.conformers * (PRESS_TRIALS if options.press else 1)

    def of(answer: "list[Made] | AfmidError") -> list[Made]:
        if isinstance(answer, LostError):
            return [Made(failure=answer.kind, detail=str(answer))]
        if isinstance(answer, AfmidError):
            raise answer
        return answer

    with closing(in_order(function, tasks, jobs if jobs > 1 else 0, patience_s, scheduler)) as results:
        for task, answer in results:
            if isinstance(answer, LostError) and len(task) > 1:  # one of them is to blame, which a process here tells
                for _, single in in_order(function, zip(task, strict=True), 1, patience_s):
                    yield from of(single)
            else:
                yield from of(answer)


def _log(number: int, row: Row, made: "Made") -> None:
    for note in made.notes:
        log.info("row %d: %s", number, note)
    if made.failure:
        log.info("row %d, %s: left out: %s", number, row.name, made.detail)


def _part(start: int, rows: Sequence[Row], results: "Sequence[Made]") -> Part:
    kept = [(i, row, made) for i, (row, made) in enumerate(zip(rows, results, strict=True), start + 1) if made.inchikey]
    record = Record(
        rows=tuple(i for i, _, _ in kept),
        inchikeys=tuple(made.inchikey for _, _, made in kept),
        failures=tuple(
            Failure(i, row.smiles, made.failure, f"{row.name}: {made.detail}" if row.geometry else made.detail)
            for i, (row, made) in enumerate(zip(rows, results, strict=True), start + 1)
            if made.failure
        ),
        other_charges=tuple(made.inchikey for _, _, made in kept if made.other_charges),
    )
    pack = concatenate(
        [made.conformers for _, _, made in kept],
        [row.source for _, row, _ in kept],
        [row.split or "" for _, row, _ in kept],
        record.model_dump(mode="json"),
        [pressed for _, _, made in kept for pressed in made.pressed],
    )
    return Part(pack, record)


def _joined(parts: Sequence[Part], job: Mapping[str, Any]) -> Progress:
    """Return the last progress: the pack of the parts without duplicates, and what is left out."""
    named = _named(parts)
    first: dict[str, int] = {}
    packs: list[MoleculePack] = []
    failures: list[Failure] = []
    for pack, record in parts:
        kept = []
        for i, (number, inchikey) in enumerate(zip(record.rows, record.inchikeys, strict=True)):
            if first.setdefault(inchikey, number) == number:
                kept.append(i)
            else:
                detail = f"is row {first[inchikey]} again, with the InChIKey {inchikey}"
                failures.append(Failure(number, pack.smiles[i], "duplicate", detail))
        keys = [record.inchikeys[i] for i in kept]
        splits = tuple(named.get(_skeleton(key)) or own_split(key) for key in keys)
        packs.append(replace(pack.taken(kept), split=splits))
        failures += record.failures
    failures.sort()
    failed = dict(Counter(failure.reason for failure in failures).most_common())
    meta = {
        **job,
        "seed": job["options"]["seed"],
        "molecules": len(first),
        "failed": failed,
        "other_charges": len({inchikey for _, record in parts for inchikey in record.other_charges}),
    }
    return Progress(job["rows"], failed, joined(packs, meta), tuple(failures))


def _named(parts: Sequence[Part]) -> dict[str, str]:
    """Return the split of each skeleton that rows name one for; a warning counts molecules that are named several."""
    names: dict[str, list[str]] = {}
    molecules: dict[str, set[str]] = {}
    for pack, record in parts:
        for inchikey, split in zip(record.inchikeys, pack.split, strict=True):
            molecules.setdefault(_skeleton(inchikey), set()).add(inchikey)
            if split:
                names.setdefault(_skeleton(inchikey), []).append(split)
    if disputed := sum(len(molecules[skeleton]) for skeleton, splits in names.items() if len(set(splits)) > 1):
        log.warning(
            "molecules of which rows, theirs or their stereoisomers', name several splits: %d; "
            "they are kept from training, and from val where another is named",
            disputed,
        )
    return {skeleton: min(splits, key=lambda split: SEEN.get(split, 0)) for skeleton, splits in names.items()}
