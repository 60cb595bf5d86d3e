"""The task that the core's loop fits for the parallel network."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from afmid.data.examples import Examples
from afmid.evaluate.matching import VISIBLE_DEPTH
from afmid.networks.file import fitting
from afmid.networks.peaks import DEEPEST, find_peaks, peak_image
from afmid.networks.unet import UNet
from afmid.offers import Task
from afmid.weights import read_safetensors
from afmid_graphgen import NAME, __version__
from afmid_graphgen.graph import CLASS_OF, MOST_MISSING, N_P, NUMBERS, ORDERS
from afmid_graphgen.model import SIZE, SPREAD, Answers, GraphNet, Pairs, pairs_of
from afmid_graphgen.options import GraphgenRecipe
from afmid_graphgen.parallel import settle
from afmid_graphgen.targets import Truth, truth_of

DESCRIPTOR = "descriptor"  # whose weights the U-Net may begin with
GIVEN = 0.25  # share of training scans whose atoms are found in the true image, so that the rest learns from the start
SMALLEST = 1e-4  # squared error of the image, in units of `SIZE`, below which it gains no more weight
ELEMENTS, MISSING, PLACES, SIGMA, BONDS = 4.0, 0.3, 1.0, 0.1, 2.0  # weights of their losses
GUESSED = {  # the parts of the loss, and what they count where nothing is found: what a mere guess costs, or nearly so
    "image": math.nan, "exists": math.log(2), "elements": ELEMENTS * math.log(len(NUMBERS)),
    "missing": MISSING * math.log(MOST_MISSING + 1), "places": 3 * PLACES, "bonds": BONDS * math.log(len(ORDERS)),
}  # fmt: skip


class Said(NamedTuple):
    """What is said of examples, and the truth.

    Attributes:
        image: of peaks (B, X, Y).
        answers, truth: about M atoms and E pairs.
        found: where the peaks are (M, 2), Å.
        batch: in which of the examples (M,).
        pairs: of atoms.
    """

    image: Tensor
    answers: Answers
    truth: Truth
    found: Tensor
    batch: Tensor
    pairs: Pairs


class ParallelTask:
    """The network, its image of peaks, and its loss."""

    def __init__(self, recipe: GraphgenRecipe, device: str):
        torch.manual_seed(recipe.seed)
        network = GraphNet()
        if recipe.unet:
            begin_with(network, Path(recipe.unet))
        self.model: nn.Module = network.to(device)

    def maps(self, examples: Examples) -> Tensor:
        """Return the true image of peaks (B, 1, X, Y)."""
        return peak_image(examples.positions, examples.atoms, examples.x, examples.y)[:, None]

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Return the sum of the losses of the image, the atoms and the bonds."""
        said = say(model, examples, given=GIVEN)
        parts = losses(said, examples)
        return torch.stack(list(parts.values())).sum()

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, float]:
        """Return the losses, and of the atoms that are there with 0.5 or more: how many, and what of them is right."""
        sums = dict.fromkeys(GUESSED, 0.0)
        scans: Counter[str] = Counter()
        counts: Counter[str] = Counter()
        for batch in batches:
            said = say(model, batch)
            for name, value in losses(said, batch).items():
                sums[name] += float(value) * len(batch)
                scans[name] += len(batch)
            counts.update(_counts(said, batch))
        parts = {f"loss_{name}": sums[name] / scans[name] if scans[name] else guess for name, guess in GUESSED.items()}

        def share(part: str, whole: str) -> float:
            return counts[part] / counts[whole] if counts[whole] else math.nan

        return {
            "loss": sum(parts.values()),
            **parts,
            "precision": share("right", "said"),
            "recall_visible": share("seen", "visible"),
            "error_xy_angstrom": share("error_xy", "seen"),
            "error_z_angstrom": share("error_z", "seen"),
            "element_accuracy": share("element", "right"),
            "precision_n_p": share("n_p_right", "n_p"),
            "bond_recall": share("bond_right", "bond"),
            "bond_precision": share("bond_right", "bond_said"),
        }

    @torch.no_grad()
    def picture(self, model: nn.Module, examples: Examples, path: Path) -> None:
        """Draw four validation scans: the near image, the image of peaks, said and true, with the atoms and bonds."""
        from matplotlib.figure import Figure

        from afmid_graphgen.picture import draw_graph

        examples = examples[:4]
        said = say(model, examples)
        figure = Figure(figsize=(12, 3 * len(examples)), layout="constrained")
        rows = figure.subplots(len(examples), 4, squeeze=False)
        for i, (near, predicted, atoms, true) in enumerate(rows):
            extent = tuple(float(axis[i, end]) for axis in (examples.x, examples.y) for end in (0, -1))
            shown = {"interpolation": "nearest", "origin": "lower", "extent": extent}
            nearest, peaks = (image.cpu().numpy().T for image in (examples.df[i, :, :, -1], said.image[i]))
            near.imshow(nearest, cmap="gray", **shown)
            predicted.imshow(peaks, vmin=0, vmax=1, **shown)
            for axes, graph in ((atoms, _graph(said, i)), (true, _true_graph(examples, i))):
                axes.imshow(nearest, cmap="gray", alpha=0.5, **shown)
                draw_graph(axes, *graph)
        for axes, title in zip(rows[0], ("nearest image", "peaks", "said", "true"), strict=True):
            axes.set_title(title)
        figure.savefig(path, dpi=60)

    def metadata(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, str]:
        """Return what the weights file says of itself."""
        network = cast(GraphNet, model)
        return {
            "method": NAME,
            "architecture": "parallel",
            "version": __version__,
            "config": json.dumps(asdict(network.config)),
            "temperatures": settle(network, batches).to_json(),
        }


