"""Write beside, then rename: a file is there whole or not at all."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from afmid.errors import DataError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`, of the same suffix, to be written to.

    When the block ends well the file is flushed to the disk, so that a power cut leaves the old content or the new, and
    takes the place and the permissions of `path`; when it raises it is removed, and what was at `path` stays. A link is
    followed, even where its target is not there yet. The folder must exist.

    Raises:
        DataError: the place cannot be written to (said before the block runs), or the disk is full.
    """
    target = Path(os.path.realpath(path))
    there = target.exists()
    if there and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a regular file"
        raise DataError(f"{path}: is {kind}; give the name of a file to write")
    temporary = target.with_name(f".{target.stem[:100]}.{secrets.token_hex(6)}{Path(path).suffix}")
    try:
        _create(path, temporary)
        mode = stat.S_IMODE((target if there else temporary).stat().st_mode)
        _set_mode(temporary, mode | stat.S_IWUSR)  # from the start, so that nobody else reads what is being written
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())
        _set_mode(temporary, mode)
        temporary.replace(target)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _unwritable(path, error) from error
        raise
    finally:  # also where Ctrl-C came right after the file was made
        with suppress(OSError):
            temporary.unlink()


def _create(path: Path | str, temporary: Path) -> None:
    try:
        temporary.open("xb").close()
    except OSError as error:
        raise _unwritable(path, error) from error


def _set_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) != mode:  # where all are alike, a file system may not know modes at all
        path.chmod(mode)


def _unwritable(path: Path | str, error: OSError) -> DataError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return DataError(f"{path}: cannot be written: {reason}; give another place")
