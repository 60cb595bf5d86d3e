import hashlib
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid import DataError, Identifier, Molecule, Scan
from afmid.errors import WeightsError
from afmid.networks.stack import Stack, prepare
from afmid.plugins import installed
from afmid.testing import MethodContract
from afmid.weights import save_safetensors
from afmid_descriptor import Options, __version__
from afmid_descriptor.atoms import FIGURES, Fit
from afmid_descriptor.calibration import ONE, TWO, Calibration, written
from afmid_descriptor.maps import MAPS
from afmid_descriptor.method import DescriptorMethod, load
from afmid_descriptor.metrics import true_maps
from afmid_descriptor.model import Config, DescriptorNet, Prediction
from afmid_descriptor.networks import build, described

SMALL = Config(stem=8, widths=(8, 16))


def small(seed=0):
    """Return a small network that was never trained, but whose every weight matters."""
    torch.manual_seed(seed)
    network = DescriptorNet(SMALL)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.1)
    return network


def peaked():
    """Return such a network whose maps have high peaks."""
    network = small()
    network.last.weight.data *= 10
    return network


def metadata(network=None, **changes):
    return {"method": "descriptor", "version": "0", **described(network or small()), **changes}


def untrained(path, **changes):
    """Write the weights file of a small network."""
    save_safetensors(small().state_dict(), metadata(**changes), path)
    return path


@pytest.fixture
def weights(tmp_path):
    return untrained(tmp_path / "w.safetensors")


@pytest.fixture
def method(weights):
    return load(weights, "cpu")


def scan(shape=(40, 56, 10), pixel=0.125, step=0.1, seed=0, **fields):
    """Return a scan of smooth noise."""
    rng = np.random.default_rng(seed)
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


class Painter(DescriptorNet):
    """Stands for a network that has learnt all: it answers with the true maps, whatever it is shown."""

    def __init__(self, maps, tilt=(0.0, 0.0)):
        super().__init__(SMALL)
        self.painted, self.told = torch.from_numpy(maps)[None].float(), torch.tensor([tilt])

    def predict(self, df, second=None):
        return Prediction(self.painted, torch.zeros_like(self.painted), self.told)


def test_the_answer_holds_maps_on_the_scans_axes_and_says_where_it_comes_from(method, weights):
    answer = method.identify([scan()], Options())
    assert {name: (image.values.shape, image.unit) for name, image in answer.maps.items()} == {
        name: ((40, 56), unit) for name, unit in MAPS.items()
    }
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


def test_atoms_stand_where_the_true_atoms_are_the_surest_first():
    x = np.arange(64) * 0.125 + 5
    truth = Molecule([6, 8, 1], [[8, 9, 0], [9.25, 9, -0.25], [7.375, 8.125, -0.125]])
    painted = DescriptorMethod(Painter(true_maps(truth, x, x)))
    answer = painted.identify([scan((64, 64, 10), x=x, y=x)], Options(average=False))
    found = np.array([(atom.x, atom.y, atom.z) for atom in answer.atoms])
    order = [np.hypot(*(found[:, :2] - position[:2]).T).argmin() for position in truth.positions]
    assert len(found) == len(truth)
    np.testing.assert_allclose(found[order][:, :2], truth.positions[:, :2], atol=0.03)
    np.testing.assert_allclose(found[order][:, 2], truth.positions[:, 2], atol=0.1)
    assert found[:, 2].max() == 0
    sure = [atom.confidence for atom in answer.atoms]
    assert sure == sorted(sure, reverse=True)
    assert all(atom.element is None for atom in answer.atoms)


def test_the_tilt_is_told_with_its_deviation_only_where_the_weights_can_tell_it():
    def told(calibrations):
        painted = DescriptorMethod(Painter(np.zeros((len(MAPS), 64, 64)), (0.1234, -0.2)), calibrations, second="Xe")
        scans = [scan((64, 64, 10)), scan((64, 64, 10), tip="Xe")]
        metas = [painted.identify(some, Options(average=False)).meta for some in (scans[:1], scans)]
        return [{name: value for name, value in meta.items() if "tilt" in name} for meta in metas]

    tilt = {"tip_tilt_angstrom": [0.123, -0.2]}
    assert told({ONE: Calibration(tilt=0.0456), TWO: Calibration(tilt=0.01)}) == [
        tilt | {"tip_tilt_sigma_angstrom": 0.046},
        tilt | {"tip_tilt_sigma_angstrom": 0.01},
    ]
    assert told({ONE: Calibration(), TWO: Calibration(tilt=0.01)}) == [{}, tilt | {"tip_tilt_sigma_angstrom": 0.01}]
    assert told({}) == [{}, {}]


