"""What a training run learns from: scans drawn and simulated as they are needed, or stored ones, made to look measured.

A batch depends on the recipe, its step and the process alone, and so does the validation: a run that was stopped goes
on with the batches that it would have had.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afmid.data.examples import Examples
from afmid.data.pack import MoleculePack
from afmid.data.resample import on_grid
from afmid.data.scan_set import ScanSet
from afmid.data.scenes import EDGE, UNEVEN, draw_amplitude, draw_scenes, under_second_tip
from afmid.errors import DataError, UsageError
from afmid.offers import Augment, Augmentation, Simulator, Targets
from afmid.plugins import checked
from afmid.recipe import Recipe, Step
from afmid.scan import Scan
from afmid.simulate.scan_simulation import SimulationOptions, load_engine, tops
from afmid.simulate.scene import Scenes

if TYPE_CHECKING:
    from afmid.plugins import Registry

log = logging.getLogger(__name__)

AMPLITUDES = 4  # different ones in a batch: an engine gives all scenes of a call the same
VALIDATION = 2**32  # draws of the training stay below, those of the validation begin here
MOST_CORRUPT = 100  # stored scans in a row that cannot be read
SIMULATED, AUGMENTED, MIXED = 0, 1, 2  # what a seed is for

Maps = Callable[[Examples], Tensor]


class Source(Protocol):
    """Where examples come from."""

    @property
    def sha256(self) -> str:
        """Of the data."""

    def examples(self, split: str, size: int, rng: np.random.Generator) -> Examples:
        """Return examples of a split as they come, without maps; what is drawn depends on `rng` alone."""


@dataclass(frozen=True)
class Simulated:
    """Scans of the molecules of a pack in drawn poses under drawn tips, simulated as they are needed.

    Attributes:
        pack: the molecules.
        recipe: the grid, and what poses and tips are drawn from.
        simulator: what `load_engine` returns.
        device: where the examples go.

    Raises:
        DataError: no molecules to train on, or none to validate with.
    """

    pack: MoleculePack
    recipe: Recipe
    simulator: Simulator
    device: str

    def __post_init__(self) -> None:
        for split in ("train", "val"):
            if not len(self.pack.conformers(split)):
                raise DataError(
                    f"none of the {len(self.pack)} molecules is in the split {split!r}, which training needs; give "
                    "more molecules (a longer list, a higher --limit), or name their splits in the list's column "
                    "'split'"
                )

    @property
    def sha256(self) -> str:
        """Of the pack."""
        return self.pack.sha256

    def examples(self, split: str, size: int, rng: np.random.Generator) -> Examples:
        """Return scans of drawn molecules; a few amplitudes share a batch."""
        pool = self.pack.conformers(split)
        groups = [
            self._simulated(part, pool, draw_amplitude(self.recipe.scenes, rng), rng)
            for part in np.array_split(rng.choice(pool, size), AMPLITUDES)
            if len(part)
        ]
        return Examples.joined(groups)

    @torch.no_grad()
    def _simulated(
        self, conformers: NDArray[np.int64], pool: NDArray[np.int64], amplitude: float, rng: np.random.Generator
    ) -> Examples:
        options = self.recipe.simulation.model_copy(update={"amplitude": amplitude})
        scenes = draw_scenes(self.pack, conformers, options, self.recipe.scenes, rng, pool)
        examples = _of_scenes(scenes, self._images(scenes, options))
        if not self.recipe.second:
            return examples
        options = self.recipe.second_simulation.model_copy(update={"amplitude": amplitude})
        others = under_second_tip(scenes, options, self.recipe.scenes, rng)
        return replace(examples, second=self._images(others, options))

    def _images(self, scenes: Scenes, options: SimulationOptions) -> Tensor:
        """Return the stacks of scenes (B, X, Y, Z), Hz."""
        df = self.simulator.images(scenes, options.weights()).values[..., -options.heights :]
        return df.to(self.device, torch.float32)


@dataclass(frozen=True)
class Stored:
    """Scans that were simulated before, of whatever kind, brought to the recipe's grid.

    Attributes:
        scans: with their molecules.
        recipe: the grid; what it draws else was drawn when they were made.
        device: where the examples go.

    Raises:
        DataError: no scans to train on, or none to validate with.
        UsageError: the recipe asks for a second tip, and each of these scans is of one.
    """

    scans: ScanSet
    recipe: Recipe
    device: str
    corrupt: set[int] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.recipe.second:
            raise UsageError(
                f"second={self.recipe.second}: stored scans come without those of a second tip, which are simulated "
                "from a molecule pack; give one as --data, or set second="
            )
        for split in ("train", "val"):
            if not len(self.scans.of_split(split)):
                raise DataError(
                    f"none of the {len(self.scans)} scans is in the split {split!r}, which training needs; it follows "
                    "from the molecules: give scans of more of them"
                )

    @property
    def sha256(self) -> str:
        """Of the set."""
        return self.scans.sha256

    def examples(self, split: str, size: int, rng: np.random.Generator) -> Examples:
        """Return drawn scans; another is drawn for each that cannot be read."""
        good = self._good(split, rng)
        return Examples.joined([self._example(next(good), rng) for _ in range(size)])

    def _good(self, split: str, rng: np.random.Generator) -> Iterator[Scan]:
        indices, failures = self.scans.of_split(split), 0
        while failures < MOST_CORRUPT:
            index = int(rng.choice(indices))
            try:
                scan = self.scans[index]
                if scan.truth is None:
                    raise DataError(f"{self.scans.names[index]}: does not hold the true molecule")
                if min(scan.df.shape[:2]) < 2:
                    raise DataError(f"{self.scans.names[index]}: holds no images, but lines or points")
            except DataError as error:
                failures += 1
                if index not in self.corrupt:
                    self.corrupt.add(index)
                    log.warning("left out: %s (so far %d of %d scans)", error, len(self.corrupt), len(self.scans))
                continue
            failures = 0
            yield scan
        raise DataError(f"{MOST_CORRUPT} scans in a row cannot be read; the last: {self.scans.names[index]}")

    def _example(self, scan: Scan, rng: np.random.Generator) -> Examples:
        """Return a part of a scan on the recipe's grid, anywhere in it, but with one of the topmost atoms in view."""
        grid = self.recipe.simulation
        axes = np.array([[scan.x[0], scan.x[-1]], [scan.y[0], scan.y[-1]]])
        room = np.maximum(np.ptp(axes, axis=1) * (1 + 1 / (np.array(scan.df.shape[:2]) - 1)) - grid.size, 0)
        centre = axes.mean(1) + rng.uniform(-0.5, 0.5, 2) * room
        if scan.truth is not None:
            ends, view = tops(scan.truth.numbers, scan.truth.positions[:, 2]), max(grid.size / 2 - EDGE, 0)
            beyond = scan.truth.positions[ends >= ends.max() - UNEVEN, :2] - centre
            beyond -= np.clip(beyond, -view, view)
            centre += beyond[np.square(beyond).sum(1).argmin()]
        scan = on_grid(scan, grid.size, grid.pixels, grid.heights, grid.step, (float(centre[0]), float(centre[1])))
        return Examples.of(scan, self.device)


