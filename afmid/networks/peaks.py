"""Atoms as peaks of an image: the image that a network learns, and the peaks of one."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

DEEPEST = 1.2  # Å below the topmost atom: deeper ones have no peak
PLAIN = 0.6  # Å: down to here peaks are equally high
WIDTH = 0.25  # Å, standard deviation of a peak
LOWEST = 0.05  # peaks below are not looked at
MOST = 96  # peaks in a training scan, the highest
_TINY = 1e-6


def peak_image(positions: Tensor, atoms: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the image (B, X, Y) max_i min(1, 2 − d_i/0.6 Å) exp(−ρ²/(2 (0.25 Å)²)), nowhere negative.

    ρ is the lateral distance from atom i and d_i its depth below the topmost: peaks are equal down to 0.6 Å and fade
    down to 1.2 Å.

    Args:
        positions: (B, N, 3), Å.
        atoms: where there is an atom, bool (B, N).
        x, y: pixels (B, X) and (B, Y), Å.
    """
    z = positions[..., 2].where(atoms, -torch.inf)
    depth = z.amax(1, keepdim=True) - z
    height = (DEEPEST / PLAIN - depth / PLAIN).clamp(0, 1)
    along_x, along_y = (
        torch.exp((axis[:, None] - positions[..., k, None]).square() / (-2 * WIDTH**2)) for k, axis in enumerate((x, y))
    )
    image = along_x.new_zeros(len(x), x.shape[1], y.shape[1])
    for i in (height > 0).any(0).nonzero()[:, 0].tolist():
        peak = (height[:, i, None] * along_x[:, i])[:, :, None] * along_y[:, i, None]
        image = torch.maximum(image, peak)
    return image


def find_peaks(image: Tensor, lowest: float = LOWEST, most: int = MOST) -> tuple[Tensor, Tensor]:
    """Return the peaks of images (B, X, Y) in pixels (B, N, 2), from the first's centre, and their heights (B, N).

    A peak is the highest of 3 × 3 pixels; its apex lies between pixels, by a parabola through the logarithms, exact for
    a lone Gaussian. The highest come first; images with fewer peaks are filled up with heights of 0.
    """
    first = torch.arange(image[0].numel(), 0, -1, device=image.device).view(image.shape[1:])
    highest = image == max_pool2d(image[:, None], 3, 1, 1)[:, 0]
    ranks = (first * highest).float()  # of equal neighbours the first is the peak; exact up to 2²⁴ pixels
    inside = highest & (ranks == max_pool2d(ranks[:, None], 3, 1, 1)[:, 0]) & (image >= lowest)
    heights = (image * inside).flatten(1)
    count = min(most, max(1, int(inside.flatten(1).sum(1).max())))
    height, place = heights.topk(count, dim=1)
    i, j = place // image.shape[2], place % image.shape[2]
    logs = image.clamp_min(_TINY).log()
    batch = torch.arange(len(image), device=image.device)[:, None]
    middle = logs[batch, i, j]

    def apex(at: Tensor, size: int, below: Tensor, above: Tensor) -> Tensor:
        bend = below + above - 2 * middle
        offset = torch.where(bend < 0, (below - above) / (2 * bend), 0.0).clamp(-0.5, 0.5)
        return at + offset.where((at > 0) & (at < size - 1), 0.0)

    rows, columns = image.shape[1:]
    x = apex(i, rows, logs[batch, (i - 1).clamp_min(0), j], logs[batch, (i + 1).clamp_max(rows - 1), j])
    y = apex(j, columns, logs[batch, i, (j - 1).clamp_min(0)], logs[batch, i, (j + 1).clamp_max(columns - 1)])
    return torch.stack([x, y], -1), height
