"""Splines as tensors: the field of Hartree potentials at the probes of a batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afmid.simulate.law import Field
from afmid.simulate.potential import Spline, weights


@dataclass(frozen=True, eq=False)
class Splines:
    """The splines of B scenes, each in the frame of its grid's centre.

    Attributes:
        coefficients: of all splines, one after another (M,), eV; a spline that several scenes share stands once.
        start: where each scene's coefficients start (B, 1).
        counts: points of each lattice (3, B, 1).
        base: the lattice point below the grid's centre (3, B, 1), counted so that single precision loses nothing.
        offset: from there to the centre, in lattice steps (3, B, 1), 0 … 1.
        steps: lattice steps per Å, along x, y, z (3, …) of each of the lattice's axes (3, 3, B, 1).
    """

    coefficients: Tensor
    start: Tensor
    counts: Tensor
    base: Tensor
    offset: Tensor
    steps: Tensor

    @classmethod
    def of(
        cls,
        splines: Sequence[Spline | None],
        centres: NDArray[np.float64],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> "Splines":
        """Pack one spline per scene, or None for a scene without; `centres` (B, 3) are those of the grids, Å."""
        pieces: dict[int, tuple[int, NDArray[np.float64]]] = {}  # by the array's identity: (start, coefficients)
        rows, size = [], 0
        for spline, centre in zip(splines, centres, strict=True):
            spline = spline or Spline(np.zeros((4, 4, 4)), np.zeros(3), np.eye(3))
            if id(spline.coefficients) not in pieces:
                pieces[id(spline.coefficients)] = (size, spline.coefficients)
                size += spline.coefficients.size
            at = (centre - spline.origin) @ spline.steps
            start, _ = pieces[id(spline.coefficients)]
            rows.append((start, spline.counts, np.floor(at) % spline.counts, at - np.floor(at), spline.steps))
        starts, counts, base, offset, steps = (np.moveaxis(np.array(row), 0, -1) for row in zip(*rows, strict=True))

        def tensor(values: NDArray[np.float64], to: torch.dtype) -> Tensor:
            return torch.as_tensor(values).to(device, to)[..., None]

        return cls(
            coefficients=torch.cat([torch.as_tensor(piece).to(device, dtype).ravel() for _, piece in pieces.values()]),
            start=tensor(starts, torch.int64),
            counts=tensor(counts, torch.int64),
            base=tensor(base, torch.int64),
            offset=tensor(offset, dtype),
            steps=tensor(steps, dtype),
        )


def spline_field(splines: Splines, x: Tensor, y: Tensor, z: Tensor) -> Field:
    """Return the field of the potentials at probes (B, P)."""
    b, c = splines.counts[1] + 3, splines.counts[2] + 3
    corner, bases = splines.start, []  # corner: where the cube of 4 × 4 × 4 coefficients starts
    for axis, stride in enumerate((b * c, c, 1)):
        per_x, per_y, per_z = splines.steps[:, axis]
        t = splines.offset[axis] + per_x * x + per_y * y + per_z * z
        below = t.floor()
        corner = corner + (below.long() + splines.base[axis]).remainder(splines.counts[axis]) * stride
        bases.append(weights(t - below))
    (x0, x1, x2), along_y, (z0, z1, z2) = bases
    y0, y1, y2 = (torch.stack(w) for w in along_y)  # (4, B, P)
    ahead = [splines.coefficients[k:] for k in range(4)]
    rows = corner + torch.arange(4, device=x.device)[:, None, None] * c  # (4, B, P)

    lattice = [torch.zeros_like(x)] * 9  # derivatives along the lattice's axes: 1, 2, 3, 11, 22, 33, 12, 13, 23
    for i in range(4):
        line = (rows + i * (b * c)).ravel()
        near = [piece.index_select(0, line).view_as(y0) for piece in ahead]
        s0, s1, s2 = (_dot(w, near) for w in (z0, z1, z2))
        v, v2, v3 = (y0 * s0).sum(0), (y1 * s0).sum(0), (y0 * s1).sum(0)
        v22, v33, v23 = (y2 * s0).sum(0), (y0 * s2).sum(0), (y1 * s1).sum(0)
        terms = ((x1, v), (x0, v2), (x0, v3), (x2, v), (x0, v22), (x0, v33), (x1, v2), (x1, v3), (x0, v23))
        lattice = [torch.addcmul(total, w[i], value) for total, (w, value) in zip(lattice, terms, strict=True)]
    g, (h11, h22, h33, h12, h13, h23) = lattice[:3], lattice[3:]
    sx, sy, sz = splines.steps
    px, py, pz = ([_dot(s, (h11, h12, h13)), _dot(s, (h12, h22, h23)), _dot(s, (h13, h23, h33))] for s in (sx, sy, sz))
    return (
        -_dot(sx, g), -_dot(sy, g), -_dot(sz, g),
        _dot(sx, px), _dot(sy, py), _dot(sz, pz), _dot(sx, py), _dot(sx, pz), _dot(sy, pz),
    )  # fmt: skip


def _dot(a: Iterable[Tensor], b: Iterable[Tensor]) -> Tensor:
    """Return the sum of the products of two rows of tensors."""
    (a0, *rest_a), (b0, *rest_b) = a, b
    total = a0 * b0
    for x, y in zip(rest_a, rest_b, strict=True):
        total = torch.addcmul(total, x, y)
    return total
