"""Write beside, then rename: a file is there whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from afmid.errors import DataError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`, of the same suffix, to be written to.

    When the block ends well the file takes the place of `path`; when it raises it is removed, and what was at `path`
    stays. A link is followed. The folder must exist.

    Raises:
        DataError: the place cannot be written to (said before the block runs), or the disk is full.
    """
    target = Path(path)
    if target.exists():
        if not target.is_file():
            kind = "a folder" if target.is_dir() else "not a regular file"
            raise DataError(f"{target}: is {kind}; give the name of a file to write")
        target = target.resolve()
    temporary = target.with_name(f".{target.stem[:100]}.{secrets.token_hex(6)}{target.suffix}")
    try:
        temporary.open("xb").close()
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _unwritable(path, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _unwritable(path: Path | str, error: OSError) -> DataError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    return DataError(f"{path}: cannot be written: {reason}; give another place")
