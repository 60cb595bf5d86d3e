"""Stored scans of any kind as one sequence: files, folders and globs of them, shards, and other people's data sets.

A scan is read when it is asked for; nothing is unpacked to the disk. NumPy is all that is needed, and Pillow for data
sets that hold pictures.
"""

import glob
import hashlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afmid.data.prepare import split_of
from afmid.errors import DataError
from afmid.io import ml_spm_tar, npz, quam_folder, scan_file, shard_file
from afmid.io.quam_folder import QuamFolder
from afmid.io.scans import read_scan
from afmid.io.shard_file import Shard
from afmid.io.stream import STREAM, opened
from afmid.scan import Scan

FILES = (".npz", ".npy")
TAR = ".tar"


class ScanSet:
    """Stored scans by their number: `len(scans)`, `scans[i]`.

    Attributes:
        names: of the scans.
    """

    def __init__(self, parts: "Sequence[_Part]") -> None:
        self._parts = parts
        self._ends = list(accumulate(len(part.names) for part in parts))
        self.names = [name for part in parts for name in part.names]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Scan:
        """Return a scan.

        Raises:
            DataError: it is corrupt; the message names it.
        """
        part, i = self._place(index)
        try:
            return part.read(i)
        except DataError as error:
            name = self.names[index]
            raise DataError(str(error) if name in str(error) else f"{name}: {error}") from error

    def split(self, index: int) -> str:
        """Return "train", "val" or "test": what the scan's record says, else what follows from its molecule.

        Without a record the split is drawn from the hash of the molecule's SMILES, or else its name: all scans of a
        molecule share it, but it is not that of a pack.

        Raises:
            DataError: the scan is corrupt.
        """
        part, i = self._place(index)
        named = part.split(i)
        return named or split_of(hashlib.sha256(part.molecule(i).encode()).hexdigest())

    def of_split(self, split: str) -> NDArray[np.int64]:
        """Return the numbers of the scans of a split, ascending; those whose split cannot be told are in none."""
        return np.flatnonzero(self._splits == split)

    @cached_property
    def _splits(self) -> NDArray[np.str_]:
        splits = []
        for index in range(len(self)):
            try:
                splits.append(self.split(index))
            except DataError:  # it is told when it is read
                splits.append("")
        return np.array(splits)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of what is cheap to know of all scans: names and sizes of files, for afmid's shards their index.

        For the index names the run that made them, with molecules, settings and seed. Of a QUAM-AFM folder it is the
        scans' names alone. A file that is changed and keeps its size goes unnoticed.
        """
        digest = hashlib.sha256()
        for part in self._parts:
            content = part.fingerprint()
            digest.update(f"{len(content)}\n{content}".encode())
        return digest.hexdigest()

    def _place(self, index: int) -> "tuple[_Part, int]":
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} scans, numbered from 0; not {index}")
        number = bisect_right(self._ends, index)
        return self._parts[number], index - (self._ends[number - 1] if number else 0)


def open_scans(paths: Sequence[str | Path]) -> ScanSet:
    """Return the scans that each path stands for.

    A path is a scan file, a folder of scan files and shards, a glob of them, a shard, a QUAM-AFM folder (the whole set
    or one K-…), a tar of ml-spm, or "-" for a scan from stdin.

    Raises:
        DataError: one of them is none of these, or holds no scan.
    """
    parts = [part for path in paths for part in _open(str(path))]
    if not parts:
        raise DataError("no scans are given")
    scans = ScanSet(parts)
    if not len(scans):
        raise DataError(f"no scans in {', '.join(map(str, paths))}")
    return scans


class _Part(ABC):
    """The scans of one file or folder."""

    names: list[str]

    @abstractmethod
    def read(self, i: int) -> Scan:
        """Return a scan. Raises DataError."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return what changes with the content."""

    def split(self, i: int) -> str:
        """Return the split that the record names, or "". Raises DataError."""
        return ""

    def molecule(self, i: int) -> str:
        """Return what all scans of a molecule share. Raises DataError."""
        return self.names[i]


