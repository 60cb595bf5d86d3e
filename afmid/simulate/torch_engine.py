"""The torch engine: the law of `reference` summed directly over the atoms, in batches, on cpu, cuda or mps.

No force grid: Newton's method with the analytic Hessian, a trust radius and a quadratic start from the heights before
needs little more than one force evaluation per tip position. Signs and symbols as in `reference`.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from afmid.errors import DataError
from afmid.offers import Images
from afmid.simulate.batch import Batch, groups
from afmid.simulate.oscillation import weighted
from afmid.simulate.reference import FLOOR
from afmid.simulate.scene import Scene

SOFTEST = 1e-3  # eV/Å²: curvatures below this count as this
RIDGE = -1e-4  # eV/Å²: below this curvature the probe stands on a ridge and is sent off it, by 0.05 Å
REACH = 0.3  # Å: the longest step at first
GUESS = 0.15  # Å: the longest extrapolation from the heights before
SETTLED = 1e-4  # eV/Å; or 3e-3 where the step that is still taken is a short one:
LAST_STEP = 0.005  # Å
ITERATIONS = 40


class TorchSimulator:
    """Simulates batches of scenes on a device.

    Args:
        device: "cpu", "cuda" or "mps".
        precision: "single" or "double".
        compile: compile the kernel first: slow to start, faster on a CPU afterwards.
        chunk: atom-pixel pairs held at once, which bounds the memory; 0 chooses for the device.

    Raises:
        DataError: double precision on mps.
    """

    def __init__(self, device: str = "cpu", precision: str = "single", compile: bool = False, chunk: int = 0):  # noqa: A002
        self.device = torch.device(device)
        if self.device.type == "mps" and precision == "double":
            raise DataError("mps has no double precision; use the device cpu or single precision")
        self.dtype = torch.float64 if precision == "double" else torch.float32
        self.chunk = chunk or (2**27 if self.device.type == "cuda" else 2**19 if compile else 2**15)
        self._step: Callable[..., Tensor] = torch.compile(_step, dynamic=True) if compile else _step

    def images(
        self, scenes: Sequence[Scene], weights: ArrayLike = (1.0,), progress: Callable[[int], None] | None = None
    ) -> Images:
        """Return images as the Simulator protocol says, on the engine's device.

        Raises:
            DataError: scenes whose grids differ in shape, or an element without parameters.
        """
        if len({scene.shape for scene in scenes}) != 1:
            raise DataError("the scenes of a batch need grids of one shape")
        parts = [
            self.batch_images(Batch.of(group, self.dtype, self.device), weights, progress)
            for group in groups(scenes, self.chunk)
        ]
        return Images(*(torch.cat(part) for part in zip(*parts, strict=True)))

    @torch.no_grad()
    def batch_images(
        self, batch: Batch, weights: ArrayLike = (1.0,), progress: Callable[[int], None] | None = None
    ) -> Images:
        """Return the images of a batch that is on the engine's device and in its precision."""
        atoms, springs, pixels = batch.atoms()[..., None], batch.springs()[..., None], batch.pixels()
        z = batch.z - springs[5]  # of the tip base
        share = max(1, self.chunk // (atoms.shape[1] * atoms.shape[2]))
        parts = []
        for lateral in torch.split(pixels, share, dim=-1):
            fz, unsettled = self._descend(atoms, springs, lateral, z)
            parts.append((weighted(fz, np.asarray(weights, np.float64)), unsettled))
            if progress:
                progress(lateral[0].numel())
        values, unsettled = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return Images(values.reshape(len(batch), *batch.shape[:2], -1), unsettled.reshape(len(batch), *batch.shape[:2]))

    def _descend(self, atoms: Tensor, springs: Tensor, lateral: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vertical force (B, P, Z) at tip bases over `lateral` (2, B, P), and the failures (B, P)."""
        u = springs[3:].expand(-1, -1, lateral.shape[-1]).contiguous()  # (3, B, P) tip base to probe
        history: list[Tensor] = []
        out, lost = [], torch.zeros_like(lateral[0], dtype=torch.int32)
        for k in range(z.shape[1]):
            if len(history) == 3:
                u = u + (2 * history[2] - 3 * history[1] + history[0]).clamp(-GUESS, GUESS)
            elif len(history) == 2:
                u = u + (history[1] - history[0]).clamp(-GUESS, GUESS)
            base = torch.cat([lateral, z[None, :, k, None].expand(1, *lateral.shape[1:])])
            u, fz, going = self._relax(atoms, springs, base, u)
            history = [*history[-2:], u]
            lost += going.int()
            out.append(fz)
        return torch.stack(out, dim=-1), lost

    def _relax(self, atoms: Tensor, springs: Tensor, base: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return where the probe rests (3, B, P), the vertical force there (B, P), and where it did not settle."""
        zeros = torch.zeros_like(base)
        # rows: base 0–2, u 3–5, last step 6–8, last force · last step 9, reach 10, vertical force 11, going on 12
        state = torch.cat([base, u, zeros, zeros[:1], zeros[:1] + REACH, zeros[:1], zeros[:1] + 1])
        part, where = state, None
        for _ in range(ITERATIONS):
            part = self._step(part, atoms, springs)
            if where is not None:
                state.scatter_(2, where.expand_as(part), part)
            else:
                state = part
            going = int(state[12].count_nonzero(dim=1).max())
            if not going:
                break
            going = min(-(-going // 64) * 64, state.shape[2])  # in steps of 64, so that few shapes occur
            where = state[12].topk(going, dim=1).indices[None]  # (1, B, going): some settled ones fill up
            part = state.gather(2, where.expand(len(state), -1, -1))
        return state[3:6], state[11], state[12] > 0


def _sample(atoms: Tensor, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """Return force (3) and Hessian (xx, yy, zz, xy, xz, yz) of the sample, each (B, P), at probes (B, P)."""
    dx, dy, dz = x[:, None] - atoms[0], y[:, None] - atoms[1], z[:, None] - atoms[2]  # (B, N, P)
    i2 = 1 / (dx * dx + dy * dy + dz * dz).clamp(min=FLOOR)
    i6 = i2 * i2 * i2
    i3 = i2 * i2.sqrt()
    i8 = i6 * i2
    repulsion = atoms[4] * i6
    monopole, q5 = atoms[5] * i3, atoms[6] * i3 * i2
    z2 = dz * dz * i2
    a = (atoms[3] - repulsion) * i8 - monopole + q5 * (3 - 15 * z2)
    b = (14 * repulsion - 8 * atoms[3]) * (i8 * i2) + 3 * monopole * i2 + q5 * i2 * (105 * z2 - 15)
    c = -30 * q5 * dz * i2
    d = 6 * q5
    bx, by = b * dx, b * dy
    az = a + d
    return (
        -(a * dx).sum(1), -(a * dy).sum(1), -(az * dz).sum(1),
        (a + bx * dx).sum(1), (a + by * dy).sum(1), (az + (b * dz + 2 * c) * dz).sum(1),
        (bx * dy).sum(1), (bx * dz + c * dx).sum(1), (by * dz + c * dy).sum(1),
    )  # fmt: skip


def _step(state: Tensor, atoms: Tensor, tip: Tensor) -> Tensor:
    """Return the state (13, B, P) after one Newton step; settled probes stay where they are."""
    bx, by, bz, ux, uy, uz, lx, ly, lz, gain, reach, _, going = state.unbind()
    lateral, radial, length, rest_x, rest_y, _ = tip.unbind()
    fx, fy, fz, hxx, hyy, hzz, hxy, hxz, hyz = _sample(atoms, bx + ux, by + uy, bz + uz)
    r2 = ux * ux + uy * uy + uz * uz
    stretch = radial * (1 - length * r2.rsqrt())
    along = radial * length * r2.rsqrt() / r2
    gx = fx - lateral * (ux - rest_x) - stretch * ux
    gy = fy - lateral * (uy - rest_y) - stretch * uy
    gz = fz - stretch * uz
    jxx, jyy = hxx + lateral + stretch + along * ux * ux, hyy + lateral + stretch + along * uy * uy
    jzz = hzz + stretch + along * uz * uz
    jxy, jxz, jyz = hxy + along * ux * uy, hxz + along * ux * uz, hyz + along * uy * uz

    # the stiff direction z is eliminated; the two soft ones are solved in their own axes
    p = jzz.abs().clamp(min=0.2)
    sxx, syy, sxy = jxx - jxz * jxz / p, jyy - jyz * jyz / p, jxy - jxz * jyz / p
    rx, ry = gx - jxz / p * gz, gy - jyz / p * gz
    mean, half = (sxx + syy) / 2, (sxx - syy) / 2
    root = torch.sqrt(half * half + sxy * sxy).clamp(min=1e-12)
    high, low = mean + root, mean - root
    cos = torch.sqrt((0.5 + half / (2 * root)).clamp(min=0))
    sin = torch.copysign(torch.sqrt((0.5 - half / (2 * root)).clamp(min=0)), sxy)
    first = (cos * rx + sin * ry) / high.abs().clamp(min=SOFTEST)
    second = (cos * ry - sin * rx) / low.abs().clamp(min=SOFTEST)
    second = torch.where(low < RIDGE, torch.copysign(second.abs().clamp(min=0.05), second), second)
    ex, ey = cos * first - sin * second, sin * first + cos * second
    ez = (gz - jxz * ex - jyz * ey) / p

    overshot = gx * lx + gy * ly + gz * lz < -0.3 * gain
    reach = torch.where(overshot, reach / 2, (1.5 * reach).clamp(max=REACH))
    size = torch.sqrt(ex * ex + ey * ey + ez * ez)
    share = (reach / size.clamp(min=1e-12)).clamp(max=1)
    ex, ey, ez = share * ex, share * ey, share * ez
    g = torch.sqrt(gx * gx + gy * gy + gz * gz)
    settled = (low > RIDGE) & ((g < SETTLED) | ((size * share < LAST_STEP) & (g < 30 * SETTLED)))
    fz = fz - (hxz * ex + hyz * ey + hzz * ez)  # to first order, the force after the step
    after = torch.stack([bx, by, bz, ux + ex, uy + ey, uz + ez, ex, ey, ez,
                         gx * ex + gy * ey + gz * ez, reach, fz, (~settled).to(fz.dtype)])  # fmt: skip
    return torch.where(going > 0, after, state)
