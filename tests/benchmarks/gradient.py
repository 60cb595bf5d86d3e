"""What the gradient of the torch engine costs: process seconds of one scan on one thread, forward and backward."""

import argparse
import time
from dataclasses import replace

import cases
import numpy as np
import report
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
    rows = []
    for name in options.engines:
        runs = [_run(engines[name], batch, settings) for _ in range(options.repeat + 1)][1:]  # the first one warms up
        forward, wanted, backward = np.median(runs, axis=0)
        rows.append([name, f"{forward:.3f}", f"{wanted:.3f}", f"{backward:.3f}", f"{backward / forward:.2f}"])
    header = ["", "forward", "forward, gradients wanted", "backward", "backward / forward"]
    about = f"{options.molecule}, {len(scene.molecule)} atoms, {grid} forces; seconds of one thread"
    text = f"{about}, median of {options.repeat}:\n\n{report.table(header, rows)}"
    report.publish(options, "gradient", [dict(zip(header, row, strict=True)) for row in rows], text, "")


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, timed=False)
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
