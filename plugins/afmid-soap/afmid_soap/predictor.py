"""The predictor: the spectra of a molecule that has grown by an atom, from those it had before.

After a study that followed the graph network of Oinonen et al. (2022), which learnt spectra (`power_spectrum`) of ten
random atoms in a cube, so that a network that builds molecules need not compute them. It reads down as follows:

- Global encoder: each atom gathers what classes and distances of all others tell, and three layers of self-attention
  over the atoms follow; a gated sum of them is the molecule.
- A head for each degree l: an atom attends to the atoms of the two classes of a pair, in two channels. A channel sums
  over its atoms learnt radial functions times solid harmonics of degree l; the channels are contracted over m, which
  is all that no rotation changes. Four layers with a skip make the entries of that and of the spectrum as it was.
- Pairs of classes that were in the molecule before have other last layers than those that the new atom brings.
- An atom that is alone has a spectrum that depends on nothing; it is set apart, and not learnt.

Departures: the study's inputs are both positions, their distance and the angle at the origin, of which rotations change
the first; its heads find out for themselves how the two channels make an entry, ours are told how degrees combine.
"""

from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from afmid.networks.config import check_sizes, config_from_json
from afmid.networks.unet import SLOPE
from afmid_graphgen.paper import mlp
from afmid_soap.power_spectrum import Soap, solid_harmonics

SCALE = 30.0  # of a spectrum's entries, at which the network's output is 1
FALLOFF = 0.3  # Å⁻²: how fast radial functions fall at least, as those of SOAP do
DISTANCES = 16  # Gaussians that a distance is told by
HEADS = 4  # of the self-attention
MOST = 16  # layers, and channels
GATED = 0.1  # how much what is known of an atom and its molecule changes what it counts for


