"""How the predictor learns: groups of atoms that grow one by one.

Of each molecule ten atoms are taken, those nearest to one of them, in random order. The first is set apart, since alone
its spectrum depends on nothing. Then each comes in turn, and the spectra of all that are there are predicted. What they
were before is the truth for some of the molecules, with an error, and what was predicted for the others (teacher
forcing, whose share falls from 0.9 to 0.5 in the course of training).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from afmid.data.examples import Examples
from afmid_graphgen.graph import CLASS_BY_NUMBER
from afmid_soap import NAME, __version__
from afmid_soap.options import SoapRecipe
from afmid_soap.predictor import SCALE, Config, Predictor

ATOMS = 10  # of a molecule
FORCED = (0.9, 0.5)  # share of molecules that are told the truth, in the first step and in the last
ERROR = 0.02  # relative standard deviation of what is told as the truth


class Grown(NamedTuple):
    """What is predicted after each atom that comes, the first apart.

    Attributes:
        predicted, true: spectra of all atoms that are there (B, n, pairs, entries), for n = 2, 3, …
        counts: which of them are of atoms that are there, and of classes that are (B, n, pairs).
    """

    predicted: list[Tensor]
    true: list[Tensor]
    counts: list[Tensor]

    def errors(self) -> list[tuple[Tensor, int]]:
        """Return for each n the sum of the squared errors, and how many entries it is of."""
        parts = zip(self.predicted, self.true, self.counts, strict=True)
        return [((p - t).square()[c].sum(), int(c.sum()) * t.shape[3]) for p, t, c in parts]

    def error(self) -> Tensor:
        """Return the mean squared error, each n that there is counted alike; 0 where there is none."""
        errors = self.errors()
        of_each = [total / max(count, 1) for total, count in errors]
        return torch.stack(of_each).sum() / max(sum(count > 0 for _, count in errors), 1)


class PredictorTask:
    """The predictor and its loss."""

    def __init__(self, recipe: SoapRecipe, device: str):
        torch.manual_seed(recipe.seed)
        self.steps = recipe.steps
        config = Config(classes=recipe.classes, n_max=recipe.n_max, l_max=recipe.l_max, split=recipe.split)
        self.model: nn.Module = Predictor(config).to(device)

    def maps(self, examples: Examples) -> Tensor:
        """Return no images, (B, 0, X, Y): the predictor looks at none."""
        return examples.df.new_empty(len(examples), 0, *examples.df.shape[1:3])

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Return the mean squared error in units of `SCALE`."""
        network = cast(Predictor, model)
        done = min(1.0, int(network.batches) / self.steps)
        network.batches += 1
        forced = FORCED[0] + done * (FORCED[1] - FORCED[0])
        return grown(network, *drawn(examples, network.config.classes), forced).error() / SCALE**2

    @torch.no_grad()
    def validate(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, float]:
        """Return the figures of `predicted`."""
        figures = predicted(cast(Predictor, model), batches)
        return {"loss": figures["mse"], **figures}

    @torch.no_grad()
    def picture(self, model: nn.Module, examples: Examples, path: Path) -> None:
        """Draw what is said over what is true, an axis for each degree."""
        from matplotlib.figure import Figure

        network = cast(Predictor, model)
        generator = torch.Generator().manual_seed(0)
        told = grown(network, *drawn(examples, network.config.classes, generator))
        degrees = network.config.l_max + 1
        figure = Figure(figsize=(3 * degrees, 3.2), layout="constrained")
        for degree, axes in enumerate(figure.subplots(1, degrees, squeeze=False)[0]):
            columns = (
                torch.cat([step[count] for step, count in zip(part, told.counts, strict=True)])
                for part in (told.true, told.predicted)
            )
            true, said = (column.chunk(degrees, 1)[degree].flatten().cpu() for column in columns)
            axes.plot(true, said, ",")
            axes.axline((0, 0), slope=1, linewidth=0.5, color="gray")
            axes.set(title=f"l = {degree}", xlabel="true", ylabel="said" if not degree else "")
        figure.savefig(path, dpi=80)

    def metadata(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, str]:
        """Return what the weights file says of itself."""
        config = json.dumps(asdict(cast(Predictor, model).config))
        return {"method": NAME, "architecture": "predictor", "version": __version__, "config": config}


