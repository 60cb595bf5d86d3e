"""The members of a tar file, found by its headers alone: nothing is extracted, links and folders are passed over."""

import io
import re
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from afmid.errors import DataError

BLOCK = 512
END = bytes(2 * BLOCK)
MAX_MEMBERS = 10_000_000
MAX_NAME = 2**16  # bytes of a header that gives a long name
_RECORD = re.compile(rb"(\d{1,5}) ([^=]*)=")  # of a pax header: its length, its key


class Member(NamedTuple):
    """A file in a tar: its name, where its first header begins, and where its content of `size` bytes does."""

    name: str
    header: int
    start: int
    size: int

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.start + padded(self.size)


def padded(size: int) -> int:
    """Return how many bytes a content of `size` takes in a tar."""
    return -(-size // BLOCK) * BLOCK


def members(stream: BinaryIO, start: int = 0) -> Iterator[Member]:
    """Yield the files of a tar from the header at `start` on, in their order.

    Raises:
        DataError: it is cut short, or what follows is no header.
    """
    total = stream.seek(0, io.SEEK_END)
    first, name = start, ""  # the first header of a file; the name that it gives, where the file's own has no room
    for _ in range(MAX_MEMBERS):
        if start > total:
            raise DataError("is cut short; copy the file again")
        stream.seek(start)
        header = stream.read(BLOCK)
        if not header or header == END[:BLOCK]:
            return
        info = _parsed(header, start)
        member = Member(name or info.name, first, start + BLOCK, info.size)
        if member.start + member.size > total:
            raise DataError(f"is cut short: {info.name[:80]!r} should have {info.size} bytes; copy the file again")
        start = member.end
        if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            name = _long_name(read(stream, member, MAX_NAME), info.type) or name
            continue
        if info.isreg() and member.name:
            yield member
        first, name = start, ""
    raise DataError(f"holds more than {MAX_MEMBERS:,} members")


def key(name: str) -> str:
    """Return the key of the sample that a member belongs to, as webdataset has it, or "" where it belongs to none."""
    folder, slash, file = name.rpartition("/")
    stem, dot, _ = file.partition(".")
    return folder + slash + stem if dot and not file.startswith("__") else ""


def header(name: str, size: int) -> bytes:
    """Return the header of a file in a tar that anyone may read, without owner or time; `name` in at most 100 letters.

    The same arguments give the same bytes.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii")


def packed(name: str, *content: bytes | memoryview) -> list[bytes | memoryview]:
    """Return the pieces of a member of a tar; its content comes in pieces too, which are not copied."""
    size = sum(len(piece) for piece in content)
    return [header(name, size), *content, bytes(padded(size) - size)]


def read(stream: BinaryIO, member: Member, most: int) -> bytes:
    """Return the content of a member.

    Raises:
        DataError: it is larger than `most` bytes, or not there.
    """
    if member.size > most:
        raise DataError(f"{member.name}: {member.size} bytes; afmid reads up to {most}")
    stream.seek(member.start)
    content = stream.read(member.size)
    if len(content) < member.size:
        raise DataError(f"{member.name}: is cut short; copy the file again")
    return content


def _long_name(content: bytes, kind: bytes) -> str:
    """Return the name in the content of a header of GNU tar or pax, or "" where it is about something else."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return content.partition(b"\0")[0].decode(errors="replace")
    start, name = 0, b""
    while found := _RECORD.match(content, start):
        end = start + int(found[1])
        if found[2] == b"path":
            name = content[found.end() : end - 1]
        start = max(end, found.end())
    return name.decode(errors="replace")


def _parsed(block: bytes, start: int) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    except (tarfile.HeaderError, ValueError) as error:
        raise DataError(f"is no tar file, or damaged at byte {start} ({error}); copy it again") from error
    if info.size < 0:
        raise DataError(f"is damaged at byte {start} (a negative size); copy it again")
    return info
