"""The opencl engine: the law of `reference` summed directly over the atoms, by OpenCL kernels, on a CPU or a GPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyopencl as cl
import torch
from numpy.typing import ArrayLike, NDArray

from afmid.errors import DataError, PluginError
from afmid.offers import Images
from afmid.simulate.batch import Batch
from afmid.simulate.opencl_device import choose, open_device
from afmid.simulate.opencl_kernels import LATTICE, Kernels, record
from afmid.simulate.scene import Scene
from afmid.simulate.splines import Splines


class OpenCLSimulator:
    """Simulates batches of scenes on an OpenCL device, in single precision.

    Args:
        device: cpu, or cuda or mps for a GPU.
        name: part of the name of an OpenCL device, of any kind; "" takes the first that works.

    Raises:
        ImportError: pyopencl is not installed.
        PluginError: no OpenCL device of that kind works; the message says why.
        UsageError: no OpenCL device bears that name.
    """

    def __init__(self, device: str = "cpu", name: str = ""):
        self.found = choose(device, name)
        with self._in_words():
            self.kernels = Kernels(open_device(self.found))

    def images(
        self, scenes: Sequence[Scene], weights: ArrayLike = (1.0,), progress: Callable[[int], None] | None = None
    ) -> Images:
        """Return images as the Simulator protocol says, on the CPU.

        Raises:
            DataError: scenes whose grids differ in shape, fewer heights than weights, or an element without parameters.
        """
        weights = np.asarray(weights, np.float64)
        batch = Batch.of(scenes, torch.float64)
        heights = batch.shape[2]
        if heights < len(weights):
            raise DataError(f"one oscillation spans {len(weights)} heights; there are {heights}")
        atoms, counts = batch.atoms().movedim(0, -1).numpy(), batch.counts.numpy()
        lattices, coefficients = _lattices(batch.splines) if batch.splines else (None, None)
        with self._in_words():
            values, unsettled = self.kernels.scan(
                record(np.concatenate([atoms[b, :count] for b, count in enumerate(counts)])),
                np.cumsum([0, *counts]), batch.springs().numpy().T, batch.x.numpy(), batch.y.numpy(), batch.z.numpy(),
                weights, lattices, coefficients, progress,
            )  # fmt: skip
        shape = (len(batch), *batch.shape[:2])
        return Images(torch.from_numpy(values).reshape(*shape, -1), torch.from_numpy(unsettled).reshape(shape))

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except cl.Error as error:
            reason = " ".join(str(error).split())[:200]
            raise PluginError(f"OpenCL on {self.found.name} fails: {reason}; try: --engine torch") from error


def _lattices(splines: Splines) -> tuple[NDArray[np.void], NDArray[np.float32]]:
    """Return what the kernels read of splines: a record for each scene, and the coefficients of all."""
    lattices = np.zeros(len(splines.start), LATTICE)
    lattices["start"] = splines.start[:, 0].numpy()
    lattices["count"], lattices["base"] = splines.counts[..., 0].T.numpy(), splines.base[..., 0].T.numpy()
    lattices["offset"] = splines.offset[..., 0].T.numpy()
    lattices["steps"] = splines.steps[..., 0].permute(2, 1, 0).numpy()
    return lattices, splines.coefficients.numpy().astype(np.float32)
