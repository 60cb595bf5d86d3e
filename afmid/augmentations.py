"""The core's augmentations: what each does, and what can be set of it. The steps themselves are in afmid.data.augment.

The published values are the defaults: of ASD-AFM (Alldritt et al., Sci. Adv. 6, eaay6913, 2020), ED-AFM (Oinonen et
al., ACS Nano 16, 89, 2022) and Graph-AFM (Oinonen et al., MRS Bull. 47, 895, 2022) for noise, plane shift, cut-outs,
background and heights; of Carracedo-Cosme and Pérez (npj Comput. Mater. 10, 19, 2024) for rotation, zoom, shift,
flips and shear. The default of tip-tilt is the 0.5 Å by which they let a probe 4 Å long hang aside. Line noise, blur
and drift have no published values: theirs look like measured scans.
"""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, Field

from afmid.offers import Augment, Augmentation, NoOptions


class NoiseOptions(BaseModel, extra="forbid", frozen=True):
    level: float = Field(0.1, ge=0, le=10, description="width of the noise, fraction of each image's range")
    spread: Literal["drawn", "fixed"] = Field(
        "drawn", description="drawn: a level |N(0, level)| for each sample, near zero included; fixed: the level itself"
    )
    distribution: Literal["uniform", "normal"] = Field(
        "uniform", description="uniform: from −½ to ½ of the width; normal: the width is the standard deviation"
    )


class LineNoiseOptions(BaseModel, extra="forbid", frozen=True):
    level: float = Field(
        0.03, ge=0, le=10,
        description="largest standard deviation of the lines' offsets, fraction of each image's range; drawn from 0",
    )  # fmt: skip


class BackgroundOptions(BaseModel, extra="forbid", frozen=True):
    strength: float = Field(
        0.3, ge=0, le=10, description="largest height of the plane, corner to corner, fraction of each image's range"
    )


class CutoutOptions(BaseModel, extra="forbid", frozen=True):
    tries: int = Field(5, ge=0, le=100, description="rectangles tried in each image")
    probability: float = Field(0.2, ge=0, le=1, description="probability that a try blanks its rectangle")
    smallest: float = Field(0.001, ge=0, le=1, description="smallest area of a rectangle, fraction of the image")
    largest: float = Field(0.01, ge=0, le=1, description="largest area of a rectangle, fraction of the image")
    aspect: float = Field(10.0, ge=1, le=100, description="widest ratio of a rectangle's sides, either way round")


class BlurOptions(BaseModel, extra="forbid", frozen=True):
    sigma: float = Field(1.5, ge=0, le=20, description="largest standard deviation of the blur, pixels; drawn from 0")


class TipHeightOptions(BaseModel, extra="forbid", frozen=True):
    higher: float = Field(
        2.5, ge=0, le=100, description="farthest that the tip goes up, images; 2.5 of 0.1 Å are the published 0.25 Å"
    )
    lower: float = Field(
        1.0, ge=0, le=10, description="farthest that the tip goes down, images; little, since forces soon grow steeply"
    )


class MissingHeightsOptions(BaseModel, extra="forbid", frozen=True):
    fewest: int = Field(4, ge=1, le=1000, description="fewest images that are kept")
    fill: Literal["interpolate", "repeat"] = Field(
        "interpolate",
        description="interpolate: images from anywhere, stretched over the stack; repeat: the closest images stay in "
        "place, and the farthest of them stands for all before it",
    )


class TipTiltOptions(BaseModel, extra="forbid", frozen=True):
    step: float = Field(
        0.1, ge=0, le=10,
        description="largest shift between neighbouring images, pixels: the tangent of the tip's tilt, times the step "
        "between images (Å), over the pixel size (Å); 0.1 is 7° at 0.1 Å and 0.125 Å",
    )  # fmt: skip


class PlaneShiftOptions(BaseModel, extra="forbid", frozen=True):
    step: float = Field(
        0.02, ge=0, le=0.5, description="longest shift between neighbouring images, fraction of the shorter side"
    )
    total: float = Field(0.04, ge=0, le=0.5, description="longest shift of any image, fraction of the shorter side")


