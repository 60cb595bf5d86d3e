"""The networks by name, as recipes ask for them and weights files name them, and what each sees in a stack."""

import functools
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from afmid.networks.stack import Stack
from afmid.offers import Simulator
from afmid.simulate import load_engine
from afmid_graphgen import model, paper, resimulate
from afmid_graphgen.graph import Graph
from afmid_graphgen.parallel import Temperatures, graph_of, view

Network = model.GraphNet | paper.Paper | resimulate.Resimulate

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Seen:
    """What a network sees in a stack: the graph, images (X, Y) by name, and what is to be told besides."""

    graph: Graph
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)


def build(architecture: str, config: str = "{}") -> Network:
    """Return a network with initial weights; `config` is its sizes as JSON, the usual ones where it names none.

    Raises:
        ValueError, TypeError: no such network, or sizes that are none of it.
    """
    if architecture == "parallel":
        return model.GraphNet(model.Config.from_json(config))
    if architecture == "paper":
        return paper.Paper(paper.Config.from_json(config))
    if architecture == "resimulate":
        return resimulate.Resimulate(resimulate.Config.from_json(config))
    raise ValueError(f"no network {architecture!r}; there are: parallel, paper, resimulate")


@torch.inference_mode()
def look(network: Network, stack: Stack, average: bool, temperatures: Temperatures) -> Seen:
    """Return what a network sees in a stack; `average` means over turns and mirror images, where it can."""
    if isinstance(network, model.GraphNet):
        seen = view(network, stack.df, average)
        return Seen(graph_of(seen, stack.x, stack.y, temperatures), {"peaks": seen.image})
    device = next(network.parameters()).device
    if isinstance(network, paper.Paper):
        return Seen(paper.generate(network, stack.df.to(device), stack.x, stack.y))
    simulator, begun = _simulator(device.type), time.perf_counter()
    graph, steps = resimulate.generate(network, stack.df.to(device), stack.x, stack.y, simulator)
    log.info("resimulate: %d steps, %.2g a second", steps, steps / (time.perf_counter() - begun))
    return Seen(graph, meta={"steps": steps})


@functools.cache
def _simulator(device: str) -> Simulator:
    """Return what simulates molecules so far on a device: cpu, cuda or mps."""
    return load_engine("auto", device)[1]
