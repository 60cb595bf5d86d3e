"""`afmid evaluate`: how right a method is, on scans whose molecule is known."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from afmid.cli.identify import FAILED, MethodName, Weights, choose, load
from afmid.cli.options import Device, Json, Settings, check_inputs, registry, settings_of
from afmid.cli.output import note, print_json, print_table, track
from afmid.errors import DataError, PluginError
from afmid.offers import Metric, Score
from afmid.plugins import Registry, parse_options

if TYPE_CHECKING:
    from afmid.evaluate import Summary
    from afmid.molecule import Molecule
    from afmid.scan import Scan


def evaluate(
    scans: Annotated[list[str], typer.Argument(metavar="SCAN", hidden=True)],
    method: MethodName = None,
    weights: Weights = None,
    metrics: Annotated[str | None, typer.Option("--metrics", metavar="A,B", help="which [default: all]")] = None,
    device: Device = "auto",
    settings: Settings = None,
    json_: Json = False,
) -> None:
    """Identify scans whose molecule is known, and say how right the answers are.

    SCAN is a file that holds its truth, as those of afmid simulate do, or - for stdin. Each figure is a mean over n
    scans, with its 95 % interval (bootstrap). A scan that has no answer or no truth is left
    out, and the exit code is then 1. The metrics there are: afmid plugins.

    \b
    afmid evaluate test/*.npz --metrics atoms,elements
    afmid evaluate scan.npz --method all --json
    """
    known = registry()
    chosen = choose(known, method)
    names = [identifier.name for identifier in chosen]
    options = [parse_options(offer, settings_of(offer.name, settings, names)) for offer in chosen]
    scores = _scores(known, [name.strip() for name in metrics.split(",")] if metrics else [])
    check_inputs(scans)

    from afmid.evaluate import evaluate as judge
    from afmid.evaluate import summarise
    from afmid.io import read_scan

    loaded = load(known, chosen, options, weights, device)
    figures: dict[str, list[Mapping[str, float]]] = {part.identifier.name: [] for part in loaded}
    digest = hashlib.sha256()
    failed = False
    for path in track(scans, "scans"):
        try:
            scan = read_scan(path)
            truth = _truth(scan, path)
            found = {part.identifier.name: judge(part.answer(scan, path), truth, scores) for part in loaded}
        except DataError as error:  # the other scans are wanted all the same
            note(str(error))
            failed = True
            continue
        digest.update(scan.df.tobytes() + truth.numbers.tobytes() + truth.positions.tobytes())
        for name, record in found.items():
            figures[name].append(record)
            if json_:
                print_json({"scan": path, "method": name, **record})
    for name, records in figures.items():
        if records and not json_:
            typer.echo(f"{name} on {len(records)} scans, data {digest.hexdigest()[:16]}")
            print_table(("figure", "mean", "95 % interval", "n"), _rows(summarise(records)))
    if failed:
        raise typer.Exit(FAILED)


def _scores(known: Registry, names: Sequence[str]) -> dict[str, Score]:
    """Load the metrics of these names; where none is named, all that load.

    Raises:
        UsageError: no metric of a name.
        PluginError: a metric that was named needs a module that is not there.
    """
    if names:
        return {name: known.load(known.get(Metric, name)) for name in names}
    scores = {}
    for metric in known.all(Metric):
        try:
            scores[metric.name] = known.load(metric)
        except PluginError as error:
            note(f"warning: {error}")
    return scores


def _truth(scan: "Scan", path: str) -> "Molecule":
    if scan.truth is None:
        raise DataError(f"{path}: does not hold the true molecule; scans made by afmid simulate do")
    return scan.truth


def _rows(summaries: "Mapping[str, Summary]") -> list[tuple[str, str, str, str]]:
    return [
        (name, f"{s.mean:.4g}", "" if s.low is None else f"{s.low:.4g} to {s.high:.4g}", str(s.n))
        for name, s in summaries.items()
    ]
