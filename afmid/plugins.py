"""Finds plugins, checks them, lists what they offer."""

import contextlib
import difflib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, get_args, get_origin

import pluggy
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from afmid import hookspecs
from afmid.errors import PluginError, UsageError
from afmid.offers import Augmentation, Engine, Identifier, Metric, Offer, Trainer

log = logging.getLogger(__name__)

GROUP = "afmid"
HOOKS: dict[type[Offer], str] = {
    Engine: "afmid_simulate",
    Augmentation: "afmid_augment",
    Trainer: "afmid_train",
    Identifier: "afmid_identify",
    Metric: "afmid_evaluate",
}
WORDS: dict[type[Offer], str] = {
    Engine: "engine",
    Augmentation: "augmentation",
    Trainer: "trainer",
    Identifier: "method",
    Metric: "metric",
}
AnyOffer = TypeVar("AnyOffer", bound=Offer)
Options = TypeVar("Options", bound=BaseModel)


def kind_of(offer: Offer) -> type[Offer]:
    """Return the kind of an offer: a key of HOOKS and WORDS."""
    return next(kind for kind in HOOKS if isinstance(offer, kind))


@dataclass(frozen=True)
class Plugin:
    """A plugin that was found: its name, distribution, version and module, what it offers, or why it failed."""

    name: str
    distribution: str
    version: str
    module: str
    offers: tuple[Offer, ...] = ()
    failure: str = ""

    @property
    def hooks(self) -> list[str]:
        """The hooks that bring its offers."""
        kinds = {kind_of(offer) for offer in self.offers}
        return [hook for kind, hook in HOOKS.items() if kind in kinds]


@dataclass(frozen=True)
class Registry:
    """All plugins found, and their offers by kind and name."""

    plugins: tuple[Plugin, ...]
    _origin: dict[tuple[type[Offer], str], tuple[Plugin, Offer]] = field(repr=False)

    def all(self, kind: type[AnyOffer]) -> list[AnyOffer]:
        """Return the offers of a kind, by name."""
        offers = [offer for _, offer in self._origin.values() if isinstance(offer, kind)]
        return sorted(offers, key=lambda offer: offer.name)

    def get(self, kind: type[AnyOffer], name: str) -> AnyOffer:
        """Return the offer of a kind by name.

        Raises:
            UsageError: where there is none; the message names the nearest, or why its plugin failed.
        """
        offers = {offer.name: offer for offer in self.all(kind)}
        if name in offers:
            return offers[name]
        broken = [plugin for plugin in self.plugins if plugin.failure and name and name in plugin.name]
        if broken:
            hint = f"its plugin {broken[0].name!r} failed to load: {broken[0].failure}"
        elif near := difflib.get_close_matches(name, offers, 1):
            hint = f"did you mean {near[0]!r}? list them with: afmid plugins"
        else:
            hint = f"there {'is' if len(offers) == 1 else 'are'}: {', '.join(offers) or 'none'}"
        raise UsageError(f"no {WORDS[kind]} {name!r}; {hint}")

    def load(self, offer: Augmentation | Engine | Trainer | Identifier | Metric, *arguments: Any) -> Any:
        """Return what the `load` of an offer gives for these arguments.

        Raises:
            PluginError: it needs a module that is not there.
        """
        try:
            return offer.load(*arguments)
        except ImportError as error:
            distribution = self.plugin_of(offer).distribution
            what = f"{WORDS[kind_of(offer)]} {offer.name!r} of {distribution}"
            raise PluginError(f"the {what} does not load: {_reason(error, distribution)}") from error

    def plugin_of(self, offer: Offer) -> Plugin:
        """Return the plugin that brings an offer."""
        return self._origin[kind_of(offer), offer.name][0]


