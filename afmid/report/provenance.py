"""Where an answer comes from, and how it was refined: records of files, of which every part may be missing."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from afmid.identification import Identification
from afmid.report.facts import Fact, facts, number, plain
from afmid.report.overlay import MOST_ATOMS
from afmid.scan import Scan
from afmid.text import line
from afmid.units import N_per_m

MOST_SWAPS = 50
LONGEST_RECORD = 20_000  # characters


@dataclass(frozen=True)
class Refinement:
    """What the refinement says: figures, the elements it tried, its atoms, and those that the scan does not support."""

    facts: list[Fact]
    swaps: list[tuple[str, str, str, str]]
    atoms: list[list[str]]
    lost: str


def refinement_of(answer: Identification) -> Refinement | None:
    """Return what the refinement says of itself; None where there was none."""
    record = answer.meta.get("refinement")
    if not isinstance(record, dict):
        return None
    swaps = [
        (", ".join(f"{_of(c, 'from')} {_number(c)} → {_of(c, 'to')}" for c in _records(swap.get("changes"))) or "–",
         _of(swap, "chi2_gain"), _of(swap, "probability"), _of(swap, "adopted"))
        for swap in _records(record.get("swaps"))[:MOST_SWAPS]
    ]  # fmt: skip
    names = ("element", "x_angstrom", "y_angstrom", "z_angstrom", "sigma_angstrom", "presence", "supported")
    atoms = [[_of(atom, name) for name in names] for atom in _records(record.get("atoms"))[:MOST_ATOMS]]
    lost = [f"{row[0]} {n}" for n, row in enumerate(atoms, 1) if row[-1] == "no"]
    rest = {key: value for key, value in record.items() if key not in ("atoms", "swaps")}
    return Refinement(facts(rest), swaps, atoms, line(", ".join(lost)))


def provenance(answer: Identification) -> Iterator[Fact]:
    """Yield what is known of how the answer was made."""
    yield Fact("method", line(f"{answer.method} {answer.version}"))
    yield Fact("weights (SHA-256)", line(answer.weights) or "none used")
    if answer.source:
        yield Fact("scan", line(answer.source))
    names = {"scan": "file of the scan", "second": "second scan", "options": "option"}
    yield from facts({names.get(key, key): value for key, value in answer.meta.items() if key != "refinement"})


def settings_of(scan: Scan) -> Iterator[Fact]:
    """Yield what is known of how the scan was made."""
    yield Fact("source", line(scan.source) or "not known")
    yield Fact("tip", line(scan.tip))
    stiffness = None if scan.cantilever_stiffness is None else scan.cantilever_stiffness / N_per_m
    oscillation = (
        ("amplitude (zero to peak)", scan.amplitude, "Å"),
        ("f0", scan.f0, "Hz"),
        ("cantilever stiffness", stiffness, "N/m"),
    )
    for name, value, unit in oscillation:
        if value is not None:
            yield Fact(name, f"{number(value)} {unit}")
    yield from facts(scan.meta)


def record_of(answer: Identification) -> str:
    """Return the method's own record as it stands in the answer."""
    return json.dumps(dict(answer.meta), indent=1, ensure_ascii=True, default=str)[:LONGEST_RECORD]


def _records(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(change: dict[str, Any]) -> str:
    """Return the number of the atom that changes, counted from 1 as everywhere on the page."""
    atom = change.get("atom")
    return str(atom + 1) if isinstance(atom, int) else "–"


def _of(record: dict[str, Any], key: str) -> str:
    return line(plain(record.get(key, "–")), 60)
