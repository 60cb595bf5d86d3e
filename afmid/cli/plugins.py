"""`afmid plugins`: what is installed, and what it brings."""

import difflib
from collections.abc import Iterator
from dataclasses import asdict, astuple
from typing import Annotated, Any

import typer

from afmid.cli.options import Json, describe, registry
from afmid.cli.output import print_json, print_table
from afmid.cli.stages import NAMES, stage
from afmid.errors import UsageError
from afmid.offers import Identifier, Offer
from afmid.plugins import HOOKS, WORDS, Plugin, Registry, kind_of
from afmid.weights import WeightsEntry, available

HEADS = ("option", "type", "range", "default", "meaning")


def plugins(
    name: Annotated[str | None, typer.Argument(metavar="NAME", hidden=True)] = None,
    json_: Json = False,
) -> None:
    """List what is installed, what it brings, and what failed to load.

    With NAME, of a method, engine, augmentation, metric or plugin, or of what follows an answer (candidates, refine):
    its options, with unit, range and default.
    AFMID_PLUGINS=a,b limits what is loaded.

    \b
    afmid plugins
    afmid plugins METHOD
    AFMID_PLUGINS=NAME,NAME afmid plugins --json
    """
    known = registry()
    weights = available(known)
    if name is not None:
        _show_offers(known, name, weights, json_)
    elif json_:
        for plugin in known.plugins:
            print_json(_record(plugin, weights))
    else:
        print_table(("hook", "name", "from", "what it does"), _rows(known, weights))


def _rows(known: Registry, weights: list[WeightsEntry]) -> Iterator[tuple[str, str, str, str]]:
    for kind, hook in HOOKS.items():
        for offer in known.all(kind):
            yield hook, offer.name, _origin(known.plugin_of(offer)), " ".join(_words(offer, weights))
    for plugin in known.plugins:
        if plugin.failure:
            yield "left out", plugin.name, _origin(plugin), plugin.failure


def _words(offer: Offer, weights: list[WeightsEntry]) -> Iterator[str]:
    yield offer.summary
    if isinstance(offer, Identifier):
        names = [entry.name for entry in _weights_of(offer, weights)]
        yield f"Gives {', '.join(offer.gives)}." if offer.gives else ""
        yield f"Weights: {', '.join(names) or 'none'}." if offer.weights_index else ""


def _show_offers(known: Registry, name: str, weights: list[WeightsEntry], json_: bool) -> None:
    offers = [offer for plugin in known.plugins for offer in plugin.offers if name in (offer.name, plugin.name)]
    if name in NAMES:
        _show_stage(stage(name), json_)
    elif not offers:
        raise UsageError(_unknown(known, name))
    for offer in offers:
        plugin = known.plugin_of(offer)
        entries = _weights_of(offer, weights)
        options = describe(offer.options)
        if json_:
            record = {**_origin_record(plugin), **_offer_record(offer, entries)}
            print_json({**record, "options": [asdict(option) for option in options]})
            continue
        typer.echo(f"{WORDS[kind_of(offer)]} {offer.name}, from {_origin(plugin)}: {' '.join(_words(offer, entries))}")
        for entry in entries:
            typer.echo(f"weights {entry.name} {entry.version}, {entry.size / 2**20:.1f} MiB, {entry.license}")
        if options:
            print_table(HEADS, [astuple(option) for option in options])
        typer.echo()


def _show_stage(offer: Offer, json_: bool) -> None:
    """Show what `--set` sets of a stage that follows a method's answer."""
    options = describe(offer.options)
    if json_:
        record = {"stage": offer.name, "summary": offer.summary, "options": [asdict(option) for option in options]}
        print_json(record)
        return
    typer.echo(f"stage {offer.name}, after a method's answer (--{offer.name}): {offer.summary}")
    print_table(HEADS, [(f"{offer.name}.{option.name}", *astuple(option)[1:]) for option in options])
    typer.echo()


def _unknown(known: Registry, name: str) -> str:
    if broken := [plugin for plugin in known.plugins if plugin.name == name]:
        return f"plugin {name!r} {f'failed to load: {broken[0].failure}' if broken[0].failure else 'offers nothing'}"
    names = {word for plugin in known.plugins for word in (plugin.name, *(offer.name for offer in plugin.offers))}
    near = difflib.get_close_matches(name, names, 1)
    return f"nothing is called {name!r}; {f'did you mean {near[0]!r}? ' if near else ''}list all with: afmid plugins"


def _weights_of(offer: Offer, weights: list[WeightsEntry]) -> list[WeightsEntry]:
    return [entry for entry in weights if isinstance(offer, Identifier) and entry.method == offer.name]


def _origin(plugin: Plugin) -> str:
    return f"{plugin.distribution} {plugin.version}"


def _origin_record(plugin: Plugin) -> dict[str, Any]:
    return {"plugin": plugin.name, "distribution": plugin.distribution, "version": plugin.version}


def _offer_record(offer: Offer, weights: list[WeightsEntry]) -> dict[str, Any]:
    record: dict[str, Any] = {"hook": HOOKS[kind_of(offer)], "name": offer.name, "summary": offer.summary}
    if isinstance(offer, Identifier):
        record |= {"priority": offer.priority, "gives": offer.gives}
        record["weights"] = [
            {"name": entry.name, "version": entry.version, "sha256": entry.sha256, "size_bytes": entry.size}
            for entry in _weights_of(offer, weights)
        ]
    return record


def _record(plugin: Plugin, weights: list[WeightsEntry]) -> dict[str, Any]:
    return {
        **_origin_record(plugin),
        "module": plugin.module,
        "hooks": plugin.hooks,
        "offers": [_offer_record(offer, weights) for offer in plugin.offers],
        "failure": plugin.failure or None,
    }
