"""The molecule pack: all molecules of a training run in one npz of concatenated arrays.

Coordinates are kept in 0.001 Å about each conformer's centre, charges in 0.0001 e, bond orders in halves, so that
200,000 molecules take some 60 MB. A training process reads it with NumPy alone.
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, Field

from afmid.errors import DataError
from afmid.io import npz
from afmid.io.meta import parse_meta, write_meta
from afmid.io.stream import opened, source_of, write_bytes
from afmid.molecule import SYMBOLS, Molecule
from afmid.text import line

SCHEMA = "afmid.pack/1"
POSITION_UNIT = 1e-3  # Å
CHARGE_UNIT = 1e-4  # e
ORDER_UNIT = 0.5
MAX_ATOMS = 255  # of a conformer: bonds are pairs of uint8
MAX_NAME = 80  # characters
MAX_BYTES = 4 * 2**30
_DTYPES = {
    "numbers": np.uint8,
    "positions": np.int16,
    "charges": np.int16,
    "bonds": np.uint8,
    "orders": np.uint8,
    "atom_offsets": np.int64,
    "bond_offsets": np.int64,
    "molecule_index": np.int64,
    "pressed": np.uint8,
}
_WORDS = ("smiles", "source", "split", "name")
_FILE_NAMES = {"molecule_index": "molecule"}


@dataclass(frozen=True, eq=False)
class MoleculePack:
    """Conformers of many molecules. A atoms, E bonds, C conformers, M molecules.

    Attributes:
        numbers: atomic numbers, uint8 (A,).
        positions: int16 (A, 3), 0.001 Å, about the conformer's centre.
        charges: int16 (A,), 0.0001 e.
        bonds: uint8 (E, 2), indices within the conformer; orders: uint8 (E,), in halves (3 is aromatic).
        atom_offsets, bond_offsets: int64 (C + 1,); conformer i has the atoms atom_offsets[i]:atom_offsets[i + 1].
        molecule_index: int64 (C,), the molecule of each conformer; the file calls it `molecule`.
        pressed: uint8 (C,), 1 for a conformer as a surface would hold it, 0 for a free one.
        smiles, source, split, name: of each molecule, (M,); "" for one without a name.
        meta: JSON-able record: seed, counts of failures by reason, …

    Raises:
        DataError: arrays that do not belong together.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[np.int16]
    charges: NDArray[np.int16]
    bonds: NDArray[np.uint8]
    orders: NDArray[np.uint8]
    atom_offsets: NDArray[np.int64]
    bond_offsets: NDArray[np.int64]
    molecule_index: NDArray[np.int64]
    pressed: NDArray[np.uint8]
    smiles: tuple[str, ...]
    source: tuple[str, ...]
    split: tuple[str, ...]
    name: tuple[str, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            array = getattr(self, name)
            if array.dtype != dtype:
                raise DataError(f"{name} must be {np.dtype(dtype)}, is {array.dtype}")
        atoms, bonds, conformers = self.numbers.size, self.orders.size, self.molecule_index.size
        shapes = {
            "numbers": (atoms,),
            "positions": (atoms, 3),
            "charges": (atoms,),
            "orders": (bonds,),
            "bonds": (bonds, 2),
            "molecule_index": (conformers,),
            "pressed": (conformers,),
            "atom_offsets": (conformers + 1,),
            "bond_offsets": (conformers + 1,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise DataError(f"{name} needs shape {shape}, has {getattr(self, name).shape}")
        counts = {name: len(getattr(self, name)) for name in _WORDS}
        if len(set(counts.values())) > 1:
            raise DataError(f"smiles, source, split and name must have one entry each per molecule; they have {counts}")
        self._check_indices()

    def _check_indices(self) -> None:
        ends = ((self.atom_offsets, len(self.numbers), 1), (self.bond_offsets, len(self.orders), 0))
        for offsets, end, least in ends:
            rising = offsets.min() >= 0 and offsets.max() <= end and (np.diff(offsets) >= least).all()
            if offsets[0] != 0 or offsets[-1] != end or not rising:
                raise DataError(f"offsets must rise from 0 to {end}")
        if not np.isin(self.molecule_index, np.arange(len(self.smiles))).all():
            raise DataError(f"molecule_index must name one of the {len(self.smiles)} molecules")
        if (self.pressed > 1).any():
            raise DataError("pressed must be 0 or 1")
        atoms = np.repeat(np.diff(self.atom_offsets), np.diff(self.bond_offsets))
        if (self.bonds >= atoms[:, None]).any():
            raise DataError("a bond joins atoms that its conformer does not have")
        if (self.bonds[:, 0] == self.bonds[:, 1]).any():
            raise DataError("a bond joins an atom to itself")
        if not np.isin(self.numbers, np.arange(1, len(SYMBOLS))).all():
            raise DataError("numbers holds an element that does not exist")

    def __len__(self) -> int:
        """Return the number of conformers."""
        return len(self.molecule_index)

    def molecule(self, conformer: int) -> Molecule:
        """Return a conformer, its centre at the origin."""
        atoms = slice(*self.atom_offsets[conformer : conformer + 2].tolist())
        bonds = slice(*self.bond_offsets[conformer : conformer + 2].tolist())
        return Molecule(
            numbers=self.numbers[atoms].astype(np.int64),
            positions=self.positions[atoms].astype(np.float64) * POSITION_UNIT,
            charges=self.charges[atoms].astype(np.float64) * CHARGE_UNIT,
            bonds=self.bonds[bonds].astype(np.int64),
            orders=self.orders[bonds].astype(np.float64) * ORDER_UNIT,
            name=self.name[self.molecule_index[conformer]],
            smiles=self.smiles[self.molecule_index[conformer]],
        )

    def conformers(self, split: str) -> NDArray[np.int64]:
        """Return the conformers of a split ("train", "val", "test", or another that the pack has), ascending."""
        return np.flatnonzero((np.array(self.split) == split)[self.molecule_index])

    def taken(self, molecules: Sequence[int]) -> Self:
        """Return the pack of some of the molecules, in the order of this one."""
        of_molecules = np.isin(np.arange(len(self.smiles)), molecules)
        of_conformers = of_molecules[self.molecule_index]
        atoms, bonds = np.diff(self.atom_offsets), np.diff(self.bond_offsets)
        of_atoms, of_bonds = np.repeat(of_conformers, atoms), np.repeat(of_conformers, bonds)
        words: dict[str, Any] = {name: tuple(itertools.compress(getattr(self, name), of_molecules)) for name in _WORDS}
        return replace(
            self,
            numbers=self.numbers[of_atoms],
            positions=self.positions[of_atoms],
            charges=self.charges[of_atoms],
            bonds=self.bonds[of_bonds],
            orders=self.orders[of_bonds],
            atom_offsets=_offsets(atoms[of_conformers]),
            bond_offsets=_offsets(bonds[of_conformers]),
            molecule_index=(np.cumsum(of_molecules) - 1)[self.molecule_index[of_conformers]],
            pressed=self.pressed[of_conformers],
            **words,
        )

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the pack's content (names and meta apart): two packs with the same hash train alike."""
        digest = hashlib.sha256()
        for name in (*_DTYPES, *(word for word in _WORDS if word != "name")):
            value = getattr(self, name)
            data = "\n".join(value).encode() if isinstance(value, tuple) else value.tobytes()
            digest.update(f"{name} {len(data)}\n".encode() + data)
        return digest.hexdigest()


class _Meta(BaseModel, extra="forbid"):
    schema_: Literal["afmid.pack/1"] = Field(alias="schema")
    meta: dict[str, Any] = Field(default_factory=dict)


def read_pack(path: Path | str) -> MoleculePack:
    """Return the pack in a npz file, or from stdin for "-".

    Raises:
        DataError: no such file, damaged, or no pack; the message names the file.
    """
    source = source_of(path)
    try:
        with opened(path, MAX_BYTES) as stream:
            magic = stream.read(len(npz.ZIP))
            stream.seek(0)
            if magic != npz.ZIP:
                raise DataError("is no molecule pack; make one with: afmid prepare")
            arrays = npz.read_npz(stream, MAX_BYTES)
        return _from_arrays(arrays)
    except DataError as error:
        raise DataError(f"{source}: {error}") from error


def write_pack(pack: MoleculePack, path: Path | str) -> None:
    """Write `pack` as a npz file, or to stdout for "-"; the same pack gives the same bytes.

    Raises:
        DataError: the place cannot be written to, or `pack.meta` holds what JSON cannot.
    """
    arrays: dict[str, NDArray[Any]] = {_FILE_NAMES.get(name, name): getattr(pack, name) for name in _DTYPES}
    for name in _WORDS:
        words = getattr(pack, name)
        arrays[name] = np.array([word.encode() for word in words], np.bytes_) if words else np.empty(0, "S1")
    arrays["meta"] = write_meta(_Meta(schema="afmid.pack/1", meta=dict(pack.meta)))
    write_bytes(npz.npz_bytes(arrays, compress=True), path)


def concatenate(
    molecules: Sequence[Sequence[Molecule]],
    source: Sequence[str],
    split: Sequence[str],
    meta: Mapping[str, Any],
    pressed: Sequence[bool] = (),
) -> MoleculePack:
    """Return the pack of `molecules`, each given by its conformers, with the source and split of each.

    Args:
        pressed: of each conformer; none is where this is empty.

    Raises:
        DataError: a molecule that the pack's integers cannot hold; see `misfit`.
    """
    conformers = [conformer for group in molecules for conformer in group]
    for conformer in conformers:
        if problem := misfit(conformer):
            raise DataError(f"{conformer.smiles or conformer.name}: {problem}")
    return MoleculePack(
        numbers=_joined([c.numbers for c in conformers], np.uint8, (0,)),
        positions=_joined([_centred(c) / POSITION_UNIT for c in conformers], np.int16, (0, 3)),
        charges=_joined([c.charges / CHARGE_UNIT for c in conformers], np.int16, (0,)),
        bonds=_joined([c.bonds for c in conformers], np.uint8, (0, 2)),
        orders=_joined([c.orders / ORDER_UNIT for c in conformers], np.uint8, (0,)),
        atom_offsets=_offsets([len(c) for c in conformers]),
        bond_offsets=_offsets([len(c.bonds) for c in conformers]),
        molecule_index=np.repeat(np.arange(len(molecules), dtype=np.int64), [len(group) for group in molecules]),
        pressed=np.array(pressed or [False] * len(conformers), np.uint8),
        smiles=tuple(group[0].smiles for group in molecules),
        source=tuple(source),
        split=tuple(split),
        name=tuple(line(group[0].name, MAX_NAME) for group in molecules),
        meta=meta,
    )


def joined(packs: Sequence[MoleculePack], meta: Mapping[str, Any]) -> MoleculePack:
    """Return one pack of the molecules of several, of one at least, in their order."""
    arrays: dict[str, Any] = {name: np.concatenate([getattr(pack, name) for pack in packs]) for name in _DTYPES}
    first = np.cumsum([0, *(len(pack.smiles) for pack in packs)])
    arrays["atom_offsets"] = _offsets(np.concatenate([np.diff(pack.atom_offsets) for pack in packs]))
    arrays["bond_offsets"] = _offsets(np.concatenate([np.diff(pack.bond_offsets) for pack in packs]))
    arrays["molecule_index"] += np.repeat(first[:-1], [len(pack) for pack in packs])
    words: Any = {name: tuple(word for pack in packs for word in getattr(pack, name)) for name in _WORDS}
    return MoleculePack(**arrays, **words, meta=meta)


def misfit(molecule: Molecule) -> str:
    """Return why a pack cannot hold `molecule`, or "" where it can."""
    if len(molecule) > MAX_ATOMS:
        return f"more than {MAX_ATOMS} atoms"
    limit = np.iinfo(np.int16).max
    if np.abs(_centred(molecule)).max() > limit * POSITION_UNIT:
        return f"reaches more than {limit * POSITION_UNIT:.1f} Å from its centre"
    if np.abs(molecule.charges).max() > limit * CHARGE_UNIT:
        return f"a charge beyond {limit * CHARGE_UNIT:.1f} e"
    return ""


def _joined(parts: list[NDArray[Any]], dtype: type, empty: tuple[int, ...]) -> NDArray[Any]:
    joined: NDArray[Any] = np.rint(np.concatenate([np.empty(empty), *parts])).astype(dtype)
    return joined


def _offsets(counts: ArrayLike) -> NDArray[np.int64]:
    offsets: NDArray[np.int64] = np.cumsum(np.append(0, counts), dtype=np.int64)
    return offsets


def _centred(molecule: Molecule) -> NDArray[np.float64]:
    centred: NDArray[np.float64] = molecule.positions - molecule.positions.mean(0)
    return centred


def _from_arrays(arrays: Mapping[str, NDArray[Any]]) -> MoleculePack:
    arrays = {"name": np.zeros(np.size(arrays.get("smiles", ())), "S1"), **arrays}  # older packs name no molecules
    wanted = [_FILE_NAMES.get(name, name) for name in (*_DTYPES, *_WORDS, "meta")]
    if missing := [name for name in wanted if name not in arrays]:
        raise DataError(f"is no molecule pack: it has no array {missing[0]!r}")
    meta = parse_meta(_Meta, arrays["meta"], SCHEMA)
    content: dict[str, Any] = {name: arrays[_FILE_NAMES.get(name, name)] for name in _DTYPES}
    content |= {name: _words(arrays[name], name) for name in _WORDS}
    content["name"] = tuple(line(name, MAX_NAME) for name in content["name"])
    return MoleculePack(**content, meta=meta.meta)


def _words(array: NDArray[Any], name: str) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind != "S":
        raise DataError(f"{name} must be a list of byte strings, is {array.dtype} with shape {array.shape}")
    try:
        return tuple(word.decode() for word in array.tolist())
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8") from error
