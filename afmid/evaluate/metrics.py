"""The core's metrics: an answer and the true molecule to named figures; docs/reference/metrics.md defines each.

Each figure of the atoms, elements and bonds comes for the part that a tip can see ("visible") and the "whole" molecule.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.evaluate.figures import Calls, Confusion, Figure, Samples, Share
from afmid.evaluate.matching import CUTOFF, PARTS, WIDE_CUTOFF, compare, lateral_distances
from afmid.identification import Identification
from afmid.molecule import Molecule

CLASSES = ("H", "C,Si", "N,P", "O,S", "F,Cl,Br,I")  # elements that look alike; any other is a class of its own
DEPTHS = ("0_to_20_pm", "20_to_40_pm", "40_to_60_pm", "60_to_80_pm", "over_80_pm")  # below the topmost atom
_LIMITS = (0.2, 0.4, 0.6, 0.8)  # Å, between the depths; a limit belongs to the shallower bin, as in the visible part
ORDERS = (1.0, 1.5, 2.0, 3.0)
TOP = (1, 5, 10)
NONE = "none"  # in a confusion: an element not given, a bond that is not there
_CLASS = {symbol: name for name in CLASSES for symbol in name.split(",")}
_BLOCK = 14  # characters of an InChIKey's first block: connectivity, without stereochemistry


def atoms(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return precision and recall of the atoms, their position errors, and how far the nearest one is."""
    figures: dict[str, Figure] = {"atoms_found": float(len(answer.atoms))}
    for part in PARTS:
        for cutoff in (CUTOFF, WIDE_CUTOFF):
            held = compare(answer, truth, part, cutoff)
            right, within = len(held.pairs), f"within_{round(100 * cutoff)}_pm"
            figures[f"atoms_{part}_precision_{within}"] = Share(right, right + held.false)
            figures[f"atoms_{part}_recall_{within}"] = Share(right, len(held.true))
        held = compare(answer, truth, part)
        figures[f"atoms_{part}_true"] = float(len(held.true))
        x, y, z = np.abs(held.off).T
        for axis, errors in {"x": x, "y": y, "z": z, "xy": np.hypot(x, y)}.items():
            figures[f"atoms_{part}_error_{axis}"] = Samples(errors, "angstrom")
        if answer.atoms:
            nearest = lateral_distances(held.true, held.predicted).min(axis=1)
            figures[f"atoms_{part}_nearest_xy"] = Samples(nearest, "angstrom")
    return figures


