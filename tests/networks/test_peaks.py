import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afmid.networks.peaks import WIDTH, find_peaks, peak_image

laws = settings(max_examples=30, deadline=None)
AXIS = torch.arange(64) * 0.125 - 4


def image_of(positions, atoms=None):
    positions = torch.tensor(positions, dtype=torch.float32)[None]
    atoms = torch.ones(positions.shape[:2], dtype=torch.bool) if atoms is None else torch.tensor([atoms])
    return peak_image(positions, atoms, AXIS[None], AXIS[None])


def places(image, **how):
    found, heights = find_peaks(image, **how)
    return [AXIS[0] + 0.125 * f[h > 0] for f, h in zip(found, heights, strict=True)]


@laws
@given(st.floats(-3, 3), st.floats(-3, 3))
@example(0.0625, 0.0625)  # halfway between four pixels, which are equally high
@example(0.0625, 0.0)
def test_a_lone_peak_is_found_once_and_between_pixels(x, y):
    (found,) = places(image_of([[x, y, 0.0]]))
    assert found.shape == (1, 2)
    np.testing.assert_allclose(found, [[x, y]], atol=2e-3)


@laws
@given(st.integers(0, 1000))
def test_atoms_an_angstrom_apart_are_found_each(seed):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4)), -1).reshape(-1, 2) * 1.1
    atoms = np.column_stack([grid[rng.permutation(len(grid))[:12]] * 0.9, rng.uniform(-0.5, 0, 12)])
    (found,) = places(image_of(atoms))
    distances = np.linalg.norm(atoms[:, None, :2] - found.numpy(), axis=2)
    assert len(found) == 12
    assert distances.min(1).max() < 0.06


@pytest.mark.parametrize(("depth", "height"), [(0.0, 1.0), (0.6, 1.0), (0.9, 0.5), (1.2, 0.0), (3.0, 0.0)])
def test_peaks_fade_with_the_depth(depth, height):
    image = image_of([[-2, 0, 5.0], [1, 0, 5.0 - depth]])[0]
    assert image[40, 32] == pytest.approx(height, abs=1e-6)  # the pixel at (1, 0)


def test_padding_is_no_atom():
    with_padding = image_of([[0, 0, 0], [1, 1, 9.0]], [True, False])
    torch.testing.assert_close(with_padding, image_of([[0, 0, 0]]))


def test_a_peak_has_the_stated_width():
    image = image_of([[0, 0, 0]])[0]
    assert image[34, 32] == pytest.approx(np.exp(-0.5 * (0.25 / WIDTH) ** 2), abs=1e-6)


def test_the_highest_come_first_the_low_and_the_many_are_left_out():
    image = image_of([[-3, 0, 0], [0, 0, -0.9], [3, 0, -1.1]])
    _, heights = find_peaks(image, lowest=0.3)
    np.testing.assert_allclose(heights[0], [1, 0.5], atol=1e-5)
    (found,) = places(image, most=1)
    np.testing.assert_allclose(found, [[-3, 0]], atol=1e-3)


def test_a_batch_is_filled_up_with_heights_of_zero_and_an_empty_image_has_none():
    batch = torch.cat([image_of([[0, 0, 0], [2, 2, 0]]), torch.zeros(1, 64, 64)])
    one, none = places(batch)
    assert (len(one), len(none)) == (2, 0)


def test_at_the_edge_a_peak_stays_on_its_pixel():
    (found,) = places(image_of([[-4.2, 0, 0]]))
    np.testing.assert_allclose(found, [[-4, 0]], atol=1e-3)
