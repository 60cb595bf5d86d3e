"""scan.npz, schema afmid.scan/1: the arrays df, x, y, z, the truth's arrays, and a JSON string `meta`.

    df             float32 (X, Y, Z), Hz, far to near
    x, y, z        float64, Å; z descends
    truth_numbers, truth_positions (Å), truth_charges (e), truth_bonds, truth_orders: the molecule, where known
    meta           JSON: schema, channel, tip, z_reference, amplitude (Å), f0 (Hz), cantilever_stiffness (N/m), source,
                   meta (how the scan was made) and truth (the molecule's name and smiles)
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from afmid.errors import DataError
from afmid.io.meta import parse_meta, write_meta
from afmid.io.npz import called
from afmid.molecule import Molecule
from afmid.scan import ABOVE_LAST_IMAGE, Scan
from afmid.units import N_per_m

log = logging.getLogger(__name__)

SCHEMA = "afmid.scan/1"
AXES = ("df", "x", "y", "z")
TRUTH = ("numbers", "positions", "charges", "bonds", "orders")


class TruthWords(BaseModel, extra="forbid"):
    """What the true molecule is besides arrays."""

    name: str = ""
    smiles: str = ""


class ScanWords(BaseModel, extra="forbid"):
    """What a scan is besides arrays, as files say it: the stiffness is in N/m."""

    channel: str = "df"
    tip: str = "CO"
    z_reference: str = ABOVE_LAST_IMAGE
    amplitude: float | None = None
    f0: float | None = None
    cantilever_stiffness: float | None = None
    source: str = ""
    meta: dict[str, Any] = Field(default_factory=dict)


class _Meta(ScanWords):
    schema_: Literal["afmid.scan/1"] = Field(alias="schema")
    truth: TruthWords | None = None


def words_of(scan: Scan, model: type[ScanWords]) -> dict[str, Any]:
    """Return the words of a scan by their keys in the files of a model."""
    stiffness = scan.cantilever_stiffness
    words = {name: getattr(scan, name) for name in ScanWords.model_fields} | {
        # 15 digits: what a user gave in N/m comes back as given
        "cantilever_stiffness": None if stiffness is None else float(f"{stiffness / N_per_m:.15g}"),
        "meta": dict(scan.meta),
    }
    return {model.model_fields[name].alias or name: value for name, value in words.items()}


def arguments_of(words: ScanWords) -> dict[str, Any]:
    """Return the words as arguments of Scan."""
    stiffness = words.cantilever_stiffness
    return {name: getattr(words, name) for name in ScanWords.model_fields} | {
        "cantilever_stiffness": None if stiffness is None else stiffness * N_per_m
    }


def is_scan(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Return whether the arrays of a npz file are meant as an afmid scan."""
    return "df" in arrays and not {"meta", "x", "y", "z"}.isdisjoint(arrays)


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Scan:
    """Return the scan that the arrays of a file hold. Axes in the other order are turned, with a warning.

    Raises:
        DataError: an array is missing or has the wrong shape or type, or `meta` does not follow the schema.
    """
    if missing := [name for name in (*AXES, "meta") if name not in arrays]:
        raise DataError(f"has no array {missing[0]!r}; an afmid scan holds {', '.join(AXES)} and meta")
    meta = parse_meta(_Meta, arrays["meta"], SCHEMA)
    stack = real(arrays["df"], "df")
    axes = [real(arrays[name], name) for name in AXES[1:]]
    stack, (x, y, z) = _turned(stack, axes)
    return Scan(stack, x, y, z, **arguments_of(meta), truth=_truth(arrays, meta.truth or TruthWords()))


def record_of(meta: NDArray[Any]) -> tuple[dict[str, Any], str]:
    """Return how a scan was made, and its molecule's SMILES, from the array `meta` alone. Raises DataError."""
    parsed = parse_meta(_Meta, meta, SCHEMA)
    return parsed.meta, parsed.truth.smiles if parsed.truth else ""


def to_arrays(scan: Scan) -> dict[str, NDArray[Any]]:
    """Return the arrays of the file that holds `scan`.

    Raises:
        DataError: `scan.meta` holds what JSON cannot.
    """
    truth = scan.truth
    words = TruthWords(name=truth.name, smiles=truth.smiles) if truth else None
    meta = _Meta(schema="afmid.scan/1", **words_of(scan, _Meta), truth=words)
    arrays: dict[str, NDArray[Any]] = {name: getattr(scan, name) for name in AXES}
    if truth:
        arrays |= {f"truth_{name}": getattr(truth, name) for name in TRUTH}
    return {**arrays, "meta": write_meta(meta)}


def real(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return `array`, which must hold real numbers.

    Raises:
        DataError: it holds text, booleans, complex numbers or dates.
    """
    if array.dtype.kind not in "fiu":
        raise DataError(f"{called(name)} holds {array.dtype}, not real numbers; convert it first")
    return array


def stack_of(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Return `array` as a stack of images, float32 (X, Y, Z).

    Raises:
        DataError: it is no stack of real numbers.
    """
    if array.ndim == 2:
        raise DataError(f"{called(name)} is a single image {array.shape}; a scan needs a stack of them (X, Y, Z)")
    if array.ndim != 3:
        raise DataError(f"{called(name)} has shape {array.shape}; a scan needs three axes, X, Y, Z")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and Scan says so
        return real(array, name).astype(np.float32)


def _turned(stack: NDArray[Any], axes: list[NDArray[Any]]) -> tuple[NDArray[np.float32], list[NDArray[Any]]]:
    stack = stack_of(stack, "df")
    if any(axis.shape != (n,) for axis, n in zip(axes, stack.shape, strict=True)):
        return stack, axes  # Scan says what is wrong
    for i, (name, sign, order) in enumerate((("x", 1, "ascend"), ("y", 1, "ascend"), ("z", -1, "descend"))):
        steps = sign * np.diff(axes[i])
        if len(steps) and (steps < 0).all():
            log.warning("%s is stored in the reverse order; turned, so that it %ss", name, order)
            stack, axes[i] = np.flip(stack, i), axes[i][::-1]
    return np.ascontiguousarray(stack), axes


def _truth(arrays: Mapping[str, NDArray[Any]], words: TruthWords) -> Molecule | None:
    names = [f"truth_{name}" for name in TRUTH]
    if not any(name in arrays for name in names):
        return None
    if missing := [name for name in names if name not in arrays]:
        raise DataError(f"has no array {missing[0]!r}, but others of the truth; write it again")
    parts = {name.removeprefix("truth_"): real(arrays[name], name) for name in names}
    for name in ("numbers", "bonds"):
        if parts[name].dtype.kind == "f":
            raise DataError(f"array 'truth_{name}' holds {parts[name].dtype}, not whole numbers")
    if len(parts["bonds"]) and parts["bonds"].shape[1:] != (2,):
        raise DataError(f"array 'truth_bonds' has shape {parts['bonds'].shape}, not (E, 2)")
    try:
        return Molecule(**parts, name=words.name, smiles=words.smiles)
    except DataError as error:
        raise DataError(f"truth: {error}") from error
