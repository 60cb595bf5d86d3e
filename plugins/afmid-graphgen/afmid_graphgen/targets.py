"""What found atoms are in truth."""

from typing import NamedTuple

import torch
from torch import Tensor

from afmid.data.examples import Examples
from afmid_graphgen.graph import MOST_MISSING, NUMBERS, ORDERS
from afmid_graphgen.model import Pairs

NEAR = 0.5  # Å, lateral: a found atom within this distance may be a true one
DEEP = 2.0  # Å below the topmost: deeper than peaks are learnt, since one that shows a deeper atom invents nothing
DEPTH = 0.25  # Å per Å: of two true atoms about as near the upper one counts


class Truth(NamedTuple):
    """What M found atoms and E pairs of them are.

    Attributes:
        atom: which true atom of its scan each is, by its index there (M,); −1 where none.
        elements: index into `graph.NUMBERS` (M,).
        missing: valences that go to atoms not found (M,).
        positions: (M, 3), Å, z below the topmost atom.
        bonds: index into `graph.ORDERS` (E,).

    Where an atom is no true one, all but the first mean nothing.
    """

    atom: Tensor
    elements: Tensor
    missing: Tensor
    positions: Tensor
    bonds: Tensor

    @property
    def exists(self) -> Tensor:
        """Which are true atoms, bool (M,)."""
        return self.atom >= 0


def truth_of(examples: Examples, found: Tensor, batch: Tensor, pairs: Pairs) -> Truth:
    """Return what atoms found at `found` (M, 2), Å, in scans `batch` (M,) are, and pairs of them."""
    atom = _matched(examples, found, batch)
    known = atom.clamp_min(0)
    positions = examples.positions[batch, known]
    top = examples.positions[..., 2].where(examples.atoms, -torch.inf).amax(1)
    positions = torch.cat([positions[:, :2], positions[:, 2:] - top[batch, None]], 1)
    classes = examples.numbers.new_full((128,), -1)
    classes[list(NUMBERS)] = torch.arange(len(NUMBERS), device=classes.device)
    orders = orders_of(examples)
    bonds = orders[batch[pairs.first], known[pairs.first], known[pairs.second]]
    bonds = bonds * ((atom[pairs.first] >= 0) & (atom[pairs.second] >= 0))
    seen = torch.zeros_like(examples.numbers)
    seen[batch[atom >= 0], atom[atom >= 0]] = 1
    missing = ((1 - seen[:, None]) * orders).sum(2)[batch, known]
    return Truth(
        atom=atom,
        elements=classes[examples.numbers[batch, known]],
        missing=(missing + 0.5).floor().clamp_max(MOST_MISSING).long(),  # half a bond may be a double one
        positions=positions,
        bonds=(bonds[:, None] >= bonds.new_tensor(ORDERS[1:])).sum(1),
    )


def _matched(examples: Examples, found: Tensor, batch: Tensor) -> Tensor:
    """Return which true atom each found one is (M,), −1 for none: the two are each other's nearest."""
    z = examples.positions[..., 2].where(examples.atoms, -torch.inf)
    depth = z.amax(1, keepdim=True) - z  # (B, N)
    lateral = (examples.positions[batch, :, :2] - found[:, None]).norm(dim=2)  # (M, N)
    cost = lateral + DEPTH * depth[batch]
    cost = cost.where((lateral <= NEAR) & (depth[batch] <= DEEP), torch.inf)
    best, atom = cost.min(1)
    key = batch * cost.shape[1] + atom
    atoms = len(examples) * cost.shape[1]
    nearest = best.isfinite() & (best == cost.new_full((atoms,), torch.inf).scatter_reduce(0, key, best, "amin")[key])
    row = torch.arange(len(key), device=key.device).where(nearest, len(key))
    first = key.new_full((atoms,), len(key)).scatter_reduce(0, key, row, "amin")  # of two that are equally near
    matched: Tensor = atom.where(nearest & (first[key] == row), -1)
    return matched


def orders_of(examples: Examples) -> Tensor:
    """Return the orders of the bonds of all pairs of true atoms (B, N, N), 0 where there is none."""
    count, (a, b) = examples.numbers.shape[1], examples.bonds.unbind(2)
    dense = examples.orders.new_zeros(len(examples), count, count)
    row = torch.arange(len(examples), device=dense.device)[:, None].expand_as(a)
    for i, j in ((a, b), (b, a)):
        dense.index_put_((row, i, j), examples.orders, accumulate=True)
    return dense
