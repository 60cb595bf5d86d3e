"""The networks by name, as recipes ask for them and weights files name them."""

import json
from dataclasses import asdict

from torch import Tensor, nn

from afmid.data.augment import normalised
from afmid_descriptor import edafm, model, paper

Network = model.DescriptorNet | paper.Paper | paper.Slides | edafm.EDAFM
STRIDE = 16  # X and Y are multiples of this for every one of them


def build(architecture: str, config: str = "{}") -> Network:
    """Return a network with initial weights; `config` is its sizes as JSON, the usual ones where it names none.

    Raises:
        ValueError, TypeError: no such network, or sizes that are none of it.
    """
    if architecture == "unet":
        return model.DescriptorNet(model.Config.from_json(config))
    if architecture == "paper":
        return paper.Paper(paper.Config.from_json(config))
    if architecture == "slides":
        return paper.Slides(**json.loads(config))
    if architecture == "ed-afm":
        return edafm.EDAFM(edafm.Config.from_json(config))
    raise ValueError(f"no network {architecture!r}; there are: unet, paper, slides, ed-afm")


def described(network: Network) -> dict[str, str]:
    """Return what a weights file says of its network, from which `build` makes it again."""
    if isinstance(network, paper.Slides):
        return {"architecture": "slides", "config": json.dumps({"names": network.names})}
    names = {model.DescriptorNet: "unet", paper.Paper: "paper", edafm.EDAFM: "ed-afm"}
    return {"architecture": names[type(network)], "config": json.dumps(asdict(network.config))}


def seen(network: nn.Module, df: Tensor) -> Tensor:
    """Return stacks (B, X, Y, Z), Hz, as a network takes them: the published ones of unit variance per image."""
    return df if isinstance(network, model.DescriptorNet) else normalised(df)
