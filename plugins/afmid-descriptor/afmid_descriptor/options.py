"""What users can set; light, so that listing the options imports no torch."""

import json
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from afmid.networks.recipe import PUBLISHED, StackRecipe

DEFAULTS: dict[str, dict[str, Any]] = {  # of a recipe, where the network is not the default one
    "paper": PUBLISHED,
    "slides": PUBLISHED,
    "ed-afm": PUBLISHED | {"learning_rate": 1e-4, "second": "Xe"},
}


class DescriptorRecipe(StackRecipe):
    """Every number a training run of a descriptor network depends on."""

    defaults = DEFAULTS

    architecture: Literal["unet", "paper", "slides", "ed-afm"] = Field(
        "unet",
        description="network: unet, ours, for all maps; paper and slides (Alldritt et al., 2020) for disks, spheres "
        "and height; ed-afm (Oinonen et al., 2022) for the field. These three bring defaults of their own",
    )
    width: float = Field(1.0, gt=0, le=4, description="factor on the channels of ed-afm; 1 makes 15.6 million weights")
    batch: int = Field(24, ge=1, le=65_536, description="scans in a step, of all processes together")
    precision: Literal["single", "bfloat16"] = Field(
        "bfloat16", description="of the network; bfloat16 is mixed precision, with weights in single"
    )

    @model_validator(mode="after")
    def _fits_its_architecture(self) -> Self:
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