def discover(only: Iterable[str] | None = None) -> Registry:
    """Load the plugins installed under the entry-point group "afmid" and collect what they offer.

    A plugin that fails costs itself and one warning. `only` limits the plugins by name; the core is always there.

    Raises:
        PluginError: two offers of one kind and name.
        UsageError: a name in `only` that no plugin has.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    if only is not None:
        wanted, names = set(only), [point.name for point in points]
        if missing := sorted(wanted.difference(names)):
            raise UsageError(f"AFMID_PLUGINS: no plugin {missing[0]!r} is installed; there are: {', '.join(names)}")
        points = [point for point in points if point.name in wanted | {"core"}]
    return _registry([_load(point) for point in points])


def _load(point: EntryPoint) -> Plugin:
    distribution, version = (point.dist.name, point.dist.version) if point.dist else ("", "")
    plugin = Plugin(point.name, distribution, version, module=point.value)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a plugin prints must not end up among the data
            return replace(plugin, offers=_offers(point))
    except (Exception, SystemExit) as error:
        failure = _reason(error, distribution)
        log.warning("plugin %r (%s) is left out: %s", point.name, distribution, failure)
        return replace(plugin, failure=failure)


def _reason(error: BaseException, distribution: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it needs the module {error.name!r}, which is not installed; try: pip install --upgrade {distribution}"
    if isinstance(error, (PluginError, pluggy.PluginValidationError)):
        return " ".join(str(error).split())
    return " ".join(f"{type(error).__name__}: {error}".split())


def _offers(point: EntryPoint) -> tuple[Offer, ...]:
    manager = pluggy.PluginManager(GROUP)  # one for each plugin, so that a broken one leaves nothing behind
    manager.add_hookspecs(hookspecs)
    plugin = point.load()
    manager.register(plugin, name=point.name)
    manager.check_pending()
    if not manager.get_hookcallers(plugin):
        raise PluginError(f"{point.value} implements no hook; is @hookimpl missing?")
    return tuple(offer for kind, hook in HOOKS.items() for offer in _answers(manager, kind, hook))


def _answers(manager: pluggy.PluginManager, kind: type[Offer], hook: str) -> list[Offer]:
    offers = []
    for answer in getattr(manager.hook, hook)():
        if not isinstance(answer, Iterable):
            raise PluginError(f"{hook} must return a list of {kind.__name__} objects, returned {answer!r}")
        for offer in answer:
            if not isinstance(offer, kind):
                raise PluginError(f"{hook} must return {kind.__name__} objects, returned {offer!r}")
            offers.append(offer)
    return offers


def _registry(plugins: list[Plugin]) -> Registry:
    origin: dict[tuple[type[Offer], str], tuple[Plugin, Offer]] = {}
    for plugin in plugins:
        for offer in plugin.offers:
            key = kind_of(offer), offer.name
            if key in origin:
                raise PluginError(
                    f"two plugins offer the {WORDS[key[0]]} {offer.name!r}: {origin[key][0].distribution} and "
                    f"{plugin.distribution}; uninstall one, or limit what is loaded with AFMID_PLUGINS"
                )
            origin[key] = plugin, offer
    return Registry(tuple(plugins), origin)


@cache
def installed(only: tuple[str, ...] | None = None) -> Registry:
    """Return the registry of this process, made once."""
    return discover(only)


def parse_options(offer: Offer, pairs: Iterable[str], base: Mapping[str, Any] | None = None) -> BaseModel:
    """Return an offer's options from "key=value" strings: "steps=50", "simulation.pixels=64", "range=0.2,0.5".

    Args:
        offer: whose options.
        pairs: what is set.
        base: values that are set where `pairs` does not set others, inner models as mappings.

    Raises:
        UsageError: a key that the offer does not have, or a value out of range; the message says what there is.
    """
    values = _beside_defaults(offer.options, base or {})
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set needs key=value, got {pair!r}")
        _place(values, offer.options, key.strip().replace("-", "_"), value.strip())
    try:
        return checked(offer.options, values)
    except UsageError as error:
        raise UsageError(f"{offer.name}: {error}") from error


def _beside_defaults(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, those of an inner model beside its defaults."""
    values = dict(given)
    for name, value in given.items():
        field = model.model_fields.get(name)
        if field and isinstance(value, Mapping) and (inner := inner_model(field)):
            values[name] = field.get_default(call_default_factory=True).model_dump() | _beside_defaults(inner, value)
    return values


def _place(values: dict[str, Any], model: type[BaseModel], key: str, value: str) -> None:
    """Enter a value, where the key leads into an inner model beside that one's defaults."""
    head, _, rest = key.partition(".")
    field = model.model_fields.get(head)
    if rest and field and (inner := inner_model(field)):
        default = field.get_default(call_default_factory=True)
        _place(values.setdefault(head, default.model_dump()), inner, rest, value)
    else:
        several = field is not None and get_origin(field.annotation) in (tuple, list)
        values[key] = value.split(",") if several else value


def inner_model(field: FieldInfo) -> type[BaseModel] | None:
    """Return the model that a field holds, whose own fields are set by "field.inner=value"; None for a plain value."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def checked(model: type[Options], values: Mapping[str, Any], spell: Callable[[str], str] = str) -> Options:
    """Return the options that `values` make; `spell` writes an option's name as the user types it.

    Raises:
        UsageError: an option that the model does not have, or a value out of range; the message says what there is.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(_problem(error, model, spell)) from error


def _problem(error: ValidationError, model: type[BaseModel], spell: Callable[[str], str]) -> str:
    problem = error.errors(include_url=False)[0]
    what = problem["msg"].removeprefix("Value error, ")
    path = [part for part in problem["loc"] if isinstance(part, str)]
    if not path:
        return what
    key = spell(".".join(path))
    if problem["type"] != "extra_forbidden":
        if isinstance(problem["input"], (Mapping, BaseModel)):  # values that do not go together
            return f"{key}: {what}"
        return f"{key} is {problem['input']!r}; {what.replace('Input should', 'it should')}"
    for parent in path[:-1]:
        field = model.model_fields[parent]
        inner = [kind for kind in get_args(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        model = inner_model(field) or next(iter(inner), model)
    near = difflib.get_close_matches(path[-1], model.model_fields, 1)
    known = ", ".join(spell(".".join([*path[:-1], name])) for name in near or model.model_fields)
    return f"no option {key}; {'did you mean' if near else 'there is'}: {known or 'nothing to set'}"
