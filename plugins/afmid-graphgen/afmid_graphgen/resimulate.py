"""The forerunner: at every step the molecule so far is simulated again, and two stacks tell which atom comes next.

After the doctoral thesis that preceded Oinonen et al., MRS Bull. 47, 895 (2022). It reads down as follows:

- Two encoders, one for the scan and one for the stack simulated from the molecule so far: four 3D convolutions (4, 8,
  16, 32 channels), each with max pooling by 2 × 2 × 2, and after each a 2D convolution (32, 48, 64, 96 channels) over
  the heights that are left, folded into channels.
- Message passing over the molecule so far makes features of its atoms and a vector (afmid_graphgen.paper).
- The vector asks both encoders where to look, and from each follows a sum over the pixels, weighted by attention.
- From the three vectors follow the next atom's class, of stop and eleven elements, its position, and its bonds.

These are 765,596 parameters; the thesis states 750,335 and leaves the wiring open. Departures, and what is ours:

- Eleven elements in place of hydrogen and heavier.
- The heights are halved upwards, 10, 5, 3, 2, 1: all four poolings are by 2 × 2 × 2, and the nearest image counts.
- The encoders begin alike, and what is looked at is their difference, since an atom is missing where the stacks differ.
- All scales of both look at one place: their logits are added. To these comes a polynomial in the pixel's place, which
  the vector chooses, and a dislike of places where an atom is already. Of the attention only what lies around its
  highest pixel counts, and its mean place is where the next atom is, but for a correction.
- The attention is taught where atoms are missing. Of these the network may add whichever it likes: the one that is
  nearest to what it says is what it learns, unless an order is asked for.
- The deepest features are convolved before they are upsampled, which is cheaper; and the sum over the queries is taken
  of the weights of the last convolution, which is the same.
- The bond head is told where each atom lies from the predicted position, and how far.
- In training the network also answers about places near missing atoms that it is pointed to, which costs little; and
  atoms that are there lie a little off, some with another's element, as generation leaves them.
- Partial molecules are simulated under the nominal tip and without charges, since MMFF94's need the whole molecule; in
  generation, where a scan's height is not known, from the nominal height over a topmost atom of carbon.

Known weaknesses: the features of atoms that are there, and the polynomial, depend on where in the window they lie, so
that what was learnt in one place holds less in another; an atom right below another cannot be found; atoms that were
placed are never revised; each step costs a simulation.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d, interpolate, max_pool3d, pad, relu

from afmid.data.augment import normalised
from afmid.molecule import Molecules
from afmid.networks.config import check_sizes, config_from_json
from afmid.networks.unet import HEIGHTS
from afmid.offers import Simulator
from afmid.simulate.scan_simulation import SimulationOptions, closest_height
from afmid_graphgen.graph import ELEMENTS, NUMBERS, Array, Graph
from afmid_graphgen.paper import GRAPH, HEAD, NODE, QUERY, Messages, mlp, spread_graph

Z_MIN = -0.7  # Å from the topmost atom: deeper ones are not visible
UNIT = 4.0  # Å: in which positions enter and leave the network
PLACE = 64  # hidden width of the position's head
ATOM = 0.3  # Å: width of an atom that is looked at
TAKEN = 8.0  # logits by which a place where an atom is already attracts less
NOMINAL = SimulationOptions()


@dataclass(frozen=True)
class Config:
    """Sizes of the network.

    Attributes:
        encoder: channels of the 3D convolutions.
        pixels: channels of the 2D convolutions.
    """

    encoder: tuple[int, int, int, int] = (4, 8, 16, 32)
    pixels: tuple[int, int, int, int] = (32, 48, 64, 96)

    def __post_init__(self) -> None:
        check_sizes("encoder", self.encoder, 4)
        check_sizes("pixels", self.pixels, 4)

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Return the configuration that a weights file bears; ValueError or TypeError where it is none."""
        return config_from_json(cls, text)


