"""Values between pixels and between heights.

Pixels are square. Nobody knows what lies beyond the edge of an image: there it goes on from the edge and fades into the
edge's mean, as Δf does away from a molecule, and shows no atom that the targets would lack.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

FADE = 0.1  # of the shorter side: how far beyond the edge an image has faded to 1/e


def displaced(df: Tensor, shift: Tensor) -> Tensor:
    """Return stacks (B, X, Y, Z) whose pixels lie `shift` farther along X and Y; linear between pixels.

    The shifts are small: beyond the edge the edge repeats, and does not fade.

    Args:
        shift: pixels, (B, Z, Y, 2), or (B, Z, 1, 2) for whole images.
    """
    b, nx, ny, nz = df.shape
    images = df.permute(0, 3, 1, 2).reshape(b * nz, 1, nx, ny)
    shift = shift.reshape(b * nz, 1, -1, 2)
    x, y = _centred(nx, df).view(nx, 1) - shift[..., 0], _centred(ny, df) - shift[..., 1]
    moved = _sampled(images, x, y, mode="bilinear", beyond="border")
    return moved.reshape(b, nz, nx, ny).permute(0, 2, 3, 1)


def transformed(df: Tensor, matrix: Tensor) -> Tensor:
    """Return stacks (B, X, Y, Z) after `matrix` (B, 2, 2) about the images' centre; cubic between pixels."""
    nx, ny = df.shape[1:3]
    x, y = _whence(df, (nx, ny), matrix)
    moved = _sampled(df.permute(0, 3, 1, 2), x, y, mode="bicubic", beyond="border").permute(0, 2, 3, 1)
    return faded(moved, df, (x.abs() - (nx - 1) / 2).clamp(min=0), (y.abs() - (ny - 1) / 2).clamp(min=0))


def transformed_maps(maps: Tensor, matrix: Tensor) -> Tensor:
    """Return maps (B, C, X, Y) after `matrix` (B, 2, 2) about their centre; linear between pixels, 0 beyond."""
    if not maps.numel():
        return maps.clone()
    nx, ny = maps.shape[2:]
    return _sampled(maps, *_whence(maps, (nx, ny), matrix), mode="bilinear", beyond="zeros")


def transformed_points(points: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Return points (B, N, 2) of images of `size` pixels after `matrix` (B, 2, 2) about the images' centre."""
    centre = (torch.tensor(size).to(points) - 1) / 2
    return (points - centre) @ matrix.to(points).mT + centre


def faded(moved: Tensor, df: Tensor, beyond_x: Tensor, beyond_y: Tensor) -> Tensor:
    """Return moved stacks (B, X, Y, Z) that fade beyond the edge of the stacks `df` they come from.

    Args:
        beyond_x, beyond_y: how far beyond the edge a pixel comes from, 0 where from inside; broadcast to (B, X, Y).
    """
    rim = torch.cat([df[:, [0, -1]].flatten(1, 2), df[:, :, [0, -1]].flatten(1, 2)], dim=1).mean(1)[:, None, None]
    share = (-torch.hypot(beyond_x, beyond_y) / (FADE * min(df.shape[1:3]))).exp()
    return rim.lerp(moved, share.unsqueeze(3))


def at_heights(df: Tensor, place: Tensor) -> Tensor:
    """Return stacks (B, X, Y, Z') at `place` (B, Z') of the stacks' images (B, X, Y, Z), which count from 0.

    Linear between two images, and beyond the first and the last along the line through the two that are next.
    """
    b, nx, ny, nz = df.shape
    if nz == 1:
        return df.expand(-1, -1, -1, place.shape[1]).clone()
    below = place.floor().clamp(0, nz - 2)
    part = (place - below).view(b, 1, 1, -1)
    index = below.long().view(b, 1, 1, -1).expand(-1, nx, ny, -1)
    return df.gather(3, index) * (1 - part) + df.gather(3, index + 1) * part


def _whence(like: Tensor, size: tuple[int, int], matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the pixels of an image of `size` were before `matrix`, from the centre: x and y, (B, X, Y) each."""
    x, y = _centred(size[0], like).view(-1, 1), _centred(size[1], like)
    a, b, c, d = matrix.reshape(-1, 4, 1, 1).to(like).unbind(1)
    scale = a * d - b * c
    return (d * x - b * y) / scale, (a * y - c * x) / scale


def _sampled(images: Tensor, x: Tensor, y: Tensor, mode: str, beyond: str) -> Tensor:
    """Return images (B, C, X, Y) at places that count in pixels from the centre, each broadcast to (B, X, Y)."""
    b, _, nx, ny = images.shape
    x, y = (2 / max(n - 1, 1) * places.expand(b, nx, ny) for n, places in ((nx, x), (ny, y)))
    grid = torch.stack([y, x], dim=-1)  # from −1 to 1; the last axis of an image goes first
    return grid_sample(images, grid, mode=mode, padding_mode=beyond, align_corners=True)


def _centred(count: int, like: Tensor) -> Tensor:
    """Return the places of `count` pixels, from their centre."""
    return torch.arange(count, dtype=like.dtype, device=like.device) - (count - 1) / 2
