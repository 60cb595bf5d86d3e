"""`afmid prepare`: lists of molecules to a molecule pack."""

import csv
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afmid.cli.options import Force, Json, check_inputs, cores, with_options
from afmid.cli.output import (
    STANDARD,
    Pulse,
    check_binary_stdout,
    check_file,
    few_warnings,
    note,
    one_line,
    print_json,
    print_table,
    progress_console,
    shows_progress,
    with_folder,
)
from afmid.data.prepare import PrepareOptions
from afmid.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from afmid.data.pack import MoleculePack
    from afmid.data.pack_summary import Summary
    from afmid.data.parts import Failure
    from afmid.data.prepare import Progress
    from afmid.data.rows import Row

PACK = ".npz"
ROWS_PER_JOB = 50  # below this another process costs more than it brings


@with_options(PrepareOptions, "options")
def prepare(
    inputs: Annotated[list[str] | None, typer.Argument(metavar="INPUT", hidden=True)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="the pack (npz), or - for stdout")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="take N molecules, drawn by chance before any is left out"),
    ] = None,
    flat_first: Annotated[
        bool,
        typer.Option("--flat-first", help="take the N flattest ones, by a csv's column flat, else by conjugated bonds"),
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=0, help="processes; 0: all cores")] = 0,
    scheduler: Annotated[
        str,
        typer.Option("--scheduler", metavar="ADDRESS", help="a Dask cluster in place of processes: tcp://HOST:PORT"),
    ] = "",
    show: Annotated[
        str | None, typer.Option("--show", metavar="PACK", help="print what is in a pack, and make none")
    ] = None,
    as_json: Json = False,
    force: Force = False,
    *,
    options: PrepareOptions,
) -> None:
    """Prepare molecules for training: geometries, charges and bonds, all in one small file.

    INPUT is a list of SMILES (csv, smi, txt), an sdf, mol or xyz file, or a folder of these; gzipped or not. A csv may
    have columns smiles, name, source, split, flat. A geometry that is given is kept; others are made by ETKDG and
    MMFF94. What fails is counted, and listed beside the pack in a csv. Finished parts are kept in FILE.parts until the
    end, so that the same command goes on after it was killed.

    \b
    afmid prepare molecules.csv.gz -o pack.npz --limit 60000
    afmid prepare molecules.sdf structures/ -o pack.npz --elements H,C,N,O --max-atoms 60
    afmid prepare molecules.smi -o flat.npz --limit 2000 --flat-first --conformers 3 --press 1
    afmid prepare --show pack.npz
    """
    if show is not None:
        if inputs or output:
            raise UsageError("--show prints what is in a pack and takes neither INPUT nor -o")
        _show(show, as_json)
        return
    if not inputs:
        raise UsageError("missing argument 'INPUT'; see: afmid prepare --help")
    if output is None:
        raise UsageError("missing option '-o'; give the name of the pack, such as: -o pack.npz")
    if as_json:
        raise UsageError("--json is for --show")
    if flat_first and limit is None:
        raise UsageError("--flat-first chooses among molecules; say how many: --limit N")
    if str(output) == STANDARD:
        check_binary_stdout()
    else:
        if output.suffix.lower() != PACK:
            raise UsageError(f"{output}: a pack's name ends in {PACK}; give -o NAME{PACK}")
        written = force or _parts(output).exists()  # if not by this command, then by the one that it goes on from
        check_file(output, written)
        check_file(_list_of_failures(output), written)
    check_inputs(inputs)

    from afmid.data.rows import read_rows, select

    rows = select(read_rows(inputs), limit, flat_first, options.seed)
    prepare_pack(rows, options, output, jobs, scheduler, force)


