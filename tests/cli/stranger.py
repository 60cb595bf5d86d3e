"""A plugin for the tests of the commands: quick methods, a trainer that learns a straight line, a metric."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from afmid import Atom, DataError, Identification, Identifier, Map, Metric, Trainer, hookimpl
from afmid.recipe import Recipe, Step, augmentations
from afmid.simulate import SimulationOptions


class Options(BaseModel, extra="forbid"):
    element: str = Field("C", description="element to answer with")
    confidence: float = Field(0.6, ge=0, le=1, description="how sure to be")
    fault: Literal["none", "bug", "peek", "single"] = Field("none", description="what to do wrong")


class Brightest:
    """An atom stands where the nearest image is brightest."""

    def __init__(self, name: str):
        self.name = name

    def identify(self, scans: Any, options: Options, prefix: Any = None) -> Identification:
        scan, image = scans[0], scans[0].df[:, :, -1]
        if image.size < 100:
            raise DataError(f"{self.name} needs 100 pixels, the scan has {image.size}; scan a wider window")
        if options.fault == "bug":
            raise ZeroDivisionError("a bug")
        if options.fault == "peek" and (scan.truth or scan.meta or scan.source):
            raise DataError(f"{self.name} has seen the truth")
        if options.fault == "single" and len(scans) > 1:
            raise DataError(f"{self.name} has seen {' and '.join(scan.tip for scan in scans)}")
        i, j = np.unravel_index(image.argmax(), image.shape)
        atom = Atom(options.element, float(scan.x[i]), float(scan.y[j]), 0.0, options.confidence)
        return Identification(
            self.name, "1.0", scan.x, scan.y, source=scan.source, atoms=(atom,), maps={"nearest": Map(image, "Hz")},
            meta={"notes": ["one image of\nseveral was used"]},
        )  # fmt: skip


class Silent:
    """Says nothing."""

    def identify(self, scans: Any, options: Any, prefix: Any = None) -> Identification:
        return Identification("silent", "1.0", scans[0].x, scans[0].y)


class Mapper:
    """Gives a map of what the CO tip shows and nothing else, and says which tips there are."""

    def __init__(self, name: str):
        self.name = name

    def identify(self, scans: Any, options: Any, prefix: Any = None) -> Identification:
        scan = next((scan for scan in scans if scan.tip == "CO"), scans[0])
        tips, image = [scan.tip for scan in scans], Map(scan.df[:, :, -1], "Hz")
        return Identification(
            self.name, "1.0", scan.x, scan.y, source=scan.source, maps={"nearest": image}, meta={"tips": tips}
        )


class LineRecipe(Recipe):
    """A short run on small scans."""

    steps: int = Field(60, ge=1, description="optimizer steps")
    batch: int = Field(4, ge=1, description="scans in a step")
    validate_every: int = Field(20, ge=1, description="steps between validations")
    validation_scans: int = Field(4, ge=1, description="scans in a validation")
    simulation: SimulationOptions = Field(
        SimulationOptions(size=6, pixels=8, heights=2), description="the scans' grid, tip and cantilever"
    )
    augment: tuple[Step, ...] = Field(augmentations("noise", "normalise"), description="augmentations in their order")
    pause: float = Field(0.0, ge=0, description="wait before each step, s")


def _load_line(recipe: LineRecipe, device: str) -> Any:
    import time

    import torch

    class Line:
        """Learns y = 2 x + 1, where x is the first pixel."""

        def __init__(self) -> None:
            torch.manual_seed(recipe.seed)
            self.model = torch.nn.Linear(1, 1).to(device)

        def maps(self, examples: Any) -> Any:
            return examples.df.new_empty(len(examples), 0, *examples.df.shape[1:3])

        def loss(self, model: Any, examples: Any) -> Any:
            time.sleep(recipe.pause)
            x = examples.df.flatten(1)[:, :1]
            return (model(x) - 2 * x - 1).square().mean()

        def validate(self, model: Any, batches: Any) -> dict[str, float]:
            return {"loss": float(sum(self.loss(model, examples) for examples in batches))}

        def picture(self, model: Any, examples: Any, path: Path) -> None:
            from matplotlib.figure import Figure

            Figure().savefig(path, dpi=10)

        def metadata(self, model: Any, batches: Any) -> dict[str, str]:
            return {"method": "line", "architecture": "line", "version": "1.0", "config": json.dumps({})}

    return Line()


def _count(answer: Identification, truth: Any) -> dict[str, float]:
    return {"missing_atoms": len(truth) - len(answer.atoms)}


@hookimpl
def afmid_identify() -> list[Identifier]:
    return [
        Identifier(
            name="brightest", summary="The brightest pixel.", options=Options, load=lambda *_: Brightest("brightest"),
            priority=5,
        ),
        Identifier(name="silent", summary="Says nothing.", load=lambda *_: Silent(), gives=("smiles",)),
        Identifier(name="mapper", summary="Maps alone.", load=lambda *_: Mapper("mapper")),
        Identifier(name="blind", summary="Finds no atoms.", load=lambda *_: Mapper("blind"), gives=("maps", "atoms")),
        Identifier(
            name="weighty", summary="Needs weights.", load=lambda *_: Silent(),
            weights_index=Path(__file__).with_name("no-such-weights.toml"),
        ),
    ]  # fmt: skip


@hookimpl
def afmid_train() -> list[Trainer]:
    return [Trainer(name="line", summary="Learn a straight line.", options=LineRecipe, load=_load_line)]


@hookimpl
def afmid_evaluate() -> list[Metric]:
    return [Metric(name="missing", summary="How many atoms were not found.", load=lambda: _count)]
