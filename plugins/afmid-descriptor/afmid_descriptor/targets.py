"""What the network learns: maps of a molecule's upper surface (Alldritt et al., Sci. Adv. 6, eaay6913, 2020).

For a pixel at the lateral distance ρ from atom i at height z_i:

- disks: Σ_i (1 − d_i/1.2 Å)(1 − ρ/r_i) over ρ < r_i, d_i the depth below the highest atom, for atoms with d_i < 1.2 Å
  whose sphere top lies less than 1.2 Å below the highest sphere top;
- spheres: max_i z_i + √((R_i − 0.5 Å)² − ρ²), cut 1.5 Å below the highest sphere top, less its minimum (Å);
- height: the highest z at which the vertical Lennard-Jones force on an unrelaxed oxygen probe reaches
  +0.1 eV/Å, cut 2 Å below its maximum, less that (Å).

R_i is the Lennard-Jones radius and r_i the disk's radius. The force holds no Coulomb part: where the repulsion reaches
0.1 eV/Å the charges of organic molecules move the surface by hundredths of an Å, and a map that depends on geometry
alone can be computed from any answer's atoms.
"""

from functools import cache

import torch
from torch import Tensor

from afmid import DataError
from afmid.molecule import SYMBOLS
from afmid.simulate.elements import lennard_jones

DISK_RADIUS = {
    "H": 0.365, "C": 0.735, "N": 0.70, "O": 0.665, "F": 0.605, "Si": 1.105,
    "P": 1.03, "S": 1.01, "Cl": 0.995, "Br": 1.145, "I": 1.365,
}  # fmt: skip
DISK_DEPTH = 1.2  # Å
SPHERE_SHRINK = 0.5  # Å
SPHERE_DEPTH = 1.5  # Å
HEIGHT_FORCE = 0.1  # eV/Å
HEIGHT_DEPTH = 2.0  # Å
OXYGEN = 8
_STEP = 0.25  # Å between the heights at which the force is compared with HEIGHT_FORCE
_NEWTON_STEPS = 4  # from 0.25 Å to below 1e-4 Å
_CHUNK, _CHUNK_ELSEWHERE = 1 << 17, 1 << 26  # pairs of pixel and atom at once: on a CPU what its cache holds
_CORE = 0.25  # Å²: nearer to an atom the force is that at this distance
_FAR = 1e3  # Å: where padding atoms are put


