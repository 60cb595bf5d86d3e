import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from afmid.augmentations import (
    AUGMENTATIONS,
    BackgroundOptions,
    BlurOptions,
    CutoutOptions,
    DriftOptions,
    LineNoiseOptions,
    MissingHeightsOptions,
    NoiseOptions,
    PlaneShiftOptions,
    ShearOptions,
    TipHeightOptions,
    TipTiltOptions,
)
from afmid.data.augment import (
    Background,
    Blur,
    Cutout,
    Drift,
    LineNoise,
    MissingHeights,
    Noise,
    Normalise,
    PlaneShift,
    Shear,
    TipHeight,
    TipTilt,
)
from afmid.offers import Targets
from afmid.plugins import parse_options

STEPS = {offer.name: offer.load(offer.options()) for offer in AUGMENTATIONS}
for name, setting in [("noise", "spread=fixed"), ("noise", "distribution=normal"), ("missing-heights", "fill=repeat"),
                      ("flip", "mirror=no")]:  # fmt: skip
    (offer,) = (offer for offer in AUGMENTATIONS if offer.name == name)
    STEPS[f"{name} {setting}"] = offer.load(parse_options(offer, [setting]))
MOVE = ("zoom", "rotate", "shift", "flip")

shapes = st.tuples(*(st.integers(1, high) for high in (3, 12, 12, 4)))
seeds = st.integers(0, 2**32)
steps = st.sampled_from(sorted(STEPS))


