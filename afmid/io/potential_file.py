"""Potentials and the atoms that make them, from Gaussian cube files and XCrySDen's xsf.

ase reads both, but takes memory before it knows that a file holds what it claims, makes lists of Python floats, and
leaves xsf's repeated planes in.
"""

import io
import logging
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.io.stream import opened, source_of
from afmid.molecule import SYMBOLS, Molecule
from afmid.simulate.potential import FEWEST, MOST, Potential
from afmid.units import BOHR, HARTREE

log = logging.getLogger(__name__)

MAX_BYTES = 2 * 2**30
MAX_ATOMS = 100_000
MAX_LINES = 300_000  # before the values
MAX_LINE = 1000
LONGEST = 1e6  # Å or bohr: beyond it no coordinate is meant
REPEATED = 1e-4  # of the range of all values: two planes of an xsf grid that differ by less are one
BLOCK = 2**22  # bytes of text turned into numbers at once
_NUMBERS = {symbol.lower(): number for number, symbol in enumerate(SYMBOLS) if number}
_XSF = re.compile(r"(CRYSTAL|SLAB|POLYMER|MOLECULE|ATOMS|ANIMSTEPS|DIM-GROUP|PRIMVEC|BEGIN_\w+)[\s0-9]*")
_BLOCK = re.compile(r"BEGIN_BLOCK_DATAGRID_?3D")
_GRID = re.compile(r"(BEGIN_)?DATAGRID_?3D")

Array = NDArray[np.float64]


def read_potential(path: Path | str, sign: Literal["electron", "positive"] = "electron") -> tuple[Potential, Molecule]:
    """Return the potential in a file and its atoms, without charges or bonds, both where the file puts them.

    The molecule bears the file's name. A cube file's energies are taken in hartree and its lengths in bohr, an xsf
    file's in eV and Å; a file in rydberg has to be converted before. Planes that repeat the first at the far side of an
    xsf grid are left out.

    Args:
        path: a Gaussian cube file or an xsf file with a 3D grid, known by its content; "-" for stdin.
        sign: "electron" where the values are an electron's potential energy, as most programs write them; "positive"
            where they are that of a charge of +1 e. Where the atoms look reversed, a warning is logged.

    Raises:
        DataError: no such file, no potential in it, cut short, or too large; the message names the file.
    """
    try:
        with opened(path, MAX_BYTES) as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            if size > MAX_BYTES:
                raise DataError(f"{size / 2**30:.1f} GiB; afmid reads up to {MAX_BYTES / 2**30:.0f} GiB: thin it out")
            read = _read_xsf if _is_xsf(stream) else _read_cube
            potential, molecule = read(_Text(stream, size), -1.0 if sign == "electron" else 1.0)
    except DataError as error:
        raise DataError(f"{source_of(path)}: {error}") from error
    at = np.rint((molecule.positions - potential.origin) @ np.linalg.inv(potential.cell) * potential.values.shape)
    i, j, k = (at % potential.values.shape).astype(int).T
    if np.median(potential.values[i, j, k]) < np.median(potential.values):
        other = "positive" if sign == "electron" else "electron"
        log.warning(
            "%s: at the atoms a positive charge has less energy than around them, as if the sign were reversed, unless "
            "the potential leaves the nuclei out; --potential-sign %s turns it",
            source_of(path), other,
        )  # fmt: skip
    return potential, replace(molecule, name=Path(source_of(path)).stem)


class _Text:
    """A text file read line by line and then value by value, within bounds."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._size = size
        self._lines = 0

    def line(self) -> str:
        """Return the next line."""
        line = self._stream.readline(MAX_LINE + 1)
        self._lines += 1
        if not line:
            raise DataError(f"ends after line {self._lines - 1}, before the potential; it looks cut short")
        if len(line) > MAX_LINE or self._lines > MAX_LINES:
            raise DataError(f"line {self._lines} leads to no potential; afmid reads cube and xsf files")
        return line.decode("utf-8", errors="replace").strip()

    def words(self, least: int, most: int = 0) -> list[str]:
        """Return the words of the next line, `least` or more of them, at most `most` where given."""
        line = self.line()
        words = line.split()
        if len(words) < least or (most and len(words) > most):
            raise self.error(f"a line of {least} words", line)
        return words

    def whole(self, word: str) -> int:
        """Return a word of the last line as a whole number."""
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", word):
            raise self.error("a whole number", word)
        return int(word)

    def lengths(self, words: list[str]) -> list[float]:
        """Return words of the last line as lengths."""
        try:
            numbers = [float(word) for word in words]
        except ValueError as error:
            raise self.error("a length", " ".join(words)) from error
        if not all(abs(number) <= LONGEST for number in numbers):
            raise self.error("a length", " ".join(words))
        return numbers

    def error(self, wanted: str, found: str) -> DataError:
        """Return the error that the last line is not what it should be."""
        return DataError(f"line {self._lines} has {found[:60]!r} where {wanted} should stand")

    def values(self, counts: list[int]) -> tuple[Array, list[bytes]]:
        """Return the values of a grid, in one row, and the words that come next."""
        if min(counts) < FEWEST or math.prod(counts) > MOST:
            shape = " × ".join(map(str, counts))
            raise DataError(f"says {shape} points; afmid takes {FEWEST} or more a side and up to {MOST} in all")
        count, left = math.prod(counts), self._size - self._stream.tell()
        if 2 * count > left:
            raise DataError(f"says {count} values, but only {left} bytes follow; it looks cut short")
        values, done, rest = np.empty(count), 0, b""
        while True:
            block = self._stream.read(BLOCK)
            text = rest + block
            end = max(text.rfind(space) for space in (b" ", b"\n", b"\t")) if block else len(text)
            text, rest = text[: max(end, 0)], text[max(end, 0) :]
            words = text.split()
            use = words[: count - done]
            try:
                values[done : done + len(use)] = np.fromiter(map(float, use), np.float64, len(use))
            except ValueError as error:
                n, bad = next((n, word) for n, word in enumerate(use, done + 1) if not _is_number(word))
                word = bad[:30].decode("utf-8", errors="replace")
                raise DataError(f"has {word!r} where value {n} of {count} should stand; is it cut short?") from error
            done += len(use)
            if done == count and (len(words) > len(use) or not block):
                return values, words[len(use) :]
            if not block:
                raise DataError(f"says {count} values, holds {done}; it looks cut short")
            if len(rest) > MAX_LINE:
                raise DataError(f"has no number where value {done + 1} of {count} should stand")

    def more(self) -> list[bytes]:
        """Return some of the words that come after those that `values` returned."""
        return self._stream.read(BLOCK).split()


def _is_xsf(stream: BinaryIO) -> bool:
    """Return whether the first line that says something is one of xsf's words."""
    head = stream.read(2**16)
    stream.seek(0)
    if not head:
        raise DataError("is empty; the program that wrote it may have failed")
    if b"\0" in head:
        raise DataError("is no text; potentials are read from cube and xsf files")
    lines = (line.strip() for line in head.decode("utf-8", errors="replace").splitlines())
    return bool(_XSF.fullmatch(next((line for line in lines if line and not line.startswith("#")), "")))