def seen_by(method, df, average=True, second=None):
    """Return the prediction for a stack (X, Y, 10)."""
    x, y = (np.arange(n) * 0.125 for n in df.shape[:2])
    return method.look(Stack(df[None], x, y, (), None if second is None else second[None]), average)


@settings(max_examples=8, deadline=None)
@given(turns=st.integers(0, 3), mirror=st.booleans(), shape=st.sampled_from([(32, 32), (20, 35)]), two=st.booleans())
def test_turning_the_scan_turns_the_averaged_maps_their_deviations_and_the_tilt(turns, mirror, shape, two):
    method = DescriptorMethod(small())
    stacks = [prepare(scan((*shape, 10), seed=seed)).df[0] for seed in range(1 + two)]

    def turned(images, axes):
        rotated = images.rot90(turns, axes)
        return rotated.flip(axes[0]) if mirror else rotated

    before = seen_by(method, stacks[0], second=stacks[1] if two else None)
    moved = [turned(df, (0, 1)) for df in stacks]
    after = seen_by(method, moved[0], second=moved[1] if two else None)
    for image, other in zip(after[:2], before[:2], strict=True):
        torch.testing.assert_close(image, turned(other, (1, 2)), atol=1e-5, rtol=1e-4)
    x, y = before.tilt.tolist()
    for _ in range(turns):  # a quarter takes x to y and y to −x
        x, y = -y, x
    torch.testing.assert_close(after.tilt, torch.tensor([-x if mirror else x, y]), atol=1e-5, rtol=1e-4)


def test_turning_the_scan_turns_the_answer():
    method = DescriptorMethod(peaked(), {ONE: Calibration(tilt=0.1)})
    original = scan((40, 40, 10))
    turned = replace(original, df=np.rot90(original.df).copy())  # x to y, y to −x
    before, after = (method.identify([one], Options(threshold=0.1, confidence=0)) for one in (original, turned))
    for name, image in before.maps.items():
        for values, other in ((image.values, after.maps[name].values), (image.sigma, after.maps[name].sigma)):
            np.testing.assert_allclose(other, np.rot90(values), atol=1e-5, rtol=1e-4)
    x, y = before.meta["tip_tilt_angstrom"]
    assert after.meta["tip_tilt_angstrom"] == pytest.approx([-y, x], abs=2e-3)
    assert len(before.atoms) == len(after.atoms) > 0
    side = original.x[-1]
    np.testing.assert_allclose(
        sorted((side - atom.y, atom.x) for atom in before.atoms),
        sorted((atom.x, atom.y) for atom in after.atoms),
        atol=0.01,
    )


def test_without_averaging_the_scan_is_seen_once_as_it_lies():
    network = small().eval()
    df = prepare(scan((32, 48, 10))).df
    with torch.no_grad():
        direct = network.predict(df)
    told = seen_by(DescriptorMethod(network), df[0], average=False)
    torch.testing.assert_close(told.maps, direct.maps[0])
    torch.testing.assert_close(told.sigma, (direct.log_variance[0] / 2).exp())
    torch.testing.assert_close(told.tilt, direct.tilt[0])


