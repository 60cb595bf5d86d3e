"""`afmid train`: molecules to weights."""

import importlib.util
import json
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from afmid.cli.main import INTERRUPTED
from afmid.cli.options import Device, Settings, check_inputs, duration, registry
from afmid.cli.output import Pulse, check_file, note, progress_console, shows_progress
from afmid.errors import DataError, PluginError, UsageError
from afmid.offers import Task, Trainer
from afmid.plugins import parse_options
from afmid.recipe import Recipe

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from afmid.data.feed import Feed
    from afmid.data.pack import MoleculePack
    from afmid.data.scan_set import ScanSet
    from afmid.training import Progress

PACK = "pack.npz"
OF_A_RUN = (
    "recipe.json", "metrics.jsonl", "curves.png", "last.ckpt", "best.safetensors", "pictures/*",
    "events.out.tfevents.*",
)  # fmt: skip
OF_THE_ENGINE = "engine."


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
        Path,
        typer.Option(
            "--data",
            metavar="PATH",
            help="molecules: a pack (npz), a list of SMILES, an sdf or xyz file, a folder of these; or stored scans: "
            "a folder, a tar, QUAM-AFM",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="folder of the run [default: runs/METHOD]")
    ] = None,
    recipe_file: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="options in TOML, or the recipe.json of a run")
    ] = None,
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, metavar="N", help="seed of the run")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="take N molecules of the list, drawn by chance")
    ] = None,
    press: Annotated[
        float | None,
        typer.Option(
            "--press", min=0, max=1, metavar="SHARE", help="share of a list's molecules that are pressed flat"
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=0, metavar="N", help="processes that prepare a list; 0: all cores")
    ] = 0,
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="what simulates; auto: the fastest (--set engine.KEY=VALUE)")
    ] = "auto",
    device: Device = "auto",
    nproc: Annotated[
        int, typer.Option("--nproc", min=1, metavar="N", help="processes that train together, one for each GPU")
    ] = 1,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="stop after this time, such as 90s, 9m or 1h30m")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="write figures for TensorBoard, too")] = False,
    force: Annotated[bool, typer.Option("--force", help="start anew where the folder holds a run")] = False,
) -> None:
    """Train a method on molecules, with scans simulated on the fly, or on stored scans.

    A run that was stopped goes on when the same command is given again. The best weights are in
    FOLDER/best.safetensors, the figures in metrics.jsonl and curves.png, predictions in pictures/. Options of the
    method: afmid plugins METHOD. It runs under torchrun, too.

    \b
    afmid train METHOD --data molecules.csv.gz --limit 2000 --budget 30m
    afmid train METHOD --data pack.npz --recipe recipe.toml -o runs/small --set steps=500 --set batch=8
    afmid train METHOD --data pack.npz --nproc 4 --tensorboard
    """
    trainer = registry().get(Trainer, method)
    check_inputs([str(data), *([str(recipe_file)] if recipe_file else [])])
    mine = [pair for pair in settings or () if not pair.startswith(OF_THE_ENGINE)]
    of_engine = [pair.removeprefix(OF_THE_ENGINE) for pair in settings or () if pair.startswith(OF_THE_ENGINE)]
    recipe = _recipe(trainer, recipe_file, [*mine, *([] if seed is None else [f"seed={seed}"])])
    seconds = duration(budget) if budget else float("inf")
    folder = output or Path("runs") / method
    check_file(folder / PACK, force=True)
    listed = _is_list(data)
    if not listed and not (limit is None and press is None):
        raise UsageError("--limit and --press are for lists of molecules; a pack or a set of scans is taken whole")
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UsageError("--tensorboard needs the package tensorboard: pip install 'afmid[tensorboard]'")

    from afmid import processes
    from afmid.devices import resolve_device

    if nproc > 1 and not processes.started():
        raise typer.Exit(processes.launch([sys.executable, "-m", "afmid", *sys.argv[1:]], nproc))
    place = resolve_device(device)
    with processes.joined(place):
        from afmid.data.feed import open_feed
        from afmid.training import fit

        if listed:
            data = processes.first(partial(_prepared, data, folder, limit, press, jobs, force))
        rank, world = processes.rank(), processes.world()

        def loaded() -> "tuple[MoleculePack | ScanSet, Task, Feed]":
            source = _opened(data)
            task = registry().load(trainer, recipe, place)
            if recipe.start and (force or not (folder / "last.ckpt").exists()):
                _start(task, method, recipe.start)
            feed = open_feed(source, recipe, task.maps, place, registry(), engine, of_engine, rank, world)
            return source, task, feed

        source, task, feed = processes.together(loaded)
        if force:
            processes.first(partial(_clear, folder))
        if rank == 0:
            note(f"training {method} on {place}, {_count(source)}; the run is in {folder}")
        stop = _stop_at_a_signal()
        with closing(fit(task, feed, recipe, folder, seconds, stop, tensorboard)) as steps:
            stopped = _follow(steps, quiet=rank > 0)
    best = folder / "best.safetensors"
    if best.exists() and rank == 0 and not stopped:
        note(f"the best weights so far are those of step {_step(best, method)}")
        typer.echo(best)
    elif rank == 0 and not stopped:
        note("no weights were kept, since no validation had a loss: too little was found yet; train longer")
    raise typer.Exit(INTERRUPTED if stopped else 0)


