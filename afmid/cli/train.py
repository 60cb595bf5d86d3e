"""`afmid train`: molecules to weights."""

import hashlib
import os
import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from afmid.cli.options import Device, Settings, check_inputs, duration, registry
from afmid.cli.output import check_file, note, progress_console, shows_progress, with_folder
from afmid.errors import PluginError, UsageError
from afmid.offers import Trainer
from afmid.plugins import parse_options
from afmid.recipe import Recipe

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from afmid.data.pack import MoleculePack
    from afmid.data.prepare import Row
    from afmid.training import Progress

PACK = "pack.npz"
OF_A_RUN = ("recipe.json", "metrics.jsonl", "last.ckpt", "best.safetensors")  # and pictures/
ROWS_PER_JOB = 50  # below this another process costs more than it brings


class Train(TyperCommand):
    """Its help ends with the methods that can be trained."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the trainers that are installed."""
        if trainers := registry().all(Trainer):
            with formatter.section("Methods"):
                formatter.write_dl([(trainer.name, trainer.summary) for trainer in trainers])


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(cls=Train)
def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", hidden=True)],
    data: Annotated[
        Path, typer.Option("--data", metavar="FILE", help="SMILES (csv, txt, gzipped or not) or a molecule pack (npz)")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="folder of the run [default: runs/METHOD]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="take N molecules of the list, drawn by chance")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, metavar="N", help="seed of the run")] = None,
    settings: Settings = None,
    device: Device = "auto",
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, metavar="N", help="processes that prepare molecules [default: cores]")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="stop after this time, such as 90s, 9m or 1h30m")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="start anew where the folder holds a run")] = False,
) -> None:
    """Train a method on molecules, with scans simulated on the fly.

    A run that was stopped goes on when the same command is given again. The best weights are in
    FOLDER/best.safetensors, the figures in metrics.jsonl, predictions in pictures/.

    \b
    afmid train METHOD --data molecules.csv.gz --limit 2000 --budget 30m
    afmid train METHOD --data molecules.csv.gz -o runs/small --set steps=500 --set batch=8
    afmid plugins METHOD
    """
    trainer = registry().get(Trainer, method)
    pairs = [*(settings or ()), *([] if seed is None else [f"seed={seed}"])]
    recipe = parse_options(trainer, pairs)
    if not isinstance(recipe, Recipe):
        raise PluginError(f"trainer {method!r}: its options must be an afmid.recipe.Recipe; tell its author")
    seconds = duration(budget) if budget else float("inf")
    folder = output or Path("runs") / method
    check_inputs([str(data)])
    check_file(folder / PACK, force=True)

    from afmid.devices import resolve_device

    place = resolve_device(device)
    pack = _pack(data, folder, limit, jobs, fresh=force)

    from afmid.training import fit

    task = registry().load(trainer, recipe, pack, place)
    if force:
        _clear(folder)
    note(f"training {method} on {place}, {len(pack)} molecules; the run is in {folder}")
    with closing(fit(task, recipe, folder, data=pack.sha256, budget=seconds)) as steps:
        _follow(steps)
    best = folder / "best.safetensors"
    if best.exists():
        typer.echo(best)


def _clear(folder: Path) -> None:
    for name in OF_A_RUN:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "pictures", ignore_errors=True)


def _pack(data: Path, folder: Path, limit: int | None, jobs: int | None, fresh: bool) -> "MoleculePack":
    """Return the molecules of a pack or list; of a list they are prepared once and kept in the run's folder.

    Raises:
        DataError: no molecules in it.
        UsageError: the folder holds those of another list, or --limit with a pack.
    """
    from afmid.data.pack import read_pack, write_pack

    if data.suffix == ".npz":
        if limit:
            raise UsageError("--limit is for lists of SMILES; a pack is taken whole")
        return read_pack(data)
    origin = {"list_sha256": hashlib.sha256(data.read_bytes()).hexdigest(), "limit": limit}
    kept = folder / PACK
    if kept.exists() and not fresh:
        pack = read_pack(kept)
        if {key: pack.meta.get(key) for key in origin} != origin:
            raise UsageError(f"{folder} holds a run on other molecules; give another folder with -o, or --force")
        return pack
    rows = _rows(data, limit)
    made_pack = _prepare(rows, jobs or max(1, min(os.cpu_count() or 1, len(rows) // ROWS_PER_JOB)))
    pack = replace(made_pack, meta={**made_pack.meta, **origin})
    write_pack(pack, with_folder(kept))
    return pack


def _rows(data: Path, limit: int | None) -> "list[Row]":
    """Return the rows to train on and to validate with, of which `limit` are drawn by chance, in the list's order."""
    from afmid.data.prepare import read_smiles_list

    rows = [row for row in read_smiles_list(data) if row.split in (None, "train", "val")]
    if limit is None or limit >= len(rows):
        return rows
    drawn = random.Random(0).sample(range(len(rows)), limit)  # noqa: S311 (no secret)
    return [rows[i] for i in sorted(drawn)]


def _prepare(rows: "Sequence[Row]", jobs: int) -> "MoleculePack":
    from afmid.data.prepare import prepare

    note(f"preparing {len(rows)} molecules")
    with _bar("molecules") as bar:
        task = bar.add_task("", total=len(rows))
        for progress in prepare(rows, jobs=jobs):
            bar.update(task, completed=progress.done)
            if progress.pack is not None:
                return progress.pack
    raise AssertionError("the last progress brings the pack")


def _follow(steps: "Iterator[Progress]") -> None:
    """Show each step on stderr: a bar on a terminal, and a line at every validation anywhere."""
    last: Progress | None = None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's way to say stop
    try:
        with _bar("steps") as bar:
            for last in steps:
                rate = f"{last.rate:.{0 if last.rate >= 10 else 2}f} scans/s"
                words = f"loss {last.loss:.4g}, {rate}, waits for data {100 * last.waiting:.0f} %"
                if not bar.tasks:  # what an earlier run has done does not count for the time that is left
                    bar.add_task(words, total=last.steps, completed=last.step)
                bar.update(bar.tasks[0].id, completed=last.step, description=words)
                if last.validation:
                    figures = ", ".join(f"{name} {value:.4g}" for name, value in last.validation.items())
                    note(f"step {last.step} of {last.steps}: {words}; validation: {figures}")
    except KeyboardInterrupt:
        note(f"stopped{f' after step {last.step}' if last else ''}; the same command goes on from there")
        raise
    if last and last.step < last.steps:
        note(f"time is up after step {last.step} of {last.steps}; the same command goes on from there")


@contextmanager
def _bar(unit: str) -> "Iterator[Bar]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words = MofNCompleteColumn(), TextColumn(unit), TextColumn("{task.description}"), TimeRemainingColumn()
    with Progress(BarColumn(), *words, console=progress_console(), transient=True, disable=not shows_progress()) as bar:
        yield bar
