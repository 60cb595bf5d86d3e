import json

import numpy as np
import pytest
import torch

from afmid.augmentations import AUGMENTATIONS, NoiseOptions
from afmid.data.augment import augment_scan
from afmid.errors import DataError, PluginError
from afmid.molecule import Molecule
from afmid.offers import Augmentation, NoOptions, Targets
from afmid.scan import Scan

OFFERS = {offer.name: offer for offer in AUGMENTATIONS}
MOVE = ("zoom", "rotate", "shift", "flip")


def scan(shape=(8, 6, 3), **rest):
    axes = {"x": np.arange(shape[0]) * 0.5, "y": np.arange(shape[1]) * 0.5, "z": -0.1 * np.arange(shape[2])}
    return Scan(np.random.default_rng(0).normal(-5, 3, shape).astype(np.float32), **axes, **rest)


def stranger(step):
    return Augmentation(name="strange", summary="A stranger's.", load=lambda options: step), NoOptions()


def test_a_scan_keeps_its_axes_and_truth_and_remembers_each_step():
    truth = Molecule([6], [[1.0, 1.0, 0.0]])
    given_scan = scan(truth=truth, tip="Xe", meta={"engine": "torch"})
    chosen = [(OFFERS["noise"], NoiseOptions(level=0.2)), (OFFERS["normalise"], NoOptions())]
    once = augment_scan(given_scan, chosen, seed=7)
    twice = augment_scan(once, chosen[1:], seed=8)
    for name in ("x", "y", "z"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(given_scan, name))
    assert (twice.truth, twice.tip, twice.meta["engine"]) == (truth, "Xe", "torch")
    options = {"level": 0.2, "spread": "drawn", "distribution": "uniform"}
    first = {"seed": 7, "steps": [{"name": "noise", "options": options}, {"name": "normalise", "options": {}}]}
    assert json.loads(json.dumps(twice.meta["augment"])) == [first, {"seed": 8, "steps": first["steps"][1:]}]
    assert "augment" not in given_scan.meta
    np.testing.assert_allclose(twice.df.mean((0, 1)), 0, atol=1e-5)


def test_a_scan_changes_with_the_seed_alone_and_its_images_stay_as_they_were():
    given_scan = scan()
    before = given_scan.df.copy()
    chosen = [(offer, offer.options()) for offer in AUGMENTATIONS if offer.name not in MOVE]
    np.testing.assert_array_equal(augment_scan(given_scan, chosen, 1).df, augment_scan(given_scan, chosen, 1).df)
    assert not np.array_equal(augment_scan(given_scan, chosen, 1).df, augment_scan(given_scan, chosen, 2).df)
    np.testing.assert_array_equal(given_scan.df, before)


@pytest.mark.parametrize("name", MOVE)
def test_a_step_that_moves_the_targets_is_refused_for_a_scan(name):
    with pytest.raises(DataError, match=f"'{name}' moves the image sideways"):
        augment_scan(scan(), [(OFFERS[name], OFFERS[name].options())], 0)


@pytest.mark.parametrize("moved", [lambda targets: Targets(targets.maps.flip(2), targets.points),
                                   lambda targets: Targets(targets.maps, targets.points + 1)])  # fmt: skip
def test_a_stranger_that_moves_maps_or_points_is_refused_for_a_scan(moved):
    with pytest.raises(DataError, match="'strange' moves the image sideways"):
        augment_scan(scan(), [stranger(lambda df, targets, generator: (df.flip(1), moved(targets)))], 0)


@pytest.mark.parametrize("wrong", [lambda df: df[..., :-1], lambda df: df * torch.nan])
def test_a_step_that_returns_no_stack_is_named(wrong):
    with pytest.raises(PluginError, match="'strange' must return finite values"):
        augment_scan(scan(), [stranger(lambda df, targets, generator: (wrong(df), targets))], 0)


def test_a_record_of_steps_that_is_no_list_is_an_error():
    with pytest.raises(DataError, match="augment must be a list"):
        augment_scan(scan(meta={"augment": 3}), [], 0)
