"""`afmid evaluate`: how right methods are, on scans whose molecule is known."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import afmid
from afmid.cli.identify import FAILED
from afmid.cli.methods import Loaded, MethodName, Weights, load, wanted
from afmid.cli.options import Device, Force, Json, Settings, check_inputs, registry
from afmid.cli.output import (
    STANDARD,
    check_file,
    few_warnings,
    is_folder,
    note,
    one_line,
    print_table,
    track,
    with_folder,
)
from afmid.cli.stages import Candidates, Refine, Top
from afmid.errors import DataError, PluginError, UsageError
from afmid.offers import Metric, Score
from afmid.plugins import Registry

if TYPE_CHECKING:
    from afmid.evaluate.jury import Jury
    from afmid.evaluate.records import Evaluation, Header, LeftOut, Record
    from afmid.evaluate.suites import Suite
    from afmid.evaluate.tables import Row

log = logging.getLogger(__name__)

IN_FOLDER = ("records.jsonl", "scores.json", "scores.csv", "scores.md", "report.html")
SUFFIXES = (".jsonl", ".json", ".csv", ".md", ".html")
LONG_S = 10.0  # a run whose speed is of interest
ROBUST = "robust"  # the suite whose scans are told apart by what was done to them
TWO_TIPS = "two-tips"  # the suite whose samples have a second scan


def evaluate(
    scans: Annotated[list[str] | None, typer.Argument(metavar="SCAN", hidden=True)] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite", metavar="NAME|PATH", help="sim-open, two-tips, robust, afm-named, sim-test, sim-small; or scans"
        ),
    ] = None,
    method: MethodName = None,
    weights: Weights = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PACK", help="molecules that sim-test, sim-small, two-tips and robust take"),
    ] = None,
    only_first: Annotated[
        bool, typer.Option("--only-first", help="of two-tips show the methods the CO scan alone, to compare with")
    ] = False,
    candidates: Candidates = None,
    top: Top = None,
    refine: Refine = False,
    metrics: Annotated[str | None, typer.Option("--metrics", metavar="A,B", help="which [default: all]")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="take the first N scans (of robust: molecules)")
    ] = None,
    by: Annotated[
        Literal["corrugation", "atoms", "perturbation", "source"] | None,
        typer.Option("--by", metavar="KIND", help="tell scans apart: by corrugation, atoms, perturbation or source"),
    ] = None,
    all_figures: Annotated[
        bool, typer.Option("--all-figures", help="print all figures, not those alone that tell most")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PATH", help="folder/ for everything, or a jsonl, json, csv, md, html"),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option("--compare", metavar="A B", help="records of two runs to compare")
    ] = None,
    device: Device = "auto",
    settings: Settings = None,
    json_: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="print all figures as csv")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print the table in Markdown")] = False,
    force: Force = False,
) -> None:
    """Identify scans whose molecule is known, and say how right the answers are.

    The scans are those of a suite that afmid brings, or files that hold their truth, as those of afmid simulate do;
    folders, globs and tar shards of them, tars of ml-spm, a folder of QUAM-AFM, or - for stdin. A figure pools the
    atoms of n scans; beside it stands its 95 % interval (bootstrap over molecules). A scan that cannot be read, or has
    no answer or no truth, is left out, and the exit code is then 1. --json prints a record for each scan and method;
    such records, from -o too, are what --compare takes.

    \b
    afmid evaluate --suite sim-open --limit 50
    afmid evaluate --suite robust --method all -o robust/
    afmid evaluate --suite two-tips --only-first
    afmid evaluate scans/ --metrics atoms,elements --by corrugation
    afmid evaluate --compare old.jsonl new.jsonl
    """
    json_ = json_ or output == STANDARD
    if json_ + csv + markdown > 1:
        raise UsageError("give one of --json, --csv and --markdown")
    if compare:
        others = (scans, suite, method, data, only_first, candidates, refine, metrics, limit, by, output, settings)
        if any((*others, json_, csv)):
            raise UsageError("--compare takes two files of records, --all-figures and --markdown, and nothing else")
        _compare(compare, all_figures, markdown)
        return
    if only_first and suite != TWO_TIPS:
        raise UsageError(f"--only-first is for scans with two tips: --suite {TWO_TIPS}")
    known = registry()
    asked = wanted(known, method, settings, candidates, top, refine)
    judges = [known.get(Metric, name.strip()) for name in metrics.split(",")] if metrics else known.all(Metric)
    targets = _targets(None if output == STANDARD else output, force)
    suite_ = _suite(scans or [], suite, data, limit, device)
    scores = _scores(known, judges, named=bool(metrics))

    from afmid.evaluate.jury import Jury
    from afmid.evaluate.tables import score_rows

    loaded = load(known, asked, weights, device)
    lines = [file for file in targets if file.suffix == ".jsonl"]
    evaluation = _judged(suite_, loaded, Jury(scores), lines, json_, only_first)
    by = by or ("perturbation" if suite == ROBUST else None)
    if by and not evaluation.groups(by):
        note(f"the scans do not tell their {by}; here they are all together")
        by = None
    if evaluation.records:
        if not any(record.figures for record in evaluation.records):
            note(f"{', '.join(asked.names)}: gives nothing that these metrics judge; see: afmid plugins")
        if not json_:
            _print(evaluation, score_rows(evaluation, by, headline=not (all_figures or csv)), csv, markdown)
        for file in targets:
            _write(evaluation, by, file)
    if evaluation.left_out:
        note(f"{len({missed.scan for missed in evaluation.left_out})} of {len(suite_)} scans were left out")
        raise typer.Exit(FAILED)


def _suite(scans: list[str], name: str | None, data: Path | None, limit: int | None, device: str) -> "Suite":
    if bool(scans) == bool(name):
        names = "sim-open, two-tips, robust, afm-named, sim-test, sim-small"
        raise UsageError(f"give either scans or --suite NAME; suites: {names}")
    if scans.count(STANDARD) > 1:
        raise UsageError("stdin (-) can be read only once")
    if data:
        check_inputs([str(data)])

    from afmid.evaluate.suites import SUITES, open_suite, stored_suite

    if data and name not in SUITES:
        raise UsageError("--data is for suites that are drawn from a molecule pack, such as --suite sim-test")
    return open_suite(name, data, limit, device) if name else stored_suite(scans, limit)


def _scores(known: Registry, metrics: Sequence[Metric], named: bool) -> list[tuple[Metric, Score]]:
    """Load metrics.

    Raises:
        PluginError: one needs a module that is not there, and was named; others that do cost themselves.
    """
    scores = []
    for metric in metrics:
        try:
            scores.append((metric, known.load(metric)))
        except PluginError as error:
            if named:
                raise
            note(f"warning: {error}")
    return scores


def _targets(output: str | None, force: bool) -> list[Path]:
    """Return the files to write, after a look at whether they can be."""
    if output is None:
        return []
    if not is_folder(output) and Path(output).suffix not in SUFFIXES:
        raise UsageError(f"{output}: evaluations are written as {', '.join(SUFFIXES)}, or all into a folder/")
    files = [Path(output, name) for name in IN_FOLDER] if is_folder(output) else [Path(output)]
    for file in files:
        check_file(file, force)
    return files


def _judged(
    suite: "Suite", loaded: Sequence[Loaded], jury: "Jury", files: Sequence[Path], json_: bool, only_first: bool
) -> "Evaluation":
    """Judge the methods on a suite; records go into the files, and to stdout where wanted, as they are made."""
    from afmid.evaluate.records import Evaluation, to_line, writing

    records: list[Record] = []
    left_out: list[LeftOut] = []
    with ExitStack() as stack:
        sinks: list[Callable[[str], None]] = [stack.enter_context(writing(with_folder(file))) for file in files]
        sinks += [typer.echo] if json_ else []

        def emit(part: "Header | Record | LeftOut") -> None:
            for sink in sinks:
                sink(to_line(part))

        begin = time.perf_counter()
        stack.enter_context(few_warnings())
        name = f"{suite.name}, first tip alone" if only_first else suite.name
        for record in _records(suite, loaded, jury, left_out, only_first):
            if not records:
                emit(_header(name, loaded, jury))
            emit(record)
            records.append(record)
        header = _header(name, loaded, jury)
        if not records:
            emit(header)
        for missed in left_out:
            emit(missed)
        seconds = time.perf_counter() - begin
    if seconds > LONG_S:
        note(f"{len(suite)} scans in {seconds:.0f} s, {len(suite) / seconds:.2g} scans/s")
    return Evaluation(header, tuple(records), tuple(left_out))


def _records(
    suite: "Suite", loaded: Sequence[Loaded], jury: "Jury", left_out: "list[LeftOut]", only_first: bool
) -> "Iterator[Record]":
    """Yield the records, sample by sample, of the first scan alone or all; what cannot be judged joins `left_out`."""
    from afmid.evaluate.records import LeftOut

    def leave_out(scan: str, error: DataError, method: str = "") -> None:  # the others are wanted all the same
        log.warning("left out: %s", error)
        left_out.append(LeftOut(scan, str(error), method))

    for index in track(range(len(suite)), "scans"):
        try:
            sample = suite[index]
            truth = jury.truth(sample)
        except DataError as error:
            leave_out(suite.names[index], error)
            continue
        for part in loaded:
            begin = time.perf_counter()
            try:
                scans = sample.blind[:1] if only_first else sample.blind
                answer = part.answer(scans, [sample.name] * len(scans))
                seconds = time.perf_counter() - begin
                record = jury.record(part.identifier, answer, sample, truth, seconds)
            except DataError as error:
                leave_out(sample.name, error, part.identifier.name)
            else:
                yield record


def _header(suite: str, loaded: Sequence[Loaded], jury: "Jury") -> "Header":
    from afmid.evaluate.records import Header, JudgedMethod

    methods = {
        part.identifier.name: JudgedMethod(part.version, _sha256(part.weights), part.settings) for part in loaded
    }
    return Header(afmid.__version__, suite, methods, jury.headline)


def _sha256(file: Path | None) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else ""


def _print(evaluation: "Evaluation", rows: "Sequence[Row]", csv: bool, markdown: bool) -> None:
    from afmid.evaluate.tables import as_csv, as_markdown, as_words

    if csv:
        typer.echo(as_csv(rows), nl=False)
        return
    heads, words = as_words(rows, evaluation.methods)
    if markdown:
        typer.echo(f"{_title(evaluation)}\n\n{as_markdown(heads, words)}", nl=False)
    else:
        typer.echo(f"{_title(evaluation)}\n")
        print_table(heads, words)


def _title(evaluation: "Evaluation") -> str:
    scans = len(evaluation.scans)
    suite = one_line(evaluation.header.suite)
    return f"{suite}: {scans} scan{'' if scans == 1 else 's'}, data {evaluation.sha256[:16]}"


def _write(evaluation: "Evaluation", by: str | None, file: Path) -> None:
    """Write an evaluation by the suffix of the file; its records have been written."""
    from afmid.evaluate.tables import as_csv, as_json, as_markdown, as_words, score_rows
    from afmid.io.stream import write_bytes
    from afmid.report.page import write_evaluation_page

    if file.suffix == ".jsonl":
        return
    if file.suffix == ".html":
        write_evaluation_page(evaluation, with_folder(file))
        return
    if file.suffix == ".md":
        tables = [score_rows(evaluation, kind, headline=True) for kind in dict.fromkeys((None, by))]
        text = "\n".join([f"{_title(evaluation)}\n", *(as_markdown(*as_words(t, evaluation.methods)) for t in tables)])
    else:
        rows = [row for kind in dict.fromkeys((None, by)) for row in score_rows(evaluation, kind)]
        text = as_csv(rows) if file.suffix == ".csv" else as_json(evaluation, rows)
    write_bytes(text.encode(), with_folder(file))


def _compare(runs: tuple[Path, Path], all_figures: bool, markdown: bool) -> None:
    """Print how the figures of two runs differ, scan by scan."""
    from afmid.evaluate.records import read_evaluation
    from afmid.evaluate.tables import as_markdown, compared

    a, b = map(read_evaluation, runs)
    heads, rows, scans = compared(a, b, headline=not all_figures)
    if a.header.version != b.header.version:
        note(
            f"warning: A is of afmid {a.header.version}, B of {b.header.version}; a figure may have changed its meaning"
        )
    names = [f"{one_line(str(path))} ({len(run.scans)} scans)" for path, run in zip(runs, (a, b), strict=True)]
    title = f"A {names[0]}, B {names[1]}: {scans} in both; differences with their 95 % intervals"
    if markdown:
        typer.echo(f"{title}\n\n{as_markdown(heads, rows)}", nl=False)
    else:
        typer.echo(f"{title}\n")
        print_table(heads, rows)
