import hashlib
import json
import logging
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from afmid import DataError, Identifier, Molecule, Scan
from afmid.errors import WeightsError
from afmid.plugins import installed
from afmid.testing import MethodContract
from afmid.weights import save_safetensors
from afmid_descriptor import Options, __version__
from afmid_descriptor.atoms import UNFITTED
from afmid_descriptor.method import DescriptorMethod, load
from afmid_descriptor.metrics import true_maps
from afmid_descriptor.model import Config, DescriptorCNN
from afmid_descriptor.stack import prepare

SMALL = Config(encoder=(2, 2, 4), middle=8, branch=4)


def metadata(**changes):
    told = {"method": "descriptor", "architecture": "paper", "version": "0", "config": json.dumps(asdict(SMALL))}
    return {**told, **changes}


def untrained(path):
    """Write the weights file of a small network that was never trained, but whose every weight matters."""
    torch.manual_seed(0)
    network = DescriptorCNN(SMALL)
    for branch in network.branches.values():
        torch.nn.init.normal_(branch.last.weight, std=0.3)
    save_safetensors(network.state_dict(), metadata(), path)
    return path


@pytest.fixture
def weights(tmp_path):
    return untrained(tmp_path / "w.safetensors")


@pytest.fixture
def method(weights):
    return load(weights, "cpu")


