"""The task that the core's loop fits for the forerunner: molecules are taken apart, and the next atom is asked for."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from afmid.data.augment import normalised
from afmid.data.examples import Examples
from afmid.offers import Simulator
from afmid.simulate.scan_simulation import load_engine
from afmid_graphgen import NAME, __version__
from afmid_graphgen.graph import ELEMENTS, NUMBERS
from afmid_graphgen.options import GraphgenRecipe
from afmid_graphgen.resimulate import (
    Z_MIN,
    Part,
    Prediction,
    Resimulate,
    focused,
    near,
    nominal_height,
    simulate,
)
from afmid_graphgen.targets import orders_of

SHARES = (50, 90, 95)  # per cent of the errors that are no larger: 50 is the median
CLASS, BONDS = 3.0, 2.0  # weights of their losses, beside 1 of the position's
LOOKS = 1.0  # weight of the loss of the attention
POINTED = 3  # places to which the network is pointed in each step
POINTING = 0.2  # Å: how far these are off along an axis, standard deviation
MISPLACED = 0.3  # Å: largest standard deviation along an axis of atoms that are there, in training
MISNAMED = 0.2  # share of these that are said to be of another element
LEAST = 1e-3  # added to what of the attention is right, so that its loss is bounded


@dataclass(frozen=True, eq=False)
class Apart:
    """Molecules of which atoms were taken away.

    Attributes:
        part: what is left of them (B), K atoms of the largest.
        atoms: which atoms of the molecule these are, indices (B, K).
        visible: which of the molecules' atoms the scan shows, bool (B, N).
        missing: which of these may come next, bool (B, N); none where all is there.
        elements: of the molecules' atoms, one-hot in the order of `graph.NUMBERS` (B, N, 11).
        positions: (B, N, 3), Å, as in Part.
        bonds: which atoms have a bond, bool (B, N, N).
    """

    part: Part
    atoms: Tensor
    visible: Tensor
    missing: Tensor
    elements: Tensor
    positions: Tensor
    bonds: Tensor

    def next(self, said: Tensor) -> "Next":
        """Return which atoms come next: of those that may the nearest to where the next is said to be (B, 3), Å."""
        away = (self.positions - said.detach()[:, None]).norm(dim=2)
        following, row = away.where(self.missing, torch.inf).argmin(1), torch.arange(len(said), device=said.device)
        return Next(
            part=self.part,
            classes=(1 + self.elements[row, following].argmax(1)) * self.missing.any(1),
            position=self.positions[row, following],
            bonds=self.bonds[row[:, None], following[:, None], self.atoms] & (self.part.numbers > 0),
        )

    def some(self) -> Tensor:
        """Return places (B, 3), Å, near atoms that may come next, one of each molecule; near any where all is there."""
        candidates = self.missing.where(self.missing.any(1, keepdim=True), self.visible)
        chosen = torch.rand(candidates.shape, device=candidates.device).where(candidates, -1.0).argmax(1)
        place = self.positions[torch.arange(len(chosen), device=chosen.device), chosen]
        return place + POINTING * torch.randn_like(place)


class Next(NamedTuple):
    """A part of each molecule, and the atom that comes next.

    Attributes:
        part: what is there (B).
        classes: index into stop and `graph.ELEMENTS` (B,): 0 where all is there.
        position: of the next atom (B, 3), Å, as in Part.
        bonds: its bonds to the atoms that are there, bool (B, N).

    Where all is there, position and bonds mean nothing.
    """

    part: Part
    classes: Tensor
    position: Tensor
    bonds: Tensor


class Step(NamedTuple):
    """What the network says of parts of molecules, whose simulated stacks are (B, X, Y, Z), and what is true."""

    simulated: Tensor
    said: Prediction
    true: Next


class ResimulateTask:
    """The network and its loss."""

    def __init__(self, recipe: GraphgenRecipe, device: str):
        torch.manual_seed(recipe.seed)
        self.model: nn.Module = Resimulate().to(device)
        self.recipe = recipe
        self.device = device

    @cached_property
    def simulator(self) -> Simulator:
        """What simulates the parts of molecules."""
        return load_engine("auto", self.device)[1]

    def maps(self, examples: Examples) -> Tensor:
        """Return no images (B, 0, X, Y): the network predicts none."""
        return examples.df.new_empty(len(examples), 0, *examples.df.shape[1:3])

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Return the loss of one step, of parts of the molecules that are drawn anew each time."""
        (x, y), network = _centred(examples), cast(Resimulate, model)
        apart = taken_apart(examples, self.recipe.ordering)
        apart = replace(apart, part=mistaken(apart.part))
        simulated = self._simulated(apart.part, examples)
        known = network.encode(network.reference.features(normalised(examples.df)), simulated, apart.part)
        attention = network.look(known, x, y)
        said = network.answer(known, focused(attention, x, y), x, y)
        losses = [published(said, apart.next(said.position)), LOOKS * astray(attention, apart, x, y)]
        for _ in range(POINTED):
            place = apart.some()
            told = network.answer(known, _pointed(place, x, y), x, y)
            losses.append(published(told, apart.next(place)) / POINTED)
        return torch.stack(losses).sum()

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, float]:
        """Return the loss, and how well one atom is added with the rest given: the same parts each time.

        Errors of the position are in Å, over the examples of which something is missing. Where any atom may come next,
        all figures are of the one that is nearest to what is said, which is easier than one that is drawn.
        """
        total, errors, right, pairs = 0.0, [], [], []
        for index, batch in enumerate(batches):
            _, said, true = self._step(model, batch, index)
            more, there = true.classes > 0, true.part.numbers > 0
            total += float(published(said, true)) * len(batch)
            errors.append((said.position - true.position)[more])
            right.append(said.classes.argmax(1) == true.classes)
            pairs.append(torch.stack([said.bonds > 0, true.bonds], 2)[there & more[:, None]])
        off, (said_bond, bond) = torch.cat(errors), torch.cat(pairs).unbind(1)
        distance = off.norm(dim=1)
        return {
            "loss": total / sum(len(batch) for batch in batches),
            "error_mean_angstrom": float(distance.mean()),
            **{f"error_{share}_percent_angstrom": _quantile(distance, share / 100) for share in SHARES},
            **{f"error_{axis}_angstrom": float(off[:, k].abs().mean()) for k, axis in enumerate("xyz")},
            "class_accuracy": float(torch.cat(right).float().mean()),
            "bond_recall": float(said_bond[bond].float().mean()),
            "bond_precision": float(bond[said_bond].float().mean()),
            "no_bond_rate": float((~said_bond[~bond]).float().mean()),
        }

    @torch.no_grad()
    def picture(self, model: nn.Module, examples: Examples, path: Path) -> None:
        """Draw four validation scans: the near image and that of the part, the part's atoms, the next, and the said."""
        from matplotlib.figure import Figure

        examples = examples[:4]
        simulated, said, true = self._step(model, examples, 0)
        x, y = (axis.cpu() for axis in _centred(examples))
        figure = Figure(figsize=(7, 3.3 * len(examples)), layout="constrained")
        axes = figure.subplots(len(examples), 2, squeeze=False)
        for i, row in enumerate(axes):
            there = true.part.positions[i][true.part.numbers[i] > 0].cpu()
            following = (
                (int(true.classes[i]), true.position[i], "o", "tab:green"),
                (int(said.classes[i].argmax()), said.position[i], "x", "tab:red"),
            )
            names = [("stop", *ELEMENTS)[index] for index, *_ in following]
            for axis, df in zip(row, (examples.df[i], simulated[i]), strict=True):
                extent = (float(x[i, 0]), float(x[i, -1]), float(y[i, 0]), float(y[i, -1]))
                axis.imshow(df[..., -1].cpu().numpy().T, origin="lower", cmap="gray", extent=extent)
                axis.plot(there[:, 0], there[:, 1], "o", color="tab:blue", markersize=4)
                for _, atom, marker, color in (one for one in following if one[0]):  # stop has no place
                    axis.plot(float(atom[0]), float(atom[1]), marker, color=color, fillstyle="none", markersize=9)
                axis.set(xlim=extent[:2], ylim=extent[2:])
                axis.set_axis_off()
            row[0].set_title(f"scan: next is {names[0]} (circle)", fontsize=8)
            row[1].set_title(f"what is there: said {names[1]} (cross)", fontsize=8)
        figure.savefig(path, dpi=60)

    def metadata(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, str]:
        """Return what the weights file says of itself."""
        config = json.dumps(asdict(cast(Resimulate, model).config))
        return {"method": NAME, "architecture": "resimulate", "version": __version__, "config": config}

    def _step(self, model: nn.Module, examples: Examples, seed: int) -> Step:
        """Return one step of each example, the same each time."""
        apart = taken_apart(examples, self.recipe.ordering, torch.Generator().manual_seed(seed))
        simulated = self._simulated(apart.part, examples)
        said = model(normalised(examples.df), simulated, apart.part, *_centred(examples))
        return Step(simulated, said, apart.next(said.position))

    def _simulated(self, part: Part, examples: Examples) -> Tensor:
        """Return the stacks (B, X, Y, Z) of what is left of the molecules."""
        lowest, options = examples.z[:, -1], self.recipe.simulation
        lowest = lowest.where(lowest.isfinite(), nominal_height(options))
        return simulate(part, *_centred(examples), lowest, options, self.simulator)


