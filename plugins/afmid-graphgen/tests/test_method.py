"""A graphgen network's answers, down to the SMILES: with networks that were never trained, and one that knows all."""

import hashlib
import json
import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from afmid import DataError, Identifier, Molecule, Scan
from afmid.errors import WeightsError
from afmid.io import read_molecule
from afmid.networks.peaks import peak_image
from afmid.plugins import installed
from afmid.testing import MethodContract
from afmid.weights import save_safetensors
from afmid_graphgen import Options, __version__
from afmid_graphgen.graph import ELEMENTS, ORDERS
from afmid_graphgen.method import GraphgenMethod
from afmid_graphgen.model import Answers, Config, GraphNet
from afmid_graphgen.parallel import Temperatures

TINY = Config(stem=8, widths=(8, 16), atom=16, pair=12, rounds=1)
SIDE = 160  # pixels of 0.125 Å


def untrained(path, **changes):
    """Write the weights of a small network whose image is full of peaks."""
    torch.manual_seed(0)
    network = GraphNet(TINY)
    torch.nn.init.normal_(network.peaks.weight)
    metadata = {"method": "graphgen", "architecture": "parallel", "config": json.dumps(asdict(TINY))}
    metadata |= {"temperatures": Temperatures().to_json(), **changes}
    save_safetensors(network.state_dict(), metadata, path)
    return path


@pytest.fixture
def weights(tmp_path):
    return untrained(tmp_path / "w.safetensors")


def scan(shape=(40, 56, 10), **fields):
    """Return a scan of noise."""
    df = np.random.default_rng(0).normal(size=shape)
    x, y, z = (np.arange(n) * size for n, size in zip(shape, (0.125, 0.125, 0.1), strict=True))
    return Scan(**{"df": df, "x": x, "y": y, "z": z[::-1], "source": "noise", **fields})


class TestContract(MethodContract):
    method = installed(("graphgen",)).get(Identifier, "graphgen")

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _weights(cls, tmp_path_factory):
        cls.weights = untrained(tmp_path_factory.mktemp("weights") / "w.safetensors")


class Knowing(GraphNet):
    """Stands for a network that has learnt all: it knows the molecule, and where in the window that lies."""

    def __init__(self, molecule):
        super().__init__(TINY)
        self.molecule = molecule

    def image(self, features):
        axis = (torch.arange(SIDE) * 0.125)[None].float()
        positions = torch.tensor(self.molecule.positions, dtype=torch.float32)[None]
        return peak_image(positions, torch.ones(1, len(self.molecule), dtype=torch.bool), axis, axis)

    def answer(self, features, places, batch, pairs):
        molecule = self.molecule
        apart = torch.cdist(places * 0.125, torch.tensor(molecule.positions[:, :2], dtype=torch.float32))
        atom = apart.argmin(1)
        orders = torch.zeros(len(molecule), len(molecule))
        for (a, b), order in zip(molecule.bonds.tolist(), molecule.orders.tolist(), strict=True):
            orders[a, b] = orders[b, a] = order
        bonds = orders[atom[pairs.first], atom[pairs.second]]
        seen = torch.zeros(len(molecule)).scatter(0, atom, 1.0)
        missing = (orders * (1 - seen)).sum(1).round().long()[atom]
        elements = torch.tensor([ELEMENTS.index(symbol) for symbol in molecule.symbols])[atom]
        z = torch.tensor(molecule.topmost_at_zero().positions[:, 2], dtype=torch.float32)[atom]

        def sure(index, count):
            return 30.0 * torch.nn.functional.one_hot(index, count)

        return Answers(
            exists=torch.full((len(places),), 5.0),
            elements=sure(elements, len(ELEMENTS)),
            missing=sure(missing, 5),
            shift=torch.stack([torch.zeros_like(z), torch.zeros_like(z), z], 1),
            log_variance=torch.full((len(places), 3), -4.0),
            bonds=sure((bonds[:, None] >= torch.tensor(ORDERS[1:])).sum(1), len(ORDERS)),
        )


def known(name, turn=0.0):
    """Return a molecule in the middle of the window, turned about x by an angle."""
    molecule = read_molecule(name)
    c, s = np.cos(turn), np.sin(turn)
    molecule = molecule.turned(np.array([[1, 0, 0], [0, c, -s], [0, s, c]])).topmost_at_zero()
    middle = molecule.positions[:, :2].mean(0)
    return molecule.moved((SIDE / 16 - middle[0], SIDE / 16 - middle[1], 0))


def answered(molecule):
    method = GraphgenMethod(Knowing(molecule))
    return method.identify([scan((SIDE, SIDE, 10))], Options(average=False))


