"""Identification as JSON (schema afmid.identification/1), xyz, sdf, and npz with the maps.

The JSON has stable keys that carry their unit, and says of each map its unit, range and shape. The npz holds the same
JSON as `meta`, and beside it x, y (Å), each map as `map_NAME`, and `picture`. In xyz an atom of unknown element is "X",
as ase reads it; in sdf it is "R", as
RDKit writes and reads it (ase reads no such sdf).
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from afmid.errors import DataError
from afmid.identification import Atom, Bond, Candidate, Identification, Map
from afmid.io import npz
from afmid.io.meta import parse_json, parse_meta, write_json, write_meta
from afmid.io.stream import opened, source_of, write_bytes
from afmid.molecule import SYMBOLS, Molecule

SCHEMA = "afmid.identification/1"
MAX_JSON_BYTES = 2**26


_Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
_Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


class _Atom(BaseModel, extra="forbid"):
    element: str | None
    x_angstrom: float
    y_angstrom: float
    z_angstrom: float
    confidence: float
    sigma_angstrom: _Triple | None = None


class _Bond(BaseModel, extra="forbid"):
    a: int
    b: int
    order: float
    confidence: float


class _Placed(BaseModel, extra="forbid"):
    elements: list[str]
    positions_angstrom: list[_Triple]
    charges_e: list[float]
    bonds: list[_Pair]
    orders: list[float]


class _Candidate(BaseModel, extra="forbid"):
    smiles: str
    inchikey: str
    formula: str
    name: str = ""
    score: float
    scores: dict[str, float] = {}
    molecule: _Placed | None = None


class _Map(BaseModel, extra="forbid"):
    unit: str
    min: float
    max: float
    shape: list[int]


class _Axis(BaseModel, extra="forbid"):
    first_angstrom: float
    last_angstrom: float
    pixels: int = Field(ge=1, le=100_000)


class _Answer(BaseModel, extra="forbid"):
    schema_: Literal["afmid.identification/1"] = Field(alias="schema")
    method: str
    version: str
    weights_sha256: str
    source: str
    smiles: str | None
    atoms: list[_Atom]
    bonds: list[_Bond]
    candidates: list[_Candidate]
    fit: float | None
    x: _Axis
    y: _Axis
    maps: dict[str, _Map]
    meta: dict[str, Any]


def to_json(answer: Identification) -> str:
    """Return `answer` as one line of JSON.

    Raises:
        DataError: a value that is not finite, or `meta` holds what JSON cannot.
    """
    return write_json(_answer(answer))


def write_identification(answer: Identification, path: Path | str) -> None:
    """Write `answer` to a file by the suffix of `path`: .json, .npz, .xyz or .sdf.

    Raises:
        DataError: another suffix, no atoms for xyz or sdf, or the place cannot be written to.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise DataError(f"{path}: an identification is written as {', '.join(_WRITERS)}; give one of these suffixes")
    try:
        content = _WRITERS[suffix](answer)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    write_bytes(content, path)


def read_identification(path: Path | str) -> Identification:
    """Return the answer in a JSON or npz file, or from stdin for "-".

    JSON holds neither maps nor picture, and of the axes the ends alone; npz holds everything.

    Raises:
        DataError: no such file, or no identification in it; the message names the file.
    """
    try:
        with opened(path) as stream:
            start = stream.read(2)
            stream.seek(0)
            if start == npz.ZIP:
                return _from_npz(npz.read_npz(stream))
            content = stream.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise DataError(f"is larger than {MAX_JSON_BYTES // 2**20} MiB; is it an identification?")
        return _from_json(content.decode(errors="replace"))
    except DataError as error:
        raise DataError(f"{source_of(path)}: {error}") from error


def _answer(answer: Identification) -> _Answer:
    return _Answer(
        schema="afmid.identification/1",
        method=answer.method,
        version=answer.version,
        weights_sha256=answer.weights,
        source=answer.source,
        smiles=answer.smiles,
        atoms=[_atom(atom) for atom in answer.atoms],
        bonds=[
            _Bond(a=int(b.a), b=int(b.b), order=float(b.order), confidence=float(b.confidence)) for b in answer.bonds
        ],
        candidates=[_candidate(candidate) for candidate in answer.candidates],
        fit=None if answer.fit is None else float(answer.fit),
        x=_axis(answer.x),
        y=_axis(answer.y),
        maps={name: _described(image) for name, image in answer.maps.items()},
        meta=dict(answer.meta),
    )