@torch.no_grad()
def predicted(network: Predictor, batches: Sequence[Examples]) -> dict[str, float]:
    """Return the mean squared errors of spectra, in the descriptor's own units.

    Keys: "mse", from what was predicted before, never the truth; "mse_with_first", where the first atom counts as one
    more step without an error; "mse_one_step", from the truth before; "mean_square" of the true entries.
    """
    generator = torch.Generator().manual_seed(0)
    rows = []
    for examples in batches:
        atoms = drawn(examples, network.config.classes, generator)
        free, forced = (grown(network, *atoms, share) for share in (0.0, 1.0))
        size = free._replace(predicted=[torch.zeros_like(true) for true in free.true]).error()
        rows.append(len(examples) * torch.stack([free.error(), forced.error(), size]))
    free_error, one_step, size = (torch.stack(rows).sum(0) / sum(map(len, batches))).tolist()
    with_first = free_error * (ATOMS - 1) / ATOMS
    return {"mse": free_error, "mse_with_first": with_first, "mse_one_step": one_step, "mean_square": size}


def drawn(examples: Examples, classes: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Return places (B, 10, 3), Å, and one-hot classes (B, 10, classes) of ten atoms of each example.

    Smaller molecules are filled up with atoms of no class; elements of other classes are none.
    """
    device, count = examples.positions.device, examples.numbers.shape[1]
    kind = torch.tensor(CLASS_BY_NUMBER, device=device)[examples.numbers]
    there = examples.atoms & (kind >= 0) & (kind < classes)
    middle = torch.rand(there.shape, generator=generator).to(device).masked_fill(~there, -1).argmax(1)
    away = (examples.positions - examples.positions[torch.arange(len(middle)), middle][:, None]).square().sum(2)
    nearest = away.masked_fill(~there, torch.inf).argsort(1)[:, :ATOMS]
    mixed = torch.rand(nearest.shape, generator=generator).to(device)
    mixed = mixed.masked_fill(~there.gather(1, nearest), 2).argsort(1)  # those that are there come first
    order = nearest.gather(1, mixed)
    positions = examples.positions.gather(1, order[..., None].expand(-1, -1, 3))
    shares = one_hot(kind.gather(1, order).clamp(0, classes - 1), classes) * there.gather(1, order)[..., None]
    more = ATOMS - min(count, ATOMS)
    return pad(positions, (0, 0, 0, more)), pad(shares.to(positions.dtype), (0, 0, 0, more))


def grown(network: Predictor, positions: Tensor, classes: Tensor, forced: float = 0.0) -> Grown:
    """Return what is predicted of groups of atoms (B, N, 3) of one-hot classes (B, N, classes) while they grow.

    `forced` is the share that is told the truth before each atom that comes, with an error unless all are told it.
    """
    told = Grown([], [], [])
    known = network.soap(positions[:, :1], classes[:, :1], positions[:, :1])
    first, second = torch.triu_indices(classes.shape[2], classes.shape[2], device=classes.device)
    for n in range(2, classes.shape[1] + 1):
        places, shares = positions[:, :n], classes[:, :n]
        last = torch.full((len(places),), n - 1, device=places.device)
        said = network(places, shares, pad(known, (0, 0, 0, 0, 0, 1)), last)
        true = network.soap(places, shares, places)
        present = shares.amax(1)
        counts = (present[:, first] * present[:, second] > 0)[:, None] & (shares.sum(2) > 0)[..., None]
        arrived = shares[:, -1:].sum(2, keepdim=True) > 0  # of molecules that are too small nothing more counts
        for part, value in zip(told, (said, true, counts & arrived), strict=True):
            part.append(value)
        noisy = true * (1 + ERROR * torch.randn_like(true)) if forced < 1 else true
        truth = torch.rand(len(places), 1, 1, 1, device=places.device) < forced
        known = torch.where(truth, noisy, said.detach())
    return told


def one_step_error(network: Predictor, positions: Tensor, classes: Tensor) -> Tensor:
    """Return the mean squared error, in units of `SCALE`, of spectra predicted before the last atom of each came."""
    true = network.soap(positions, classes, positions)
    squared = (network.one_step(positions, classes) - true).square().mean((2, 3))
    there = classes.sum(2) > 0
    return (squared * there).sum() / there.sum().clamp(min=1) / SCALE**2