def begin_with(network: GraphNet, path: Path) -> None:
    """Give a network the U-Net of the descriptor's weights, and its image of peaks.

    Raises:
        WeightsError: no such weights file, or one of another U-Net or without the image of peaks.
    """
    tensors, metadata = read_safetensors(path, DESCRIPTOR, architecture="unet")
    with fitting(path, NAME):
        sizes = network.config
        taken = {name: tensors[name] for name in UNet(sizes.stem, sizes.widths, sizes.blocks).state_dict()}
        row = 4 * json.loads(metadata["config"])["names"].index("peaks")  # four rows make the image of 2 × 2 pixels
        taken |= {f"peaks.{part}": tensors[f"last.{part}"][row : row + 4] for part in ("weight", "bias")}
        network.load_state_dict(network.state_dict() | taken)


def say(model: nn.Module, examples: Examples, given: float = 0.0) -> Said:
    """Return what the network says of examples; of a share `given` of them, about the atoms of the true image."""
    network = cast(GraphNet, model)
    features = network.features(examples.df)
    image = network.image(features)
    shown = image.detach()
    if given:
        told = torch.rand(len(shown), 1, 1, device=shown.device) < given
        shown = torch.where(told, examples.maps[:, 0], shown)
    places, heights = find_peaks(shown)
    batch, row = (heights > 0).nonzero(as_tuple=True)
    places = places[batch, row]
    pairs = pairs_of(places, batch)
    answers = network.answer(features, places, batch, pairs)
    axes = examples.x, examples.y
    found = torch.stack([a[batch, 0] + places[:, k] * (a[batch, 1] - a[batch, 0]) for k, a in enumerate(axes)], 1)
    return Said(image, answers, truth_of(examples, found, batch, pairs), found, batch, pairs)


