"""What SOAP is worth to a network that is told a part of the true graph and says the next atom and its bonds.

All variants of afmid_soap's `paper` are trained in one run: on the same scans and partial graphs in the same order, for
the same number of steps, each with its own weights. What they see of a scan is the same, too: the features that
graphgen's trained U-Net, which stays as it is, has at the next atom's place. So they differ by what they know of the
atoms that are there. The bond head of the published variant is then trained further with the rest frozen. A run that
was stopped goes on with the same command, and one that is done is only measured.

The test is on scans of sim-test over 16 Å, with the same partial graphs for all.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import report
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from afmid import Identifier
from afmid.data.examples import Examples
from afmid.data.feed import open_feed
from afmid.data.pack import read_pack
from afmid.evaluate.figures import Record, Share, differences, summarise
from afmid.evaluate.suites import open_suite
from afmid.networks.file import read_network
from afmid.networks.recipe import GRID, StackRecipe
from afmid.plugins import installed
from afmid.simulate import SimulationOptions
from afmid.training import fit
from afmid.weights import default
from afmid_graphgen.graph import CLASSES, N_P
from afmid_graphgen.model import PIXEL, GraphNet, sampled
from afmid_graphgen.networks import build
from afmid_graphgen.paper import GRAPH
from afmid_graphgen.paper_task import Cut, cut
from afmid_soap.paper import Config, SoapBuilder
from afmid_soap.recipe import predictor_loss, train_only

FIXED = {"norm": True, "residual": True}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("no SOAP", {"spectra": "none"}),
    "soap": ("SOAP as published, messages 3 and 6", {}),
    "bonds_off": ("SOAP, no messages for bonds", {"bond_rounds": 0}),
    "messages_off": ("SOAP, no messages", {"rounds": 0, "bond_rounds": 0}),
    "norm": ("SOAP, normalised", {"norm": True}),
    "residual": ("SOAP, paths around", {"residual": True}),
    "dropout": ("SOAP, dropout 0.1", {"dropout": 0.1}),
    "none_fixed": ("no SOAP, fixed: normalised, paths around", {"spectra": "none", **FIXED}),
    "fixed": ("SOAP, fixed: normalised, paths around", FIXED),
    "none_again": ("no SOAP, fixed, another seed", {"spectra": "none", **FIXED}),
    "fixed_again": ("SOAP, fixed, another seed", FIXED),
    "shared": ("SOAP, fixed, one set of weights for both tasks", {**FIXED, "shared": True}),
    "here": ("SOAP, fixed, and at the next atom's place", {**FIXED, "here": True}),
    "predicted": ("predicted SOAP, fixed, heads for familiar and new pairs", {**FIXED, "spectra": "predicted"}),
    "one_head": ("predicted SOAP, fixed, one head", {**FIXED, "spectra": "predicted", "split": False}),
}
LATER: dict[str, tuple[str, dict[str, Any]]] = {  # in a run of their own, on the same scans and graphs
    "none_relative": ("no SOAP, fixed, places told from the next atom", {"spectra": "none", "relative": True, **FIXED}),
    "fixed_relative": ("SOAP, fixed, places told from the next atom", {"relative": True, **FIXED}),
}
WITHOUT = {  # what variants with SOAP are compared to, where it is not "none"
    **dict.fromkeys(("fixed", "none_again", "fixed_again", "shared", "here", "predicted", "one_head"), "none_fixed"),
    "none_relative": "none_fixed",
    "fixed_relative": "none_relative",
}
PUBLISHED, TUNED = "soap", "tuned"
NAMES = {name: told for name, (told, _) in (VARIANTS | LATER).items()}
NAMES[TUNED] = "SOAP as published, then the bond head alone"
PARTS = 4  # partial graphs of a scan, in training
TESTED = 8  # and in the test
SYMBOLS = [",".join(names) for names in CLASSES]


class Glance(nn.Module):
    """Features that a network has at the next atom's place, (Q, F), in place of attention on its images."""

    def __init__(self, features: int):
        super().__init__()
        self.image = nn.Linear(features, GRAPH)

    def views(self, scales: Sequence[Tensor]) -> list[Tensor]:
        return list(scales)

    def look(self, views: Sequence[Tensor], graph: Tensor, query: Tensor) -> Tensor:
        seen: Tensor = self.image(views[0])
        return seen


