"""`afmid report`: an answer or an evaluation as a page."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afmid.cli.options import Force, Order, Pixel, Step, TipName, check_inputs
from afmid.cli.output import STANDARD, check_file, note, with_folder
from afmid.errors import DataError, UsageError

if TYPE_CHECKING:
    from afmid.identification import Identification
    from afmid.scan import Scan

SUFFIXES = (".html", ".htm")
ANSWERS = ("maps.npz", "result.json")  # in a folder of afmid identify; the first holds all of the second
MAX_LINE = 2**24


def report(
    result: Annotated[str, typer.Argument(metavar="RESULT", hidden=True)],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="page to write, an html file; - is stdout")
    ],
    scan: Annotated[
        str | None, typer.Option("--scan", metavar="FILE", help="scan to show [default: that which the answer names]")
    ] = None,
    pixel: Pixel = None,
    step: Step = None,
    order: Order = None,
    tip: TipName = None,
    force: Force = False,
) -> None:
    """Make a page of an answer or an evaluation, to look at offline.

    RESULT is what afmid identify wrote, a folder, json or npz, or its line of JSON on stdin (-); or what afmid evaluate
    wrote, a folder or jsonl. The page is one file that needs nothing else and asks for nothing: to keep, to print, to
    send on.

    \b
    afmid report result/ -o report.html
    afmid report result/result.json --scan scan.npz -o report.html
    afmid report scores/records.jsonl -o evaluation.html
    """
    inputs = [item for item in (result, scan) if item is not None]
    if output != STANDARD:
        _check_target(Path(output), inputs, force)
    check_inputs(inputs)

    from afmid.report.page import write_evaluation_page, write_identification_page

    target = output if output == STANDARD else with_folder(Path(output))
    if _is_evaluation(result):
        if scan is not None:
            raise UsageError("--scan is for an answer; an evaluation holds its images")
        from afmid.evaluate.records import read_evaluation

        write_evaluation_page(read_evaluation(result), target)
        return
    answer = _answer(result)
    from afmid.io import read_scan

    read = partial(read_scan, pixel=pixel, step=step, order=order, tip=tip)
    shown = _named_scan(answer, Path(result), read) if scan is None else read(scan)
    write_identification_page(shown, answer, target, _second_scan(answer, Path(result), read))


def _check_target(target: Path, inputs: list[str], force: bool) -> None:
    """Find out, before the work, whether the page can be written.

    Raises:
        UsageError: another suffix, or the name of what is read.
        DataError: it exists and `force` is not given, or it cannot be written.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{target}: a page's name must end in {SUFFIXES[0]}")
    check_file(target, force)
    if any(item != STANDARD and target.exists() and Path(item).exists() and target.samefile(item) for item in inputs):
        raise UsageError(f"{target}: is what the page is made of; give the page another name")


def _is_evaluation(result: str) -> bool:
    """Return whether this is an evaluation's file or folder; stdin brings an answer."""
    from afmid.evaluate.records import IN_FOLDER, SCHEMA

    path = Path(result)
    if result == STANDARD or path.is_dir():
        return result != STANDARD and (path / IN_FOLDER).exists()
    with path.open("rb") as file:
        start = file.readline(MAX_LINE)
    try:
        head = json.loads(start)
    except (ValueError, RecursionError):
        return False
    return isinstance(head, dict) and head.get("schema") == SCHEMA


def _answer(result: str) -> "Identification":
    """Read an answer; beside a result.json its maps, where they are of the same answer.

    Raises:
        DataError: there is none, or it is damaged.
    """
    from dataclasses import replace

    from afmid.io import read_identification, to_json

    path = Path(result)
    if result != STANDARD and path.is_dir():
        file = next((path / name for name in ANSWERS if (path / name).exists()), None)
        if file is None:
            raise DataError(f"{path}: holds neither {' nor '.join(ANSWERS)}, nor an evaluation; name its folder")
        return read_identification(file)
    answer = read_identification(result)
    maps = path.with_name(ANSWERS[0])
    if path.name == ANSWERS[1] and maps.exists():
        try:
            whole = read_identification(maps)
        except DataError as error:
            note(f"warning: {error}; the page goes without the maps")
        else:
            if to_json(replace(whole, maps={})) == to_json(answer):
                return whole
    return answer


def _named_scan(answer: "Identification", result: Path, read: "Callable[[Path | str], Scan]") -> "Scan | None":
    """Read the scan that the answer names, from where it was or beside the result; None where it is gone or another."""
    named = answer.meta.get("scan")
    if not isinstance(named, str) or named in ("", STANDARD):
        return None
    for path in _places(named, result):
        try:
            scan = read(path)
        except DataError as error:
            note(f"warning: {error}; the page goes without the scan")
            return None
        if scan.source == answer.source and scan.df.shape[:2] == (len(answer.x), len(answer.y)):
            return scan
    note(f"warning: the scan {named[:200]} is not here, or another; the page goes without it: give --scan FILE")
    return None


def _second_scan(answer: "Identification", result: Path, read: "Callable[[Path | str], Scan]") -> "Scan | None":
    """Read the scan of a second tip that the answer names, as `_named_scan` does; None where there is none, or gone."""
    from dataclasses import replace

    second = answer.meta.get("second")
    named, tip = (second.get(key) for key in ("file", "tip")) if isinstance(second, dict) else (None, None)
    if not (isinstance(named, str) and isinstance(tip, str)) or named in ("", STANDARD):
        return None
    for path in _places(named, result):
        try:
            return replace(read(path), tip=tip)  # which its file need not tell
        except DataError as error:
            note(f"warning: {error}; the page goes without the second scan")
            return None
    note(f"warning: the second scan {named[:200]} is not here; the page goes without it")
    return None


def _places(named: str, result: Path) -> "Iterator[Path]":
    """Yield the files that a name may mean: where it was, or beside the result."""
    for path in (Path(named), result.parent / named, result.parent / Path(named).name):
        with suppress(OSError, ValueError):  # a name that no file can have
            if path.is_file():
                yield path