def test_the_mean_and_the_deviations_are_those_of_the_eight_views():
    network = small().eval()
    df = prepare(scan((32, 32, 10))).df[0]
    views = []
    with torch.no_grad():
        for turns in range(4):
            for mirror in (False, True):
                shown = df.rot90(turns, (0, 1))
                shown = shown.flip(0) if mirror else shown
                told = network.predict(shown[None])
                straight = [part[0].flip(1) if mirror else part[0] for part in told[:2]]
                views.append([part.rot90(-turns, (1, 2)) for part in straight])
    maps, log_variances = (torch.stack(parts) for parts in zip(*views, strict=True))
    told = seen_by(DescriptorMethod(network, {ONE: Calibration(spread={"disks": 2.0})}), df)
    torch.testing.assert_close(told.maps, maps.mean(0), atol=1e-5, rtol=1e-4)
    sigma = (log_variances.exp().mean(0) + maps.var(0, correction=0)).sqrt()
    sigma[0] *= 2
    torch.testing.assert_close(told.sigma, sigma, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("average", [True, False])
def test_every_map_has_positive_deviations_wider_by_what_the_weights_say(weights, tmp_path, average):
    calibrations = {ONE: Calibration(spread={"height": 3.0}), TWO: Calibration(spread={"disks": 9.0})}
    wide = untrained(tmp_path / "wide.safetensors", calibration=written(calibrations))
    one, other = (load(path, "cpu").identify([scan()], Options(average=average)) for path in (weights, wide))
    for name, image in one.maps.items():
        assert image.sigma.shape == image.values.shape
        assert image.sigma.dtype == np.float32
        assert image.sigma.min() > 0
        factor = 3 if name == "height" else 1
        np.testing.assert_allclose(other.maps[name].sigma, factor * image.sigma, rtol=1e-5)
        assert np.array_equal(other.maps[name].values, image.values)


@pytest.mark.parametrize("architecture", ["paper", "slides"])
def test_the_published_networks_answer_without_deviations(architecture):
    torch.manual_seed(0)
    answer = DescriptorMethod(build(architecture)).identify([scan((40, 32, 10))], Options())
    assert list(answer.maps) == ["disks", "spheres", "height"]
    assert all(image.sigma is None for image in answer.maps.values())
    assert "tip_tilt_angstrom" not in answer.meta


def test_a_network_without_disks_or_atoms_finds_no_atoms():
    method = DescriptorMethod(build("ed-afm", '{"width": 0.05}'), second="Xe")
    answer = method.identify([scan(), scan(tip="Xe", seed=1)], Options(confidence=0))
    assert list(answer.maps) == ["field"]
    assert answer.atoms == ()


def test_an_ed_afm_network_for_two_tips_refuses_a_scan_alone_in_words_and_one_for_a_single_tip_takes_it(caplog):
    two = DescriptorMethod(build("ed-afm", '{"width": 0.05}'), second="Xe")
    for scans in ([scan()], [scan(tip="Xe")], [scan(), scan(tip="Cl", seed=1)]):
        with pytest.raises(DataError, match="need a scan of a Xe tip beside that of CO; give it as --second"):
            two.identify(scans, Options())
    one = DescriptorMethod(build("ed-afm", '{"width": 0.05, "tips": 1}'))
    assert list(one.identify([scan()], Options()).maps) == ["field"]


@pytest.mark.parametrize("shape", [(37, 41, 10), (9, 50, 12), (40, 40, 3)])
def test_any_image_size_and_any_number_of_images_from_two_on_work(method, shape):
    answer = method.identify([scan(shape)], Options())
    assert answer.maps["height"].values.shape == answer.maps["height"].sigma.shape == shape[:2]


def test_other_pixels_and_steps_are_resampled_and_the_answer_says_so(method):
    answer = method.identify([scan((30, 30, 6), pixel=0.2, step=0.25)], Options())
    assert answer.maps["disks"].values.shape == (30, 30)
    assert answer.meta["notes"] == [
        "images 0.25–0.25 Å apart were interpolated to 0.1 Å",
        "resampled from 30 × 30 to 48 × 48 pixels of 0.125 Å",
    ]


def test_a_single_image_is_refused_in_words(method):
    with pytest.raises(DataError, match="noise: a single image; the network needs two at least"):
        method.identify([scan((40, 40, 1))], Options())
    with pytest.raises(DataError, match="needs a scan"):
        method.identify([], Options())


def largest_change(one, other):
    return max(np.abs(image.values - other.maps[name].values).max() for name, image in one.maps.items())


def test_the_scan_of_the_second_tip_that_the_weights_know_is_used(tmp_path, caplog):
    two = load(untrained(tmp_path / "two.safetensors", second="Xe"), "cpu")
    assert two.second == "Xe"
    monoxide, xenon = scan(source="the right one"), scan(tip="Xe", seed=1)
    with caplog.at_level(logging.WARNING):
        alone, both, swapped = (two.identify(s, Options()) for s in ([monoxide], [monoxide, xenon], [xenon, monoxide]))
        elsewhere = two.identify([monoxide, replace(xenon, x=xenon.x + 1)], Options())
    assert not caplog.records
    assert largest_change(alone, both) > 0.01
    assert largest_change(both, swapped) == 0
    assert largest_change(both, elsewhere) > 0.01
    assert swapped.source == "the right one"


def test_a_scan_of_a_tip_that_the_weights_do_not_know_is_warned_of_and_not_used(method, tmp_path, caplog):
    two = load(untrained(tmp_path / "two.safetensors", second="Xe"), "cpu")
    scans = [scan(), scan(tip="Cl", seed=1)]
    with caplog.at_level(logging.WARNING):
        both = two.identify(scans, Options())
        assert largest_change(both, two.identify(scans[:1], Options())) == 0
        assert two.identify(scans, Options()).meta["notes"] == both.meta["notes"]  # but is not warned of again
        method.identify([scan(), scan(tip="Xe", seed=1)], Options())
    assert caplog.messages == [
        "descriptor: the scan of the Cl tip was not used: these weights know CO and Xe",
        "descriptor: the scan of the Xe tip was not used: these weights know CO",
    ]
    assert both.meta["notes"] == ["the scan of the Cl tip was not used: these weights know CO and Xe"]


def test_a_scan_without_its_tips_like_is_said_to_be_misread_perhaps(method, tmp_path, caplog):
    two = load(untrained(tmp_path / "two.safetensors", second="Xe"), "cpu")
    with caplog.at_level(logging.WARNING):
        method.identify([scan(tip="Xe")], Options())
        two.identify([scan(tip="Xe")], Options())
    assert caplog.messages == 2 * ["descriptor was trained on CO tips; a scan with a Xe tip may be misread"]


def test_atoms_less_sure_than_asked_are_left_out(method):
    every = method.identify([scan()], Options(threshold=0.02, confidence=0)).atoms
    middle = float(np.median([atom.confidence for atom in every]))
    sure = method.identify([scan()], Options(threshold=0.02, confidence=middle)).atoms
    assert 0 < len(sure) < len(every)
    assert min(atom.confidence for atom in sure) >= middle
    assert max(atom.z for atom in sure) == 0


def test_confidences_and_depths_follow_the_coefficients_of_the_weights(weights, tmp_path):
    flat = dict.fromkeys(("constant", *FIGURES), 0.0)
    fit = Fit(flat | {"constant": -20.0}, flat)
    calibrated = untrained(tmp_path / "calibrated.safetensors", calibration=written({ONE: Calibration(fit)}))
    every = Options(threshold=0.02, confidence=0)
    assert load(calibrated, "cpu").identify([scan()], Options()).atoms == ()
    answer, bare = (load(path, "cpu").identify([scan()], every) for path in (calibrated, weights))
    assert len(answer.atoms) == len(bare.atoms) > 0
    assert all((atom.z, atom.confidence) == (0, pytest.approx(0, abs=1e-6)) for atom in answer.atoms)
    assert any(atom.z < 0 for atom in bare.atoms)
    assert answer.meta["confidence"] == "fitted on validation scans"
    assert bare.meta["confidence"] == "not calibrated"


def test_scans_of_one_tip_and_of_two_are_calibrated_each_by_their_own():
    flat = dict.fromkeys(("constant", *FIGURES), 0.0)
    fits = [Fit(flat | {"constant": logit}, flat) for logit in (1.0, 2.0)]
    both = {ONE: Calibration(fits[0], {"height": 2.0}), TWO: Calibration(fits[1], {"height": 3.0})}
    monoxide, scans = [scan()], [scan(), scan(tip="Xe", seed=1)]
    every = Options(threshold=0.02, confidence=0)

    def answers(calibrations, scans):
        """Return what the calibrated method says, and by what factor its deviations of the height are wider."""
        methods = (DescriptorMethod(peaked(), settled, second="Xe") for settled in (calibrations, {}))
        told, bare = (method.identify(scans, every) for method in methods)
        return told, told.maps["height"].sigma / bare.maps["height"].sigma

    for shown, logit, spread in ((monoxide, 1.0, 2.0), (scans, 2.0, 3.0)):
        answer, factor = answers(both, shown)
        sure = [atom.confidence for atom in answer.atoms]
        assert len(sure) > 0
        assert sure == pytest.approx(len(sure) * [1 / (1 + np.exp(-logit))])
        np.testing.assert_allclose(factor, spread, rtol=1e-4)
        assert answer.meta["confidence"] == "fitted on validation scans"
    answer, factor = answers({ONE: both[ONE]}, scans)
    np.testing.assert_allclose(factor, 1, rtol=1e-4)
    assert answer.meta["confidence"] == "not calibrated"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "cgan"}, "made for method 'cgan', not for 'descriptor'"),
        ({"architecture": "cnn"}, "no network 'cnn'; there are: unet, paper, slides, ed-afm"),
        ({"architecture": "paper"}, "does not fit the descriptor network: .*unexpected keyword argument"),
        ({"config": "{}"}, "does not fit the descriptor network: Error.s. in loading state_dict"),
        ({"config": "nonsense"}, "does not fit the descriptor network: Expecting value"),
        ({"config": '{"depth": 3}'}, "does not fit the descriptor network: .*unexpected keyword argument 'depth'"),
        ({"calibration": "nonsense"}, "does not fit the descriptor network: Expecting value"),
        ({"calibration": "[1, 2]"}, "does not fit the descriptor network"),
        ({"calibration": '{"one": {"spread": {}, "tilt": null}}'}, "does not fit the descriptor network: 'fit'"),
    ],
)
def test_weights_made_for_something_else_are_refused_in_words(tmp_path, changes, message):
    with pytest.raises(WeightsError, match=message) as error:
        load(untrained(tmp_path / "other.safetensors", **changes), "cpu")
    assert "\n" not in str(error.value)


def test_no_weights_are_an_error_that_says_what_to_do():
    with pytest.raises(WeightsError, match="afmid train descriptor"):
        load(None, "cpu")
