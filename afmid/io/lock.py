"""A lock on an open file, which the system frees when the file is closed or its process ends, however that comes."""

from pathlib import Path
from typing import BinaryIO

from afmid.errors import DataError


def locked(file: BinaryIO, path: Path | str) -> BinaryIO:
    """Return `file`, locked for this process; where another process holds it, close it.

    On Windows, and on a file system without locks, nothing is locked.

    Raises:
        DataError: another process holds it; `path` is what the message says is being written.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataError(f"{path}: another process is writing it; wait for that, or end it") from error
    except (ImportError, OSError):
        pass
    return file
