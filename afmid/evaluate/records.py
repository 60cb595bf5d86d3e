"""Records of an evaluation: what each method said of each scan, and how right that was.

A file of them is JSON lines: first the header (schema afmid.evaluation/1), then a line for each scan and method, or for
what was left out. docs/reference/files.md has the keys.
"""

import base64
import hashlib
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from afmid.errors import DataError
from afmid.evaluate.figures import Figure, from_json, to_json
from afmid.identification import Atom
from afmid.io.atomic import atomic_path
from afmid.io.stream import opened, source_of
from afmid.molecule import SYMBOLS, Molecule
from afmid.scan import Scan

SCHEMA = "afmid.evaluation/1"
IN_FOLDER = "records.jsonl"
PNG = b"\x89PNG\r\n\x1a\n"
MOST_PIXELS = 96  # along a side of a record's image
MAX_LINE, MAX_BYTES, MAX_PNG = 2**24, 2**30, 2**18

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, eq=False)
class JudgedMethod:
    """A method as it was judged: the version of its package, the SHA-256 of its weights or "", and its options."""

    version: str
    weights: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Header:
    """What all records of an evaluation share.

    Attributes:
        version: of afmid.
        suite: what was judged on: the suite's name, or the paths.
        methods: by their names.
        headline: the figures that a short table shows, by their names in a summary.
        seed: of the suite's draws.
    """

    version: str
    suite: str
    methods: Mapping[str, JudgedMethod]
    headline: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Record:
    """What a method said of a scan, and how right that was.

    Attributes:
        scan, method: their names.
        data_sha256: of the scan's images and truth.
        seconds: that the answer took.
        groups: what the scan belongs to: kind of group ("corrugation", "atoms", "perturbation", "source") to its name.
        figures: by name.
        smiles: what the method said; None where it named no molecule.
        truth: the molecule under the tip, in the frame of the scan's x and y, its topmost atom at z = 0.
        atoms: that the method found.
        window: outer edges of the image (Å): least and largest x, least and largest y.
        image: of the scan, a small grey PNG whose rows run from the largest y down; b"" where there is none.
    """

    scan: str
    method: str
    data_sha256: str
    seconds: float
    groups: Mapping[str, str]
    figures: Mapping[str, Figure]
    smiles: str | None
    truth: Molecule
    atoms: tuple[Atom, ...]
    window: tuple[float, float, float, float]
    image: bytes = b""

    @property
    def molecule(self) -> str:
        """What all scans of its molecule share: SMILES or name, else the scan's own name."""
        return self.truth.smiles or self.truth.name or self.scan


@dataclass(frozen=True)
class LeftOut:
    """A scan that could not be judged, and why: by one method, or ("") by none."""

    scan: str
    error: str
    method: str = ""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Records of methods on the same scans, scan by scan, and what was left out."""

    header: Header
    records: tuple[Record, ...]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(self.header.methods)

    @cached_property
    def scans(self) -> dict[str, str]:
        """The SHA-256 of each scan that was judged, by its name, in their order."""
        return {record.scan: record.data_sha256 for record in self.records}

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of all scans that were judged."""
        return hashlib.sha256("\n".join(self.scans.values()).encode()).hexdigest()

    def of(self, method: str, **groups: str) -> list[Record]:
        """Return a method's records, such as those with perturbation="noise"."""
        mine = (record for record in self.records if record.method == method)
        return [record for record in mine if groups.items() <= dict(record.groups).items()]

    def figures(self, method: str, **groups: str) -> list[Mapping[str, Figure]]:
        """Return the figures of a method's records, as `summarise` takes them."""
        return [record.figures for record in self.of(method, **groups)]

    def molecules(self, method: str, **groups: str) -> list[str]:
        """Return which molecule each of these shows, as `summarise` takes it."""
        return [record.molecule for record in self.of(method, **groups)]

    def groups(self, kind: str) -> list[str]:
        """Return the names of the groups of a kind, as they appear; none where the scans have no such groups."""
        return list(dict.fromkeys(record.groups[kind] for record in self.records if kind in record.groups))


class _Method(BaseModel, extra="forbid"):
    version: str
    weights_sha256: str
    settings: dict[str, Any]


class _Header(BaseModel, extra="forbid"):
    schema_: Literal["afmid.evaluation/1"] = Field(alias="schema")
    version: str
    suite: str
    methods: dict[str, _Method]
    headline: list[str]
    seed: int


class _TrueAtom(BaseModel, extra="forbid"):
    element: str
    x_angstrom: float
    y_angstrom: float
    z_angstrom: float


class _Atom(BaseModel, extra="forbid"):
    element: str | None
    x_angstrom: float
    y_angstrom: float
    z_angstrom: float
    confidence: float = Field(ge=0, le=1)


