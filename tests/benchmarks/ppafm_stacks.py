"""ppafm's OpenCL simulator on the scenes of the benchmarks, forces from point charges on a grid of its own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ppafm.ocl import field, oclUtils, relax
from ppafm.ocl.AFMulator import AFMulator

from afmid.simulate import Scene
from afmid.simulate.opencl_device import choose, open_device
from afmid.units import N_per_m


class _Environment(oclUtils.OCLEnvironment):
    """ppafm's environment on the device that afmid's opencl engine takes; ppafm itself takes the first it finds."""

    def __init__(self, device: str):
        import pyopencl as cl

        self.ctx = open_device(choose(device))
        self.queue = cl.CommandQueue(self.ctx)
        self.platform = self.ctx.devices[0].platform
        self.CL_PATH = Path(oclUtils.__file__).parent / "cl"


class PpafmSimulator:
    """Simulates scenes one after the other, as ppafm does.

    The scan window stays where it is and the molecules are moved into it, so that nothing is set up anew between two of
    them: ppafm's fastest way. The tip's charges lie on its axis: (c, −2c, c) at ±0.1 Å are the quadrupole 0.01 c.

    Args:
        density: points of the force grid per Å; ppafm's default is 10.
        scene: what the scenes to come share: tip, shape and steps.
        per_image: heights whose forces make one image, ppafm's df_steps.
        device: cpu, or cuda for a GPU.
    """

    def __init__(self, density: int, scene: Scene, per_image: int, device: str = "cpu"):
        environment = _Environment(device)
        field.init(environment)
        relax.init(environment)
        tip, dz = scene.tip, float(scene.z[0] - scene.z[1])
        top = float(scene.z[0] - scene.z[-1]) + tip.length
        if tip.charge and tip.quadrupole:
            raise ValueError("either a monopole or a quadrupole")
        c = tip.quadrupole / 0.01
        charges = [tip.charge, 0, 0, 0] if tip.charge else [c, -2 * c, c, 0]
        self.afmulator = AFMulator(
            pixPerAngstrome=density,
            scan_dim=scene.shape,
            scan_window=((0, 0, top - len(scene.z) * dz), (np.ptp(scene.x), np.ptp(scene.y), top)),
            iZPP=tip.number,
            Qs=charges,
            QZs=[0, 0, 0, 0] if tip.charge else [0.1, 0, -0.1, 0],
            df_steps=per_image,
            tipR0=[*tip.offset, tip.length],
            tipStiffness=[tip.lateral_stiffness / N_per_m] * 2 + [0.0, tip.radial_stiffness / N_per_m],
        )

    def __call__(self, scenes: Sequence[Scene]) -> NDArray[np.float32]:
        """Return Δf (B, X, Y, Z'), Hz."""
        return np.stack([
            self.afmulator(
                scene.molecule.positions - [scene.x[0], scene.y[0], scene.z[-1]],
                scene.molecule.numbers,
                scene.molecule.charges,
            )
            for scene in scenes
        ])  # fmt: skip
