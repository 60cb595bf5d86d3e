"""Descriptor: a Δf stack to atomic disks, vdW spheres and a height map, and from the disks to atoms.

After Alldritt et al., Sci. Adv. 6, eaay6913 (2020). This file holds the hooks; it imports no torch.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from afmid import Identifier, Metric, Trainer, hookimpl

__version__ = "0.1.0"

NAME = "descriptor"


class Options(BaseModel, extra="forbid", frozen=True):
    """What `afmid identify --method descriptor` can be told."""

    threshold: float = Field(0.1, ge=0.02, le=1, description="lowest apex of the peaks map that is looked at")
    confidence: float = Field(0.3, ge=0, le=1, description="atoms less sure than this are left out")
    average: bool = Field(True, description="average over the eight turns and mirror images of the scan")


@hookimpl
def afmid_identify() -> Iterable[Identifier]:
    return [
        Identifier(
            name=NAME,
            summary="Maps of the molecule's surface and its visible atoms, without elements (Alldritt et al., 2020).",
            options=Options,
            load=_load_method,
            weights_index=Path(__file__).with_name("weights") / "weights.toml",
            gives=("maps", "atoms"),
        )
    ]


@hookimpl
def afmid_train() -> Iterable[Trainer]:
    from afmid_descriptor.options import DescriptorRecipe

    summary = "Train the descriptor network on scans simulated as they are needed."
    return [Trainer(name=NAME, summary=summary, options=DescriptorRecipe, load=_load_task)]


@hookimpl
def afmid_evaluate() -> Iterable[Metric]:
    summary = "Mean squared error and correlation of disks, spheres and height map against those of the true molecule."
    return [Metric(name="descriptor-maps", summary=summary, load=_load_metric)]


def _load_method(weights: Path | None, device: str) -> Any:
    from afmid_descriptor.method import load

    return load(weights, device)


def _load_task(recipe: Any, device: str) -> Any:
    from afmid_descriptor.recipe import load

    return load(recipe, device)


def _load_metric() -> Any:
    from afmid_descriptor.metrics import map_errors

    return map_errors
