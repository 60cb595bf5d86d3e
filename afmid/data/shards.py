"""The scans of a stream in tar shards, each written by a run that may be killed and taken up again."""

import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from afmid.data.scan_stream import ScanStream
from afmid.errors import DataError, UsageError
from afmid.io.shard_file import KEY_LETTERS, MOST_SAMPLES, ShardWriter, read_shard

DIGITS = 8  # of a molecule's number in a key


@dataclass(frozen=True)
class ShardJob:
    """One shard of several.

    Attributes:
        path: of its file.
        stream: the scans of its molecules.
    """

    path: Path
    stream: ScanStream

    def is_done(self) -> bool:
        """Return whether the shard is there; if so, the stream counts the molecules that failed.

        Raises:
            DataError: what is there belongs to another run, or is damaged.
        """
        if not self.path.exists():
            return False
        shard = read_shard(self.path)
        if not shard.indexed:
            raise DataError(f"{self.path}: exists, and is damaged; give --force to write over it")
        if shard.job != self.stream.sha256():
            raise DataError(f"{self.path}: exists, of other molecules or settings; give --force to write over it")
        self.stream.failed = shard.failed
        return True

    def write(self, force: bool = False, progress: Callable[[int], None] = lambda pixels: None) -> int:
        """Write the shard, or what a killed run left to be written; return the number of its scans.

        Args:
            force: begin anew what a run with other molecules or settings left.
            progress: called now and then with the number of pixels finished since, or given up.

        Raises:
            DataError: the place cannot be written to, or another run or process has begun there.
        """
        stream, block = self.stream, self.stream.block
        with ShardWriter(self.path, stream.sha256(), force) as shard:
            numbers = [_number(key) for key in shard.keys]
            done = (numbers[-1] - stream.first) // block * block if numbers else 0  # the last block may lack some
            kept = [number for number in numbers if number < stream.first + done]
            shard.truncate(len(kept))
            rest = replace(stream, first=stream.first + done, last=stream.first + stream.molecules)
            rest.failed = done - len(set(kept))
            progress((stream.molecules - rest.molecules) * stream.pixels // max(stream.molecules, 1))
            with closing(rest.made(progress)) as scans:
                for number, name, scan in scans:
                    shard.add(key_of(number, name), scan)
            shard.finish(rest.failed)
            stream.failed = rest.failed
            return len(shard.keys)


def shard_jobs(stream: ScanStream, name: str, folder: Path, count: int, chosen: int | None = None) -> list[ShardJob]:
    """Return the shards that the scans of a stream make: consecutive molecules, as many in each as go evenly.

    Args:
        stream: of all scans.
        name: that the files' names begin with.
        folder: where they go.
        count: of the shards.
        chosen: the one of this number alone, from 0.

    Raises:
        UsageError: too many scans for each.
    """
    total, most = stream.molecules, MOST_SAMPLES // len(stream.settings)
    if total > count * most:
        raise UsageError(f"a shard holds up to {MOST_SAMPLES} scans; give more shards: --shard {-(-total // most)}")
    return [
        ShardJob(
            folder / f"{name}-{i:05d}-of-{count:05d}.tar",
            replace(stream, first=total * i // count, last=total * (i + 1) // count),
        )
        for i in (range(count) if chosen is None else [chosen])
    ]


def key_of(number: int, name: str) -> str:
    """Return the key of a scan in a shard: its molecule's number, and its name without dots, in ASCII, not too long."""
    plain = re.sub(r"[^A-Za-z0-9_+-]", "_", name)
    return f"{number:0{DIGITS}d}-{plain[-(KEY_LETTERS - DIGITS - 1) :]}"


def _number(key: str) -> int:
    """Return the number of the molecule in a key; 0 for a key of another kind, which is then written anew."""
    found = re.match(r"\d+", key)
    return int(found[0]) if found else 0
