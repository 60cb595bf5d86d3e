import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from afmid.builtin import NoiseOptions, afmid_augment
from afmid.data.augment import Background, Cutout, Noise, Normalise, PlaneShift, augment_scan
from afmid.errors import DataError, PluginError
from afmid.molecule import Molecule
from afmid.offers import Augmentation, NoOptions
from afmid.scan import Scan

OFFERS = {offer.name: offer for offer in afmid_augment()}
STEPS = {name: offer.load(offer.options()) for name, offer in OFFERS.items()}
NO_TARGETS = torch.empty(0)

shapes = st.tuples(*(st.integers(1, high) for high in (3, 12, 12, 4)))
seeds = st.integers(0, 2**32)
steps = st.sampled_from(sorted(STEPS))


def stacks(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 - 5


def run(step, df, seed=0, targets=NO_TARGETS):
    return step(df, targets, torch.Generator().manual_seed(seed))[0]


def scan(shape=(8, 6, 3), **rest):
    axes = {"x": np.arange(shape[0]) * 0.5, "y": np.arange(shape[1]) * 0.5, "z": -0.1 * np.arange(shape[2])}
    return Scan(stacks((1, *shape))[0].numpy(), **axes, **rest)


def ranges(df):
    return df.amax((1, 2)) - df.amin((1, 2))


# every step


@given(name=steps, shape=shapes, seed=seeds)
def test_the_same_seed_gives_the_same_stacks_and_nothing_given_changes(name, shape, seed):
    df, targets = stacks(shape), stacks((shape[0], 2, *shape[1:3]))
    df_before, targets_before = df.clone(), targets.clone()
    new, new_targets = STEPS[name](df, targets, torch.Generator().manual_seed(seed))
    assert torch.equal(new, run(STEPS[name], df, seed))
    assert torch.equal(df, df_before)
    assert torch.equal(targets, targets_before)
    assert torch.equal(new_targets, targets_before)
    assert new.shape == df.shape
    assert new.dtype == df.dtype
    assert new.data_ptr() != df.data_ptr()


@given(name=steps, seed=seeds)
def test_what_another_stack_of_the_batch_shows_does_not_matter(name, seed):
    df, other = stacks((2, 9, 7, 3)), stacks((2, 9, 7, 3), seed=1)
    other[0] = df[0]
    assert torch.equal(run(STEPS[name], df, seed)[0], run(STEPS[name], other, seed)[0])


@given(name=steps, value=st.floats(-1e6, 1e6, width=32), seed=seeds)
def test_an_image_of_one_value_stays_finite_and_of_one_value(name, value, seed):
    new = run(STEPS[name], torch.full((1, 13, 11, 2), value), seed)
    assert torch.isfinite(new).all()
    torch.testing.assert_close(new, torch.full_like(new, 0.0 if name == "normalise" else value))


@given(name=steps, scale=st.floats(1e-3, 1e3), offset=st.floats(-100, 100), seed=seeds)
def test_steps_act_alike_whatever_the_unit_and_the_zero_of_the_images(name, scale, offset, seed):
    df = stacks((1, 12, 9, 2)).double()
    new = run(STEPS[name], df, seed)
    expected = new if name == "normalise" else new * scale + offset
    torch.testing.assert_close(run(STEPS[name], df * scale + offset, seed), expected, rtol=1e-4, atol=1e-4 * scale)


# normalise


@given(shape=st.tuples(st.just(2), st.integers(2, 12), st.integers(1, 12), st.integers(1, 4)), seed=seeds,
       scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e15]), offset=st.sampled_from([0.0, 100.0]))  # fmt: skip
