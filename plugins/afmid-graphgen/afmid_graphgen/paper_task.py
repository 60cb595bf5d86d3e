"""How the published pipeline learns: the grid, and from a part of the molecule the next atom and its bonds.

Oinonen et al., MRS Bulletin 47, 895–905 (2022). A molecule here is what the grid shows of it. A random number of its
atoms is taken away, at least one; the graph builder is asked for the next of them, at a place that is a little wrong.

Departure: `PARTS` partial graphs are made of each scan, not one. The images cost by far the most, and once they are
seen the other graphs come almost for free.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from afmid.data.augment import normalised
from afmid.data.examples import Examples
from afmid_graphgen import NAME, __version__
from afmid_graphgen.graph import CLASS_BY_NUMBER, N_P
from afmid_graphgen.grid import peaks, shown, target
from afmid_graphgen.options import GraphgenRecipe
from afmid_graphgen.paper import Config, Paper, Partial, Said

PARTS = 4  # partial graphs of a scan
GRID = 100.0  # weight of the grid's squared error; those of the classes and of the bonds are 1
NOISE = (0.2, 0.2, 0.05)  # Å: standard deviations of the error of the next atom's place
LARGEST = 0.5  # Å: length at which that error is cut


@dataclass(frozen=True, eq=False)
class Cut:
    """Partial graphs and the next atom of each.

    Attributes:
        partial: Q graphs of up to N atoms.
        query: where the next atom is said to be (Q, 3), Å, in the graphs' frame.
        classes: its true class (Q,).
        bonds: to which atoms of the graph it has a bond, bool (Q, N).
        asked: False where a scan shows no atom, and there is none to ask for, bool (Q,).
    """

    partial: Partial
    query: Tensor
    classes: Tensor
    bonds: Tensor
    asked: Tensor


class Losses(NamedTuple):
    """The parts of the loss, scalars without their weights."""

    grid: Tensor
    classes: Tensor
    bonds: Tensor

    @property
    def sum(self) -> Tensor:
        return GRID * self.grid + self.classes + self.bonds


class PaperTask:
    """The pipeline and its loss."""

    def __init__(self, recipe: GraphgenRecipe, device: str):
        torch.manual_seed(recipe.seed)
        self.model: nn.Module = Paper(Config(ordering=recipe.ordering, sigma=recipe.sigma)).to(device)

    def maps(self, examples: Examples) -> Tensor:
        """Return no images, (B, 0, X, Y): the grid is made from the atoms where they lie after the augmentation."""
        return examples.df.new_empty(len(examples), 0, *examples.df.shape[1:3])

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Return the published loss, 100 MSE(grid) + CE(class) + BCE(bonds)."""
        network = cast(Paper, model)
        losses, _ = _learn(network, examples, cut(examples, network.config.ordering))
        return losses.sum

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, float]:
        """Return the loss and the figures of `single_step`, scans of all batches alike."""
        return single_step(cast(Paper, model), batches)

    @torch.no_grad()
    def picture(self, model: nn.Module, examples: Examples, path: Path) -> None:
        """Draw four validation scans: the nearest image, the true and the predicted grid, and the peaks found."""
        from matplotlib.figure import Figure

        network, examples = cast(Paper, model), examples[:4]
        predicted, _ = network(normalised(examples.df))
        truth, there = _true_grid(examples, network.config.sigma)
        figure = Figure(figsize=(7.5, 2.5 * len(examples)), layout="constrained")
        for i, row in enumerate(figure.subplots(len(examples), 3, squeeze=False)):
            x, y = (axis[i].cpu().double().numpy() for axis in (examples.x, examples.y))
            found = peaks(predicted[i].float().cpu().numpy(), x, y, network.config.sigma)
            images = (examples.df[i, ..., -1], truth[i].amax(2), predicted[i].amax(2))
            places = (None, examples.positions[i][there[i]].cpu().numpy(), found.positions)
            for axis, name, image, atoms in zip(row, ("near", "true", "predicted"), images, places, strict=True):
                box = (x[0], x[-1], y[0], y[-1])
                axis.imshow(image.float().cpu().numpy().T, origin="lower", extent=box, cmap="gray")
                if atoms is not None:
                    axis.plot(*atoms.T[:2], "r+", markersize=4)
                axis.set_title(name, fontsize=8)
                axis.set_axis_off()
        figure.savefig(path, dpi=60)

    def metadata(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, str]:
        """Return what the weights file says of itself."""
        config = json.dumps(asdict(cast(Paper, model).config))
        return {"method": NAME, "architecture": "paper", "version": __version__, "config": config}


