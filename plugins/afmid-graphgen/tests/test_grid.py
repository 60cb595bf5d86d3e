"""The position grid, and the atoms that are found in it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers

from afmid_graphgen.grid import DEEPEST, LEVELS, STEP, peaks, shown, target

PIXELS = 48
AXIS = 2.0 + 0.125 * np.arange(PIXELS)  # Å
X = torch.tensor(AXIS)[None]


def scattered(seed, apart=1.05, lateral=0.9):
    """Return atoms (N, 3) as close as hydrogen is to carbon, the topmost at z = 0."""
    rng = np.random.default_rng(seed)
    atoms = []
    for place in rng.uniform([2.5, 2.5, -0.8], [7.3, 7.3, 0], (200, 3)):
        gaps = np.array([place - atom for atom in atoms]).reshape(-1, 3)
        if (np.linalg.norm(gaps, axis=1) > apart).all() and (np.linalg.norm(gaps[:, :2], axis=1) > lateral).all():
            atoms.append(place)
    return np.array(atoms) - [0, 0, max(atom[2] for atom in atoms)]


def perfect(atoms, sigma):
    grid = target(torch.tensor(atoms)[None], torch.ones(1, len(atoms), dtype=torch.bool), X, X, sigma)
    return grid[0].numpy()


@settings(deadline=None, max_examples=10)
@given(seed=integers(0, 1000), sigma=floats(0.20, 0.25))
def test_a_perfect_grid_gives_all_its_atoms_back(seed, sigma):
    atoms = scattered(seed)
    atoms = atoms[atoms[:, 2] >= DEEPEST]
    found = peaks(perfect(atoms, sigma), AXIS, AXIS, sigma)
    assert len(found.positions) == len(atoms)
    distances = np.linalg.norm(atoms[:, None] - found.positions, axis=2)
    assert sorted(distances.argmin(1)) == list(range(len(atoms)))
    assert distances.min(1).max() < 0.03  # half a voxel's diagonal is 0.1 Å


def test_an_empty_grid_has_no_peaks():
    found = peaks(np.zeros((PIXELS, PIXELS, 20), np.float32), AXIS, AXIS, 0.25)
    assert found.positions.shape == (0, 3)
    assert found.quality.shape == (0,)


def test_a_grid_that_goes_on_beyond_the_pixels_has_the_same_peaks():
    grid = perfect(scattered(5), 0.25)
    for whole, less in zip(peaks(grid, AXIS, AXIS, 0.25), peaks(grid, AXIS[:41], AXIS[:33], 0.25), strict=True):
        np.testing.assert_array_equal(whole, less)


@given(share=floats(0.5, 1.0))
@settings(deadline=None, max_examples=5)
def test_a_weaker_peak_is_of_less_quality(share):
    grid = perfect(np.array([[5.0, 5.0, -0.45]]), 0.2)
    quality = peaks(share * grid, AXIS, AXIS, 0.2).quality
    assert quality == pytest.approx([1 - (1 - share) ** 2], abs=1e-6)


def test_the_grid_over_an_atom_adds_up_to_one():
    grid = perfect(np.array([[5.03, 4.96, -0.42]]), 0.2)
    assert grid.sum() * 0.125**2 * STEP == pytest.approx(1, abs=1e-4)
    assert LEVELS[0] + STEP / 2 == pytest.approx(0.5)
    assert LEVELS[-1] - STEP / 2 == pytest.approx(-1.5)


def test_atoms_that_fill_up_a_batch_make_no_difference():
    atoms = torch.tensor(scattered(3))[None]
    alone = target(atoms, torch.ones(1, atoms.shape[1], dtype=torch.bool), X, X, 0.25)
    filled = torch.cat([atoms, torch.full((1, 2, 3), 5.0, dtype=atoms.dtype)], 1)
    there = torch.arange(filled.shape[1])[None] < atoms.shape[1]
    torch.testing.assert_close(target(filled, there, X, X, 0.25), alone)


def test_atoms_that_are_deep_or_beside_the_image_are_not_shown():
    places = torch.tensor([[[4.0, 4, 0], [4, 4, -0.79], [4, 4, -0.81], [1, 4, 0], [4, 9, 0], [4, 4, 0]]])
    atoms = torch.tensor([[True] * 5 + [False]])
    assert shown(atoms, places, X, X).tolist() == [[True, True, False, False, False, False]]
