"""Scene: one simulation, a molecule under a tip on a grid of tip positions. Scenes: many of them as columns."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError
from afmid.molecule import SYMBOLS, Molecule, Molecules
from afmid.simulate.potential import Potential
from afmid.simulate.tip import Tip

OF_TIPS = ("charge", "quadrupole", "length", "lateral_stiffness", "radial_stiffness")  # one number each


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


@dataclass(frozen=True, eq=False)
class Scenes(Sequence[Scene]):
    """Scenes whose grids have one shape, as columns: an index gives a Scene, a slice Scenes.

    B scenes, at most N atoms and E bonds; smaller molecules are filled up with zeros, see `Molecules`.

    Attributes:
        numbers, positions, charges, bonds, orders: of the molecules: (B, N), (B, N, 3), (B, N), (B, E, 2), (B, E).
        probe: atomic numbers of the probes, int64 (B,).
        charge, quadrupole, length, lateral_stiffness, radial_stiffness: of the tips (B,), as in `Tip`.
        offset: of the tips (B, 2), Å.
        x, y: lateral positions of the tip base (B, X) and (B, Y), Å.
        z: heights of the unrelaxed probe (B, Z), Å, descending.
        names, smiles: of the molecules (B,), or empty.
        potentials: (B,), each a Potential or None; or empty.

    Raises:
        DataError: columns that do not belong together, heights that do not descend, or a tip that cannot be.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    charges: NDArray[np.float64]
    bonds: NDArray[np.int64]
    orders: NDArray[np.float64]
    probe: NDArray[np.int64]
    charge: NDArray[np.float64]
    quadrupole: NDArray[np.float64]
    length: NDArray[np.float64]
    offset: NDArray[np.float64]
    lateral_stiffness: NDArray[np.float64]
    radial_stiffness: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    z: NDArray[np.float64]
    names: Sequence[str] = ()
    smiles: Sequence[str] = ()
    potentials: Sequence[Potential | None] = ()

    def __post_init__(self) -> None:
        if self.numbers.ndim != 2 or self.orders.ndim != 2:
            raise DataError(f"scenes need numbers (B, N) and orders (B, E), have {self.numbers.shape} and so on")
        (count, atoms), bonds = self.numbers.shape, self.orders.shape[1]
        shapes = {"positions": (count, atoms, 3), "charges": (count, atoms), "bonds": (count, bonds, 2)}
        shapes |= {"orders": (count, bonds), "offset": (count, 2)} | dict.fromkeys(("probe", *OF_TIPS), (count,))
        shapes |= {name: (count, *getattr(self, name).shape[1:2]) for name in "xyz"}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise DataError(f"{name} of {count} scenes need shape {shape}, have {getattr(self, name).shape}")
        for name in ("names", "smiles", "potentials"):
            if len(getattr(self, name)) not in (0, count):
                raise DataError(f"{count} scenes have {len(getattr(self, name))} {name}")
        if not (self.numbers[:, :1] > 0).all() or (np.diff(self.numbers > 0) & (self.numbers[:, 1:] > 0)).any():
            raise DataError("each scene needs an atom, and what fills it up comes last")
        if not (np.diff(self.z) < 0).all():
            raise DataError("z must descend: the tip comes from far to near")
        if not (np.hypot(*self.offset.T) < self.length).all():
            raise DataError("the probe's offset must be shorter than the tip")
        if not (np.minimum(self.lateral_stiffness, self.radial_stiffness) > 0).all():
            raise DataError("the lateral and the radial stiffness must be positive")

    @classmethod
    def of(cls, scenes: Sequence[Scene]) -> "Scenes":
        """Return scenes as columns; those that are so already, as they are.

        Raises:
            DataError: grids that differ in shape.
        """
        if isinstance(scenes, Scenes):
            return scenes
        shared_shape(scenes)
        molecules, tips = [scene.molecule for scene in scenes], [scene.tip for scene in scenes]
        potentials = tuple(scene.potential for scene in scenes)
        columns: dict[str, Any] = Molecules.of(molecules)._asdict()
        columns |= {name: np.array([getattr(tip, name) for tip in tips], np.float64) for name in ("offset", *OF_TIPS)}
        columns |= {name: np.stack([getattr(scene, name) for scene in scenes]) for name in "xyz"}
        return cls(
            **columns,
            probe=np.array([tip.number for tip in tips]),
            names=tuple(molecule.name for molecule in molecules),
            smiles=tuple(molecule.smiles for molecule in molecules),
            potentials=potentials if any(potentials) else (),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, which: int) -> Scene: ...

    @overload
    def __getitem__(self, which: slice) -> "Scenes": ...

    def __getitem__(self, which: int | slice) -> "Scene | Scenes":
        """Return a scene, checked; or some as columns, no wider than they need to be."""
        if not isinstance(which, slice):
            return self._scene(range(len(self))[which])
        part: dict[str, Any] = {field.name: getattr(self, field.name)[which] for field in fields(self)}
        for names, content in (("numbers positions charges", part["numbers"]), ("bonds orders", part["orders"])):
            width = int((content > 0).sum(1).max(initial=0))
            part |= {name: part[name][:, :width] for name in names.split()}
        return Scenes(**part)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Atoms of each scene (B,)."""
        return np.asarray(np.count_nonzero(self.numbers, axis=1))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) of each scene's grid."""
        return self.x.shape[1], self.y.shape[1], self.z.shape[1]

    def tip(self, index: int) -> Tip:
        """Return the tip of a scene."""
        x, y = self.offset[index].tolist()
        values = {name: float(getattr(self, name)[index]) for name in OF_TIPS}
        return Tip(probe=SYMBOLS[self.probe[index]], offset=(x, y), **values)

    def _scene(self, index: int) -> Scene:
        atoms, bonds = self.numbers[index] > 0, self.orders[index] > 0
        molecule = Molecule(
            self.numbers[index, atoms], self.positions[index, atoms], self.charges[index, atoms],
            self.bonds[index, bonds], self.orders[index, bonds],
            name=self.names[index] if self.names else "", smiles=self.smiles[index] if self.smiles else "",
        )  # fmt: skip
        potential = self.potentials[index] if self.potentials else None
        return Scene(molecule, self.tip(index), self.x[index], self.y[index], self.z[index], potential)


def shared_shape(scenes: Sequence[Scene]) -> tuple[int, int, int]:
    """Return the shape (X, Y, Z) of the grids of scenes that are simulated together.

    Raises:
        DataError: they differ.
    """
    if isinstance(scenes, Scenes):
        return scenes.shape
    shapes = {scene.shape for scene in scenes}
    if len(shapes) != 1:
        raise DataError("the scenes of a batch need grids of one shape")
    return shapes.pop()
