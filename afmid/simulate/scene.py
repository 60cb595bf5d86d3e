"""Scene: one simulation, a molecule under a tip on a grid of tip positions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.simulate.potential import Potential
from afmid.simulate.tip import Tip


@dataclass(frozen=True, eq=False)
class Scene:
    """A molecule, a tip, and where the tip goes.

    Attributes:
        molecule: in the frame of x, y and z.
        tip: the tip.
        x, y: lateral positions (Å) of the tip base, (X,) and (Y,).
        z: heights (Å) of the unrelaxed probe, (Z,), descending in equal steps or not.
        potential: in place of the molecule's point charges, in the frame of x, y and z.

    Raises:
        DataError: axes of the wrong shape or order.
    """

    molecule: Molecule
    tip: Tip
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    potential: Potential | None = None

    def __post_init__(self) -> None:
        for name in ("x", "y", "z"):
            axis = np.asarray(getattr(self, name), np.float64)
            if axis.ndim != 1 or not len(axis) or not np.isfinite(axis).all():
                raise DataError(f"{name} must be a list of finite numbers, has shape {axis.shape}")
            object.__setattr__(self, name, axis)
        if not (np.diff(self.z) < 0).all():
            raise DataError("z must descend: the tip comes from far to near")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        return len(self.x), len(self.y), len(self.z)


def shared_shape(scenes: Sequence[Scene]) -> tuple[int, int, int]:
    """Return the shape (X, Y, Z) of the grids of scenes that are simulated together.

    Raises:
        DataError: they differ.
    """
    shapes = {scene.shape for scene in scenes}
    if len(shapes) != 1:
        raise DataError("the scenes of a batch need grids of one shape")
    return shapes.pop()
