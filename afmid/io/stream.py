"""Files or "-": bytes in from a file or stdin, bytes out to a file (whole or not at all) or stdout."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from afmid.errors import DataError
from afmid.io.atomic import atomic_path
from afmid.io.npz import MAX_BYTES

STREAM = "-"


def source_of(path: Path | str) -> str:
    """Return what to call `path` in messages."""
    return "stdin" if str(path) == STREAM else str(path)


def write_bytes(content: bytes, path: Path | str) -> None:
    """Write `content` to the file `path`, or to stdout for "-".

    Raises:
        DataError: the place cannot be written to.
    """
    if str(path) == STREAM:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def opened(path: Path | str, max_bytes: int = MAX_BYTES) -> Iterator[BinaryIO]:
    """Open a file, or stdin for "-", as bytes that can be sought in; a pipe is read whole.

    Raises:
        DataError: it cannot be opened, or a pipe brings more than `max_bytes`.
    """
    if str(path) == STREAM:
        yield _whole(sys.stdin.buffer, max_bytes)
        return
    with _open(Path(path)) as stream:
        yield stream if stream.seekable() else _whole(stream, max_bytes)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(_why(error)) from error


def _why(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "no such file"
        case IsADirectoryError():
            return "is a folder; give one file"
    return f"cannot be read: {(error.strerror or str(error)).lower()}"


def _whole(stream: BinaryIO, max_bytes: int) -> BinaryIO:
    content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise DataError(f"brings more than {max_bytes / 2**30:.1f} GiB; crop it first")
    return io.BytesIO(content)