class _File(_Part):
    """A scan file."""

    def __init__(self, path: str) -> None:
        self.names = [path]

    def read(self, i: int) -> Scan:
        return read_scan(self.names[0])

    def fingerprint(self) -> str:
        path = self.names[0]
        return path if path == STREAM else f"{Path(path).name} {Path(path).stat().st_size}"

    @cached_property
    def _words(self) -> tuple[str, str]:
        if self.names[0].lower().endswith(FILES[0]):
            with opened(self.names[0]) as stream:
                arrays = npz.read_npz(stream, only=("meta",))
            if "meta" in arrays:
                record, smiles = scan_file.record_of(arrays["meta"])
                return shard_file.recorded_split(record), smiles
        return "", ""

    def split(self, i: int) -> str:
        return self._words[0]

    def molecule(self, i: int) -> str:
        return self._words[1] or Path(self.names[0]).stem


class _Shard(_Part):
    """A tar of afmid's samples."""

    def __init__(self, path: str, shard: Shard) -> None:
        self._path, self._shard = path, shard
        self.names = [f"{path}/{sample.key}" for sample in shard.samples]

    def read(self, i: int) -> Scan:
        return shard_file.read_sample(self._path, self._shard.samples[i].start)

    def fingerprint(self) -> str:
        samples = "\n".join(f"{sample.key} {sample.start}" for sample in self._shard.samples)
        return f"{self._shard.job} {Path(self._path).stat().st_size}\n{samples}"

    def split(self, i: int) -> str:
        return self._shard.samples[i].split

    def molecule(self, i: int) -> str:
        sample = self._shard.samples[i]
        return shard_file.read_molecule_name(self._path, sample.start) or sample.key


class _Tar(_Part):
    """A tar of ml-spm."""

    def __init__(self, path: str) -> None:
        self._path, self._samples = path, ml_spm_tar.open_tar(path)
        self.names = [f"{path}/{sample.name}" for sample in self._samples]

    def read(self, i: int) -> Scan:
        return ml_spm_tar.read_tar_sample(self._path, self._samples[i])

    def fingerprint(self) -> str:
        return f"{Path(self._path).stat().st_size}\n" + "\n".join(sample.name for sample in self._samples)

    def molecule(self, i: int) -> str:
        return self._samples[i].key


class _Quam(_Part):
    """QUAM-AFM's folders."""

    def __init__(self, folder: QuamFolder) -> None:
        self._folder, self.names = folder, [f"{folder.root}/{name}" for name in folder.names]

    def read(self, i: int) -> Scan:
        return quam_folder.read_quam(self._folder, self._folder.names[i])

    def fingerprint(self) -> str:
        return "\n".join(self._folder.names)

    def molecule(self, i: int) -> str:
        return quam_folder.molecule_of(self.names[i])


def _open(text: str) -> list[_Part]:
    path = Path(text)
    if text == STREAM:
        return [_File(text)]
    if path.is_dir():
        return _folder(path)
    if path.exists():
        return [_tar(text) if path.suffix.lower() == TAR else _File(text)]
    if found := sorted(glob.glob(text, recursive=True)):  # noqa: PTH207 (a pattern may begin anywhere)
        return [part for name in found for part in _open(name)]
    raise DataError(f"{text}: no such file")


def _folder(path: Path) -> list[_Part]:
    if quam := quam_folder.open_quam(path):
        if not quam.names:
            raise DataError(f"{path}: its folders K-… hold no scans")
        return [_Quam(quam)]
    names = sorted(item.name for item in path.iterdir() if not item.name.startswith(".") and item.is_file())
    parts = [
        _tar(str(path / name)) if name.lower().endswith(TAR) else _File(str(path / name))
        for name in names
        if name.lower().endswith((*FILES, TAR))
    ]
    if not parts:
        raise DataError(f"{path}: holds no scans ({', '.join((*FILES, TAR))}), and is no folder of QUAM-AFM")
    return parts


def _tar(text: str) -> _Part:
    try:
        with opened(text) as stream:
            ours = shard_file.is_shard(stream)
        if not ours:
            return _Tar(text)
    except DataError as error:
        raise DataError(f"{text}: {error}") from error
    return _Shard(text, shard_file.read_shard(text))
