"""What a long command says on stderr while it works: how far it is, and the same warning a few times only."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from afmid.cli.output import note, progress_console, shows_progress

MOST = 10  # warnings of one kind


@contextmanager
def scan_bar(scans: int, pixels: int) -> Iterator[Callable[[int], None]]:
    """Yield what takes the number of pixels finished since its last call; draws a bar where that is wanted.

    Args:
        scans: in all.
        pixels: of all scans.
    """
    if not shows_progress():
        yield lambda _: None
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
def few_warnings() -> Iterator[None]:
    """Show MOST warnings of each kind in the block, and in the end the number of the others; all with --verbose."""
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
            if count > MOST:
                note(f"warning: {count - MOST} more like: {filter_.first[kind]}; see all with: afmid --verbose")


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
        return self.counts[kind] <= MOST
