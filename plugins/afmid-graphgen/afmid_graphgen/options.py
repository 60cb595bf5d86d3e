"""What users can set of a training run; light, so that listing the options imports no torch."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from afmid.networks.recipe import GRID, PUBLISHED, StackRecipe
from afmid.simulate import SimulationOptions

NARROW = SimulationOptions(size=12.0, pixels=96)  # more atoms to a pixel, so that a step learns more
OF_THE_PAPER = PUBLISHED | {"batch": 32, "simulation": GRID}
DEFAULTS: dict[str, dict[str, Any]] = {  # of a recipe, where the network is not the default one
    "paper": OF_THE_PAPER,
    "resimulate": OF_THE_PAPER,
}


class GraphgenRecipe(StackRecipe):
    """Every number a training run of a graphgen network depends on."""

    defaults = DEFAULTS
    files = ("start", "unet")

    architecture: Literal["parallel", "paper", "resimulate"] = Field(
        "parallel",
        description="network: parallel, ours, all atoms at once; paper (Oinonen et al., 2022), atom by atom; "
        "resimulate, its forerunner, which simulates again after every atom. These two bring defaults of their own",
    )
    unet: str = Field(
        "", description="weights file of the descriptor, with whose U-Net the parallel network begins; none if empty"
    )
    ordering: Literal["random", "y", "z"] = Field(
        "random",
        description="which atom comes next in training, for paper and resimulate: any, which resimulate may choose, or "
        "the highest in y or in z",
    )
    sigma: float = Field(0.25, gt=0.05, le=1, description="standard deviation of a peak in paper's position grid, Å")
    batch: int = Field(16, ge=1, le=65_536, description="scans in a step, of all processes together")
    simulation: SimulationOptions = Field(NARROW, description="the scans' grid, tip and cantilever")

    @model_validator(mode="after")
    def _fits_its_architecture(self) -> Self:
        if self.unet and self.architecture != "parallel":
            raise ValueError(f"unet: {self.architecture} has none; the parallel network has")
        for name, who in (("ordering", "paper and resimulate have"), ("sigma", "paper has")):
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and self.architecture not in who:
                raise ValueError(f"{name}: {self.architecture} has none; {who}")
        if self.second:
            raise ValueError(f"second: {self.architecture} looks at one tip")
        return self
