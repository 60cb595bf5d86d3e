"""`afmid evaluate`: how right a method is, on scans whose molecule is known."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from afmid.cli.identify import FAILED
from afmid.cli.methods import MethodName, Weights, choose, load
from afmid.cli.options import Device, Json, Settings, registry, settings_of
from afmid.cli.output import STANDARD, few_warnings, note, print_json, print_table, track
from afmid.errors import DataError, PluginError, UsageError
from afmid.offers import Metric, Score
from afmid.plugins import Registry, parse_options

if TYPE_CHECKING:
    from afmid.evaluate import Summary
    from afmid.molecule import Molecule
    from afmid.scan import Scan

log = logging.getLogger(__name__)

BONDS = "bonds"  # the metric


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

    SCAN is a file that holds its truth, as those of afmid simulate do, or - for stdin; or a data set: a folder, a glob,
    a tar shard of afmid simulate or of ml-spm, a folder of QUAM-AFM. Each figure is a mean over n scans, with its 95 %
    interval (bootstrap). A scan that cannot be read, or has no answer or no truth, is left out, and the exit code is
    then 1. The metrics there are: afmid plugins.

    \b
    afmid evaluate test/ --metrics atoms,elements
    afmid evaluate scan.npz --method all --json
    """
    known = registry()
    chosen = choose(known, method)
    names = [identifier.name for identifier in chosen]
    options = [parse_options(offer, settings_of(offer.name, settings, names)) for offer in chosen]
    scores = _scores(known, [name.strip() for name in metrics.split(",")] if metrics else [])
    if scans.count(STANDARD) > 1:
        raise UsageError("stdin (-) can be read only once")

    from afmid.data.scan_set import open_scans
    from afmid.evaluate import evaluate as judge
    from afmid.evaluate import summarise

    data = open_scans(scans)
    loaded = load(known, chosen, options, weights, device)
    figures: dict[str, list[Mapping[str, float]]] = {part.identifier.name: [] for part in loaded}
    digest = hashlib.sha256()
    failed = 0
    with few_warnings():
        for index in track(range(len(data)), "scans"):
            path = data.names[index]
            try:
                scan = data[index]
                truth = _truth(scan, path, with_bonds=BONDS in scores)
                found = {part.identifier.name: judge(part.answer(scan, path), truth, scores) for part in loaded}
            except DataError as error:  # the other scans are wanted all the same
                log.warning("left out: %s", error)
                failed += 1
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
        note(f"{failed} of {len(data)} scans were left out")
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


def _truth(scan: "Scan", path: str, with_bonds: bool) -> "Molecule":
    """Return the true molecule; bonds that it does not name are perceived where they are asked for."""
    if scan.truth is None:
        raise DataError(f"{path}: does not hold the true molecule; scans made by afmid simulate do")
    if len(scan.truth.bonds) or not with_bonds:
        return scan.truth
    from afmid.chem import perceive_bonds

    return perceive_bonds(scan.truth)


def _rows(summaries: "Mapping[str, Summary]") -> list[tuple[str, str, str, str]]:
    return [
        (name, f"{s.mean:.4g}", "" if s.low is None else f"{s.low:.4g} to {s.high:.4g}", str(s.n))
        for name, s in summaries.items()
    ]
