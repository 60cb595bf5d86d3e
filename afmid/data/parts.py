"""The finished parts of a pack that is being made, in a folder, so that the work goes on where it was killed."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ValidationError

from afmid.data.pack import MoleculePack, read_pack, write_pack
from afmid.errors import DataError
from afmid.io.atomic import atomic_path
from afmid.io.lock import locked

log = logging.getLogger(__name__)

LOCK = ".lock"
JOB = "job.json"
PARTS = "part-*.npz"
OURS = (PARTS, f".{PARTS}", JOB, ".job.*.json")  # those with a dot are what a kill left half-written


class Failure(NamedTuple):
    """A row that is left out, and why; rows count from 1."""

    row: int
    smiles: str
    reason: str
    detail: str


class Record(BaseModel, extra="forbid", frozen=True):
    """What a part knows beside its molecules.

    Attributes:
        rows: of each molecule, from 1.
        inchikeys: of each molecule.
        failures: of the rows that are left out.
        other_charges: molecules whose charges are not MMFF94's.
    """

    rows: tuple[int, ...]
    inchikeys: tuple[str, ...]
    failures: tuple[Failure, ...]
    other_charges: tuple[str, ...]


class Part(NamedTuple):
    """The molecules made of some rows, duplicates among them, and what else is known.

    A molecule's split in the pack is the one that its row names, or "".
    """

    pack: MoleculePack
    record: Record


class Parts:
    """The parts of one job in a folder, numbered from 0.

    The folder is this process' alone until the end of a `with`, which removes it where nothing is kept in it.

    Args:
        folder: made if needed.
        fresh: throw away the parts of another job.

    Raises:
        DataError: the folder cannot be written to, or another process has it.
    """

    def __init__(self, folder: Path, fresh: bool = False) -> None:
        self._folder, self._fresh, self._foreign = folder, fresh, False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = locked((folder / LOCK).open("ab"), folder)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if not (self._foreign or any(self._folder.glob(PARTS))):
            self.clear()
        self._lock.close()
        (self._folder / LOCK).unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def begin(self, job: Mapping[str, Any]) -> None:
        """Take the folder for a job: all that the parts depend on.

        Raises:
            DataError: the folder holds parts of another job.
        """
        if other := self._other(job):
            if not self._fresh:
                self._foreign = True
                raise DataError(
                    f"{self._folder}: holds parts of another job ({other}); give the command that began it, another "
                    "output, or --force to start anew"
                )
            self.clear()
        with atomic_path(self._folder / JOB) as temporary:
            temporary.write_text(json.dumps(job), encoding="utf-8")

    def read(self, number: int) -> Part | None:
        """Return a finished part; None where there is none, or a damaged one, which is said."""
        path = self._path(number)
        if not path.exists():
            return None
        try:
            pack = read_pack(path)
            return Part(pack, Record.model_validate(pack.meta))
        except (DataError, ValidationError) as error:
            log.warning("%s: is damaged and is made again: %s", path, str(error).partition("\n")[0])
            return None

    def write(self, number: int, part: Part) -> None:
        """Keep a finished part.

        Raises:
            DataError: the folder cannot be written to.
        """
        write_pack(part.pack, self._path(number))

    def clear(self) -> None:
        """Remove the parts."""
        for pattern in OURS:
            for path in self._folder.glob(pattern):
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06}.npz"

    def _other(self, job: Mapping[str, Any]) -> str:
        """Return in what the job in the folder differs, or "" where it is this one or there is none."""
        try:
            there = json.loads((self._folder / JOB).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return "of an unknown kind" if any(self._folder.glob(PARTS)) else ""
        except (OSError, ValueError):
            return "of an unknown kind"
        if not isinstance(there, dict):
            return "of an unknown kind"
        keys = [key for key in (job | there) if there.get(key) != job.get(key)]  # type: ignore[operator]
        return f"other {', '.join(keys)}" if keys else ""