class _Bond(BaseModel, extra="forbid"):
    a: int = Field(ge=0, lt=2**31)
    b: int = Field(ge=0, lt=2**31)
    order: float


class _Truth(BaseModel, extra="forbid"):
    name: str
    smiles: str
    atoms: list[_TrueAtom]
    bonds: list[_Bond]


class _Record(BaseModel, extra="forbid"):
    scan: str
    method: str
    data_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    seconds: float = Field(ge=0)
    groups: dict[str, str]
    figures: dict[str, Any]
    smiles: str | None
    truth: _Truth
    atoms: list[_Atom]
    window_angstrom: list[float] = Field(min_length=4, max_length=4)
    image: str


class _LeftOut(BaseModel, extra="forbid"):
    scan: str
    method: str
    error: str


@contextmanager
def writing(path: Path | str) -> Iterator[Callable[[str], None]]:
    """Yield what takes one line after the other; the file is there when the block ends well.

    Raises:
        DataError: the place cannot be written to.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace") as file:

        def write(line: str) -> None:
            file.write(line + "\n")

        yield write


def write_evaluation(evaluation: Evaluation, path: Path | str) -> None:
    """Write an evaluation as JSON lines. Raises DataError where the place cannot be written to."""
    with writing(path) as write:
        write(to_line(evaluation.header))
        for record in evaluation.records:
            write(to_line(record))
        for missed in evaluation.left_out:
            write(to_line(missed))


def to_line(part: Header | Record | LeftOut) -> str:
    """Return a part of an evaluation as one line of JSON."""
    match part:
        case Header():
            content: dict[str, Any] = {
                "schema": SCHEMA,
                "version": part.version,
                "suite": part.suite,
                "methods": {
                    name: {"version": used.version, "weights_sha256": used.weights, "settings": dict(used.settings)}
                    for name, used in part.methods.items()
                },
                "headline": part.headline,
                "seed": part.seed,
            }
        case LeftOut():
            content = {"scan": part.scan, "method": part.method, "error": part.error}
        case Record():
            content = _content(part)
    return json.dumps(content, ensure_ascii=False, allow_nan=False)


def read_evaluation(path: Path | str) -> Evaluation:
    """Return the evaluation in a file of JSON lines, or in a folder that `afmid evaluate -o` made.

    Raises:
        DataError: no such file, damaged, too large, or no evaluation; the message names the file and the line.
    """
    path = Path(path, IN_FOLDER) if Path(path).is_dir() else path
    header: Header | None = None
    records: list[Record] = []
    left_out: list[LeftOut] = []
    number = 0
    try:
        with opened(path, MAX_BYTES) as stream:
            for line in _lines(stream):
                number += 1
                content = _parsed(line)
                if header is None:
                    header = _header(content)
                elif "error" in content:
                    left_out.append(LeftOut(**_checked(_LeftOut, content).model_dump()))
                else:
                    records.append(_record(content, header))
        if header is None:
            raise DataError("is empty")
    except DataError as error:
        where = f"line {number}: " if number else ""
        raise DataError(f"{source_of(path)}: {where}{error}") from error
    return Evaluation(header, tuple(records), tuple(left_out))


def hash_of(scan: Scan, truth: Molecule) -> str:
    """Return the SHA-256 of a scan's images, axes and true molecule."""
    arrays = scan.df, scan.x, scan.y, scan.z, truth.numbers, truth.positions, truth.bonds, truth.orders
    parts = *(array.tobytes() for array in arrays), repr(truth.smiles).encode()
    return hashlib.sha256(b"".join(parts)).hexdigest()


def window_of(scan: Scan) -> tuple[float, float, float, float]:
    """Return the outer edges of the image (Å): least and largest x, least and largest y."""
    half_x, half_y = (pixel / 2 for pixel in scan.pixel)
    ends = scan.x[0] - half_x, scan.x[-1] + half_x, scan.y[0] - half_y, scan.y[-1] + half_y
    return (float(ends[0]), float(ends[1]), float(ends[2]), float(ends[3]))


def thumbnail(scan: Scan) -> bytes:
    """Return the nearest image as a small grey PNG; the darkest and the brightest 0.5 % of its pixels saturate."""
    image = scan.df[..., -1].astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, image.shape[axis], math.ceil(image.shape[axis] / MOST_PIXELS))
        counts = np.diff(np.append(starts, image.shape[axis]))
        image = np.add.reduceat(image, starts, axis) / (counts[:, None] if axis == 0 else counts)
    low, high = np.percentile(image, [0.5, 99.5])
    grey = 255 * np.clip((image - low) / max(high - low, 1e-12), 0, 1)
    return _png(np.rint(grey).astype(np.uint8).T[::-1])


