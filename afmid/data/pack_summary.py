"""What is in a molecule pack: elements, splits and sources, sizes, and how flat its conformers lie."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afmid.data.pack import POSITION_UNIT, MoleculePack
from afmid.molecule import SYMBOLS, flat_rotation

HEIGHTS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # Å: where one bin ends and the next begins
ATOMS = 10  # in a bin


@dataclass(frozen=True)
class Summary:
    """Counts of a pack.

    Attributes:
        molecules, conformers: how many.
        elements: molecules that hold an element, by its symbol.
        splits: molecules by source, of each split.
        atoms: molecules by their number of atoms, hydrogens among them, rounded down to a multiple of `ATOMS`.
        free_by_height, pressed_by_height: conformers by `height_ranges`, in bins between 0, `HEIGHTS` and infinity.
    """

    molecules: int
    conformers: int
    elements: dict[str, int]
    splits: dict[str, dict[str, int]]
    atoms: dict[int, int]
    free_by_height: list[int]
    pressed_by_height: list[int]


def summarise(pack: MoleculePack) -> Summary:
    """Count what is in a pack."""
    conformer = np.repeat(np.arange(len(pack)), np.diff(pack.atom_offsets))
    held = np.unique(np.stack([pack.numbers, pack.molecule_index[conformer]]), axis=1)[0]
    elements = Counter(SYMBOLS[number] for number in held.tolist())
    _, first = np.unique(pack.molecule_index, return_index=True)
    sizes = Counter((np.diff(pack.atom_offsets)[first] // ATOMS * ATOMS).tolist())
    bins = np.digitize(height_ranges(pack), HEIGHTS)
    splits: dict[str, Counter[str]] = {}
    for split, source in zip(pack.split, pack.source, strict=True):
        splits.setdefault(split, Counter())[source] += 1
    return Summary(
        molecules=len(pack.smiles),
        conformers=len(pack),
        elements={symbol: elements[symbol] for symbol in SYMBOLS if symbol in elements},
        splits={split: dict(sources.most_common()) for split, sources in sorted(splits.items())},
        atoms=dict(sorted(sizes.items())),
        free_by_height=np.bincount(bins[pack.pressed == 0], minlength=len(HEIGHTS) + 1).tolist(),
        pressed_by_height=np.bincount(bins[pack.pressed == 1], minlength=len(HEIGHTS) + 1).tolist(),
    )


def height_ranges(pack: MoleculePack) -> NDArray[np.float64]:
    """Return how far the heavy atoms of each conformer reach along the normal of their best plane (C,), Å."""
    ranges = np.zeros(len(pack))
    for i in range(len(pack)):
        atoms = slice(*pack.atom_offsets[i : i + 2].tolist())
        heavy = pack.positions[atoms][pack.numbers[atoms] > 1].astype(np.float64) * POSITION_UNIT
        if len(heavy) > 3:  # else they lie in a plane
            ranges[i] = np.ptp((heavy - heavy.mean(0)) @ flat_rotation(heavy)[2])
    return ranges
