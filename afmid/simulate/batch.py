"""Scenes as tensors: what the engines compute from, and what gradients are taken with respect to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afmid.simulate.elements import lennard_jones
from afmid.simulate.scene import Scene, Scenes, shared_shape
from afmid.simulate.splines import Splines
from afmid.units import COULOMB

FAR = 1e3  # Å: where the atoms are that fill up the smaller molecules of a batch


@dataclass(frozen=True, eq=False)
class Batch:
    """Scenes whose grids have one shape, each in the frame of its own grid's centre so that single precision suffices.

    B scenes, N atoms in the largest; smaller molecules are filled up with atoms too far away to be felt.

    Attributes:
        centres: of the grids, in the scenes' own frames (B, 3), Å.
        counts: atoms of each scene (B,).
        positions: of the atoms (B, N, 3), Å.
        charges: of the atoms (B, N), e.
        radii, depths: Lennard-Jones parameters of the atoms (B, N), Å and eV.
        probe_radius, probe_depth: of the probe particle (B,), Å and eV.
        charge, quadrupole: of the probe particle (B,), e and e·Å².
        lateral_stiffness, radial_stiffness: of the springs (B,), eV/Å².
        length: of the tip (B,), Å.
        offset: lateral rest position of the probe (B, 2), Å.
        x, y: lateral positions of the tip base (B, X) and (B, Y), Å.
        z: heights of the unrelaxed probe (B, Z), Å, descending.
        splines: of the scenes' potentials, where there are some; their atoms have no charges here.
    """

    centres: Tensor
    counts: Tensor
    positions: Tensor
    charges: Tensor
    radii: Tensor
    depths: Tensor
    probe_radius: Tensor
    probe_depth: Tensor
    charge: Tensor
    quadrupole: Tensor
    lateral_stiffness: Tensor
    radial_stiffness: Tensor
    length: Tensor
    offset: Tensor
    x: Tensor
    y: Tensor
    z: Tensor
    splines: Splines | None = None

    @classmethod
    def of(
        cls, scenes: Sequence[Scene], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> "Batch":
        """Pack scenes.

        Raises:
            DataError: grids that differ in shape, or an element without Lennard-Jones parameters.
        """
        scenes = Scenes.of(scenes)
        atoms, centres = scenes.numbers > 0, np.stack([scenes.x.mean(1), scenes.y.mean(1), scenes.z.mean(1)], 1)
        radii, depths = np.ones(atoms.shape), np.full(atoms.shape, 1e-3)
        radii[atoms], depths[atoms] = lennard_jones(scenes.numbers[atoms])
        probe_radius, probe_depth = lennard_jones(scenes.probe)
        potentials = scenes.potentials
        bare = np.array([potential is None for potential in potentials] or [True] * len(scenes))
        splines = [potential.spline(scenes.tip(b)) if potential else None for b, potential in enumerate(potentials)]

        def tensor(values: NDArray[np.float64]) -> Tensor:
            return torch.tensor(values, dtype=dtype).to(device)  # a copy: gradients' steps must not move the scenes

        return cls(
            centres=tensor(centres),
            counts=torch.tensor(scenes.counts, dtype=torch.int32).to(device),
            positions=tensor(np.where(atoms[..., None], scenes.positions - centres[:, None], FAR)),
            charges=tensor(np.where(bare[:, None], scenes.charges, 0.0)),
            radii=tensor(radii),
            depths=tensor(depths),
            probe_radius=tensor(probe_radius),
            probe_depth=tensor(probe_depth),
            charge=tensor(scenes.charge),
            quadrupole=tensor(scenes.quadrupole),
            lateral_stiffness=tensor(scenes.lateral_stiffness),
            radial_stiffness=tensor(scenes.radial_stiffness),
            length=tensor(scenes.length),
            offset=tensor(scenes.offset),
            x=tensor(scenes.x - centres[:, :1]),
            y=tensor(scenes.y - centres[:, 1:2]),
            z=tensor(scenes.z - centres[:, 2:]),
            splines=Splines.of(splines, centres, dtype, device) if any(splines) else None,
        )

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.counts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(X, Y, Z) of each scene's grid."""
        return self.x.shape[1], self.y.shape[1], self.z.shape[1]

    def atoms(self) -> Tensor:
        """Return the pair law's coefficients (7, B, N): x, y, z, 6 C₆, 12 C₁₂, k_e q Q₀, k_e q Q."""
        reach6 = (self.radii + self.probe_radius[:, None]) ** 6
        c6 = 2 * torch.sqrt(self.depths * self.probe_depth[:, None]) * reach6
        charges = COULOMB * self.charges
        coefficients = (6 * c6, 6 * c6 * reach6, charges * self.charge[:, None], charges * self.quadrupole[:, None])
        return torch.stack([*self.positions.unbind(-1), *coefficients])

    def springs(self) -> Tensor:
        """Return the tip's springs (6, B): lateral and radial stiffness, length, and the rest position x, y, z."""
        x, y = self.offset.unbind(-1)
        z = -torch.sqrt(self.length**2 - x**2 - y**2)
        return torch.stack([self.lateral_stiffness, self.radial_stiffness, self.length, x, y, z])

    def pixels(self) -> Tensor:
        """Return x and y of the tip base (2, B, X·Y), x before y."""
        x, y = self.x[:, :, None], self.y[:, None, :]
        return torch.stack([x.expand(-1, -1, y.shape[2]), y.expand(-1, x.shape[1], -1)]).flatten(2)


def groups(scenes: Sequence[Scene], points: int) -> Iterator[Sequence[Scene]]:
    """Yield the scenes in groups of no more than `points` atom-pixel pairs, or one by one."""
    counts = scenes.counts if isinstance(scenes, Scenes) else np.array([len(scene.molecule) for scene in scenes])
    width, height, _ = shared_shape(scenes)
    start = largest = 0
    for end, size in enumerate((counts * width * height).tolist()):
        if end > start and max(largest, size) * (end + 1 - start) > points:
            yield scenes[start:end]
            start, largest = end, 0
        largest = max(largest, size)
    yield scenes[start:]