def stacks(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3 - 5


def targets_of(df, channels=0, atoms=0):
    b, nx, ny, _ = df.shape
    return Targets(stacks((b, channels, nx, ny), seed=2), stacks((b, atoms, 2), seed=3))


def run(step, df, seed=0):
    return step(df, targets_of(df), torch.Generator().manual_seed(seed))[0]


def ranges(df):
    return df.amax((1, 2)) - df.amin((1, 2))


def ramps(nx, ny, shape=(2, 1)):
    """Stacks (B, X, Y, Z) whose values are the places of their pixels, along X and along Y."""
    x, y = torch.meshgrid(torch.arange(nx).double(), torch.arange(ny).double(), indexing="ij")
    return [ramp.view(1, nx, ny, 1).repeat(shape[0], 1, 1, shape[1]) for ramp in (x, y)]


# every step


@given(name=steps, shape=shapes, seed=seeds, channels=st.integers(0, 2), atoms=st.integers(0, 3))
def test_the_same_seed_gives_the_same_and_nothing_given_changes(name, shape, seed, channels, atoms):
    df = stacks(shape)
    targets = targets_of(df, channels, atoms)
    df_before, before = df.clone(), Targets(*(target.clone() for target in targets))
    new, new_targets = STEPS[name](df, targets, torch.Generator().manual_seed(seed))
    again, again_targets = STEPS[name](df, targets, torch.Generator().manual_seed(seed))
    assert torch.equal(new, again)
    assert torch.equal(df, df_before)
    assert (new.shape, new.dtype) == (df.shape, torch.float32)
    assert new.data_ptr() != df.data_ptr()
    assert torch.isfinite(new).all()
    for made, repeated, given_one, unchanged in zip(new_targets, again_targets, targets, before, strict=True):
        assert torch.equal(made, repeated)
        assert torch.equal(given_one, unchanged)
        assert (made.shape, made.dtype) == (given_one.shape, torch.float32)
        assert torch.isfinite(made).all()


@given(name=steps, seed=seeds)
def test_only_steps_that_move_the_pixels_move_the_targets(name, seed):
    df = stacks((2, 9, 9, 3))
    targets = targets_of(df, 1, 2)
    new = STEPS[name](df, targets, torch.Generator().manual_seed(seed))[1]
    if not name.startswith(MOVE):
        assert torch.equal(new.maps, targets.maps)
        assert torch.equal(new.points, targets.points)


@given(name=steps, seed=seeds, targets=st.tuples(st.integers(0, 2), st.integers(0, 3)))
def test_draws_do_not_depend_on_the_values(name, seed, targets):
    states = []
    for df in (stacks((2, 9, 7, 3)), torch.zeros(2, 9, 7, 3), stacks((2, 9, 7, 3)) * 1e6):
        generator = torch.Generator().manual_seed(seed)
        STEPS[name](df, targets_of(df, *targets), generator)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@given(name=steps, seed=seeds)
def test_what_another_stack_of_the_batch_shows_does_not_matter(name, seed):
    df, other = stacks((2, 9, 7, 3)), stacks((2, 9, 7, 3), seed=1)
    other[0] = df[0]
    assert torch.equal(run(STEPS[name], df, seed)[0], run(STEPS[name], other, seed)[0])


@pytest.mark.parametrize("name", sorted(set(STEPS) - {"normalise", "missing-heights fill=repeat"}))
def test_each_sample_is_drawn_on_its_own(name):
    df = stacks((1, 16, 16, 6)).expand(8, -1, -1, -1)
    new = run(STEPS[name], df)
    assert len({tuple(sample.flatten().tolist()) for sample in new}) > 3


@given(name=steps, value=st.floats(-1e6, 1e6, width=32), seed=seeds)
def test_an_image_of_one_value_stays_finite_and_of_one_value(name, value, seed):
    new = run(STEPS[name], torch.full((1, 13, 11, 2), value), seed)
    assert torch.isfinite(new).all()
    torch.testing.assert_close(new, torch.full_like(new, 0.0 if name == "normalise" else value), rtol=1e-5, atol=1e-5)


@given(name=steps, scale=st.floats(1e-3, 1e3), offset=st.floats(-100, 100), seed=seeds)
def test_steps_act_alike_whatever_the_unit_and_the_zero_of_the_images(name, scale, offset, seed):
    df = stacks((1, 12, 9, 2)).double()
    new = run(STEPS[name], df, seed)
    expected = new if name == "normalise" else new * scale + offset
    torch.testing.assert_close(run(STEPS[name], df * scale + offset, seed), expected, rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("name", sorted(STEPS))
def test_a_generator_of_the_cpu_gives_the_same_on_a_gpu(name):
    df = stacks((3, 20, 20, 5))
    targets = targets_of(df, 2, 3)
    here = STEPS[name](df, targets, torch.Generator().manual_seed(1))
    there = STEPS[name](df.cuda(), Targets(*(t.cuda() for t in targets)), torch.Generator().manual_seed(1))
    for a, b in zip((here[0], *here[1]), (there[0], *there[1]), strict=True):
        assert b.is_cuda
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-4)
    own = STEPS[name](df.cuda(), Targets(*(t.cuda() for t in targets)), torch.Generator("cuda").manual_seed(1))
    assert own[0].is_cuda


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
    added = (run(Noise(NoiseOptions(level=level, spread="fixed")), df, seed) - df).abs().amax((1, 2))
    assert (added <= 0.5 * level * ranges(df) * 1.001 + 1e-5).all()
    assert (added >= 0.45 * level * ranges(df) - 1e-5).all()  # the largest of 400 draws


def test_drawn_noise_has_one_level_for_each_stack_spread_as_a_folded_normal():
    df = stacks((2000, 4, 4, 2))
    level = (run(Noise(NoiseOptions()), df) - df).abs().amax((1, 2)) / ranges(df) * 2 * 33 / 32  # largest of 32 draws
    assert (level.amax(1) / level.amin(1)).median() < 1.3
    assert level.mean() == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.1)
    assert (level.mean(1) < 0.01).any()


def test_normal_noise_has_its_level_as_standard_deviation():
    df = stacks((1, 100, 100, 2))
    added = run(Noise(NoiseOptions(spread="fixed", distribution="normal")), df) - df
    torch.testing.assert_close(added.std((1, 2)), 0.1 * ranges(df), rtol=0.05, atol=0)


# line noise


@given(level=st.floats(0.01, 1), seed=seeds, shape=shapes)
def test_line_noise_offsets_each_line_along_x_as_a_whole(level, seed, shape):
    df = stacks(shape).double()
    added = run(LineNoise(LineNoiseOptions(level=level)), df, seed) - df
    torch.testing.assert_close(added, added[:, :1].expand_as(added), rtol=0, atol=1e-9)


