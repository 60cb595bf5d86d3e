"""What the network learns: maps of a molecule's upper surface.

For a pixel at the lateral distance ρ from atom i at height z_i, d_i the depth below the highest atom:

- disks: Σ_i (1 − d_i/1.2 Å)(1 − ρ/r_i) over ρ < r_i, for atoms with d_i < 1.2 Å whose sphere top lies less than 1.2 Å
  below the highest sphere top;
- spheres: max_i z_i + √((R_i − 0.5 Å)² − ρ²), cut 1.5 Å below the highest sphere top, less its minimum (Å);
- height: the highest z at which the vertical Lennard-Jones force on an unrelaxed oxygen probe reaches
  +0.1 eV/Å, cut 2 Å below its maximum, less that (Å);
- bonds: max over the bonds (1 − d/1.2 Å)(1 − s/0.5 Å), both factors at least 0, where s is the lateral distance from
  the bond's projection and d the depth of the bond's nearest point, interpolated between its atoms;
- peaks: max_i min(1, 2 − d_i/0.6 Å) exp(−ρ²/(2 (0.25 Å)²)), the first factor at least 0: equal peaks down to 0.6 Å,
  ever lower ones down to 1.2 Å;
- field: Σ_i q_i h_i/(4πε₀(ρ² + h_i²)^{3/2}), the vertical field (V/Å) of the charges q_i, with h_i = 4.0 Å + d_i;
  zero where no sphere of radius R_i + 1.0 Å reaches to within 2.0 Å of the highest such sphere's top.

R_i is the Lennard-Jones radius and r_i the disk's radius. Disks, spheres and height are those of Alldritt et al.
(Sci. Adv. 6, eaay6913, 2020), the field that of Oinonen et al. (ACS Nano 16, 89, 2022) with the outline that ppafm
draws around it. ppafm also draws bonds, as ellipses that fade towards the atoms and reach beyond; the sticks here have
the same height all along a level bond and end at its atoms, so that bonds can be read from the map.

The force holds no Coulomb part: where the repulsion reaches 0.1 eV/Å the charges of organic molecules move the surface
by hundredths of an Å, and a map that depends on geometry alone can be computed from any answer's atoms.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from afmid import DataError
from afmid.molecule import SYMBOLS
from afmid.networks.peaks import peak_image
from afmid.simulate.elements import lennard_jones
from afmid.units import COULOMB
from afmid_descriptor.maps import MAPS

DISK_RADIUS = {
    "H": 0.365, "C": 0.735, "N": 0.70, "O": 0.665, "F": 0.605, "Si": 1.105,
    "P": 1.03, "S": 1.01, "Cl": 0.995, "Br": 1.145, "I": 1.365,
}  # fmt: skip
DISK_DEPTH = 1.2  # Å, of bonds too
SPHERE_SHRINK = 0.5  # Å
SPHERE_DEPTH = 1.5  # Å
HEIGHT_FORCE = 0.1  # eV/Å
HEIGHT_DEPTH = 2.0  # Å
BOND_RADIUS = 0.5  # Å
FIELD_HEIGHT = 4.0  # Å above the highest atom
OUTLINE_GROWTH = 1.0  # Å
OUTLINE_DEPTH = 2.0  # Å
OXYGEN = 8
_STRIDES = (4, 2, 1)  # pixels between those whose height is sought, each time starting from the ones before
_COARSEST = 0.6  # Å between them: what is above the cut is wider
_PRESSED = 1.0  # Å: more than the probe goes below where it is first repelled
_STEP = 0.5  # Å: the farthest that the search for the height goes at once
_STEPS = 24  # of that search at most
_CLOSE = 0.01  # Å: after a step as small as this the height is known to about 1e-4 Å
_LEDGE = 0.75  # Å: where neighbours differ by more, the search starts from the higher
_BELOW = 0.5  # Å: how far below its cut the height is still sought
_TOGETHER = 8  # molecules at once on a CPU
_CHUNK, _CHUNK_ELSEWHERE = 1 << 18, 1 << 26  # pairs of pixel and atom at once: on a CPU what its cache holds
_CORE = 0.25  # Å²: nearer to an atom the force is that at this distance
_TINY = 1e-12
_FAR = 1e3  # Å: how far below the others padding atoms are put


@dataclass(frozen=True, eq=False)
class _Surface:
    """Molecules under their pixels: B of them with N atoms, of which padding lies `_FAR` below and bears no charge.

    Attributes:
        positions: Å (B, N, 3), z 0 at the highest atom.
        radii, depths, disk_radii: R (Å), E (eV) and r (Å), each (B, N).
        charges: e (B, N).
        bonds, orders: (B, E, 2) and (B, E), 0 at padding.
        x, y: pixels (Å), (B, X) and (B, Y).
    """

    positions: Tensor
    radii: Tensor
    depths: Tensor
    disk_radii: Tensor
    charges: Tensor
    bonds: Tensor
    orders: Tensor
    x: Tensor
    y: Tensor

    @classmethod
    def of(
        cls, numbers: Tensor, positions: Tensor, mask: Tensor, x: Tensor, y: Tensor,
        charges: Tensor, bonds: Tensor, orders: Tensor, disks: bool,
    ) -> "_Surface":  # fmt: skip
        """Return the molecules around the middle of their pixels, which keeps single precision."""
        radii, depths, disk_radii = _parameters(numbers.where(mask, OXYGEN), disks).to(positions)
        x, y = x.to(positions), y.to(positions)
        middle = torch.stack([(axis[:, 0] + axis[:, -1]) / 2 for axis in (x, y)], 1)
        top = positions[..., 2].where(mask, -torch.inf).amax(1, keepdim=True)
        centred = positions - torch.cat([middle, top], 1)[:, None]
        centred = centred.where(mask[..., None], positions.new_tensor([0, 0, -_FAR]))
        charges = charges.to(positions) * mask
        return cls(
            centred, radii, depths, disk_radii, charges, bonds, orders, x - middle[:, :1], y - middle[:, 1:]
        )  # fmt: skip

    @property
    def z(self) -> Tensor:
        """Heights of the atoms (B, N)."""
        return self.positions[..., 2]


@torch.no_grad()
def descriptor_maps(
    numbers: Tensor, positions: Tensor, mask: Tensor, x: Tensor, y: Tensor, *,
    charges: Tensor | None = None, bonds: Tensor | None = None, orders: Tensor | None = None,
    names: Sequence[str] = tuple(MAPS),
) -> Tensor:  # fmt: skip
    """Return maps (B, len(names), X, Y) in the order of `names`, of the dtype and on the device of `positions`.

    Args:
        numbers: atomic numbers, long (B, N); any value where `mask` is False.
        positions: Å, (B, N, 3), in the frame of `x` and `y`; only differences of z count.
        mask: bool (B, N), True at atoms, False at padding; each sample has at least one atom.
        x, y: pixel positions (Å), (B, X) and (B, Y), two or more each.
        charges: e, (B, N); only the field needs them.
        bonds, orders: pairs of atoms, long (B, E, 2), and their orders (B, E), 0 at padding; only `bonds` needs them.
        names: some of `MAPS`.

    Raises:
        DataError: an element that has no disk radius.
        ValueError: an unknown map, or one for which charges or bonds are missing.
    """
    if unknown := set(names) - set(MAPS):
        raise ValueError(f"no map {' '.join(sorted(unknown))}; there are: {' '.join(MAPS)}")
    if charges is None:
        if "field" in names:
            raise ValueError("the field map needs charges")
        charges = torch.zeros_like(positions[..., 0])
    if bonds is None or orders is None:
        if "bonds" in names:
            raise ValueError("the bond map needs bonds and their orders")
        bonds, orders = numbers.new_zeros(len(numbers), 0, 2), positions.new_zeros(len(numbers), 0)
    draw = {
        "disks": atomic_disks, "spheres": vdw_spheres, "height": height_map, "bonds": bond_sticks, "field": field,
        "peaks": atom_peaks,
    }  # fmt: skip
    maps = positions.new_empty(len(numbers), len(names), x.shape[1], y.shape[1])
    together = _TOGETHER if positions.device.type == "cpu" else len(numbers)
    for some in torch.split(mask.sum(1).argsort(), together):  # molecules of a size, which leaves little padding
        atoms = slice(int(mask[some].any(0).nonzero().max()) + 1)
        surface = _Surface.of(
            numbers[some, atoms], positions[some, atoms], mask[some, atoms], x[some], y[some],
            charges[some, atoms], bonds[some], orders[some], "disks" in names,
        )  # fmt: skip
        maps[some] = torch.stack([draw[name](surface) for name in names], 1)
    return maps


def atomic_disks(surface: _Surface) -> Tensor:
    """Return the disks map (B, X, Y)."""
    weight = disk_weight(surface.z, surface.radii)
    atoms = _which(weight > 0)
    weight, radii = (t.gather(1, atoms.index) * atoms.kept for t in (weight, surface.disk_radii))
    patch = _Patches.around(surface, _of(surface.positions, atoms)[..., None, :2], radii)
    rho = torch.hypot(patch.dx, patch.dy)
    cones = (1 - rho / radii.clamp_min(_TINY)[..., None, None]).clamp_min(0) * weight[..., None, None]
    return patch.drawn(cones, surface, "sum")


def disk_weight(z: Tensor, radii: Tensor) -> Tensor:
    """Return the height of each atom's disk at its centre, (B, N), 0–1; 0 where it has none."""
    depth = z.amax(1, keepdim=True) - z
    top = z + radii
    seen = (depth < DISK_DEPTH) & (top.amax(1, keepdim=True) - top < DISK_DEPTH)
    return (1 - depth / DISK_DEPTH) * seen


