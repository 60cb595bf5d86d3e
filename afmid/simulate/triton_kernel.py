"""The scan as one kernel for CUDA: a single launch makes all images of a batch (Hapala et al., PRB 90, 085421, 2014).

One program, a single warp, takes one tile of one scene's pixels down all heights: at each it relaxes the probe by the
Newton step of `torch_engine`, then adds the force to every image that the height is part of. Å, eV and e; signs and
symbols as in `reference`.
"""
# mypy: disable-error-code="no-untyped-call,no-untyped-def,untyped-decorator"

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import ArrayLike

from afmid.offers import Images
from afmid.simulate import newton, reference
from afmid.simulate.batch import Batch
from afmid.simulate.oscillation import weighted

SOFTEST = tl.constexpr(newton.SOFTEST)
RIDGE = tl.constexpr(newton.RIDGE)
OFF_RIDGE = tl.constexpr(newton.OFF_RIDGE)
REACH = tl.constexpr(newton.REACH)
GUESS = tl.constexpr(newton.GUESS)
STIFFEST = tl.constexpr(newton.STIFFEST)
GROWTH = tl.constexpr(newton.GROWTH)
OVERSHOT = tl.constexpr(newton.OVERSHOT)
ITERATIONS = tl.constexpr(newton.ITERATIONS)
FLOOR = tl.constexpr(reference.FLOOR)
RECORD = tl.constexpr(8)  # floats per atom: x, y, z, 6 C₆, 12 C₁₂, k_e q Q₀, k_e q Q, and one to fill up
TILE = (4, 8)  # pixels along x and y: they settle together, and 8 floats along y are one sector of memory
OPTIONS = {"num_warps": 1, "enable_fp_fusion": True}  # of Triton's compiler


@torch.no_grad()
def triton_images(batch: Batch, weights: ArrayLike = (1.0,)) -> Images:
    """Return the images of a batch that is on a CUDA device in single precision; the device may still be at work.

    Args:
        batch: the scenes.
        weights: (K,), from far to near, as the Simulator protocol says.

    Raises:
        DataError: fewer heights than weights.
    """
    weights = np.asarray(weights, np.float64)
    nx, ny, nz = batch.shape
    images = len(weighted(np.zeros(nz), weights))
    atoms = batch.atoms()
    monopole, quadrupole = atoms[5:].flatten(1).any(dim=1).tolist()
    records = torch.nn.functional.pad(atoms.permute(1, 2, 0), (0, 1)).contiguous()
    values = atoms.new_zeros((len(batch), images, nx, ny))
    unsettled = torch.empty((len(batch), nx, ny), dtype=torch.int32, device=values.device)
    goal = newton.goal(weights, batch.z.cpu().numpy())
    programs = len(batch) * triton.cdiv(nx, TILE[0]) * triton.cdiv(ny, TILE[1])
    with torch.cuda.device_of(values):
        _scan[(programs,)](
            values, unsettled, records, batch.counts, batch.springs().T.contiguous(),
            batch.x.contiguous(), batch.y.contiguous(), batch.z.contiguous(), torch.from_numpy(weights).to(values),
            records.shape[1], nx, ny, nz, len(weights), *goal, *TILE, monopole, quadrupole, **OPTIONS,
        )  # fmt: skip
    return Images(values.permute(0, 2, 3, 1).contiguous(), unsettled)


