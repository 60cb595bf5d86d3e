"""The numbers that every training run depends on."""

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from afmid.data.scenes import SceneRanges
from afmid.simulate.scan_simulation import SimulationOptions
from afmid.simulate.tip import TipName

STANDARD = SimulationOptions()
DRAWN = {  # of the simulation each scene draws these anew, from that range
    "amplitude": "amplitude",
    "charge": "charge",
    "lateral_stiffness": "stiffness",
    "quadrupole": "quadrupole",
    "tilt_x": "tilt",
    "tilt_y": "tilt",
}


class Step(BaseModel, extra="forbid", frozen=True):
    """An augmentation in a recipe; "noise" and "noise:0.5" are short for {name = "noise", probability = 0.5}."""

    name: str = Field(description="name of the augmentation: see afmid plugins")
    probability: float = Field(1.0, ge=0, le=1, description="share of the scans that it is applied to")
    options: dict[str, Any] = Field(default_factory=dict, description="what is set of it: see afmid plugins NAME")

    @model_validator(mode="before")
    @classmethod
    def _is_short(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        name, _, probability = given.partition(":")
        return {"name": name.strip(), "probability": probability or 1.0}

    def __str__(self) -> str:
        return self.name if self.probability == 1 else f"{self.name}:{self.probability:g}"


def augmentations(*words: str) -> tuple[Step, ...]:
    """Return augmentations from their short forms."""
    return tuple(Step.model_validate(word) for word in words)


class Recipe(BaseModel, extra="forbid", frozen=True):
    """What every training run depends on; a method's recipe adds its own.

    Attributes:
        files: fields that name files, whose folders are kept out of what weights say of themselves.
    """

    files: ClassVar[tuple[str, ...]] = ("start",)

    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of weights, scans and noise")
    start: str = Field("", description="weights file of the method to begin with; at random where empty")
    steps: int = Field(20_000, ge=1, le=10**9, description="optimizer steps")
    batch: int = Field(30, ge=1, le=65_536, description="scans in a step, of all processes together")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="highest learning rate, after warm-up")
    warmup: int = Field(200, ge=0, description="steps over which the learning rate rises; it then falls as a cosine")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="what moves the weights; muon, for those of two axes or more, needs fewer scans"
    )
    matrix_rate: float = Field(0.02, gt=0, le=1, description="highest learning rate of the weights that muon moves")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's running mean of the gradient")
    weight_decay: float = Field(0.0, ge=0, le=10, description="weight decay")
    clip: float = Field(1.0, gt=0, le=1e9, description="longest gradient; a longer one is shortened to it")
    average: float = Field(0.999, ge=0, lt=1, description="decay per step of the running average of the weights")
    precision: Literal["single", "bfloat16"] = Field(
        "single", description="of the network; bfloat16 is mixed precision, with weights in single"
    )
    validate_every: int = Field(500, ge=1, description="steps between validations")
    validation_scans: int = Field(60, ge=1, le=100_000, description="scans in a validation")
    reuse: int = Field(1, ge=1, le=100, description="steps for which the same scans serve, augmented anew")
    pool: int = Field(
        1, ge=1, le=1000, description="drawings of scans, the latest, that a step's are taken from by chance"
    )
    simulation: SimulationOptions = Field(STANDARD, description="the scans' grid, tip and cantilever")
    second: Literal["", TipName] = Field(
        "", description="second tip, under which each molecule is simulated once more, such as Xe; none where empty"
    )
    scenes: SceneRanges = Field(SceneRanges(), description="what molecules, poses and tips are drawn from")
    augment: tuple[Step, ...] = Field(
        augmentations(
            "flip", "plane-shift:0.3", "background:0.3", "noise", "missing-heights:0.3", "normalise", "cutout:0.3"
        ),
        description="augmentations in their order, NAME or NAME:PROBABILITY",
    )

    @model_validator(mode="after")
    def _holds_only_what_training_respects(self) -> Self:
        for name, drawn in DRAWN.items():
            if getattr(self.simulation, name) != getattr(STANDARD, name):
                raise ValueError(f"simulation.{name} is drawn anew for each scan; set scenes.{drawn} instead")
        if self.second == self.simulation.tip:
            raise ValueError(f"second: {self.second} is the first tip already (simulation.tip); take another")
        return self

    @property
    def second_simulation(self) -> SimulationOptions:
        """The grid and the cantilever of `simulation` under the second tip as its preset has it."""
        first = dict.fromkeys(("probe", "length", "radial_stiffness"))
        return self.simulation.model_copy(update={**first, "tip": self.second})
