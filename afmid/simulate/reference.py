"""The law in NumPy float64: what every engine is held to. Clear before fast.

The probe feels, from each sample atom i at distance r, with d the vector from the atom to the probe,

    E = E_ij ((R_ij/r)¹² − 2 (R_ij/r)⁶) + k_e q_i (Q₀/r + Q (3 d_z² − r²)/r⁵),    E_ij = √(E_i E_j), R_ij = R_i + R_j

(where the sample's potential V is known, Q₀ V + Q ∂²V/∂z² takes the place of the charges), and from the tip a lateral
and a radial spring; at each height it rests where the forces cancel (Hapala et al., PRB 90, 085421, 2014).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from afmid.molecule import Molecule
from afmid.offers import Images
from afmid.simulate.elements import lennard_jones
from afmid.simulate.oscillation import weighted
from afmid.simulate.scene import Scene, shared_shape
from afmid.simulate.tip import Tip
from afmid.units import COULOMB

FLOOR = 0.25  # Å²: the squared distance to an atom below which the law no longer grows
SOFTEST = 1e-3  # eV/Å²: curvatures below this are taken as this in a Newton step
TOLERANCE = 1e-9  # eV/Å
UNSETTLED = 1e-3  # eV/Å: a probe with more force than this on it did not come to rest
LONGEST_STEP = 0.1  # Å
PAIRS = 2**20  # of atoms and pixels held at once

Array = NDArray[np.float64]
Law = Callable[[Array], tuple[Array, Array, Array]]  # points (P, 3) to energy (P,), force (P, 3), Hessian (P, 3, 3)


def sample_law(molecule: Molecule, tip: Tip, points: Array) -> tuple[Array, Array, Array]:
    """Return the sample's energy (P,), force (P, 3) and the energy's Hessian (P, 3, 3) at points (P, 3): eV, Å."""
    radii, depths = lennard_jones(molecule.numbers)
    probe_radius, probe_depth = lennard_jones(tip.number)
    well = (radii + probe_radius) ** 6  # R⁶
    depth = np.sqrt(depths * probe_depth)
    monopole = COULOMB * molecule.charges * tip.charge
    quadrupole = COULOMB * molecule.charges * tip.quadrupole

    d = points[:, None] - molecule.positions  # (P, N, 3)
    s = np.maximum((d**2).sum(-1), FLOOR)
    s6, dz = well / s**3, d[..., 2]
    z2 = dz**2 / s
    energy = depth * (s6**2 - 2 * s6) + monopole * s**-0.5 + quadrupole * (3 * z2 - 1) * s**-1.5

    q5 = quadrupole * s**-2.5
    a = 12 * depth * (s6 - s6**2) / s - monopole * s**-1.5 + q5 * (3 - 15 * z2)  # ∂E/∂d = a d + 6 q5 dz ẑ
    b = depth * (168 * s6**2 - 96 * s6) / s**2 + 3 * monopole * s**-2.5 + q5 / s * (105 * z2 - 15)
    c = -30 * q5 * dz / s
    up = np.array([0.0, 0.0, 1.0])
    force = -(a[..., None] * d).sum(1) - (6 * q5 * dz).sum(1)[:, None] * up
    tilt = np.einsum("pn,pni,j->pij", c, d, up)
    hessian = (
        np.einsum("pn,ij->pij", a, np.eye(3))
        + np.einsum("pn,pni,pnj->pij", b, d, d)
        + (tilt + tilt.swapaxes(1, 2))
        + np.einsum("pn,i,j->pij", 6 * q5, up, up)
    )
    return energy.sum(1), force, hessian


def scene_law(scene: Scene) -> Law:
    """Return the law of a scene's sample, whose potential, where it has one, takes the place of the point charges."""
    molecule, tip = scene.molecule, scene.tip
    if scene.potential is None:
        return lambda points: sample_law(molecule, tip, points)
    bare, spline = replace(molecule, charges=np.zeros(len(molecule))), scene.potential.spline(tip)

    def law(points: Array) -> tuple[Array, Array, Array]:
        (e1, f1, h1), (e2, f2, h2) = sample_law(bare, tip, points), spline.law(points)
        return e1 + e2, f1 + f2, h1 + h2

    return law


