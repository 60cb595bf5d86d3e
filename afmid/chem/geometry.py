"""Three-dimensional geometries from SMILES: ETKDGv3 distance geometry, then MMFF94 relaxation.

S. Wang et al., J. Chem. Inf. Model. 60, 2044 (2020); T. Halgren, J. Comput. Chem. 17, 490 (1996); as RDKit has them.
"""

from functools import partial
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
PRESS_TRIALS = 4  # embeddings of which the flattest is pressed …
PRESS_FLAT = 0.5  # Å: … unless one is as flat as this before
PRESS_TO = (0.3, 0.6, 0.8, 1.0)  # of its height: the first that leaves its bonds and its stereochemistry whole
PRESS_STEPS = 40  # of the relaxation: for most molecules enough for the bonds, and too few to stand up again …
PRESS_ROUNDS = 5  # … so that others are relaxed again, up to this often,
PRESS_FORCE = 15.0  # kcal/mol/Å: while a component of the force on an atom is larger: at 30 an Si–C bond is 0.25 Å off


class SlowError(DataError):
    """A molecule whose embedding takes too long."""


class PressError(DataError):
    """A molecule that cannot be pressed."""


def embed(smiles: str, seed: int = 0, name: str = "", pressed: bool = False) -> Molecule:
    """Return a conformer of a SMILES with MMFF94 geometry and charges, its principal plane in xy, its centre at 0.

    The same SMILES and seed give the same molecule. Hydrogens are added; aromatic bonds have the order 1.5.
    UFF relaxes what MMFF94 does not know, such as boron.

    Args:
        seed: of the embedding; a pressed conformer takes the seeds up to `seed + PRESS_TRIALS - 1`.
        pressed: as a surface would hold it, for free molecules are less flat than adsorbed ones: the flattest of
            several embeddings, its height reduced to 30 %, or to as much as its bonds and its stereochemistry bear, and
            relaxed briefly.

    Raises:
        DataError: no valid SMILES, too many atoms, or no geometry found.
        SlowError: the embedding takes longer than `TIMEOUT_S`.
        PressError: its bonds or its stereochemistry do not bear the pressing.
    """
    mol = Chem.AddHs(parse(smiles))
    place(mol, name or smiles, seed, pressed)
    return from_rdkit(mol, charges_of(mol, name or smiles), name=name, smiles=smiles)


def place(mol: Mol, what: str, seed: int = 0, pressed: bool = False) -> None:
    """Give a sanitised RDKit molecule with explicit hydrogens its only conformer, as `embed` describes it.

    Raises:
        DataError: too many atoms, or no geometry found; `what` names the molecule.
        SlowError, PressError: as `embed`.
    """
    if mol.GetNumAtoms() > MAX_ATOMS:
        raise DataError(f"{what[:80]}: {mol.GetNumAtoms()} atoms; afmid places up to {MAX_ATOMS}; give an xyz file")
    with rdBase.BlockLogs():
        positions = _flattest(mol, what, seed, PRESS_TRIALS if pressed else 1)
        positions = _side_by_side(positions, [np.array(f) for f in Chem.GetMolFrags(mol)])
        shake = np.random.default_rng(seed % 2**32).normal(0.0, DISPLACEMENT, positions.shape)
        if pressed:
            _press(mol, what, positions, shake)
        else:
            _set(mol, positions + shake)
            relax(mol)
    positions = mol.GetConformer().GetPositions()
    if not np.isfinite(positions).all():
        raise DataError(f"{what[:80]}: its relaxation diverged; give an xyz or sdf file of it")
    _set(mol, lay_flat(positions))


