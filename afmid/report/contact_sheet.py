"""Many scans on one page: the nearest image of each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from afmid.report.picture import _line, _paint_image, _Panel, _rows, _write
from afmid.scan import Scan

MOST = 60  # scans on a page
WIDEST = 6  # in a row


def nearest(scan: Scan) -> Scan:
    """Return a scan of the nearest image alone, which is what a page needs of it."""
    return replace(scan, df=scan.df[:, :, -1:].copy(), z=scan.z[-1:])


def draw_sheet(scans: Mapping[str, Scan], total: int, path: Path) -> None:
    """Draw the nearest image of each scan under its name, each on its own grey scale.

    Args:
        scans: by name, MOST at most.
        total: of how many these are the first.
        path: a .png, .pdf or .svg file; written whole or not at all.

    Raises:
        DataError: on another suffix, or where the file cannot be written.
    """
    panels = [_panel(name, scan) for name, scan in scans.items()]
    some = next(iter(scans.values()))
    title = f"{total} scans" if len(scans) == total else f"The first {len(scans)} of {total} scans"
    about = f"{_line(some.tip, 20)} tip · Δf, the nearest image of each, on its own scale, bright is high"
    _write(path, some, title, [about], _rows(panels, widest=WIDEST, framed=False))


def _panel(name: str, scan: Scan) -> _Panel:
    return _Panel(name, lambda axes: _paint_image(axes, scan, -1))
