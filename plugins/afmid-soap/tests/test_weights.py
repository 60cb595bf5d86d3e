"""The weights that the plugin ships: they are the file that weights.toml means, and they know a molecule."""

import hashlib

import pytest

from afmid import Identifier
from afmid.chem import inchikey
from afmid.io import read_molecule
from afmid.plugins import installed
from afmid.simulate import SimulationOptions, load_engine, simulate
from afmid.weights import default, read_index
from afmid_graphgen import Options
from afmid_soap.method import SoapMethod

IDENTIFIER = installed(("soap",)).get(Identifier, "soap")
ENTRIES = {entry.name: entry for entry in read_index(IDENTIFIER.weights_index)}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_the_file_is_the_one_that_weights_toml_means(entry):
    content = entry.shipped.read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry.sha256, entry.size)


@pytest.mark.parametrize("name", ["pentacene", "1-bromo-3,5-dichlorobenzene"])
def test_a_flat_molecule_is_named(name):
    molecule = read_molecule(name)
    (scan,) = simulate([molecule], SimulationOptions(size=20, pixels=160), load_engine("torch", "cpu")[1])
    answer = SoapMethod.load(default(IDENTIFIER).shipped, "cpu").identify([scan], Options())
    assert inchikey(answer.smiles) == inchikey(molecule.smiles)
    assert sorted(atom.element for atom in answer.atoms) == sorted(molecule.symbols)
