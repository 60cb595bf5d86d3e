"""The tasks that the core's loop fits."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from afmid.data.examples import Examples
from afmid.networks.file import fitting
from afmid.offers import Task
from afmid.weights import read_safetensors
from afmid_graphgen.model import Config as GraphConfig
from afmid_graphgen.model import GraphNet
from afmid_graphgen.paper import Partial
from afmid_graphgen.paper_task import PaperTask, cut
from afmid_graphgen.recipe import ParallelTask
from afmid_soap import NAME, __version__, paper
from afmid_soap.model import Config, SoapNet
from afmid_soap.options import SoapRecipe
from afmid_soap.predictor_task import PredictorTask, one_step_error

FEWER = 4  # of so many partial graphs one is learnt from by the predictor
GRAPHGEN = "graphgen"  # whose weights the network may begin with


class SoapTask(ParallelTask):
    """The network; its loss is that of graphgen's."""

    def __init__(self, recipe: SoapRecipe, device: str):
        torch.manual_seed(recipe.seed)
        network = SoapNet(Config(soap=recipe.spectra == "computed"))
        if recipe.graphgen:
            begin_with(network, Path(recipe.graphgen))
        self.model: nn.Module = network.to(device)

    def metadata(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, str]:
        """Return what the weights file says of itself."""
        return super().metadata(model, batches) | {"method": NAME, "architecture": "soap", "version": __version__}


class SoapPaperTask(PaperTask):
    """The published pipeline with spectra; where they are predicted, the predictor learns along."""

    def __init__(self, recipe: SoapRecipe, device: str):
        torch.manual_seed(recipe.seed)
        names = paper.Config.__dataclass_fields__.keys() & SoapRecipe.model_fields.keys()
        config = paper.Config(**{name: getattr(recipe, name) for name in names})
        network = paper.Paper(config).to(device)
        self.model: nn.Module = network
        if recipe.only_bonds:
            train_only(network, network.graph.bond_head)

    def loss(self, model: nn.Module, examples: Examples) -> Tensor:
        """Return the published loss, and that of the predictor."""
        loss, network = super().loss(model, examples), cast(paper.Paper, model)
        return loss + predictor_loss(network.graph, cut(examples, network.config.ordering).partial)

    def metadata(self, model: nn.Module, batches: Sequence[Examples]) -> dict[str, str]:
        """Return what the weights file says of itself."""
        return super().metadata(model, batches) | {"method": NAME, "version": __version__}


def predictor_loss(builder: paper.SoapBuilder, partial: Partial) -> Tensor:
    """Return how far off the spectra of partial graphs, of one in four, are predicted; 0 where they are not."""
    if builder.predictor is None:
        return partial.positions.new_zeros(())
    return one_step_error(builder.predictor, partial.positions[::FEWER], paper.shares(partial)[::FEWER])


def train_only(network: nn.Module, part: nn.Module) -> None:
    """Let training change nothing of a network but a part of it."""
    network.requires_grad_(False)
    part.requires_grad_(True)


def begin_with(network: SoapNet, path: Path) -> None:
    """Give a network the weights of graphgen's.

    Raises:
        WeightsError: no such weights file, or one of another network or of other sizes.
    """
    tensors, _ = read_safetensors(path, GRAPHGEN, architecture="parallel")
    with fitting(path, NAME):
        sizes = {field.name: getattr(network.config, field.name) for field in fields(GraphConfig)}
        graphgen = GraphNet(GraphConfig(**sizes))
        graphgen.load_state_dict(tensors)
        network.load_state_dict(network.state_dict() | graphgen.state_dict())


def load(recipe: SoapRecipe, device: str) -> Task:
    """Return the task that `afmid train soap` fits."""
    if recipe.architecture == "paper":
        return SoapPaperTask(recipe, device)
    if recipe.architecture == "predictor":
        return PredictorTask(recipe, device)
    return SoapTask(recipe, device)