def atom_peaks(surface: _Surface) -> Tensor:
    """Return the peaks map (B, X, Y)."""
    return peak_image(surface.positions, surface.z > -_FAR, surface.x, surface.y)


def vdw_spheres(surface: _Surface) -> Tensor:
    """Return the spheres map (B, X, Y), Å."""
    radii = surface.radii - SPHERE_SHRINK
    tops = surface.z + radii
    lowest = tops.amax(1, keepdim=True) - SPHERE_DEPTH
    atoms = _which(tops > lowest)
    radii = radii.gather(1, atoms.index)
    above = (surface.z - lowest).gather(1, atoms.index)
    patch = _Patches.around(surface, _of(surface.positions, atoms)[..., None, :2], radii)
    cap = radii.square()[..., None, None] - patch.dx.square() - patch.dy.square()
    heights = torch.where(cap > 0, cap.clamp_min(0).sqrt_() + above[..., None, None], 0)
    spheres = patch.drawn(heights.clamp_min_(0), surface, "amax")
    return spheres - spheres.amin((1, 2), keepdim=True)


def bond_sticks(surface: _Surface) -> Tensor:
    """Return the bond map (B, X, Y)."""
    if not surface.bonds.shape[1]:
        return surface.x.new_zeros(len(surface.x), surface.x.shape[1], surface.y.shape[1])
    depths = -surface.z[:, None].expand(-1, surface.bonds.shape[1], -1).gather(2, surface.bonds)  # (B, E, 2)
    ends = surface.bonds.gather(2, depths.argsort(2))  # the upper atom first: a bond that points down shows that one
    depths = depths.sort(2).values
    seen = _which((depths[..., 0] < DISK_DEPTH) & (surface.orders > 0))
    ends, depths = _of(ends, seen), _of(depths, seen)
    points = surface.positions[:, None, :, :2].expand(-1, ends.shape[1], -1, -1)
    points = points.gather(2, ends[..., None].expand(-1, -1, -1, 2))  # (B, K, 2, 2)
    patch = _Patches.around(surface, points, torch.full_like(depths[..., 0], BOND_RADIUS))
    along = points[:, :, 1] - points[:, :, 0]
    unit = (along / along.square().sum(2, keepdim=True).clamp_min(_TINY))[..., None, None]
    share = (patch.dx * unit[:, :, 0] + patch.dy * unit[:, :, 1]).clamp_(0, 1)  # of the way from the upper atom
    s = torch.hypot(patch.dx - share * along[:, :, 0, None, None], patch.dy - share * along[:, :, 1, None, None])
    slope = (depths[..., 1] - depths[..., 0])[..., None, None]
    weight = (1 - (depths[..., :1, None] + share * slope) / DISK_DEPTH).clamp_min_(0) * seen.kept[..., None, None]
    return patch.drawn((1 - s / BOND_RADIUS).clamp_min_(0) * weight, surface, "amax")


