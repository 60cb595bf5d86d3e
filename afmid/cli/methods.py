"""Which methods a command means, and loading them with their weights."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afmid.cli.options import check_inputs
from afmid.cli.output import note
from afmid.errors import DataError, PluginError, UsageError, WeightsError
from afmid.offers import Identifier
from afmid.plugins import Registry

if TYPE_CHECKING:
    from pydantic import BaseModel

    from afmid.identification import Identification
    from afmid.offers import Method
    from afmid.scan import Scan

ALL = "all"

MethodName = Annotated[
    str | None,
    typer.Option("--method", "-m", metavar="NAME", help="or all [default: with weights and of highest priority]"),
]
Weights = Annotated[
    str | None, typer.Option("--weights", metavar="NAME|FILE", help="weights to use [default: those of the method]")
]


@dataclass(frozen=True)
class Loaded:
    """A method ready to answer, with its options."""

    identifier: Identifier
    method: "Method"
    options: "BaseModel"

    def answer(self, scan: "Scan", path: str) -> "Identification":
        """Identify one scan, whose file the answer's meta names, and an error too."""
        try:
            answer = self.method.identify([scan], self.options)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return replace(answer, meta={**answer.meta, "scan": path})


def choose(known: Registry, method: str | None) -> list[Identifier]:
    """Return the identifiers that a command means: by name, all, or the one that has weights and the highest priority.

    Raises:
        UsageError: no such method, or none at all.
    """
    offers = known.all(Identifier)
    if method not in (None, ALL):
        return [known.get(Identifier, str(method))]
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


def load(
    known: Registry, chosen: Sequence[Identifier], options: "Sequence[BaseModel]", weights: str | None, device: str
) -> list[Loaded]:
    """Load methods with their weights.

    Raises:
        UsageError: no such weights or device.
        WeightsError: weights that are missing, damaged or made for something else.
        PluginError: a method needs a module that is not there. Of several methods, those that load go on.
    """
    from afmid.devices import resolve_device

    if weights and len(chosen) > 1:
        raise UsageError("--weights is for one method; name it with --method")
    place = resolve_device(device)
    loaded: list[Loaded] = []
    for identifier, its in zip(chosen, options, strict=True):
        try:
            method = known.load(identifier, _weights_file(known, identifier, weights), place)
        except (PluginError, WeightsError) as error:
            if identifier is chosen[-1] and not loaded:
                raise
            note(f"warning: {error}; the method {identifier.name} is left out")
        else:
            loaded.append(Loaded(identifier, method, its))
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