def tip_law(tip: Tip, u: Array) -> tuple[Array, Array, Array]:
    """Return the springs' energy (P,), force (P, 3) and Hessian (P, 3, 3) at u (P, 3), from tip base to probe."""
    lateral = np.diag([1.0, 1.0, 0.0]) * tip.lateral_stiffness
    bend = u - np.array(tip.rest)
    r = np.linalg.norm(u, axis=1)
    stretch = tip.radial_stiffness * (1 - tip.length / r)
    energy = np.einsum("pi,ij,pj->p", bend, lateral, bend) / 2 + tip.radial_stiffness * (r - tip.length) ** 2 / 2
    force = -bend @ lateral - stretch[:, None] * u
    along = np.einsum("pi,pj->pij", u, u) * (tip.radial_stiffness * tip.length / r**3)[:, None, None]
    return energy, force, lateral + stretch[:, None, None] * np.eye(3) + along


def relax(law: Law, tip: Tip, base: Array, u: Array, steps: int = 500) -> tuple[Array, Array, Array]:
    """Return u (P, 3) where the probe rests, the sample's force (P, 3) and the residual (P,) eV/Å there.

    Newton's method; each curvature counts by its magnitude, so that every step goes downhill, and steps are short, so
    that the probe stays in the valley in which it started.

    Args:
        law: of the sample.
        tip: the tip.
        base: tip base (P, 3), Å.
        u: where the search starts (P, 3), tip base to probe.
        steps: most Newton steps.
    """
    u = u.copy()
    reach = np.full(len(u), LONGEST_STEP)
    last = np.zeros_like(u)
    last_gain = np.zeros(len(u))
    todo = np.arange(len(u))
    sample, residual = np.empty_like(u), np.empty(len(u))
    for _ in range(steps):
        _, pull, curve = law(base[todo] + u[todo])
        _, spring, stiff = tip_law(tip, u[todo])
        force = pull + spring
        sample[todo], residual[todo] = pull, np.linalg.norm(force, axis=1)
        values, vectors = np.linalg.eigh(curve + stiff)
        along = np.einsum("pij,pi->pj", vectors, force)
        saddle = (values < 0) & (np.abs(along) < 1e-4)  # on a ridge, where there is no force: leave it
        along = np.where(saddle, np.copysign(1e-2 * np.abs(values), along), along)
        step = np.einsum("pij,pj->pi", vectors, along / np.maximum(np.abs(values), SOFTEST))
        overshot = (force * last[todo]).sum(1) < -0.3 * last_gain[todo]
        reach[todo] = np.where(overshot, reach[todo] / 2, np.minimum(1.5 * reach[todo], LONGEST_STEP))
        step *= np.minimum(1, reach[todo] / np.maximum(np.linalg.norm(step, axis=1), 1e-30))[:, None]
        going = (residual[todo] > TOLERANCE) | saddle.any(1)
        u[todo[going]] += step[going]
        last[todo], last_gain[todo] = step, (force * step).sum(1)
        todo = todo[going]
        if not len(todo):
            break
    return u, sample, residual


def forces(scene: Scene) -> tuple[Array, NDArray[np.int32]]:
    """Return the vertical sample force (eV/Å) on the relaxed probe, (X, Y, Z), Z from far to near, and at how many
    heights of each pixel (X, Y) the probe did not come to rest.
    """
    x, y = (grid.ravel() for grid in np.meshgrid(scene.x, scene.y, indexing="ij"))
    law, rest = scene_law(scene), np.array(scene.tip.rest)
    out, lost = np.empty((len(x), len(scene.z))), np.zeros(len(x), np.int32)
    share = max(1, PAIRS // len(scene.molecule))
    for start in range(0, len(x), share):
        part = slice(start, start + share)
        u = np.tile(rest, (len(x[part]), 1))
        for k, z in enumerate(scene.z):
            base = np.column_stack([x[part], y[part], np.full(len(u), z - rest[2])])
            u, sample, residual = relax(law, scene.tip, base, u)
            out[part, k] = sample[:, 2]
            lost[part] += residual > UNSETTLED
    return out.reshape(scene.shape), lost.reshape(scene.shape[:2])


class ReferenceSimulator:
    """The reference law as an engine: float64, one core, seconds per scan."""

    def images(
        self, scenes: Sequence[Scene], weights: ArrayLike = (1.0,), progress: Callable[[int], None] | None = None
    ) -> Images:
        """Return images as the Simulator protocol says."""
        import torch

        shared_shape(scenes)
        values, unsettled = [], []
        for scene in scenes:
            fz, lost = forces(scene)
            values.append(weighted(fz, np.asarray(weights, np.float64)))
            unsettled.append(lost)
            if progress:
                progress(lost.size)
        return Images(torch.from_numpy(np.stack(values)), torch.from_numpy(np.stack(unsettled)))