def prepare_pack(
    rows: "Sequence[Row]",
    options: PrepareOptions,
    output: Path,
    jobs: int = 0,
    scheduler: str = "",
    force: bool = False,
) -> "MoleculePack":
    """Prepare molecules, write their pack and, in a csv beside it, what failed; show progress and failures on stderr.

    Args:
        output: the pack, or "-" for stdout; finished parts are kept in a folder beside it until it is written.
        jobs: processes; 0: as many as there are cores and work for.
        force: throw away the parts of another job.

    Raises:
        DataError: not one molecule could be made, there are parts of another job, or another process makes this pack.
        AfmidError: the processes do not start, or the cluster does not answer.
    """
    from afmid.data.pack import write_pack
    from afmid.data.parts import Parts
    from afmid.data.prepare import NothingMadeError, prepare

    listed = None if str(output) == STANDARD else _list_of_failures(output)
    jobs = jobs or max(1, min(cores(), len(rows) // ROWS_PER_JOB))
    note(f"preparing {len(rows)} molecules")
    begin = time.perf_counter()
    with Parts(_parts(with_folder(output)), fresh=force) if listed else nullcontext() as parts:
        try:
            with (
                few_warnings(),
                closing(prepare(rows, options, jobs=jobs, scheduler=scheduler, parts=parts)) as steps,
            ):
                last = _follow(steps, len(rows))
        except NothingMadeError as error:
            _tell_failures(error.failures, listed)
            if parts:
                parts.clear()
            raise
        pack = last.pack
        if pack is None:
            raise AssertionError("the last progress brings the pack")
        rate = (last.done - last.before) / (time.perf_counter() - begin)
        _tell_failures(last.failures, listed)  # before the pack: a kill from here on leaves none without its list
        write_pack(pack, output)
        if parts:
            parts.clear()
    words = f"{len(pack.smiles)} molecules, {len(pack)} conformers of which {int(pack.pressed.sum())} are pressed"
    left = f"; {len(last.failures)} of {len(rows)} rows left out" if last.failures else ""
    left += f", listed in {listed}" if last.failures and listed else ""
    other = pack.meta["other_charges"]
    charges = f"; charges other than MMFF94's: {other}" if other else ""
    note(f"wrote {output}: {words}{left}{charges}; {rate:.1f} molecules/s")
    return pack


def _parts(output: Path) -> Path:
    return output.with_name(f"{output.name}.parts")


def _list_of_failures(output: Path) -> Path:
    return output.with_suffix(".failed.csv")


def _follow(steps: "Iterator[Progress]", total: int) -> "Progress":
    """Show each step in a bar on a terminal; return the last one."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("molecules{task.description}"), TimeRemainingColumn()
    last, begin, pulse = None, time.perf_counter(), Pulse()
    try:
        with Bar(*columns, console=progress_console(), transient=True, disable=not shows_progress()) as bar:
            task = bar.add_task("", total=total)
            for last in steps:
                rate = (last.done - last.before) / (time.perf_counter() - begin)
                failed = sum(last.failed.values())
                words = f", {rate:.0f} per second, {failed} left out"
                bar.update(task, completed=last.done, description=words)
                pulse.beat(f"{last.done} of {total} molecules{words}".__str__)
    except KeyboardInterrupt:
        kept = f"the same command goes on from the {last.kept} that are kept" if last and last.kept else "none is kept"
        note(f"interrupted after {last.done if last else 0} of {total} molecules; {kept}")
        raise
    if last is None:
        raise AssertionError("the last progress brings the pack")
    return last


def _tell_failures(failures: "Sequence[Failure]", listed: Path | None) -> None:
    """Write to stderr how many rows are left out for each reason, and list them in a csv."""
    if failures:
        _print_failures(failures)
    if listed:
        _write_failures(failures, listed)


def _print_failures(failures: "Sequence[Failure]") -> None:
    """Write a table to stderr: how many rows are left out for each reason, and an example."""
    from rich.table import Table

    reasons: dict[str, list[Failure]] = {}
    for failure in failures:
        reasons.setdefault(failure.reason, []).append(failure)
    table = Table("left out", "rows", "for example", box=None, pad_edge=False, header_style="bold")
    for reason, some in sorted(reasons.items(), key=lambda item: -len(item[1])):
        example = f"row {some[0].row}: {some[0].detail}"
        table.add_row(reason, str(len(some)), one_line(example))
    console = progress_console()
    with console.capture() as capture:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()), err=True)


def _write_failures(failures: "Sequence[Failure]", path: Path) -> None:
    from afmid.io.atomic import atomic_path

    if not failures:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "smiles", "reason", "detail"])
        writer.writerows(failures)


def _show(path: str, as_json: bool) -> None:
    """Print what is in a pack."""
    from afmid.data.pack import read_pack
    from afmid.data.pack_summary import HEIGHTS, summarise

    summary = summarise(read_pack(path))
    if as_json:
        print_json({**asdict(summary), "height_bins_angstrom": [0, *HEIGHTS, None]})
        return
    for i, (heads, rows) in enumerate(_tables(summary)):
        if i:
            typer.echo()
        print_table(heads, rows)


def _tables(summary: "Summary") -> "Iterator[tuple[Sequence[str], list[list[str]]]]":
    """Yield the heads and rows of what there is to show."""
    from afmid.data.pack_summary import ATOMS, HEIGHTS

    yield ["molecules", "conformers"], _words([[summary.molecules, summary.conformers]])
    yield ["element", "molecules"], _words(summary.elements.items())
    sources: Counter[str] = sum(map(Counter, summary.splits.values()), Counter())
    counts = [
        [source, *(split.get(source, 0) for split in summary.splits.values())] for source, _ in sources.most_common()
    ]
    in_all = ["all", *(sum(split.values()) for split in summary.splits.values())]
    yield ["source", *summary.splits], _words([*counts, in_all])
    yield ["atoms", "molecules"], _words((f"{low} to {low + ATOMS - 1}", count) for low, count in summary.atoms.items())
    bounds = [f"{low:g} to {high:g} Å" for low, high in pairwise((0, *HEIGHTS))] + [f"above {HEIGHTS[-1]:g} Å"]
    heights = zip(bounds, summary.free_by_height, summary.pressed_by_height, strict=True)
    yield ["height of the heavy atoms", "free conformers", "pressed conformers"], _words(heights)


def _words(rows: "Iterable[Iterable[object]]") -> list[list[str]]:
    return [[str(cell) for cell in row] for row in rows]
