"""Identify with a network that knows SOAP spectra: as graphgen does, which finds atoms, bonds and the molecule."""

from pathlib import Path
from typing import Self, cast

from afmid_graphgen.method import GraphgenMethod
from afmid_graphgen.networks import Network
from afmid_soap import NAME, __version__, networks
from afmid_soap.paper import Paper


def build(architecture: str, config: str = "{}") -> Network:
    """Return a network that sees scans.

    Raises:
        ValueError, TypeError: no such network, or sizes that are none of it.
    """
    if architecture == "predictor":
        raise ValueError("the predictor looks at no scans, and identifies nothing")
    return cast(Network, networks.build(architecture, config))


class SoapMethod(GraphgenMethod):
    """A network with its weights."""

    name = NAME
    version = __version__
    build = staticmethod(build)

    @classmethod
    def load(cls, weights: Path | None, device: str) -> Self:
        """Return the method with the weights of a safetensors file; on a CPU dscribe computes the spectra of paper's.

        Raises:
            WeightsError: no file, one made for something else, or tensors that do not fit the network.
        """
        method = super().load(weights, device)
        if isinstance(method.model, Paper) and device == "cpu":
            from afmid_soap.reference import DscribeSoap

            method.model.graph.compute = DscribeSoap(method.model.graph.soap)
        return method