@pytest.mark.parametrize("name", ["naphthalene", "PTCDA", "c1ccncc1"])
def test_what_the_network_knows_becomes_atoms_bonds_and_a_smiles(name):
    from afmid.chem import inchikey

    molecule = known(name)
    answer = answered(molecule)
    assert inchikey(answer.smiles)[:14] == inchikey(molecule.smiles)[:14]
    assert sorted(atom.element for atom in answer.atoms) == sorted(molecule.symbols)
    assert len(answer.bonds) == len(molecule.bonds)
    assert sorted(bond.order for bond in answer.bonds) == sorted(molecule.orders.tolist())
    assert max(atom.z for atom in answer.atoms) == 0
    assert answer.meta["completed_hydrogens"] == []
    assert [next(iter(of)) for of in answer.meta["elements"]] == [atom.element for atom in answer.atoms]
    assert {"C,Si": 1.0} in answer.meta["classes"]
    assert answer.atoms[0].sigma == pytest.approx((np.exp(-2),) * 3)


def test_hydrogens_that_are_not_seen_are_completed_and_said_to_be():
    from afmid.chem import inchikey

    molecule = known("Cc1ccccc1")
    answer = answered(molecule)
    assert len(answer.atoms) < len(molecule)  # a hydrogen of the methyl group is below the ring
    count = sum(entry["count"] for entry in answer.meta["completed_hydrogens"])
    assert count > 0
    assert any(note.startswith(f"{count} hydrogen") for note in answer.meta["notes"])
    assert inchikey(answer.smiles) == inchikey(molecule.smiles)
    assert len(answer.atoms) + count == len(molecule)


def test_pieces_without_a_bond_between_them_are_told():
    molecule = known("c1ccncc1")
    apart = replace(molecule, positions=molecule.positions + np.array([4.0, 0, 0]))
    both = Molecule(
        np.tile(molecule.numbers, 2), np.concatenate([molecule.positions - np.array([4.0, 0, 0]), apart.positions]),
        bonds=np.concatenate([molecule.bonds, molecule.bonds + len(molecule)]), orders=np.tile(molecule.orders, 2),
    )  # fmt: skip
    answer = answered(both)
    assert answer.smiles == "c1ccncc1.c1ccncc1"
    assert "the atoms found make 2 separate pieces" in answer.meta["notes"]


def test_the_answer_says_where_it_comes_from(weights):
    answer = GraphgenMethod.load(weights, "cpu").identify([scan()], Options())
    assert (answer.method, answer.version, answer.source) == ("graphgen", __version__, "noise")
    assert answer.weights == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert answer.maps["peaks"].values.shape == (40, 56)
    assert answer.meta["options"] == Options().model_dump()
    json.dumps(answer.meta)


def test_atoms_less_sure_than_asked_are_left_out(weights):
    method = GraphgenMethod.load(weights, "cpu")
    all_atoms, some = (method.identify([scan()], Options(confidence=c)).atoms for c in (0.0, 0.6))
    assert len(all_atoms) > len(some)


def test_the_co_tips_scan_is_looked_at_and_others_are_said_to_be_left(weights, caplog):
    method = GraphgenMethod.load(weights, "cpu")
    pair = [scan(tip="Xe", df=np.ones((40, 56, 10)) * np.arange(40)[:, None, None]), scan()]
    assert method.identify(pair, Options()).atoms == method.identify([scan()], Options()).atoms
    assert "the scan of the Xe tip was not used" in method.identify(pair, Options()).meta["notes"]
    with caplog.at_level(logging.WARNING):
        method.identify([scan(tip="Xe")], Options())
    assert "graphgen was trained on CO tips; a scan with a Xe tip may be misread" in caplog.text


def test_no_scan_and_no_weights_are_refused_in_words():
    with pytest.raises(DataError, match="graphgen needs a scan"):
        GraphgenMethod(GraphNet(TINY)).identify([], Options())
    with pytest.raises(WeightsError, match="train some: afmid train graphgen"):
        GraphgenMethod.load(None, "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "deep"}, "no network 'deep'"),
        ({"config": "{}"}, "Error.s. in loading state_dict"),
        ({"config": "nonsense"}, "Expecting value"),
        ({"temperatures": '{"heat": 1}'}, "unexpected keyword argument 'heat'"),
        ({"temperatures": "[1]"}, "cannot convert"),
    ],
)
def test_weights_of_another_network_are_refused_in_words(tmp_path, changes, message):
    path = untrained(tmp_path / "w.safetensors", **changes)
    with pytest.raises(WeightsError, match=f"does not fit the graphgen network: .*{message}"):
        GraphgenMethod.load(path, "cpu")


def test_a_scan_wider_than_any_training_window_is_answered_as_a_whole(weights):
    wide = replace(scan((300, 40, 10)), source="wide")
    answer = GraphgenMethod.load(weights, "cpu").identify([wide], Options(average=False))
    assert answer.maps["peaks"].values.shape == (300, 40)