def test_line_noise_is_of_the_level_and_its_power_falls_with_the_frequency():
    nx, ny, nz = 2, 64, 8
    df = ramps(nx, ny, (2000, nz))[0]  # each image of range 1
    added = (run(LineNoise(LineNoiseOptions(level=0.1)), df) - df)[:, 0]
    lines = added.transpose(1, 2).reshape(2000, nz * ny)  # in the order of time
    deviation = lines.square().mean(1).sqrt()
    assert deviation.mean() == pytest.approx(0.05, rel=0.1)
    assert deviation.amax() < 0.2
    power = torch.fft.rfft(lines).abs().square().mean(0)
    assert power[0] < 1e-9 * power[1]
    frequency = torch.arange(len(power))
    assert float((power * frequency)[1:9].mean() / (power * frequency)[100:200].mean()) == pytest.approx(1, rel=0.1)


# background


@given(strength=st.floats(0, 1), seed=seeds)
def test_the_background_is_a_plane_of_at_most_its_strength_the_same_for_all_images(strength, seed):
    df = stacks((2, 12, 9, 3)).double()
    plane = (run(Background(BackgroundOptions(strength=strength)), df, seed) - df) / ranges(df)[:, None, None, :]
    assert (ranges(plane) <= strength + 1e-6).all()
    torch.testing.assert_close(plane, plane[..., :1].expand_as(plane), rtol=0, atol=1e-6)
    torch.testing.assert_close(plane.mean((1, 2)), torch.zeros(2, 3).double(), rtol=0, atol=1e-6)
    for axis in (1, 2):
        bend = plane.diff(2, dim=axis)
        torch.testing.assert_close(bend, torch.zeros_like(bend), rtol=0, atol=1e-6)


# cut-outs


@given(seed=seeds)
def test_a_cutout_is_a_rectangle_of_the_images_mean_with_the_area_and_aspect_asked_for(seed):
    df = stacks((1, 100, 80, 1))
    new = run(Cutout(CutoutOptions(tries=1, probability=1, smallest=0.01, largest=0.04, aspect=4)), df, seed)
    holes = (new != df)[0, :, :, 0]
    x, y = holes.any(1).nonzero()[:, 0], holes.any(0).nonzero()[:, 0]
    width, height = len(x), len(y)
    assert holes[x.min() : x.max() + 1, y.min() : y.max() + 1].all()
    assert width * height == holes.sum()
    rounding = (width + height) / 2 + 1  # sides are whole pixels
    assert 0.01 * 8000 - rounding <= width * height <= 0.04 * 8000 + rounding
    assert (width - 0.5) / (height + 0.5) <= 4
    assert (height - 0.5) / (width + 0.5) <= 4
    torch.testing.assert_close(new[0, :, :, 0][holes], df.mean().expand(int(holes.sum())))


def test_tries_blank_as_often_as_their_probability():
    df = stacks((100, 20, 20, 10))
    small = {"smallest": 0.01, "largest": 0.01, "aspect": 1}
    blanked = run(Cutout(CutoutOptions(tries=1, probability=0.2, **small)), df) != df
    assert blanked.any(1).any(1).float().mean() == pytest.approx(0.2, abs=0.05)  # 1000 images
    assert torch.equal(run(Cutout(CutoutOptions(tries=5, probability=0, **small)), df), df)


# blur


@given(sigma=st.floats(0, 3), seed=seeds)
def test_a_blur_keeps_the_sum_of_a_spot_and_makes_it_as_wide_as_drawn(sigma, seed):
    df = torch.zeros(3, 41, 41, 2).double()
    df[:, 20, 20] = 1
    new = run(Blur(BlurOptions(sigma=sigma)), df, seed)
    torch.testing.assert_close(new.sum((1, 2)), torch.ones(3, 2).double(), rtol=0, atol=1e-6)
    for places in ramps(41, 41, (3, 2)):
        width = (new * (places - 20).square()).sum((1, 2)).sqrt()
        assert (width <= sigma + 1e-3).all()
        torch.testing.assert_close(width[:, 0], width[:, 1])


def test_a_blur_of_nothing_changes_nothing():
    df = stacks((2, 9, 9, 3))
    assert torch.equal(run(Blur(BlurOptions(sigma=0)), df), df)


