"""The torch engine: the law of `reference` summed directly over the atoms, in batches, on cpu, cuda or mps.

No force grid: Newton's method with the analytic Hessian, a trust radius and a quadratic start from the heights before
needs little more than one force evaluation per tip position. Signs and symbols as in `reference`.
"""

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from afmid.errors import AfmidError, DataError
from afmid.offers import Images
from afmid.simulate.batch import Batch, groups
from afmid.simulate.gradient import base_positions, differentiable, force_columns, pair_pass, rows, tangent
from afmid.simulate.law import Field, sample_field, spring_field
from afmid.simulate.newton import (
    GROWTH,
    GUESS,
    ITERATIONS,
    OFF_RIDGE,
    OVERSHOT,
    REACH,
    RIDGE,
    SOFTEST,
    STIFFEST,
    goal,
)  # fmt: skip
from afmid.simulate.oscillation import weighted
from afmid.simulate.reference import UNSETTLED
from afmid.simulate.scene import Scene, shared_shape
from afmid.simulate.splines import Splines, spline_field

log = logging.getLogger(__name__)

SETTLED_DOUBLE = 3e-9  # eV/Å: the force left in double precision, which is there to check others
LAUNCH = 2**27  # atom-pixel pairs that one launch of the kernel for CUDA takes
SPLINE = 20  # atoms that take as much memory and time as a potential


