"""How well the networks of graphgen and soap tell one atom with the rest given, as the published figures were taken.

Scans are those of sim-open, or with --data PACK of sim-test, over 16 Å. `paper` and `resimulate` are told a part of the
true graph, and `paper` also where the next atom is, with an error of N(0, (0.2, 0.2, 0.05)) Å cut at 0.5 Å. `parallel`
and `soap` are told where all visible atoms are, each with such an error, and nothing of what they are. `resimulate` may
add any of the missing atoms: its figures are of the one nearest to what it says, which is easier than one that is
drawn, as the published seem to be. Free-running figures are those of `afmid evaluate`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import report
import torch

from afmid import Identifier
from afmid.data.examples import Examples
from afmid.evaluate.matching import VISIBLE_DEPTH
from afmid.evaluate.suites import open_suite
from afmid.networks.file import read_network
from afmid.networks.recipe import GRID
from afmid.plugins import installed
from afmid.weights import read_index
from afmid_graphgen import networks as graphgen
from afmid_graphgen.graph import CLASS_OF, N_P
from afmid_graphgen.model import GraphNet
from afmid_graphgen.options import GraphgenRecipe
from afmid_graphgen.paper import Paper
from afmid_graphgen.paper_task import LARGEST, NOISE, single_step
from afmid_graphgen.parallel import view
from afmid_graphgen.resimulate_task import ResimulateTask
from afmid_graphgen.targets import truth_of
from afmid_soap import networks as soap

BUILD = {"graphgen": graphgen.build, "soap": soap.build}
BATCH = 16
COLUMNS = {
    "class_accuracy": "class right",
    "np_precision": "N, P: precision",
    "bond_recall": "bonds found",
    "no_bond_rate": "no bond: right",
    "error_mean_angstrom": "error, mean (Å)",
    "error_50_percent_angstrom": "median",
    "error_90_percent_angstrom": "90 %",
    "error_95_percent_angstrom": "95 %",
}
PUBLISHED = {  # as far as they are known
    "published, Oinonen et al. (2022)": {"np_precision": 0.563},
    "published, its forerunner": {
        "bond_recall": 0.857, "no_bond_rate": 0.983, "error_mean_angstrom": 0.50, "error_50_percent_angstrom": 0.40,
        "error_90_percent_angstrom": 0.94, "error_95_percent_angstrom": 1.19,
    },
}  # fmt: skip


def main() -> None:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("weights", nargs="*", type=Path, help="weights files of METHOD [default: all that are shipped]")
    parser.add_argument("--method", default="graphgen", choices=BUILD, help="whose the weights files are")
    parser.add_argument("--scans", type=int, default=200, help="how many")
    parser.add_argument("--data", type=Path, metavar="PACK", help="draw them from a pack's test split, as sim-test")
    options = parser.parse_args()
    batches = list(_batches(options.scans, options.data))
    rows: list[dict[str, Any]] = []
    given = [(options.method, path) for path in options.weights]
    for method, path in given or [(name, path) for name in BUILD for path in _shipped(name)]:
        network, origin = read_network(path, method, BUILD[method])
        figures = _figures(network.eval(), batches)
        rows.append({"network": origin.metadata["architecture"], "weights": origin.sha256[:12], **figures})
    rows += [{"network": name, **figures} for name, figures in PUBLISHED.items()]
    lines = [[row["network"], *(_told(row.get(key)) for key in COLUMNS)] for row in rows]
    report.publish(options, "single-step", rows, report.table(["network", *COLUMNS.values()], lines), "")


def _batches(count: int, data: Path | None) -> Iterator[Examples]:
    suite, scans = open_suite("sim-test" if data else "sim-open", data), []
    for i in range(len(suite)):
        scan = suite[i].scan
        if scan.df.shape[:2] == (GRID.pixels, GRID.pixels):
            scans.append(Examples.of(scan))
        if len(scans) == count:
            break
    else:
        raise SystemExit(f"{suite.name} has {len(scans)} scans over {GRID.size:g} Å, not {count}")
    for start in range(0, count, BATCH):
        yield Examples.joined(scans[start : start + BATCH])


def _shipped(method: str) -> list[Path]:
    index = installed((method,)).get(Identifier, method).weights_index
    return [entry.shipped for entry in read_index(index)] if index else []


def _figures(network: torch.nn.Module, batches: list[Examples]) -> dict[str, float]:
    if isinstance(network, GraphNet):
        return _parallel(network, batches)
    if isinstance(network, Paper):
        return single_step(network, batches)
    return ResimulateTask(GraphgenRecipe(architecture="resimulate"), "cpu").validate(network, batches)


def _parallel(network: GraphNet, batches: list[Examples]) -> dict[str, float]:
    rng, classes = np.random.default_rng(0), np.array(CLASS_OF)
    right, n_p, bonds = [], [], []
    for batch in batches:
        for i in range(len(batch)):
            one = batch[i : i + 1]
            positions = one.molecule(0).topmost_at_zero().positions
            positions = positions[positions[:, 2] >= -VISIBLE_DEPTH]
            noise = rng.normal(size=positions.shape) * NOISE
            noise *= np.minimum(1, LARGEST / np.linalg.norm(noise, axis=1, keepdims=True))
            found = torch.tensor((positions + noise)[:, :2], dtype=torch.float32)
            first, second = torch.stack([one.x[0], one.y[0]], 1)[:2]
            seen = view(network, one.df, places=(found - first) / (second - first))
            truth = truth_of(one, found, torch.zeros(len(found), dtype=torch.long), seen.pairs)
            known = truth.exists.numpy()
            said, true = (classes[part.numpy()][known] for part in (seen.answers.elements.argmax(1), truth.elements))
            right.append(said == true)
            n_p.append(true[said == N_P] == N_P)
            both = (truth.exists[seen.pairs.first] & truth.exists[seen.pairs.second]).numpy()
            pair = torch.stack([seen.answers.bonds.argmax(1) > 0, truth.bonds > 0], 1).numpy()
            bonds.append(pair[both])
    said_bond, true_bond = np.concatenate(bonds).T
    return {
        "class_accuracy": float(np.concatenate(right).mean()),
        "np_precision": float(np.concatenate(n_p).mean()),
        "bond_recall": float(said_bond[true_bond].mean()),
        "no_bond_rate": float((~said_bond[~true_bond]).mean()),
    }


def _told(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


if __name__ == "__main__":
    main()
