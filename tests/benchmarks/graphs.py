"""Whether the answer of graphgen, or of soap, stays the same where the molecule lies elsewhere.

The molecules are those on which the published network failed (Oinonen et al., MRS Bull. 47, 895, 2022):
1-bromo-3,5-dichlorobenzene, a water cluster, PTCDA.

Each is simulated once over a wide window, flat, under the default tip; a view is a part of that scan, in which the
molecule lies whole, with the dark rim around it, wherever it is. Two graphs agree where atoms (within 0.35 Å), their
elements and their bonds are the same.
"""

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import ours
import report
from window import MOVED, PIXEL, part

from afmid import Identification, Molecule, Scan
from afmid.data.scenes import water_cluster
from afmid.evaluate.matching import match_atoms, visible
from afmid.io import read_molecule
from afmid.simulate import SimulationOptions, load_engine, simulate

WATERS = 7
SIZE = 20  # Å: of a view; PTCDA is 14 Å long
VIEWS = {"centred": 0, f"moved by {MOVED} Å": MOVED}


def main() -> None:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    ours.add_option(parser)
    parser.add_argument("--method", default="graphgen", choices=("graphgen", "soap"), help="whose answers")
    options = parser.parse_args()
    identifier, method = ours.method(options.ours, options.method)
    rows: list[dict[str, Any]] = []
    for scan in _scans():
        truth, answers = scan.truth.topmost_at_zero(), []
        for moved in VIEWS.values():
            view = replace(part(scan, SIZE, moved), truth=None)
            answers.append(method.identify([view], identifier.options()))
        graphs = [_graph(answer) for answer in answers]
        shown = visible(truth)
        seen = _part_of(truth, shown)
        rows.append({
            "molecule": truth.name or "water cluster",
            "atoms": len(seen.numbers),
            "found": [len(answer.atoms) for answer in answers],
            "agree": _differences(*graphs),
            "right": [_differences(seen, graph) for graph in graphs],
            "smiles": [answer.smiles for answer in answers],
        })  # fmt: skip
    apart = [f"{view}, truth and answer differ in" for view in VIEWS]
    header = ["molecule", "visible atoms", "found", "views differ in", *apart]
    lines = [[r["molecule"], str(r["atoms"]), ", ".join(map(str, r["found"])), r["agree"], *r["right"]] for r in rows]
    name = "graphs" if options.method == "graphgen" else f"graphs-{options.method}"
    report.publish(options, name, rows, report.table(header, lines), "")


def _scans() -> list[Scan]:
    water = replace(water_cluster(WATERS, np.random.default_rng(0)), name="water cluster")
    molecules = [read_molecule("1-bromo-3,5-dichlorobenzene"), water, read_molecule("PTCDA")]
    size = SIZE + 2 * MOVED
    options = SimulationOptions(size=size, pixels=round(size / PIXEL))
    return list(simulate(molecules, options, load_engine("auto", "cpu")[1]))


def _graph(answer: Identification) -> Molecule:
    if answer.molecule is None:
        raise SystemExit(f"nothing was found in {answer.source}")
    return answer.molecule


def _part_of(molecule: Molecule, shown: np.ndarray) -> Molecule:
    both = shown[molecule.bonds].all(1)
    rank = np.cumsum(shown) - 1
    return Molecule(
        molecule.numbers[shown], molecule.positions[shown], molecule.charges[shown],
        rank[molecule.bonds[both]], molecule.orders[both],
    )  # fmt: skip


def _differences(one: Molecule, other: Molecule) -> str:
    """Return in how many atoms, elements and bonds two graphs differ, in words."""
    pairs = match_atoms(other.positions, one.positions)
    partner = dict(pairs.tolist())
    atoms = len(one) + len(other) - 2 * len(pairs)
    elements = int((other.numbers[pairs[:, 0]] != one.numbers[pairs[:, 1]]).sum())
    bonds = {frozenset(bond) for bond in one.bonds.tolist()}
    again = {frozenset(partner.get(end, -1 - end) for end in bond) for bond in other.bonds.tolist()}
    counted = {"atoms": atoms, "elements": elements, "bonds": len(bonds ^ again)}
    return ", ".join(f"{count} {what}" for what, count in counted.items() if count) or "nothing"


if __name__ == "__main__":
    main()