class _Law(NamedTuple):
    """What acts on the probe, and when it has settled."""

    atoms: Tensor  # (7, B, N, 1)
    springs: Tensor  # (6, B, 1)
    splines: Splines | None
    goal: Tensor  # (2,): see `newton.goal`

    @classmethod
    def of(cls, batch: Batch, weights: ArrayLike = (1.0,)) -> "_Law":
        enough, last_step = goal(weights, batch.z.detach().cpu().numpy())
        enough = SETTLED_DOUBLE if batch.z.dtype == torch.float64 else enough
        ends = batch.z.new_tensor([enough, last_step])
        return cls(batch.atoms()[..., None], batch.springs()[..., None], batch.splines, ends)

    def sample(self, x: Tensor, y: Tensor, z: Tensor) -> Field:
        """Return the sample's field at probes (B, P)."""
        field = sample_field(self.atoms, x, y, z)
        if self.splines is None:
            return field
        parts = zip(field, spline_field(self.splines, x, y, z), strict=True)
        return cast(Field, tuple(atoms + potential for atoms, potential in parts))


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
        self.chunk = chunk or (2**24 if self.device.type == "cuda" else 2**18 if compile else 2**17)
        self._fused = self.device.type == "cuda" and precision == "single" and find_spec("triton") is not None
        self._step: Callable[..., Tensor] = torch.compile(_step, dynamic=True) if compile else _step
        self._rest: Callable[..., tuple[Tensor, Tensor]] = torch.compile(_rest, dynamic=True) if compile else _rest
        self._pairs: Callable[..., Tensor] = torch.compile(pair_pass, dynamic=True) if compile else pair_pass

    def images(
        self, scenes: Sequence[Scene], weights: ArrayLike = (1.0,), progress: Callable[[int], None] | None = None
    ) -> Images:
        """Return images as the Simulator protocol says, on the engine's device.

        Raises:
            DataError: scenes whose grids differ in shape, or an element without parameters.
        """
        shared_shape(scenes)
        parts = [
            self.batch_images(Batch.of(group, self.dtype, self.device), weights, progress)
            for group in groups(scenes, LAUNCH if self._fused else self.chunk)
        ]
        return Images(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def batch_images(
        self, batch: Batch, weights: ArrayLike = (1.0,), progress: Callable[[int], None] | None = None
    ) -> Images:
        """Return the images of a batch that is on the engine's device and in its precision.

        Where the batch's tensors require gradients and gradients are enabled, the values have them (see `gradient`);
        those with respect to positions leave a potential where it is.

        Raises:
            DataError: fewer heights than weights, or gradients of charges where scenes have a potential.
        """
        atoms, springs, pixels = batch.atoms(), batch.springs(), batch.pixels()
        z = batch.z - springs[5, :, None]  # of the tip base
        wanted = any(given.requires_grad for given in (atoms, springs, pixels, z))
        if batch.splines and any(t.requires_grad for t in (batch.charges, batch.charge, batch.quadrupole)):
            raise DataError("where a scene has a potential there are no gradients with respect to charges")
        if self._fused and not (wanted or batch.splines) and (images := self._launched(batch, weights)):
            if progress:
                progress(images.unsettled.numel())
            return images
        law, parts = _Law.of(batch, weights), []
        for lateral in torch.split(pixels, self._share(batch), dim=-1):
            fz, unsettled, u, t = self._descend(law, lateral, z, wanted)
            if wanted:
                share = max(1, self._share(batch) // z.shape[1])
                fz = differentiable(fz, u, t, (atoms, springs, lateral, z), share, self._pairs)
            parts.append((weighted(fz, np.asarray(weights, np.float64)), unsettled))
            if progress:
                progress(unsettled.numel())
        values, unsettled = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return Images(values.reshape(len(batch), *batch.shape[:2], -1), unsettled.reshape(len(batch), *batch.shape[:2]))

    def _launched(self, batch: Batch, weights: ArrayLike) -> Images | None:
        """Return the images that the CUDA kernel makes; None, with a warning, where it does not work here."""
        try:
            from afmid.simulate.triton_kernel import triton_images

            return triton_images(batch, weights)
        except (AfmidError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # Triton needs a C compiler and a driver it knows, and fails in many ways
            reason = " ".join(str(error).split())[:200]
            log.warning("the kernel for CUDA does not work here, and tensor operations take over: %s", reason)
            self._fused = False
            return None

    @torch.no_grad()
    def jacobian(
        self, scenes: Callable[[Tensor], Batch], at: Tensor, weights: ArrayLike = (1.0,)
    ) -> tuple[Tensor, Tensor]:
        """Return the values of `batch_images` and their derivatives, in one pass over the pairs for all parameters.

        Args:
            scenes: of parameters (Q,) makes a batch; its axes x, y and z depend on none of them. A potential stays
                where it is.
            at: the parameters (Q,) at which to differentiate.
            weights: as for `batch_images`.

        Returns:
            values (B, X, Y, Z') and derivatives (B, X, Y, Z', Q).
        """
        batch = scenes(at)
        law, pixels, z = _Law.of(batch, weights), batch.pixels(), batch.z - batch.springs()[5, :, None]
        by_row = torch.func.jacrev(lambda given: rows((made := scenes(given)).atoms(), made.springs()))(at)
        share, begin = max(1, self._share(batch) // z.shape[1]), 0
        images = z.shape[1] - np.size(weights) + 1
        values = z.new_empty(len(batch), pixels.shape[-1], images)
        derivatives = z.new_empty(*values.shape, len(at))  # large: there is to be no second one
        for lateral in torch.split(pixels, self._share(batch), dim=-1):
            fz, _, u, t = self._descend(law, lateral, z, tangents=True)
            whole = (base_positions(lateral, z), u, t, fz)
            for base, at_u, at_t, force in zip(*(torch.split(part, share, dim=-2) for part in whole), strict=True):
                columns = force_columns(law.atoms, law.springs, base, at_u, at_t)
                df, columns = (weighted(part, np.asarray(weights, np.float64)) for part in (force, columns))
                done = slice(begin, begin := begin + df.shape[1])
                values[:, done] = df
                derivatives[:, done] = (columns.flatten(2).transpose(1, 2) @ by_row).reshape(*df.shape, len(at))
        shape = (len(batch), *batch.shape[:2], images)
        return values.reshape(shape), derivatives.reshape(*shape, len(at))

    def _share(self, batch: Batch) -> int:
        """Return how many pixels of each scene are held at once."""
        atoms = batch.positions.shape[1] + (SPLINE if batch.splines else 0)
        return max(1, self.chunk // (len(batch) * atoms))

    @torch.no_grad()
    def _descend(
        self, law: _Law, lateral: Tensor, z: Tensor, tangents: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the vertical force (B, P, Z) at tip bases over `lateral` (2, B, P), the failures (B, P), and if
        `tangents` where the probe rests and its tangents (3, B, P, Z) as `Force` takes them.
        """
        rest = _rest if law.splines else self._rest  # a spline takes minutes to compile, and gains little
        u = law.springs[3:].expand(-1, -1, lateral.shape[-1]).contiguous()  # (3, B, P) tip base to probe
        history: list[Tensor] = []
        out, rests, lost = [], [], torch.zeros_like(lateral[0], dtype=torch.int32)
        for k in range(z.shape[1]):
            if len(history) == 3:
                u = u + (2 * history[2] - 3 * history[1] + history[0]).clamp(-GUESS, GUESS)
            elif len(history) == 2:
                u = u + (history[1] - history[0]).clamp(-GUESS, GUESS)
            base = torch.cat([lateral, z[None, :, k, None].expand(1, *lateral.shape[1:])])
            u, fz, unsettled = self._relax(law, base, u)
            history = [*history[-2:], u]
            lost += unsettled.int()
            if tangents:
                t, fz = rest(law, base, u)
                rests.append(torch.stack([u, t]))
            out.append(fz)
        u, t = torch.stack(rests, dim=-1) if tangents else (lateral, lateral)
        return torch.stack(out, dim=-1), lost, u, t

    def _relax(self, law: _Law, base: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return where the probe rests (3, B, P), the vertical force there (B, P), and where it did not settle."""
        step = _step if law.splines else self._step
        zeros = torch.zeros_like(base)
        # rows: base 0–2, u 3–5, last step 6–8, last force · last step 9, reach 10, vertical force 11, and 12 the force
        # that is left on the probe, 0 once it has settled
        state = torch.cat([base, u, zeros, zeros[:1], zeros[:1] + REACH, zeros[:1], zeros[:1] + 1])
        part, where = state, None
        for _ in range(ITERATIONS):
            part = step(part, law)
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
        excused = UNSETTLED if self.dtype == torch.float64 else 0  # its goal is beyond what every soft point can reach
        return state[3:6], state[11], ~(state[12] <= excused)  # what is not a number has not settled


def _step(state: Tensor, law: _Law) -> Tensor:
    """Return the state (13, B, P) after one Newton step; settled probes stay where they are."""
    bx, by, bz, ux, uy, uz, lx, ly, lz, gain, reach, _, left = state.unbind()
    sample = law.sample(bx + ux, by + uy, bz + uz)
    field = (pull + spring for pull, spring in zip(sample, spring_field(law.springs, ux, uy, uz), strict=True))
    gx, gy, gz, jxx, jyy, jzz, jxy, jxz, jyz = field

    # the stiff direction z is eliminated; the two soft ones are solved in their own axes
    p = jzz.abs().clamp(min=STIFFEST)
    sxx, syy, sxy = jxx - jxz * jxz / p, jyy - jyz * jyz / p, jxy - jxz * jyz / p
    rx, ry = gx - jxz / p * gz, gy - jyz / p * gz
    mean, half = (sxx + syy) / 2, (sxx - syy) / 2
    root = torch.sqrt(half * half + sxy * sxy).clamp(min=1e-12)
    high, low = mean + root, mean - root
    cos = torch.sqrt((0.5 + half / (2 * root)).clamp(min=0))
    sin = torch.copysign(torch.sqrt((0.5 - half / (2 * root)).clamp(min=0)), sxy)
    first = (cos * rx + sin * ry) / high.abs().clamp(min=SOFTEST)
    second = (cos * ry - sin * rx) / low.abs().clamp(min=SOFTEST)
    second = torch.where(low < RIDGE, torch.copysign(second.abs().clamp(min=OFF_RIDGE), second), second)
    ex, ey = cos * first - sin * second, sin * first + cos * second
    ez = (gz - jxz * ex - jyz * ey) / p

    overshot = gx * lx + gy * ly + gz * lz < -OVERSHOT * gain
    reach = torch.where(overshot, reach / 2, (GROWTH * reach).clamp(max=REACH))
    size = torch.sqrt(ex * ex + ey * ey + ez * ez)
    share = (reach / size.clamp(min=1e-12)).clamp(max=1)
    ex, ey, ez = share * ex, share * ey, share * ez
    g = torch.sqrt(gx * gx + gy * gy + gz * gz)
    enough, last_step = law.goal.unbind()
    settled = (low > RIDGE) & (size * share < last_step) & (g < enough)
    fz = sample[2] - (sample[7] * ex + sample[8] * ey + sample[5] * ez)  # to first order, the force after the step
    gain, left_now = gx * ex + gy * ey + gz * ez, torch.where(settled, 0, g.clamp(min=1e-30))
    after = torch.stack([bx, by, bz, ux + ex, uy + ey, uz + ez, ex, ey, ez, gain, reach, fz, left_now])
    return torch.where(left > 0, after, state)


def _rest(law: _Law, base: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tangent (3, B, P) and the vertical force (B, P) at probes u (3, B, P)."""
    return tangent(law.sample(*(base + u).unbind()), spring_field(law.springs, *u.unbind()))
