"""The law of `reference` in torch, for batches: what the torch engine relaxes and differentiates.

A field is nine tensors: a force x, y, z (eV/Å) and its energy's Hessian xx, yy, zz, xy, xz, yz (eV/Å²), each (B, P) for
P probes in each of B scenes. Fields add. Rows of `atoms` (7, B, N, 1) and `springs` (6, B, 1) as `Batch` makes them.
"""

import torch
from torch import Tensor

from afmid.simulate.reference import FLOOR

Field = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def sample_field(atoms: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Field:
    """Return the field of the atoms at probes (B, P). In place, which halves the time on a CPU: no autograd here."""
    dx, dy, dz = x[:, None] - atoms[0], y[:, None] - atoms[1], z[:, None] - atoms[2]  # (B, N, P)
    i2 = (dx * dx).addcmul_(dy, dy).addcmul_(dz, dz).clamp_(min=FLOOR).reciprocal_()
    i6 = i2 * i2 * i2
    i3 = i2.sqrt().mul_(i2)
    repulsion = i6 * atoms[4]
    i8 = i6.mul_(i2)
    q5, monopole = (i3 * i2).mul_(atoms[6]), i3.mul_(atoms[5])
    q5_z2 = (dz * dz).mul_(i2).mul_(q5)
    a = (atoms[3] - repulsion).mul_(i8).sub_(monopole).add_(q5, alpha=3).sub_(q5_z2, alpha=15)
    b = repulsion.mul_(14).sub_(8 * atoms[3]).mul_(i8).add_(monopole, alpha=3).sub_(q5, alpha=15)
    b = b.add_(q5_z2, alpha=105).mul_(i2)
    c = i2.mul_(q5).mul_(dz).mul_(-30)
    az = q5.mul_(6).add_(a)
    bx, by = b * dx, b * dy
    bz_c = b.mul_(dz).add_(c)
    return (  # evaluated in this order
        -(a * dx).sum(1), -(a * dy).sum(1), -(az * dz).sum(1),
        torch.addcmul(a, bx, dx).sum(1), a.addcmul_(by, dy).sum(1), az.addcmul_(c.add_(bz_c), dz).sum(1),
        bx.mul_(dy).sum(1), dx.mul_(bz_c).sum(1), dy.mul_(bz_c).sum(1),
    )  # fmt: skip


def sample_columns(atoms: Tensor, x: Tensor, y: Tensor, z: Tensor, wx: Tensor, wy: Tensor, wz: Tensor) -> list[Tensor]:
    """Return ∂(w · F)/∂row of each row of `atoms`, seven (B, N, P), of the sample's force F at probes (B, P).

    For the positions that is the pair's part of the Hessian, times w.
    """
    dx, dy, dz = x[:, None] - atoms[0], y[:, None] - atoms[1], z[:, None] - atoms[2]  # (B, N, P)
    wx, wy, wz = wx[:, None], wy[:, None], wz[:, None]
    along = (dx * wx).addcmul_(dy, wy).addcmul_(dz, wz)
    i2 = (dx * dx).addcmul_(dy, dy).addcmul_(dz, dz).clamp_(min=FLOOR).reciprocal_()
    i6 = i2 * i2 * i2
    i3 = i2.sqrt().mul_(i2)
    i5, i8 = i3 * i2, i6 * i2
    repulsion, monopole, q5 = i6 * atoms[4], i3 * atoms[5], i5 * atoms[6]
    angle = (dz * dz).mul_(i2).mul_(-15).add_(3)
    a = (atoms[3] - repulsion).mul_(i8).sub_(monopole).addcmul_(q5, angle)
    b = repulsion.mul_(14).sub_(8 * atoms[3]).mul_(i8).add_(monopole, alpha=3)
    b = b.addcmul_(q5, angle, value=-7).add_(q5, alpha=6).mul_(i2)
    c = i2.mul_(q5).mul_(dz).mul_(-30)
    az = q5.mul_(6).add_(a)
    radial = b.mul_(along).addcmul_(c, wz)
    return [  # evaluated in this order
        dx.mul_(radial).addcmul_(a, wx), dy.mul_(radial).addcmul_(a, wy),
        radial.mul_(dz).addcmul_(az, wz).addcmul_(c, along),
        i8 * -along, i6.mul_(i8).mul_(along), i3.mul_(along),
        angle.mul_(along).addcmul_(dz, wz, value=6).mul_(i5).neg_(),
    ]  # fmt: skip


def spring_field(springs: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Field:
    """Return the field of the springs at (B, P), from tip base to probe."""
    lateral, radial, length, rest_x, rest_y, _ = springs.unbind()
    i2 = 1 / (x * x + y * y + z * z)
    slack = length * i2.sqrt()
    stretch, along = radial * (1 - slack), radial * slack * i2
    return (
        -lateral * (x - rest_x) - stretch * x, -lateral * (y - rest_y) - stretch * y, -stretch * z,
        lateral + stretch + along * x * x, lateral + stretch + along * y * y, stretch + along * z * z,
        along * x * y, along * x * z, along * y * z,
    )  # fmt: skip


def spring_columns(springs: Tensor, u: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    """Return ∂(w · F)/∂row of each row of `springs`, six (B, P), of the springs' force F at u (3, B, P)."""
    lateral, radial, length, rest_x, rest_y, _ = springs.unbind()
    inverse = 1 / (u * u).sum(0).sqrt()
    along = (w * u).sum(0)
    return (
        -w[0] * (u[0] - rest_x) - w[1] * (u[1] - rest_y), (length * inverse - 1) * along, radial * inverse * along,
        lateral * w[0], lateral * w[1], along.new_zeros(()).expand_as(along),
    )  # fmt: skip
