"""Typer options: those that several commands share, and those made from a pydantic model."""

import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from afmid.errors import DataError, UsageError
from afmid.plugins import Registry, checked, inner_model, installed

LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}

Device = Annotated[str, typer.Option("--device", metavar="NAME", help="where to compute: auto, cpu, cuda or mps")]
Force = Annotated[bool, typer.Option("--force", help="write over files that exist")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object per line")]
Pixel = Annotated[
    float | None, typer.Option("--pixel", metavar="NUMBER", help="pixel size of a file that does not tell, Å")
]
Step = Annotated[
    float | None, typer.Option("--step", metavar="NUMBER", help="height between images of a file that does not tell, Å")
]
Order = Annotated[
    Literal["far-to-near", "near-to-far"] | None,
    typer.Option("--order", metavar="ORDER", help="far-to-near or near-to-far: images of a file that does not tell"),
]
TipName = Annotated[
    str | None, typer.Option("--tip", metavar="NAME", help="tip of a file that does not tell [default: CO]")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="set an option of what is chosen; may be repeated"),
]


def plugin_names() -> tuple[str, ...] | None:
    """Return the plugins that AFMID_PLUGINS=a,b limits this process to; None where it does not."""
    names = os.environ.get("AFMID_PLUGINS")
    return None if names is None else tuple(sorted({name.strip() for name in names.split(",") if name.strip()}))


def registry() -> Registry:
    """Return the plugins of this process; AFMID_PLUGINS=a,b limits which."""
    return installed(plugin_names())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settings_of(name: str, pairs: Iterable[str] | None, among: Sequence[str]) -> list[str]:
    """Return the "key=value" that are for `name`, where several (`among`) are set by "name.key=value".

    Raises:
        UsageError: a pair that names none of them.
    """
    mine = []
    for pair in pairs or ():
        owner, _, rest = pair.partition(".")
        if owner in among:
            mine += [rest] if owner == name else []
        elif len(among) == 1:
            mine.append(pair)
        else:
            raise UsageError(f"--set {pair}: write NAME.KEY=VALUE, where NAME is one of: {', '.join(among)}")
    return mine


def duration(text: str) -> float:
    """Return seconds of a time such as "90s", "9m" or "1h30m".

    Raises:
        UsageError: text that is no time.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if not match or not any(match.groups()):
        raise UsageError(f"{text!r} is no time; write for example 90s, 9m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return hours * 3600.0 + minutes * 60 + seconds


def check_inputs(paths: Sequence[str]) -> None:
    """Find out, before the work, whether all inputs are there.

    Raises:
        DataError: one is not.
        UsageError: stdin is named twice.
    """
    for path in paths:
        if path != "-" and not Path(path).exists():
            raise DataError(f"{path}: no such file")
    if list(paths).count("-") > 1:
        raise UsageError("stdin (-) can be read only once")


@dataclass(frozen=True)
class Described:
    """A field of an options model in words; `range` and `default` are empty where there is none."""

    name: str
    type: str
    range: str
    default: str
    description: str

    def sentence(self) -> str:
        """The help of a command's option."""
        known = [f"default: {self.default}"] if self.default else []
        known += [self.range] if self.range else []
        return f"{self.description} [{'; '.join(known)}]" if known else self.description


def describe(model: type[BaseModel], prefix: str = "", defaults: BaseModel | None = None) -> list[Described]:
    """Return the fields of an options model in words, in their order; those of inner models as "field.inner"."""
    words = []
    for name, field in model.model_fields.items():
        default = getattr(defaults, name) if defaults else field.get_default(call_default_factory=True)
        if inner := inner_model(field):
            words += describe(inner, f"{prefix}{name}.", default)
        else:
            kind, limits = _type(field.annotation), _range(field)
            words.append(Described(prefix + name, kind, limits, _default(default), field.description or ""))
    return words


def _type(annotation: Any) -> str:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, kinds))
    if isinstance(annotation, UnionType):
        return _type(kinds[0])
    if get_origin(annotation) is tuple:
        return ",".join("…" if kind is Ellipsis else _type(kind) for kind in kinds)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__.lower()
    return {int: "integer", float: "number", str: "text", bool: "true|false"}.get(annotation, str(annotation))


def _range(field: FieldInfo) -> str:
    limits = {name: getattr(item, name) for item in field.metadata for name in LIMITS if hasattr(item, name)}
    if limits.keys() == {"ge", "le"}:
        return f"{limits['ge']:g} to {limits['le']:g}"
    return ", ".join(f"{LIMITS[name]} {limit:g}" for name, limit in limits.items())


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_default, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def with_options(model: type[BaseModel], parameter: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of `model`; its argument `parameter` receives the checked model.

    The command raises UsageError where a value is out of range, in words that name the option.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in model.model_fields}
            values = {name: value for name, value in given.items() if value is not None}
            function(**arguments, **{parameter: checked(model, values, _spelt)})

        own = inspect.signature(function).parameters.values()
        made = [_option(field) for field in describe(model)]
        signature = inspect.Signature([*(item for item in own if item.name != parameter), *made])
        command.__signature__ = signature  # type: ignore[attr-defined]
        return command

    return decorate


def _spelt(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(field: Described) -> inspect.Parameter:
    metavar = field.type if "|" in field.type else field.type.upper()  # the words to choose from are typed as they are
    option = typer.Option(_spelt(field.name), metavar=metavar, help=field.sentence(), show_default=False)
    annotation = Annotated[str | None, option]  # text: the model reads it, and is the one place that knows the range
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