def scan(shape=(40, 56, 10), pixel=0.125, step=0.1, **fields):
    """Return a scan of smooth noise."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(1, shape[2], 8, 8)))
    df = torch.nn.functional.interpolate(coarse, shape[:2], mode="bicubic")
    x, y, z = (np.arange(n) * size for n, size in zip(shape, (pixel, pixel, step), strict=True))
    return Scan(**{"df": df[0].permute(1, 2, 0).numpy(), "x": x, "y": y, "z": z[::-1], "source": "noise", **fields})


class TestContract(MethodContract):
    method = installed(("descriptor",)).get(Identifier, "descriptor")

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _weights(cls, tmp_path_factory):
        cls.weights = untrained(tmp_path_factory.mktemp("weights") / "w.safetensors")


class Painter(torch.nn.Module):
    """Stands for a network that has learnt all: it answers with the true maps, whatever it is shown."""

    def __init__(self, maps):
        super().__init__()
        self.maps = torch.nn.Parameter(torch.from_numpy(maps)[None].float())

    def forward(self, df):
        return self.maps


def test_the_answer_holds_maps_on_the_scans_axes_and_says_where_it_comes_from(method, weights):
    answer = method.identify([scan()], Options())
    assert {name: (image.values.shape, image.unit) for name, image in answer.maps.items()} == {
        "disks": ((40, 56), "1"), "spheres": ((40, 56), "Å"), "height": ((40, 56), "Å"),
    }  # fmt: skip
    assert (answer.method, answer.version, answer.source) == ("descriptor", __version__, "noise")
    assert answer.weights == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert answer.meta["options"] == Options().model_dump()
    assert answer.smiles is None
    assert not answer.bonds
    json.dumps(answer.meta)


def test_the_same_scan_gives_the_same_answer(method):
    first, second = (method.identify([scan()], Options()) for _ in range(2))
    assert first.atoms == second.atoms
    assert all(np.array_equal(first.maps[name].values, second.maps[name].values) for name in first.maps)


def test_atoms_stand_where_the_true_disks_are():
    x = np.arange(64) * 0.125 + 5
    truth = Molecule([6, 8, 1], [[8, 9, 0], [9.2, 9, -0.2], [7.4, 8.1, -0.1]])
    painted = DescriptorMethod(Painter(true_maps(truth, x, x)))
    answer = painted.identify([scan((64, 64, 10), x=x, y=x)], Options(average=False))
    found = np.array([(atom.x, atom.y, atom.z) for atom in answer.atoms])
    order = [np.hypot(*(found[:, :2] - position[:2]).T).argmin() for position in truth.positions]
    np.testing.assert_allclose(found[order], truth.positions, atol=0.05)
    assert len(found) == len(truth)
    assert all(atom.element is None for atom in answer.atoms)


def test_turning_the_scan_turns_the_averaged_maps(method):
    original = scan((40, 40, 10))
    turned = replace(original, df=np.rot90(original.df).copy())
    maps, maps_turned = (method.maps(prepare(one), average=True) for one in (original, turned))
    torch.testing.assert_close(maps_turned, maps.rot90(1, (1, 2)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(37, 41, 10), (9, 50, 12), (40, 40, 3)])
def test_any_image_size_and_any_number_of_images_from_two_on_work(method, shape):
    assert method.identify([scan(shape)], Options()).maps["height"].values.shape == shape[:2]


def test_other_pixels_and_steps_are_resampled_and_the_answer_says_so(method):
    answer = method.identify([scan((30, 30, 6), pixel=0.2, step=0.25)], Options())
    assert answer.maps["disks"].values.shape == (30, 30)
    assert answer.meta["notes"] == [
        "images 0.25–0.25 Å apart were interpolated to 0.1 Å",
        "resampled from 30 × 30 to 48 × 48 pixels of 0.125 Å",
    ]


def test_a_single_image_is_refused_in_words(method):
    with pytest.raises(DataError, match="noise: a single image; the descriptor network needs two at least"):
        method.identify([scan((40, 40, 1))], Options())


def test_of_several_scans_that_of_the_co_tip_is_used_and_the_log_says_so(method, caplog):
    xenon, monoxide = scan(tip="Xe"), scan(tip="CO", source="the right one")
    with caplog.at_level(logging.WARNING):
        assert method.identify([xenon, monoxide], Options()).source == "the right one"
        method.identify([xenon], Options())
    assert "descriptor uses one scan, that of the CO tip; the other 1 are not used" in caplog.text
    assert "descriptor was trained on CO tips; a scan with a Xe tip may be misread" in caplog.text
    with pytest.raises(DataError, match="needs a scan"):
        method.identify([], Options())


def test_atoms_less_sure_than_asked_are_left_out(method):
    every = method.identify([scan()], Options(threshold=0.02, confidence=0)).atoms
    middle = float(np.median([atom.confidence for atom in every]))
    sure = method.identify([scan()], Options(threshold=0.02, confidence=middle)).atoms
    assert 0 < len(sure) < len(every)
    assert min(atom.confidence for atom in sure) >= middle


def test_confidences_follow_the_coefficients_of_the_weights(weights, tmp_path):
    state = load(weights, "cpu").model.state_dict()
    never = {**dict.fromkeys(UNFITTED, 0.0), "constant": -20.0}
    save_safetensors(state, metadata(confidence=json.dumps(never)), tmp_path / "calibrated.safetensors")
    answer = load(tmp_path / "calibrated.safetensors", "cpu").identify([scan()], Options())
    assert answer.atoms == ()
    assert answer.meta["confidence"] == "fitted on validation scans"
    assert load(weights, "cpu").identify([scan()], Options()).meta["confidence"] == "not calibrated"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "cgan"}, "made for method 'cgan', not for 'descriptor'"),
        ({"architecture": "unet"}, "made for architecture 'unet', not for 'paper'"),
        ({"config": "{}"}, "does not fit the descriptor network: Error.s. in loading state_dict"),
        ({"config": "nonsense"}, "does not fit the descriptor network: Expecting value"),
        ({"config": '{"depth": 3}'}, "does not fit the descriptor network: .*unexpected keyword argument 'depth'"),
        ({"confidence": '{"constant": 1}'}, "does not fit the descriptor network"),
    ],
)
def test_weights_made_for_something_else_are_refused_in_words(weights, tmp_path, changes, message):
    state = load(weights, "cpu").model.state_dict()
    save_safetensors(state, metadata(**changes), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=message) as error:
        load(tmp_path / "other.safetensors", "cpu")
    assert "\n" not in str(error.value)


def test_no_weights_are_an_error_that_says_what_to_do():
    with pytest.raises(WeightsError, match="afmid train descriptor"):
        load(None, "cpu")
