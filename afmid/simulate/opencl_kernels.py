"""The OpenCL kernels: built for a device, run on arrays. Forces, units and signs as in `reference`."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl as cl
from numpy.typing import ArrayLike, NDArray

from afmid.errors import DataError
from afmid.simulate import newton
from afmid.simulate.reference import FLOOR

FILES = ("lanes", "sample", "potential", "springs", "newton", "scan")  # in the order in which they build on each other
LAUNCH = 2**29  # atom-pixel-height triples computed at a stretch, between which progress is told
GROUP = 64  # work items that a GPU runs together
LATTICE = np.dtype([  # `lattice` of kernels/potential.cl
    ("start", "i4"), ("count", "3i4"), ("base", "3i4"), ("unused", "i4"),
    ("offset", "3f4"), ("steps", "(3, 3)f4"), ("unused_too", "4f4"),
])  # fmt: skip


def record(atoms: ArrayLike) -> NDArray[np.float32]:
    """Return what the kernels read of atoms (N, 8) from their coefficients (N, 7): see `Batch.atoms`."""
    atoms = np.asarray(atoms, np.float64)
    return np.column_stack([atoms, -8 * atoms[:, 3]]).astype(np.float32)


class Kernels:
    """The kernels on one device; each variant is built when it is first needed."""

    def __init__(self, context: cl.Context):
        self.context = context
        self.queue = cl.CommandQueue(context)
        (device,) = context.devices
        width = device.native_vector_width_float
        self.lanes = width if device.type & cl.device_type.CPU and width in (2, 4, 8, 16) else 1
        self.local_memory = device.local_mem_size
        self._built: dict[tuple[int | str, ...], cl.Kernel] = {}

    def scan(
        self,
        atoms: NDArray[np.float32], first: ArrayLike, springs: ArrayLike, x: ArrayLike, y: ArrayLike, z: ArrayLike,
        weights: ArrayLike,
        lattices: NDArray[np.void] | None = None,
        coefficients: NDArray[np.float32] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:  # fmt: skip
        """Return images (B, X·Y, Z') and at how many heights of each pixel the probe did not settle (B, X·Y).

        Args:
            atoms: of all scenes, one after the other, (N, 8): see `record`.
            first: the first atom of each scene, and their number at the end, (B + 1,).
            springs: (B, 6): see `Batch.springs`.
            x, y, z: (B, X), (B, Y), (B, Z), Å: lateral positions of the tip base, heights of the unrelaxed probe.
            weights: (K,): see `Simulator.images`; Z' = Z − K + 1.
            lattices, coefficients: of the scenes' potentials, (B,) of LATTICE and (M,), where they have some.
            progress: called with the number of pixels finished since.

        Raises:
            DataError: too many images.
        """
        x, y, z, weights = (np.ascontiguousarray(array, np.float32) for array in (x, y, z, weights))
        scenes, pixels, heights = len(x), x.shape[1] * y.shape[1], z.shape[1]
        count = heights - len(weights) + 1
        values, unsettled = np.empty((scenes, pixels, count), np.float32), np.empty((scenes, pixels), np.int32)
        if lattices is None or coefficients is None:
            lattices, coefficients = np.zeros(1, LATTICE), np.zeros(1, np.float32)
        terms = {"monopole": atoms[:, 5].any(), "quadrupole": atoms[:, 6].any(), "potential": coefficients.any()}
        lanes, group = self._block(count)
        kernel = self._kernel(lanes, *(name for name, there in terms.items() if there))
        inputs = [
            self._input(array)
            for array in (atoms, np.asarray(first, np.int32), np.asarray(springs, np.float32), lattices, coefficients,
                          x, y, z, weights)
        ]  # fmt: skip
        flags = cl.mem_flags.WRITE_ONLY | cl.mem_flags.USE_HOST_PTR
        outputs = [cl.Buffer(self.context, flags, hostbuf=array) for array in (values, unsettled)]
        sizes, ends = (x.shape[1], y.shape[1], heights, len(weights)), newton.goal(weights, z)
        scratch = cl.LocalMemory(4 * count * lanes * group)
        kernel.set_args(
            *inputs, *map(np.int32, sizes), *map(np.float32, ends), *outputs, scratch,  # type: ignore[arg-type]
        )  # fmt: skip

        blocks = math.ceil(pixels / lanes / group) * group
        each = LAUNCH // max(1, len(atoms) * heights * lanes * group) * group or group
        for start in range(0, blocks, each):
            part = min(each, blocks - start)
            cl.enqueue_nd_range_kernel(self.queue, kernel, (part, scenes), (group, 1), (start, 0))
            self.queue.finish()
            if progress:
                progress(scenes * (min((start + part) * lanes, pixels) - start * lanes))
        for array, buffer in zip((values, unsettled), outputs, strict=True):
            cl.enqueue_copy(self.queue, array, buffer)
        return values, unsettled

    def _input(self, array: NDArray[Any]) -> cl.Buffer:
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        return cl.Buffer(self.context, flags, hostbuf=np.ascontiguousarray(array))

    def _block(self, images: int) -> tuple[int, int]:
        """Return how many pixels a work item takes, and how many work items a group, for their images to find room.

        Raises:
            DataError: too many images.
        """
        room = self.local_memory // (4 * images)
        if not room:
            raise DataError(f"{images} images at once are more than OpenCL has room for; take another engine")
        lanes = min(self.lanes, 2 ** (room.bit_length() - 1))
        return lanes, 1 if lanes > 1 else min(GROUP, room)

    def _kernel(self, lanes: int, *terms: str) -> cl.Kernel:
        """Return the kernel with those terms of the law that are not zero."""
        if (lanes, *terms) not in self._built:
            constants = {name: value for name, value in vars(newton).items() if name.isupper()}
            constants |= {"FLOOR": FLOOR, "LANES": lanes} | {term.upper(): 1 for term in terms}
            options = [f"-D{name}={value}{'f' * isinstance(value, float)}" for name, value in constants.items()]
            folder = Path(__file__).parent / "kernels"
            source = "\n".join((folder / f"{name}.cl").read_text(encoding="utf-8") for name in FILES)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", cl.CompilerWarning)  # "done" is no reason to worry
                self._built[lanes, *terms] = cl.Program(self.context, source).build([*options, "-cl-mad-enable"]).scan
        return self._built[lanes, *terms]