def _atom(atom: Atom) -> _Atom:
    return _Atom(
        element=atom.element,
        x_angstrom=float(atom.x),
        y_angstrom=float(atom.y),
        z_angstrom=float(atom.z),
        confidence=float(atom.confidence),
        sigma_angstrom=None if atom.sigma is None else [float(s) for s in atom.sigma],
    )


def _from_atom(atom: _Atom) -> Atom:
    x, y, z = atom.sigma_angstrom or (0.0, 0.0, 0.0)
    sigma = None if atom.sigma_angstrom is None else (x, y, z)
    return Atom(atom.element, atom.x_angstrom, atom.y_angstrom, atom.z_angstrom, atom.confidence, sigma)


def _candidate(candidate: Candidate) -> _Candidate:
    placed = candidate.molecule and _Placed(
        elements=candidate.molecule.symbols,
        positions_angstrom=candidate.molecule.positions.round(4).tolist(),
        charges_e=candidate.molecule.charges.round(4).tolist(),
        bonds=candidate.molecule.bonds.tolist(),
        orders=candidate.molecule.orders.tolist(),
    )
    return _Candidate(
        smiles=candidate.smiles,
        inchikey=candidate.inchikey,
        formula=candidate.formula,
        name=candidate.name,
        score=float(candidate.score),
        scores={name: float(value) for name, value in candidate.scores.items()},
        molecule=placed,
    )


def _from_candidate(candidate: _Candidate) -> Candidate:
    placed = candidate.molecule
    if placed is None:
        molecule = None
    elif unknown := [element for element in placed.elements if element not in SYMBOLS[1:]]:
        raise DataError(f"a candidate holds the element {unknown[0]!r}, which does not exist")
    else:
        molecule = Molecule(
            np.array([SYMBOLS.index(element) for element in placed.elements]),
            np.array(placed.positions_angstrom),
            np.array(placed.charges_e),
            np.array(placed.bonds),
            np.array(placed.orders),
            candidate.name,
            candidate.smiles,
        )
    return Candidate(
        candidate.smiles, candidate.inchikey, candidate.formula, candidate.score, candidate.scores, molecule
    )


def _axis(axis: NDArray[np.float64]) -> _Axis:
    return _Axis(first_angstrom=float(axis[0]), last_angstrom=float(axis[-1]), pixels=len(axis))


def _described(image: Map) -> _Map:
    low, high = float(image.values.min()), float(image.values.max())
    return _Map(unit=image.unit, min=low, max=high, shape=list(image.values.shape))


def _from_json(text: str) -> Identification:
    answer = parse_json(_Answer, text, SCHEMA)
    x, y = (np.linspace(axis.first_angstrom, axis.last_angstrom, axis.pixels) for axis in (answer.x, answer.y))
    return _identification(answer, x, y)


def _from_npz(arrays: Mapping[str, NDArray[Any]]) -> Identification:
    if "meta" not in arrays:
        raise DataError("is no identification: it has no array 'meta'")
    answer = parse_meta(_Answer, arrays["meta"], SCHEMA)
    wanted = ["x", "y", *(f"map_{name}" for name in answer.maps)]
    sigmas = [f"sigma_{name}" for name in answer.maps if f"sigma_{name}" in arrays]
    if missing := [name for name in wanted if name not in arrays]:
        raise DataError(f"has no array {missing[0]!r}, but its meta says so; write it again")
    for name in wanted + sigmas:
        array = arrays[name]
        if array.dtype.kind != "f" or array.ndim != (1 if name in ("x", "y") else 2):
            raise DataError(f"array {name!r} has shape {array.shape} and type {array.dtype}; write it again")
    picture = arrays.get("picture")
    if picture is not None and (picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3):
        raise DataError(f"picture must be RGB uint8 (H, W, 3), is {picture.dtype} {picture.shape}")
    maps = {
        name: Map(
            arrays[f"map_{name}"].astype(np.float32),
            image.unit,
            arrays[f"sigma_{name}"].astype(np.float32) if f"sigma_{name}" in sigmas else None,
        )
        for name, image in answer.maps.items()
    }
    return _identification(answer, arrays["x"], arrays["y"], maps, picture)


