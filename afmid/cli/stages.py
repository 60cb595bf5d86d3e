"""What may follow a method's answer: candidates are ranked, and atoms refined."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afmid.cli.options import cores
from afmid.cli.output import few_warnings, note, working
from afmid.errors import DataError, UsageError
from afmid.offers import Identifier, Method, Offer, Renders
from afmid.plugins import parse_options

if TYPE_CHECKING:
    from afmid.data.pack import MoleculePack
    from afmid.identification import Identification
    from afmid.offers import Simulator
    from afmid.scan import Scan

Stage = Callable[["Identification", "Scan", Method, Callable[[str], None]], "Identification"]
After = Callable[["Identification", "Scan", Method], "Identification"]

NAMES = ("candidates", "refine")  # of the stages, by which --set sets their options
SELF, OPEN = "self", "sim-open"  # in place of a library: the answer's own molecule, and those of that suite
WORSE = 0.01  # by which a fit may fall: single pixels, at which the probe snaps, may do that

Candidates = Annotated[
    str | None,
    typer.Option(
        "--candidates",
        metavar="LIB",
        help="rank molecules: a pack, a list of SMILES, an sdf or xyz file, a folder of them, a SMILES, a known name, "
        "sim-open (that suite's), or self (the answer's own)",
    ),
]
Refine = Annotated[bool, typer.Option("--refine", help="move the atoms until their simulation reproduces the scan")]
Top = Annotated[
    int | None, typer.Option("--top", metavar="N", min=1, max=1000, help="candidates to keep [default: 10]")
]


@dataclass(frozen=True)
class Stages:
    """What is asked for; `load` gets it ready.

    Attributes:
        library: the candidates' file; None where none are ranked.
        ranking: its CandidateOptions.
        refining: RefineOptions; None where nothing is refined.
    """

    library: str | None = None
    ranking: Any = None
    refining: Any = None

    def check(self, chosen: Iterable[Identifier]) -> None:
        """Find out, before the work, whether the stages can follow these methods.

        Raises:
            DataError: the library is not there, and is no molecule.
            UsageError: a method gives nothing that could be refined.
        """
        if self.library and self.library not in (SELF, OPEN):
            from afmid.evaluate.library import is_there, row_named

            if not is_there(self.library):
                row_named(self.library)
        for method in chosen:
            if self.refining and self.library in (None, SELF) and method.gives and "elements" not in method.gives:
                raise UsageError(
                    f"--refine needs atoms with their elements, which {method.name} does not give; name molecules to "
                    "choose from: --candidates LIB"
                )

    @property
    def settings(self) -> dict[str, Any]:
        """What is asked for, as JSON has it."""
        ranking = {"candidates": {"library": self.library, **self.ranking.model_dump()}} if self.library else {}
        return ranking | ({"refine": self.refining.model_dump()} if self.refining else {})

    def gives(self, identifier: Identifier) -> Identifier:
        """Return a method as it is with the stages: what it `gives` besides."""
        more = ("candidates", "fit") if self.library else ("fit",) if self.refining else ()
        return replace(identifier, gives=(*identifier.gives, *more)) if identifier.gives else identifier

    def load(self, device: str) -> After:
        """Load the library and an engine, where they are needed, and return what follows a method's answer."""
        follow: list[tuple[str, Stage]] = []
        if self.library:
            from afmid.simulate import load_engine

            library = None if self.library == SELF else _library(self.library)
            _, simulator = load_engine(device=device)
            ranked = partial(_ranked, library=library, simulator=simulator, options=self.ranking)
            follow.append(("ranked", ranked))
        if self.refining:
            follow.append(("refined", partial(_refined, options=self.refining)))

        def after(answer: "Identification", scan: "Scan", method: Method) -> "Identification":
            with working() as say:
                for done, stage in follow:
                    try:
                        answer = stage(answer, scan, method, say)
                    except DataError as error:  # the answer stands all the same
                        note(f"warning: not {done}: {error}")
            return answer

        return after


def _library(path: str) -> "MoleculePack":
    from afmid.evaluate.library import open_library
    from afmid.evaluate.suites import open_molecules

    if path == OPEN:
        return open_molecules()
    with working() as say, few_warnings():
        return open_library(path, cores(), lambda done, total: say(f"candidates: {done} of {total} prepared"))


def _ranked(
    answer: "Identification",
    scan: "Scan",
    method: Method,
    say: Callable[[str], None],
    library: "MoleculePack | None",
    simulator: "Simulator",
    options: Any,
) -> "Identification":
    """Rank candidates.

    Raises:
        DataError: there are none, or none that can be simulated.
    """
    from afmid.evaluate.candidates import rank

    if library is None and not answer.smiles:
        raise DataError("the answer has no molecule of its own; give some to choose from: --candidates LIB")
    draws = method if isinstance(method, Renders) else None
    return rank(answer, scan, library, simulator, options, lambda share: say(f"candidates: {share:.0%}"), draws)


def _refined(
    answer: "Identification", scan: "Scan", method: Method, say: Callable[[str], None], options: Any
) -> "Identification":
    """Refine an answer.

    Raises:
        DataError: it cannot be refined, or fits less well afterwards.
    """
    from afmid.evaluate.refine import refine, refined

    molecule = answer.molecule
    if molecule is None:
        what = "atoms without elements" if answer.atoms else "no atoms"
        raise DataError(
            f"the answer of {answer.method} has {what}; give molecules to choose from (--candidates) or take another "
            "--method"
        )
    found = refine(scan, molecule, options, say)
    if found.fit_after < found.fit_before - WORSE:
        raise DataError(f"the fit fell from {found.fit_before:.3f} to {found.fit_after:.3f}")
    return refined(answer, found)


def split_settings(settings: Iterable[str] | None) -> tuple[list[str], list[str]]:
    """Return the "key=value" that are for the stages, and those for the methods."""
    mine: list[str] = []
    rest: list[str] = []
    for pair in settings or ():
        (mine if pair.partition(".")[0] in NAMES else rest).append(pair)
    return mine, rest


def stages_of(library: str | None, refine: bool, top: int | None, settings: Iterable[str]) -> Stages:
    """Return the stages that a command asks for.

    Raises:
        UsageError: an option of a stage that is not asked for, that does not exist, or is out of range.
    """
    pairs: dict[str, list[str]] = {name: [] for name in NAMES}
    for pair in settings:
        name, _, rest = pair.partition(".")
        pairs[name].append(rest)
    for name, asked in (("candidates", bool(library)), ("refine", refine)):
        if pairs[name] and not asked:
            raise UsageError(f"--set {name}.{pairs[name][0]} is for --{name}, which is not given")
    if top and not library:
        raise UsageError("--top is the number of candidates; name them: --candidates LIB")
    ranking = parse_options(stage("candidates"), pairs["candidates"] + [f"top={top}"] * bool(top)) if library else None
    return Stages(library, ranking, parse_options(stage("refine"), pairs["refine"]) if refine else None)


def stage(name: str) -> Offer:
    """Return the description of a stage of NAMES."""
    if name == "candidates":
        from afmid.evaluate.candidates import CandidateOptions

        return Offer(name=name, summary="Rank molecules by how well they fit the scan.", options=CandidateOptions)
    from afmid.evaluate.refine import RefineOptions

    return Offer(name=name, summary="Move atoms until their simulation reproduces the scan.", options=RefineOptions)
