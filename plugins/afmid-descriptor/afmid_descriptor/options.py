"""What users can set; light, so that listing the options imports no torch."""

import json
import math
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from afmid.recipe import Recipe, Step, augmentations
from afmid.simulate import SimulationOptions

GRID = SimulationOptions()  # the networks see its tip, pixel size, number of images and step, whatever the window
MULTIPLE = 16  # of which the networks take so many pixels along a side
REPEATED = Step(name="missing-heights", probability=0.3, options={"fill": "repeat"})  # as stack.fill_heights does
MEASURED = (*augmentations("flip", "plane-shift:0.3", "noise"), REPEATED)
PUBLISHED: dict[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "batch": 30,
    "precision": "single",
    "augment": (*MEASURED, *augmentations("normalise", "cutout:0.3")),
}
DEFAULTS = {  # of a recipe, where the network is not the default one
    "paper": PUBLISHED,
    "slides": PUBLISHED,
    "ed-afm": PUBLISHED | {"learning_rate": 1e-4, "second": "Xe"},
}


class DescriptorRecipe(Recipe):
    """Every number a training run of a descriptor network depends on."""

    architecture: Literal["unet", "paper", "slides", "ed-afm"] = Field(
        "unet",
        description="network: unet, ours, for all maps; paper and slides (Alldritt et al., 2020) for disks, spheres "
        "and height; ed-afm (Oinonen et al., 2022) for the field. These three bring defaults of their own",
    )
    width: float = Field(1.0, gt=0, le=4, description="factor on the channels of ed-afm; 1 makes 15.6 million weights")
    batch: int = Field(24, ge=1, le=65_536, description="scans in a step, of all processes together")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="highest learning rate, after warm-up")
    optimizer: Literal["adamw", "muon"] = Field(
        "muon", description="what moves the weights; muon, for those of two axes or more, needs fewer scans"
    )
    average: float = Field(0.998, ge=0, lt=1, description="decay per step of the running average of the weights")
    precision: Literal["single", "bfloat16"] = Field(
        "bfloat16", description="of the network; bfloat16 is mixed precision, with weights in single"
    )
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
        return {**DEFAULTS.get(given.get("architecture", ""), {}), **given} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        simulation = self.simulation
        for name in ("tip", "heights", "step"):
            if (value := getattr(simulation, name)) != (fixed := getattr(GRID, name)):
                raise ValueError(f"simulation.{name} is {value}; the descriptor networks are made for {fixed}")
        pixel, fixed = simulation.size / simulation.pixels, GRID.size / GRID.pixels
        if not math.isclose(pixel, fixed) or simulation.pixels % MULTIPLE:
            raise ValueError(
                f"{simulation.pixels} pixels over {simulation.size:g} Å; the descriptor networks are made for pixels "
                f"of {fixed} Å, a multiple of {MULTIPLE} of them: set simulation.size, Å, to an even number and "
                f"simulation.pixels to {1 / fixed:g} times that"
            )
        if self.width != 1 and self.architecture != "ed-afm":
            raise ValueError(f"width: {self.architecture} has a single size; width is that of ed-afm")
        if self.second and self.architecture in ("paper", "slides"):
            raise ValueError(f"second: {self.architecture} looks at one tip; unet and ed-afm look at two")
        return self

    def config(self) -> str:
        """Return the sizes of the network, as its weights file keeps them."""
        if self.architecture != "ed-afm":
            return "{}"
        return json.dumps({"width": self.width, "tips": 2 if self.second else 1})
