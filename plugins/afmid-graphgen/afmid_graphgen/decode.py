"""From a graph of probabilities to the likeliest molecule that chemistry allows.

All choices are made together, by a mixed-integer linear programme: each atom takes an element with its charge and
valence, each pair of atoms a bond or none, and hydrogens that are not seen fill the valences up. Its cost is minus the
logarithm of the probability, that of an element several times: what a network says of bonds, of orders and of hidden
neighbours comes from the same features, and would outvote what it says of the element itself. Atoms that no chain of
possible bonds joins do not depend on each other: each connected part has a programme of its own.
"""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from afmid.chem.bonds import Mol, bond_type
from afmid_graphgen.graph import ELEMENTS, MOST_MISSING, NUMBERS, ORDERS, Array, Graph

LONE_HYDROGENS = ("[HH]", "[H][H]")  # whose neighbours are not seen
LONGEST = 2.8  # Å: between bonded atoms; I–I has 2.7
UNLIKELY = 0.01  # pairs whose bond is less likely have none
MOST_BONDS = 8  # of an atom, the likeliest, are considered
NEGLIGIBLE = 2e-3  # elements and orders less likely are left out
FLOOR = 1e-6  # of probabilities: no choice costs more than −log of it, times its weight
EMPHASIS = 8.0  # weight of an element's cost: of 1, 2, 4, 8 that with most right elements in 160 scans of sim-open
UNUSUAL = 1.0  # cost of a charge, or of more than the usual valence
UNSEEN = 0.01  # cost of a hydrogen that is not seen: of molecules that are as likely, the one with fewest is taken
TIME_LIMIT = 2.0  # s, for all parts together


@dataclass(frozen=True, eq=False)
class Decoded:
    """A molecule of M atoms and E bonds.

    Attributes:
        graph: what was said of the atoms that are kept.
        numbers: atomic numbers (M,).
        bonds: pairs of atoms (E, 2), the lower one first.
        orders: of the bonds (E,): 1, 1.5 (aromatic), 2, 3.
        hydrogens: how many hydrogens each atom of `smiles` has besides those in the graph (M,).
        smiles: of the molecule, its fragments joined by dots; None where there is no valid one.
        atom_confidences: that each atom is there and is of its element (M,).
        bond_confidences: that the two have a bond, of whatever order (E,).
    """

    graph: Graph
    numbers: NDArray[np.int64]
    bonds: NDArray[np.int64]
    orders: Array
    hydrogens: NDArray[np.int64]
    smiles: str | None
    atom_confidences: Array = field(init=False)
    bond_confidences: Array = field(init=False)

    def __post_init__(self) -> None:
        columns = [NUMBERS.index(number) for number in self.numbers.tolist()]
        elements = self.graph.elements[np.arange(len(columns)), np.array(columns, np.int64)]
        none = self.graph.bonds[self.bonds[:, 0], self.bonds[:, 1], 0]
        object.__setattr__(self, "atom_confidences", self.graph.exists * elements)
        object.__setattr__(self, "bond_confidences", 1 - none)


class State(NamedTuple):
    """What an atom may be. A lone pair can stand in an aromatic ring where other atoms have a double bond."""

    element: str
    valence: int
    charge: int = 0
    lone_pair: bool = False
    cost: float = 0.0

    @property
    def column(self) -> int:
        """The place of its element among `ELEMENTS`."""
        return ELEMENTS.index(self.element)


CATION = State("N", 4, charge=+1, cost=UNUSUAL)
ANIONS = (  # each ends a chain: its one bond, of the order of its valence, leads to the cation
    State("O", 1, charge=-1),  # nitro groups, N-oxides
    State("N", 2, charge=-1),  # azides
    State("C", 3, charge=-1),  # isocyanides
)
STATES = (
    State("H", 1),
    State("C", 4),
    State("N", 3, lone_pair=True),
    State("O", 2, lone_pair=True),
    State("F", 1),
    State("Si", 4),
    State("P", 3, lone_pair=True),
    State("P", 5, cost=UNUSUAL),
    State("S", 2, lone_pair=True),
    State("S", 4, cost=UNUSUAL),
    State("S", 6, cost=UNUSUAL),
    State("Cl", 1),
    State("Br", 1),
    State("I", 1),
    CATION,
    *ANIONS,
)


class Bond(NamedTuple):
    """What a bond may be: an aromatic one is single or double, and costs the same either way."""

    order: int
    aromatic: bool = False

    @property
    def column(self) -> int:
        """The place of its probability among `ORDERS`."""
        return ORDERS.index(1.5 if self.aromatic else self.order)


AROMATIC_DOUBLE = Bond(2, aromatic=True)
BONDS = (Bond(1), Bond(1, aromatic=True), AROMATIC_DOUBLE, Bond(2), Bond(3))