@torch.no_grad()
def single_step(model: Paper, batches: Sequence[Examples]) -> dict[str, float]:
    """Return how well one atom is told from true partial graphs, the same ones each time; NaN where nothing counts.

    Keys: "loss", which is told the next atom's true class, and "grid_mse"; with the class that was said,
    "class_accuracy", "np_precision" (of those said to be N or P), "bond_recall", "bond_precision" and "no_bond_rate"
    (of pairs without a bond, those said to have none).
    """
    generator = torch.Generator().manual_seed(0)
    losses, counts = torch.zeros(2), torch.zeros(5, 2)
    for examples in batches:
        question = cut(examples, model.config.ordering, generator)
        parts, said = _learn(model, examples, question)
        classes, asked = said.logits.argmax(1), question.asked
        logits = model.graph.bonds(said, question.partial, question.query, classes)
        pairs = question.partial.there & asked[:, None]
        bonded, answered = question.bonds[pairs], logits[pairs] > 0
        right = (classes == question.classes)[asked]
        shares = (
            (right, torch.ones_like(right)),
            (right, classes[asked] == N_P),
            (answered, bonded),
            (bonded, answered),
            (~answered, ~bonded),
        )
        counts += torch.tensor([[int((hit & of).sum()), int(of.sum())] for hit, of in shares])
        losses += len(examples) * torch.tensor([float(parts.sum), float(parts.grid)])
    names = ("class_accuracy", "np_precision", "bond_recall", "bond_precision", "no_bond_rate")
    loss, grid = (losses / sum(map(len, batches))).tolist()
    return {"loss": loss, "grid_mse": grid, **dict(zip(names, (counts[:, 0] / counts[:, 1]).tolist(), strict=True))}


def cut(
    examples: Examples, ordering: Literal["random", "y", "z"], generator: torch.Generator | None = None,
    parts: int = PARTS,
) -> Cut:  # fmt: skip
    """Return partial graphs of each example, so many `parts`, made by taking atoms away, and the next atom of each.

    `generator` is one of the CPU, whatever the examples' device; None stands for torch's own.
    """
    device = examples.df.device
    origin = torch.stack([examples.x[:, 0], examples.y[:, 0], torch.zeros_like(examples.x[:, 0])], 1)[:, None]
    classes = torch.tensor(CLASS_BY_NUMBER, device=device)[examples.numbers].clamp_min(0)
    columns = (_shown(examples), examples.positions - origin, classes, examples.bonds, examples.orders)
    there, positions, classes, bonds, orders = (column.repeat_interleave(parts, 0) for column in columns)
    queries = len(there)

    kept = (torch.rand(queries, generator=generator).to(device) * there.sum(1)).long()  # 0 … all but one
    size = int(kept.max())
    noise = torch.randn(queries, 3, generator=generator).to(device) * positions.new_tensor(NOISE)
    noise = noise * (LARGEST / noise.norm(dim=1, keepdim=True)).clamp(max=1)
    if ordering == "random":
        key = torch.rand(there.shape, generator=generator).to(device)
    else:
        key = positions[..., "xyz".index(ordering)]
    order = key.masked_fill(~there, -torch.inf).argsort(1, descending=True)
    classes, positions = classes.gather(1, order), positions.gather(1, order[..., None].expand(-1, -1, 3))

    rank = order.argsort(1)  # of each atom, in the order
    ends = rank.gather(1, bonds.flatten(1)).view_as(bonds).sort(2).values
    low, high = ends.unbind(2)
    inside = (orders > 0) & (high < kept[:, None])
    to_next = (orders > 0) & (high == kept[:, None])
    graph, _ = inside.nonzero(as_tuple=True)
    wanted = torch.zeros(queries, size, dtype=torch.bool, device=device)
    wanted[to_next.nonzero(as_tuple=True)[0], low[to_next]] = True

    return Cut(
        partial=Partial(
            classes=classes[:, :size],
            positions=positions[:, :size],
            there=torch.arange(size, device=device) < kept[:, None],
            bonds=ends[inside] + size * graph[:, None],
        ),
        query=positions.gather(1, kept[:, None, None].expand(-1, 1, 3)).squeeze(1) + noise,
        classes=classes.gather(1, kept[:, None]).squeeze(1),
        bonds=wanted,
        asked=there.any(1),
    )


def _shown(examples: Examples) -> Tensor:
    return shown(examples.atoms, examples.positions, examples.x, examples.y)


def _true_grid(examples: Examples, sigma: float) -> tuple[Tensor, Tensor]:
    """Return the grids (B, X, Y, 20) and which atoms are in them (B, N)."""
    there = _shown(examples)
    return target(examples.positions, there, examples.x, examples.y, sigma), there


def _learn(model: Paper, examples: Examples, question: Cut) -> tuple[Losses, Said]:
    """Return the losses of scans and of partial graphs of them, and what was said of the next atoms."""
    grid, views = model(normalised(examples.df))
    truth, _ = _true_grid(examples, model.config.sigma)
    said = model.graph(views, question.partial, question.query)
    logits = model.graph.bonds(said, question.partial, question.query, question.classes)
    pairs = question.partial.there & question.asked[:, None]
    bonds = binary_cross_entropy_with_logits(logits[pairs], question.bonds[pairs].to(logits.dtype), reduction="sum")
    classes = (cross_entropy(said.logits, question.classes, reduction="none") * question.asked).sum()
    losses = Losses(
        grid=mse_loss(grid, truth),
        classes=classes / question.asked.sum().clamp(min=1),
        bonds=bonds / pairs.sum().clamp(min=1),
    )
    return losses, said