def _identification(
    answer: _Answer,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    maps: Mapping[str, Map] | None = None,
    picture: NDArray[np.uint8] | None = None,
) -> Identification:
    return Identification(
        method=answer.method,
        version=answer.version,
        x=x,
        y=y,
        weights=answer.weights_sha256,
        source=answer.source,
        smiles=answer.smiles,
        atoms=tuple(map(_from_atom, answer.atoms)),
        bonds=tuple(Bond(b.a, b.b, b.order, b.confidence) for b in answer.bonds),
        maps=maps or {},
        picture=picture,
        candidates=tuple(map(_from_candidate, answer.candidates)),
        fit=answer.fit,
        meta=answer.meta,
    )


def _json(answer: Identification) -> bytes:
    return (to_json(answer) + "\n").encode()


def _npz(answer: Identification) -> bytes:
    arrays: dict[str, NDArray[Any]] = {"x": np.asarray(answer.x, np.float64), "y": np.asarray(answer.y, np.float64)}
    arrays |= {f"map_{name}": np.asarray(image.values, np.float32) for name, image in answer.maps.items()}
    deviations = {name: image.sigma for name, image in answer.maps.items() if image.sigma is not None}
    arrays |= {f"sigma_{name}": np.asarray(values, np.float32) for name, values in deviations.items()}
    if answer.picture is not None:
        arrays["picture"] = np.asarray(answer.picture, np.uint8)
    return npz.npz_bytes({**arrays, "meta": write_meta(_answer(answer))}, compress=True)


def _xyz(answer: Identification) -> bytes:
    _need_atoms(answer)
    rows = [f"{a.element or 'X':2s} {a.x:14.6f} {a.y:14.6f} {a.z:14.6f} {a.confidence:8.4f}" for a in answer.atoms]
    comment = f'Properties=species:S:1:pos:R:3:confidence:R:1 method="{answer.method} {answer.version}"'
    return "\n".join([str(len(rows)), comment, *rows, ""]).encode()


def _sdf(answer: Identification) -> bytes:
    from rdkit import Chem, rdBase
    from rdkit.Geometry import Point3D

    from afmid.chem.bonds import bond_type

    _need_atoms(answer)
    mol = Chem.RWMol()
    conformer = Chem.Conformer(len(answer.atoms))
    conformer.Set3D(True)
    for i, found in enumerate(answer.atoms):
        atom = Chem.Atom(SYMBOLS.index(found.element) if found.element else 0)
        atom.SetNoImplicit(True)
        atom.SetDoubleProp("Confidence", float(found.confidence))
        mol.AddAtom(atom)
        conformer.SetAtomPosition(i, Point3D(float(found.x), float(found.y), float(found.z)))
    for bond in answer.bonds:
        if not mol.GetBondBetweenAtoms(int(bond.a), int(bond.b)):
            mol.AddBond(int(bond.a), int(bond.b), bond_type(bond.order))
    mol.AddConformer(conformer)
    mol.SetProp("_Name", f"{answer.method} {answer.version}")
    Chem.CreateAtomDoublePropertyList(mol, "Confidence")
    stream = io.StringIO()
    with rdBase.BlockLogs(), Chem.SDWriter(stream) as writer:
        writer.SetKekulize(False)
        writer.write(mol)
    return stream.getvalue().encode()


def _need_atoms(answer: Identification) -> None:
    if not answer.atoms:
        raise DataError(f"{answer.method} found no atoms to write; write .json or .npz")
    if unknown := [a.element for a in answer.atoms if a.element and a.element not in SYMBOLS[1:]]:
        raise DataError(f"{answer.method} answered with the element {unknown[0]!r}, which does not exist")


_WRITERS = {".json": _json, ".npz": _npz, ".xyz": _xyz, ".sdf": _sdf}
