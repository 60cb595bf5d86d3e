"""The sizes of a network as a weights file bears them, which may be a stranger's."""

import json
from typing import Any, TypeVar

LARGEST = 2048  # size that a weights file may ask for

Config = TypeVar("Config")


def config_from_json(kind: type[Config], text: str) -> Config:
    """Return the configuration that JSON makes, an object with some of its fields; lists become tuples.

    Raises:
        ValueError, TypeError: it is none. What the values may be, `kind` checks itself.
    """
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"a network's configuration is a JSON object, not {text:.60}")
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
    except RecursionError as error:
        raise ValueError("a network's configuration is no deeply nested JSON") from error


def check_sizes(name: str, sizes: Any, count: int) -> None:
    """Raise ValueError unless `sizes` is a tuple of `count` whole numbers from 1 to `LARGEST`."""
    if not (isinstance(sizes, tuple) and len(sizes) == count and all(map(_is_size, sizes))):
        raise ValueError(f"{name}: {count} whole numbers from 1 to {LARGEST}, not {sizes!r:.60}")


def _is_size(value: Any) -> bool:
    return type(value) is int and 1 <= value <= LARGEST
