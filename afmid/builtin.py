"""What the core itself offers, through the same hooks as any plugin."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, Field

from afmid.augmentations import AUGMENTATIONS
from afmid.hookspecs import hookimpl
from afmid.offers import Augmentation, Engine, Metric, NoOptions, Score, Simulator


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


def _score(name: str) -> Callable[[], Score]:
    """Return a `load` that gives the function `name` of afmid.evaluate.metrics."""

    def load() -> Score:
        from afmid.evaluate import metrics

        score: Score = getattr(metrics, name)
        return score

    return load


@hookimpl
def afmid_augment() -> list[Augmentation]:
    return AUGMENTATIONS


@hookimpl
def afmid_evaluate() -> list[Metric]:
    return [
        Metric(
            name="atoms",
            summary="Precision, recall and position error of the atoms.",
            load=_score("atoms"),
            needs=("atoms",),
            headline=(
                "atoms_visible_precision_within_35_pm",
                "atoms_visible_recall_within_35_pm",
                "atoms_visible_error_xy_mean_angstrom",
                "atoms_visible_error_z_mean_angstrom",
                "atoms_visible_nearest_xy_mean_angstrom",
            ),
        ),
        Metric(
            name="bonds",
            summary="Precision, recall and order of the bonds between matched atoms.",
            load=_score("bonds"),
            needs=("atoms", "bonds"),
            headline=("bonds_visible_precision", "bonds_visible_recall"),
        ),
        Metric(
            name="candidates",
            summary="Whether the true molecule is among the first candidates.",
            load=_score("candidates"),
            needs=("candidates",),
            headline=("candidates_top_1", "candidates_top_5", "candidates_top_10", "candidates_pool"),
        ),
        Metric(
            name="confidence",
            summary="Whether atoms and bonds are right as often as their confidence says.",
            load=_score("confidence"),
            needs=("atoms",),
            headline=("confidence_atoms_ece", "confidence_atoms_wrong_at_90"),
        ),
        Metric(
            name="depth",
            summary="Recall and position error of the atoms by their depth below the topmost one.",
            load=_score("depth"),
            needs=("atoms",),
            headline=("depth_0_to_20_pm_recall", "depth_over_80_pm_recall"),
        ),
        Metric(
            name="elements",
            summary="How often the elements of matched atoms are right.",
            load=_score("elements"),
            needs=("atoms", "elements"),
            headline=("elements_visible_accuracy", "elements_visible_accuracy_five_classes"),
        ),
        Metric(
            name="molecule",
            summary="Whether the answer's SMILES is the true molecule, and how like it is.",
            load=_score("molecule"),
            needs=("smiles",),
            headline=("molecule_exact", "molecule_formula", "molecule_tanimoto"),
        ),
    ]
