"""Steps that move the images take maps and points along."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from afmid.augmentations import AUGMENTATIONS, FlipOptions, RotateOptions, ShiftOptions, ZoomOptions
from afmid.data.augment import Flip, Rotate, Shift, Zoom
from afmid.offers import Targets

STEPS = {
    "zoom": Zoom(ZoomOptions()),
    "rotate": Rotate(RotateOptions()),
    "shift": Shift(ShiftOptions()),
    "flip": Flip(FlipOptions()),
    "turn": Flip(FlipOptions(mirror=False)),
}
SQUARE, OBLONG = (96, 96), (96, 80)
MIDDLE = 10  # pixels either way of the centre: from there nothing leaves the image

seeds = st.integers(0, 2**32)


def bumps(points, size, width=2.0):
    """Gaussians at points (B, 2), (B, X, Y)."""
    x, y = (torch.arange(n).double() for n in size)
    dx, dy = x - points[:, :1], y - points[:, 1:]
    return torch.exp(-(dx.square().unsqueeze(2) + dy.square().unsqueeze(1)) / (2 * width**2))


def centroid(images):
    """The centre of mass of images (B, X, Y), (B, 2)."""
    total = images.sum((1, 2))
    return torch.stack(
        [(images.sum(3 - axis) * torch.arange(images.shape[axis])).sum(1) / total for axis in (1, 2)], dim=-1
    )


def follow(names, size, seed):
    """Put a bump and a point at one random place, take the steps; return points, images and maps, before and after."""
    generator = torch.Generator().manual_seed(seed)
    centre = (torch.tensor(size).double() - 1) / 2
    points = centre + MIDDLE * (2 * torch.rand(3, 2, generator=generator, dtype=torch.float64) - 1)
    images = bumps(points, size)
    df, targets = images.unsqueeze(3).repeat(1, 1, 1, 2), Targets(images.unsqueeze(1), points.unsqueeze(1))
    for name in names:
        df, targets = STEPS[name](df, targets, generator)
    return points, df, targets


@given(names=st.lists(st.sampled_from(sorted(STEPS)), unique=True, min_size=1), size=st.sampled_from([SQUARE, OBLONG]),
       seed=seeds)  # fmt: skip
def test_what_lies_at_a_point_lies_at_the_moved_point_whatever_the_steps(names, size, seed):
    if size == OBLONG:
        names = [name for name in names if name != "shift"]  # it could leave the image
    _, df, targets = follow(names, size, seed)
    for images in (df[..., 0], df[..., 1], targets.maps[:, 0]):
        torch.testing.assert_close(centroid(images), targets.points[:, 0], rtol=0, atol=0.1)


@pytest.mark.parametrize("name", sorted(STEPS))
def test_points_move_and_each_sample_its_own_way(name):
    before, _, targets = follow([name], SQUARE, seed=3)
    moves = targets.points[:, 0] - before
    assert moves.norm(dim=1).amax() > 0.1
    assert not torch.equal(moves[0], moves[1])


@given(seed=seeds, most=st.floats(0, 0.9))
def test_a_zoom_changes_distances_by_one_factor_within_its_range(seed, most):
    points = torch.rand(2, 5, 2, generator=torch.Generator().manual_seed(seed)) * 20
    targets = Targets(torch.zeros(2, 0, 20, 20), points)
    new = Zoom(ZoomOptions(fraction=most))(torch.zeros(2, 20, 20, 1), targets, torch.Generator().manual_seed(seed))[1]
    factor = torch.cdist(new.points, new.points)[:, 0, 1:] / torch.cdist(points, points)[:, 0, 1:]
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor), rtol=1e-2, atol=1e-3)
    assert (factor >= 1 - most - 1e-2).all()
    assert (factor <= 1 + most + 1e-2).all()


@given(seed=seeds, degrees=st.floats(0, 180))
def test_a_rotation_keeps_distances_and_handedness_and_stays_below_its_angle(seed, degrees):
    points = torch.tensor([[[9.5, 9.5], [14.5, 9.5], [9.5, 12.5]]])
    step, targets = Rotate(RotateOptions(degrees=degrees)), Targets(torch.zeros(1, 0, 20, 20), points)
    new = step(torch.zeros(1, 20, 20, 1), targets, torch.Generator().manual_seed(seed))[1].points[0]
    torch.testing.assert_close(new[0], points[0, 0])
    (ax, ay), (bx, by) = ((new[i] - new[0]).tolist() for i in (1, 2))
    assert ax * by - ay * bx == pytest.approx(15, abs=1e-3)
    assert ax**2 + ay**2 == pytest.approx(25, abs=1e-3)
    angle = torch.atan2(torch.tensor(ay), torch.tensor(ax)).abs()
    assert torch.rad2deg(angle) <= degrees + 1e-3


@given(seed=seeds, pixels=st.integers(0, 12))
def test_a_shift_is_by_whole_pixels_and_leaves_no_map_beyond_the_edge(seed, pixels):
    generator = torch.Generator().manual_seed(seed)
    df, maps = torch.rand(1, 9, 7, 2, generator=generator), 1 + torch.rand(1, 1, 9, 7, generator=generator)
    new, targets = Shift(ShiftOptions(pixels=pixels))(df, Targets(maps, torch.zeros(1, 1, 2)), generator)
    assert targets.points.norm() <= pixels
    dx, dy = (int(shift) for shift in targets.points[0, 0])
    for i in range(9):
        for j in range(7):
            x, y = i - dx, j - dy
            if 0 <= x < 9 and 0 <= y < 7:
                assert torch.equal(new[0, i, j], df[0, x, y])
                assert targets.maps[0, 0, i, j] == maps[0, 0, x, y]
            else:
                assert targets.maps[0, 0, i, j] == 0


@pytest.mark.parametrize(("size", "mirror", "ways"), [((5, 5), True, 8), ((5, 5), False, 4), ((5, 4), True, 4),
                                                       ((5, 4), False, 2)])  # fmt: skip
def test_flips_are_exact_and_reach_every_way_equally_often(size, mirror, ways):
    count = 800
    df = torch.arange(20.0 if size[1] == 4 else 25.0).view(1, *size, 1).repeat(count, 1, 1, 1)
    maps = df.permute(0, 3, 1, 2)
    x, y = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    points = torch.stack([x, y], -1).view(1, -1, 2).float().repeat(count, 1, 1)
    step, generator = Flip(FlipOptions(mirror=mirror)), torch.Generator().manual_seed(0)
    new, targets = step(df, Targets(maps, points), generator)
    assert torch.equal(new.permute(0, 3, 1, 2), targets.maps)
    at = targets.points.long()
    values = new[torch.arange(count)[:, None], at[..., 0], at[..., 1], 0]
    assert torch.equal(values, df.view(count, -1))
    seen = {}
    for image in new[..., 0]:
        seen[tuple(image.flatten().tolist())] = seen.get(tuple(image.flatten().tolist()), 0) + 1
    assert len(seen) == ways
    assert min(seen.values()) > 0.6 * count / ways
    if not mirror:
        assert set(seen) <= {tuple(torch.rot90(df[0, ..., 0], k).flatten().tolist()) for k in range(4)}


def test_beyond_the_edge_an_image_fades_into_the_edges_mean_and_maps_are_zero():
    df = torch.ones(1, 64, 64, 1)
    df[:, 0] = 5
    shift = Shift(ShiftOptions(pixels=40))
    seen = 0
    for seed in range(20):
        maps = torch.ones(1, 1, 64, 64)
        new, targets = shift(df, Targets(maps, torch.zeros(1, 1, 2)), torch.Generator().manual_seed(seed))
        moved, aside = (int(pixels) for pixels in targets.points[0, 0])
        if moved > 10:
            line = new[0, : moved + 1, aside if aside >= 0 else 63 + aside, 0]
            assert line[-1] == 5
            assert (line.diff() > 0).all()
            assert line[0] > 2  # a quarter of the rim is at 5, the rest at 1
            assert (targets.maps[0, 0, :moved] == 0).all()
            seen += 1
    assert seen > 1


def test_the_steps_that_move_are_those_offered():
    df = torch.rand(4, 9, 9, 2)
    targets = Targets(torch.rand(4, 1, 9, 9), torch.rand(4, 2, 2))
    moved = set()
    for offer in AUGMENTATIONS:
        new = offer.load(offer.options())(df, targets, torch.Generator().manual_seed(0))[1]
        if not torch.equal(new.points, targets.points):
            moved.add(offer.name)
            assert not torch.equal(new.maps, targets.maps)
    assert moved == {"zoom", "rotate", "shift", "flip"}