def _recipe(trainer: Trainer, file: Path | None, pairs: Sequence[str]) -> Recipe:
    """Return the recipe that a file and "key=value" strings, which outweigh it, make.

    Raises:
        DataError: the file holds no recipe.
        UsageError: an option that the method does not have, or a value out of range.
    """
    base: dict[str, Any] = {}
    if file:
        try:
            text = file.read_text()
            base = json.loads(text)["recipe"] if file.suffix == ".json" else tomllib.loads(text)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{file}: no recipe, neither in TOML nor the recipe.json of a run: {error}") from error
    try:
        recipe = parse_options(trainer, pairs, base)
    except UsageError as error:
        raise UsageError(f"{file}: {error}" if file and not pairs else str(error)) from error
    if not isinstance(recipe, Recipe):
        raise PluginError(f"trainer {trainer.name!r}: its options must be an afmid.recipe.Recipe; tell its author")
    return recipe


def _step(weights: Path, method: str) -> str:
    """Return the step that weights of a run are of."""
    from afmid.weights import read_safetensors

    return read_safetensors(weights, method)[1].get("step", "?")


def _start(task: Task, method: str, weights: str) -> None:
    """Give a task's network the weights of a file.

    Raises:
        WeightsError: there is none, or it is not of this method.
        DataError: it is of another network.
    """
    from afmid.weights import read_safetensors

    tensors, _ = read_safetensors(Path(weights), method)
    try:
        task.model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{weights}: does not fit the network of this recipe: {reason}") from error


def _clear(folder: Path) -> None:
    for pattern in OF_A_RUN:
        for path in folder.glob(pattern):
            path.unlink()


def _is_list(data: Path) -> bool:
    """Return whether there are molecules that are to be prepared: in a list, a molecule file or a folder of those."""
    from afmid.data.rows import GEOMETRIES, LISTS
    from afmid.data.scan_set import FILES, TAR

    if not data.is_dir():
        return data.name.lower().removesuffix(".gz").endswith((*LISTS, *GEOMETRIES))
    names = [path.name.lower() for path in data.iterdir()]
    scans = any(name.endswith((*FILES, TAR)) for name in names)
    return not scans and any(name.removesuffix(".gz").endswith(GEOMETRIES) for name in names)


def _opened(data: Path) -> "MoleculePack | ScanSet":
    """Return the molecules of a pack, or a set of scans."""
    from afmid.data.pack import read_pack
    from afmid.data.scan_set import open_scans

    return read_pack(data) if data.suffix.lower() == ".npz" else open_scans([data])


