"""The published pipeline: a grid of atom positions from the images, then a graph grown atom by atom.

Oinonen et al., "Molecule graph reconstruction from atomic force microscopy images with machine learning", MRS Bulletin
47, 895–905 (2022); the messages are those of Gilmer et al. (arXiv:1704.01212), the gated graph vector that of Li et al.
(arXiv:1511.05493), the gated skips those of Oktay et al., "Attention U-Net" (arXiv:1804.03999). `PositionGrid` is a 3D
U-Net that pools only laterally and ends with twice the heights; `GraphBuilder` says which class of atom is at a given
place and which of the atoms before it are bonded to it, from the graph so far and from the images.

At the published sizes these are 599,334 parameters; the paper has 625,082. What its text leaves open, and departures:

- The graph builder looks at the features of the grid's encoder, which both parts train.
- Depths are ours: two 3 × 3 × 3 convolutions per stage on the way down and one on the way up, LeakyReLU 0.1, mean
  pooling. Skips are added, not joined, and their gates work at the coarser size, so that little is done at full size.
- The attention over z is a softmax over the ten heights for each of the 20 levels. It depends on the whole image's
  deepest features, not on the pixel: what differs from scan to scan is the tip's height. It starts as linear
  interpolation does and acts before the last convolution.
- Σ_q softmax(q)·conv_q(x) is computed as one convolution with the kernel Σ_q softmax(q)·kernel_q, which is the same; a
  bias would be lost in the softmax over the pixels. The features deepest down are convolved before they are upsampled.
- The bond head's 128 inputs are the image's; it is told the new atom's class, in training the true one.
- Several atoms may be asked for per scan, which costs little more than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, fold, interpolate, one_hot, pad

from afmid.data.augment import normalised
from afmid.networks.config import check_sizes, config_from_json
from afmid.networks.stack import padded
from afmid.networks.unet import HEIGHTS, SLOPE, activate
from afmid_graphgen.graph import CLASS_OF, CLASSES, MOST_MISSING, Array, Graph
from afmid_graphgen.grid import LEVELS, peaks

STRIDE = 8  # X and Y must be multiples of this
ROUNDS = 3  # of messages before the class is said, and again before the bonds are
ORDERINGS = ("random", "y", "z")
NODE, MESSAGE, QUERY, GRAPH, HEAD = 20, 64, 64, 128, 32  # features of an atom, and hidden or final widths
ATTRACTED = 4.0  # logits per squared height by which a level of the grid starts to prefer the heights next to it

# How common the elements are within their class, and the orders among all bonds, hydrogen's included: counted in 12,000
# molecules of the training split of afmid's molecule list; in the order of graph.ELEMENTS and of graph.ORDERS.
ELEMENT_SHARES = np.array([1.0, 0.994, 0.973, 0.773, 0.399, 0.006, 0.027, 0.227, 0.276, 0.182, 0.143])
ORDER_SHARES = np.array([0.548, 0.412, 0.036, 0.004])


@dataclass(frozen=True)
class Config:
    """What the pipeline is built for.

    Attributes:
        channels: of the U-Net's stages, from full size down.
        ordering: how atoms follow each other while the graph grows: at random, or from the highest in y or in z.
        sigma: width of the grid's Gaussians, Å.
    """

    channels: tuple[int, int, int, int] = (4, 8, 16, 32)
    ordering: Literal["random", "y", "z"] = "random"
    sigma: float = 0.25

    def __post_init__(self) -> None:
        check_sizes("channels", self.channels, 4)
        if self.ordering not in ORDERINGS:
            raise ValueError(f"ordering: one of {', '.join(ORDERINGS)}, not {self.ordering!r:.60}")
        if not (isinstance(self.sigma, int | float) and 0.05 <= self.sigma <= 1):
            raise ValueError(f"sigma: 0.05 to 1 Å, not {self.sigma!r:.60}")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the configuration that a weights file bears; ValueError or TypeError where it is none."""
        return config_from_json(cls, text)


@dataclass(frozen=True, eq=False)
class Partial:
    """Q graphs of up to N atoms that grow, K of each of B scans, those of a scan next to each other.

    Attributes:
        classes: of the atoms, indices into graph.CLASSES, int64 (Q, N).
        positions: (Q, N, 3), Å, from the centre of the window's first pixel; z from the topmost atom.
        there: where there is an atom, bool (Q, N).
        bonds: pairs of atoms, each once, int64 (M, 2); atom n of graph q is q N + n.
    """

    classes: Tensor
    positions: Tensor
    there: Tensor
    bonds: Tensor


