"""`afmid evaluate`: how right a method is, on scans whose molecule is known."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from afmid.cli.identify import MethodName, Weights, choose, load
from afmid.cli.options import Device, Json, Settings, check_inputs, registry, settings_of
from afmid.cli.output import print_json, print_table, track
from afmid.errors import DataError
from afmid.offers import Metric
from afmid.plugins import parse_options

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
    scans, with its 95 % interval (bootstrap). The metrics there are: afmid plugins.

    \b
    afmid evaluate test/*.npz --metrics atoms,elements
    afmid evaluate scan.npz --method descriptor --json
    """
    known = registry()
    chosen = choose(known, method)
    names = [identifier.name for identifier in chosen]
    options = [parse_options(offer, settings_of(offer.name, settings, names)) for offer in chosen]
    wanted = [name.strip() for name in metrics.split(",")] if metrics else []
    judges = [known.get(Metric, name) for name in wanted] or known.all(Metric)
    check_inputs(scans)

    from afmid.evaluate import evaluate as judge
    from afmid.evaluate import summarise
    from afmid.io import read_scan

    loaded = load(known, chosen, options, weights, device)
    figures: dict[str, list[Mapping[str, float]]] = {name: [] for name in names}
    digest = hashlib.sha256()
    for path in track(scans, "scans"):
        scan = read_scan(path)
        truth = _truth(scan, path)
        digest.update(scan.df.tobytes() + truth.numbers.tobytes() + truth.positions.tobytes())
        for part in loaded:
            record = judge(part.answer(scan, path), truth, judges)
            figures[part.identifier.name].append(record)
            if json_:
                print_json({"scan": path, "method": part.identifier.name, **record})
    if not json_:
        for name, records in figures.items():
            typer.echo(f"{name} on {len(scans)} scans, data {digest.hexdigest()[:16]}")
            print_table(("figure", "mean", "95 % interval", "n"), _rows(summarise(records)))


def _truth(scan: "Scan", path: str) -> "Molecule":
    if scan.truth is None:
        raise DataError(f"{path}: does not hold the true molecule; scans made by afmid simulate do")
    return scan.truth


def _rows(summaries: "Mapping[str, Summary]") -> list[tuple[str, str, str, str]]:
    return [
        (name, f"{s.mean:.4g}", "" if s.low is None else f"{s.low:.4g} to {s.high:.4g}", str(s.n))
        for name, s in summaries.items()
    ]