def depth(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return precision, recall and errors of the atoms by how deep below the topmost one they lie."""
    held = compare(answer, truth, "whole")
    bins, said = (np.digitize(-atoms[:, 2], _LIMITS, right=True) for atoms in (held.true, held.predicted))
    found, right = bins[held.pairs[:, 1]], said[held.pairs[:, 0]]
    lateral, vertical = np.hypot(held.off[:, 0], held.off[:, 1]), np.abs(held.off[:, 2])
    figures: dict[str, Figure] = {}
    for index, name in enumerate(DEPTHS):
        figures[f"depth_{name}_precision"] = Share(int((right == index).sum()), int((said == index).sum()))
        figures[f"depth_{name}_recall"] = Share(int((found == index).sum()), int((bins == index).sum()))
        figures[f"depth_{name}_error_xy"] = Samples(lateral[found == index], "angstrom")
        figures[f"depth_{name}_error_z"] = Samples(vertical[found == index], "angstrom")
    return figures


def elements(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return how often the elements of matched atoms are right, and what is taken for what."""
    figures: dict[str, Figure] = {}
    symbols = truth.symbols
    for part in PARTS:
        partners = compare(answer, truth, part).partners
        pairs = [(symbols[true], answer.atoms[found].element or NONE) for found, true in partners.items()]
        classes = [(_CLASS.get(true, true), _CLASS.get(said, said)) for true, said in pairs]
        given = [pair for pair in classes if pair[1] != NONE]
        figures[f"elements_{part}_given"] = Share(len(given), len(pairs))
        figures[f"elements_{part}_accuracy"] = _agreement(pair for pair in pairs if pair[1] != NONE)
        figures[f"elements_{part}_accuracy_five_classes"] = _agreement(given)
        for name in CLASSES:
            key = name.lower().replace(",", "_")
            figures[f"elements_{part}_precision_{key}"] = _agreement(pair for pair in given if pair[1] == name)
            figures[f"elements_{part}_recall_{key}"] = _agreement(pair for pair in given if pair[0] == name)
        figures[f"elements_{part}_confusion"] = _confusion(pairs)
        figures[f"elements_{part}_confusion_five_classes"] = _confusion(classes)
    return figures


def bonds(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return precision and recall of the bonds between matched atoms, and how often their orders are right.

    Nothing where the truth names no bonds: it then says nothing about them.
    """
    figures: dict[str, Figure] = {}
    if not len(truth.bonds):
        return figures
    every = _true_orders(truth)
    for part in PARTS:
        partners = compare(answer, truth, part).partners
        matched = set(partners.values())
        true = {bond: order for bond, order in every.items() if bond <= matched}
        said = {
            frozenset((partners[bond.a], partners[bond.b])): _order(bond.order)
            for bond in answer.bonds if {bond.a, bond.b} <= partners.keys()
        }  # fmt: skip
        right = said.keys() & true.keys()
        figures[f"bonds_{part}_precision"] = Share(len(right), len(said))
        figures[f"bonds_{part}_recall"] = Share(len(right), len(true))
        figures[f"bonds_{part}_order_accuracy"] = _agreement((true[bond], said[bond]) for bond in right)
        either = sorted(said.keys() | true.keys(), key=sorted)
        figures[f"bonds_{part}_confusion"] = _confusion((true.get(b, NONE), said.get(b, NONE)) for b in either)
    return figures


def molecule(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return how like the true molecule the answer's SMILES is; one that is missing or not valid is wrong.

    Nothing where the truth has no SMILES.

    Raises:
        DataError: where the truth's SMILES is not valid.
    """
    if not truth.smiles:
        return {}
    from afmid.chem import composition, inchikey
    from afmid.chem.similarity import tanimoto

    true_key, true_atoms = inchikey(truth.smiles), composition(truth.smiles)
    try:
        said = answer.smiles or ""
        key, said_atoms = inchikey(said), composition(said)
    except DataError:
        said, key, said_atoms = "", "", {}
    shared = len(true_atoms.keys() & said_atoms.keys())
    return {
        "molecule_valid": Share(int(bool(said)), 1),
        "molecule_exact": Share(int(key[:_BLOCK] == true_key[:_BLOCK]), 1),
        "molecule_formula": Share(int(said_atoms == true_atoms), 1),
        "molecule_elements_precision": Share(shared, len(said_atoms)),
        "molecule_elements_recall": Share(shared, len(true_atoms)),
        "molecule_tanimoto": float(tanimoto(truth.smiles, [said])[0]),
    }


def candidates(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return whether the true molecule is among the first candidates, and among how many they were chosen.

    Nothing where the truth has no SMILES.

    Raises:
        DataError: where the truth's SMILES is not valid.
    """
    if not truth.smiles:
        return {}
    from afmid.chem import inchikey

    true = inchikey(truth.smiles)[:_BLOCK]
    keys = [candidate.inchikey[:_BLOCK] or str(place) for place, candidate in enumerate(answer.candidates)]
    right = [key == true for key in dict.fromkeys(keys)]  # one that may lie in several ways counts once
    figures: dict[str, Figure] = {f"candidates_top_{top}": Share(int(any(right[:top])), 1) for top in TOP}
    stage = answer.meta.get("candidates")
    if isinstance(stage, Mapping) and isinstance(stage.get("pool"), int):
        figures["candidates_pool"] = float(stage["pool"])
    return figures


def confidence(answer: Identification, truth: Molecule) -> dict[str, Figure]:
    """Return how sure the answer was of its atoms and bonds, and whether they are right.

    An atom is right where it is matched, and of the true element if it says one; a bond, of whatever order, where the
    truth has it between the atoms matched. Bonds are left out where the truth names none.
    """
    partners = compare(answer, truth, "whole").partners
    symbols = truth.symbols
    right = [
        found in partners and atom.element in (None, symbols[partners[found]])
        for found, atom in enumerate(answer.atoms)
    ]
    figures: dict[str, Figure] = {"confidence_atoms": _calls((atom.confidence for atom in answer.atoms), right)}
    if len(truth.bonds):
        true = _true_orders(truth)
        right = [frozenset((partners.get(bond.a, -1), partners.get(bond.b, -1))) in true for bond in answer.bonds]
        figures["confidence_bonds"] = _calls((bond.confidence for bond in answer.bonds), right)
    return figures


def map_figures(name: str, said: NDArray[np.floating], true: NDArray[np.floating], unit: str = "") -> dict[str, Figure]:
    """Return the mean squared error of a map, also relative to the mean square of the truth, and the correlation.

    The relative error is left out where the truth is zero, Pearson's correlation where either is constant.

    Args:
        name: of the map.
        said, true: its pixels (X, Y).
        unit: of the pixels, as figures spell it, such as "angstrom" or "volt_per_angstrom"; "" where there is none.
    """
    said, true = np.asarray(said, np.float64), np.asarray(true, np.float64)
    squared = "".join(f"_{part}2" for part in unit.split("_per_") if part).replace("2_", "2_per_")
    figures: dict[str, Figure] = {f"{name}_mse{squared}": float(np.square(said - true).mean())}
    if square := float(np.square(true).mean()):
        figures[f"{name}_relative_error"] = float(np.square(said - true).mean()) / square
    if np.ptp(said) > 0 and np.ptp(true) > 0:
        figures[f"{name}_correlation"] = float(np.corrcoef(said.ravel(), true.ravel())[0, 1])
    return figures


def _true_orders(truth: Molecule) -> dict[frozenset[int], str]:
    """Return the order of each true bond by its two atoms."""
    return {
        frozenset(bond): _order(order)
        for bond, order in zip(truth.bonds.tolist(), truth.orders.tolist(), strict=True)
    }


def _order(order: float) -> str:
    return f"{min(ORDERS, key=lambda known: abs(known - order)):g}"


def _agreement(pairs: Iterable[tuple[str, str]]) -> Share:
    alike = [true == said for true, said in pairs]
    return Share(sum(alike), len(alike))


def _confusion(pairs: Iterable[tuple[str, str]]) -> Confusion:
    return Confusion(dict(Counter(pairs)))


def _calls(confidences: Iterable[float], right: list[bool]) -> Calls:
    return Calls(np.array([*confidences]), np.array(right, bool))
