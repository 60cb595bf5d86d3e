import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from rdkit import Chem

from afmid.chem import composition, embed, inchikey
from afmid.data.scenes import water_cluster
from afmid.evaluate.suites import open_molecules
from afmid.molecule import SYMBOLS, Molecule
from afmid_graphgen.decode import STATES, TIME_LIMIT, _likeliest, decode
from afmid_graphgen.graph import ELEMENTS, MOST_MISSING, NUMBERS, ORDERS, Graph, empty

PACK = open_molecules()
SAMPLE = [PACK.molecule(i) for i in range(0, len(PACK), 13)]
SMALL = [molecule for molecule in SAMPLE if len(molecule) <= 20]
UNIQUE = [molecule for molecule in SAMPLE if "H]" not in molecule.smiles]  # [nH] moves: a tautomer is as likely
GROUPS = {
    "nitro": "O=[N+]([O-])c1ccccc1",
    "N-oxide": "[O-][n+]1ccccc1",
    "azide": "[N-]=[N+]=Nc1ccccc1",
    "isocyanide": "[C-]#[N+]c1ccccc1",
    "sulfone": "CS(C)(=O)=O",
    "phosphine oxide": "CP(C)(C)=O",
    "pyrrole": "c1cc[nH]c1",
    "pyridine": "c1ccncc1",
    "anhydride": "O=C1OC(=O)c2ccc3c4ccc5C(=O)OC(=O)c6ccc(c7ccc1c2c37)c4c56",  # PTCDA
    "halobenzene": "Fc1c(Cl)c(Br)c(I)cc1",
}


def spread(choices, count, certainty):
    """Return the probabilities of `count` choices (…, count): `certainty` for one, the rest shared by the others."""
    chosen = np.arange(count) == np.asarray(choices)[..., None]
    return np.where(chosen, certainty, (1 - certainty) / (count - 1))


def true_graph(molecule, certainty=0.99):
    """Return the graph of a network that knows a molecule with some certainty."""
    orders = np.zeros((len(molecule), len(molecule)), int)
    for (a, b), order in zip(molecule.bonds, molecule.orders, strict=True):
        orders[a, b] = orders[b, a] = ORDERS.index(order)
    return Graph(
        molecule.positions,
        exists=np.full(len(molecule), certainty),
        elements=spread([NUMBERS.index(number) for number in molecule.numbers], len(ELEMENTS), certainty),
        bonds=spread(orders, len(ORDERS), certainty),
        missing=spread(np.zeros(len(molecule), int), MOST_MISSING + 1, certainty),
    )


def without_hydrogens(molecule):
    """Return the true graph of the other atoms, and how many hydrogens each has lost."""
    hydrogen = molecule.numbers == 1
    lost = np.zeros(len(molecule), int)
    for a, b in (*molecule.bonds, *molecule.bonds[:, ::-1]):
        lost[a] += hydrogen[b]
    graph = replace(true_graph(molecule), missing=spread(lost, MOST_MISSING + 1, 0.99))
    return graph.where(~hydrogen), lost[~hydrogen]


def shaken(graph, amount, rng):
    """Return a graph whose probabilities are mixed with random ones."""

    def mixed(p):
        share = amount * rng.random((*p.shape[:-1], 1))
        return (1 - share) * p + share * rng.dirichlet(np.full(p.shape[-1], 0.3), p.shape[:-1])

    bonds = mixed(graph.bonds)
    bonds = (bonds + bonds.swapaxes(0, 1)) / 2
    return replace(
        graph, exists=rng.random(len(graph)), elements=mixed(graph.elements), bonds=bonds, missing=mixed(graph.missing)
    )


def skeleton(smiles):
    """Return what a molecule is called when its stereochemistry is not known."""
    return inchikey(smiles).split("-")[0]


@pytest.mark.parametrize("molecule", SAMPLE, ids=[molecule.smiles for molecule in SAMPLE])
def test_the_graph_of_a_molecule_decodes_to_it(molecule):
    decoded = decode(true_graph(molecule))
    assert skeleton(decoded.smiles) == skeleton(molecule.smiles)
    assert_array_equal(decoded.numbers, molecule.numbers)
    assert not decoded.hydrogens.any()
    found = {(*pair, order) for pair, order in zip(decoded.bonds.tolist(), decoded.orders.tolist(), strict=True)}
    pairs = np.sort(molecule.bonds).tolist()
    assert found == {(*pair, order) for pair, order in zip(pairs, molecule.orders.tolist(), strict=True)}