def _read_cube(text: _Text, sign: float) -> tuple[Potential, Molecule]:
    try:
        text.line(), text.line()  # two lines of comment
        first = text.words(4, 5)
        count, origin = text.whole(first[0]), text.lengths(first[1:4])
        axes = [text.words(4, 4) for _ in range(3)]
    except DataError as error:
        raise DataError(f"holds no potential that afmid can read; it reads cube and xsf files ({error})") from error
    if count < 0 or first[4:] not in ([], ["1"]):
        raise DataError("holds several values at each point, as of orbitals; write a cube file of the potential alone")
    if count > MAX_ATOMS:
        raise DataError(f"says {count} atoms; afmid reads up to {MAX_ATOMS}")
    counts = [text.whole(axis[0]) for axis in axes]
    if min(counts) < 0:
        raise DataError("has negative counts of points, which say Å; write it in bohr, with positive counts")
    steps = np.array([text.lengths(axis[1:]) for axis in axes])
    rows = [text.words(5) for _ in range(count)]
    molecule = _molecule([text.whole(row[0]) for row in rows], [text.lengths(row[2:5]) for row in rows], BOHR)
    values, after = text.values(counts)
    if after:
        raise DataError(f"holds more than the {values.size} values that it says; write a file of the potential alone")
    cell = steps * np.array(counts)[:, None] * BOHR
    values *= sign * HARTREE
    return Potential(values.reshape(counts), np.array(origin) * BOHR, cell), molecule


def _read_xsf(text: _Text, sign: float) -> tuple[Potential, Molecule]:
    numbers: list[int] = []
    positions: list[list[float]] = []

    def add(words: list[str]) -> None:
        number = text.whole(words[0]) if words[0].isdecimal() else _NUMBERS.get(words[0].lower(), 0)
        numbers.append(number)
        positions.append(text.lengths(words[1:4]))
        if len(numbers) > MAX_ATOMS:
            raise DataError(f"holds more than {MAX_ATOMS} atoms; afmid reads no more")

    listing = False
    while not _BLOCK.match(line := text.line()):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if line.startswith("ANIMSTEPS"):
            raise DataError("is an animation; write a file of one structure and its potential")
        if line.startswith("PRIMCOORD"):
            for _ in range(text.whole(text.words(1)[0])):
                add(text.words(4))
        elif listing and len(words) >= 4:
            add(words)
        else:
            listing = line.startswith("ATOMS")
    molecule = _molecule(numbers, positions, 1.0)
    while not _GRID.match(text.line()):
        pass
    head: list[str] = []
    while len(head) < 15:
        head += text.words(3, 3)
    counts = [text.whole(word) for word in head[:3]]
    vectors = np.array([text.lengths(head[i : i + 3]) for i in (3, 6, 9, 12)])
    row, after = text.values(counts)
    if not after or not after[0].startswith(b"END_DATAGRID"):
        raise DataError(f"has no END_DATAGRID_3D after the {row.size} values that it says")
    if any(_GRID.match(word.decode("utf-8", errors="replace")) for word in after[1:] + text.more()):
        log.warning("the xsf file holds several grids; the first is taken")
    row *= sign
    values, cell = row.reshape(counts[::-1]).T, vectors[1:].copy()
    for axis, n in enumerate(counts):  # the first and the last point of an xsf grid lie on opposite faces of its box
        lines = np.moveaxis(values, axis, 0)
        if np.allclose(lines[0], lines[-1], rtol=0, atol=REPEATED * np.ptp(values)):
            values = np.moveaxis(lines[:-1], 0, axis)
        else:
            cell[axis] *= n / (n - 1)
    return Potential(np.ascontiguousarray(values), vectors[0], cell), molecule


def _molecule(numbers: list[int], positions: list[list[float]], unit: float) -> Molecule:
    if not numbers:
        raise DataError("holds no atoms; Lennard-Jones forces need them")
    return Molecule(np.array(numbers), np.array(positions) * unit)


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
