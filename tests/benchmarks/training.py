"""What a training step is made of: scenes drawn, scans simulated and augmented, and the network fitted to them."""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import report
import torch

from afmid import Trainer
from afmid.chem import named_molecules
from afmid.data.feed import Feed, Simulated, open_feed
from afmid.data.prepare import prepare
from afmid.data.rows import Row
from afmid.data.scenes import draw_scenes
from afmid.plugins import installed, parse_options
from afmid.simulate.batch import Batch
from afmid.training import fit


def main() -> None:
    options = _arguments()
    smiles = list(named_molecules().values())[: options.molecules]
    rows = [Row(words, split=("val" if i % 10 == 9 else "train")) for i, words in enumerate(smiles)]
    started = time.perf_counter()
    *_, last = prepare(rows)
    prepared = time.perf_counter() - started
    assert last.pack is not None
    trainer = installed().get(Trainer, options.method)
    recipe = parse_options(trainer, [f"batch={options.batch}", f"steps={options.steps}", *options.set])
    task = trainer.load(recipe, options.device)
    feed = open_feed(last.pack, recipe, task.maps, options.device, installed(), options.engine)
    figures = {"prepare, molecules one after the other": len(rows) / prepared, **_parts(feed, options)}
    with tempfile.TemporaryDirectory() as folder:
        *_, progress = fit(task, feed, recipe, Path(folder))
    figures[f"train {options.method}, {recipe.reuse} steps for each scan"] = progress.rate
    table = report.table(["", "a second"], [[name, report.short(rate)] for name, rate in figures.items()])
    text = (
        f"{len(rows)} molecules that afmid knows by name; {options.batch} scans a step; "
        f"training waited for scans {100 * progress.waiting:.0f} % of the time:\n\n{table}"
    )
    report.publish(options, "training", [{**figures, "waiting": progress.waiting}], text, "")


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--method", default="descriptor", help="what is trained")
    parser.add_argument("--molecules", type=int, default=60, help="how many")
    parser.add_argument("--batch", type=int, default=16, help="scans in a step")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps")
    parser.add_argument("--engine", default="auto", help="what simulates")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    return parser.parse_args()


def _parts(feed: Feed, options: argparse.Namespace) -> dict[str, float]:
    """Return how many scans a second each part of a batch makes."""
    source, recipe = feed.source, feed.recipe
    assert isinstance(source, Simulated)
    rng, many = np.random.default_rng(0), 256
    conformers = rng.choice(source.pack.conformers("train"), many)
    examples = source.examples("train", options.batch, rng)
    with_maps = replace(examples, maps=feed.maps(examples))
    parts: dict[str, tuple[int, Callable[[], object]]] = {
        "draw scenes and pack them": (
            many, lambda: Batch.of(draw_scenes(source.pack, conformers, recipe.simulation, recipe.scenes, rng)),
        ),
        "draw and simulate": (options.batch, lambda: source.examples("train", options.batch, rng)),
        "the task's maps": (options.batch, lambda: feed.maps(examples)),
        "augment": (options.batch, lambda: feed.measured(with_maps, 0)),
    }  # fmt: skip
    return {name: count / min(_times(call, options)) for name, (count, call) in parts.items()}


def _times(call: Callable[[], object], options: argparse.Namespace) -> Iterator[float]:
    end = time.perf_counter() + options.seconds
    while True:
        started = time.perf_counter()
        call()
        if options.device == "cuda":
            torch.cuda.synchronize()
        yield time.perf_counter() - started
        if time.perf_counter() > end:
            return


if __name__ == "__main__":
    main()
