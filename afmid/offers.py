"""What the hooks return: light descriptions, whose `load` imports the heavy libraries only when it is called."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from pydantic import BaseModel

from afmid.errors import PluginError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from afmid.data.examples import Examples
    from afmid.evaluate.figures import Figure
    from afmid.identification import Identification
    from afmid.molecule import Molecule, Molecules
    from afmid.scan import Scan
    from afmid.simulate import Scene

GIVES = ("smiles", "atoms", "elements", "bonds", "maps", "picture", "candidates", "fit")  # what an answer may hold


class NoOptions(BaseModel, extra="forbid"):
    """For offers that have nothing to set."""


class Images(NamedTuple):
    """What a simulator makes of scenes.

    Attributes:
        values: (B, X, Y, Z'), Z from far to near.
        unsettled: at how many heights of each pixel the probe did not come to rest, (B, X, Y): 0 where all is well.
    """

    values: "Tensor"
    unsettled: "Tensor"


class Simulator(Protocol):
    """What `Engine.load` returns."""

    def images(
        self, scenes: "Sequence[Scene]", weights: "ArrayLike" = (1.0,), progress: Callable[[int], None] | None = None
    ) -> Images:
        """Return one image per height: image i is Σ_k weights_k Fz_{i+k}, K weights make Z' = Z − K + 1 images.

        Fz (eV/Å, + is up) is the vertical sample force on the relaxed probe at the scenes' heights, from far to near.
        So the weights (1,) give the force itself, and `oscillation_weights` give Δf in Hz.

        Args:
            scenes: their grids share one shape.
            weights: (K,), from far to near.
            progress: called now and then with the number of pixels (X·Y of each scene) finished since.
        """


class Targets(NamedTuple):
    """What is aligned with the pixels of stacks.

    Attributes:
        maps: images of the molecules, (B, C, X, Y); C may be 0.
        points: where the atoms are, and in training the tip's base and its resting probe, in pixels along X and Y from
            the centre of the first pixel, (B, N, 2); N may be 0. NaN where a place is not known.
    """

    maps: "Tensor"
    points: "Tensor"


class Augment(Protocol):
    """What `Augmentation.load` returns."""

    def __call__(
        self, df: "Tensor", targets: Targets, generator: "torch.Generator"
    ) -> "tuple[Tensor, Targets]":
        """Return new stacks (B, X, Y, Z) and their targets, of the same shapes; change neither in place.

        A step that moves pixels moves the targets along. What is random comes from the generator alone, which may be of
        another device than the stacks; how much is drawn does not depend on the stacks' values.
        """


class Task(Protocol):
    """What `Trainer.load` returns: a network and its loss; the core brings the data and runs the loop."""

    model: "torch.nn.Module"

    def maps(self, examples: "Examples") -> "Tensor":
        """Return the images that the network is to predict, (B, C, X, Y), from the examples' atoms; C may be 0.

        The core augments them along with the stacks, and hands them to `loss` as `examples.maps`.
        """

    def loss(self, model: "torch.nn.Module", examples: "Examples") -> "Tensor | Mapping[str, Tensor]":
        """Return the loss of a batch, a scalar; or several, by the names of submodules of the model.

        Each of several moves the weights of its own submodule alone, as an adversarial pair of networks needs it.
        """

    def validate(self, model: "torch.nn.Module", batches: "Sequence[Examples]") -> dict[str, float]:
        """Return named figures on the validation examples, the same ones each time; lower "loss" is better."""

    def picture(self, model: "torch.nn.Module", examples: "Examples", path: Path) -> None:
        """Draw predictions on validation examples into the PNG file `path`."""

    def metadata(self, model: "torch.nn.Module", batches: "Sequence[Examples]") -> dict[str, str]:
        """Return what the file of this model's weights says of itself: method, architecture, version, config (JSON)."""


class Method(Protocol):
    """What `Identifier.load` returns."""

    def identify(self, scans: "Sequence[Scan]", options: Any, prefix: "Molecule | None" = None) -> "Identification":
        """Answer for scans of one sample, one per tip; `prefix` holds atoms already known."""


@runtime_checkable
class Renders(Protocol):
    """What a Method may be besides: one that can draw its maps of any molecule. Candidates are then matched to those.

    Attributes:
        rendered_maps: names of the maps that are worth it, as its answers have them.
    """

    rendered_maps: tuple[str, ...]

    def rendered(
        self, molecules: "Molecules", x: "NDArray[np.float64]", y: "NDArray[np.float64]", names: tuple[str, ...]
    ) -> "Tensor":
        """Return the maps of these names that scans of molecules (B) should give, (B, C, X, Y), float32, on the CPU.

        Args:
            molecules: with z up; their height makes no difference.
            x, y: pixels (X,) and (Y,), Å, evenly spaced.
            names: some of `rendered_maps`, C of them.

        Raises:
            DataError: an element that the maps do not know.
        """


class Score(Protocol):
    """What `Metric.load` returns."""

    def __call__(self, answer: "Identification", truth: "Molecule") -> "Mapping[str, Figure]":
        """Return named figures (the name says the unit); leave out a figure that does not apply.

        A number is averaged over the scans; Share, Samples, Confusion and Calls of afmid.evaluate.figures are pooled.
        """


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What every offer has.

    Attributes:
        name: lower-case letters, digits and hyphens; unique among offers of its kind.
        summary: one sentence.
        options: pydantic model with `extra="forbid"`; each field has a default, range and description with unit.
    """

    name: str
    summary: str
    options: type[BaseModel] = NoOptions

    def __post_init__(self) -> None:
        kind = type(self).__name__.lower()
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise PluginError(f"{kind} {self.name!r}: a name has lower-case letters, digits and hyphens")
        if self.options.model_config.get("extra") != "forbid":
            raise PluginError(f'{kind} {self.name!r}: its options need extra="forbid", so that a typing error is found')


@dataclass(frozen=True, kw_only=True)
class Engine(Offer):
    """Simulates: `load(options, device)` gives a Simulator.

    Attributes:
        priority: `--engine auto` takes the engine of the highest priority that loads,
        devices: among those that name the device. Asked for by name, an engine may serve others too.
    """

    load: Callable[[Any, str], Simulator]
    priority: int = 0
    devices: tuple[str, ...] = ("cpu", "cuda", "mps")


@dataclass(frozen=True, kw_only=True)
class Augmentation(Offer):
    """Makes simulated images look measured: `load(options)` gives an Augment."""

    load: Callable[[Any], Augment]


@dataclass(frozen=True, kw_only=True)
class Trainer(Offer):
    """Trains a method: `load(recipe, device)` gives a Task; `options` is an afmid.recipe.Recipe."""

    load: Callable[[Any, str], Task]


@dataclass(frozen=True, kw_only=True)
class Identifier(Offer):
    """Identifies: `load(weights, device)` gives a Method; `weights` is a safetensors file, or None where none is used.

    Attributes:
        weights_index: the plugin's weights.toml; its entry of the method's name is the default.
        priority: without `--method` the identifier that has weights and the highest priority answers.
        gives: what its answers hold where all goes well, such as ("maps", "atoms"): words of GIVES, which are fields of
            Identification, and "elements" where the atoms have theirs. An answer without atoms from a method that gives
            them is no confident answer, and its atoms count as missed; bonds from a method that does not give them are
            not judged.
    """

    load: Callable[[Path | None, str], Method]
    weights_index: Path | None = None
    priority: int = 0
    gives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_words(f"identifier {self.name!r}: gives", self.gives)


@dataclass(frozen=True, kw_only=True)
class Metric(Offer):
    """Judges an answer: `load()` gives a Score.

    Attributes:
        needs: of what a method `gives`, all that it must give to be judged; methods that do not say are judged.
        headline: the figures that a short table shows, by their names in a summary; all where none are named.
    """

    load: Callable[[], Score]
    needs: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_words(f"metric {self.name!r}: needs", self.needs)


def _check_words(where: str, words: tuple[str, ...]) -> None:
    if unknown := [word for word in words if word not in GIVES]:
        raise PluginError(f"{where} {unknown[0]!r}, which no answer has; the words are: {', '.join(GIVES)}")
