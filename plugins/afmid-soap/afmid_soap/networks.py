"""The networks by name, as recipes ask for them and weights files name them."""

from torch import nn

from afmid_soap import model, paper, predictor


def build(architecture: str, config: str = "{}") -> nn.Module:
    """Return a network with initial weights; `config` is its sizes as JSON, the usual ones where it names none.

    Raises:
        ValueError, TypeError: no such network, or sizes that are none of it.
    """
    if architecture == "soap":
        return model.SoapNet(model.Config.from_json(config))
    if architecture == "paper":
        return paper.Paper(paper.Config.from_json(config))
    if architecture == "predictor":
        return predictor.Predictor(predictor.Config.from_json(config))
    raise ValueError(f"no network {architecture!r}; there are: soap, paper, predictor")