class Ablation:
    """All variants, and the eye that they share; what the core's loop fits."""

    def __init__(self, eye: GraphNet, builders: dict[str, SoapBuilder]):
        self.eye = eye.eval().requires_grad_(False)
        self.model: nn.Module = nn.ModuleDict(builders)

    def maps(self, examples: Examples) -> Tensor:
        return examples.df.new_empty(len(examples), 0, *examples.df.shape[1:3])

    def question(self, examples: Examples, parts: int, generator: torch.Generator | None = None) -> tuple[Cut, Tensor]:
        """Return partial graphs, and what the eye sees at their next atoms' places (Q, F)."""
        question = cut(examples, "random", generator, parts)
        with torch.no_grad(), torch.autocast(examples.df.device.type, torch.bfloat16):
            features = self.eye.features(examples.df)
        batch = torch.arange(len(examples), device=examples.df.device).repeat_interleave(parts)
        return question, sampled(features, question.query[:, :2] / PIXEL, batch)

    def loss(self, model: nn.Module, examples: Examples) -> dict[str, Tensor]:
        question, seen = self.question(examples, PARTS)
        return {name: _loss(cast(SoapBuilder, builder), question, seen) for name, builder in model.named_children()}

    def validate(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, float]:
        generator, sums = torch.Generator().manual_seed(0), dict.fromkeys(dict(model.named_children()), 0.0)
        for examples in batches:
            question, seen = self.question(examples, PARTS, generator)
            for name, builder in model.named_children():
                sums[name] += float(_loss(cast(SoapBuilder, builder), question, seen)) / len(batches)
        return {"loss": sum(sums.values()), **{f"loss_{name}": value for name, value in sums.items()}}

    def picture(self, model: nn.Module, examples: Examples, path: Path) -> None:
        """Draw nothing: this run is for figures."""

    def metadata(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, str]:
        return {"method": "soap", "architecture": "ablation", "version": "0", "config": "{}"}


def _loss(builder: SoapBuilder, question: Cut, seen: Tensor) -> Tensor:
    """Return the published loss, without that of the grid."""
    said = builder([seen], question.partial, question.query)
    logits = builder.bonds(said, question.partial, question.query, question.classes)
    pairs = question.partial.there & question.asked[:, None]
    classes = (cross_entropy(said.logits, question.classes, reduction="none") * question.asked).sum()
    bonds = binary_cross_entropy_with_logits(logits[pairs], question.bonds[pairs].float(), reduction="sum")
    of_predictor = predictor_loss(builder, question.partial)
    return classes / question.asked.sum().clamp(min=1) + bonds / pairs.sum().clamp(min=1) + of_predictor


def main() -> None:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True, metavar="PACK", help="molecules to train with")
    parser.add_argument("--test", type=Path, metavar="PACK", help="whose test split is for the test [default: DATA]")
    parser.add_argument("--run", type=Path, default=Path("runs/soap-ablation"), help="folder of the run")
    parser.add_argument("--steps", type=int, default=1000, help="of 16 scans with 4 partial graphs each")
    parser.add_argument("--tuning", type=int, default=200, help="steps of the bond head alone")
    parser.add_argument("--scans", type=int, default=200, help="in the test")
    parser.add_argument("--seed", type=int, default=0, help="of weights and scans")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="where to draw the figures of all variants")
    options = parser.parse_args()
    identifier = installed(("graphgen",)).get(Identifier, "graphgen")
    eye, origin = read_network(default(identifier).shipped, "graphgen", build)
    features = eye.atom.in_features
    models: dict[str, nn.Module] = {}
    for folder, variants in ((options.run, VARIANTS), (options.run / "later", LATER)):
        builders = {}
        for name, (_, config) in variants.items():
            torch.manual_seed(options.seed + name.endswith("_again"))
            builders[name] = SoapBuilder(Config(**config), Glance(features))
        _fit(Ablation(eye, builders), options, folder, options.steps)
        models |= builders
    tuned = SoapBuilder(Config(), Glance(features))
    tuned.load_state_dict(models[PUBLISHED].state_dict())
    train_only(tuned, tuned.bond_head)
    models[TUNED] = tuned
    _fit(Ablation(eye, {TUNED: tuned}), options, options.run / TUNED, options.tuning)
    records = _records(Ablation(eye, {}), models, options)
    rows, text = _report(records)
    about = f"{len(records['none'])} scans, {TESTED} partial graphs each; graphgen's weights {origin.sha256[:12]}."
    text = f"{about}\n\n{text}"
    report.publish(options, "soap-ablation", rows, text, "")
    if options.picture:
        _draw(rows, options.picture)


def _fit(task: Ablation, options: argparse.Namespace, folder: Path, steps: int) -> None:
    """Fit the variants; at the end they have the averaged weights."""
    recipe = StackRecipe(
        steps=steps, batch=16, seed=options.seed, matrix_rate=0.01, warmup=20, average=0.99, reuse=2,
        validate_every=100, validation_scans=48, simulation=SimulationOptions(size=12, pixels=96),
    )  # fmt: skip
    feed = open_feed(read_pack(options.data), recipe, task.maps, "cpu", installed(()))
    with closing(fit(task, feed, recipe, folder)) as steps_done:
        for progress in steps_done:
            if progress.validation:
                losses = ", ".join(f"{name} {value:.3f}" for name, value in progress.validation.items())
                sys.stderr.write(f"step {progress.step}: {progress.rate:.1f} scans/s; {losses}\n")
    state = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)
    task.model.load_state_dict(state["averaged"])


