"""The default network: graphgen's, whose atoms look once more at the geometry that they make.

What graphgen's network says of all atoms at once (afmid_graphgen.model) is a molecule of which elements and places are
more or less sure. Here each atom is then told the SOAP power spectrum of the atoms around it
(`afmid_soap.power_spectrum`), places and classes as they were said, and after more rounds of message passing everything
is said anew. Distances in depth and angles enter so, of which graphgen's rounds know nothing: to them only lateral
distances are told. After Oinonen et al., MRS Bull. 47, 895 (2022), whose graph network was tried with SOAP.

Classes are as sure as they were said: an atom that may be N or C counts as a share of each. All of it can be
differentiated, and what was said first learns to be of use. At first the spectra change nothing: the network begins as
graphgen's with rounds that have yet to learn.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from afmid.networks.unet import start_from_zero
from afmid_graphgen import model as graphgen
from afmid_graphgen.graph import CLASS_OF, CLASSES
from afmid_graphgen.model import PIXEL, Answers, GraphNet, Pairs, Round, by_stack, head
from afmid_soap.power_spectrum import Soap, flattened


@dataclass(frozen=True)
class Config(graphgen.Config):
    """Sizes of the network.

    Attributes:
        more: rounds of message passing after the spectra.
        soap: whether the spectra are told; without them the network is graphgen's with more rounds.
    """

    more: int = 2
    soap: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.more not in range(graphgen.MOST + 1) or not isinstance(self.soap, bool):
            raise ValueError(f"more is 0 to {graphgen.MOST} rounds and soap true or false, not {self}")


class SoapNet(GraphNet):
    """Find the atoms and bonds of Δf stacks, the second time knowing what the first time was found around each."""

    def __init__(self, config: Config | None = None):
        config = config or Config()
        super().__init__(config)
        self.soap = Soap(len(CLASSES))
        self.of_spectrum: nn.Sequential | None = None
        if config.soap:
            self.of_spectrum = head(self.soap.pairs * self.soap.entries, config.atom, hidden=config.atom)
            start_from_zero(self.of_spectrum[-1])
        self.more = nn.ModuleList(Round(config.atom, config.pair) for _ in range(config.more))
        self.class_of: Tensor
        self.register_buffer("class_of", torch.eye(len(CLASSES))[list(CLASS_OF)], persistent=False)

    def answer(self, features: list[Tensor], places: Tensor, batch: Tensor, pairs: Pairs) -> Answers:
        """Say what atoms and pairs are; as in GraphNet."""
        h, e = self.met(features, places, batch, pairs)
        if self.of_spectrum:
            h = h + self.of_spectrum(flattened(self.spectra(self.said(h, e), places, batch, len(features[0]))))
        for layer in self.more:
            h, e = layer(h, e, pairs)
        return self.said(h, e)

    def spectra(self, answers: Answers, places: Tensor, batch: Tensor, stacks: int) -> Tensor:
        """Return the power spectra around atoms (M, 15, 27) from what was said of them; as in `answer`."""
        positions = torch.cat([PIXEL * places + answers.shift[:, :2], answers.shift[:, 2:]], 1)
        classes = answers.exists.sigmoid()[:, None] * (answers.elements.softmax(1) @ self.class_of)
        there, row = by_stack(torch.cat([positions, classes.float()], 1), batch, stacks)
        return self.soap(there[..., :3], there[..., 3:], there[..., :3])[batch, row]
