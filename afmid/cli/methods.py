"""Which methods a command means, and loading them with their weights."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afmid.cli.options import check_inputs, settings_of
from afmid.cli.output import note
from afmid.cli.stages import After, Stages, split_settings, stages_of
from afmid.errors import DataError, PluginError, UsageError, WeightsError
from afmid.offers import Identifier
from afmid.plugins import Registry, parse_options

if TYPE_CHECKING:
    from pydantic import BaseModel

    from afmid.identification import Identification
    from afmid.offers import Method
    from afmid.scan import Scan

ALL = "all"

MethodName = Annotated[
    str | None,
    typer.Option(
        "--method", "-m", metavar="NAME", help="or several, A,B; or all [default: with weights and of highest priority]"
    ),
]
Weights = Annotated[
    str | None, typer.Option("--weights", metavar="NAME|FILE", help="weights to use [default: those of the method]")
]


@dataclass(frozen=True)
class Loaded:
    """A method ready to answer.

    Attributes:
        identifier: what it is; `gives` counts in what follows.
        method, options: it, and how it answers.
        version: of its package.
        weights: the file, if any.
        stages: what follows its answers, and `after` the same, ready.
    """

    identifier: Identifier
    method: "Method"
    options: "BaseModel"
    version: str
    weights: Path | None
    stages: Stages
    after: After

    @property
    def settings(self) -> dict[str, Any]:
        """All options, as JSON has them."""
        return self.options.model_dump(mode="json") | self.stages.settings

    def answer(self, scans: "Sequence[Scan]", paths: Sequence[str]) -> "Identification":
        """Identify one sample from its scans, one per tip.

        Args:
            scans: one, or a second too.
            paths: their files, which the answer's meta names: first that on whose pixels the answer stands.
        """
        try:
            answer = self.method.identify(scans, self.options)
            first, *others = by_pixels(scans, answer)
            answer = self.after(answer, scans[first], self.method)
        except DataError as error:
            raise DataError(f"{paths[0]}: {error}") from error
        files: dict[str, Any] = {"scan": paths[first]}
        for other in others:
            files["second"] = {"file": paths[other], "tip": scans[other].tip}
        return replace(answer, meta={**answer.meta, **files})


@dataclass(frozen=True)
class Wanted:
    """What a command asks for: methods, the options of each, and what follows their answers."""

    identifiers: "Sequence[Identifier]"
    options: "Sequence[BaseModel]"
    stages: Stages

    @property
    def names(self) -> list[str]:
        """Of the methods."""
        return [identifier.name for identifier in self.identifiers]


def by_pixels(scans: "Sequence[Scan]", answer: "Identification") -> list[int]:
    """Return the numbers of the scans of a sample, those on whose pixels the answer stands before any others.

    Where both scans have the same pixels, that is first whose source the answer names.
    """
    axes = (answer.x.tolist(), answer.y.tolist())

    def differs(i: int) -> tuple[bool, bool]:
        return (scans[i].x.tolist(), scans[i].y.tolist()) != axes, scans[i].source != answer.source

    return sorted(range(len(scans)), key=differs)


def wanted(
    known: Registry,
    method: str | None,
    settings: Sequence[str] | None,
    candidates: str | None,
    top: int | None,
    refine: bool,
) -> Wanted:
    """Return what a command asks for, checked before the work.

    Raises:
        UsageError: a method or an option that does not exist, or stages that cannot follow the method.
        DataError: no file of candidates.
    """
    chosen = choose(known, method)
    of_stages, rest = split_settings(settings)
    stages = stages_of(candidates, refine, top, of_stages)
    stages.check(chosen)
    names = [identifier.name for identifier in chosen]
    return Wanted(chosen, [parse_options(offer, settings_of(offer.name, rest, names)) for offer in chosen], stages)


def choose(known: Registry, method: str | None) -> list[Identifier]:
    """Return the identifiers that a command means: by names, all, or the one that has weights and the highest priority.

    Raises:
        UsageError: no such method, or none at all.
    """
    offers = known.all(Identifier)
    if method is not None and method != ALL:
        return [known.get(Identifier, name) for name in dict.fromkeys(part.strip() for part in method.split(","))]
    ready = [offer for offer in offers if _is_ready(offer)]
    if not ready:
        raise UsageError("no installed method has weights; see: afmid plugins")
    if method == ALL:
        return ready
    best = max(ready, key=lambda offer: (offer.weights_index is not None, offer.priority))
    note(f"method: {best.name}")
    return [best]


def _is_ready(identifier: Identifier) -> bool:
    """Return whether a method has its weights; one whose list of weights has an error costs itself and a warning."""
    from afmid.weights import default

    try:
        return identifier.weights_index is None or default(identifier) is not None
    except WeightsError as error:
        note(f"warning: {error}; the method {identifier.name} is left out")
        return False


def load(known: Registry, wanted: Wanted, weights: str | None, device: str) -> list[Loaded]:
    """Load methods with their weights, and what follows their answers.

    Raises:
        UsageError: no such weights or device.
        WeightsError: weights that are missing, damaged or made for something else.
        PluginError: a method needs a module that is not there. Of several methods, those that load go on.
    """
    from afmid.devices import resolve_device

    if weights and len(wanted.identifiers) > 1:
        raise UsageError("--weights is for one method; name it with --method")
    place = resolve_device(device)
    loaded: list[Loaded] = []
    after = None
    for identifier, its in zip(wanted.identifiers, wanted.options, strict=True):
        try:
            file = _weights_file(known, identifier, weights)
            method = known.load(identifier, file, place)
        except (PluginError, WeightsError) as error:
            if identifier is wanted.identifiers[-1] and not loaded:
                raise
            note(f"warning: {error}; the method {identifier.name} is left out")
        else:
            after = after or wanted.stages.load(place)
            version = known.plugin_of(identifier).version
            stages = wanted.stages
            loaded.append(Loaded(stages.gives(identifier), method, its, version, file, stages, after))
    return loaded


def _weights_file(known: Registry, identifier: Identifier, weights: str | None) -> Path | None:
    from afmid.weights import cache_folder, default, fetch, find, mirror_url

    if weights and Path(weights).suffix == ".safetensors":
        check_inputs([weights])
        return Path(weights)
    entry = find(known, weights) if weights else default(identifier)
    if entry is None and identifier.weights_index is None:
        return None
    if entry is None:
        raise WeightsError(f"{identifier.name} comes without weights; give --weights FILE, or make them: afmid train")
    if entry.method != identifier.name:
        raise WeightsError(f"weights {entry.name} are for the method {entry.method}, not for {identifier.name}")
    return fetch(entry, cache=cache_folder(os.environ), mirror=mirror_url(os.environ))