@dataclass(frozen=True, eq=False)
class Part:
    """B molecules so far, N atoms in the largest; what fills up the smaller ones comes last.

    Attributes:
        numbers: atomic numbers, int64 (B, N), 0 where there is no atom.
        positions: (B, N, 3), Å, from the window's centre; z is 0 at the topmost atom of the whole molecule.
        bonds: which atoms have a bond, bool (B, N, N), symmetric.
    """

    numbers: Tensor
    positions: Tensor
    bonds: Tensor


class Prediction(NamedTuple):
    """What comes next.

    Attributes:
        classes: logits (B, 12): stop, then the elements `graph.ELEMENTS`.
        position: of the next atom (B, 3), Å, as in Part.
        bonds: logits of its bonds to the atoms that are there (B, N).
    """

    classes: Tensor
    position: Tensor
    bonds: Tensor


class Known(NamedTuple):
    """What is known before the next atom is looked for.

    Attributes:
        molecule: so far, N atoms of the largest.
        nodes: features of its atoms (B, N, NODE).
        graph: their gated sum (B, GRAPH).
        scan, simulated: features of the stacks (B, C, X', Y'), from the finest scale to the coarsest.
    """

    molecule: Part
    nodes: Tensor
    graph: Tensor
    scan: list[Tensor]
    simulated: list[Tensor]


class Resimulate(nn.Module):
    """Map a scan, the simulated stack of the molecule so far, and that molecule to its next atom."""

    numbers: Tensor

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config or Config()
        self.register_buffer("numbers", torch.tensor(NUMBERS), persistent=False)
        self.reference = Encoder(self.config)
        self.simulated = Encoder(self.config)
        self.simulated.load_state_dict(self.reference.state_dict())
        self.node = nn.Linear(3 + len(ELEMENTS), NODE)
        self.messages = Messages()
        self.gate, self.value = (mlp(NODE, HEAD, GRAPH) for _ in range(2))
        self.query = mlp(GRAPH, QUERY, QUERY)
        self.region = mlp(GRAPH, PLACE, 4)
        self.classes = mlp(3 * GRAPH, HEAD, 1 + len(ELEMENTS))
        self.position = mlp(3 * GRAPH, PLACE, PLACE, 3)
        self.bond = mlp(NODE + 4 + 3 * GRAPH, HEAD, 1)

    def forward(self, df: Tensor, simulated: Tensor, molecule: Part, x: Tensor, y: Tensor) -> Prediction:
        """Return what comes next.

        Args:
            df, simulated: Δf of the scan and of the molecule so far (B, X, Y, 10), of zero mean and unit variance per
                image, or zero where there is no molecule yet.
            molecule: so far.
            x, y: the pixels' places from the window's centre (B, X) and (B, Y), Å.
        """
        known = self.encode(self.reference.features(df), simulated, molecule)
        return self.answer(known, focused(self.look(known, x, y), x, y), x, y)

    def encode(self, scan: list[Tensor], simulated: Tensor, molecule: Part) -> Known:
        """Return what is known from the scan's features, the simulated stack and the molecule so far."""
        nodes = self._nodes(molecule)
        there = molecule.numbers[..., None] > 0
        graph = (self.gate(nodes).sigmoid() * self.value(nodes) * there).sum(1)
        return Known(molecule, nodes, graph, scan, self.simulated.features(simulated))

    def look(self, known: Known, x: Tensor, y: Tensor) -> Tensor:
        """Return what the pixels of the finest scale count for (B, X', Y'), 1 together."""
        query = QUERY**0.5 * self.query(known.graph).softmax(1)  # of unit length at first, when all count alike
        logits = self.reference.attraction(known.scan, known.simulated, query)
        logits = logits + self.simulated.attraction(known.simulated, known.scan, query)
        along_x, along_y = (pixel_places(axis) / UNIT for axis in (x, y))
        slope_x, bend_x, slope_y, bend_y = self.region(known.graph).split(1, 1)
        logits = logits + (along_x * (slope_x + bend_x * along_x))[:, :, None]
        logits = logits + (along_y * (slope_y + bend_y * along_y))[:, None]
        taken = near(known.molecule.positions, known.molecule.numbers > 0, x, y)
        return (logits - TAKEN * taken).flatten(1).softmax(1).view_as(logits)

    def answer(self, known: Known, attention: Tensor, x: Tensor, y: Tensor) -> Prediction:
        """Return what comes next where the attention (B, X', Y') goes."""
        along_x, along_y = pixel_places(x), pixel_places(y)
        place = torch.stack([(attention.sum(2) * along_x).sum(1), (attention.sum(1) * along_y).sum(1)], 1)
        stacks = ((self.reference, known.scan), (self.simulated, known.simulated))
        seen = torch.cat([known.graph, *(encoder.seen(maps, attention) for encoder, maps in stacks)], 1)
        position = UNIT * self.position(seen) + pad(place, (0, 1))
        away = known.molecule.positions - position.detach()[:, None]
        told = (known.nodes, away, away.norm(dim=2, keepdim=True), seen[:, None].expand(-1, away.shape[1], -1))
        return Prediction(self.classes(seen), position, self.bond(torch.cat(told, 2)).squeeze(2))

    def _nodes(self, molecule: Part) -> Tensor:
        """Return features of the atoms (B, N, NODE)."""
        elements = (molecule.numbers[..., None] == self.numbers).to(molecule.positions.dtype)
        batch, first, second = molecule.bonds.triu().nonzero(as_tuple=True)
        pairs = torch.stack([first, second], 1) + molecule.numbers.shape[1] * batch[:, None]
        nodes: Tensor = self.messages(self.node(torch.cat([molecule.positions / UNIT, elements], 2)), pairs)
        return nodes