# tip height


@given(higher=st.floats(0, 5), lower=st.floats(0, 5), seed=seeds, nz=st.integers(2, 8))
def test_a_stack_linear_in_height_is_that_of_the_other_height(higher, lower, seed, nz):
    df = stacks((3, 5, 5, 1)).double() + 2 * torch.arange(nz)
    images = (run(TipHeight(TipHeightOptions(higher=higher, lower=lower)), df, seed) - df) / 2
    torch.testing.assert_close(images, images[:, :1, :1, :1].expand_as(images), rtol=0, atol=1e-6)
    assert (images >= -higher - 1e-6).all()
    assert (images <= lower + 1e-6).all()


@given(seed=seeds, images=st.integers(1, 3))
def test_between_two_images_nothing_new_appears(seed, images):
    df = stacks((1, 6, 6, 8))
    new = run(TipHeight(TipHeightOptions(higher=images, lower=0)), df, seed)
    inner = new[..., images:]
    assert (inner <= torch.maximum(df[..., :-1], df[..., 1:]).amax(-1, keepdim=True)).all()
    assert (inner >= torch.minimum(df[..., :-1], df[..., 1:]).amin(-1, keepdim=True)).all()


# missing heights


@given(fewest=st.integers(1, 10), nz=st.integers(1, 8), seed=seeds)
def test_kept_images_are_neighbours_spread_evenly_from_the_first_to_the_last(fewest, nz, seed):
    df = torch.arange(nz).float().view(1, 1, 1, nz).expand(4, 5, 5, nz)
    new = run(MissingHeights(MissingHeightsOptions(fewest=fewest)), df, seed)
    kept = new[..., -1] - new[..., 0] + 1
    assert (new[..., 0] >= 0).all()
    assert (new[..., -1] <= nz - 1).all()
    assert (kept >= min(fewest, nz)).all()
    torch.testing.assert_close(new[..., [0, -1]], new[..., [0, -1]].round())
    if nz > 1:
        steps_between = new.diff(dim=-1)
        torch.testing.assert_close(steps_between, ((kept - 1) / (nz - 1)).unsqueeze(-1).expand_as(steps_between))


def test_any_number_of_images_from_anywhere_is_kept():
    df = torch.arange(10.0).view(1, 1, 1, 10).expand(2000, 1, 1, 10)
    new = run(MissingHeights(MissingHeightsOptions()), df)[:, 0, 0]
    assert {(int(first), int(last)) for first, last in new[:, [0, -1]].round().tolist()} == {
        (first, last) for first in range(10) for last in range(first + 3, 10)
    }


@given(fewest=st.integers(1, 10), nz=st.integers(1, 8), seed=seeds)
def test_repeated_images_fill_the_far_side_and_the_closest_stay(fewest, nz, seed):
    df = torch.arange(nz).float().view(1, 1, 1, nz).expand(4, 5, 5, nz)
    new = run(MissingHeights(MissingHeightsOptions(fewest=fewest, fill="repeat")), df, seed)
    assert torch.equal(new, torch.maximum(df, new[..., :1]))
    assert (nz - new[..., 0] >= min(fewest, nz)).all()


# tip tilt


@given(step=st.floats(0, 0.5), seed=seeds, nz=st.integers(1, 8))
def test_a_tilted_tip_moves_an_image_sideways_in_proportion_to_its_height(step, seed, nz):
    tilt = TipTilt(TipTiltOptions(step=step))
    shift = torch.stack([(ramp - run(tilt, ramp, seed))[:, 20, 15] for ramp in ramps(40, 30, (2, nz))])
    assert (shift[..., -1] == 0).all()
    assert (shift.diff(dim=-1).norm(dim=0) <= step + 1e-4).all()
    second = shift.diff(2, dim=-1)
    torch.testing.assert_close(second, torch.zeros_like(second), rtol=0, atol=1e-4)


# plane shift