@triton.jit(do_not_specialize=("atoms", "nx", "ny", "nz", "span", "enough", "last_step"))
def _scan(
    values, unsettled, records, counts, springs, x, y, z, weights, atoms, nx, ny, nz, span,
    enough, last_step, TILE_X: tl.constexpr, TILE_Y: tl.constexpr, MONOPOLE: tl.constexpr, QUADRUPOLE: tl.constexpr,
):  # fmt: skip
    """Add to values (B, Z', X, Y), which are zero, and set unsettled (B, X, Y).

    From records (B, atoms, 8), counts (B,), springs (B, 6), x (B, nx), y (B, ny), z (B, nz) and weights (span,).
    """
    columns = tl.cdiv(ny, TILE_Y)
    tiles = tl.cdiv(nx, TILE_X) * columns
    tile = tl.program_id(0) % tiles
    scene = (tl.program_id(0) // tiles).to(tl.int64)
    lane = tl.arange(0, TILE_X * TILE_Y)
    ix = tile // columns * TILE_X + lane // TILE_Y
    iy = tile % columns * TILE_Y + lane % TILE_Y
    inside = (ix < nx) & (iy < ny)
    pixel = ix * ny + iy
    plane = nx.to(tl.int64) * ny  # pixels of an image

    values += scene * (nz - span + 1) * nx * ny
    records += scene * atoms * RECORD
    count = tl.load(counts + scene)
    springs += scene * 6
    lateral, radial, length = tl.load(springs), tl.load(springs + 1), tl.load(springs + 2)
    rest_x, rest_y, rest_z = tl.load(springs + 3), tl.load(springs + 4), tl.load(springs + 5)
    bx = tl.load(x + scene * nx + ix, inside, 0.0)
    by = tl.load(y + scene * ny + iy, inside, 0.0)

    zero = tl.zeros_like(bx)
    ux, uy, uz = zero + rest_x, zero + rest_y, zero + rest_z  # tip base to probe
    vx, vy, vz, wx, wy, wz = ux, uy, uz, ux, uy, uz  # one and two heights before
    lost = tl.zeros_like(ix)
    for height in range(nz):
        bz = tl.load(z + scene * nz + height) - rest_z
        gx, gy, gz = _guess(ux, vx, wx, height), _guess(uy, vy, wy, height), _guess(uz, vz, wz, height)
        wx, wy, wz, vx, vy, vz = vx, vy, vz, ux, uy, uz
        ux, uy, uz = ux + gx, uy + gy, uz + gz

        lx, ly, lz, gain, reach, fz = zero, zero, zero, zero, zero + REACH, zero
        going = inside.to(tl.int32)
        step = 0
        while (tl.max(going, 0) > 0) & (step < ITERATIONS):
            fx, fy, f, hxx, hyy, hzz, hxy, hxz, hyz = _sample(
                records, count, bx + ux, by + uy, bz + uz, MONOPOLE, QUADRUPOLE
            )
            lx, ly, lz, gain, reach, f, settled = _step(
                ux, uy, uz, lx, ly, lz, gain, reach, fx, fy, f, hxx, hyy, hzz, hxy, hxz, hyz,
                lateral, radial, length, rest_x, rest_y, enough, last_step,
            )  # fmt: skip
            on = going > 0  # the others have settled and stay where they are
            ux, uy, uz = tl.where(on, ux + lx, ux), tl.where(on, uy + ly, uy), tl.where(on, uz + lz, uz)
            fz = tl.where(on, f, fz)
            going = tl.where(settled, 0, going)
            step += 1
        lost += going
        for image in range(tl.maximum(height - span + 1, 0), tl.minimum(height, nz - span) + 1):
            at = values + image * plane + pixel
            tl.store(at, tl.load(at, inside) + tl.load(weights + height - image) * fz, inside)
    tl.store(unsettled + scene * nx * ny + pixel, lost, inside)


@triton.jit
def _guess(u, v, w, height):
    """Return how far the probe is expected to move on from u, if one and two heights before it was at v and w."""
    guess = tl.where(height > 2, 2 * u - 3 * v + w, tl.where(height > 1, u - v, 0.0))
    return tl.minimum(tl.maximum(guess, -GUESS), GUESS)


@triton.jit
def _sample(records, count, x, y, z, MONOPOLE: tl.constexpr, QUADRUPOLE: tl.constexpr):
    """Return force (3) and Hessian (xx, yy, zz, xy, xz, yz) of a sample of `count` atoms at probes (x, y, z)."""
    zero = tl.zeros_like(x)
    fx, fy, fz, hxx, hyy, hzz, hxy, hxz, hyz, diagonal = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    for i in tl.range(count, loop_unroll_factor=2):
        atom = records + i * RECORD
        dx, dy, dz = x - tl.load(atom), y - tl.load(atom + 1), z - tl.load(atom + 2)
        i1 = tl.rsqrt(tl.maximum(dx * dx + dy * dy + dz * dz, FLOOR))
        i2 = i1 * i1
        i6 = i2 * i2 * i2
        i8 = i6 * i2
        repulsion = tl.load(atom + 4) * i6 * i8
        a = tl.load(atom + 3) * i8 - repulsion
        b = 6 * repulsion - 8 * a
        if MONOPOLE:
            monopole = tl.load(atom + 5) * (i1 * i2)
            a -= monopole
            b += 3 * monopole
        if QUADRUPOLE:
            q5 = tl.load(atom + 6) * (i1 * i2 * i2)
            z2 = dz * dz * i2
            a += q5 * (3 - 15 * z2)
            b += q5 * (105 * z2 - 15)
            c = -30 * q5 * dz * i2
            fz -= 6 * q5 * dz
            hzz += 6 * q5 + 2 * c * dz
            hxz += c * dx
            hyz += c * dy
        fx, fy, fz, diagonal = fx - a * dx, fy - a * dy, fz - a * dz, diagonal + a
        b *= i2
        bx, by, bz = b * dx, b * dy, b * dz
        hxx, hyy, hzz = hxx + bx * dx, hyy + by * dy, hzz + bz * dz
        hxy, hxz, hyz = hxy + bx * dy, hxz + bx * dz, hyz + by * dz
    return fx, fy, fz, hxx + diagonal, hyy + diagonal, hzz + diagonal, hxy, hxz, hyz


@triton.jit
def _step(
    ux, uy, uz, lx, ly, lz, gain, reach, fx, fy, fz, hxx, hyy, hzz, hxy, hxz, hyz,
    lateral, radial, length, rest_x, rest_y, enough, last_step,
):  # fmt: skip
    """Return the step, its gain, the reach, the vertical force after the step, and whether the probe has settled then.

    Args:
        ux, uy, uz: tip base to probe.
        lx, ly, lz, gain, reach: the step before.
        fx, fy, fz, hxx, …: the sample's force and Hessian.
        lateral, radial, length, rest_x, rest_y: of the springs.
        enough, last_step: see `newton.goal`.
    """
    i1 = tl.rsqrt(ux * ux + uy * uy + uz * uz)
    stretch = radial * (1 - length * i1)
    along = radial * length * i1 * i1 * i1
    gx = fx - lateral * (ux - rest_x) - stretch * ux
    gy = fy - lateral * (uy - rest_y) - stretch * uy
    gz = fz - stretch * uz
    jxx, jyy = hxx + lateral + stretch + along * ux * ux, hyy + lateral + stretch + along * uy * uy
    jzz = hzz + stretch + along * uz * uz
    jxy, jxz, jyz = hxy + along * ux * uy, hxz + along * ux * uz, hyz + along * uy * uz

    # the stiff direction z is eliminated; the two soft ones are solved in their own axes
    soft = 1 / tl.maximum(tl.abs(jzz), STIFFEST)
    px, py = jxz * soft, jyz * soft
    sxx, syy, sxy = jxx - jxz * px, jyy - jyz * py, jxy - jxz * py
    rx, ry = gx - px * gz, gy - py * gz
    mean, half = (sxx + syy) / 2, (sxx - syy) / 2
    root = tl.maximum(tl.sqrt(half * half + sxy * sxy), 1e-12)
    high, low = mean + root, mean - root
    tilt = half / (2 * root)
    cos = tl.sqrt(tl.maximum(0.5 + tilt, 0))
    sin = _copysign(tl.sqrt(tl.maximum(0.5 - tilt, 0)), sxy)
    first = (cos * rx + sin * ry) / tl.maximum(tl.abs(high), SOFTEST)
    second = (cos * ry - sin * rx) / tl.maximum(tl.abs(low), SOFTEST)
    second = tl.where(low < RIDGE, _copysign(tl.maximum(tl.abs(second), OFF_RIDGE), second), second)
    ex, ey = cos * first - sin * second, sin * first + cos * second
    ez = soft * (gz - jxz * ex - jyz * ey)

    overshot = gx * lx + gy * ly + gz * lz < -OVERSHOT * gain
    reach = tl.where(overshot, reach / 2, tl.minimum(GROWTH * reach, REACH))
    size = tl.sqrt(ex * ex + ey * ey + ez * ez)
    share = tl.minimum(reach / tl.maximum(size, 1e-12), 1)
    ex, ey, ez = share * ex, share * ey, share * ez
    settled = (low > RIDGE) & (size * share < last_step) & (gx * gx + gy * gy + gz * gz < enough * enough)
    after = fz - (hxz * ex + hyz * ey + hzz * ez)  # to first order, the force after the step
    return ex, ey, ez, gx * ex + gy * ey + gz * ez, reach, after, settled


@triton.jit
def _copysign(size, sign):
    return tl.where(sign < 0, -size, size)