@torch.no_grad()
def _records(ablation: Ablation, models: dict[str, nn.Module], options: argparse.Namespace) -> dict[str, list[Record]]:
    """Return of each variant what it says of each scan."""
    generator = torch.Generator().manual_seed(0)
    records: dict[str, list[Record]] = {name: [] for name in models}
    for examples in _scans(options.scans, options.test or options.data):
        question, seen = ablation.question(examples, TESTED, generator)
        for name, model in models.items():
            records[name].append(_record(cast(SoapBuilder, model.eval()), question, seen))
    return records


def _record(builder: SoapBuilder, question: Cut, seen: Tensor) -> Record:
    """Return what a variant says of the partial graphs of one scan: told the class that it said, which bonds."""
    said = builder([seen], question.partial, question.query)
    classes = said.logits.argmax(1)
    pairs = question.partial.there & question.asked[:, None]
    bonded = builder.bonds(said, question.partial, question.query, classes)[pairs] > 0
    true, wanted = question.classes[question.asked], question.bonds[pairs]
    classes = classes[question.asked]
    figures = {
        "class_accuracy": _share(classes == true),
        "np_precision": _share((true == N_P)[classes == N_P]),
        "bond_recall": _share(bonded[wanted]),
        "bond_precision": _share(wanted[bonded]),
        "no_bond_rate": _share(~bonded[~wanted]),
    }
    for i, j in np.ndindex(len(CLASSES), len(CLASSES)):
        figures[f"class_{i}_{j}"] = _share((classes == j)[true == i])
    return {name: share for name, share in figures.items() if share.of}


def _share(right: Tensor) -> Share:
    return Share(int(right.sum()), len(right))


def _scans(count: int, data: Path) -> Iterator[Examples]:
    suite, found = open_suite("sim-test", data), 0
    for i in range(len(suite)):
        scan = suite[i].scan
        if scan.df.shape[:2] == (GRID.pixels, GRID.pixels):
            yield Examples.of(scan)
            found += 1
        if found == count:
            return
    raise SystemExit(f"sim-test has {found} scans over {GRID.size:g} Å, not {count}")


COLUMNS = {
    "class_accuracy": "class right", "np_precision": "said to be N, P: right", "bond_recall": "bonds found",
    "bond_precision": "bonds said: right", "no_bond_rate": "no bond: right",
}  # fmt: skip


def _report(records: dict[str, list[Record]]) -> tuple[list[dict[str, Any]], str]:
    summaries = {name: summarise(own) for name, own in records.items()}
    rows = [
        {"variant": name, **{key: [figure.value, figure.low, figure.high] for key, figure in own.items()}}
        for name, own in summaries.items()
    ]
    lines = [[NAMES[name], *(_told(own.get(key)) for key in COLUMNS)] for name, own in summaries.items()]
    parts = [report.table(["variant", *COLUMNS.values()], lines)]
    parts.append("Differences from the same without SOAP, with paired intervals:")
    lines = []
    for name, own in records.items():
        base = WITHOUT.get(name, "none")
        if name != base:
            apart = differences(records[base], own)
            lines.append([NAMES[name], *(_told(apart.get(key), sign="+") for key in COLUMNS)])
    parts.append(report.table(["variant", *COLUMNS.values()], lines))
    parts.append("Of atoms of a class (rows), the share that is said to be of each (columns); of pairs, likewise:")
    for name, own in summaries.items():
        cells = [[_told(own.get(f"class_{i}_{j}")) for j in range(len(CLASSES))] for i in range(len(CLASSES))]
        lines = [[symbol, *row] for symbol, row in zip(SYMBOLS, cells, strict=True)]
        parts += [f"*{NAMES[name]}*", report.table(["is", *SYMBOLS], lines)]
        recall, rate = own["bond_recall"], own["no_bond_rate"]
        bonds = [["bond", _told(recall), _complement(recall)], ["no bond", _complement(rate), _told(rate)]]
        parts.append(report.table(["is", "said: bond", "said: none"], bonds))
    return rows, "\n\n".join(parts)


def _draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each of the first three figures, a line for each variant; another colour is without SOAP."""
    from matplotlib.figure import Figure

    order = sorted(rows, key=lambda row: row["class_accuracy"][0])
    figure = Figure(figsize=(11, 0.28 * len(rows) + 1), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3, sharey=True), list(COLUMNS.items())[:3], strict=True):
        for y, row in enumerate(order):
            if key in row:
                value, low, high = row[key]
                colour = "tab:orange" if "no SOAP" in NAMES[row["variant"]] else "tab:blue"
                if low is not None:
                    axes.plot([low, high], [y, y], color=colour, linewidth=1)
                axes.plot([value], [y], "o", color=colour, markersize=4)
        axes.set_title(title)
        axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(order)), [NAMES[row["variant"]] for row in order], fontsize=8)
    figure.savefig(path, dpi=90)


def _told(figure: Any, sign: str = "") -> str:
    if figure is None:
        return "–"
    ends = "" if figure.low is None else f" [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"
    return f"{figure.value:{sign}.3f}{ends}"


def _complement(figure: Any) -> str:
    ends = "" if figure.low is None else f" [{1 - figure.high:.3f}, {1 - figure.low:.3f}]"
    return f"{1 - figure.value:.3f}{ends}"


if __name__ == "__main__":
    main()