def relax(mol: Mol, steps: int = MAX_STEPS, rounds: int = 1, force: float = 0.0) -> bool:
    """Relax the conformer of `mol` in place by MMFF94, else by UFF, else not at all.

    Args:
        steps: at most, in each round.
        rounds: at most; the last one is that after which no component of a force is beyond `force` (kcal/mol/Å).

    Returns:
        Whether the forces came to be that small.
    """
    copy = Chem.Mol(mol)  # for MMFF94's typing changes which bonds are aromatic
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(copy):
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(copy)
        make = partial(rdForceFieldHelpers.MMFFGetMoleculeForceField, copy, properties)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(copy):
        make = partial(rdForceFieldHelpers.UFFGetMoleculeForceField, copy)
    else:
        return False
    field = make(ignoreInterfragInteractions=False)
    field.Initialize()
    reached = False
    for _ in range(rounds):
        field.Minimize(maxIts=steps)
        if reached := bool(np.abs(field.CalcGrad()).max() < force):
            break
    _set(mol, copy.GetConformer().GetPositions())
    return reached


def lay_flat(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return positions (N, 3) turned so that they extend most along x and least along z, their centre at 0.

    A proper rotation: handedness stays.
    """
    flat: NDArray[np.float64] = (positions - positions.mean(0)) @ flat_rotation(positions).T
    return flat


def height_range(positions: NDArray[np.float64]) -> float:
    """Return how far positions (N, 3) reach along the normal of their best plane, Å."""
    return float(np.ptp((positions - positions.mean(0)) @ flat_rotation(positions)[2]))


def _press(mol: Mol, what: str, positions: NDArray[np.float64], shake: NDArray[np.float64]) -> None:
    """Give `mol` its pressed conformer, from `positions` (N, 3)."""
    heavy = positions[_heavy(mol)]
    lying = (positions - heavy.mean(0)) @ flat_rotation(heavy).T
    _set(mol, lying)
    isomer = _isomer(mol)
    for share in PRESS_TO:
        _set(mol, lying * np.array([1, 1, share]) + shake)
        if relax(mol, PRESS_STEPS, PRESS_ROUNDS, PRESS_FORCE) and _isomer(mol) == isomer:
            return
    raise PressError(f"{what[:80]}: pressed, it is strained or another stereoisomer; take a free conformer")


def _isomer(mol: Mol) -> str:
    """Return which stereoisomer the conformer of `mol` is."""
    mol = Chem.Mol(mol)
    Chem.AssignStereochemistryFrom3D(mol)
    return str(Chem.MolToSmiles(mol))


def _flattest(mol: Mol, what: str, seed: int, trials: int) -> NDArray[np.float64]:
    """Return the positions of the flattest of some embeddings, of as many as are needed to find a flat one."""
    found: dict[float, NDArray[np.float64]] = {}
    for trial in range(trials):
        if _embedded(mol, what, seed + trial, random=False):
            positions = mol.GetConformer().GetPositions()
            height = height_range(positions[_heavy(mol)])
            found.setdefault(height, positions)
            if height < PRESS_FLAT:
                break
    if not found:
        if not (_embedded(mol, what, seed, random=True) or _ring(mol)):
            raise DataError(f"{what[:80]}: no 3D geometry found; give an xyz or sdf file of it")
        found[0.0] = mol.GetConformer().GetPositions()
    if not mol.GetNumConformers():  # the last trial failed
        mol.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    return found[min(found)]


def _heavy(mol: Mol) -> NDArray[np.bool_]:
    """Return which atoms tell how flat a molecule lies: the heavy ones, or all where those are fewer than three."""
    heavy = np.array([atom.GetAtomicNum() > 1 for atom in mol.GetAtoms()])
    return heavy if heavy.sum() > 2 else np.ones_like(heavy)


def _embedded(mol: Mol, what: str, seed: int, random: bool) -> bool:
    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed % (2**31 - 2) + 1  # to RDKit 0 is the same as 1
    parameters.maxIterations = MAX_TRIALS
    parameters.useRandomCoords = random
    parameters.timeout = TIMEOUT_S
    parameters.trackFailures = True
    if int(rdDistGeom.EmbedMolecule(mol, parameters)) == 0:
        return True
    if parameters.GetFailureCounts()[int(rdDistGeom.EmbedFailureCauses.EXCEEDED_TIMEOUT)]:
        raise SlowError(f"{what[:80]}: its embedding took longer than {TIMEOUT_S} s; give an xyz or sdf file of it")
    return False


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
