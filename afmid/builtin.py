"""What the core itself offers, through the same hooks as any plugin."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, Field

from afmid.hookspecs import hookimpl
from afmid.offers import Augment, Augmentation, Engine, Metric, NoOptions, Score, Simulator


class TorchOptions(BaseModel, extra="forbid"):
    precision: Literal["single", "double"] = Field("single", description="floating-point precision")
    compile: bool = Field(False, description="compile the kernel first: slow to start, faster for many scans")
    chunk: int = Field(0, ge=0, description="atom-pixel pairs held at once; 0 chooses for the device")


def _load_numpy(options: NoOptions, device: str) -> Simulator:
    from afmid.simulate.reference import ReferenceSimulator

    return ReferenceSimulator()


class OpenCLOptions(BaseModel, extra="forbid"):
    device: str = Field("", description="part of an OpenCL device's name: see afmid doctor; else the first that works")


def _load_opencl(options: OpenCLOptions, device: str) -> Simulator:
    from afmid.simulate.opencl_engine import OpenCLSimulator

    return OpenCLSimulator(device, options.device)


def _load_torch(options: TorchOptions, device: str) -> Simulator:
    from afmid.simulate.torch_engine import TorchSimulator

    return TorchSimulator(device, **options.model_dump())


@hookimpl
def afmid_simulate() -> list[Engine]:
    return [
        Engine(
            name="numpy",
            summary="The reference law in float64; slow, on the CPU alone.",
            load=_load_numpy,
            priority=-1,
            devices=("cpu",),
        ),
        Engine(
            name="opencl",
            summary="Direct sums over the atoms and Newton's method, in OpenCL; the fastest on a CPU.",
            options=OpenCLOptions,
            load=_load_opencl,
            priority=1,
            devices=("cpu",),
        ),
        Engine(
            name="torch",
            summary="Direct sums over the atoms and Newton's method, in batches.",
            options=TorchOptions,
            load=_load_torch,
        ),
    ]


class NoiseOptions(BaseModel, extra="forbid"):
    level: float = Field(0.1, ge=0, le=10, description="width of the noise, fraction of each image's range")
    spread: Literal["drawn", "fixed"] = Field(
        "drawn", description="drawn: a level |N(0, level)| for each sample, near zero included; fixed: the level itself"
    )


class PlaneShiftOptions(BaseModel, extra="forbid"):
    step: float = Field(
        0.02, ge=0, le=0.5, description="longest shift between neighbouring images, fraction of the shorter side"
    )
    total: float = Field(0.04, ge=0, le=0.5, description="longest shift of any image, fraction of the shorter side")


class CutoutOptions(BaseModel, extra="forbid"):
    tries: int = Field(5, ge=0, le=100, description="rectangles tried in each image")
    probability: float = Field(0.2, ge=0, le=1, description="probability that a try blanks its rectangle")
    smallest: float = Field(0.001, ge=0, le=1, description="smallest area of a rectangle, fraction of the image")
    largest: float = Field(0.01, ge=0, le=1, description="largest area of a rectangle, fraction of the image")
    aspect: float = Field(10.0, ge=1, le=100, description="widest ratio of a rectangle's sides, either way round")


class BackgroundOptions(BaseModel, extra="forbid"):
    strength: float = Field(
        0.3, ge=0, le=10, description="largest height of the plane, corner to corner, fraction of each image's range"
    )


def _augment(kind: str) -> Callable[[BaseModel], Augment]:
    """Return a `load` that makes the class `kind` of afmid.data.augment from its options, field by field."""

    def load(options: BaseModel) -> Augment:
        from afmid.data import augment

        made: Augment = getattr(augment, kind)(**options.model_dump())
        return made

    return load


def _score(name: str) -> Callable[[], Score]:
    """Return a `load` that gives the function `name` of afmid.evaluate.metrics."""

    def load() -> Score:
        from afmid.evaluate import metrics

        score: Score = getattr(metrics, name)
        return score

    return load


@hookimpl
def afmid_augment() -> list[Augmentation]:
    return [
        Augmentation(
            name="normalise",
            summary="Give each image zero mean and unit variance.",
            load=_augment("Normalise"),
        ),
        Augmentation(
            name="noise",
            summary="Add uniform white noise.",
            options=NoiseOptions,
            load=_augment("Noise"),
        ),
        Augmentation(
            name="plane-shift",
            summary="Let the images drift sideways against each other, away from the closest.",
            options=PlaneShiftOptions,
            load=_augment("PlaneShift"),
        ),
        Augmentation(
            name="cutout",
            summary="Blank small rectangles: they take the image's mean.",
            options=CutoutOptions,
            load=_augment("Cutout"),
        ),
        Augmentation(
            name="background",
            summary="Add a tilted plane, as from a sample that does not lie flat.",
            options=BackgroundOptions,
            load=_augment("Background"),
        ),
    ]


@hookimpl
def afmid_evaluate() -> list[Metric]:
    return [
        Metric(name="atoms", summary="Precision, recall and position error of the atoms.", load=_score("atoms")),
        Metric(name="elements", summary="Share of the matched atoms whose element is right.", load=_score("elements")),
        Metric(name="bonds", summary="Precision and recall of the bonds between matched atoms.", load=_score("bonds")),
        Metric(name="molecule", summary="Whether the answer is the true molecule (InChIKey).", load=_score("molecule")),
    ]