class Said(NamedTuple):
    """What is said of the next atom.

    Attributes:
        logits: of its classes (Q, 5).
        image: what the images show of it (Q, 128).
        nodes: features of the atoms before it (Q, N, 20).
    """

    logits: Tensor
    image: Tensor
    nodes: Tensor


class Paper(nn.Module):
    """Find atoms in a Δf stack, and say one by one what they are and how they are bonded."""

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config or Config()
        self.grid = PositionGrid(self.config.channels)
        self.graph = GraphBuilder(self.config.channels)

    def forward(self, df: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the position grid (B, X, Y, 20), Å⁻³, and the views of the images that `graph` takes.

        `df` is (B, X, Y, 10) of zero mean and unit variance per image, from far to near, X and Y multiples of 8.
        """
        grid, scales = self.grid(df)
        return grid, self.graph.views(scales)


# The position grid. Features are (B, Z, C, X, Y): heights and channels of neighbouring heights lie next to each other.


class PositionGrid(nn.Module):
    """Map a Δf stack to the grid of `afmid_graphgen.grid`."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.encoder = nn.ModuleList(Stage(i, o) for i, o in zip([1, *channels], channels, strict=False))
        self.decoder = nn.ModuleList(Up(channels[i + 1], channels[i]) for i in (2, 1, 0))
        self.levels = Levels(channels[-1])
        self.last = Conv(channels[0], channels[0])
        self.head = Pointwise(channels[0], 1)

    def forward(self, df: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the grid (B, X, Y, 20), and the encoder's features, from full size to an eighth."""
        h = df.permute(0, 3, 1, 2).unsqueeze(2)
        scales: list[Tensor] = []
        for stage in self.encoder:
            h = stage(_pooled(scales[-1]) if scales else h)
            scales.append(h)
        for up, skip in zip(self.decoder, scales[-2::-1], strict=True):
            h = up(h, skip)
        h = self.head(activate(self.last(self.levels(h, scales[-1]))))  # (B, 20, 1, X, Y)
        return h.squeeze(2).permute(0, 2, 3, 1), scales


class Stage(nn.Sequential):
    """Two convolutions."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(Conv(inputs, outputs), nn.LeakyReLU(SLOPE), Conv(outputs, outputs), nn.LeakyReLU(SLOPE))


class Up(nn.Module):
    """Upsample by two and add the gated skip."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.fewer = Pointwise(inputs, outputs)
        self.below = Pointwise(inputs, outputs)
        self.skip = Pointwise(outputs, outputs)
        self.gate = Pointwise(outputs, 1)
        self.conv = Conv(outputs, outputs)

    def forward(self, h: Tensor, skip: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(activate(self.skip(_pooled(skip)) + self.below(h))))
        return activate(self.conv(_upsampled(self.fewer(h), 2) + _upsampled(gate, 2) * skip))


class Levels(nn.Module):
    """From ten heights to the levels of the grid by attention: (B, 20, C, X, Y) from (B, 10, C, X, Y)."""

    def __init__(self, deepest: int):
        super().__init__()
        place = torch.linspace(0, HEIGHTS - 1, len(LEVELS))[:, None]  # of the levels among the heights
        self.logits = nn.Parameter(-ATTRACTED * (place - torch.arange(HEIGHTS)).square())
        self.seen = nn.Linear(deepest, len(LEVELS))

    def forward(self, h: Tensor, deepest: Tensor) -> Tensor:
        logits: Tensor = self.logits + self.seen(deepest.mean((3, 4))).transpose(1, 2)  # (B, 20, 10)
        return (logits.softmax(2) @ h.flatten(2)).view(len(h), -1, *h.shape[2:])


class Conv(nn.Module):
    """A 3 × 3 × 3 convolution, computed for two heights at once as a 2D one over the four that they take in.

    On a CPU this takes two thirds of the time of a 3D convolution of few channels. The number of heights must be even.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel_size=3)  # along z, x, y
        nn.init.kaiming_normal_(self.conv.weight, a=SLOPE)
        shifts = torch.stack([torch.eye(2, 4).roll(k, 1) for k in range(3)])  # [k, z, v]: height v is z's neighbour k
        self.register_buffer("shifts", shifts, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        kernel, bias = self.conv.get_parameter("weight"), self.conv.get_parameter("bias")
        weight = torch.einsum("oikxy,kzv->zovixy", kernel, self.get_buffer("shifts")).flatten(2, 3).flatten(0, 1)
        padded = pad(h, (0, 0, 0, 0, 0, 0, 1, 1))
        fours = torch.stack([padded[:, z : z + 4] for z in range(0, h.shape[1], 2)], 1)  # (B, Z/2, 4, C, X, Y)
        pairs = conv2d(fours.flatten(2, 3).flatten(0, 1), weight, bias.repeat(2), padding=1)
        return pairs.view(*h.shape[:2], -1, *h.shape[3:])


class Pointwise(nn.Module):
    """A 1 × 1 × 1 convolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(self, h: Tensor) -> Tensor:
        mixed: Tensor = self.conv(h.flatten(0, 1)).unflatten(0, h.shape[:2])
        return mixed


def _pooled(h: Tensor) -> Tensor:
    flat = avg_pool2d(h.flatten(1, 2), 2)
    return flat.view(*h.shape[:3], *flat.shape[2:])


def _upsampled(h: Tensor, factor: int) -> Tensor:
    flat = interpolate(h.flatten(1, 2), scale_factor=factor, mode="bilinear", align_corners=False)
    return flat.view(*h.shape[:3], *flat.shape[2:])


# The graph


class Gaze(nn.Module):
    """Look at the images on four scales where the next atom is: (Q, 128)."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        *_, deepest = channels
        folded = [HEIGHTS * c for c in channels]
        self.deepest = nn.ModuleList(Conv(deepest, c) for c in channels)
        self.maps = nn.ModuleList(nn.Conv2d(c, QUERY, kernel_size=3, bias=False) for c in folded)
        self.image = nn.Linear(sum(folded), GRAPH)
        self.query = mlp(GRAPH + 3, QUERY, QUERY)

    def views(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Return what is looked at on each scale, (B, Z C, X, Y), from the features of the encoder."""
        deepest = scales[-1]
        factors = [h.shape[3] // deepest.shape[3] for h in scales]
        added = (_upsampled(conv(deepest), f) for conv, f in zip(self.deepest, factors, strict=True))
        return [(h + torch.relu(more)).flatten(1, 2) for h, more in zip(scales, added, strict=True)]

    def look(self, views: Sequence[Tensor], graph: Tensor, query: Tensor) -> Tensor:
        """Return what views show (Q, 128), looked at as graphs (Q, 128) and the next atom's place (Q, 3) have it."""
        weights = self.query(torch.cat([graph, query], 1)).softmax(1)
        looks = [self._look(view, maps, weights) for view, maps in zip(views, self.maps, strict=True)]
        image: Tensor = self.image(torch.cat(looks, 1))
        return image

    def _look(self, view: Tensor, maps: nn.Module, weights: Tensor) -> Tensor:
        """Return the features of a view (B, F, X, Y) where each of Q weightings (Q, 64) of the maps looks, (Q, F)."""
        flat, size = view.flatten(2), view.shape[2:]
        kernels = weights @ maps.get_parameter("weight").flatten(1)
        kernels = kernels.view(len(view), -1, flat.shape[1], 9).transpose(2, 3)  # (B, K, 9, F)
        taps = kernels.flatten(1, 2) @ flat  # (B, K 9, X Y); their shifted sum is the convolution
        attention = fold(taps.view(len(weights), 9, -1), size, kernel_size=3, padding=1).flatten(1).softmax(1)
        return (attention.view(len(view), -1, attention.shape[1]) @ flat.transpose(1, 2)).flatten(0, 1)


class GraphBuilder(Gaze):
    """Say the class of the next atom, then its bonds to those before it."""

    def __init__(self, channels: Sequence[int]):
        super().__init__(channels)
        self.node = nn.Linear(3 + len(CLASSES), NODE)
        self.messages, self.more_messages = Messages(), Messages()
        self.gate, self.value = (mlp(NODE, HEAD, GRAPH) for _ in range(2))
        self.class_head = mlp(2 * GRAPH, HEAD, len(CLASSES))
        self.bond_head = mlp(2 * NODE + GRAPH, HEAD, 1)

    def forward(self, views: Sequence[Tensor], partial: Partial, query: Tensor) -> Said:
        """Return what is said of the next atom of each partial graph at `query`, (Q, 3), in the graphs' frame."""
        nodes = self.messages(self.node(described(partial.positions, partial.classes)), partial.bonds)
        gated = torch.sigmoid(self.gate(nodes)) * self.value(nodes)
        graph = (gated * partial.there[..., None]).sum(1)  # (Q, 128)
        image = self.look(views, graph, query)
        return Said(self.class_head(torch.cat([graph, image], 1)), image, nodes)

    def bonds(self, said: Said, partial: Partial, query: Tensor, classes: Tensor) -> Tensor:
        """Return logits (Q, N) of the bonds between an atom of `classes` (Q,) at `query` and the atoms before it."""
        nodes = self.more_messages(said.nodes, partial.bonds)
        new = torch.cat([self.node(described(query, classes)), said.image], 1)[:, None].expand(-1, nodes.shape[1], -1)
        logits: Tensor = self.bond_head(torch.cat([nodes, new], 2))
        return logits.squeeze(2)


class Messages(nn.Module):
    """Atoms (Q, N, 20) that hear from those they are bonded to, both ways, several times."""

    def __init__(self, rounds: int = ROUNDS) -> None:
        super().__init__()
        self.rounds = rounds
        self.message = mlp(2 * NODE, MESSAGE, MESSAGE, NODE)
        self.update = nn.GRUCell(NODE, NODE)

    def forward(self, nodes: Tensor, bonds: Tensor) -> Tensor:
        h = nodes.flatten(0, 1)
        to, come_from = torch.cat([bonds, bonds.flip(1)]).T
        for _ in range(self.rounds):
            messages = self.message(torch.cat([h[to], h[come_from]], 1))
            h = self.update(messages.new_zeros(h.shape).index_add(0, to, messages), h)
        return h.view_as(nodes)


def mlp(*widths: int) -> nn.Sequential:
    """Return linear layers of these widths with LeakyReLU between."""
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers[:-1])


def described(positions: Tensor, classes: Tensor) -> Tensor:
    """Return positions (…, 3) with classes (…) as an atom's first features (…, 8)."""
    return torch.cat([positions, one_hot(classes, len(CLASSES)).to(positions.dtype)], -1)


# From a scan to a graph


@torch.no_grad()
def generate(model: Paper, df: Tensor, x: Array, y: Array) -> Graph:
    """Return the graph under one scan: the peaks of the grid, taken in one by one as in training.

    The class and the bonds that are said of an atom are what the next ones are told. Where the model was trained on
    atoms in random order, they come from the highest down. Probabilities of classes are spread over their elements, and
    those of bonds over the orders, as these are common; of missing neighbours nothing is known.

    Args:
        df: (1, X, Y, 10), Hz or normalised.
        x, y: pixels (X,) and (Y,), Å, evenly spaced.
    """
    grid, views = model(normalised(padded(df, STRIDE)))
    found = peaks(grid[0].cpu().numpy(), x, y, model.config.sigma)
    edge = np.array([axis[-1] + (axis[1] - axis[0]) / 2 for axis in (x, y)])
    inside = np.flatnonzero((found.positions[:, :2] <= edge).all(1))  # and not in the padding
    order = inside[np.argsort(-found.positions[inside, 1 if model.config.ordering == "y" else 2])]
    positions, count = found.positions[order], len(order)
    positions[:, 2] -= positions[:, 2].max(initial=0.0)  # the grid begins above the topmost atom
    places = torch.as_tensor(positions - [x[0], y[0], 0]).to(df)[None]  # (1, N, 3)
    classes, told = torch.zeros(1, count, dtype=torch.int64, device=df.device), df.new_zeros(count, len(CLASSES))
    bonded, pairs = df.new_zeros(count, count), torch.zeros(0, 2, dtype=torch.int64, device=df.device)
    for n in range(count):
        partial = Partial(classes[:, :n], places[:, :n], torch.ones_like(classes[:, :n], dtype=torch.bool), pairs)
        said = model.graph(views, partial, places[:, n])
        told[n] = said.logits[0].softmax(0)
        classes[:, n] = said.logits.argmax(1)
        bonded[n, :n] = bonded[:n, n] = model.graph.bonds(said, partial, places[:, n], classes[:, n])[0].sigmoid()
        before = (bonded[n, :n] > 0.5).nonzero()
        pairs = torch.cat([pairs, torch.cat([before, torch.full_like(before, n)], 1)])
    elements = told.cpu().double().numpy()[:, CLASS_OF] * ELEMENT_SHARES
    return spread_graph(positions, found.quality[order], elements, bonded.cpu().double().numpy())


def spread_graph(positions: Array, exists: Array, elements: Array, bonded: Array) -> Graph:
    """Return the graph of atoms of which a network says whether two are bonded (N, N), and no more.

    Orders are as likely as they are common, all numbers of missing neighbours alike. `elements` (N, 11) need not add up
    to 1; the rest is as in Graph.
    """
    bond = bonded[..., None]
    return Graph(
        positions=positions,
        exists=exists,
        elements=elements / elements.sum(1, keepdims=True),
        bonds=np.concatenate([1 - bond, bond * ORDER_SHARES], 2),
        missing=np.full((len(positions), MOST_MISSING + 1), 1 / (MOST_MISSING + 1)),
    )
