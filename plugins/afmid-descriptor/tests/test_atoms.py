import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from afmid import Molecule
from afmid.evaluate import match_atoms
from afmid.networks.peaks import WIDTH
from afmid_descriptor.atoms import FEWEST, FIGURES, UNFITTED, Fit, calibrate, find_peaks, matched, with_sigma
from afmid_descriptor.maps import MAPS
from afmid_descriptor.metrics import true_maps
from afmid_descriptor.targets import DISK_DEPTH

X = (np.arange(96) - 47.5) * 0.125
BENZENE = [(1.395, 6), (2.485, 1)]  # distance from the centre (Å), element
laws = settings(max_examples=20, deadline=None)


def benzene(turn=0.0, tilt=0.0, shift=(0.0, 0.0)):
    """Return benzene, turned in plane and tilted by angles (degrees)."""
    angles = np.deg2rad(turn + 60 * np.arange(6))
    flat = np.concatenate([radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1) for radius, _ in BENZENE])
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    positions = flat @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) + (*shift, 0)
    ring = [(i, (i + 1) % 6) for i in range(6)] + [(i, i + 6) for i in range(6)]
    return Molecule(np.repeat([n for _, n in BENZENE], 6), positions, bonds=ring).topmost_at_zero()


@st.composite
def scattered(draw):
    """Return carbons and hydrogens 1 Å or more apart in projection, all near the top."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    places = rng.uniform(-4.5, 4.5, (40, 2))
    kept = []
    for place in places:
        if not kept or cdist([place], kept).min() >= 1:
            kept.append(place)
    count = draw(st.integers(1, len(kept)))
    z = rng.uniform(-0.6, 0, count)
    return Molecule(rng.choice([1, 6], count), np.column_stack([kept[:count], z])).topmost_at_zero()


def shown(molecule, *names, x=X, y=X):
    """Return true maps by name."""
    return dict(zip(names, true_maps(molecule, x, y, names), strict=True))


def peaks_of(molecule, threshold=0.1, names=("peaks",)):
    return find_peaks(shown(molecule, *names), X, X, threshold)


def nearest(peaks, molecule):
    """Return the distance (Å) of each atom from the nearest peak, and that peak."""
    distance = np.hypot(molecule.positions[:, :1] - peaks.x, molecule.positions[:, 1:2] - peaks.y)
    return distance.min(1), distance.argmin(1)


@laws
@given(scattered())
def test_the_peaks_of_the_true_atoms_map_are_the_atoms_to_a_few_hundredths_of_an_angstrom(molecule):
    peaks = peaks_of(molecule)
    distance, peak = nearest(peaks, molecule)
    assert len(peaks.x) == len(molecule)
    assert len(set(peak)) == len(molecule)
    assert distance.max() < 0.03


@laws
@given(st.floats(0, 60), st.floats(0, 10), st.floats(-2, 2), st.floats(-2, 2))
def test_hydrogens_are_found_like_other_atoms(turn, tilt, x, y):
    molecule = benzene(turn, tilt, (x, y))
    distance, _ = nearest(peaks_of(molecule, 0.3), molecule)
    assert distance.max() < 0.03


def test_a_lone_peak_is_found_between_pixels_exactly():
    molecule = Molecule([6], [[0.031, -1.047, 0]])
    for x, y in ((X, X), (0.8 * X, 1.3 * X)):
        peaks = find_peaks(shown(molecule, "peaks", x=x, y=y), x, y, 0.5)
        assert (peaks.x, peaks.y) == (pytest.approx([0.031], abs=1e-3), pytest.approx([-1.047], abs=1e-3))


def test_peaks_lower_than_the_threshold_are_left_out():
    molecule = Molecule([6, 6], [[0, 0, 0], [3, 0, -0.9]])  # peaks of 1 and 0.5
    assert len(peaks_of(molecule, 0.4).x) == 2
    assert peaks_of(molecule, 0.6).x == pytest.approx([0], abs=0.01)


def test_disks_serve_where_there_is_no_atoms_map():
    molecule = benzene(turn=7)
    both, alone = (peaks_of(molecule, 0.3, names) for names in (("disks", "peaks"), ("disks", "spheres")))
    assert nearest(both, molecule)[0].max() < 0.03
    assert nearest(alone, molecule)[0][:6].max() < 0.15
    flat = {"disks": np.zeros((96, 96)), "peaks": shown(molecule, "peaks")["peaks"]}
    assert len(find_peaks(flat, X, X, 0.3).x) == len(molecule)


def test_the_figures_are_what_the_maps_show_at_the_apex():
    molecule = Molecule([6, 6], [[X[40], X[50], 0], [X[70], X[50], -0.3]], bonds=[[0, 1]])
    maps = shown(molecule, *MAPS)
    maps = with_sigma(maps, {"disks": 3 * maps["disks"], "peaks": 0.5 * maps["spheres"]})
    assert np.array_equal(maps["sigma"], 0.5 * maps["spheres"])  # those of the peaks map
    values = dict(zip(FIGURES, find_peaks(maps, X, X, 0.3).figures.T, strict=True))
    for name in FIGURES[2:]:
        assert values[name] == pytest.approx(maps[name][[40, 70], 50], abs=1e-3)
    assert values["peak"] == pytest.approx([1, 1], abs=1e-3)
    assert values["prominence"] == pytest.approx(2 * [1 - np.exp(-0.5 * (0.4 / WIDTH) ** 2)], abs=0.05)
    bare = find_peaks({"peaks": maps["peaks"]}, X, X, 0.3).figures
    assert np.array_equal(bare[:, :2], np.stack([values["peak"], values["prominence"]], 1))
    assert not bare[:, 2:].any()


@pytest.mark.parametrize("edge", [0, 95])
def test_a_peak_on_an_edge_pixel_stays_there_along_the_axis_that_ends(edge):
    inwards = -1 if edge else 1
    outside = X[edge] - inwards * 0.04  # the true apex
    molecule = Molecule([6], [[outside, 1.031, 0]])
    peaks = peaks_of(molecule)
    assert peaks.x.tolist() == [X[edge]]
    assert peaks.y == pytest.approx([1.031], abs=1e-3)
    turned = find_peaks({"peaks": shown(molecule, "peaks")["peaks"].T}, X, X, 0.1)
    assert (turned.x, turned.y.tolist()) == (pytest.approx([1.031], abs=1e-3), [X[edge]])


@laws
@given(st.integers(1, 6), st.integers(1, 6))
def test_pixels_that_are_equally_high_are_one_peak(width, height):
    image = np.zeros((96, 96))
    image[40 : 40 + width, 50 : 50 + height] = 0.8
    peaks = find_peaks({"peaks": image}, X, X, 0.5)
    assert len(peaks.x) == 1
    assert X[40] - 0.07 <= peaks.x[0] <= X[39 + width] + 0.07
    between = Molecule([6], [[(X[40] + X[41]) / 2, (X[50] + X[51]) / 2, 0]])
    assert np.hypot(*(peaks_of(between).x, peaks_of(between).y) - between.positions[0, :2, None]) == pytest.approx(
        [0], abs=1e-3
    )


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_map_below_the_threshold_holds_no_peaks(value):
    peaks = find_peaks({"peaks": np.full((96, 96), value)}, X, X, 0.1)
    assert len(peaks.x) == len(peaks.y) == len(peaks.z(UNFITTED)) == len(peaks.confidence(UNFITTED)) == 0
    assert peaks.figures.shape == (0, len(FIGURES))


@laws
@given(st.integers(0, 2**32 - 1), st.sampled_from(["peaks", "disks"]))
def test_any_map_gives_peaks_on_the_image_and_confidences(seed, name):
    rng = np.random.default_rng(seed)
    maps = {name: rng.normal(0.2, 0.3, (24, 40)), "height": rng.normal(size=(24, 40))}
    peaks = find_peaks(maps, X[:24], X[:40], 0.1)
    assert len(peaks.x)
    assert np.isfinite(peaks.figures).all()
    assert ((peaks.x >= X[0]) & (peaks.x <= X[23])).all()
    assert ((peaks.y >= X[0]) & (peaks.y <= X[39])).all()
    assert ((peaks.confidence(UNFITTED) >= 0) & (peaks.confidence(UNFITTED) <= 1)).all()
    assert ((peaks.z(UNFITTED) >= -DISK_DEPTH) & (peaks.z(UNFITTED) <= 0)).all()


def test_some_of_the_peaks_are_peaks():
    peaks = peaks_of(benzene(), names=("peaks", "disks"))
    some = peaks.where(peaks.x > 0)
    assert 0 < len(some.x) < len(peaks.x)
    assert some.x.min() > 0
    assert np.array_equal(some.figures, peaks.figures[peaks.x > 0])


def test_unfitted_a_higher_peak_is_surer_and_a_lower_disk_deeper():
    on_pixels = Molecule([6, 6], [[X[40], X[48], 0], [X[70], X[48], -0.9]])
    peaks = peaks_of(on_pixels, names=("peaks", "disks"))
    left, right = np.argsort(peaks.x)
    assert peaks.confidence(UNFITTED)[left] > 0.9 > peaks.confidence(UNFITTED)[right]
    assert peaks.z(UNFITTED)[[left, right]] == pytest.approx([0, -0.9], abs=0.05)


def test_peaks_at_atoms_are_right_however_deep_these_lie():
    peaks = peaks_of(Molecule([6, 6, 6], [[0, 0, 0], [2, 0, -0.5], [4, 0, -0.2]]))
    truth = Molecule([6, 6, 6], [[0.3, 0, 5], [2, 0.5, 4.5], [4, 0, 3.5]])  # near enough, too far, deep
    right, z = matched(peaks, truth)
    assert peaks.x[right] == pytest.approx([0, 4], abs=0.01)
    assert z[right] == pytest.approx([0, -1.5])


def test_of_two_peaks_at_an_atom_one_is_right():
    peaks = peaks_of(Molecule([6, 6], [[-0.3, 0, 0], [0.3, 0, -0.1]]))
    assert len(peaks.x) == 2
    right, _ = matched(peaks, Molecule([6], [[0.1, 0, 0]]))
    assert right.sum() == 1


def noisy(count=8, level=0.25):
    """Return all maps of benzenes with noise as wide as their peaks, their axes, and the benzenes."""
    rng = np.random.default_rng(1)
    truths = [benzene(turn, 6) for turn in np.linspace(0, 60, count)]

    def noise():
        smooth = gaussian_filter(rng.normal(size=(96, 96)), WIDTH / 0.125)
        return level * smooth / smooth.std()

    maps = [{name: image + noise() for name, image in shown(truth, *MAPS).items()} for truth in truths]
    return maps, [(X, X)] * count, truths


def test_calibrated_confidences_are_the_share_that_is_right():
    maps, axes, truths = noisy()
    fit = calibrate(maps, axes, truths, 0.2)
    peaks = [find_peaks(images, X, X, 0.2) for images in maps]
    sure = np.concatenate([found.confidence(fit) for found in peaks])
    right = np.concatenate([matched(found, truth)[0] for found, truth in zip(peaks, truths, strict=True)])
    assert 0.05 < right.mean() < 0.95
    assert sure.mean() == pytest.approx(right.mean(), abs=0.005)
    assert sure[right].mean() > sure[~right].mean() + 0.5
    for low in (0, 0.5):
        chosen = (sure >= low) & (sure < low + 0.5)
        assert right[chosen].mean() == pytest.approx(sure[chosen].mean(), abs=0.05)


def test_a_fit_finds_the_depth_in_true_maps():
    rng = np.random.default_rng(3)
    truths = [benzene(turn, tilt) for turn, tilt in rng.uniform(0, 12, (16, 2))]
    maps = [{name: image + 1e-3 * rng.normal(size=image.shape) for name, image in shown(truth, *MAPS).items()}
            for truth in truths]  # fmt: skip
    wrong = [{**images, "peaks": images["peaks"] + 0.5 * np.eye(96)[::-1]} for images in maps]
    fit = calibrate([*maps[:12], *wrong[:2]], [(X, X)] * 14, [*truths[:12], *truths[:2]], 0.3)
    for images, truth in zip(maps[12:], truths[12:], strict=True):  # not fitted to
        peaks = find_peaks(images, X, X, 0.3)
        distance, peak = nearest(peaks, truth)
        assert distance.max() < 0.05
        assert np.abs(peaks.z(fit)[peak] - truth.positions[:, 2]).max() < 0.1


def test_a_depth_that_is_linear_in_the_figures_is_found_whatever_they_are_worth():
    """The disks' height at a lone carbon is 1 + z/1.2 Å."""
    rng = np.random.default_rng(0)
    truths = [Molecule([6, 6], [[-3, 0, 0], [2, *rng.uniform((-2, -0.59), (2, -0.1))]]) for _ in range(20)]
    maps = [shown(truth, "peaks", "disks") for truth in truths]
    bad = [{**images, "peaks": images["peaks"].T} for images in maps[:4]]
    fit = calibrate([*maps, *bad], [(X, X)] * 24, [*truths, *truths[:4]], 0.3)
    peaks = find_peaks(maps[0], X, X, 0.3)
    assert np.abs(np.sort(peaks.z(fit)) - np.sort(truths[0].positions[:, 2])).max() < 0.05


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_peaks_that_are_all_right_or_all_wrong_settle_nothing(shift):
    truths = [benzene(turn) for turn in (0, 15, 30)]
    moved = [truth.moved((shift, 4 * shift, 0)) for truth in truths]
    assert calibrate([shown(truth, "peaks") for truth in truths], [(X, X)] * 3, moved, 0.2) is None


