"""`afmid weights`: pretrained weights, listed, fetched, verified and exported."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from afmid import weights
from afmid.cli.options import Force, Json, registry
from afmid.cli.output import check_file, note, print_json, print_table, progress_console, shows_progress
from afmid.errors import WeightsError

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="which weights; all where none is named")]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def weights_(context: typer.Context) -> None:
    """List, fetch, verify or export pretrained weights.

    They come from the mirror in AFMID_WEIGHTS_URL (http, https, sftp, a DOI or a directory), else from the plugins,
    and verified copies lie in the folder AFMID_CACHE.

    \b
    afmid weights list
    afmid weights fetch
    AFMID_WEIGHTS_URL=https://server.example/afmid afmid weights fetch
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_(json_: Json = False) -> None:
    """List weights and their state.

    They are cached, shipped with the plugin, missing, or damaged.

    \b
    afmid weights list
    afmid weights list --json
    """
    entries = _chosen(None)
    states = [weights.state(entry, _cache()) for entry in entries]
    if json_:
        for entry, state in zip(entries, states, strict=True):
            print_json(_record(entry, state))
        return
    rows = [_row(entry, state) for entry, state in zip(entries, states, strict=True)]
    print_table(("name", "method", "version", "size", "licence", "state", "scores"), rows)


@app.command()
def fetch(names: Names = None, json_: Json = False) -> None:
    """Fetch and check weights, and print where they lie.

    \b
    afmid weights fetch
    AFMID_WEIGHTS_URL=/mnt/lab/afmid afmid weights fetch --json
    """
    for entry in _chosen(names):
        with _bar(entry) as progress:
            path = weights.fetch(entry, cache=_cache(), mirror=_mirror(), progress=progress)
        if json_:
            print_json({"name": entry.name, "path": str(path), "sha256": entry.sha256, "size_bytes": entry.size})
        else:
            typer.echo(path)


@app.command()
def verify(names: Names = None, json_: Json = False) -> None:
    """Check every copy on this machine.

    The exit code is 1 where one does not have the SHA-256 that its plugin lists.

    \b
    afmid weights verify
    afmid weights verify --json
    """
    damaged = []
    for entry in _chosen(names):
        copies = weights.copies(entry, _cache())
        damaged += [copy for copy in copies if not copy.good]
        for copy in copies:
            _tell(json_, entry, "good" if copy.good else "damaged", copy.place, copy.path, copy.sha256)
        if not copies:
            _tell(json_, entry, "missing")
    for copy in damaged:
        note(copy.fault)
    if damaged:
        raise WeightsError(f"{len(damaged)} damaged cop{'y' if len(damaged) == 1 else 'ies'} of weights")


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="folder to write to")],
    names: Names = None,
    force: Force = False,
) -> None:
    """Write weights to a folder that serves as mirror.

    It may be served over the web as well. Its weights.toml tells where the weights come from.

    \b
    afmid weights export -o mirror/
    AFMID_WEIGHTS_URL=mirror/ afmid weights fetch
    """
    entries = _chosen(names)
    for entry in entries:
        check_file(output / entry.file, force)
    for path in weights.export(entries, output, cache=_cache(), mirror=_mirror()):
        typer.echo(path)


def _cache() -> Path:
    return weights.cache_folder(os.environ)


def _mirror() -> str | None:
    return weights.mirror_url(os.environ)


def _chosen(names: list[str] | None) -> list[weights.WeightsEntry]:
    if names:
        return [weights.find(registry(), name) for name in names]
    entries = weights.available(registry())
    if not entries:
        note("no installed plugin brings weights; make some: afmid train METHOD")
    return entries


def _row(entry: weights.WeightsEntry, state: str) -> tuple[str, ...]:
    scores = ", ".join(f"{name} {score:.4g}" for name, score in entry.scores.items())
    return entry.name, entry.method, entry.version, f"{entry.size / 2**20:.2f} MiB", entry.license, state, scores


def _record(entry: weights.WeightsEntry, state: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(entry.model_dump_json())
    record["size_bytes"] = record.pop("size")
    return record | {"state": state}


def _tell(
    json_: bool, entry: weights.WeightsEntry, state: str, place: str = "", path: Path | None = None, sha256: str = ""
) -> None:
    if json_:
        found = {"place": place, "path": str(path), "sha256": sha256} if path else {}
        print_json({"name": entry.name, "state": state, "expected_sha256": entry.sha256, **found})
    else:
        typer.echo("  ".join([f"{state:8}", entry.name, *([f"{place}: {path}"] if path else [])]))


@contextmanager
def _bar(entry: weights.WeightsEntry) -> Iterator[weights.Progress | None]:
    """Draw a progress bar on stderr, where that is a terminal."""
    if not shows_progress():
        yield None
        return
    from rich.progress import Progress

    with Progress(console=progress_console(), transient=True) as bar:
        task = bar.add_task(entry.name, total=entry.size)
        yield lambda done, total: bar.update(task, completed=done, total=total)
