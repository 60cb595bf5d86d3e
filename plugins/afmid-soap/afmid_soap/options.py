"""What users can set of a training run; light, so that listing the options imports no torch."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from afmid.networks.recipe import StackRecipe
from afmid.simulate import SimulationOptions
from afmid_graphgen.options import NARROW, OF_THE_PAPER

WITHOUT_SCANS = {"simulation": SimulationOptions(size=2.0, pixels=16), "reuse": 1, "pool": 1, "batch": 100}
DEFAULTS: dict[str, dict[str, Any]] = {  # of a recipe, where the network is not the default one
    "paper": OF_THE_PAPER,
    "predictor": {**WITHOUT_SCANS, "optimizer": "adamw", "learning_rate": 2e-3, "average": 0.99},
}
OWN: dict[str, tuple[str, ...]] = {  # options that not every network has, and which have
    "graphgen": ("soap",),
    "spectra": ("soap", "paper"),
    **dict.fromkeys(("ordering", "sigma", "rounds", "bond_rounds", "norm", "residual", "dropout"), ("paper",)),
    **dict.fromkeys(("shared", "here", "relative", "only_bonds"), ("paper",)),
    "split": ("paper", "predictor"),
    **dict.fromkeys(("classes", "n_max", "l_max"), ("predictor",)),
}


class SoapRecipe(StackRecipe):
    """Every number a training run of a soap network depends on."""

    defaults = DEFAULTS
    files = ("start", "graphgen")

    architecture: Literal["soap", "paper", "predictor"] = Field(
        "soap",
        description="network: soap, ours, graphgen's and then spectra; paper, the published one, atom by atom; "
        "predictor, of spectra, which looks at no scans. These two bring defaults of their own",
    )
    graphgen: str = Field(
        "", description="weights file of graphgen, with which the soap network begins; at random if empty"
    )
    spectra: Literal["none", "computed", "predicted"] = Field(
        "computed", description="what soap and paper are told: SOAP spectra, computed or (paper) predicted, or none"
    )
    ordering: Literal["random", "y", "z"] = Field(
        "random", description="which atom comes next in training of paper: any, or the highest in y or in z"
    )
    sigma: float = Field(0.25, gt=0.05, le=1, description="standard deviation of a peak in paper's position grid, Å")
    rounds: int = Field(3, ge=0, le=16, description="paper: rounds of messages before the class is said")
    bond_rounds: int = Field(6, ge=0, le=16, description="paper: rounds of messages before the bonds are said")
    norm: bool = Field(False, description="paper: normalise features, and draw large entries of spectra together")
    residual: bool = Field(False, description="paper: paths around messages and attention")
    dropout: float = Field(0.0, ge=0, lt=1, description="paper: share of features left out in training")
    shared: bool = Field(False, description="paper: one set of weights for both tasks")
    here: bool = Field(False, description="paper: tell the class head the spectrum at the next atom's place")
    relative: bool = Field(False, description="paper: tell places from the next atom's on, not the window's corner")
    only_bonds: bool = Field(False, description="paper: train the bond head alone; the rest stays as it starts")
    split: bool = Field(
        True, description="predictor, and paper's: other last layers for pairs of classes that the new atom brings"
    )
    classes: int = Field(5, ge=2, le=5, description="predictor: how many of H | C, Si | N, P | O, S | halogens")
    n_max: int = Field(3, ge=1, le=8, description="predictor: radial functions of the spectra")
    l_max: int = Field(2, ge=0, le=3, description="predictor: highest degree of the spectra")
    batch: int = Field(16, ge=1, le=65_536, description="scans in a step, of all processes together")
    simulation: SimulationOptions = Field(NARROW, description="the scans' grid, tip and cantilever")

    @model_validator(mode="after")
    def _fits_its_architecture(self) -> Self:
        for name, who in OWN.items():
            if self.architecture not in who and getattr(self, name) != type(self).model_fields[name].default:
                has = "has" if len(who) == 1 else "have"
                raise ValueError(f"{name}: {self.architecture} has none; {' and '.join(who)} {has}")
        if self.here and self.spectra == "none":
            raise ValueError("here: tells a spectrum; set spectra=computed, too")
        if self.architecture == "soap" and self.spectra == "predicted":
            raise ValueError("spectra: soap computes them; only paper can be told predicted ones")
        if self.second:
            raise ValueError(f"second: {self.architecture} looks at one tip")
        return self