@torch.no_grad()
def descriptor_maps(numbers: Tensor, positions: Tensor, mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return disks (no unit), spheres (Å) and height (Å), (B, 3, X, Y), of the dtype and on the device of `positions`.

    Args:
        numbers: atomic numbers, long (B, N); any value where `mask` is False.
        positions: Å, (B, N, 3), in the frame of `x` and `y`; only differences of z count.
        mask: bool (B, N), True at atoms, False at padding; each sample has at least one atom.
        x, y: pixel positions (Å), (B, X) and (B, Y).

    Raises:
        DataError: an element that has no disk radius.
    """
    samples = numbers, positions, mask, x, y
    if positions.device.type == "cpu" and len(numbers) > 1:  # one by one, without the padding, is faster on a CPU
        alone = ((n[m], p[m], m[m], *rest) for n, p, m, *rest in zip(*samples, strict=True))
        return torch.cat([_maps(*(t[None] for t in sample)) for sample in alone])
    return _maps(*samples)


def _maps(numbers: Tensor, positions: Tensor, mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
    radii, depths, disk_radii = (t.to(positions) for t in _parameters(numbers.where(mask, OXYGEN)))
    z = positions[..., 2].where(mask, -torch.inf)
    z = (z - z.amax(1, keepdim=True)).clamp_min(-_FAR)  # (B, N): 0 at the highest atom, far below where there is none
    rho2 = _lateral(positions, x, y)
    disks = atomic_disks(rho2, z, radii, disk_radii)
    maps = torch.stack([disks, vdw_spheres(rho2, z, radii), height_map(rho2, z, radii, depths)], 1)
    return maps.reshape(len(maps), len(maps[0]), x.shape[1], y.shape[1])


def _lateral(positions: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return squared lateral distances (Å²) of atoms (B, N, 3) from all pixels, (B, X·Y, N)."""
    dx = (x[:, :, None] - positions[:, None, :, 0]).square()
    dy = (y[:, :, None] - positions[:, None, :, 1]).square()
    return (dx[:, :, None] + dy[:, None]).flatten(1, 2)


def atomic_disks(rho2: Tensor, z: Tensor, radii: Tensor, disk_radii: Tensor) -> Tensor:
    """Return the disks map (B, P) from squared lateral distances (B, P, N) and the atoms' z and radii (B, N), Å."""
    weight = disk_weight(z, radii)
    return torch.einsum("bpn,bn->bp", (1 - rho2.sqrt() / disk_radii[:, None]).clamp_min(0), weight)


def disk_weight(z: Tensor, radii: Tensor) -> Tensor:
    """Return the height of each atom's disk at its centre, (B, N), 0–1; 0 where it has none."""
    depth = z.amax(1, keepdim=True) - z
    top = z + radii
    seen = (depth < DISK_DEPTH) & (top.amax(1, keepdim=True) - top < DISK_DEPTH)
    return (1 - depth / DISK_DEPTH) * seen


def vdw_spheres(rho2: Tensor, z: Tensor, radii: Tensor) -> Tensor:
    """Return the spheres map (B, P) from squared lateral distances (B, P, N) and the atoms' z and radii (B, N), Å."""
    radii = radii - SPHERE_SHRINK
    top = (z + radii).amax(1, keepdim=True)
    lowest = top - SPHERE_DEPTH
    cap = (radii.square()[:, None] - rho2).clamp_min(0)
    surface = torch.where(cap > 0, cap.sqrt() + z[:, None], lowest[:, None]).amax(2).maximum(lowest)
    return surface - surface.amin(1, keepdim=True)


def height_map(rho2: Tensor, z: Tensor, radii: Tensor, depths: Tensor) -> Tensor:
    """Return the height map (B, P) from squared lateral distances (B, P, N) and the atoms' z, R and E (B, N), Å, eV.

    The force is compared with its threshold on planes 0.25 Å apart, from where all atoms still attract the probe
    downwards; the first crossing is then refined by Newton's method inside its two planes.
    """
    (probe_radius,), (probe_depth,) = lennard_jones([OXYGEN])
    reach = radii + float(probe_radius)  # (B, N): where a pair's force is zero
    attract = 12 * (depths * float(probe_depth)).sqrt() * reach**6
    law = torch.stack([attract * reach**6, attract], 1)  # (B, 2, N): F = Σ Δz (law_0/s⁷ − law_1/s⁴), s = distance²
    start = (z + reach).amax(1)  # (B,)
    stop = start.clone().fill_(-torch.inf)
    crossed = torch.full_like(rho2[..., 0], -torch.inf)  # (B, P): the highest plane on which the force is too strong
    plane, lowest = start, z.where(z > -_FAR, 0).amin(1)
    while (plane > stop.maximum(lowest)).any():
        plane = plane - _STEP
        strong = _force(rho2, plane[:, None] - z, law) >= HEIGHT_FORCE
        crossed = torch.where(strong & crossed.isneginf(), plane[:, None], crossed)
        stop = crossed.amax(1) - HEIGHT_DEPTH
    sample, pixel = torch.nonzero(crossed > -torch.inf, as_tuple=True)
    if not len(sample):
        return torch.zeros_like(crossed)
    for at in zip(sample.split(_rows(rho2)), pixel.split(_rows(rho2)), strict=True):
        crossed[at] = _refine(crossed[at], rho2[at], z[at[0]], law[at[0]])
    top = crossed.amax(1, keepdim=True)
    surface = crossed.maximum(top - HEIGHT_DEPTH).nan_to_num(nan=0.0, neginf=0.0)
    return surface - surface.amin(1, keepdim=True)


def _force(rho2: Tensor, dz: Tensor, law: Tensor) -> Tensor:
    """Return the vertical force (eV/Å), (B, P), on a probe at the heights `dz` (B, N) above the atoms."""
    rows = _rows(rho2)
    law, dz2 = (law * dz[:, None]).unsqueeze(3), dz.square()[:, None]
    work = rho2.new_empty(3, len(rho2), rows, rho2.shape[2])  # made once: memory costs more than arithmetic here
    force = torch.empty_like(rho2[..., 0])
    for part, answer in zip(rho2.split(rows, 1), force.split(rows, 1), strict=True):
        inverse, square, fourth = work[:, :, : part.shape[1]]
        torch.add(part, dz2, out=inverse).clamp_min_(_CORE).reciprocal_()
        torch.mul(inverse, inverse, out=square)
        torch.mul(square, square, out=fourth)
        seventh = inverse.mul_(square).mul_(fourth)
        answer.copy_((seventh @ law[:, 0] - fourth @ law[:, 1]).squeeze(2))
    return force


def _refine(low: Tensor, rho2: Tensor, z: Tensor, law: Tensor) -> Tensor:
    """Return where the force crosses its threshold between `low` (M,) and a step above; `law` is (M, 2, N)."""
    high, height = low + _STEP, low.clone()
    for _ in range(_NEWTON_STEPS):
        dz = height[:, None] - z
        inverse = (rho2 + dz.square()).clamp_min_(_CORE).reciprocal_()
        fourth = inverse.square().square_()
        attract = law[:, 1] * fourth
        repel = fourth.mul_(inverse).mul_(inverse).mul_(inverse).mul_(law[:, 0])
        excess = torch.linalg.vecdot(dz, repel - attract) - HEIGHT_FORCE
        slope = (repel - attract).sum(1) - torch.linalg.vecdot(dz.square_().mul_(inverse), 14 * repel - 8 * attract)
        strong = excess >= 0
        low, high = torch.where(strong, height, low), torch.where(strong, high, height)
        newton = height - excess / slope
        height = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
    return height


def _rows(pairs: Tensor) -> int:
    """Return how many rows of (B, rows, N) or (rows, N) pairs to work on at once."""
    size = _CHUNK if pairs.device.type == "cpu" else _CHUNK_ELSEWHERE
    return size * pairs.shape[-2] // pairs.numel() + 1


def _parameters(numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return R (Å), E (eV) and the disk radius (Å) of atomic numbers, each of their shape.

    Raises:
        DataError: an element that has no disk radius.
    """
    table = _table()
    values = table.to(numbers.device)[numbers]
    if values.isnan().any():
        symbol = SYMBOLS[int(numbers[values[..., 0].isnan()][0])]
        raise DataError(f"descriptor maps know {' '.join(DISK_RADIUS)}; not {symbol}")
    return values[..., 0], values[..., 1], values[..., 2]


@cache
def _table() -> Tensor:
    numbers = [SYMBOLS.index(symbol) for symbol in DISK_RADIUS]
    table = torch.full((len(SYMBOLS), 3), torch.nan, dtype=torch.float64)
    radii, depths = lennard_jones(numbers)
    for row, values in zip(numbers, zip(radii, depths, DISK_RADIUS.values(), strict=True), strict=True):
        table[row] = torch.tensor(values, dtype=torch.float64)
    return table
