"""What the recipes of networks that see stacks share; light, so that listing the options imports no torch."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from afmid.recipe import Recipe, Step, augmentations
from afmid.simulate import SimulationOptions

GRID = SimulationOptions()  # the networks see its tip, pixel size, number of images and step, whatever the window
MULTIPLE = 16  # of which the networks take so many pixels along a side
REPEATED = Step(name="missing-heights", probability=0.3, options={"fill": "repeat"})  # as stack.fill_heights does
MEASURED = (*augmentations("flip", "plane-shift:0.3", "noise"), REPEATED)
PUBLISHED: dict[str, Any] = {  # as published networks were trained, or nearly so
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "batch": 30,
    "precision": "single",
    "augment": (*MEASURED, *augmentations("normalise", "cutout:0.3")),
}


class StackRecipe(Recipe):
    """Every number that training a network on stacks of ten images depends on, with defaults that need few scans.

    A method's recipe adds `architecture`, and names what other defaults an architecture brings.
    """

    defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # by architecture

    learning_rate: float = Field(2e-3, gt=0, le=1, description="highest learning rate, after warm-up")
    optimizer: Literal["adamw", "muon"] = Field(
        "muon", description="what moves the weights; muon, for those of two axes or more, needs fewer scans"
    )
    average: float = Field(0.998, ge=0, lt=1, description="decay per step of the running average of the weights")
    reuse: int = Field(4, ge=1, le=100, description="steps for which the same scans serve, augmented anew")
    pool: int = Field(
        16, ge=1, le=1000, description="drawings of scans, the latest, that a step's are taken from by chance"
    )
    augment: tuple[Step, ...] = Field(
        (*MEASURED, *augmentations("cutout:0.3")),
        description="augmentations in their order, NAME or NAME:PROBABILITY",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_the_defaults_of_its_network(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {**cls.defaults.get(str(given.get("architecture", "")), {}), **given}

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        simulation = self.simulation
        for name in ("tip", "heights", "step"):
            if (value := getattr(simulation, name)) != (fixed := getattr(GRID, name)):
                raise ValueError(f"simulation.{name} is {value}; the networks are made for {fixed}")
        pixel, fixed = simulation.size / simulation.pixels, GRID.size / GRID.pixels
        if not math.isclose(pixel, fixed) or simulation.pixels % MULTIPLE:
            raise ValueError(
                f"{simulation.pixels} pixels over {simulation.size:g} Å; the networks are made for pixels of {fixed} "
                f"Å, a multiple of {MULTIPLE} of them: set simulation.size, Å, to an even number and "
                f"simulation.pixels to {1 / fixed:g} times that"
            )
        return self