@dataclass(frozen=True)
class Config:
    """Sizes of the predictor.

    Attributes:
        soap: settings of the spectra, as in `Soap`: classes, n_max, l_max.
        width: features of an atom and of the molecule.
        layers: of self-attention.
        channels: radial functions that a head learns.
        split: whether pairs of classes that the new atom brings have last layers of their own.
    """

    classes: int = 5
    n_max: int = 3
    l_max: int = 2
    width: int = 64
    layers: int = 3
    channels: int = 8
    split: bool = True

    def __post_init__(self) -> None:
        check_sizes("width, layers, channels", (self.width, self.layers, self.channels), 3)
        if not (isinstance(self.split, bool) and all(type(n) is int for n in (self.classes, self.n_max, self.l_max))):
            raise ValueError(f"split is true or false; classes, n_max and l_max are whole numbers, not {self}")
        if self.width % HEADS or max(self.layers, self.channels) > MOST:
            told = f"not {self.width}, {self.layers} and {self.channels}"
            raise ValueError(f"width: a multiple of {HEADS}; layers and channels: up to {MOST}, {told}")
        _ = self.soap

    @property
    def soap(self) -> Soap:
        """The spectra that are predicted."""
        return Soap(self.classes, self.n_max, self.l_max)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the configuration that a weights file bears; ValueError or TypeError where it is none."""
        return config_from_json(cls, text)


class Predictor(nn.Module):
    """Say the spectra of atoms after another atom has come."""

    def __init__(self, config: Config | None = None):
        super().__init__()
        self.config = config = config or Config()
        self.soap = config.soap
        self.atom = nn.Linear(config.classes + 1, config.width)
        self.gathered = mlp(DISTANCES + config.classes, config.width, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, HEADS, 2 * config.width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.gate, self.value = (nn.Linear(config.width, config.width) for _ in range(2))
        self.heads = nn.ModuleList(Head(config, degree) for degree in range(config.l_max + 1))
        self.batches: Tensor
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))  # that it has learnt from

    def forward(self, positions: Tensor, classes: Tensor, known: Tensor, new: Tensor) -> Tensor:
        """Return spectra (B, N, pairs, entries) in which the new atom counts.

        Args:
            positions: of the atoms (B, N, 3), Å.
            classes: one-hot (B, N, classes); nothing of any where there is no atom.
            known: the spectra without the new atom, like those returned; its own are not looked at.
            new: which atom it is (B,).
        """
        there = classes.sum(2) > 0
        arrived = one_hot(new, classes.shape[1]).to(classes.dtype)[..., None]
        apart = positions[:, None] - positions[:, :, None]
        distance = torch.linalg.vector_norm(apart, dim=3)
        told = _told(distance, self.soap.reach)
        pairs = torch.cat([told, classes[:, None].expand(-1, classes.shape[1], -1, -1)], 3)
        h = self.atom(torch.cat([classes, arrived], 2)) + (self.gathered(pairs) * there[:, None, :, None]).sum(2)
        h = self.encoder(h, src_key_padding_mask=~there)
        molecule = (torch.sigmoid(self.gate(h)) * self.value(h) * there[..., None]).sum(1, keepdim=True)
        context = torch.cat([h, molecule.expand_as(h)], 2)
        first, second = torch.triu_indices(classes.shape[2], classes.shape[2], device=classes.device)

        def have(kinds: Tensor) -> Tensor:
            return kinds[:, first] & kinds[:, second]

        before, now = (((share > 0) & there[..., None]).any(1) for share in (classes * (1 - arrived), classes))
        rows = batch, atom, pair = (there[..., None] & have(now)[:, None]).nonzero(as_tuple=True)
        surroundings, familiar = context[batch, atom], have(before)[batch, pair]
        parts = (known * (1 - arrived)[..., None] / SCALE)[rows].chunk(len(self.heads), 1)
        fallen = torch.exp(-FALLOFF * distance.square())[..., None]
        said = []
        degrees = zip(self.heads, solid_harmonics(apart, self.config.l_max), parts, strict=True)
        for head, harmonics, part in degrees:
            c = cast(Head, head).channels(fallen, told, context, harmonics, classes)
            both = torch.einsum("rmk,rmq->rkq", c[batch, atom, first[pair]], c[batch, atom, second[pair]])
            said.append(head(torch.cat([both.flatten(1), part], 1), surroundings, familiar))
        spectra = known.new_zeros(known.shape)
        spectra[rows] = SCALE * torch.cat(said, 1).to(spectra.dtype)
        alone = (there.sum(1) == 1)[:, None, None, None]
        return torch.where(alone, self._own(classes), spectra)

    def _own(self, classes: Tensor) -> Tensor:
        """Return the spectra (B, N, pairs, entries) of atoms that are alone."""
        origin = classes.new_zeros(1, 1, 3)
        kinds = torch.eye(self.config.classes, device=classes.device, dtype=classes.dtype)[:, None]
        own = self.soap(origin.expand(len(kinds), 1, 3), kinds, origin.expand(len(kinds), 1, 3))[:, 0]
        return torch.einsum("bnz,zef->bnef", classes, own)

    def one_step(self, positions: Tensor, classes: Tensor) -> Tensor:
        """Return the spectra of molecules from those computed before the last of their atoms came."""
        count = classes.shape[1]
        if not count:
            return self.soap(positions, classes, positions)
        there = classes.sum(2) > 0
        new = (there * torch.arange(1, count + 1, device=there.device)).argmax(1)
        before = classes * (1 - one_hot(new, count).to(classes.dtype))[..., None]
        predicted: Tensor = self(positions, classes, self.soap(positions, before, positions), new)
        return predicted


class Head(nn.Module):
    """The entries of one degree."""

    def __init__(self, config: Config, degree: int):
        super().__init__()
        entries, channels = config.n_max**2, config.channels
        self.radial = mlp(DISTANCES, config.width, channels)
        self.seen = nn.Linear(2 * config.width, channels)
        inputs = channels**2 + entries
        ends = range(1 + config.split)  # for familiar pairs, and for new ones
        self.straight = nn.ModuleList(nn.Linear(inputs, entries) for _ in ends)
        widths = (inputs + 2 * config.width, config.width, config.width, config.width)
        self.layers = nn.Sequential(mlp(*widths), nn.LeakyReLU(SLOPE))
        self.last = nn.ModuleList(nn.Linear(config.width, entries) for _ in ends)
        for last in self.last:
            nn.init.zeros_(last.get_parameter("weight"))

    def channels(
        self, fallen: Tensor, told: Tensor, context: Tensor, harmonics: Tensor, classes: Tensor
    ) -> Tensor:
        """Return what an atom attends to in the atoms of each class, (B, N, classes, 2l + 1, channels)."""
        radial = fallen * self.radial(told) * (1 + GATED * torch.tanh(self.seen(context)))[:, None]
        return torch.einsum("bijk,bijm,bjz->bizmk", radial, harmonics, classes)

    def forward(self, told: Tensor, context: Tensor, familiar: Tensor) -> Tensor:
        """Return the entries of R atoms and pairs of classes (R, n_max²), in units of `SCALE`.

        Args:
            told: the two channels, contracted, and the entries as they were.
            context: features of the atoms and of their molecules.
            familiar: whether the pair was there before, bool (R,).
        """
        h = self.layers(torch.cat([told, context], 1))
        said = [straight(told) + last(h) for straight, last in zip(self.straight, self.last, strict=True)]
        return torch.where(familiar[:, None], said[0], said[-1])


def _told(distance: Tensor, reach: float) -> Tensor:
    """Return distances (…), Å, as Gaussians (…, 16)."""
    centres = torch.linspace(0, reach, DISTANCES, device=distance.device)
    return torch.exp(-((distance[..., None] - centres) * (DISTANCES / reach)).square())