def _counts(said: Said, examples: Examples) -> dict[str, float]:
    """Return how many atoms and bonds are said, true and right, and the sums of the errors of visible atoms, Å."""
    _, answers, truth, found, _, pairs = said
    kept = answers.exists >= 0
    right = kept & truth.exists
    seen = right & (truth.positions[:, 2] >= -VISIBLE_DEPTH)
    z = examples.positions[..., 2].where(examples.atoms, -torch.inf)
    spans = zip((examples.x, examples.y), examples.positions.unbind(2), strict=False)
    inside = torch.stack([(at >= axis[:, :1]) & (at <= axis[:, -1:]) for axis, at in spans]).all(0)
    off = torch.cat([found + answers.shift[:, :2], answers.shift[:, 2:]], 1)[seen] - truth.positions[seen]
    element, classes = answers.elements.argmax(1), torch.tensor(CLASS_OF, device=found.device)
    n_p = right & (classes[element] == N_P)
    both = right[pairs.first] & right[pairs.second]
    bond, bond_said = (truth.bonds > 0) & both, (answers.bonds.argmax(1) > 0) & both
    counted = {
        "said": kept,
        "right": right,
        "seen": seen,
        "visible": examples.atoms & inside & (z >= z.amax(1, keepdim=True) - VISIBLE_DEPTH),
        "element": right & (element == truth.elements),
        "n_p": n_p,
        "n_p_right": n_p & (classes[truth.elements] == N_P),
        "bond": bond,
        "bond_said": bond_said,
        "bond_right": bond & bond_said,
    }
    errors = {"error_xy": float(off[:, :2].norm(dim=1).sum()), "error_z": float(off[:, 2].abs().sum())}
    return {name: int(count.sum()) for name, count in counted.items()} | errors


def _graph(said: Said, i: int) -> tuple[NDArray[Any], ...]:
    """Return numbers, places, bonds and orders of the atoms that are said to be in scan `i`."""
    _, answers, _, found, batch, pairs = said
    kept = (batch == i) & (answers.exists >= 0)
    order = answers.bonds.argmax(1)
    bonded = kept[pairs.first] & kept[pairs.second] & (order > 0)
    row = kept.cumsum(0) - 1
    numbers = found.new_tensor(NUMBERS, dtype=torch.long)[answers.elements.argmax(1)]
    bonds = torch.stack([row[pairs.first], row[pairs.second]], 1)
    places = found + answers.shift[:, :2]
    columns = numbers[kept], places[kept], bonds[bonded], found.new_tensor(ORDERS)[order[bonded]]
    return tuple(column.cpu().numpy() for column in columns)


def _true_graph(examples: Examples, i: int) -> tuple[NDArray[Any], ...]:
    """Return numbers, places, bonds and orders of the atoms of scan `i` that may be seen."""
    truth = examples.molecule(i).topmost_at_zero()
    kept = truth.positions[:, 2] > -DEEPEST
    both = kept[truth.bonds].all(1)
    return truth.numbers[kept], truth.positions[kept, :2], (kept.cumsum() - 1)[truth.bonds[both]], truth.orders[both]


def losses(said: Said, examples: Examples) -> dict[str, Tensor]:
    """Return the losses by what they are of, those of `GUESSED` that there is something to learn from."""
    image, answers, truth, found, _, pairs = said
    squared = ((image - examples.maps[:, 0]) / SIZE).square().mean()
    parts, known = {"image": (squared + SMALLEST).log()}, truth.exists
    if len(known):
        parts["exists"] = binary_cross_entropy_with_logits(answers.exists, known.float())
    if not known.any():
        return parts
    target = torch.cat([truth.positions[:, :2] - found, truth.positions[:, 2:]], 1)[known]
    off = answers.shift[known] - target
    log_variance = answers.log_variance[known]
    spread = (log_variance + off.detach().square() * torch.exp(-log_variance)).mean()
    unit = off.new_tensor(SPREAD)
    parts |= {
        "elements": ELEMENTS * cross_entropy(answers.elements[known], truth.elements[known]),
        "missing": MISSING * cross_entropy(answers.missing[known], truth.missing[known]),
        "places": PLACES * smooth_l1_loss(off / unit, torch.zeros_like(off)) + SIGMA * spread,
    }
    if len(pairs.first):
        parts["bonds"] = BONDS * cross_entropy(answers.bonds, truth.bonds)
    return parts


def load(recipe: GraphgenRecipe, device: str) -> Task:
    """Return the task that `afmid train graphgen` fits."""
    if recipe.architecture == "paper":
        from afmid_graphgen.paper_task import PaperTask

        return PaperTask(recipe, device)
    if recipe.architecture == "resimulate":
        from afmid_graphgen.resimulate_task import ResimulateTask

        return ResimulateTask(recipe, device)
    return ParallelTask(recipe, device)
