"""Where results and words go: data to stdout or a file, all else to stderr; nothing is written over unasked."""

import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from afmid.errors import DataError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from afmid.identification import Identification
    from afmid.scan import Scan

Item = TypeVar("Item")
NARROW = 80  # characters of a picture in a file or a pipe
WIDEST = 10_000  # characters of a line that goes into a file or a pipe: what stands there is not wrapped
SILENCE_S = 60.0  # of long work, at most
MOST_WARNINGS = 10  # of one kind
STANDARD = "-"  # stdin or stdout, wherever a file may stand


def note(text: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"afmid: {one_line(text)}\n")  # which a progress bar may have taken over, to stay below the line


def one_line(text: str) -> str:
    """Return `text` as one line that cannot steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(text.split()))


def print_json(record: Mapping[str, Any]) -> None:
    """Write one JSON object to stdout, on a line of its own."""
    typer.echo(json.dumps(record, ensure_ascii=False))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to stdout; heads that are all empty are left out."""
    from rich.table import Table

    table = Table(*heads, box=None, pad_edge=False, show_header=any(heads), header_style="bold")
    for row in rows:
        table.add_row(*map(one_line, row))
    console = _console(stderr=False)
    with console.capture() as capture:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_preview(scan: "Scan", answer: "Identification", to_stderr: bool) -> None:
    """Draw a scan and an answer in the terminal."""
    from afmid.report.preview import preview

    console = _console(stderr=to_stderr)
    width = console.width if console.is_terminal else NARROW
    console.print(preview(scan, answer, width, colours=console.is_terminal and not console.no_color))


def shows_progress() -> bool:
    """Return whether to draw progress: stderr is a terminal, and NO_COLOR is not set."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def progress_console() -> "Console":
    """Return the console on stderr on which progress is drawn."""
    return _console(stderr=True)


def _console(stderr: bool) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDEST
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def is_folder(output: str) -> bool:
    """Return whether an output is meant as a folder: it is one, ends in a slash, or is new and has no suffix."""
    path = Path(output)
    return path.is_dir() or output.endswith("/") or not (path.suffix or path.exists())


def check_binary_stdout() -> None:
    """Refuse to write binary data to a terminal.

    Raises:
        UsageError: stdout is one.
    """
    if sys.stdout.isatty():
        raise UsageError("a scan is binary and would spoil the terminal; give -o FILE, or pipe it into a command")


def check_file(path: Path, force: bool) -> None:
    """Find out, before the work, whether the file `path` can be written. Missing folders count as writable.

    Raises:
        DataError: it exists and `force` is not given, or it cannot be written.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder; give the name of a file to write")
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is not a regular file; for stdout give: -o -")
    if path.exists() and not force:
        raise DataError(f"{path}: exists; give --force to write over it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path}: cannot be written: {folder}: {reason}; give another place") from error


def check_picture(plot: Path | None, force: bool) -> None:
    """Find out, before the work, whether the picture can be drawn, where one is wanted. Raises DataError."""
    from afmid.report.picture import SUFFIXES

    if plot is None:
        return
    if plot.suffix.lower() not in SUFFIXES:
        raise DataError(f"{plot}: a picture's name must end in {', '.join(SUFFIXES)}, not {plot.suffix!r}")
    check_file(plot, force)


def with_folder(path: Path) -> Path:
    """Return `path` after making the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def track(items: Sequence[Item], words: str) -> Iterator[Item]:
    """Yield the items, with a progress bar on stderr where that is wanted and there are several."""
    if len(items) < 2 or not shows_progress():
        pulse = Pulse()
        for done, item in enumerate(items):
            pulse.beat(partial(f"{{}} of {len(items)} {words}".format, done))
            yield item
        return
    from rich.progress import track as bar

    yield from bar(items, words, console=progress_console(), transient=True)


class Pulse:
    """Says now and then how far long work is where no bar is drawn, as in a log, which would else be silent."""

    def __init__(self) -> None:
        self.rest()

    def rest(self) -> None:
        """Say nothing for a while: something was said."""
        self._said = time.monotonic()

    def beat(self, words: Callable[[], str]) -> None:
        """Say `words` where nothing was said for long."""
        if not shows_progress() and time.monotonic() - self._said > SILENCE_S:
            note(words())
            self.rest()


@contextmanager
def scan_bar(scans: int, pixels: int) -> Iterator[Callable[[int], None]]:
    """Yield what takes the number of pixels finished since its last call; draws a bar where that is wanted.

    Args:
        scans: in all.
        pixels: of all scans.
    """
    if not shows_progress():
        pulse, done = Pulse(), [0]

        def count(more: int) -> None:
            done[0] += more
            pulse.beat(lambda: f"{done[0] * scans // pixels} of {scans} scans")

        yield count
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
    with Progress(*columns, console=progress_console(), transient=True) as bar:
        task = bar.add_task(f"0 of {scans} scans", total=pixels)

        def advance(more: int) -> None:
            bar.update(task, advance=more)
            bar.update(task, description=f"{int(bar.tasks[0].completed * scans / pixels)} of {scans} scans")

        yield advance


@contextmanager
def working() -> Iterator[Callable[[str], None]]:
    """Yield what takes a line on how far the work is: shown on stderr, or said now and then where that is a log."""
    if not shows_progress():
        pulse = Pulse()
        yield lambda line: pulse.beat(lambda: line)
        return
    with progress_console().status("") as status:
        yield status.update


@contextmanager
def few_warnings() -> Iterator[None]:
    """Show MOST_WARNINGS of each kind in the block, and in the end the number of the others; all with --verbose."""
    root = logging.getLogger()
    if root.isEnabledFor(logging.INFO):
        yield
        return
    filter_ = _Few()
    for handler in root.handlers:
        handler.addFilter(filter_)
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.removeFilter(filter_)
        for kind, count in filter_.counts.items():
            if (more := count - MOST_WARNINGS) > 0:
                note(f"warning: {more} more like: {filter_.first[kind]}; see all with: afmid --verbose")


class _Few(logging.Filter):
    """Counts records by their text without its values."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.first: dict[tuple[str, str], str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.name, str(record.msg)
        self.counts[kind] += 1
        self.first.setdefault(kind, record.getMessage())
        return self.counts[kind] <= MOST_WARNINGS
