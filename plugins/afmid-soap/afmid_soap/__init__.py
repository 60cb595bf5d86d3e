"""Soap: graphgen's graph of a Δf stack, where each atom also knows the SOAP descriptor of the atoms around it.

After the graph network of Oinonen et al., MRS Bull. 47, 895 (2022), with descriptors of Bartók et al., Phys. Rev. B 87,
184115 (2013). This file holds the hooks; it imports no torch.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from afmid import Identifier, Trainer, hookimpl
from afmid_graphgen import Options

__version__ = "0.1.0"

NAME = "soap"


@hookimpl
def afmid_identify() -> Iterable[Identifier]:
    return [
        Identifier(
            name=NAME,
            summary="The molecule's graph as graphgen's, with SOAP descriptors of what surrounds each atom.",
            options=Options,
            load=_load_method,
            weights_index=Path(__file__).with_name("weights") / "weights.toml",
            gives=("smiles", "atoms", "elements", "bonds", "maps"),
        )
    ]


@hookimpl
def afmid_train() -> Iterable[Trainer]:
    from afmid_soap.options import SoapRecipe

    summary = "Train graphgen's network with SOAP descriptors, the published one, or the predictor of descriptors."
    return [Trainer(name=NAME, summary=summary, options=SoapRecipe, load=_load_task)]


def _load_method(weights: Path | None, device: str) -> Any:
    from afmid_soap.method import SoapMethod

    return SoapMethod.load(weights, device)


def _load_task(recipe: Any, device: str) -> Any:
    from afmid_soap.recipe import load

    return load(recipe, device)