@given(step=st.floats(0, 0.1), total=st.floats(0, 0.1), seed=seeds, nz=st.integers(1, 8))
def test_shifts_stay_small_between_neighbours_and_in_all_and_spare_the_closest_image(step, total, seed, nz):
    nx, ny = 40, 30
    shifted = PlaneShift(PlaneShiftOptions(step=step, total=total))
    shift = torch.stack([(ramp - run(shifted, ramp, seed))[:, 20, 15] for ramp in ramps(nx, ny, (2, nz))])  # (2, B, Z)
    assert (shift.norm(dim=0) <= total * ny + 1e-4).all()
    assert (shift.diff(dim=-1).norm(dim=0) <= step * ny + 1e-4).all()
    assert (shift[..., -1] == 0).all()


def test_images_drift_apart_and_the_edge_repeats():
    df = stacks((4, 30, 30, 6))
    new = run(STEPS["plane-shift"], df)
    assert torch.equal(new[..., -1], df[..., -1])
    assert ((new - df).abs().amax((1, 2))[:, :-1] > 0.1).all()
    assert new.amax() <= df.amax()
    assert new.amin() >= df.amin()


# drift


@given(step=st.floats(0, 0.01), seed=seeds, nz=st.integers(1, 8))
def test_drift_goes_on_evenly_from_line_to_line_and_from_image_to_image(step, seed, nz):
    nx, ny = 40, 30
    drift = Drift(DriftOptions(step=step))
    shift = torch.stack([(ramp - run(drift, ramp, seed))[:, 20] for ramp in ramps(nx, ny, (2, nz))])[:, :, 5:-5]
    per_line, per_image = shift.diff(dim=2), shift.diff(dim=3)
    assert (shift.diff(dim=3).norm(dim=0) <= step * ny + 1e-4).all()
    torch.testing.assert_close(per_line, per_line[:, :, :1, :1].expand_as(per_line), rtol=0, atol=1e-4)
    if nz > 1:
        torch.testing.assert_close(per_image, per_image[:, :, :1, :1].expand_as(per_image), rtol=0, atol=1e-4)
        torch.testing.assert_close(per_line[..., :1] * ny, per_image[:, :, 1:, :1], rtol=0, atol=3e-3)
    torch.testing.assert_close(shift[:, :, 9:11, -1].mean(2), torch.zeros(2, 2).double(), rtol=0, atol=1e-4)


# shear


@given(degrees=st.floats(0, 30), seed=seeds)
def test_a_shear_is_linear_about_the_centre_keeps_areas_and_stays_below_its_angle(degrees, seed):
    shear = Shear(ShearOptions(degrees=degrees))
    back = [run(shear, ramp, seed)[0, ..., 0] for ramp in ramps(41, 41, (1, 1))]
    middle = torch.stack(back)[:, 12:29, 12:29]  # where nothing comes from beyond the edge
    torch.testing.assert_close(middle[:, 8, 8], torch.full((2,), 20.0).double(), rtol=0, atol=1e-4)
    matrix = torch.stack([middle[:, -1, 8] - middle[:, 0, 8], middle[:, 8, -1] - middle[:, 8, 0]], 1) / 16
    assert torch.linalg.det(matrix) == pytest.approx(1, abs=0.02)  # the cubic kernel is linear to 0.05 pixels
    assert (matrix - torch.eye(2)).norm() <= np.tan(np.radians(degrees)) + 0.02


# offers


def test_the_published_values_are_the_defaults():
    defaults = {offer.name: offer.options().model_dump() for offer in AUGMENTATIONS}
    assert defaults["noise"] == {"level": 0.1, "spread": "drawn", "distribution": "uniform"}
    assert defaults["plane-shift"] == {"step": 0.02, "total": 0.04}
    assert defaults["cutout"] == {"tries": 5, "probability": 0.2, "smallest": 0.001, "largest": 0.01, "aspect": 10}
    assert defaults["background"] == {"strength": 0.3}
    assert defaults["missing-heights"]["fewest"] == 4
    assert defaults["rotate"] == {"degrees": 180}
    assert defaults["zoom"] == {"fraction": 0.3}
    assert defaults["shift"] == {"pixels": 20}
    assert defaults["shear"] == {"degrees": 10}


def test_descriptions_load_without_torch():
    code = "import sys, afmid.builtin as b; b.afmid_augment(), b.afmid_evaluate(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
