import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from afmid.errors import WeightsError
from afmid.networks.file import fitting, read_network
from afmid.weights import save_safetensors


def build(architecture, config):
    if architecture != "line":
        raise ValueError(f"no network {architecture!r}")
    return nn.Linear(json.loads(config)["inputs"], 1)


def written(path, **changes):
    metadata = {"method": "m", "architecture": "line", "config": '{"inputs": 3}', **changes}
    save_safetensors(nn.Linear(3, 1).state_dict(), metadata, path)
    return path


def test_a_network_comes_back_with_what_its_file_says(tmp_path):
    path = written(tmp_path / "w.safetensors", extra="told")
    network, origin = read_network(path, "m", build)
    assert network(torch.ones(1, 3)).shape == (1, 1)
    assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin.metadata["extra"] == "told"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "curve"}, "does not fit the m network: no network 'curve'"),
        ({"config": '{"inputs": 4}'}, "does not fit the m network: Error.s. in loading state_dict"),
        ({"config": "{\"inputs\": 1e400}"}, "does not fit the m network"),
        ({"config": "{}"}, "does not fit the m network: 'inputs'"),
        ({"method": "other"}, "made for method 'other', not for 'm'"),
    ],
)
def test_a_file_of_another_network_is_refused_in_a_line(tmp_path, changes, message):
    with pytest.raises(WeightsError, match=message) as caught:
        read_network(written(tmp_path / "w.safetensors", **changes), "m", build)
    assert len(str(caught.value).splitlines()) == 1


def test_without_a_file_it_says_how_to_make_one():
    with pytest.raises(WeightsError, match="m needs weights and none came with it; train some: afmid train m"):
        read_network(None, "m", build)


def test_what_else_does_not_fit_is_refused_alike(tmp_path):
    with pytest.raises(WeightsError, match="w: does not fit the m network: invalid literal"), fitting(Path("w"), "m"):
        int("three")