def field(surface: _Surface) -> Tensor:
    """Return the vertical field (B, X, Y), V/Å, within the outline.

    It is computed at Chebyshev's points of the window, from whose polynomial it differs by less than 1e-8 of its size:
    the poles of the field lie `FIELD_HEIGHT` or more away from the plane.
    """
    (x, to_x), (y, to_y) = (_chebyshev(axis) for axis in (surface.x, surface.y))
    height = FIELD_HEIGHT - surface.z
    dx2, dy2 = (points[:, None] - surface.positions[..., k, None] for k, points in enumerate((x, y)))
    dx2, dy2 = dx2.square_() + height.square()[..., None], dy2.square_()
    inverse = (dx2[..., None] + dy2[:, :, None]).rsqrt_()
    weight = (COULOMB * surface.charges * height)[:, None]
    at_points = (weight @ (inverse * inverse.square()).flatten(2)).view(len(x), x.shape[1], y.shape[1])
    everywhere: Tensor = to_x @ at_points @ to_y.mT
    return everywhere.masked_fill_(~_outline(surface), 0)


def _outline(surface: _Surface) -> Tensor:
    """Return where a grown sphere reaches above the outline's depth, bool (B, X, Y)."""
    radii = surface.radii + OUTLINE_GROWTH
    tops = surface.z + radii
    lowest = tops.amax(1, keepdim=True) - OUTLINE_DEPTH
    atoms = _which(tops > lowest)
    square = (radii.square() - (lowest - surface.z).clamp_min(0).square()).gather(1, atoms.index)[..., None]
    positions = _of(surface.positions, atoms)
    half = (square - (surface.x[:, None] - positions[..., :1]).square()).clamp_min_(0).sqrt_()  # of a sphere's chords
    begin = torch.searchsorted(surface.y, (positions[..., 1:2] - half).flatten(1), right=True)
    end = torch.searchsorted(surface.y, (positions[..., 1:2] + half).flatten(1)).maximum(begin)
    row = torch.arange(half.shape[2], device=half.device).repeat(half.shape[1]) * (surface.y.shape[1] + 1)
    inside = torch.zeros(len(half), half.shape[2] * (surface.y.shape[1] + 1), device=half.device, dtype=torch.int32)
    one = torch.ones_like(begin, dtype=torch.int32)
    inside.scatter_add_(1, row + begin, one).scatter_add_(1, row + end, -one)
    return inside.view(len(half), half.shape[2], -1)[..., :-1].cumsum(2) > 0


