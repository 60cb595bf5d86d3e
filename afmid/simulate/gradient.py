"""Gradients of the force on the relaxed probe, by the implicit function theorem.

At rest F_s(x; θ_s) + F_t(x − base; θ_t) = 0. With J the Hessian of sample and springs at the probe x, H_t that of the
springs, and t = J⁻¹ H_t ẑ = ∂x/∂z_base, the vertical sample force F_z obeys

    dF_z = t · dF_s + (t − ẑ) · dF_t        (dF_s, dF_t: at fixed x)

so that the backward pass is one pass over the atom-pixel pairs, however many parameters there are. Where the probe is
about to snap to another place, J is nearly singular and t diverges, and so does the force's true gradient: t is taken
no longer than `LONGEST`, and nothing else is approximated.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from afmid.simulate.law import Field, sample_columns, spring_columns, spring_field
from afmid.simulate.newton import STIFFEST

LONGEST = 8.0  # Å of the probe per Å of the tip

Pass = Callable[[Tensor, Tensor, Tensor], Tensor]


def tangent(sample: Field, springs: Field) -> tuple[Tensor, Tensor]:
    """Return t (3, B, P), and the vertical sample force (B, P) corrected for the force that is left on the probe."""
    jxx, jyy, jzz, jxy, jxz, jyz = (s + t for s, t in zip(sample[3:], springs[3:], strict=True))
    jzz = torch.copysign(jzz.abs().clamp(min=STIFFEST), jzz)
    hxz, hyz, hzz = springs[7], springs[8], springs[5]
    sxx, syy, sxy = jxx - jxz * jxz / jzz, jyy - jyz * jyz / jzz, jxy - jxz * jyz / jzz  # z is eliminated
    rx, ry = hxz - jxz / jzz * hzz, hyz - jyz / jzz * hzz
    det = sxx * syy - sxy * sxy
    tx, ty = syy * rx - sxy * ry, sxx * ry - sxy * rx
    t = torch.stack([tx, ty, (hzz * det - jxz * tx - jyz * ty) / jzz])  # times det
    t = t * det.sign() / torch.maximum(det.abs(), t.norm(dim=0) / LONGEST).clamp(min=1e-30)
    left = torch.stack([s + f for s, f in zip(sample[:3], springs[:3], strict=True)])
    return t, sample[2] + (t * left).sum(0) - left[2]


def pair_pass(atoms: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """Return the gradient (7, B, N) of Σ_p w · F_s with respect to the rows of `atoms`, probes x and w (3, B, P)."""
    return torch.stack([column.sum(-1) for column in sample_columns(atoms, *x.unbind(), *w.unbind())])


def force_columns(atoms: Tensor, springs: Tensor, base: Tensor, u: Tensor, t: Tensor) -> Tensor:
    """Return ∂F_z/∂row (B, 7 N + 6, p, Z) of the rows of `atoms` (7, B, N, 1) and `springs` (6, B, 1), one by one.

    The heights of the unrelaxed probe are held: a longer tip has a higher base.

    Args:
        atoms, springs: what acts on the probes.
        base, u, t: tip bases, from there to the probes at rest, and the tangents (3, B, p, Z).
    """
    by_atom = sample_columns(atoms, *(base + u).flatten(2), *t.flatten(2))
    w, springs = torch.stack([t[0], t[1], t[2] - 1]), springs[..., None]
    *_, hzz, _, hxz, hyz = spring_field(springs, *u.unbind())
    by_spring = [*spring_columns(springs, u, w)[:5], -(hxz * w[0] + hyz * w[1] + hzz * w[2])]
    shape = (u.shape[1], -1, *u.shape[2:])
    return torch.cat([torch.stack(by_atom, dim=1).reshape(shape), torch.stack(by_spring, dim=1)], dim=1)


def rows(atoms: Tensor, springs: Tensor) -> Tensor:
    """Return the rows of `atoms` (7, B, N) and `springs` (6, B) in the order of `force_columns`, (B, 7 N + 6)."""
    return torch.cat([atoms.transpose(0, 1).flatten(1), springs.T], dim=1)


class Force(torch.autograd.Function):
    """The vertical force on relaxed probes (B, P, Z) as a function of atoms (7, B, N), springs (6, B), and lateral
    positions (2, B, P) and heights (B, Z) of the tip base, for `differentiable`. It keeps u and t, nothing per pair.
    """

    @staticmethod
    def forward(
        ctx: Any, atoms: Tensor, springs: Tensor, lateral: Tensor, z: Tensor, u: Tensor, t: Tensor, fz: Tensor,
        share: int, pairs: Pass,
    ) -> Tensor:  # fmt: skip
        """Return `fz`."""
        ctx.save_for_backward(atoms, springs, lateral, z, u, t)
        ctx.share, ctx.pairs = share, pairs
        return fz

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the first four arguments, those that are wanted."""
        atoms, springs, lateral, z, u, t = ctx.saved_tensors
        atoms_wanted, *base_wanted = ctx.needs_input_grad[:4]
        d_atoms, d_springs, d_lateral, d_z = None, None, None, None
        if atoms_wanted:
            d_atoms = torch.zeros_like(atoms)
            for part in range(0, lateral.shape[-1], ctx.share):
                at = slice(part, part + ctx.share)
                x = u[:, :, at] + base_positions(lateral[..., at], z)
                w = upstream[:, at] * t[:, :, at]
                d_atoms += ctx.pairs(atoms[..., None], x.flatten(2), w.flatten(2))
        if any(base_wanted):
            w = upstream * t
            w[2] -= upstream
            springs = springs[..., None, None]
            d_springs = torch.stack([column.sum((1, 2)) for column in spring_columns(springs, u, w)])
            _, _, _, hxx, hyy, hzz, hxy, hxz, hyz = spring_field(springs, *u.unbind())
            d_lateral = torch.stack([
                (hxx * w[0] + hxy * w[1] + hxz * w[2]).sum(2), (hxy * w[0] + hyy * w[1] + hyz * w[2]).sum(2),
            ])  # fmt: skip
            d_z = (hxz * w[0] + hyz * w[1] + hzz * w[2]).sum(1)
        return d_atoms, d_springs, d_lateral, d_z, None, None, None, None, None


def differentiable(
    fz: Tensor, u: Tensor, t: Tensor, given: tuple[Tensor, Tensor, Tensor, Tensor], share: int, pairs: Pass
) -> Tensor:
    """Return the force `fz` (B, P, Z) as a function of the `given` atoms, springs, lateral positions and heights.

    Args:
        fz: vertical sample force.
        u: from tip base to probe (3, B, P, Z).
        t: tangents (3, B, P, Z).
        given: the first four arguments of `Force.forward`.
        share: pixels of each scene that the backward pass takes at once.
        pairs: `pair_pass`, or the same compiled.
    """
    return Force.apply(*given, u, t, fz, share, pairs)  # type: ignore[no-untyped-call,no-any-return]


def base_positions(lateral: Tensor, z: Tensor) -> Tensor:
    """Return the positions of the tip base (3, B, P, Z) from lateral ones (2, B, P) and heights (B, Z)."""
    shape = (*lateral.shape[1:], z.shape[1])
    return torch.cat([lateral[..., None].expand(2, *shape), z[None, :, None].expand(1, *shape)])