@pytest.mark.parametrize("molecule", SAMPLE, ids=[molecule.smiles for molecule in SAMPLE])
def test_hydrogens_that_are_not_seen_are_completed(molecule):
    graph, lost = without_hydrogens(molecule)
    decoded = decode(graph)
    assert skeleton(decoded.smiles) == skeleton(molecule.smiles)
    assert_array_equal(decoded.hydrogens, lost)


@pytest.mark.parametrize("molecule", UNIQUE, ids=[molecule.smiles for molecule in UNIQUE])
def test_valences_alone_tell_how_many_hydrogens_are_not_seen(molecule):
    graph, lost = without_hydrogens(molecule)
    decoded = decode(replace(graph, missing=np.full_like(graph.missing, 1 / (MOST_MISSING + 1))))
    assert skeleton(decoded.smiles) == skeleton(molecule.smiles)
    assert_array_equal(decoded.hydrogens, lost)


def test_what_is_said_of_the_element_outweighs_what_its_neighbours_suggest():
    graph, lost = without_hydrogens(embed("c1ccncc1"))
    nitrogen = int(np.flatnonzero(graph.elements.argmax(1) == ELEMENTS.index("N"))[0])
    elements, missing = graph.elements.copy(), graph.missing.copy()
    elements[nitrogen] = 0.0
    elements[nitrogen, [ELEMENTS.index("N"), ELEMENTS.index("C")]] = 0.7, 0.3
    missing[nitrogen] = spread(1, MOST_MISSING + 1, 0.9)  # as of the CH that it is likelier to be by that alone
    decoded = decode(replace(graph, elements=elements, missing=missing))
    assert skeleton(decoded.smiles) == skeleton("c1ccncc1")
    assert_array_equal(decoded.hydrogens, lost)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(SMALL), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_whatever_the_noise_the_molecule_is_valid(molecule, amount, seed):
    graph = shaken(true_graph(molecule), amount, np.random.default_rng(seed))
    decoded = decode(graph, threshold=0.3)
    assert len(decoded.graph) == np.count_nonzero(graph.exists >= 0.3)
    if decoded.smiles is None:
        return
    heavy = decoded.numbers > 1
    told = heavy.copy()  # hydrogens without a heavy neighbour are not
    for a, b in decoded.bonds:
        told[[a, b]] |= heavy[[b, a]]
    unseen = Counter({1: int(decoded.hydrogens.sum())})
    assert composition(decoded.smiles) == dict(Counter(decoded.numbers[told].tolist()) + unseen)
    mol = Chem.MolFromSmiles(decoded.smiles)
    assert Chem.GetFormalCharge(mol) == 0
    assert not any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    ends, orders = decoded.bonds.ravel(), np.repeat(decoded.orders, 2)
    valences = decoded.hydrogens + np.bincount(ends, orders, len(decoded.numbers))
    settled = told & (np.bincount(ends, orders == 1.5, len(decoded.numbers)) == 0)  # aromatic atoms have halves
    pairs = zip(decoded.numbers[settled].tolist(), valences[settled].tolist(), strict=True)
    assert {(SYMBOLS[number], valence) for number, valence in pairs} <= {(s.element, s.valence) for s in STATES}


@pytest.mark.parametrize("smiles", GROUPS.values(), ids=GROUPS)
def test_functional_groups_decode_to_themselves(smiles):
    decoded = decode(true_graph(embed(smiles)))
    assert decoded.smiles == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize("count", [1, 4, 8])
def test_a_cluster_of_water_decodes_to_several_molecules(count):
    decoded = decode(true_graph(water_cluster(count, np.random.default_rng(1))))
    assert decoded.smiles == ".".join(["O"] * count)


@pytest.mark.parametrize("graph", [empty(), replace(true_graph(SAMPLE[0]), exists=np.zeros(len(SAMPLE[0])))])
def test_without_atoms_there_is_no_molecule(graph):
    decoded = decode(graph)
    assert decoded.smiles is None
    assert decoded.bonds.shape == (0, 2)
    for values in (decoded.graph, decoded.numbers, decoded.orders, decoded.hydrogens, decoded.atom_confidences):
        assert len(values) == 0


def test_valence_corrects_a_wrong_element():
    graph = true_graph(embed("CCO"))
    graph.elements[0] = spread(ELEMENTS.index("C"), len(ELEMENTS), 0.4)
    graph.elements[0, ELEMENTS.index("N")] = 0.6
    decoded = decode(graph)
    assert decoded.smiles == "CCO"
    assert_allclose(decoded.atom_confidences[0], 0.99 * 0.4)


def test_valence_corrects_a_wrong_bond():
    graph = true_graph(embed("C=C"))
    graph.bonds[0, 1] = graph.bonds[1, 0] = [0.01, 0.1, 0.0, 0.39, 0.5]
    decoded = decode(graph)
    assert decoded.smiles == "C=C"
    carbons = np.flatnonzero((decoded.bonds == [0, 1]).all(1))
    assert_allclose(decoded.bond_confidences[carbons], [0.99])


