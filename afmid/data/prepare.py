"""From molecules as text to a molecule pack: geometries and charges by RDKit, splits by InChIKey, failures counted."""

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
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
TIMEOUT_S = 60.0
REPORT_EVERY = 50  # molecules
PART_ROWS = 250
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
        done: rows; `before` of them were done by an earlier call.
        failed: how many are left out, by reason; duplicates are found in the end.
        pack: comes with the last one, as do `failures`: all rows that are left out.
    """

    done: int
    failed: Mapping[str, int]
    pack: MoleculePack | None = None
    failures: Sequence[Failure] = ()
    before: int = 0


def prepare(
    rows: Iterable[Row | tuple[Any, ...]],
    options: PrepareOptions = PrepareOptions(),  # noqa: B008 (frozen)
    *,
    jobs: int = 1,
    scheduler: str = "",
    parts: Path | None = None,
    fresh: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Generator[Progress, None, None]:
    """Make a pack of the molecules in `rows`; yield the progress now and then, last with the pack.

    The order of the rows is kept, and neither `jobs` nor `scheduler` changes the result. A geometry that is given is
    kept, and is the molecule's only one. Molecules with other elements, duplicates (by InChIKey), failures and those
    that take longer than `timeout_s` are left out, counted by reason, listed, and logged at INFO. A split that the row
    does not give follows from the InChIKey: see `split_of`.

    Args:
        jobs: processes. With 1 all runs in this process.
        scheduler: address of a Dask cluster that takes the place of processes. There, as in this process, RDKit's own
            limits alone stop a slow molecule.
        parts: folder where finished parts are kept, so that the same call goes on after a kill. They stay there until
            afmid.data.parts.Parts.clear.
        fresh: throw away the parts of another job, if they are in the folder.

    Raises:
        DataError: not one molecule could be made, or `parts` are those of another job.
        AfmidError: the processes do not start, or the cluster does not answer.
    """
    listed = [Row(*row) for row in rows]
    job = _job(listed, options)
    store = Parts(parts, job, fresh) if parts else None
    starts = range(0, len(listed), PART_ROWS)
    finished = {i: part for i in range(len(starts)) if store and (part := store.read(i))}
    done = before = sum(len(listed[starts[i] : starts[i] + PART_ROWS]) for i in finished)
    failed = Counter(failure.reason for part in finished.values() for failure in part.record.failures)
    if done:
        log.info("%d of %d rows were prepared before", done, len(listed))
        yield Progress(done, dict(failed), before=before)
    todo = itertools.chain.from_iterable(
        listed[start : start + PART_ROWS] for i, start in enumerate(starts) if i not in finished
    )
    made = _made(todo, options, jobs, scheduler, timeout_s)
    with closing(made):
        for i, start in enumerate(starts):
            if i in finished:
                continue
            results: list[Made] = []
            for row in listed[start : start + PART_ROWS]:
                results.append(next(made))
                done += 1
                _log(start + len(results), row, results[-1])
                failed.update([results[-1].failure] if results[-1].failure else [])
                if done % REPORT_EVERY == 0:
                    yield Progress(done, dict(failed), before=before)
            finished[i] = _part(start, listed[start : start + PART_ROWS], results)
            if store:
                store.write(i, finished[i])
    if not any(part.record.rows for part in finished.values()):
        if parts:
            Parts.clear(parts)
        reasons = ", ".join(f"{count} {reason}" for reason, count in failed.most_common())
        raise DataError(f"no molecule of the list could be prepared: {reasons or 'it is empty'}")
    yield replace(_joined([finished[i] for i in range(len(starts))], listed, job), before=before)


def split_of(inchikey: str) -> str:
    """Return the split of a molecule: 90 % train, 5 % val, 5 % test, by the hash of its InChIKey's first block.

    All stereoisomers of a skeleton are in the same split, in any list.
    """
    digest = hashlib.sha256(b"split" + inchikey.partition("-")[0].encode()).hexdigest()
    share = int(digest[:12], 16) / 16**12
    return "train" if share < TRAIN else "val" if share < VAL else "test"


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
    rows: Iterable[Row], options: PrepareOptions, jobs: int, scheduler: str, timeout_s: float, together: int = 0
) -> "Generator[Made, None, None]":
    """Yield what becomes of each row, in their order; several of them go to a cluster together."""
    from afmid.data.conformers import Made, make

    remaining, size = iter(rows), together or (CLUSTER_ROWS if scheduler else 1)
    tasks = iter(lambda: tuple(itertools.islice(remaining, size)), ())
    function = partial(make, options=options)
    with closing(in_order(function, tasks, jobs if jobs > 1 else 0, timeout_s, scheduler)) as results:
        for task, answer in results:
            if isinstance(answer, LostError) and len(task) > 1:  # one of them is to blame
                yield from _made(task, options, jobs, scheduler, timeout_s, together=1)
            elif isinstance(answer, LostError):
                yield Made(failure=answer.kind, detail=str(answer))
            elif isinstance(answer, AfmidError):
                raise answer
            else:
                yield from answer


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
        [row.split or split_of(made.inchikey) for _, row, made in kept],
        record.model_dump(mode="json"),
        [pressed for _, _, made in kept for pressed in made.pressed],
    )
    return Part(pack, record)


def _joined(parts: Sequence[Part], rows: Sequence[Row], job: Mapping[str, Any]) -> Progress:
    """Return the last progress: the pack of the parts without duplicates, and what is left out."""
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
        packs.append(pack.taken(kept))
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
    return Progress(len(rows), failed, joined(packs, meta), tuple(failures))
