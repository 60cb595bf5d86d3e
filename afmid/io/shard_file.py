"""Tar shards of scans, schema afmid.shard/1: what webdataset reads, and `tar xf` unpacks.

    __job__      JSON: which run wrote the shard
    KEY.npy      float32 (X, Y, Z), Hz, far to near
    KEY.json     schema afmid.sample/1: axes (Å), tip, amplitude (Å), f0 (Hz), stiffness of the cantilever (N/m), the
                 true molecule, and how the scan was made
    KEY.xyz      the true molecule for other programs: extended xyz with charges (e)
    …
    __index__    JSON: where each sample begins, and its split; the content ends in its own header's position

A KEY has no dots. webdataset passes over names in double underscores. The tar is uncompressed, and the same scans give
the same bytes: it knows no owner and no time.
"""

import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from afmid.errors import DataError
from afmid.io import npz, tar_members, xyz_file
from afmid.io.lock import locked
from afmid.io.meta import parse_json, write_json
from afmid.io.scan_file import ScanWords, TruthWords, arguments_of, stack_of, words_of
from afmid.io.stream import opened
from afmid.io.tar_members import BLOCK, END, Member
from afmid.molecule import Molecule
from afmid.scan import Scan

log = logging.getLogger(__name__)

SCHEMA: Literal["afmid.sample/1"] = "afmid.sample/1"
INDEX_SCHEMA: Literal["afmid.shard/1"] = "afmid.shard/1"
JOB, INDEX = "__job__", "__index__"
NPY, JSON, XYZ = ".npy", ".json", ".xyz"
KEY_LETTERS = 90  # a tar's header has room for 100
MAX_JSON = 2**22  # bytes
MAX_INDEX = 2**24
MOST_SAMPLES = 100_000  # with keys of 90 letters their index stays within MAX_INDEX
DIGITS = 16  # of the position that ends the index


class _Truth(TruthWords):
    numbers: list[int]
    positions: list[list[float]] = Field(alias="positions_angstrom")
    charges: list[float] = Field(alias="charges_e")
    bonds: list[list[int]]
    orders: list[float]


class _Sample(ScanWords):
    schema_: Literal["afmid.sample/1"] = Field(alias="schema")
    x_angstrom: list[float]
    y_angstrom: list[float]
    z_angstrom: list[float]
    amplitude: float | None = Field(None, alias="amplitude_angstrom")
    f0: float | None = Field(None, alias="f0_hz")
    cantilever_stiffness: float | None = Field(None, alias="cantilever_stiffness_n_per_m")
    truth: _Truth | None = None


class _Job(BaseModel, extra="forbid"):
    schema_: Literal["afmid.shard/1"] = Field(alias="schema")
    job: str


class _Index(BaseModel, extra="forbid"):
    schema_: Literal["afmid.shard/1"] = Field(alias="schema")
    job: str
    failed: int = Field(ge=0)
    keys: list[str]
    starts: list[int]
    splits: list[str]


class Sample(NamedTuple):
    """Where a sample of a shard begins; `split` is "" where its scan names none."""

    key: str
    start: int
    split: str


@dataclass(frozen=True, eq=False)
class Shard:
    """What a shard holds.

    Attributes:
        job: which run wrote it; "" where another program did.
        failed: molecules that the run left out.
        samples: in the order of the file.
        indexed: whether its index was there and right; a shard without one may be cut short.
    """

    job: str
    failed: int
    samples: Sequence[Sample]
    indexed: bool = True


def recorded_split(meta: Mapping[str, Any]) -> str:
    """Return the split that a scan's record names, or ""."""
    sample = meta.get("sample")
    split = sample.get("split") if isinstance(sample, dict) else None
    return split if isinstance(split, str) else ""


def is_shard(stream: BinaryIO) -> bool:
    """Return whether a tar names its job, or holds samples such as these: the first has a json, and a npy."""
    with suppress(DataError):
        first = next(tar_members.members(stream), None)
        return first is not None and (first.name == JOB or _parts(stream, 0).keys() >= {NPY, JSON})
    return False


def read_shard(path: Path | str) -> Shard:
    """Return what a shard holds. Where its index is missing or wrong, all headers are gone through instead.

    Raises:
        DataError: no such file, or no tar of samples.
    """
    with _named(path), opened(path) as stream:
        with suppress(DataError):
            return _indexed(stream)
        job, samples = "", list[Sample]()
        with suppress(DataError):
            job = _job(stream)
        try:
            for key, group in groups(stream):
                start = group[0].header
                split = ""
                with suppress(DataError):  # a damaged sample says so when it is read
                    split = recorded_split(_sample(stream, start)[1].meta)
                samples.append(Sample(key, start, split))
        except DataError as error:
            if not samples:
                raise
            log.warning("%s: %s; whole samples before: %d", path, error, len(samples))
        return Shard(job, 0, samples, indexed=False)


