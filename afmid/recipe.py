"""The numbers that every training run depends on."""

from pydantic import BaseModel, Field


class Recipe(BaseModel, extra="forbid", frozen=True):
    """What every training run depends on; a method's recipe adds its own."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of weights, scans and noise")
    steps: int = Field(20_000, ge=1, le=10**9, description="optimizer steps")
    batch: int = Field(30, ge=1, le=4096, description="scans in a step")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="highest learning rate, after warm-up")
    warmup: int = Field(200, ge=0, description="steps over which the learning rate rises; it then falls as a cosine")
    average: float = Field(0.999, ge=0, lt=1, description="decay per step of the running average of the weights")
    validate_every: int = Field(500, ge=1, description="steps between validations")
    validation_scans: int = Field(60, ge=1, le=10_000, description="scans in a validation")
