"""The default network: all atoms of a stack at once, each refined by those around it, and the bonds between them.

After Oinonen et al., "Molecule graph reconstruction from atomic force microscopy images with machine learning", MRS
Bull. 47, 895 (2022), whose network finds positions in a grid and then adds one atom after the other. It reads down as
follows:

- The U-Net of afmid.networks.unet makes features on four scales, and a convolution from the finest an image with a peak
  at each visible atom (afmid.networks.peaks). The peaks are the atoms.
- An atom is the features of all scales at its peak; a pair of atoms up to `REACH` apart is the features halfway between
  them and their lateral distance.
- Rounds of message passing: pairs learn of their atoms, atoms of the pairs that they are in.
- Each atom tells whether it is there, its element, where it really is and how sure that is, and how many of its
  valences go to atoms that are not seen; each pair tells the bond.

Departures from the paper: positions enter as distances alone, so that where in the image a molecule lies matters no
more than the coarsest pixels of the U-Net make it (`parallel.py` lays them by the molecule); all atoms and bonds are
decided together; positions are revised after atoms have seen each other; the image has one peak per atom in place of a
grid with 20 levels, because visible atoms never lie above each other, and the depth is a number of its own; elements
in place of five classes; bonds with their orders.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, pixel_shuffle

from afmid.networks.config import check_sizes, config_from_json
from afmid.networks.unet import SLOPE, UNet, activate, start_from_zero
from afmid_graphgen.graph import ELEMENTS, MOST_MISSING, ORDERS

PIXEL = 0.125  # Å
REACH = 4.0  # Å: lateral distance of atoms that see each other
SCALES = 16  # Gaussians that a distance is told by
SIZE = 0.3  # of the image of peaks, at which the network's output is 1
MOST = 16  # widths, and rounds
SPREAD = (0.1, 0.1, 0.2)  # Å: of x, y and z, where the network's output is 1


@dataclass(frozen=True)
class Config:
    """Sizes of the network.

    Attributes:
        stem, widths, blocks: of the U-Net.
        atom, pair: features of an atom and of a pair.
        rounds: of message passing.
    """

    stem: int = 80
    widths: tuple[int, ...] = (32, 64, 128, 192)
    blocks: int = 1
    atom: int = 128
    pair: int = 64
    rounds: int = 4

    def __post_init__(self) -> None:
        check_sizes("stem, blocks, atom, pair", (self.stem, self.blocks, self.atom, self.pair), 4)
        check_sizes("widths", self.widths, len(self.widths))
        if not (2 <= len(self.widths) <= MOST and self.rounds in range(MOST + 1)):
            told = f"not {len(self.widths)} and {self.rounds}"
            raise ValueError(f"a network has 2 to {MOST} widths and 0 to {MOST} rounds, {told}")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the configuration that a weights file bears; ValueError or TypeError where it is none."""
        return config_from_json(cls, text)


class Pairs(NamedTuple):
    """Pairs of atoms that see each other, E of them, each once.

    Attributes:
        first, second: indices into all atoms of the batch (E,).
        distance: lateral, Å (E,).
    """

    first: Tensor
    second: Tensor
    distance: Tensor


class Answers(NamedTuple):
    """What the network says of M atoms and E pairs of a batch.

    Attributes:
        exists: logits (M,).
        elements: logits (M, 11), in the order of `graph.ELEMENTS`.
        missing: logits of 0 to 4 valences that go to atoms not found (M, 5).
        shift: from the peak to the atom along x and y, and its z below the topmost atom (M, 3), Å.
        log_variance: of those (M, 3), Å².
        bonds: logits of no bond and the orders (E, 5).
    """

    exists: Tensor
    elements: Tensor
    missing: Tensor
    shift: Tensor
    log_variance: Tensor
    bonds: Tensor