def read_sample(path: Path | str, start: int) -> Scan:
    """Return the scan of the sample that begins at byte `start` of a shard.

    Raises:
        DataError: it is damaged, or there is none.
    """
    with _named(path), opened(path) as stream:
        member, sample = _sample(stream, start)
        return _scan(npz.read_npy(io.BytesIO(tar_members.read(stream, member, npz.MAX_BYTES))), sample)


def read_molecule_name(path: Path | str, start: int) -> str:
    """Return the SMILES of a sample's molecule, or else its name, "" without either; see `read_sample`."""
    with _named(path), opened(path) as stream:
        truth = _sample(stream, start)[1].truth
    return truth.smiles or truth.name if truth else ""


def packed(key: str, scan: Scan) -> list[bytes | memoryview]:
    """Return the pieces of a sample in a shard. Raises DataError where `scan.meta` holds what JSON cannot."""
    df, head = np.ascontiguousarray(scan.df), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(df))
    pieces = tar_members.packed(key + NPY, head.getvalue(), df.data.cast("B"))
    pieces += tar_members.packed(key + JSON, (write_json(_described(scan)) + "\n").encode())
    if scan.truth is not None:
        pieces += tar_members.packed(key + XYZ, xyz_file.to_text(scan.truth).encode())
    return pieces


class ShardWriter:
    """Writes a shard beside its place, `.NAME.part`, and moves it there when it is whole.

    What a killed run left there is taken up again, but for its last sample.

    Args:
        path: of the shard; its folder must exist.
        job: which run writes it.
        force: begin anew what another run left.

    Attributes:
        keys: of the samples that are there.

    Raises:
        DataError: the place cannot be written to, another process writes there, or another run left its part.
    """

    def __init__(self, path: Path, job: str, force: bool = False) -> None:
        self._path, self._part, self._job = path, path.with_name(f".{path.name}.part"), job
        try:
            self._file = locked(self._part.open("a+b"), path)
        except OSError as error:
            raise DataError(f"{path}: cannot be written: {(error.strerror or str(error)).lower()}") from error
        try:
            if not _is_at(self._part, self._file):
                raise DataError(f"{path}: another process has just finished it; give the same command again")
            self._samples = self._left(force)
        except DataError:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def keys(self) -> list[str]:
        return [sample.key for sample in self._samples]

    def truncate(self, count: int) -> None:
        """Keep the first `count` samples."""
        if count < len(self._samples):
            self._cut(self._samples[count].start)
            del self._samples[count:]

    def add(self, key: str, scan: Scan) -> None:
        """Append a sample."""
        pieces = packed(key, scan)
        self._samples.append(Sample(key, self._file.tell(), recorded_split(scan.meta)))
        self._file.writelines(pieces)

    def finish(self, failed: int) -> None:
        """Write the index, and move the shard to its place; `failed` is the number of molecules left out."""
        keys, starts, splits = zip(*self._samples, strict=True) if self._samples else ((), (), ())
        index = _Index(
            schema=INDEX_SCHEMA, job=self._job, failed=failed, keys=list(keys), starts=list(starts), splits=list(splits)
        )
        text, position = write_json(index).encode(), f"{self._file.tell():0{DIGITS}d}".encode()
        filled = tar_members.padded(len(text) + 1 + DIGITS)  # so that the position stands right before the end's zeros
        content = text + b"\n" + position.rjust(filled - len(text) - 1)
        self._file.writelines([*tar_members.packed(INDEX, content), END])
        self._file.flush()
        os.fsync(self._file.fileno())
        if os.name == "nt":  # where an open file cannot be moved, and none is locked
            self._file.close()
        self._part.replace(self._path)
        self._file.close()

    def _left(self, force: bool) -> list[Sample]:
        """Return the whole samples of a part of this job, and cut off what follows them."""
        job, samples = self._job, list[Sample]()
        with suppress(DataError):  # where the kill cut it short
            job = _job(self._file)
            for key, group in groups(self._file):
                start = group[0].header
                samples.append(Sample(key, start, recorded_split(_sample(self._file, start)[1].meta)))
        last = samples.pop().start if samples else 0  # that one may lack its end
        if job != self._job and not force:
            raise DataError(
                f"{self._part}: was begun by a run with other molecules or settings; give --force to begin anew"
            )
        if job != self._job or not last:
            samples = []
            self._cut(0)
            job = write_json(_Job(schema=INDEX_SCHEMA, job=self._job))
            self._file.writelines(tar_members.packed(JOB, job.encode()))
        else:
            self._cut(last)
        return samples

    def _cut(self, end: int) -> None:
        self._file.seek(end)
        self._file.truncate()


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Return whether an open file is still at the path where it was opened."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _job(stream: BinaryIO) -> str:
    first = next(tar_members.members(stream), None)
    if first is None or first.name != JOB:
        raise DataError("names no job")
    return parse_json(_Job, tar_members.read(stream, first, MAX_JSON).decode(errors="replace"), INDEX_SCHEMA).job


