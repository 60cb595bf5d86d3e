"""Examples: scans and the molecules that they show, as tensors; what a method's loss is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from afmid.errors import DataError
from afmid.molecule import Molecule
from afmid.scan import Scan


@dataclass(frozen=True, eq=False)
class Examples:
    """B scans on the training device, and what is under them. N atoms and E bonds in the largest molecule.

    Attributes:
        df: the stacks, augmented (B, X, Y, Z), Z from far to near; Hz before a step that normalises.
        maps: the task's images of the molecules (B, C, X, Y), moved with the stacks.
        numbers: atomic numbers, int64 (B, N), 0 where a smaller molecule is filled up.
        positions: of the atoms (B, N, 3), Å, in the frame of x and y; z is 0 at the topmost atom.
        charges: of the atoms (B, N), e.
        bonds: pairs of atoms, int64 (B, E, 2).
        orders: of the bonds (B, E): 1, 1.5, 2, 3; 0 where a molecule with fewer bonds is filled up.
        x, y: pixel positions (B, X) and (B, Y), Å, evenly spaced.
        z: heights of the images (B, Z), Å, above the topmost atom where that is known, as in Scan; a step that takes
            images away or changes their heights leaves them as they were.
        tilt: where the probe rests beside the tip's base (B, 2), Å; NaN where that is not known.
        second: the stacks of the second tip over the same pixels, augmented (B, X, Y, Z), with heights of their own;
            None where the recipe asks for no second tip.
    """

    df: Tensor
    maps: Tensor
    numbers: Tensor
    positions: Tensor
    charges: Tensor
    bonds: Tensor
    orders: Tensor
    x: Tensor
    y: Tensor
    z: Tensor
    tilt: Tensor
    second: Tensor | None = None

    @classmethod
    def of(cls, scan: Scan, device: str = "cpu") -> Self:
        """Return a scan that holds its truth as a batch of one, without maps.

        Raises:
            DataError: it does not hold the truth.
        """
        if scan.truth is None:
            raise DataError(f"{scan.source or 'the scan'}: does not hold the true molecule")
        truth = scan.truth.topmost_at_zero()

        def batch(values: ArrayLike, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(np.asarray(values)).to(device, dtype)[None]

        return cls(
            df=batch(scan.df),
            maps=torch.empty(1, 0, *scan.df.shape[:2], device=device),
            numbers=batch(truth.numbers, torch.int64),
            positions=batch(truth.positions),
            charges=batch(truth.charges),
            bonds=batch(truth.bonds, torch.int64),
            orders=batch(truth.orders),
            x=batch(scan.x),
            y=batch(scan.y),
            z=batch(scan.z),
            tilt=torch.full((1, 2), torch.nan, device=device),
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return several batches as one; smaller molecules are filled up.

        Raises:
            DataError: some have a second tip's stacks and some have none.
        """
        if len({part.second is None for part in parts}) > 1:
            raise DataError("examples with a second tip and examples without one are no batch")
        atoms, bonds = (max(getattr(part, name).shape[1] for part in parts) for name in ("numbers", "orders"))
        sizes = {"numbers": atoms, "positions": atoms, "charges": atoms, "bonds": bonds, "orders": bonds}

        def filled(part: Self, name: str) -> Tensor:
            values: Tensor = getattr(part, name)
            more = sizes.get(name, values.shape[1]) - values.shape[1]
            return torch.cat([values, values.new_zeros(len(values), more, *values.shape[2:])], 1) if more else values

        names = [field.name for field in fields(cls) if getattr(parts[0], field.name) is not None]
        return cls(**{name: torch.cat([filled(part, name) for part in parts]) for name in names})

    def molecule(self, i: int) -> Molecule:
        """Return what is under scan `i`."""
        atoms, bonds = self.atoms[i].cpu().numpy(), (self.orders[i] > 0).cpu().numpy()
        return Molecule(
            numbers=self.numbers[i].cpu().numpy()[atoms],
            positions=self.positions[i].cpu().double().numpy()[atoms],
            charges=self.charges[i].cpu().double().numpy()[atoms],
            bonds=self.bonds[i].cpu().numpy()[bonds],
            orders=self.orders[i].cpu().double().numpy()[bonds],
        )

    def __len__(self) -> int:
        """Return the number of scans."""
        return len(self.df)

    def __getitem__(self, which: slice | NDArray[np.int64]) -> Self:
        """Return some of the examples, a slice of them or those of the numbers given."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[which] for name, column in columns.items() if column is not None})

    def to(self, device: str | torch.device) -> Self:
        """Return the examples on a device."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column.to(device) for name, column in columns.items() if column is not None})

    @property
    def atoms(self) -> Tensor:
        """Where there is an atom, bool (B, N)."""
        return self.numbers > 0

    @property
    def points(self) -> Tensor:
        """The atoms, the tip's base and its resting probe, in pixels from the centre of the first pixel (B, N + 2, 2).

        The base is taken to be above the first pixel: what moves with the images here is the way to the probe.
        """
        first, pixel = self._grid()
        tip = torch.stack([torch.zeros_like(self.tilt), self.tilt / pixel[:, 0]], 1)
        return torch.cat([(self.positions[..., :2] - first) / pixel, tip], 1)

    def moved(self, df: Tensor, maps: Tensor, points: Tensor, second: Tensor | None = None) -> Self:
        """Return the examples with other stacks and maps, and with what `points` names at other points."""
        first, pixel = self._grid()
        atoms, base, probe = points[:, :-2], points[:, -2], points[:, -1]
        lateral = torch.where(self.atoms[..., None], atoms * pixel + first, self.positions[..., :2])
        positions = torch.cat([lateral, self.positions[..., 2:]], -1)
        return replace(self, df=df, maps=maps, positions=positions, tilt=(probe - base) * pixel[:, 0], second=second)

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Return the centre of the first pixel and the pixels' size, each (B, 1, 2), Å."""
        first = torch.stack([self.x[:, 0], self.y[:, 0]], -1)
        last = torch.stack([self.x[:, -1], self.y[:, -1]], -1)
        count = last.new_tensor([self.x.shape[1] - 1, self.y.shape[1] - 1])
        return first[:, None], ((last - first) / count)[:, None]
