"""What the benchmarks simulate: molecules, tips, scenes as ppafm can scan them too, and the flakes of `scaling`."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from afmid.chem import embed, named_molecules
from afmid.molecule import Molecule
from afmid.simulate import Scene, SimulationOptions
from afmid.units import N_per_m

PER_IMAGE = 10  # heights whose forces make one image: ppafm's df_steps
MOLECULES = {
    "1-bromo-3,5-dichlorobenzene": named_molecules()["1-bromo-3,5-dichlorobenzene"],  # 12 atoms
    "PTCDA": named_molecules()["PTCDA"],  # 38 atoms
    # 60 atoms, not flat
    "megestrol acetate": "CC(=O)O[C@]1(CC[C@@H]2[C@@]1(CC[C@H]3[C@H]2C=C(C4=CC(=O)CC[C@]34C)C)C)C(=O)C",
}
TIPS = {  # charge (e) and quadrupole (e·Å²) of the probe
    "monopole": SimulationOptions(charge=-0.1, quadrupole=0.0),
    "quadrupole": SimulationOptions(charge=0.0, quadrupole=-0.1),
}


def molecule(name: str) -> Molecule:
    """Return a molecule of MOLECULES."""
    return embed(MOLECULES[name], name=name)


def scenes(sample: Molecule, options: SimulationOptions, count: int) -> list[Scene]:
    """Return `count` scenes of a molecule turned in the plane, by 7.3° the first, and shifted off the pixel grid, so
    that no pixel lies on a line of symmetry, where the probe has no stable answer.
    """
    made = []
    for angle in np.radians(7.3 + 360 / count * np.arange(count)):
        cos, sin = math.cos(angle), math.sin(angle)
        scene = options.scene(sample.turned(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])))
        made.append(replace(scene, x=scene.x + 0.031, y=scene.y + 0.017))
    return made


def weights(scene: Scene, options: SimulationOptions) -> NDArray[np.float64]:
    """Return the weights of Δf that ppafm uses (its `get_simple_df_weight`), Hz/(eV/Å), for every engine the same.

    They come out a factor (n − 1)/n small; relative errors do not see it.
    """
    n, dz = PER_IMAGE, float(scene.z[0] - scene.z[1])
    t = np.linspace(-1 + 0.5 / n, 1 - 0.5 / n, n - 1)
    w = np.diff(np.sqrt(1 - t**2), prepend=0, append=0)
    w /= (np.linspace(-1, 1, n) * w).sum() * n * dz
    return w * options.f0 / (options.cantilever_stiffness * N_per_m)


def flake(atoms: int) -> Molecule:
    """Return a round flake of graphene, charged hydrogen at its edge."""
    reach = math.ceil(math.sqrt(atoms)) + 2
    i, j = (index.ravel() for index in np.mgrid[-reach:reach, -reach:reach])
    cells = 2.46 * np.column_stack([i + j / 2, j * math.sqrt(3) / 2])
    sites = (cells[:, None] + [[0, 0], [1.23, 0.71]]).reshape(-1, 2)
    sites = sites[np.argsort(np.hypot(*(sites - [1.23, 0.0]).T), kind="stable")][:atoms]
    neighbours = (np.hypot(*(sites[:, None] - sites).T) < 1.5).sum(0) - 1
    edge = neighbours < 3
    charges = np.where(edge, 0.1, -0.1 * edge.sum() / max(1, (~edge).sum()))
    return Molecule(np.where(edge, 1, 6), np.column_stack([sites, np.zeros(atoms)]), charges, name=f"{atoms} atoms")
