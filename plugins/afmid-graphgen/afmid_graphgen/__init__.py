"""Graphgen: a Δf stack to the molecule's graph, its atoms with elements and places, and its bonds.

After Oinonen et al., MRS Bull. 47, 895 (2022). This file holds the hooks; it imports no torch.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from afmid import Identifier, Trainer, hookimpl

__version__ = "0.1.0"

NAME = "graphgen"


class Options(BaseModel, extra="forbid", frozen=True):
    """What `afmid identify --method graphgen` can be told."""

    confidence: float = Field(
        0.55, ge=0, le=1,
        description="atoms that exist less surely are left out; the confidence told is that times the element's",
    )  # fmt: skip
    average: bool = Field(True, description="average over the eight turns and mirror images of the scan")


@hookimpl
def afmid_identify() -> Iterable[Identifier]:
    return [
        Identifier(
            name=NAME,
            summary="The molecule's graph: visible atoms with their elements, and bonds (Oinonen et al., 2022).",
            options=Options,
            load=_load_method,
            weights_index=Path(__file__).with_name("weights") / "weights.toml",
            priority=1,
            gives=("smiles", "atoms", "elements", "bonds", "maps"),
        )
    ]


@hookimpl
def afmid_train() -> Iterable[Trainer]:
    from afmid_graphgen.options import GraphgenRecipe

    summary = "Train a network that finds atoms and bonds on scans simulated as they are needed."
    return [Trainer(name=NAME, summary=summary, options=GraphgenRecipe, load=_load_task)]


def _load_method(weights: Path | None, device: str) -> Any:
    from afmid_graphgen.method import GraphgenMethod

    return GraphgenMethod.load(weights, device)


def _load_task(recipe: Any, device: str) -> Any:
    from afmid_graphgen.recipe import load

    return load(recipe, device)