def test_unlikely_atoms_are_dropped_and_their_valences_completed():
    graph = true_graph(embed("c1ccccc1"))
    graph.exists[-2:] = 0.3
    decoded = decode(replace(graph, missing=np.full_like(graph.missing, 1 / (MOST_MISSING + 1))))
    assert decoded.smiles == "c1ccccc1"
    assert len(decoded.numbers) == 10
    assert_array_equal(decoded.hydrogens, [0, 0, 0, 0, 1, 1, 0, 0, 0, 0])


def test_out_of_time_the_answer_holds_what_is_likeliest_of_each_atom(monkeypatch):
    monkeypatch.setattr("afmid_graphgen.decode.TIME_LIMIT", 0.0)
    molecule = SAMPLE[0]
    decoded = decode(true_graph(molecule))
    assert decoded.smiles is None
    assert_array_equal(decoded.numbers, molecule.numbers)
    assert len(decoded.bonds) == len(molecule.bonds)
    assert set(decoded.orders.tolist()) == set(molecule.orders.tolist())


def test_a_hydrogen_whose_neighbour_is_not_seen_is_no_molecule():
    hydrogen, benzene = Molecule([1], [[9.0, 9.0, 0.0]]), embed("c1ccccc1")
    alone = replace(true_graph(hydrogen), missing=np.eye(MOST_MISSING + 1)[[1]])
    assert decode(alone).smiles is None
    assert len(decode(alone).graph) == 1
    beside = Molecule(
        np.append(benzene.numbers, 1), np.append(benzene.positions, hydrogen.positions, 0),
        bonds=benzene.bonds, orders=benzene.orders,
    )  # fmt: skip
    assert decode(true_graph(beside)).smiles == "c1ccccc1"
    assert decode(true_graph(beside)).hydrogens.sum() == 0


def test_bonds_to_dropped_atoms_are_missing():
    graph = true_graph(embed("C=O"), certainty=1.0)  # C, O, H, H
    graph.exists[:] = [1.0, 0.4, 1.0, 0.2]
    for other in (1, 3):  # a bond is as likely as the atom at its end
        graph.bonds[0, other] = graph.bonds[other, 0] = graph.exists[other] * graph.bonds[0, other]
        graph.bonds[0, other, 0] = graph.bonds[other, 0, 0] = 1 - graph.exists[other]
    carbon, hydrogen = decode(graph).graph.missing
    assert_allclose(carbon, [0.6 * 0.8, 0.6 * 0.2, 0.4 * 0.8, 0.4 * 0.2, 0.0])
    assert_allclose(hydrogen, [1.0, 0.0, 0.0, 0.0, 0.0])


def test_a_part_without_a_molecule_spares_the_others(monkeypatch):
    benzene, methane = embed("c1ccccc1"), embed("C")
    apart = Molecule(
        np.append(methane.numbers, benzene.numbers), np.append(methane.positions, benzene.positions + 20.0, 0),
        bonds=np.append(methane.bonds, benzene.bonds + 5, 0), orders=np.append(methane.orders, benzene.orders),
    )  # fmt: skip
    graph = true_graph(apart)
    graph.elements[[0, 5]] = spread(ELEMENTS.index("C"), len(ELEMENTS), 0.4)
    graph.elements[[0, 5], ELEMENTS.index("F")] = 0.6
    monkeypatch.setattr(
        "afmid_graphgen.decode._likeliest", lambda part, deadline: _likeliest(part, deadline) if len(part) > 5 else None
    )
    decoded = decode(graph)
    assert decoded.smiles is None
    assert_array_equal(decoded.numbers, [9, *apart.numbers[1:]])
    assert set(map(tuple, decoded.bonds.tolist())) == set(map(tuple, np.sort(apart.bonds).tolist()))


def test_a_graph_of_noise_is_decoded_in_time():
    rng, count = np.random.default_rng(1), 70
    positions = rng.random((count, 3)) * [12.0, 12.0, 1.0]
    bonds = rng.dirichlet(np.ones(len(ORDERS)), (count, count))
    graph = Graph(
        positions, np.ones(count), rng.dirichlet(np.ones(len(ELEMENTS)), count),
        bonds=(bonds + bonds.swapaxes(0, 1)) / 2, missing=rng.dirichlet(np.ones(MOST_MISSING + 1), count),
    )  # fmt: skip
    start = time.process_time()
    assert len(decode(graph).numbers) == count
    assert time.process_time() - start < 2 * TIME_LIMIT
