"""Molecule: atoms, their charges, and the bonds between them; and many of them as columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from afmid.checks import finite, whole
from afmid.errors import DataError

LEARNT = (1, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53)  # H C N O F Si P S Cl Br I: the elements the methods are trained on
# at index Z; "X" stands for an atom whose element is not known
SYMBOLS = (  # noqa: SIM905 (shorter to read than 119 strings)
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr "
    "Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()


def _none() -> NDArray[np.float64]:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class Molecule:
    """Atoms and bonds, of one molecule or of several fragments.

    Attributes:
        numbers: atomic numbers, int64 (N,).
        positions: float64 (N, 3), Å.
        charges: point charges (e), float64 (N,); zero where none are given.
        bonds: pairs of atom indices, int64 (E, 2).
        orders: bond orders, float64 (E,): 1, 1.5 (aromatic), 2, 3; 1 where none are given.
        name: what people call it.
        smiles: its SMILES, or "" where unknown.

    Raises:
        DataError: on no atoms, shapes that do not belong together, values out of range, or numbers of another kind.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    charges: NDArray[np.float64] = field(default_factory=_none)
    bonds: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), np.int64))
    orders: NDArray[np.float64] = field(default_factory=_none)
    name: str = ""
    smiles: str = ""

    def __post_init__(self) -> None:
        numbers = whole(self.numbers, "numbers")
        if numbers.ndim != 1 or not len(numbers):
            raise DataError(f"a molecule needs at least one atom; numbers have shape {numbers.shape}")
        if bad := sorted({int(n) for n in numbers if not 1 <= n < len(SYMBOLS)}):
            raise DataError(f"no element has the atomic number {bad[0]}")
        bonds = whole(self.bonds, "bonds")
        bonds = bonds if bonds.size else bonds.reshape(0, 2)
        charges, orders = finite(self.charges, "charges"), finite(self.orders, "orders")
        if bonds.ndim != 2 or bonds.shape[1] != 2:
            raise DataError(f"bonds need shape (E, 2), have {bonds.shape}")
        arrays = {
            "numbers": numbers,
            "positions": finite(self.positions, "positions"),
            "charges": charges if charges.size else np.zeros(len(numbers)),
            "bonds": bonds,
            "orders": orders if orders.size else np.ones(len(bonds)),
        }
        n = len(numbers)
        for name, shape in (("positions", (n, 3)), ("charges", (n,)), ("orders", (len(bonds),))):
            if arrays[name].shape != shape:
                raise DataError(f"{name} need shape {shape}, have {arrays[name].shape}")
        if len(bonds) and (bonds.min() < 0 or bonds.max() >= n or (bonds[:, 0] == bonds[:, 1]).any()):
            raise DataError(f"bonds must join two different atoms of 0 … {n - 1}")
        for name, array in arrays.items():
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Element symbols, one per atom."""
        return [SYMBOLS[n] for n in self.numbers]

    def moved(self, shift: NDArray[np.float64] | tuple[float, float, float]) -> "Molecule":
        """Return the molecule shifted by `shift` (3,), Å."""
        return replace(self, positions=self.positions + np.asarray(shift))

    def turned(self, rotation: NDArray[np.float64]) -> "Molecule":
        """Return the molecule with `rotation` (3, 3) applied to its positions."""
        return replace(self, positions=self.positions @ rotation.T)

    def topmost_at_zero(self) -> "Molecule":
        """Return the molecule shifted in z so that its topmost atom's centre lies at z = 0."""
        return self.moved((0.0, 0.0, -float(self.positions[:, 2].max())))


class Molecules(NamedTuple):
    """Several molecules as columns, the smaller ones filled up with zeros. B molecules, at most N atoms and E bonds.

    Attributes:
        numbers: atomic numbers, int64 (B, N); 0 where there is no atom.
        positions: float64 (B, N, 3), Å.
        charges: point charges (e), float64 (B, N).
        bonds: pairs of atom indices, int64 (B, E, 2).
        orders: bond orders, float64 (B, E); 0 where there is no bond.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    charges: NDArray[np.float64]
    bonds: NDArray[np.int64]
    orders: NDArray[np.float64]

    @classmethod
    def of(cls, molecules: Sequence[Molecule]) -> "Molecules":
        """Return molecules side by side."""
        return cls(**{name: _filled([getattr(m, name) for m in molecules]) for name in cls._fields})


def _filled(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays (n, …) that differ in length as one (B, N, …), the shorter ones filled up with zeros."""
    out = np.zeros((len(rows), max(map(len, rows)), *rows[0].shape[1:]), rows[0].dtype)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def flat_rotation(positions: NDArray[np.float64], atoms: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the rotation (…, 3, 3) that lays positions flat: most extended along x, least along z; no mirror.

    Args:
        positions: of one molecule or of many (…, N, 3).
        atoms: where there is an atom (…, N); by default everywhere.
    """
    weights = np.ones((*positions.shape[:-1], 1)) if atoms is None else atoms[..., None].astype(np.float64)
    middle = (weights * positions).sum(-2, keepdims=True) / weights.sum(-2, keepdims=True)
    centred = weights * (positions - middle)
    _, axes = np.linalg.eigh(centred.swapaxes(-1, -2) @ centred)  # ascending
    x, y = axes[..., 2], axes[..., 1]
    return np.stack([x, y, np.cross(x, y)], -2)