class DriftOptions(BaseModel, extra="forbid", frozen=True):
    step: float = Field(
        0.004, ge=0, le=0.1,
        description="fastest drift, fraction of the shorter side while an image is taken; 0.004 makes 0.04 of ten",
    )  # fmt: skip


class ShearOptions(BaseModel, extra="forbid", frozen=True):
    degrees: float = Field(10.0, ge=0, le=60, description="largest angle of the shear, degrees")


class ZoomOptions(BaseModel, extra="forbid", frozen=True):
    fraction: float = Field(0.3, ge=0, le=0.9, description="largest change of size; 0.3 is from 70 % to 130 %")


class RotateOptions(BaseModel, extra="forbid", frozen=True):
    degrees: float = Field(180.0, ge=0, le=180, description="largest angle either way, degrees")


class ShiftOptions(BaseModel, extra="forbid", frozen=True):
    pixels: int = Field(20, ge=0, le=1000, description="farthest shift in any direction, pixels")


class FlipOptions(BaseModel, extra="forbid", frozen=True):
    mirror: bool = Field(True, description="mirror images too, which show a chiral molecule's other hand")


def _step(kind: str) -> Callable[[BaseModel], Augment]:
    """Return a `load` that makes the class `kind` of afmid.data.augment from its options."""

    def load(options: BaseModel) -> Augment:
        from afmid.data import augment

        made: Augment = getattr(augment, kind)(options)
        return made

    return load


def _load_normalise(options: NoOptions) -> Augment:
    from afmid.data.augment import Normalise

    return Normalise()


AUGMENTATIONS = [
    Augmentation(
        name="normalise",
        summary="Give each image zero mean and unit variance.",
        load=_load_normalise,
    ),
    Augmentation(
        name="noise",
        summary="Add white noise.",
        options=NoiseOptions,
        load=_step("Noise"),
    ),
    Augmentation(
        name="line-noise",
        summary="Offset each line of the scan: 1/f noise from line to line.",
        options=LineNoiseOptions,
        load=_step("LineNoise"),
    ),
    Augmentation(
        name="background",
        summary="Add a tilted plane, as from a sample that does not lie flat.",
        options=BackgroundOptions,
        load=_step("Background"),
    ),
    Augmentation(
        name="cutout",
        summary="Blank small rectangles: they take the image's mean.",
        options=CutoutOptions,
        load=_step("Cutout"),
    ),
    Augmentation(
        name="blur",
        summary="Smooth the images sideways.",
        options=BlurOptions,
        load=_step("Blur"),
    ),
    Augmentation(
        name="tip-height",
        summary="Take the stack higher or lower, between its images.",
        options=TipHeightOptions,
        load=_step("TipHeight"),
    ),
    Augmentation(
        name="missing-heights",
        summary="Keep some of the images, and fill the stack from them.",
        options=MissingHeightsOptions,
        load=_step("MissingHeights"),
    ),
    Augmentation(
        name="tip-tilt",
        summary="Let the tip come in at an angle: the higher an image, the farther it lies sideways.",
        options=TipTiltOptions,
        load=_step("TipTilt"),
    ),
    Augmentation(
        name="plane-shift",
        summary="Let the images drift sideways against each other, away from the closest.",
        options=PlaneShiftOptions,
        load=_step("PlaneShift"),
    ),
    Augmentation(
        name="drift",
        summary="Let the sample creep sideways during the scan, line by line.",
        options=DriftOptions,
        load=_step("Drift"),
    ),
    Augmentation(
        name="shear",
        summary="Shear the images, and leave the targets as they are.",
        options=ShearOptions,
        load=_step("Shear"),
    ),
    Augmentation(
        name="zoom",
        summary="Make images and targets larger or smaller.",
        options=ZoomOptions,
        load=_step("Zoom"),
    ),
    Augmentation(
        name="rotate",
        summary="Turn images and targets in their plane.",
        options=RotateOptions,
        load=_step("Rotate"),
    ),
    Augmentation(
        name="shift",
        summary="Move images and targets sideways.",
        options=ShiftOptions,
        load=_step("Shift"),
    ),
    Augmentation(
        name="flip",
        summary="Turn images and targets by quarters, and mirror them.",
        options=FlipOptions,
        load=_step("Flip"),
    ),
]
