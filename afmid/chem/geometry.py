"""Three-dimensional geometries from SMILES: ETKDGv3 distance geometry, then MMFF94 relaxation.

S. Wang et al., J. Chem. Inf. Model. 60, 2044 (2020); T. Halgren, J. Comput. Chem. 17, 490 (1996); as RDKit has them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from rdkit.Geometry import Point3D

from afmid.chem.bonds import Mol, from_rdkit
from afmid.chem.charges import charges_of
from afmid.chem.names import parse
from afmid.errors import DataError
from afmid.molecule import Molecule, flat_rotation

MAX_ATOMS = 500
MAX_STEPS = 1000  # of the relaxation
MAX_TRIALS = 30  # of the embedding
TIMEOUT_S = 30  # of one embedding; only hopeless cages and fjords come near it
DISPLACEMENT = 0.1  # Å: a planar start may be a saddle point, which no minimiser leaves by itself
RING_BOND = 1.35  # Å: where a single ring, such as cyclo[18]carbon, is laid on a circle
GAP = 3.0  # Å between fragments laid side by side


def embed(smiles: str, seed: int = 0, name: str = "") -> Molecule:
    """Return a conformer of a SMILES with MMFF94 geometry and charges, its principal plane in xy, its centre at 0.

    The same SMILES and seed give the same molecule. Hydrogens are added; aromatic bonds have the order 1.5.
    UFF relaxes what MMFF94 does not know, such as boron.

    Raises:
        DataError: no valid SMILES, too many atoms, or no geometry found.
    """
    mol = Chem.AddHs(parse(smiles))
    place(mol, name or smiles, seed)
    return from_rdkit(mol, charges_of(mol, name or smiles), name=name, smiles=smiles)


def place(mol: Mol, what: str, seed: int = 0) -> None:
    """Give a sanitised RDKit molecule with explicit hydrogens its only conformer, as `embed` describes it.

    Raises:
        DataError: too many atoms, or no geometry found; `what` names the molecule.
    """
    if mol.GetNumAtoms() > MAX_ATOMS:
        raise DataError(f"{what[:80]}: {mol.GetNumAtoms()} atoms; afmid places up to {MAX_ATOMS}; give an xyz file")
    with rdBase.BlockLogs():
        if not any(_embedded(mol, seed, random) for random in (False, True)) and not _ring(mol):
            raise DataError(f"{what[:80]}: no 3D geometry found; give an xyz or sdf file of it")
        positions = mol.GetConformer().GetPositions()
        positions = _side_by_side(positions, [np.array(f) for f in Chem.GetMolFrags(mol)])
        shake = np.random.default_rng(seed % 2**32).normal(0.0, DISPLACEMENT, positions.shape)
        _set(mol, positions + shake)
        relax(mol)
    positions = mol.GetConformer().GetPositions()
    if not np.isfinite(positions).all():
        raise DataError(f"{what[:80]}: its relaxation diverged; give an xyz or sdf file of it")
    _set(mol, lay_flat(positions))


def relax(mol: Mol, steps: int = MAX_STEPS) -> None:
    """Relax the conformer of `mol` in place by MMFF94, else by UFF, else not at all."""
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=steps, ignoreInterfragInteractions=False)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=steps, ignoreInterfragInteractions=False)


def lay_flat(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions (N, 3) turned so that they extend most along x and least along z, their centre at 0.

    A proper rotation: handedness stays.
    """
    flat: NDArray[np.float64] = (positions - positions.mean(0)) @ flat_rotation(positions).T
    return flat


def _embedded(mol: Mol, seed: int, random: bool) -> bool:
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed % (2**31 - 2) + 1  # to RDKit 0 is the same as 1
    parameters.maxIterations = MAX_TRIALS
    parameters.useRandomCoords = random
    parameters.timeout = TIMEOUT_S
    return int(rdDistGeom.EmbedMolecule(mol, parameters)) == 0


def _ring(mol: Mol) -> bool:
    """Place a molecule that is one bare ring on a circle; distance geometry finds none for cyclo[18]carbon."""
    n = mol.GetNumAtoms()
    rings = mol.GetRingInfo().AtomRings()
    if len(rings) != 1 or len(rings[0]) != n or mol.GetNumBonds() != n:
        return False
    angles = 2 * np.pi * np.arange(n) / n
    circle = RING_BOND / (2 * np.sin(np.pi / n)) * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1)
    mol.RemoveAllConformers()
    mol.AddConformer(Chem.Conformer(n))
    _set(mol, circle[np.argsort(rings[0])])
    return True


def _side_by_side(positions: NDArray[np.float64], fragments: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return positions (N, 3) with each fragment laid flat and the fragments in a row along x."""
    if len(fragments) < 2:
        return positions
    placed, start = np.empty_like(positions), 0.0
    for atoms in fragments:
        flat = lay_flat(positions[atoms])
        left, right = flat[:, 0].min(), flat[:, 0].max()
        placed[atoms] = flat + np.array([start - left, 0.0, 0.0])
        start += right - left + GAP
    return placed


def _set(mol: Mol, positions: NDArray[np.float64]) -> None:
    conformer = mol.GetConformer()
    for i, position in enumerate(positions.tolist()):
        conformer.SetAtomPosition(i, Point3D(*position))
