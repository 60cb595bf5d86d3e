"""What the page of an identification shows: the stack, maps, structures, candidates, and where it all comes from."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from afmid.identification import Atom, Bond, Candidate, Identification
from afmid.report import overlay
from afmid.report.depiction import Depiction, depict, formula_of
from afmid.report.document import document
from afmid.report.facts import number, signed
from afmid.report.images import MOST_MAPS, paintings, second_of, stack_of
from afmid.report.picture import COLOURS, FOUND
from afmid.report.provenance import provenance, record_of, refinement_of, settings_of
from afmid.report.raster import Window
from afmid.scan import Scan
from afmid.text import line

MOST_CANDIDATES, MOST_SHOWN = 25, 10  # in the table, and with a drawing or a place in 3D
LIKELY = 0.5


@dataclass(frozen=True)
class _Structure:
    """Atoms and bonds that are shown in 3D and over the stack."""

    key: str
    label: str
    atoms: Sequence[Atom]
    bonds: Sequence[Bond]


@dataclass(frozen=True)
class _Row:
    """A candidate in the table."""

    key: str
    name: str
    smiles: str
    inchikey: str
    formula: list[tuple[str, bool]]
    score: str
    share: float
    parts: list[str]
    depiction: Depiction | None


def identification_page(scan: Scan | None, answer: Identification, second: Scan | None = None) -> str:
    """Return the page of an answer.

    Args:
        scan: that was identified; without it the page shows no stack.
        answer: what was said of it.
        second: what another tip showed of the same place.

    Raises:
        DataError: the scan has another window than the answer.
    """
    stack = None if scan is None else stack_of(scan, answer)
    window = Window.of(answer.x, answer.y)
    structures = list(_structures(scan, answer))
    shown = next((s.key for s in structures if _has_elements(s)), structures[0].key if structures else "")
    best = answer.candidates[0].smiles if answer.candidates else None
    scripts = ["vendor/3Dmol-min.js"] if structures else []
    return document(
        "identification",
        [*scripts, "templates/identification.js"],
        {"structures": list(map(_in_space, structures)), "shown": shown, "colours": overlay.IN_SPACE},
        answer=answer,
        title=_title(answer),
        heading=_heading(answer),
        smiles=line(answer.smiles or best or ""),
        about=[line(text) for text in (f"{answer.method} {answer.version}", answer.source) if text.strip()],
        cards=list(_cards(scan, answer)),
        confidence=_histogram([atom.confidence for atom in answer.atoms]),
        window=window,
        scale=_scale_bar(window),
        stack=stack,
        second=None if second is None else second_of(second),
        crosses=overlay.crosses(window, scan.truth) if scan is not None and scan.truth is not None else [],
        structures=structures,
        shown=shown,
        most_maps=MOST_MAPS,
        drawn={
            s.key: (overlay.lines(window, s.atoms, s.bonds), overlay.rings(window, s.atoms)) for s in structures
        },
        legend=_legend([atom for s in structures for atom in s.atoms]),
        depiction=depict(answer.smiles or best),
        depicted="The molecule" if answer.smiles else "The best candidate",
        score_names=_score_names(answer.candidates),
        candidates=list(_candidates(answer)),
        maps=paintings(answer),
        signed=signed,
        colour=overlay.colour,
        line=line,
        most_atoms=overlay.MOST_ATOMS,
        refinement=refinement_of(answer),
        provenance=list(provenance(answer)),
        of_scan=list(settings_of(scan)) if scan is not None else [],
        of_second=list(settings_of(second)) if second is not None else [],
        record=record_of(answer),
    )  # fmt: skip


def _pieces(formula: str) -> list[tuple[str, bool]]:
    """Return a formula in pieces, and of each whether it is set below the line."""
    return [(part, part.isdigit()) for part in re.split(r"(\d+)", line(formula, 60)) if part]


def _title(answer: Identification) -> str:
    what = answer.smiles or (answer.candidates[0].smiles if answer.candidates else f"{len(answer.atoms)} atoms")
    return line(f"{what} · {answer.method} · afmid", 100)


def _heading(answer: Identification) -> list[tuple[str, bool]]:
    """Return what the answer is in a word or two, in pieces as a formula's."""
    if formula := formula_of(answer.smiles):
        return _pieces(formula)
    if answer.candidates:
        first = answer.candidates[0]
        name = f"{line(first.name, 60)}, " if first.name else ""
        return [(f"Perhaps {name}", False), *_pieces(first.formula or formula_of(first.smiles) or first.smiles)]
    if answer.atoms:
        return [(f"{len(answer.atoms)} atom{'' if len(answer.atoms) == 1 else 's'}", False)]
    return [("Maps" if answer.maps or answer.picture is not None else "Nothing found", False)]