def _png(grey: NDArray[np.uint8]) -> bytes:
    """Return rows of grey pixels (H, W) as a PNG."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = grey.shape
    rows = np.pad(grey, ((0, 0), (1, 0))).tobytes()  # before each row its filter: none
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def _content(record: Record) -> dict[str, Any]:
    truth = record.truth
    places = [_place(*position) for position in truth.positions.tolist()]
    return {
        "scan": record.scan,
        "method": record.method,
        "data_sha256": record.data_sha256,
        "seconds": round(record.seconds, 4),
        "groups": dict(record.groups),
        "figures": {name: _short(to_json(figure)) for name, figure in record.figures.items()},
        "smiles": record.smiles,
        "truth": {
            "name": truth.name,
            "smiles": truth.smiles,
            "atoms": [{"element": symbol, **place} for symbol, place in zip(truth.symbols, places, strict=True)],
            "bonds": [
                {"a": a, "b": b, "order": order}
                for (a, b), order in zip(truth.bonds.tolist(), truth.orders.tolist(), strict=True)
            ],
        },
        "atoms": [
            {"element": atom.element, **_place(atom.x, atom.y, atom.z), "confidence": round(float(atom.confidence), 4)}
            for atom in record.atoms
        ],
        "window_angstrom": [round(edge, 4) for edge in record.window],
        "image": base64.b64encode(record.image).decode(),
    }


def _short(value: Any) -> Any:
    """Return what JSON holds with its numbers to six digits, which halves the file."""
    match value:
        case float():
            return float(f"{value:.6g}")
        case list():
            return [_short(item) for item in value]
        case dict():
            return {key: _short(item) for key, item in value.items()}
    return value


def _place(x: float, y: float, z: float) -> dict[str, float]:
    return {f"{axis}_angstrom": round(float(value), 4) for axis, value in zip("xyz", (x, y, z), strict=True)}


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    read = 0
    while line := stream.readline(MAX_LINE + 1):
        read += len(line)
        if len(line) > MAX_LINE or read > MAX_BYTES:
            raise DataError(f"is larger than an evaluation may be ({MAX_BYTES // 2**20} MiB); is it one?")
        if line.strip():
            yield line


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        content = json.loads(line, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise DataError("is no JSON object")
    return content


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number[:20])


def _checked(model: type[Model], content: Mapping[str, Any]) -> Model:
    try:
        return model.model_validate(content, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        raise DataError(f"{'.'.join(map(str, problem['loc']))[:80]!r}: {problem['msg'][:200].lower()}") from error


def _header(content: Mapping[str, Any]) -> Header:
    if content.get("schema") != SCHEMA:
        found = repr(content.get("schema"))[:80]
        raise DataError(f"schema is {found}, but evaluations that this version of afmid reads have {SCHEMA!r}")
    head = _checked(_Header, content)
    methods = {name: JudgedMethod(m.version, m.weights_sha256, m.settings) for name, m in head.methods.items()}
    return Header(head.version, head.suite, methods, tuple(head.headline), head.seed)


def _record(content: Mapping[str, Any], header: Header) -> Record:
    record = _checked(_Record, content)
    if record.method not in header.methods:
        raise DataError(f"is of the method {record.method[:80]!r}, which the first line does not name")
    x0, x1, y0, y1 = record.window_angstrom
    if not (x0 <= x1 and y0 <= y1):
        raise DataError(f"the window's edges are in disorder: {record.window_angstrom}")
    return Record(
        scan=record.scan,
        method=record.method,
        data_sha256=record.data_sha256,
        seconds=record.seconds,
        groups=record.groups,
        figures={name: from_json(value) for name, value in record.figures.items()},
        smiles=record.smiles,
        truth=_truth(record.truth),
        atoms=tuple(Atom(a.element, a.x_angstrom, a.y_angstrom, a.z_angstrom, a.confidence) for a in record.atoms),
        window=(x0, x1, y0, y1),
        image=_image(record.image),
    )


def _truth(truth: _Truth) -> Molecule:
    if unknown := [atom.element for atom in truth.atoms if atom.element not in SYMBOLS[1:]]:
        raise DataError(f"there is no element {unknown[0][:80]!r}")
    return Molecule(
        numbers=np.array([SYMBOLS.index(atom.element) for atom in truth.atoms]),
        positions=np.array([(atom.x_angstrom, atom.y_angstrom, atom.z_angstrom) for atom in truth.atoms]),
        bonds=np.array([(bond.a, bond.b) for bond in truth.bonds], np.int64).reshape(-1, 2),
        orders=np.array([bond.order for bond in truth.bonds]),
        name=truth.name,
        smiles=truth.smiles,
    )


def _image(text: str) -> bytes:
    try:
        image = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError(f"the image is not base64: {error}") from error
    if image and (not image.startswith(PNG) or len(image) > MAX_PNG):
        raise DataError(f"the image is no PNG of up to {MAX_PNG // 1024} KiB")
    return image