def test_normalised_images_have_zero_mean_and_unit_variance(shape, seed, scale, offset):
    new = run(Normalise(), (stacks(shape, seed) + offset) * scale)
    torch.testing.assert_close(new.mean((1, 2)), torch.zeros(2, shape[-1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(new.square().mean((1, 2)), torch.ones(2, shape[-1]), rtol=1e-4, atol=0)


@given(shape=shapes, seed=seeds)
def test_normalising_twice_is_normalising_once(shape, seed):
    once = run(Normalise(), stacks(shape, seed))
    torch.testing.assert_close(run(Normalise(), once), once, rtol=1e-4, atol=1e-5)


# noise


@given(level=st.floats(0, 1), seed=seeds)
def test_fixed_noise_stays_within_half_its_level_of_each_images_range(level, seed):
    df = stacks((2, 20, 20, 3))
    added = (run(Noise(level, "fixed"), df, seed) - df).abs().amax((1, 2))
    assert (added <= 0.5 * level * ranges(df) * 1.001 + 1e-5).all()
    assert (added >= 0.45 * level * ranges(df) - 1e-5).all()  # the largest of 400 draws


def test_drawn_noise_has_one_level_for_each_stack_spread_as_a_folded_normal():
    df = stacks((2000, 4, 4, 2))
    level = (run(Noise(0.1, "drawn"), df) - df).abs().amax((1, 2)) / ranges(df) * 2 * 33 / 32  # largest of 32 draws
    assert (level.amax(1) / level.amin(1)).median() < 1.3
    assert level.mean() == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.1)
    assert (level.mean(1) < 0.01).any()


# plane shift


@given(step=st.floats(0, 0.1), total=st.floats(0, 0.1), seed=seeds, nz=st.integers(1, 8))
def test_shifts_stay_small_between_neighbours_and_in_all_and_spare_the_closest_image(step, total, seed, nz):
    nx, ny = 40, 30
    x, y = torch.meshgrid(torch.arange(nx).double(), torch.arange(ny).double(), indexing="ij")
    moved = [run(PlaneShift(step, total), ramp.view(1, nx, ny, 1).repeat(2, 1, 1, nz), seed) for ramp in (x, y)]
    shift = torch.stack([x[20, 15] - moved[0][:, 20, 15], y[20, 15] - moved[1][:, 20, 15]])  # (2, B, Z): exact on ramps
    assert (shift.norm(dim=0) <= total * ny + 1e-4).all()
    assert (shift.diff(dim=-1).norm(dim=0) <= step * ny + 1e-4).all()
    assert (shift[..., -1] == 0).all()


def test_images_drift_apart_and_the_edge_repeats():
    df = stacks((4, 30, 30, 6))
    new = run(PlaneShift(0.02, 0.04), df)
    assert torch.equal(new[..., -1], df[..., -1])
    assert ((new - df).abs().amax((1, 2))[:, :-1] > 0.1).all()
    assert new.amax() <= df.amax()
    assert new.amin() >= df.amin()


# cut-outs


@given(seed=seeds)
def test_a_cutout_is_a_rectangle_of_the_images_mean_with_the_area_and_aspect_asked_for(seed):
    df = stacks((1, 100, 80, 1))
    holes = (run(Cutout(tries=1, probability=1, smallest=0.01, largest=0.04, aspect=4), df, seed) != df)[0, :, :, 0]
    x, y = holes.any(1).nonzero()[:, 0], holes.any(0).nonzero()[:, 0]
    width, height = len(x), len(y)
    assert holes[x.min() : x.max() + 1, y.min() : y.max() + 1].all()
    assert width * height == holes.sum()
    rounding = (width + height) / 2 + 1  # sides are whole pixels
    assert 0.01 * 8000 - rounding <= width * height <= 0.04 * 8000 + rounding
    assert (width - 0.5) / (height + 0.5) <= 4
    assert (height - 0.5) / (width + 0.5) <= 4
    new = run(Cutout(tries=1, probability=1, smallest=0.01, largest=0.04, aspect=4), df, seed)
    torch.testing.assert_close(new[0, :, :, 0][holes], df.mean().expand(int(holes.sum())))


def test_tries_blank_as_often_as_their_probability():
    df = stacks((100, 20, 20, 10))
    blanked = run(Cutout(tries=1, probability=0.2, smallest=0.01, largest=0.01, aspect=1), df) != df
    assert blanked.any(1).any(1).float().mean() == pytest.approx(0.2, abs=0.05)  # 1000 images
    assert torch.equal(run(Cutout(tries=5, probability=0, smallest=0.01, largest=0.01, aspect=1), df), df)


# background


@given(strength=st.floats(0, 1), seed=seeds)
def test_the_background_is_a_plane_of_at_most_its_strength_the_same_for_all_images(strength, seed):
    df = stacks((2, 12, 9, 3)).double()
    plane = (run(Background(strength), df, seed) - df) / ranges(df)[:, None, None, :]
    assert (ranges(plane) <= strength + 1e-6).all()
    torch.testing.assert_close(plane, plane[..., :1].expand_as(plane), rtol=0, atol=1e-6)
    torch.testing.assert_close(plane.mean((1, 2)), torch.zeros(2, 3).double(), rtol=0, atol=1e-6)
    for axis in (1, 2):
        bend = plane.diff(2, dim=axis)
        torch.testing.assert_close(bend, torch.zeros_like(bend), rtol=0, atol=1e-6)


# offers


def test_the_published_values_are_the_defaults():
    assert STEPS["noise"] == Noise(0.1, "drawn")
    assert STEPS["plane-shift"] == PlaneShift(0.02, 0.04)
    assert STEPS["cutout"] == Cutout(tries=5, probability=0.2, smallest=0.001, largest=0.01, aspect=10)
    assert STEPS["background"] == Background(0.3)


def test_descriptions_load_without_torch():
    code = "import sys, afmid.builtin as b; b.afmid_augment(), b.afmid_evaluate(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# a scan


def test_a_scan_keeps_its_axes_and_truth_and_remembers_each_step():
    truth = Molecule([6], [[1.0, 1.0, 0.0]])
    given_scan = scan(truth=truth, tip="Xe", meta={"engine": "torch"})
    chosen = [(OFFERS["noise"], NoiseOptions(level=0.2)), (OFFERS["normalise"], NoOptions())]
    once = augment_scan(given_scan, chosen, seed=7)
    twice = augment_scan(once, chosen[1:], seed=8)
    for name in ("x", "y", "z"):
        np.testing.assert_array_equal(getattr(twice, name), getattr(given_scan, name))
    assert (twice.truth, twice.tip, twice.meta["engine"]) == (truth, "Xe", "torch")
    first = {"seed": 7, "steps": [{"name": "noise", "options": {"level": 0.2, "spread": "drawn"}},
                                  {"name": "normalise", "options": {}}]}  # fmt: skip
    assert json.loads(json.dumps(twice.meta["augment"])) == [first, {"seed": 8, "steps": first["steps"][1:]}]
    assert "augment" not in given_scan.meta
    np.testing.assert_allclose(twice.df.mean((0, 1)), 0, atol=1e-5)


def test_a_scan_changes_with_the_seed_alone_and_its_images_stay_as_they_were():
    given_scan = scan()
    before = given_scan.df.copy()
    chosen = [(offer, offer.options()) for offer in OFFERS.values()]
    np.testing.assert_array_equal(augment_scan(given_scan, chosen, 1).df, augment_scan(given_scan, chosen, 1).df)
    assert not np.array_equal(augment_scan(given_scan, chosen, 1).df, augment_scan(given_scan, chosen, 2).df)
    np.testing.assert_array_equal(given_scan.df, before)


def stranger(step):
    return Augmentation(name="strange", summary="A stranger's.", load=lambda options: step), NoOptions()


def test_a_step_that_moves_the_image_sideways_is_refused_for_a_scan():
    flip = stranger(lambda df, targets, generator: (df.flip(1), targets.flip(2)))
    with pytest.raises(DataError, match="'strange' moves the image sideways"):
        augment_scan(scan(), [flip], 0)


@pytest.mark.parametrize("wrong", [lambda df: df[..., :-1], lambda df: df * np.nan])
def test_a_step_that_returns_no_stack_is_named(wrong):
    with pytest.raises(PluginError, match="'strange' must return finite values"):
        augment_scan(scan(), [stranger(lambda df, targets, generator: (wrong(df), targets))], 0)


def test_a_record_of_steps_that_is_no_list_is_an_error():
    with pytest.raises(DataError, match="augment must be a list"):
        augment_scan(scan(meta={"augment": 3}), [], 0)