def decode(graph: Graph, threshold: float = 0.5) -> Decoded:
    """Return the likeliest valid molecule of the atoms that exist with a probability of `threshold` or more.

    A connected part for which none is found in time holds what is likeliest of each atom and each pair alone. The
    whole is without a SMILES then: that of the other parts would be taken for all there is.
    """
    graph = _kept(graph, graph.exists >= threshold)
    count, labels = connected_components(_candidates(graph))
    parts = sorted((np.flatnonzero(labels == label) for label in range(count)), key=len)
    deadline = time.monotonic() + TIME_LIMIT
    solved = [_likeliest(graph.where(part), deadline) for part in parts]  # small ones first, as large ones take long
    mol = Chem.RWMol()
    for part, own in zip(parts, solved, strict=True):
        mol.InsertMol(_unchecked(graph.where(part)) if own is None else own)
    if parts:
        mol = Chem.RenumberAtoms(mol, np.concatenate(parts).argsort().tolist())
    return Decoded(
        graph,
        numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], np.int64),
        bonds=np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()], np.int64).reshape(-1, 2),
        orders=np.array([bond.GetBondTypeAsDouble() for bond in mol.GetBonds()]),
        hydrogens=np.array([a.GetNumExplicitHs() * (a.GetAtomicNum() > 1) for a in mol.GetAtoms()], np.int64),  # not H2
        smiles=None if None in solved else _smiles(mol),
    )


def _kept(graph: Graph, keep: NDArray[np.bool_]) -> Graph:
    """Return the graph of some of its atoms, whose bonds to the others are now among the missing ones."""
    kept = graph.where(keep)
    one_more = np.eye(MOST_MISSING + 1, k=1)
    one_more[-1, -1] = 1
    missing = kept.missing
    for other in np.flatnonzero(~keep):
        single = missing @ one_more
        double = single @ one_more
        shifted = np.stack([missing, single, (single + double) / 2, double, double @ one_more], 1)  # by `ORDERS`
        missing = np.einsum("no,nom->nm", graph.bonds[keep, other], shifted)
    return replace(kept, missing=missing)


def _smiles(mol: Mol) -> str | None:
    """Return the SMILES of the fragments that are told; None where there are none."""
    with rdBase.BlockLogs():
        fragments = Chem.MolToSmiles(Chem.RemoveHs(mol)).split(".")
    return ".".join(fragment for fragment in fragments if fragment not in LONE_HYDROGENS) or None


def _unchecked(graph: Graph) -> Mol:
    """Return what is likeliest of each atom and each pair alone, not sanitised."""
    mol = Chem.RWMol()
    for column in graph.elements.argmax(1).tolist():
        mol.AddAtom(Chem.Atom(ELEMENTS[column]))
    for i, j in _pairs(graph):
        if graph.bonds[i, j, 0] <= 0.5:
            mol.AddBond(i, j, bond_type(ORDERS[1 + graph.bonds[i, j, 1:].argmax()]))
    return mol


def _likeliest(graph: Graph, deadline: float) -> Mol | None:
    """Return the molecule of least cost, sanitised; None where there is none, or none is found in time."""
    programme = _Programme()
    element_costs, order_costs, missing_costs = (
        weight * -np.log(np.maximum(p, FLOOR))
        for weight, p in ((EMPHASIS, graph.elements), (1.0, graph.bonds), (1.0, graph.missing))
    )
    states = [
        {s: programme.variable(costs[s.column] + s.cost) for s in STATES if likely[s.column] > NEGLIGIBLE}
        for likely, costs in zip(graph.elements, element_costs, strict=True)
    ]
    hydrogens = [{n: programme.variable(cost + n * UNSEEN) for n, cost in enumerate(costs)} for costs in missing_costs]
    bonds = {
        (i, j): {
            b: programme.variable(order_costs[i, j, b.column] - order_costs[i, j, 0])
            for b in BONDS
            if graph.bonds[i, j, b.column] > NEGLIGIBLE
        }
        for i, j in _pairs(graph)
    }
    at: list[list[dict[Bond, int]]] = [[] for _ in range(len(graph))]  # the bonds of each atom
    for (i, j), kinds in bonds.items():
        at[i].append(kinds)
        at[j].append(kinds)
        programme.constrain(0, dict.fromkeys(kinds.values(), 1), 1)
    for own, counts, around in zip(states, hydrogens, at, strict=True):
        programme.constrain(1, dict.fromkeys(own.values(), 1), 1)
        programme.constrain(1, dict.fromkeys(counts.values(), 1), 1)
        used = {variable: bond.order for kinds in around for bond, variable in kinds.items()}
        used |= {variable: count for count, variable in counts.items()}
        programme.constrain(0, used | {variable: -state.valence for state, variable in own.items()}, 0)
        _keep_aromatic(programme, own, around)
    _keep_neutral(programme, states, bonds)

    chosen = programme.solve(deadline)
    if chosen is None:
        return None
    mol = Chem.RWMol()
    for own, counts in zip(states, hydrogens, strict=True):
        state = next(state for state, variable in own.items() if chosen[variable])
        atom = Chem.Atom(state.element)
        atom.SetFormalCharge(state.charge)
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(next(count for count, variable in counts.items() if chosen[variable]))
        mol.AddAtom(atom)
    for pair, kinds in bonds.items():
        for bond, variable in kinds.items():
            if chosen[variable]:
                mol.AddBond(*pair, bond_type(bond.order))
    with rdBase.BlockLogs():
        return None if Chem.SanitizeMol(mol, catchErrors=True) else mol


