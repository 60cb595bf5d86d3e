"""What users can set; light, so that listing the options imports no torch."""

from pydantic import Field

from afmid.data.poses import SceneRanges
from afmid.recipe import Recipe
from afmid.simulate import SimulationOptions


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
