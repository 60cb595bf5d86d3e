"""The published graph network with SOAP: each atom is seen once for each pair of classes around it.

The pipeline is that of Oinonen et al., MRS Bulletin 47, 895–905 (2022), as `afmid_graphgen.paper` has it; a later study
gave its atoms SOAP power spectra (`afmid_soap.power_spectrum`: l_max 2, n_max 3, cutoff 4 Å, σ 1 Å, five classes, hence
15 pairs of classes with 27 entries). It reads down as follows:

- An atom is 15 rows, each its place, its class and its spectrum of one pair of classes, which two layers make 20
  features of.
- Bonded atoms send each other messages, row by row: three rounds before the class is said, six before the bonds are.
- The rows of an atom attend to each other, twice, and a gated sum makes one of them: 128 features of an atom.
- A gated sum of the atoms is the graph, which with what the images show says the class of the next atom; two atoms with
  the images say whether they are bonded. For the bonds the next atom is in the graph, and in the spectra.

The study found that with messages the bond head comes to say "no bond" always. `Config` holds what may be done about
that: layers that normalise, in front of which the spectra are drawn together; paths around messages and attention;
dropout; no messages for the bonds; and one set of weights for both tasks in place of two.

Where its text leaves things open: rows share their weights and differ by an added vector of their own; attention has
four heads; spectra enter as they are unless `norm` is set. `here` and `relative` are ours: the class head is
told the spectrum at the place of the next atom, too, which the study's graph vector has lost; and places are told from
there, not from the corner of the window, which says nothing of a molecule.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, one_hot, scaled_dot_product_attention

from afmid_graphgen import paper as graphgen
from afmid_graphgen.graph import CLASSES
from afmid_graphgen.paper import GRAPH, HEAD, NODE, Gaze, Messages, Partial, Said, described, mlp
from afmid_soap import predictor
from afmid_soap.power_spectrum import Soap, flattened
from afmid_soap.predictor import Predictor

HEADS = 4  # of the attention between pairs of classes
HIDDEN = 64  # width between the two layers that a row goes through
HERE = 32  # features of the spectrum at the next atom's place


@dataclass(frozen=True)
class Config(graphgen.Config):
    """What the pipeline is built for, besides what `afmid_graphgen.paper.Config` has.

    Attributes:
        spectra: none, computed from the graph so far, or predicted from those before its last atom came.
        rounds, bond_rounds: of messages before the class is said, and before the bonds are; 0 for none.
        norm: whether rows are normalised before messages and attention, and large spectra drawn together.
        residual: whether paths lead around messages and attention.
        dropout: share of features that are left out in training.
        shared: whether class and bonds are said with the same weights for the features of atoms.
        here: whether the class head is told the spectrum at the next atom's place.
        relative: whether places are told from the next atom's on, and not from the window's corner.
        split: whether the predictor has other last layers for pairs of classes that the next atom brings.
    """

    spectra: Literal["none", "computed", "predicted"] = "computed"
    rounds: int = 3
    bond_rounds: int = 6
    norm: bool = False
    residual: bool = False
    dropout: float = 0.0
    shared: bool = False
    here: bool = False
    relative: bool = False
    split: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spectra not in ("none", "computed", "predicted"):
            raise ValueError(f"spectra: none, computed or predicted, not {self.spectra!r:.60}")
        if not all(type(rounds) is int and 0 <= rounds <= 16 for rounds in (self.rounds, self.bond_rounds)):
            raise ValueError(f"rounds: 0 to 16, not {self.rounds!r:.60} and {self.bond_rounds!r:.60}")
        flags = self.norm, self.residual, self.shared, self.here, self.relative, self.split
        if not all(isinstance(flag, bool) for flag in flags):
            raise ValueError("norm, residual, shared, here, relative and split are true or false")
        if not (isinstance(self.dropout, int | float) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout: 0 to 1, not {self.dropout!r:.60}")
        if self.here and self.spectra == "none":
            raise ValueError("here needs spectra")


class Looks(Protocol):
    """What looks at the images for a graph builder: `afmid_graphgen.paper.Gaze`, or something of its kind."""

    def views(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Return what is looked at, from the features of an encoder."""

    def look(self, views: Sequence[Tensor], graph: Tensor, query: Tensor) -> Tensor:
        """Return what is seen of the next atom (Q, 128)."""


class Paper(graphgen.Paper):
    """Find atoms in a Δf stack, and say one by one what they are and how they are bonded, by spectra of the others."""

    def __init__(self, config: Config | None = None):
        config = config or Config()
        super().__init__(config)
        self.graph: SoapBuilder = SoapBuilder(config, Gaze(config.channels))  # type: ignore[assignment]