def taken_apart(
    examples: Examples, ordering: Literal["random", "y", "z"], generator: torch.Generator | None = None
) -> Apart:
    """Return molecules of examples taken apart: left is any number of their visible atoms.

    Args:
        examples: B of them.
        ordering: the order in which atoms come: from the highest in y or in z, where one may come next, or any, where
            all that are missing may. Were one of these drawn by chance, their mean place would be learnt.
        generator: one of the CPU, whatever the examples' device; None stands for torch's own.
    """
    numbers, (x, y) = examples.numbers, _centred(examples)
    device = numbers.device
    middle = torch.stack([examples.x[:, [0, -1]].mean(1), examples.y[:, [0, -1]].mean(1)], 1)
    positions = torch.cat([examples.positions[..., :2] - middle[:, None], examples.positions[..., 2:]], 2)
    beyond = positions[..., :2].abs() > torch.stack([x[:, -1], y[:, -1]], 1)[:, None]
    elements = (numbers[..., None] == torch.tensor(NUMBERS, device=device)).float()
    visible = (elements.sum(2) > 0) & (positions[..., 2] >= Z_MIN) & ~beyond.any(2)
    chance = torch.rand(numbers.shape, generator=generator).to(device)
    key = {"random": chance, "y": positions[..., 1], "z": positions[..., 2]}[ordering]
    order = key.where(visible, -torch.inf).argsort(1, descending=True)
    count, row = visible.sum(1, keepdim=True), torch.arange(len(numbers), device=device)[:, None]
    kept = (torch.rand(len(numbers), 1, generator=generator).to(device) * (count + 1)).long()
    rank = order.argsort(1)
    missing = (rank >= kept) & (rank < (count if ordering == "random" else count.minimum(kept + 1)))
    order = order[:, : int(kept.max())]
    there = torch.arange(order.shape[1], device=device) < kept
    bonds = orders_of(examples) > 0
    part = Part(
        numbers=numbers.gather(1, order) * there,
        positions=positions[row, order] * there[..., None],
        bonds=bonds[row[..., None], order[:, :, None], order[:, None]] & there[:, :, None] & there[:, None],
    )
    return Apart(part, order, visible, missing, elements, positions, bonds)


