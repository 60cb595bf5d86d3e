"""Records of settings and steps, as names and values that a reader knows: keys lose their unit to the value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from afmid.text import line

UNITS = {  # the end of a key: what it says
    "angstrom": "Å", "pm": "pm", "hz": "Hz", "hertz": "Hz", "percent": "%", "seconds": "s", "s": "s", "ev": "eV",
    "n_per_m": "N/m", "newton_per_metre": "N/m", "e": "e", "e_angstrom2": "e Å²", "degrees": "°", "degree": "°",
    "ev_per_angstrom": "eV/Å", "ev_per_angstrom2": "eV/Å²", "hz_per_angstrom": "Hz/Å",
}  # fmt: skip
MOST = 100  # values of a record
MOST_RECORDS = 10  # in a list; of longer ones, such as a record of each atom, their number is told
DEEPEST = 4


@dataclass(frozen=True)
class Fact:
    """A name and a value in words."""

    name: str
    value: str


def facts(record: Mapping[str, Any]) -> list[Fact]:
    """Return a JSON-able record flat, the first MOST of its values; inner names follow their outer ones.

    What is null or empty is left out; a value and its sigma become one.
    """
    found: list[Fact] = []
    _collect(found, "", record, DEEPEST)
    return found


def label(key: str) -> tuple[str, str]:
    """Return a key in words, and its unit or ""."""
    for end in sorted(UNITS, key=len, reverse=True):
        if key.endswith(f"_{end}"):
            return _spaced(key[: -len(end) - 1]), UNITS[end]
    return _spaced(key), ""


def number(value: float) -> str:
    """Return a number in as many digits as tell something."""
    if isinstance(value, int):
        text = f"{value:,d}" if abs(value) < 1e15 else f"{Decimal(value).normalize():.7g}"
    else:
        text = f"{value:.4g}" if abs(value) < 1e3 else f"{value:.7g}"
    return text.replace(",", "\N{THIN SPACE}").replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """Return a number with a true minus sign, and none before a zero."""
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def plain(value: Any, depth: int = DEEPEST) -> str:
    """Return a value of JSON in words, lists in lists to so many levels."""
    match value:
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number(value)
        case str():
            return value
        case list() | tuple():
            return ", ".join(plain(item, depth - 1) for item in value) if depth else "…"
        case dict():
            return "…"
    return line(value)


def _uncertain(value: Any, sigma: Any) -> str:
    """Return a value with its standard deviation, both to the second digit of this."""
    known = isinstance(value, int | float) and isinstance(sigma, int | float)
    if not (known and 1e-12 < sigma < 1e12 and abs(value) < 1e15):
        return f"{plain(value)} ± {plain(sigma)}"
    digits = max(0, 1 - math.floor(math.log10(sigma)))
    return f"{signed(value, digits)} ± {sigma:.{digits}f}"


def _spaced(key: str) -> str:
    return line(key.replace("_", " "), 60)


def _collect(found: list[Fact], name: str, value: Any, depth: int) -> None:
    if len(found) >= MOST or value in (None, "", [], {}):
        return
    if isinstance(value, Mapping) and value.keys() == {"value", "sigma"}:
        words, unit = label(name)
        found.append(Fact(words, line(f"{_uncertain(value['value'], value['sigma'])} {unit}")))
    elif isinstance(value, Mapping) and value and depth:
        for key, inner in value.items():
            _collect(found, f"{name} · {key}" if name else str(key), inner, depth - 1)
    elif isinstance(value, Sequence) and len(value) > MOST_RECORDS and isinstance(value[0], Mapping):
        found.append(Fact(_spaced(name), f"{len(value)} records, in result.json"))
    elif isinstance(value, Sequence) and not isinstance(value, str) and any(map(_nested, value)) and depth:
        for place, inner in enumerate(value, 1):
            _collect(found, f"{name} {place}", inner, depth - 1)
    else:
        words, unit = label(name)
        found.append(Fact(words, line(f"{plain(value)} {unit}")))


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 6)