class SoapBuilder(nn.Module):
    """Say the class of the next atom, then its bonds to those before it."""

    def __init__(self, config: Config, gaze: Looks):
        super().__init__()
        self.config, self.gaze, self.soap = config, gaze, Soap(len(CLASSES))
        self.compute: Callable[[Tensor, Tensor, Tensor], Tensor] = self.soap
        self.predictor = Predictor(predictor.Config(split=config.split)) if config.spectra == "predicted" else None
        self.for_class = Surroundings(config, self.soap, config.rounds)
        self.for_bonds = self.for_class if config.shared else Surroundings(config, self.soap, config.bond_rounds)
        self.gate, self.value = (mlp(GRAPH, HEAD, GRAPH) for _ in range(2))
        self.here = mlp(self.soap.pairs * self.soap.entries, HIDDEN, HERE) if config.here else None
        self.class_head = mlp(2 * GRAPH + HERE * config.here, HEAD, len(CLASSES))
        self.bond_head = mlp(3 * GRAPH, HEAD, 1)

    def views(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Return what is looked at on each scale; as in Gaze."""
        return self.gaze.views(scales)

    def forward(self, views: Sequence[Tensor], partial: Partial, query: Tensor) -> Said:
        """Return what is said of the next atom of each partial graph at `query`, (Q, 3), in the graphs' frame."""
        nodes = self.for_class(self._told(partial, query), self.spectra(partial))
        gated = torch.sigmoid(self.gate(nodes)) * self.value(nodes)
        graph = (gated * partial.there[..., None]).sum(1)  # (Q, 128)
        image = self.gaze.look(views, graph, query)
        known = [graph, image]
        if self.here:
            around = self.compute(partial.positions, shares(partial), query[:, None])[:, 0]
            known.append(self.here(flattened(around)))
        return Said(self.class_head(torch.cat(known, 1)), image, nodes)

    def bonds(self, said: Said, partial: Partial, query: Tensor, classes: Tensor) -> Tensor:
        """Return logits (Q, N) of the bonds between an atom of `classes` (Q,) at `query` and the atoms before it."""
        count = partial.classes.shape[1]
        graph = with_next(partial, query, classes)
        nodes = self.for_bonds(self._told(graph, query), self.spectra(graph))
        new = torch.cat([nodes[:, -1], said.image], 1)[:, None].expand(-1, count, -1)
        logits: Tensor = self.bond_head(torch.cat([nodes[:, :-1], new], 2))
        return logits.squeeze(2)

    def _told(self, graph: Partial, query: Tensor) -> Partial:
        return replace(graph, positions=graph.positions - query[:, None]) if self.config.relative else graph

    def spectra(self, graph: Partial) -> Tensor | None:
        """Return the spectra around the atoms of graphs (Q, N, 15, 27)."""
        if self.config.spectra == "none":
            return None
        of_class = shares(graph)
        if self.predictor is None:
            return self.compute(graph.positions, of_class, graph.positions)
        with torch.no_grad():  # it learns by a loss of its own
            return self.predictor.one_step(graph.positions, of_class)


class Surroundings(nn.Module):
    """Features of atoms (Q, N, 128) from their spectra, those of the atoms that they are bonded to among them."""

    def __init__(self, config: Config, soap: Soap, rounds: int):
        super().__init__()
        self.config = config
        self.rows, entries = (1, 0) if config.spectra == "none" else (soap.pairs, soap.entries)
        self.first = mlp(3 + len(CLASSES) + entries, HIDDEN, NODE)
        self.own = nn.Parameter(torch.randn(self.rows, 1, NODE) / NODE**0.5)
        self.messages = Messages(rounds) if rounds else None
        self.widen = nn.Linear(NODE, GRAPH)
        self.attention = nn.ModuleList(Attention() for _ in range(2))
        self.gate, self.value = (mlp(GRAPH, HEAD, GRAPH) for _ in range(2))
        widths = (NODE, GRAPH, GRAPH)
        self.norms = nn.ModuleList(nn.LayerNorm(width) if config.norm else nn.Identity() for width in widths)

    def forward(self, graph: Partial, spectra: Tensor | None) -> Tensor:
        """Return the features of the atoms of graphs with `spectra` (Q, N, 15, 27), where there are any."""
        there = graph.there
        rows = described(graph.positions[there], graph.classes[there]).expand(self.rows, -1, -1)  # (15, M, 8)
        if spectra is not None:
            drawn = flattened(spectra[..., None, :]) if self.config.norm else spectra
            rows = torch.cat([rows, drawn[there].transpose(0, 1)], 2)
        h = self.first(rows) + self.own
        if self.messages:
            number = there.flatten().cumsum(0) - 1  # of each atom among those that are there
            bonds = number[graph.bonds] + h.shape[1] * torch.arange(self.rows, device=h.device)[:, None, None]
            h = self._added(h, self.messages(self.norms[0](h), bonds.flatten(0, 1)))
        h = self.widen(h).transpose(0, 1)  # (M, 15, 128)
        for attention, norm in zip(self.attention, self.norms[1:], strict=True):
            h = self._added(h, attention(norm(h)))
        summed = (torch.sigmoid(self.gate(h)) * self.value(h)).sum(1)
        features: Tensor = summed.new_zeros(*there.shape, GRAPH)
        features[there] = summed
        return features

    def _added(self, h: Tensor, more: Tensor) -> Tensor:
        more = dropout(more, self.config.dropout, self.training)
        return h + more if self.config.residual else more


class Attention(nn.Module):
    """Rows of an atom (…, 15, 128) that attend to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(GRAPH, 3 * GRAPH)
        self.out = nn.Linear(GRAPH, GRAPH)

    def forward(self, h: Tensor) -> Tensor:
        asked, offered, told = self.into(h).unflatten(-1, (3 * HEADS, -1)).transpose(-2, -3).chunk(3, -3)
        attended: Tensor = self.out(scaled_dot_product_attention(asked, offered, told).transpose(-2, -3).flatten(-2))
        return attended


def with_next(partial: Partial, query: Tensor, classes: Tensor) -> Partial:
    """Return graphs (Q, N + 1) whose last atom, as yet without a bond, is of `classes` (Q,) at `query` (Q, 3)."""
    count = partial.classes.shape[1]
    return Partial(
        classes=torch.cat([partial.classes, classes[:, None]], 1),
        positions=torch.cat([partial.positions, query[:, None]], 1),
        there=torch.cat([partial.there, torch.ones_like(classes, dtype=torch.bool)[:, None]], 1),
        bonds=partial.bonds + partial.bonds.div(max(count, 1), rounding_mode="floor"),
    )


def shares(graph: Partial) -> Tensor:
    """Return the classes of atoms as SOAP takes them (Q, N, 5)."""
    return one_hot(graph.classes, len(CLASSES)).to(graph.positions.dtype) * graph.there[..., None]
