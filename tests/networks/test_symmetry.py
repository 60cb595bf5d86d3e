import pytest
import torch

from afmid.networks.symmetry import SYMMETRIES, Symmetry

WIDE = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_what_is_turned_comes_back(symmetry):
    vectors = torch.randn(4, 2)
    assert torch.equal(symmetry.back(symmetry.turned(WIDE)), WIDE)
    assert torch.equal(symmetry.vector_back(symmetry.vector(vectors)), vectors)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_a_vector_from_the_centre_still_points_at_its_pixel(symmetry):
    for i, j in ((0, 0), (4, 2), (1, 6)):
        spot = torch.zeros(1, 5, 7)
        spot[0, i, j] = 1
        turned = symmetry.turned(spot)[0]
        size = torch.tensor(turned.shape)
        place = symmetry.vector(torch.tensor([i - 2.0, j - 3.0])) + (size - 1) / 2
        assert turned[tuple(place.long())] == 1


def test_the_eight_are_different_and_the_first_changes_nothing():
    square = WIDE[:, :, :5]
    seen = [symmetry.turned(square) for symmetry in SYMMETRIES]
    assert SYMMETRIES[0] == Symmetry()
    assert torch.equal(seen[0], square)
    assert not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