def test_a_few_peaks_settle_nothing():
    few, enough = [Molecule([6] * n, np.column_stack([np.linspace(-5, 5, n), np.zeros((n, 2))])) for n in (4, 5)]
    half = Molecule([6, 6], [[-5, 0, 0], [5, 0, 0]])
    count = FEWEST // 5
    assert calibrate([], [], [], 0.2) is None
    for molecule, settles in ((few, False), (enough, True)):
        fit = calibrate([shown(molecule, "peaks")] * count, [(X, X)] * count, [half] * count, 0.2)
        assert (fit is not None) == settles


def test_peaks_at_atoms_that_are_all_too_deep_settle_no_depth():
    row = np.column_stack([np.linspace(-5, 5, 6), np.zeros((6, 2))])
    truth = Molecule([6] * 4, [[0, 5, 0], *(row[::2] - (0, 0, 2))])  # a peak at each second one, none at the topmost
    fit = calibrate([shown(Molecule([6] * 6, row), "peaks")] * 6, [(X, X)] * 6, [truth] * 6, 0.2)
    assert fit.depth == UNFITTED.depth
    assert fit.confidence != UNFITTED.confidence


def test_a_fit_does_not_run_away_where_a_figure_tells_all():
    maps, axes, truths = noisy(4, 0.05)
    fit = calibrate(maps, axes, truths, 0.1)
    assert all(np.isfinite(list(part.values())).all() for part in fit)
    peaks = find_peaks(maps[0], X, X, 0.1)
    assert peaks.confidence(fit).max() < 1
    assert peaks.confidence(fit).min() > 0


def test_a_fit_names_every_figure_and_a_constant():
    maps, axes, truths = noisy(4)
    for fit in (UNFITTED, calibrate(maps, axes, truths, 0.2)):
        assert isinstance(fit, Fit)
        assert all(set(part) == {"constant", *FIGURES} for part in fit)


def test_matched_agrees_with_the_core():
    peaks, truth = peaks_of(benzene()), benzene().moved((0.1, 0.1, 0))
    pairs = match_atoms(np.column_stack([peaks.x, peaks.y, 0 * peaks.x]), truth.positions)
    right, _ = matched(peaks, truth)
    assert right.sum() == len(pairs) == len(truth)
