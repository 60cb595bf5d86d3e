"""A soap network's answers."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from afmid import Identifier, Scan
from afmid.errors import WeightsError
from afmid.plugins import installed
from afmid.testing import MethodContract
from afmid.weights import save_safetensors
from afmid_graphgen import Options
from afmid_graphgen.parallel import Temperatures
from afmid_soap.method import SoapMethod
from afmid_soap.model import Config
from afmid_soap.networks import build
from afmid_soap.paper import Config as PaperConfig
from afmid_soap.predictor import Config as PredictorConfig
from afmid_soap.reference import DscribeSoap

CONFIGS = {
    "soap": Config(stem=8, widths=(8, 16), atom=16, pair=12, rounds=1, more=1),
    "paper": PaperConfig(channels=(2, 3, 4, 5)),
    "predictor": PredictorConfig(width=8, layers=1),
}


def scan(shape=(40, 56, 10), **fields):
    """Return a scan of noise."""
    df = np.random.default_rng(0).normal(size=shape)
    x, y, z = (np.arange(n) * size for n, size in zip(shape, (0.125, 0.125, 0.1), strict=True))
    return Scan(**{"df": df, "x": x, "y": y, "z": z[::-1], "source": "noise", **fields})


def untrained(architecture, path):
    """Write the weights of a small network, soap's with an image full of peaks."""
    torch.manual_seed(0)
    config = json.dumps(asdict(CONFIGS[architecture]))
    network = build(architecture, config)
    if architecture == "soap":
        torch.nn.init.normal_(network.peaks.weight)
    metadata = {"method": "soap", "architecture": architecture, "config": config}
    save_safetensors(network.state_dict(), metadata | {"temperatures": Temperatures().to_json()}, path)
    return path


class TestContract(MethodContract):
    method = installed(("soap",)).get(Identifier, "soap")

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _weights(cls, tmp_path_factory):
        cls.weights = untrained("soap", tmp_path_factory.mktemp("weights") / "w.safetensors")


def test_an_answer_bears_the_methods_own_name_and_its_atoms(tmp_path):
    path = untrained("soap", tmp_path / "w.safetensors")
    answer = SoapMethod.load(path, "cpu").identify([scan()], Options(confidence=0))
    assert answer.method == "soap"
    assert answer.atoms
    assert set(answer.maps) == {"peaks"}


def test_on_a_cpu_dscribe_computes_the_spectra_of_the_published_network(tmp_path):
    method = SoapMethod.load(untrained("paper", tmp_path / "w.safetensors"), "cpu")
    assert isinstance(method.model.graph.compute, DscribeSoap)
    assert method.identify([scan()], Options()).method == "soap"


def test_the_predictor_is_said_to_identify_nothing(tmp_path):
    with pytest.raises(WeightsError, match="looks at no scans"):
        SoapMethod.load(untrained("predictor", tmp_path / "w.safetensors"), "cpu")


def test_an_unknown_network_is_refused_in_words(tmp_path):
    path = tmp_path / "w.safetensors"
    save_safetensors({}, {"method": "soap", "architecture": "magic"}, path)
    with pytest.raises(WeightsError, match="no network 'magic'; there are: soap, paper, predictor"):
        SoapMethod.load(path, "cpu")