class GraphNet(UNet):
    """Find the atoms and bonds of Δf stacks."""

    def __init__(self, config: Config | None = None):
        config = config or Config()
        super().__init__(config.stem, config.widths, config.blocks)
        self.config = config
        self.peaks = nn.Conv2d(config.widths[0], 4, kernel_size=3, padding=1)
        self.atom = nn.Linear(sum(config.widths), config.atom)
        self.pair = nn.Linear(sum(config.widths[:2]) + SCALES, config.pair)
        self.rounds = nn.ModuleList(Round(config.atom, config.pair) for _ in range(config.rounds))
        self.counts = (1, len(ELEMENTS), MOST_MISSING + 1, 3, 3)
        self.of_atom = head(config.atom, sum(self.counts))
        self.of_pair = head(config.pair, len(ORDERS))
        start_from_zero(self.peaks)
        self.spread: Tensor
        self.register_buffer("spread", torch.tensor(SPREAD), persistent=False)

    def image(self, features: list[Tensor]) -> Tensor:
        """Return the image of peaks (B, X, Y) from `features`."""
        return SIZE * pixel_shuffle(self.peaks(activate(features[0])), 2)[:, 0].float()

    def answer(self, features: list[Tensor], places: Tensor, batch: Tensor, pairs: Pairs) -> Answers:
        """Say what atoms and pairs are.

        Args:
            features: of the U-Net.
            places: of M atoms in pixels (M, 2), from the first pixel's centre.
            batch: which stack each is in (M,), ascending.
            pairs: of atoms of one stack.
        """
        return self.said(*self.met(features, places, batch, pairs))

    def met(self, features: list[Tensor], places: Tensor, batch: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return features of atoms (M, atom) and of pairs (E, pair) that have learnt of each other; as in `answer`."""
        h = self.atom(sampled(features, places, batch))
        halfway = (places[pairs.first] + places[pairs.second]) / 2
        there = sampled(features[:2], halfway, batch[pairs.first])
        e = self.pair(torch.cat([there, _told(pairs.distance)], 1))
        for layer in self.rounds:
            h, e = layer(h, e, pairs)
        return h, e

    def said(self, h: Tensor, e: Tensor) -> Answers:
        """Return what atoms with features (M, atom) and pairs with features (E, pair) are."""
        exists, elements, missing, shift, log_variance = self.of_atom(h).float().split(self.counts, 1)
        return Answers(
            exists[:, 0], elements, missing, shift * self.spread,
            log_variance.clamp(-6, 6) + 2 * self.spread.log(), self.of_pair(e).float(),
        )  # fmt: skip


class Round(nn.Module):
    """One round of message passing; at first it changes nothing."""

    def __init__(self, atom: int, pair: int):
        super().__init__()
        self.to_pair = head(2 * atom + pair, pair, hidden=pair)
        self.message = head(atom + pair, atom, hidden=atom)
        self.to_atom = head(2 * atom, atom, hidden=atom)
        for last in (self.to_pair[-1], self.to_atom[-1]):
            start_from_zero(last)

    def forward(self, h: Tensor, e: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return new features of atoms (M, atom) and pairs (E, pair)."""
        first, second = h[pairs.first], h[pairs.second]
        e = e + self.to_pair(torch.cat([first + second, (first - second).abs(), e], 1))
        weight = _envelope(pairs.distance)[:, None]
        heard = h.new_zeros(h.shape, dtype=torch.float32)
        heard = heard.index_add(0, pairs.first, weight * self.message(torch.cat([second, e], 1)).float())
        heard = heard.index_add(0, pairs.second, weight * self.message(torch.cat([first, e], 1)).float())
        return h + self.to_atom(torch.cat([h, heard], 1)), e


def pairs_of(places: Tensor, batch: Tensor, pixel: float = PIXEL) -> Pairs:
    """Return the pairs within `REACH` of atoms of one stack; they are at places (M, 2), in pixels, of stacks (M,)."""
    apart = pixel * torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    near = (batch[:, None] == batch) & (apart < REACH)
    first, second = near.triu(1).nonzero(as_tuple=True)
    return Pairs(first, second, apart[first, second])


def sampled(features: list[Tensor], places: Tensor, batch: Tensor) -> Tensor:
    """Return features (M, C) of all scales at places (M, 2) of stacks (M,), linear between pixels."""
    size = places.new_tensor(features[0].shape[2:]) * 2
    grid = ((2 * places + 1) / size - 1).flip(1)  # grid_sample names the last axis first
    filled, row = by_stack(grid, batch, len(features[0]))
    filled = filled[:, :, None]
    columns = [grid_sample(h.float(), filled, padding_mode="border", align_corners=False)[..., 0] for h in features]
    return activate(torch.cat([h.mT[batch, row] for h in columns], 1))


def by_stack(values: Tensor, batch: Tensor, stacks: int) -> tuple[Tensor, Tensor]:
    """Return values (M, D) of atoms as rows of their stacks (B, N, D), filled up with zeros, and which row each is."""
    count = torch.bincount(batch, minlength=stacks)
    row = torch.arange(len(batch), device=batch.device) - (count.cumsum(0) - count)[batch]
    filled = values.new_zeros(stacks, max(1, int(count.max())), values.shape[1])
    filled[batch, row] = values
    return filled, row


def _told(distance: Tensor) -> Tensor:
    """Return distances (E,), Å, as Gaussians (E, 16)."""
    centres = torch.linspace(0.5, REACH, SCALES, device=distance.device)
    return torch.exp(-((distance[:, None] - centres) * (SCALES / REACH)).square())


def _envelope(distance: Tensor) -> Tensor:
    """Return what a pair counts for, falling smoothly to 0 at `REACH`."""
    return (1 + torch.cos(distance * (torch.pi / REACH))) / 2


def head(inputs: int, outputs: int, hidden: int | None = None) -> nn.Sequential:
    """Return two layers behind a normalisation."""
    hidden = hidden or inputs
    return nn.Sequential(
        nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, outputs)
    )