@dataclass(frozen=True)
class Feed:
    """The batches of a training run and its validation.

    Attributes:
        source: where the scans come from.
        recipe: the run's.
        maps: the task's images of the examples' molecules.
        augment: the recipe's augmentations, each with the share of the scans that it is applied to.
        device: of the examples.
        rank, world: which process of how many this is; each takes an equal share of the recipe's batch.
    """

    source: Source
    recipe: Recipe
    maps: Maps
    augment: Sequence[tuple[Augment, float]]
    device: str
    rank: int = 0
    world: int = 1
    _pool: dict[int, Examples] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.recipe.batch % self.world:
            raise DataError(f"a batch of {self.recipe.batch} scans cannot be shared by {self.world} processes evenly")

    @property
    def sha256(self) -> str:
        """Of the data."""
        return self.source.sha256

    def batch(self, step: int) -> Examples:
        """Return this process' share of the examples of a step."""
        size, latest = self.recipe.batch // self.world, step // self.recipe.reuse
        draws = range(max(0, latest + 1 - self.recipe.pool), latest + 1)
        for draw in self._pool.keys() - set(draws):
            del self._pool[draw]
        for draw in draws:
            if draw not in self._pool:
                self._pool[draw] = self._examples("train", draw, size)
        if len(draws) == 1:
            return self.measured(self._pool[latest], step)
        mixed = np.random.default_rng(self._key(step, MIXED)).permutation(len(draws) * size)[:size]
        parts = [self._pool[draw][mixed[mixed // size == i] % size] for i, draw in enumerate(draws)]
        return self.measured(Examples.joined([part for part in parts if len(part)]), step)

    def validation(self) -> list[Examples]:
        """Return the validation's examples in batches: the same in any run and process."""
        size, count = self.recipe.batch, self.recipe.validation_scans
        return [
            self.measured(self._examples("val", VALIDATION + start, min(size, count - start)), VALIDATION + start)
            for start in range(0, count, size)
        ]

    def _examples(self, split: str, draw: int, size: int) -> Examples:
        examples = self.source.examples(split, size, np.random.default_rng(self._key(draw, SIMULATED)))
        with torch.no_grad():
            return replace(examples, maps=self.maps(examples))

    @torch.no_grad()
    def measured(self, examples: Examples, step: int) -> Examples:
        """Return examples as a microscope would bring them.

        A step that moves the targets moves the stacks of both tips alike; any other changes each in a way of its own.
        """
        seed = int(np.random.SeedSequence(self._key(step, AUGMENTED)).generate_state(1, np.uint64)[0])
        generator = torch.Generator(self.device).manual_seed(seed)
        df, targets, second = examples.df, Targets(examples.maps, examples.points), examples.second
        for augment, share in self.augment:
            start, before = generator.get_state(), targets
            df, targets = _changed(augment, share, df, before, generator)
            if second is not None:
                again = generator
                if any(new is not old for new, old in zip(targets, before, strict=True)):
                    again = torch.Generator(self.device).set_state(start)
                second, _ = _changed(augment, share, second, before, again)
        return examples.moved(df, *targets, second=second)

    def _key(self, draw: int, purpose: int) -> list[int]:
        return [self.recipe.seed, draw, purpose, 0 if draw >= VALIDATION else self.rank]


def open_feed(
    data: MoleculePack | ScanSet, recipe: Recipe, maps: Maps, device: str, registry: "Registry",
    engine: str = "auto", pairs: Sequence[str] = (), rank: int = 0, world: int = 1,
) -> Feed:  # fmt: skip
    """Return what a run learns from.

    Args:
        data: molecules, or scans of molecules.
        recipe: the run's.
        maps: see Feed.
        device: where the network is trained.
        registry: the plugins, for engines and augmentations.
        engine, pairs: what simulates, and its options: see `load_engine`.
        rank, world: see Feed.

    Raises:
        UsageError: no engine or augmentation of a name, or an option that it does not have.
        DataError: nothing to train on or to validate with.
    """
    augment = [(_loaded(step, registry), step.probability) for step in recipe.augment]
    source: Source
    if isinstance(data, ScanSet):
        source = Stored(data, recipe, device)
    else:
        source = Simulated(data, recipe, load_engine(engine, device, pairs, registry)[1], device)
    return Feed(source, recipe, maps, augment, device, rank, world)


def _loaded(step: Step, registry: "Registry") -> Augment:
    offer = registry.get(Augmentation, step.name)
    try:
        augment: Augment = registry.load(offer, checked(offer.options, step.options))
    except UsageError as error:
        raise UsageError(f"augment: {step.name}: {error}") from error
    return augment


def _of_scenes(scenes: Scenes, df: Tensor) -> Examples:
    def real(values: NDArray[np.float64]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=df.device)

    def whole(values: NDArray[np.int64]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=df.device)

    return Examples(
        df=df,
        maps=df.new_empty(len(df), 0, *df.shape[1:3]),
        numbers=whole(scenes.numbers),
        positions=real(scenes.positions),
        charges=real(scenes.charges),
        bonds=whole(scenes.bonds),
        orders=real(scenes.orders),
        x=real(scenes.x + scenes.offset[:, :1]),
        y=real(scenes.y + scenes.offset[:, 1:]),
        z=real(scenes.z[:, -df.shape[3] :]),
        tilt=real(scenes.offset),
    )


def _changed(
    augment: Augment, share: float, df: Tensor, targets: Targets, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """Return what a step makes of a share of the examples; of targets that it leaves alone, the very same tensors."""
    changed = augment(df, targets, generator)
    if share == 1:
        return changed
    chosen = torch.rand(len(df), generator=generator, device=generator.device) < share
    return _where(chosen, changed, (df, targets))


def _where(chosen: Tensor, new: tuple[Tensor, Targets], old: tuple[Tensor, Targets]) -> tuple[Tensor, Targets]:
    """Return what was changed of the `chosen` examples, bool (B,), and the others as they were."""

    def pick(changed: Tensor, before: Tensor) -> Tensor:
        if changed is before:
            return before
        return torch.where(chosen.to(before.device).view(-1, *[1] * (before.ndim - 1)), changed, before)

    return pick(new[0], old[0]), Targets(pick(new[1].maps, old[1].maps), pick(new[1].points, old[1].points))
