"""Times one engine in a process of its own, so that the peak of its memory is its own: `python measure.py job result`.

An engine is written "name" or "name:option=value,…" for one of afmid's; "ppafm:10" is ppafm with a force grid of 10
points per Å.
"""

import os
import pickle
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afmid.simulate import Scene

PATIENCE = 10  # a first call that takes this many times as long as calls are to be repeated remains the only one
Simulate = Callable[[Sequence[Scene]], NDArray[np.float32]]


@dataclass
class Job:
    """What to measure.

    Attributes:
        engine: which.
        scenes: one call's.
        weights: of the forces that make one image (K,).
        seconds: for how long calls are repeated; there is one at least.
        device: cpu, cuda or mps.
        sample: every so many pixels the images of the first scene are returned; 0 for none.
    """

    engine: str
    scenes: Sequence[Scene]
    weights: NDArray[np.float64]
    seconds: float
    device: str = "cpu"
    sample: int = 0


@dataclass
class Result:
    """What came out.

    Attributes:
        seconds: per scene, the median of the calls.
        cpu_seconds: per scene, of all threads together, the median.
        first: seconds to the end of the first call: imports, compilation (nothing is cached) and one call.
        memory: the process's peak, MB; gpu_memory: torch's peak on the device, MB.
        images, forces: of the sampled pixels; forces only of afmid's engines.
        opencl: the device, where the engine uses OpenCL.
    """

    seconds: float
    cpu_seconds: float
    first: float
    memory: float
    gpu_memory: float = 0.0
    images: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    forces: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    opencl: str = ""


def measure(job: Job) -> Result | None:
    """Return what a job costs, or None, with a word on stderr, where the engine fails."""
    environment = os.environ | {"PYOPENCL_NO_CACHE": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "job"), Path(folder, "result")
        paths[0].write_bytes(pickle.dumps(job))
        command = [sys.executable, __file__, *map(str, paths)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            sys.stderr.write(f"{job.engine} fails with status {done.returncode}: {reason}\n")
            return None
        result: Result = pickle.loads(paths[1].read_bytes())
        return result


def run(job: Job) -> Result:
    """Measure in this process."""
    start = time.perf_counter()
    simulate, forces = _load(job)
    wall: list[float] = []
    cpu: list[float] = []
    first = 0.0
    while not first or sum(wall) < job.seconds:
        clocks = time.perf_counter(), time.process_time()
        images = simulate(job.scenes)
        wall.append(time.perf_counter() - clocks[0])
        cpu.append(time.process_time() - clocks[1])
        if not first:
            first = time.perf_counter() - start
            if wall[0] < PATIENCE * job.seconds:
                wall, cpu = [], []  # it compiled, or warmed up
    count = len(job.scenes)
    result = Result(statistics.median(wall) / count, statistics.median(cpu) / count, first, _peak())
    if (torch := sys.modules.get("torch")) and job.device == "cuda":
        result.gpu_memory = torch.cuda.max_memory_allocated() / 1e6
    if job.sample:
        result.images = images[0, :: job.sample, :: job.sample].astype(np.float64)
        if forces:
            result.forces = forces(job.scenes[:1])[0, :: job.sample, :: job.sample].astype(np.float64)
    if "pyopencl" in sys.modules:
        from afmid.simulate.opencl_device import choose, open_device

        device = open_device(choose(job.device)).devices[0]
        result.opencl = f"{device.name.strip()} ({device.platform.name.strip()} {device.driver_version})"
    return result


def _load(job: Job) -> tuple[Simulate, Simulate | None]:
    """Return what makes Δf of scenes and, from afmid's engines, what makes forces."""
    name, _, options = job.engine.partition(":")
    if name == "ppafm":
        from ppafm_stacks import PpafmSimulator

        return PpafmSimulator(int(options), job.scenes[0], len(job.weights), job.device), None
    from afmid.simulate import load_engine

    _, simulator = load_engine(name, job.device, options.split(",") if options else ())

    def simulate(scenes: Sequence[Scene], weights: Any = job.weights) -> NDArray[np.float32]:
        return simulator.images(scenes, weights).values.cpu().numpy()

    return simulate, lambda scenes: simulate(scenes, (1.0,))


def _peak() -> float:
    """Return the peak of this process's memory, MB; ru_maxrss would count what the parent held before, on Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024) / 1e6


if __name__ == "__main__":
    from measure import run  # as a module, under whose name the job was pickled

    Path(sys.argv[2]).write_bytes(pickle.dumps(run(pickle.loads(Path(sys.argv[1]).read_bytes()))))
