"""What the gradient of the torch engine costs: process seconds of one scan on one thread, forward and backward."""

import argparse
import sys
import time
from dataclasses import replace

import cases
import numpy as np
import torch

from afmid.simulate import SimulationOptions
from afmid.simulate.batch import Batch
from afmid.simulate.torch_engine import TorchSimulator

LEAVES = ("positions", "charges", "charge", "quadrupole", "lateral_stiffness", "length")


def main() -> None:
    options = _arguments()
    torch.set_num_threads(1)
    settings = SimulationOptions(pixels=options.pixels)
    (scene,) = cases.scenes(cases.molecule(options.molecule), settings, 1)
    batch = Batch.of([scene])
    engines = {"eager": TorchSimulator(), "compiled": TorchSimulator(compile=True)}
    grid = " × ".join(map(str, scene.shape))
    lines = [
        f"{options.molecule}, {len(scene.molecule)} atoms, {grid} forces: process seconds, median of {options.repeat}",
        "",
        "| | forward | forward, gradients wanted | backward | backward / forward, gradients wanted |",
        "|---|---|---|---|---|",
    ]
    for name in options.engines:
        runs = [_run(engines[name], batch, settings) for _ in range(options.repeat + 1)][1:]  # the first one warms up
        forward, wanted, backward = np.median(runs, axis=0)
        lines.append(f"| {name} | {forward:.3f} | {wanted:.3f} | {backward:.3f} | {backward / wanted:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--molecule", default="PTCDA", choices=cases.MOLECULES, help="which molecule")
    parser.add_argument("--pixels", type=int, default=64, help="along each side")
    parser.add_argument("--repeat", type=int, default=9, help="how many times")
    both = ["eager", "compiled"]
    parser.add_argument("--engines", nargs="+", default=both, choices=both, help="which")
    return parser.parse_args()


def _run(engine: TorchSimulator, batch: Batch, settings: SimulationOptions) -> tuple[float, float, float]:
    """Return the process seconds of the forward pass, the same with gradients wanted, and the backward pass."""
    weights = settings.weights()
    wanted = replace(batch, **{name: getattr(batch, name).clone().requires_grad_() for name in LEAVES})
    times = [time.process_time()]
    engine.batch_images(batch, weights)
    times.append(time.process_time())
    loss = engine.batch_images(wanted, weights).values.square().sum()
    times.append(time.process_time())
    loss.backward()
    times.append(time.process_time())
    forward, forward_wanted, backward = np.diff(times)
    return forward, forward_wanted, backward


if __name__ == "__main__":
    main()