def _count(source: "MoleculePack | ScanSet") -> str:
    """Return how many molecules or scans there are to learn from, and to validate with."""
    from afmid.data.pack import MoleculePack

    split, what = (source.conformers, "conformers") if isinstance(source, MoleculePack) else (source.of_split, "scans")
    return f"{len(split('train'))} {what} to learn from and {len(split('val'))} to validate with"


def _prepared(data: Path, folder: Path, limit: int | None, press: float | None, jobs: int, fresh: bool) -> Path:
    """Return the pack of a list's molecules to train on and to validate with, prepared once and kept in the folder.

    Raises:
        DataError: no molecules in it.
        UsageError: the folder holds those of another list, or prepared in another way.
    """
    from afmid.cli.prepare import prepare_pack
    from afmid.data.pack import read_pack
    from afmid.data.prepare import PrepareOptions
    from afmid.data.rows import read_rows, rows_sha256, select

    options = PrepareOptions() if press is None else PrepareOptions(press=press)
    rows = select(read_rows([str(data)]), limit)  # of all splits: one that names another keeps a molecule from training
    kept = folder / PACK
    if fresh or not kept.exists():
        prepare_pack(rows, options, kept, jobs, force=fresh)
    else:
        meta = read_pack(kept).meta
        if (meta.get("rows_sha256"), meta.get("options")) != (rows_sha256(rows), options.model_dump()):
            raise UsageError(f"{folder} holds a run on other molecules; give another folder with -o, or --force")
    return kept


def _stop_at_a_signal() -> Callable[[], bool]:
    """Return what tells whether SIGINT or SIGTERM came. After either, another SIGINT is a KeyboardInterrupt."""
    from afmid import processes

    caught: list[int] = []

    def catch(number: int, _: Any) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, catch)
    launcher = os.getppid() if processes.started() else None
    return lambda: bool(caught) or (launcher is not None and os.getppid() != launcher)  # which was killed


def _follow(steps: "Iterator[Progress]", quiet: bool) -> bool:
    """Show each step on stderr: a bar on a terminal, and a line at every validation anywhere.

    Returns:
        Whether the run was stopped before its end.
    """
    last: Progress | None = None
    pulse = Pulse()
    with _bar(quiet) as bar:
        for last in steps:
            words = f"step {last.step} of {last.steps}: {_words(last)}"
            if not bar.tasks:  # what an earlier run has done does not count for the time that is left
                bar.add_task(words, total=last.steps, completed=last.step)
            bar.update(bar.tasks[0].id, completed=last.step, description=_words(last))
            if last.validation:
                figures = ", ".join(f"{name} {value:.4g}" for name, value in last.validation.items())
                note(f"{words}; validation: {figures}")
                pulse.rest()
            elif not quiet:
                pulse.beat(words.__str__)
    early = last is not None and last.step < last.steps
    if last and early and not quiet:
        of = "stopped" if last.stopped else "time is up"
        note(f"{of} after step {last.step} of {last.steps}; the same command goes on from there")
    return last is not None and early and last.stopped


def _words(progress: "Progress") -> str:
    each = ", ".join(f"{name} {value:.4g}" for name, value in progress.losses.items())
    losses = f" ({each})" if len(progress.losses) > 1 else ""
    rate = f"{progress.rate:.{0 if progress.rate >= 10 else 2}f} scans/s"
    return f"loss {progress.loss:.4g}{losses}, {rate}, waits for data {100 * progress.waiting:.0f} %"


@contextmanager
def _bar(quiet: bool) -> "Iterator[Bar]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words = MofNCompleteColumn(), TextColumn("steps"), TextColumn("{task.description}"), TimeRemainingColumn()
    hidden = quiet or not shows_progress()
    with Progress(BarColumn(), *words, console=progress_console(), transient=True, disable=hidden) as bar:
        yield bar