def _indexed(stream: BinaryIO) -> Shard:
    """Return what the index says, if it is there and points at samples; raise DataError if not."""
    total = stream.seek(0, io.SEEK_END)
    stream.seek(max(total - len(END) - DIGITS, 0))
    position, end = stream.read(DIGITS), stream.read()
    if end != END or not position.isdigit():
        raise DataError("has no index")
    member = next(tar_members.members(stream, int(position)), None)
    if member is None or member.name != INDEX or member.end != total - len(END):
        raise DataError("has no index")
    text = tar_members.read(stream, member, MAX_INDEX)[:-DIGITS].decode(errors="replace")
    index = parse_json(_Index, text, INDEX_SCHEMA)
    bounded = all(0 <= start < member.header and not start % BLOCK for start in index.starts)
    if not (len(index.keys) == len(index.starts) == len(index.splits) and bounded):
        raise DataError("its index is wrong")
    samples = [Sample(*row) for row in zip(index.keys, index.starts, index.splits, strict=True)]
    for sample in samples[:1] + samples[-1:]:
        found = next(tar_members.members(stream, sample.start), None)
        if found is None or found.name != sample.key + NPY:
            raise DataError("its index is wrong")
    return Shard(index.job, index.failed, samples)


def groups(stream: BinaryIO, start: int = 0) -> Iterator[tuple[str, list[Member]]]:
    """Yield the members of each sample of a webdataset tar, by its key; the first one begins at `start`.

    Raises:
        DataError: the tar is damaged or cut short.
    """
    key, group = "", list[Member]()
    try:
        for member in tar_members.members(stream, start):
            mine = tar_members.key(member.name)
            if mine != key and group:
                yield key, group
                group = []
            if mine:
                key = mine
                group.append(member)
    except DataError:
        if {member.name for member in group} >= {key + NPY, key + JSON}:
            yield key, group
        raise
    if group:
        yield key, group


def _parts(stream: BinaryIO, start: int) -> dict[str, Member]:
    """Return the members of the sample at `start` by their suffix, such as ".npy"."""
    parts, key = dict[str, Member](), ""
    for member in tar_members.members(stream, start):
        mine = tar_members.key(member.name)
        key = key or mine
        if mine and mine != key:
            break
        if mine:
            parts[member.name[len(mine) :]] = member
        if parts.keys() >= {NPY, JSON}:
            break
    return parts


def _sample(stream: BinaryIO, start: int) -> tuple[Member, _Sample]:
    """Return where the stack of the sample at `start` is, and what describes it."""
    parts = _parts(stream, start)
    if missing := [suffix for suffix in (NPY, JSON) if suffix not in parts]:
        raise DataError(f"the sample at byte {start} has no {missing[0]}")
    member = parts[JSON]
    try:
        text = tar_members.read(stream, member, MAX_JSON).decode()
        return parts[NPY], parse_json(_Sample, text, SCHEMA)
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"{member.name}: {error}") from error


def _scan(array: NDArray[Any], sample: _Sample) -> Scan:
    x, y, z = map(np.array, (sample.x_angstrom, sample.y_angstrom, sample.z_angstrom))
    truth = Molecule(**sample.truth.model_dump()) if sample.truth else None  # which checks the lists
    return Scan(stack_of(array, "df"), x, y, z, **arguments_of(sample), truth=truth)


def _described(scan: Scan) -> _Sample:
    truth = scan.truth
    return _Sample(
        schema=SCHEMA,
        x_angstrom=scan.x.tolist(),
        y_angstrom=scan.y.tolist(),
        z_angstrom=scan.z.tolist(),
        **words_of(scan, _Sample),
        truth=None
        if truth is None
        else _Truth(
            name=truth.name,
            smiles=truth.smiles,
            numbers=truth.numbers.tolist(),
            positions_angstrom=truth.positions.tolist(),
            charges_e=truth.charges.tolist(),
            bonds=truth.bonds.tolist(),
            orders=truth.orders.tolist(),
        ),
    )


@contextmanager
def _named(path: Path | str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