class Encoder(nn.Module):
    """A stack on several scales, and what is seen where a query looks."""

    def __init__(self, config: Config):
        super().__init__()
        heights = HEIGHTS
        self.convs, self.flat = nn.ModuleList(), nn.ModuleList()
        for inputs, outputs, pixels in zip((1, *config.encoder), config.encoder, config.pixels, strict=False):
            heights = -(-heights // 2)
            self.convs.append(nn.Conv3d(inputs, outputs, 3, padding=1))
            self.flat.append(nn.Conv2d(outputs * heights, pixels, 3, padding=1))
        self.deep = nn.ModuleList(nn.Conv2d(config.pixels[-1], pixels, 3, padding=1) for pixels in config.pixels)
        self.gates = nn.ModuleList(nn.Linear(QUERY, pixels, bias=False) for pixels in config.pixels)
        self.joined = nn.Linear(sum(config.pixels), GRAPH)
        for layer in (*self.convs, *self.flat, *self.deep):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def features(self, df: Tensor) -> list[Tensor]:
        """Return features (B, C, X', Y') of a stack (B, X, Y, 10), each time of half as many pixels along both."""
        h = df.permute(0, 3, 1, 2).unsqueeze(1).contiguous(memory_format=torch.channels_last_3d)  # the fastest on CPUs
        maps = []
        for conv, flat in zip(self.convs, self.flat, strict=True):
            with torch.autocast(df.device.type, enabled=False):  # bfloat16 kernels over two heights learn junk on CPUs
                h = relu(max_pool3d(conv(h), 2, ceil_mode=True))  # (B, C, Z', X', Y')
            maps.append(relu(flat(h.flatten(1, 2))))
        return maps

    def attraction(self, maps: list[Tensor], others: list[Tensor], query: Tensor) -> Tensor:
        """Return logits (B, X', Y') on the finest scale of where a query (B, QUERY) looks, summed over the scales.

        It looks where features differ from the other stack's.
        """
        changed = maps[-1] - others[-1]
        logits = query.new_zeros(len(query), *maps[0].shape[2:])
        layers = zip(maps, others, self.deep, self.gates, strict=True)
        for halved, (h, other, deep, gate) in enumerate(layers):
            below = relu(_upsampled(deep(changed), 2 ** (len(maps) - 1 - halved), h))
            attracted = torch.einsum("bc,bcxy->bxy", gate(query), h - other + below)
            logits = logits + _upsampled(attracted[:, None], 2**halved, maps[0])[:, 0]
        return logits

    def seen(self, maps: list[Tensor], attention: Tensor) -> Tensor:
        """Return what features on all scales are (B, GRAPH) where pixels of the finest count for `attention`."""
        found = [torch.einsum("bcxy,bxy->bc", maps[0], attention)]
        for h in maps[1:]:
            attention = avg_pool2d(attention, 2, ceil_mode=True, divisor_override=1)
            found.append(torch.einsum("bcxy,bxy->bc", h, attention))
        joined: Tensor = self.joined(torch.cat(found, 1))
        return relu(joined)


def _upsampled(h: Tensor, factor: int, like: Tensor) -> Tensor:
    """Return features of a coarse scale on that of `like`; the last coarse pixels may reach beyond its end."""
    finer = interpolate(h, scale_factor=factor, mode="bilinear", align_corners=False)
    return finer[..., : like.shape[2], : like.shape[3]]


def focused(attention: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the attention (B, X', Y') around its highest pixel alone, within a Gaussian of width `ATOM`, 1 together.

    Args:
        attention: what pixels of the finest scale count for.
        x, y: places of the stack's pixels (B, X) and (B, Y), Å.
    """
    most = attention.flatten(1).argmax(1, keepdim=True)
    columns = attention.shape[2]
    axes = (pixel_places(x), most // columns), (pixel_places(y), most % columns)
    place = torch.stack([axis.gather(1, index) for axis, index in axes], 2)  # (B, 1, 2)
    attention = attention * near(place, torch.ones_like(most, dtype=torch.bool), x, y)
    return attention / attention.sum((1, 2), keepdim=True)


def near(positions: Tensor, there: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return how near pixels of the finest scale are to atoms (B, X', Y'), by Gaussians of the lateral distance.

    Args:
        positions: of atoms (B, N, 2) or more, Å.
        there: which count (B, N).
        x, y: places of the stack's pixels (B, X) and (B, Y), Å.
    """
    away = (positions[..., k, None] - pixel_places(axis)[:, None] for k, axis in enumerate((x, y)))
    along_x, along_y = (torch.exp(-(distance / ATOM).square() / 2) for distance in away)
    return torch.einsum("bnx,bny->bxy", along_x * there[..., None], along_y).clamp_max(1)


def pixel_places(axis: Tensor) -> Tensor:
    """Return the places of the finest scale's pixels (B, X') along an axis of the stack's (B, X)."""
    return avg_pool1d(axis, 2, ceil_mode=True)


def nominal_height(options: SimulationOptions) -> float:
    """Return the lowest height (Å) over a topmost atom of carbon: what is assumed where it is not known."""
    carbon = closest_height(np.array([6]), np.zeros(1), options.effective_tip().number, options.clearance)
    return float(carbon)


@torch.no_grad()
def simulate(
    molecule: Part, x: Tensor, y: Tensor, lowest: Tensor, options: SimulationOptions, simulator: Simulator
) -> Tensor:
    """Return the stacks of partial molecules (B, X, Y, Z) as the network sees them; zeros where there is no atom.

    Args:
        molecule: so far.
        x, y: where the resting probe is, from the window's centre (B, X) and (B, Y), Å.
        lowest: height of the nearest image above the topmost atom of the whole molecule (B,), Å.
        options: tip, cantilever and images.
        simulator: what `load_engine` returns.
    """
    df = x.new_zeros(len(x), x.shape[1], y.shape[1], options.heights)
    some = (molecule.numbers > 0).any(1)
    if not some.any():
        return df
    numbers = molecule.numbers[some].cpu().numpy()
    positions, along_x, along_y, heights = (
        values[some].cpu().double().numpy() for values in (molecule.positions, x, y, lowest)
    )
    count, zeros = len(numbers), np.zeros
    uncharged = Molecules(numbers, positions, zeros(numbers.shape), zeros((count, 0, 2), np.int64), zeros((count, 0)))
    scenes = options.scenes(uncharged)
    scenes = replace(  # with the topmost atom of the whole molecule, not of a part, at z = 0
        scenes,
        positions=positions,
        x=along_x - scenes.offset[:, :1],
        y=along_y - scenes.offset[:, 1:],
        z=scenes.z + (heights - scenes.z[:, -1])[:, None],
    )
    df[some] = simulator.images(scenes, options.weights()).values[..., -options.heights :].to(df)
    return normalised(df)


@torch.no_grad()
def generate(
    model: Resimulate, df: Tensor, x: Array, y: Array, simulator: Simulator,
    most: int = 80, options: SimulationOptions = NOMINAL,
) -> tuple[Graph, int]:  # fmt: skip
    """Return the graph of a scan, and after how many steps, each of a simulation and a prediction, it was complete.

    Atom after atom is added, in the window and not above the topmost, until the network says stop or there are `most`.
    Probabilities of bonds are spread over the orders as these are common; of missing neighbours nothing is known.

    Args:
        model: in evaluation mode.
        df: Δf (1, X, Y, 10), Hz or normalised, on the model's device.
        x, y: pixel positions (X,) and (Y,), Å, evenly spaced.
        simulator: what `load_engine` returns.
        most: atoms.
        options: the tip and cantilever that are taken for the scan's.
    """
    centre = np.array([(axis[0] + axis[-1]) / 2 for axis in (x, y)])
    along_x, along_y = (df.new_tensor(axis - c)[None] for axis, c in zip((x, y), centre, strict=True))
    low = torch.stack([along_x[0, 0], along_y[0, 0], df.new_tensor(Z_MIN)])
    high = torch.stack([along_x[0, -1], along_y[0, -1], df.new_tensor(0.0)])
    lowest, scan = df.new_tensor([nominal_height(options)]), model.reference.features(normalised(df))
    classes, bonds, steps = df.new_zeros(0, 1 + len(ELEMENTS)), df.new_zeros(0, 0), 0
    molecule = Part(model.numbers.new_zeros(1, 0), df.new_zeros(1, 0, 3), bonds[None] > 0)
    while len(classes) < most:
        steps += 1
        simulated = simulate(molecule, along_x, along_y, lowest, options, simulator)
        known = model.encode(scan, simulated, molecule)
        attention = focused(model.look(known, along_x, along_y), along_x, along_y)
        said = model.answer(known, attention, along_x, along_y)
        likely = said.classes.softmax(1)
        if not likely[0].argmax():
            break
        classes, bonds = torch.cat([classes, likely]), _bordered(bonds, said.bonds[0].sigmoid())
        molecule = Part(
            torch.cat([molecule.numbers, model.numbers[likely[:, 1:].argmax(1)][None]], 1),
            torch.cat([molecule.positions, said.position[:, None].clamp(low, high)], 1),
            (bonds > 0.5)[None],
        )
    positions = molecule.positions[0].cpu().double().numpy()
    positions[:, :2] += centre
    told, bonded = (values.cpu().double().numpy() for values in (classes, bonds))
    return spread_graph(positions, 1 - told[:, 0], told[:, 1:], bonded), steps


def _bordered(bonds: Tensor, row: Tensor) -> Tensor:
    """Return a symmetric matrix (N + 1, N + 1) from one (N, N) and a row (N,) for a last one, 0 in its corner."""
    wide = torch.cat([bonds, row[:, None]], 1)
    return torch.cat([wide, torch.cat([row, row.new_zeros(1)])[None]])