def mistaken(part: Part) -> Part:
    """Return molecules as generation leaves them: atoms beside their places, and some of another's element.

    What was learnt from true parts alone would hold until the first error (Ross et al., AISTATS 2011).
    """
    there = part.numbers > 0
    spread = MISPLACED * torch.rand(len(there), 1, 1, device=there.device)
    positions = part.positions + spread * torch.randn_like(part.positions) * there[..., None]
    positions = torch.cat([positions[..., :2], positions[..., 2:].clamp(Z_MIN, 0)], 2)
    others = part.numbers[there]
    drawn = others[torch.randint(max(1, len(others)), (len(others),), device=there.device)]
    misnamed = torch.rand(len(others), device=there.device) < MISNAMED
    numbers = part.numbers.masked_scatter(there, drawn.where(misnamed, others))
    return Part(numbers, positions, part.bonds)


def published(said: Prediction, true: Next) -> Tensor:
    """Return the thesis' loss: d · position² (Å²) + 3 · class + 2 · bonds, d from 1 at the top to 1/2 at `Z_MIN`.

    The position's mean is taken over the examples where an atom comes next, that of the bonds over its pairs.
    """
    more = true.classes > 0
    depth_weight = 1 - true.position[:, 2] / (2 * Z_MIN)
    position = depth_weight * (said.position - true.position).square().sum(1)
    bonds = binary_cross_entropy_with_logits(said.bonds, true.bonds.to(said.bonds.dtype), reduction="none")
    pairs = (true.part.numbers > 0) & more[:, None]
    return _mean(position, more) + CLASS * cross_entropy(said.classes, true.classes) + BONDS * _mean(bonds, pairs)


def astray(attention: Tensor, apart: Apart, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean of −log(a + `LEAST`), where a of the attention (B, X', Y') goes to atoms that may come next.

    Pixels count by `near`.

    Args:
        attention: of the finest scale's pixels.
        apart: molecules.
        x, y: the pixels' places from the window's centre (B, X) and (B, Y), Å.
    """
    found = (attention * near(apart.positions, apart.missing, x, y)).sum((1, 2))
    return -_mean((found + LEAST).log(), apart.missing.any(1))


def _pointed(place: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return attention (B, X', Y') that goes to places (B, 3), Å, in the window."""
    attention = near(place[:, None], torch.ones_like(place[:, :1], dtype=torch.bool), x, y)
    return attention / attention.sum((1, 2), keepdim=True).clamp_min(1e-6)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Return the mean over some values; 0 where there are none."""
    return (values * where).sum() / where.sum().clamp_min(1)


def _quantile(values: Tensor, share: float) -> float:
    return float(values.quantile(share)) if len(values) else float("nan")


def _centred(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return the pixels' places from the window's centre (B, X) and (B, Y), Å."""
    x, y = (axis - axis[:, [0, -1]].mean(1, keepdim=True) for axis in (examples.x, examples.y))
    return x, y
