"""A method as users get it, or with other weights."""

import argparse
from pathlib import Path
from typing import Any

from afmid import Identifier
from afmid.plugins import installed
from afmid.weights import default


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark take other weights."""
    parser.add_argument("--ours", type=Path, metavar="FILE", help="weights of afmid [default: those of the method]")


def method(weights: Path | None, name: str = "descriptor") -> tuple[Identifier, Any]:
    """Return a method's offer and what it loads, on the CPU."""
    identifier = installed((name,)).get(Identifier, name)
    entry = default(identifier)
    return identifier, identifier.load(weights or (entry.shipped if entry else None), "cpu")