def _chebyshev(axis: Tensor) -> tuple[Tensor, Tensor]:
    """Return Chebyshev's points (B, n) on axes (B, X) about 0, and what takes values there to the pixels (B, X, n)."""
    half = axis.abs().amax(1, keepdim=True).clamp_min(_TINY)
    count = math.ceil(20 / math.asinh(FIELD_HEIGHT / float(half.amax())))
    angles = (torch.arange(count, device=axis.device, dtype=axis.dtype) + 0.5) * (math.pi / count)
    order = torch.arange(count, device=axis.device, dtype=axis.dtype)
    at_pixels = torch.cos((axis / half).clamp_(-1, 1).acos_()[..., None] * order)
    at_points = torch.cos(angles[:, None] * order) * (2 / count)
    at_points[:, 0] /= 2
    return half * angles.cos(), at_pixels @ at_points.mT


def height_map(surface: _Surface) -> Tensor:
    """Return the height map (B, X, Y), Å.

    Sought on a coarse grid first, from where all atoms still attract the probe downwards; the finer grids start from
    what the coarser found.
    """
    pixel = max(float(axis.diff().amax()) for axis in (surface.x, surface.y))
    coarse, *finer = [stride for stride in _STRIDES if stride * pixel <= _COARSEST or stride == 1]
    force = _Force.of(surface)
    x, y = _every(coarse, surface.x), _every(coarse, surface.y)
    start = force.bound(x, y)
    floor = (start.amax((1, 2), keepdim=True) - HEIGHT_DEPTH - _PRESSED).clamp_min(-_FAR)
    heights = force.highest(start, floor, x, y)
    for stride in finer:
        floor = floor.maximum(heights.amax((1, 2), keepdim=True) - HEIGHT_DEPTH - _BELOW)
        x, y = _every(stride, surface.x), _every(stride, surface.y)
        heights = force.highest(_finer(heights, x.shape[1], y.shape[1]), floor, x, y)
    heights = (heights - heights.amax((1, 2), keepdim=True) + HEIGHT_DEPTH).clamp_min_(0)
    return heights - heights.amin((1, 2), keepdim=True)


