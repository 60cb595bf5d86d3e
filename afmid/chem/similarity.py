"""How alike molecules are: by their Morgan fingerprints, and by the elements that they are made of."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import rdFingerprintGenerator

from afmid.chem.names import parse

RADIUS, BITS = 2, 2048


def tanimoto(smiles: str, others: Sequence[str]) -> NDArray[np.float64]:
    """Return the Tanimoto similarity of Morgan fingerprints (radius 2, 2048 bits) of a molecule and of others (M,).

    H. L. Morgan, J. Chem. Doc. 5, 107 (1965); D. Rogers and M. Hahn, J. Chem. Inf. Model. 50, 742 (2010).
    Among the others, what is no SMILES is not similar: 0.

    Raises:
        DataError: `smiles` is no SMILES.
    """
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    mine = generator.GetFingerprint(parse(smiles))
    similarities = np.zeros(len(others))
    with rdBase.BlockLogs():
        for i, other in enumerate(others):
            if (mol := Chem.MolFromSmiles(other)) is not None:
                similarities[i] = DataStructs.TanimotoSimilarity(mine, generator.GetFingerprint(mol))
    return similarities


def shared_elements(counts: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of atoms (M,) that a molecule has in common with others by element: Σ min / Σ max of the counts.

    Args:
        counts: atoms of each element (Z,).
        others: the same of the others (M, Z).
    """
    largest = np.maximum(counts, others).sum(1)
    return np.asarray(np.minimum(counts, others).sum(1) / np.maximum(largest, 1))
