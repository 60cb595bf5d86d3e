"""The weights that the plugin ships: they are the file that weights.toml means, and they know a molecule."""

import hashlib

import numpy as np
import pytest

from afmid import Identifier
from afmid.chem import inchikey
from afmid.evaluate.matching import match_atoms
from afmid.io import read_molecule
from afmid.plugins import installed
from afmid.simulate import SimulationOptions, load_engine, simulate
from afmid.weights import default, read_index
from afmid_graphgen import Options
from afmid_graphgen.method import GraphgenMethod

IDENTIFIER = installed(("graphgen",)).get(Identifier, "graphgen")
ENTRIES = {entry.name: entry for entry in read_index(IDENTIFIER.weights_index)}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_the_file_is_the_one_that_weights_toml_means(entry):
    content = entry.shipped.read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry.sha256, entry.size)


def scan_of(molecule):
    (scan,) = simulate([molecule], SimulationOptions(size=20, pixels=160), load_engine("torch", "cpu")[1])
    return scan


@pytest.mark.parametrize("name", ["pentacene", "1-bromo-3,5-dichlorobenzene", "PTCDA"])
def test_a_flat_molecule_is_named(name):
    molecule = read_molecule(name)
    answer = GraphgenMethod.load(default(IDENTIFIER).shipped, "cpu").identify([scan_of(molecule)], Options())
    assert inchikey(answer.smiles) == inchikey(molecule.smiles)
    assert sorted(atom.element for atom in answer.atoms) == sorted(molecule.symbols)


@pytest.mark.parametrize(("name", "least"), [("graphgen-paper", 2), ("graphgen-resimulate", 6)])
def test_the_published_networks_see_atoms_of_a_flat_molecule(name, least):
    molecule = read_molecule("1-bromo-3,5-dichlorobenzene")
    answer = GraphgenMethod.load(ENTRIES[name].shipped, "cpu").identify([scan_of(molecule)], Options())
    places = np.array([(atom.x, atom.y, atom.z) for atom in answer.atoms])
    assert len(match_atoms(places, molecule.positions, cutoff=0.5)) >= least