@dataclass(frozen=True, eq=False)
class _Force:
    """The vertical force on the probe, Σ h (repel/s⁷ − attract/s⁴) over atoms h below it at the squared distance s.

    Attributes:
        surface: the molecules.
        reach: where a pair's force is zero, Å (B, N); 0 at padding.
        squares: (B, N, 5), what takes (x² + y² + z², x, y, z, 1) of a point to its s from each atom.
        repel, attract: (B, 3, N), each atom's law times 1, z and z².
    """

    surface: _Surface
    reach: Tensor
    squares: Tensor
    repel: Tensor
    attract: Tensor

    @classmethod
    def of(cls, surface: _Surface) -> "_Force":
        (probe_radius,), (probe_depth,) = lennard_jones([OXYGEN])
        positions, real = surface.positions, surface.z > -_FAR
        reach = (surface.radii + float(probe_radius)) * real
        attract = 12 * (surface.depths * float(probe_depth)).sqrt() * reach**6
        ones = torch.ones_like(reach)
        squares = torch.stack([ones, *(-2 * positions).unbind(2), positions.square().sum(2)], 2)
        moments = torch.stack([ones, surface.z, surface.z.square()], 1)
        return cls(surface, reach, squares, (attract * reach**6)[:, None] * moments, attract[:, None] * moments)

    def bound(self, x: Tensor, y: Tensor) -> Tensor:
        """Return above which height all atoms attract the probe, (B, X, Y), Å; −inf where they do everywhere."""
        atoms = self.surface.positions
        cap = self.reach.square()[..., None] - (x[:, None] - atoms[..., :1]).square()
        cap = cap[..., None] - (y[:, None] - atoms[..., 1:2]).square()[:, :, None]
        return torch.where(cap > 0, cap.clamp_min(0).sqrt_() + atoms[..., 2, None, None], -torch.inf).amax(1)

    def highest(self, start: Tensor, floor: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return where the force first reaches `HEIGHT_FORCE`, (B, X, Y), Å; `floor` where nowhere above that.

        The search goes by Newton's method for (repulsion / (HEIGHT_FORCE + attraction))^(−1/13), which above a lone
        atom is almost linear in the height, between the lowest height known to be too high and the highest too low.

        Args:
            start: where to begin (B, X, Y); nothing is sought where that is not above `floor`.
            floor: (B, 1, 1).
            x, y: pixels, (B, X) and (B, Y).
        """
        start, floor, shape = start.flatten(1), floor.flatten(1), start.shape
        nowhere = start.shape[1]  # where what is not kept goes
        found = floor.repeat(1, nowhere + 1)
        sought = _which(start > floor)
        pixels = sought.index
        z = start.gather(1, pixels).maximum(floor)
        at_x, at_y = x.gather(1, pixels // y.shape[1]), y.gather(1, pixels % y.shape[1])
        low, high = torch.full_like(z, -torch.inf), torch.full_like(z, torch.inf)
        for _ in range(_STEPS):
            ratio, slope = self._ratio(at_x, at_y, z, sought.kept)
            strong = ratio >= 1
            low, high = torch.where(strong, z, low), torch.where(strong, high, z)
            step = torch.where(slope < 0, (1 - ratio.pow(1 / 13)) * 13 / slope, torch.where(strong, _STEP, -_STEP))
            new = z + step.clamp_(-_STEP, _STEP)
            middle = (low + high) / 2
            new = torch.where(((low <= new) & (new <= high)) | ~middle.isfinite(), new, middle)
            found.scatter_(1, pixels.where(sought.kept, nowhere), new)
            sought = _which(sought.kept & ((new - z).abs() > _CLOSE) & (new > floor))
            if not sought.kept.any():
                break
            pixels, at_x, at_y, z, low, high = (t.gather(1, sought.index) for t in (pixels, at_x, at_y, new, low, high))
        return found[:, :nowhere].maximum(floor).view(shape)

    def _ratio(self, x: Tensor, y: Tensor, z: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return repulsion / (HEIGHT_FORCE + attraction) at points, and the slope of its logarithm (1/Å), each (B, M).

        Only the first points of a row are `kept`.
        """
        points = torch.stack([x.square() + y.square() + z.square(), x, y, z, torch.ones_like(z)], 1)
        sums = z.new_zeros(len(z), 10, z.shape[1])
        size = (_CHUNK if z.device.type == "cpu" else _CHUNK_ELSEWHERE) // self.reach.numel() + 1
        counts = kept.sum(1).tolist()
        for begin in range(0, z.shape[1], size):
            columns = slice(begin, begin + size)
            busy = [row for row, count in enumerate(counts) if count > begin]
            rows = busy if len(busy) < len(counts) else slice(None)
            inverse = (self.squares[rows] @ points[rows, :, columns]).clamp_min_(_CORE).reciprocal_()
            fourth = inverse.square().square_()
            fifth = fourth * inverse
            attract, repel = self.attract[rows], self.repel[rows]
            parts = [attract[:, :2] @ fourth, attract @ fifth]
            seventh = inverse.square_().mul_(fifth)
            parts += [repel @ fourth.square_(), repel[:, :2] @ seventh]
            sums[rows, :, columns] = torch.cat(parts, 1)
        a4, az4, a5, az5, azz5, r8, rz8, rzz8, r7, rz7 = sums.unbind(1)
        attraction, repulsion = z * a4 - az4 + HEIGHT_FORCE, z * r7 - rz7
        attraction_slope = a4 - 8 * (z * (z * a5 - 2 * az5) + azz5)
        repulsion_slope = r7 - 14 * (z * (z * r8 - 2 * rz8) + rzz8)
        attraction, repulsion = attraction.clamp_min_(_TINY), repulsion.clamp_min_(_TINY)
        return repulsion / attraction, repulsion_slope / repulsion - attraction_slope / attraction


def _every(stride: int, axis: Tensor) -> Tensor:
    """Return each `stride`th pixel of an axis (B, X), and the last."""
    return axis[
        :, torch.arange(0, axis.shape[1] - 1 + stride, stride, device=axis.device).clamp_max_(axis.shape[1] - 1)
    ]


def _finer(heights: Tensor, x: int, y: int) -> Tensor:
    """Return where to begin on the next grid, (B, x, y): between neighbours, at ledges from the highest of them."""
    means = highest = lowest = heights
    for dim, count in ((1, x), (2, y)):
        means = _between(means, dim, count, lambda left, right: (left + right) / 2)
        highest = _between(highest, dim, count, torch.maximum)
        lowest = _between(lowest, dim, count, torch.minimum)
    return torch.where(highest - lowest < _LEDGE, means, highest)


def _between(values: Tensor, dim: int, count: int, made: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the first `count` of values along `dim` with what is made of two neighbours between them."""
    left, right = values.narrow(dim, 0, values.shape[dim] - 1), values.narrow(dim, 1, values.shape[dim] - 1)
    pairs = torch.stack([left, made(left, right)], dim + 1).flatten(dim, dim + 1)
    return torch.cat([pairs, right.narrow(dim, right.shape[dim] - 1, 1)], dim).narrow(dim, 0, count)


@dataclass(frozen=True, eq=False)
class _Kept:
    """Which items of a row to work on.

    Attributes:
        index: (B, K), K those of the fullest row, one at least.
        kept: bool (B, K), False where a row has fewer; `index` names its first again there, or 0.
    """

    index: Tensor
    kept: Tensor


def _which(keep: Tensor) -> _Kept:
    """Return where `keep`, bool (B, N), is True."""
    count = keep.sum(1, keepdim=True)
    row, item = keep.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=keep.device) - (count.cumsum(0) - count)[row, 0]
    index = row.new_zeros(len(keep), max(1, int(count.max())))
    index[row, place] = item
    kept = torch.arange(index.shape[1], device=keep.device) < count
    return _Kept(index.where(kept, index[:, :1]), kept)


def _of(values: Tensor, items: _Kept) -> Tensor:
    """Return the items of (B, N, C), (B, K, C)."""
    return values.gather(1, items.index[..., None].expand(-1, -1, values.shape[2]))


@dataclass(frozen=True, eq=False)
class _Patches:
    """Rectangles of pixels, (B, K, P, Q), outside of which something small has no effect.

    Attributes:
        pixels: indices into X·Y.
        dx, dy: from the first of the centres, Å (B, K, P, 1) and (B, K, 1, Q); `_FAR` in what overhangs.
    """

    pixels: Tensor
    dx: Tensor
    dy: Tensor

    @classmethod
    def around(cls, surface: _Surface, centres: Tensor, margin: Tensor) -> "_Patches":
        """Return patches that reach `margin` (B, K) beyond all of the centres (B, K, C, 2), Å."""
        rows, dx = _range(surface.x, centres[..., 0], margin)
        columns, dy = _range(surface.y, centres[..., 1], margin)
        return cls((rows * surface.y.shape[1])[..., None] + columns[:, :, None], dx[..., None], dy[:, :, None])

    def drawn(self, values: Tensor, surface: _Surface, reduce: str) -> Tensor:
        """Return values (B, K, P, Q), none negative, drawn over each other as an image (B, X, Y)."""
        image = values.new_zeros(len(values), surface.x.shape[1] * surface.y.shape[1])
        image.scatter_reduce_(1, self.pixels.flatten(1), values.flatten(1), reduce)
        return image.view(len(values), surface.x.shape[1], surface.y.shape[1])


def _range(axis: Tensor, centres: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """Return indices into an axis (B, X) and how far they lie from the first centre (B, K, C), each (B, K, P)."""
    first = torch.searchsorted(axis, centres.amin(2) - margin)
    last = torch.searchsorted(axis, centres.amax(2) + margin, right=True)
    index = first[..., None] + torch.arange(max(1, int((last - first).max())), device=axis.device)
    inside = index < last[..., None]
    index = index.clamp_max_(axis.shape[1] - 1)
    offset = axis.gather(1, index.flatten(1)).view_as(index) - centres[..., :1]
    return index, offset.where(inside, _FAR)


def _parameters(numbers: Tensor, disks: bool) -> Tensor:
    """Return R (Å), E (eV) and the disk radius (Å) of atomic numbers, (3, …), float64.

    Raises:
        DataError: an element without Lennard-Jones parameters, or one that has no disk radius where `disks` are drawn.
    """
    kinds, which = torch.unique(numbers, return_inverse=True)
    symbols = [SYMBOLS[number] for number in kinds.tolist()]
    if disks and (unknown := [symbol for symbol in symbols if symbol not in DISK_RADIUS]):
        raise DataError(f"the disks map knows {' '.join(DISK_RADIUS)}; not {unknown[0]}")
    radii, depths = lennard_jones(kinds.tolist())
    table = np.stack([radii, depths, [DISK_RADIUS.get(symbol, np.nan) for symbol in symbols]])
    return torch.from_numpy(table).to(numbers.device)[:, which]
