import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid import Molecule
from afmid_descriptor.atoms import FIGURES, UNFITTED, calibrate, confidence, find_cones, fit_confidence, is_atom
from afmid_descriptor.metrics import true_maps

X = (np.arange(96) - 47.5) * 0.125
BENZENE = [(1.395, 6), (2.485, 1)]  # distance from the centre (Å), element
laws = settings(max_examples=20, deadline=None)


def benzene(turn=0.0, tilt=0.0, shift=(0.0, 0.0)):
    """Return benzene, turned in plane and tilted by angles (degrees)."""
    angles = np.deg2rad(turn + 60 * np.arange(6))
    flat = np.concatenate([radius * np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1) for radius, _ in BENZENE])
    c, s = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    positions = flat @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]]) + (*shift, 0)
    return Molecule(np.repeat([n for _, n in BENZENE], 6), positions).topmost_at_zero()


def disks(molecule):
    """Return the true disks map."""
    return true_maps(molecule, X, X)[0]


def nearest(cones, molecule):
    """Return the distance (Å) of each atom from the nearest cone, and that cone."""
    distance = np.hypot(molecule.positions[:, :1] - cones.x, molecule.positions[:, 1:2] - cones.y)
    return distance.min(1), distance.argmin(1)


@laws
@given(st.floats(0, 60), st.floats(0, 10), st.floats(-2, 2), st.floats(-2, 2))
def test_a_true_map_gives_back_its_atoms_to_a_hundredth_of_an_angstrom(turn, tilt, x, y):
    molecule = benzene(turn, tilt, (x, y))
    cones = find_cones(disks(molecule), X, X, 0.1)
    distance, cone = nearest(cones, molecule)
    assert len(cones.x) == len(molecule)
    assert distance.max() < 0.02
    np.testing.assert_allclose(cones.z[cone], molecule.positions[:, 2], atol=0.06)


def test_the_radius_tells_hydrogen_from_carbon():
    molecule = benzene(turn=7)
    cones = find_cones(disks(molecule), X, X, 0.1)
    radius = cones.radius[nearest(cones, molecule)[1]]
    assert radius[:6].min() > 0.6
    assert radius[6:].max() < 0.5


def test_an_atom_in_the_flank_of_another_is_found():
    molecule = Molecule([35, 1], [[0, 0, 0], [0.8, 0.3, -0.4]])
    cones = find_cones(disks(molecule), X, X, 0.1)
    assert nearest(cones, molecule)[0].max() < 0.05


def test_atoms_lower_than_the_threshold_are_left_out():
    molecule = Molecule([6, 6], [[0, 0, 0], [3, 0, -0.9]])  # heights 1 and 0.25
    assert len(find_cones(disks(molecule), X, X, 0.2).x) == 2
    assert len(find_cones(disks(molecule), X, X, 0.3).x) == 1


def test_the_topmost_atom_stands_at_zero_and_the_others_below():
    cones = find_cones(0.8 * disks(benzene(tilt=8)), X, X, 0.1)
    assert cones.z.max() == 0
    assert cones.z.min() < -0.3


@pytest.mark.parametrize("image", [np.zeros((96, 96)), np.full((96, 96), 0.5), np.full((96, 96), -1.0)])
def test_a_flat_map_holds_no_atoms(image):
    cones = find_cones(image, X, X, 0.1)
    assert len(cones.x) == len(cones.z) == 0
    assert cones.figures.shape == (0, len(FIGURES))


@laws
@given(st.integers(0, 2**32 - 1))
def test_any_map_gives_finite_cones_and_confidences(seed):
    rng = np.random.default_rng(seed)
    cones = find_cones(rng.normal(0.2, 0.3, (24, 40)), X[:24], X[:40], 0.1)
    assert np.isfinite(np.stack([cones.x, cones.y, cones.z, cones.height, cones.radius])).all()
    sure = confidence(cones.figures, UNFITTED)
    assert ((sure >= 0) & (sure <= 1)).all()


def test_noise_makes_atoms_less_sure():
    noise = np.random.default_rng(0).normal(0, 0.08, (96, 96))
    clean, noisy = (find_cones(image, X, X, 0.3) for image in (disks(benzene()), disks(benzene()) + noise))
    assert confidence(noisy.figures, UNFITTED).mean() < confidence(clean.figures, UNFITTED).mean()


def test_only_cones_at_visible_atoms_are_right():
    seen = Molecule([6, 6, 6], [[0, 0, 0], [2, 0, -0.5], [4, 0, -0.2]])
    cones = find_cones(disks(seen), X, X, 0.1)
    truth = Molecule([6, 6, 6], [[0.3, 0, 0], [2, 0.5, -0.5], [4, 0, -1.5]])  # near enough, too far, too deep
    assert cones.x[is_atom(cones, truth)] == pytest.approx([0], abs=0.01)


def test_calibration_trusts_what_was_right():
    truths = [benzene(turn) for turn in range(0, 60, 15)]
    noise = np.random.default_rng(1).normal(0, 0.12, (len(truths), 96, 96))
    maps = [disks(truth) + extra for truth, extra in zip(truths, noise, strict=True)]
    coefficients = calibrate(maps, [(X, X)] * len(maps), truths, 0.2)
    cones = [find_cones(image, X, X, 0.2) for image in maps]
    sure = np.concatenate([confidence(found.figures, coefficients) for found in cones])
    right = np.concatenate([is_atom(found, truth) for found, truth in zip(cones, truths, strict=True)])
    assert sure.mean() == pytest.approx(right.mean(), abs=0.01)
    assert sure[right].mean() > sure[~right].mean() + 0.3


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_cones_that_are_all_right_or_all_wrong_settle_nothing(shift):
    truths = [benzene(turn) for turn in (0, 15, 30)]
    moved = [truth.moved((shift, 4 * shift, 0)) for truth in truths]
    assert calibrate([disks(truth) for truth in truths], [(X, X)] * 3, moved, 0.2) is None


@pytest.mark.parametrize("count", [0, 1])
def test_a_few_cones_settle_nothing(count):
    assert calibrate([disks(benzene())] * count, [(X, X)] * count, [benzene().moved((0.4, 0, 0))] * count, 0.2) is None


def test_a_fit_does_not_run_away_where_a_figure_tells_all():
    height = np.linspace(-2, 0, 40)
    figures = np.column_stack([height, np.zeros((40, 3))])
    coefficients = fit_confidence(figures, height > -1)
    assert 1 < coefficients["log_height"] < 50


def test_fitted_confidences_are_frequencies():
    rng = np.random.default_rng(0)
    figures = rng.normal(size=(4000, 4)) * (1, 0.3, 0.1, 0.3)
    true = {"constant": 0.5, "log_height": 1.5, "prominence": 2.0, "misfit": -4.0, "crowding": -1.0}
    right = rng.random(4000) < confidence(figures, true)
    sure = confidence(figures, fit_confidence(figures, right))
    for low in np.arange(0, 1, 0.2):
        chosen = (sure >= low) & (sure < low + 0.2)
        assert right[chosen].mean() == pytest.approx(sure[chosen].mean(), abs=0.08)


@laws
@given(st.integers(0, 2**32 - 1))
def test_fitted_coefficients_keep_their_signs_whatever_the_data(seed):
    rng = np.random.default_rng(seed)
    coefficients = fit_confidence(rng.normal(size=(50, 4)), rng.random(50) < 0.5)
    assert all(sign * coefficients[name] >= 0 for name, sign in FIGURES.items())