def _pairs(graph: Graph) -> list[tuple[int, int]]:
    """Return the pairs of atoms, the lower one first, that may have a bond."""
    return [(i, j) for i, j in np.argwhere(np.triu(_candidates(graph))).tolist()]


def _candidates(graph: Graph) -> NDArray[np.bool_]:
    """Return whether two atoms may have a bond (N, N): near and likely, and for one of them among the likeliest."""
    distances = np.linalg.norm(graph.positions[:, None] - graph.positions, axis=-1)
    likely = np.where(distances < LONGEST, 1 - graph.bonds[..., 0], 0)
    np.fill_diagonal(likely, 0)
    ranks = (-likely).argsort(1).argsort(1)
    chosen: NDArray[np.bool_] = (likely > UNLIKELY) & (ranks < MOST_BONDS)
    return chosen | chosen.T


def _keep_aromatic(programme: "_Programme", states: Mapping[State, int], around: list[dict[Bond, int]]) -> None:
    """Let an atom have aromatic bonds only if it has two or more, one double bond or a lone pair, and no two in a row.

    Else a ring of aromatic bonds could become one of single bonds and hydrogens, or of an allene, at no cost.
    """
    aromatic = [[variable for bond, variable in kinds.items() if bond.aromatic] for kinds in around]
    programme.constrain(0, {kinds[AROMATIC_DOUBLE]: 1 for kinds in around if AROMATIC_DOUBLE in kinds}, 1)
    electrons = [variable for kinds in around for bond, variable in kinds.items() if bond.order == 2]
    electrons += [variable for state, variable in states.items() if state.lone_pair]
    for k, own in enumerate(aromatic):
        if own:
            others = itertools.chain.from_iterable(aromatic[:k] + aromatic[k + 1 :])
            programme.constrain(0, dict.fromkeys(others, 1) | dict.fromkeys(own, -1), np.inf)
            single = [variable for variable in own if variable not in electrons]
            programme.constrain(0, dict.fromkeys(electrons, 1) | dict.fromkeys(single, -1), np.inf)


def _keep_neutral(
    programme: "_Programme", states: list[dict[State, int]], bonds: Mapping[tuple[int, int], Mapping[Bond, int]]
) -> None:
    """Let charges come only in neighbouring pairs: each cation has one anion, and each anion one cation."""
    partners: dict[int, dict[int, float]] = {}  # by the variable of a charged state, those of its pairs
    for own in states:
        partners |= {variable: {variable: -1.0} for state, variable in own.items() if state.charge}
    for (i, j), kinds in bonds.items():
        for (a, b), anion in itertools.product(((i, j), (j, i)), ANIONS):
            bond = Bond(anion.valence)
            if CATION in states[a] and anion in states[b] and bond in kinds:
                paired = programme.variable(0.0)
                partners[states[a][CATION]][paired] = partners[states[b][anion]][paired] = 1.0
                programme.constrain(0, {kinds[bond]: 1, paired: -1}, 1)
    for terms in partners.values():
        programme.constrain(0, terms, 0)


class _Programme:
    """A linear programme whose variables are 0 or 1."""

    def __init__(self) -> None:
        self._costs: list[float] = []
        self._rows: list[tuple[float, Mapping[int, float], float]] = []

    def variable(self, cost: float) -> int:
        """Add a variable that costs something where it is 1; return its number."""
        self._costs.append(cost)
        return len(self._costs) - 1

    def constrain(self, least: float, terms: Mapping[int, float], most: float) -> None:
        """Keep a sum within limits; `terms` are the factors of its variables."""
        self._rows.append((least, terms, most))

    def solve(self, deadline: float) -> NDArray[np.bool_] | None:
        """Return which variables are 1 (V,) at the least cost found in time; None where nothing was."""
        least, terms, most = zip(*self._rows, strict=True)
        columns = [variable for row in terms for variable in row]
        factors = [factor for row in terms for factor in row.values()]
        matrix = csr_array((factors, columns, np.cumsum([0, *map(len, terms)])), (len(terms), len(self._costs)))
        limits = LinearConstraint(matrix, least, most)
        for whole in (0, 1):  # the relaxed programme is ten times as fast, and mostly its solution is whole already
            result = milp(
                self._costs,
                integrality=np.full(len(self._costs), whole),
                bounds=Bounds(0, 1),
                constraints=limits,
                options={
                    "time_limit": max(deadline - time.monotonic(), 0.0),
                    "mip_rel_gap": 0.0,
                    "presolve": not whole,  # whole, it is slow
                },
            )
            if result.x is not None:
                chosen: NDArray[np.bool_] = result.x > 0.5
                if np.allclose(result.x, chosen, rtol=0, atol=1e-5):
                    return chosen
        return None
