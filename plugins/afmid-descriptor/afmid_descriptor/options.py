"""What users can set; light, so that listing the options imports no torch."""

import math
from typing import Self

from pydantic import Field, model_validator

from afmid.recipe import Recipe, Step, augmentations
from afmid.simulate import SimulationOptions

GRID = SimulationOptions()  # the network sees its tip, pixel size, number of images and step, whatever the window
MULTIPLE = 8  # of which the network takes so many pixels along a side


class DescriptorRecipe(Recipe):
    """Every number a training run of the descriptor network depends on."""

    reuse: int = Field(2, ge=1, le=100, description="steps for which the same scans serve, augmented anew")
    augment: tuple[Step, ...] = Field(
        (
            *augmentations("flip", "plane-shift:0.3", "noise"),
            Step(name="missing-heights", probability=0.3, options={"fill": "repeat"}),  # as stack.fill_heights does
            *augmentations("normalise", "cutout:0.3"),
        ),
        description="augmentations in their order, NAME or NAME:PROBABILITY",
    )

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        simulation = self.simulation
        for name in ("tip", "heights", "step"):
            if (value := getattr(simulation, name)) != (fixed := getattr(GRID, name)):
                raise ValueError(f"simulation.{name} is {value}; the descriptor network is made for {fixed}")
        pixel, fixed = simulation.size / simulation.pixels, GRID.size / GRID.pixels
        if not math.isclose(pixel, fixed) or simulation.pixels % MULTIPLE:
            raise ValueError(
                f"{simulation.pixels} pixels over {simulation.size:g} Å; the descriptor network is made for pixels of "
                f"{fixed} Å, a multiple of {MULTIPLE} of them: set simulation.size, Å, to a whole number and "
                f"simulation.pixels to {1 / fixed:g} times that"
            )
        return self