def _cards(scan: Scan | None, answer: Identification) -> Iterator[tuple[str, str, str]]:
    """Yield a name, a value, and a note for each of the figures at the head."""
    if answer.atoms:
        likely = [atom for atom in answer.atoms if atom.confidence >= LIKELY]
        counts = Counter(atom.element for atom in likely if atom.element)
        kinds = ", ".join(f"{n} {line(element, 3)}" for element, n in sorted(counts.items())[:12])
        said = f"{len(likely)} with a confidence of 0.5 or more"
        yield "Atoms", str(len(answer.atoms)), f"{said}: {kinds}" if kinds else said
        mean = sum(atom.confidence for atom in answer.atoms) / len(answer.atoms)
        yield "Mean confidence", f"{mean:.2f}", "of the atoms; 1 is sure"
    if answer.bonds:
        likely_bonds = sum(bond.confidence >= LIKELY for bond in answer.bonds)
        yield "Bonds", str(len(answer.bonds)), f"{likely_bonds} with a confidence of 0.5 or more"
    if answer.fit is not None:
        yield "Fit", signed(answer.fit, 3), "correlation of the answer, simulated again, with the scan"
    if answer.candidates:
        yield "Candidates", str(len(answer.candidates)), _pool(answer)
    window = Window.of(answer.x, answer.y)
    size = f"{window.width:.3g} × {window.height:.3g} Å"
    if scan is None:
        yield "Window", size, f"{len(answer.x)} × {len(answer.y)} pixels"
    else:
        nearest, farthest = scan.z[-1], scan.z[0]
        heights = f"{len(scan.z)} images" if len(scan.z) > 1 else "1 image"
        yield "Scan", size, f"{heights} over {farthest - nearest:.2f} Å, {line(scan.tip, 20)} tip"


def _pool(answer: Identification) -> str:
    record = answer.meta.get("candidates")
    pool = record.get("pool") if isinstance(record, dict) else None
    if not isinstance(pool, int):
        return "best first"
    molecules = len({candidate.inchikey for candidate in answer.candidates})
    ways = f"ways to lie, of {molecules} " if molecules < len(answer.candidates) else ""
    return f"{ways}of {number(pool)} in the library"


def _histogram(confidences: Sequence[float]) -> list[tuple[int, float]]:
    """Return for each tenth of confidence how many atoms have it, and how many that is of the most."""
    counts, _ = np.histogram(confidences, 10, (0, 1))
    return [(int(n), float(n) / max(counts.max(), 1)) for n in counts] if len(confidences) > 1 else []


def _scale_bar(window: Window) -> float:
    """Return a round length (Å), about a quarter of the window."""
    power = 10.0 ** math.floor(math.log10(0.35 * window.width))
    return max(n * power for n in (1, 2, 5) if n * power <= 0.35 * window.width)


def _structures(scan: Scan | None, answer: Identification) -> Iterator[_Structure]:
    """Yield what can be shown in 3D: the atoms found, candidates that know how they lie, and the truth."""
    if answer.atoms:
        yield _Structure("found", "Atoms found", answer.atoms, answer.bonds)
    for place, candidate in enumerate(answer.candidates[:MOST_SHOWN], 1):
        if candidate.molecule is not None:
            name = line(f"Candidate {place}: {candidate.name or candidate.formula or candidate.smiles}", 50)
            molecule = candidate.molecule
            yield _Structure(f"candidate-{place}", name, overlay.atoms_of(molecule), overlay.bonds_of(molecule))
    if scan is not None and scan.truth is not None:
        name = line(f"True molecule {scan.truth.name}", 50)
        yield _Structure("true", name, overlay.atoms_of(scan.truth), overlay.bonds_of(scan.truth))


def _has_elements(structure: _Structure) -> bool:
    return structure.key != "true" and any(atom.element for atom in structure.atoms)


def _in_space(structure: _Structure) -> dict[str, Any]:
    """Return a structure for the 3D view: atoms as [element, x, y, z, words, colour], bonds as [a, b, order]."""
    most = overlay.MOST_ATOMS
    atoms = [
        [a.element or "", round(a.x, 3), round(a.y, 3), round(a.z, 3), overlay.words(n, a)]
        for n, a in enumerate(structure.atoms[:most], 1)
    ]
    bonds = [[b.a, b.b, b.order] for b in structure.bonds if max(b.a, b.b) < most][: 4 * most]
    return {"key": structure.key, "atoms": atoms, "bonds": bonds}


def _legend(atoms: Sequence[Atom]) -> list[tuple[str, str]]:
    """Return the elements that occur, and their colours; the last for atoms whose element is not known."""
    known = sorted({atom.element for atom in atoms if atom.element in COLOURS}, key=list(COLOURS).index)
    others = [("element not known", FOUND)] if any(a.element not in COLOURS for a in atoms) else []
    return [(element, COLOURS[element]) for element in known] + others


def _score_names(candidates: Sequence[Candidate]) -> list[str]:
    return list(dict.fromkeys(name for candidate in candidates for name in candidate.scores))[:8]


def _candidates(answer: Identification) -> Iterator[_Row]:
    names = _score_names(answer.candidates)
    scores = [candidate.score for candidate in answer.candidates]
    for place, candidate in enumerate(answer.candidates[:MOST_CANDIDATES], 1):
        yield _Row(
            key=f"candidate-{place}" if candidate.molecule is not None and place <= MOST_SHOWN else "",
            name=line(candidate.name, 80),
            smiles=line(candidate.smiles),
            inchikey=line(candidate.inchikey, 30),
            formula=_pieces(candidate.formula),
            score=signed(candidate.score, 3),
            share=max(0.0, candidate.score) / max(*scores, 1e-9),
            parts=[signed(candidate.scores[name], 3) if name in candidate.scores else "–" for name in names],
            depiction=depict(candidate.smiles, 150, 100) if place <= MOST_SHOWN else None,
        )
