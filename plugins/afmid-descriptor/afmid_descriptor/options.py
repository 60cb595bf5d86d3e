"""What users can set; light, so that listing the options imports no torch."""

import math
from typing import Self

from pydantic import Field, model_validator

from afmid.data.poses import SceneRanges
from afmid.recipe import Recipe
from afmid.simulate import SimulationOptions

GRID = SimulationOptions()  # the network sees its tip, pixel size, number of images and step, whatever the window
MULTIPLE = 8  # of which the network takes so many pixels along a side
DRAWN = {"lateral_stiffness": "stiffness", "charge": "charge", "quadrupole": "quadrupole", "tilt_x": "tilt",
         "tilt_y": "tilt"}  # what each scene draws, and the range that it is drawn from  # fmt: skip


class DescriptorRecipe(Recipe):
    """Every number a training run of the descriptor network depends on."""

    simulation: SimulationOptions = Field(SimulationOptions(), description="the scans' grid, tip and cantilever")
    ranges: SceneRanges = Field(SceneRanges(), description="what poses and tips are drawn from")
    reuse: int = Field(2, ge=1, le=100, description="steps for which the same scans serve, turned and noisy anew")
    noise: float = Field(0.1, ge=0, le=1, description="spread of the noise level, as a share of an image's range")
    drifted: float = Field(0.3, ge=0, le=1, description="share of batches whose images drift")
    drift: float = Field(0.01, ge=0, le=0.1, description="most drift between images, as a share of the width")
    cut: float = Field(0.3, ge=0, le=1, description="share of batches with cut-outs")
    fewer: float = Field(0.3, ge=0, le=1, description="share of scans with fewer images than ten")
    fewest: int = Field(4, ge=2, le=9, description="fewest images of those")
    compile: bool = Field(True, description="compile the simulator where a compiler is found")

    @model_validator(mode="after")
    def _holds_only_what_training_respects(self) -> Self:
        simulation = self.simulation
        for name, drawn in DRAWN.items():
            if getattr(simulation, name) != getattr(GRID, name):
                raise ValueError(f"simulation.{name} is drawn anew for each scan; set ranges.{drawn} instead")
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
