"""The weights that the plugin ships: they are the file that weights.toml means, and they see."""

import hashlib

import numpy as np
import pytest
from scipy.spatial import cKDTree

from afmid import Identifier
from afmid.io import read_molecule
from afmid.plugins import installed
from afmid.simulate import SimulationOptions, load_engine, simulate
from afmid.weights import read_index
from afmid_descriptor import Options
from afmid_descriptor.method import load


@pytest.fixture(scope="module")
def entry():
    (entry,) = read_index(installed(("descriptor",)).get(Identifier, "descriptor").weights_index)
    return entry


def test_the_file_is_the_one_that_weights_toml_means(entry):
    content = entry.shipped.read_bytes()
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry.sha256, entry.size)


def test_of_a_simulated_ptcda_the_atoms_it_is_sure_of_are_there(entry):
    _, simulator = load_engine("torch", "cpu")
    (scan,) = simulate([read_molecule("PTCDA")], SimulationOptions(), simulator)
    answer = load(entry.shipped, "cpu").identify([scan], Options())
    sure = np.array([(atom.x, atom.y) for atom in answer.atoms if atom.confidence >= 0.5])
    assert len(sure) >= 15
    distance, _ = cKDTree(scan.truth.positions[:, :2]).query(sure)
    assert (distance < 0.5).mean() >= 0.8
