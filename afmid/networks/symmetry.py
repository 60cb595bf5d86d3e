"""The eight turns and mirror images of a scan: a network that answers each alike is surer of their mean."""

from typing import NamedTuple

import torch
from torch import Tensor


class Symmetry(NamedTuple):
    """A turn by 90° steps, then a mirror image."""

    turns: int = 0
    mirror: bool = False

    def turned(self, images: Tensor) -> Tensor:
        """Return images turned and mirrored in their axes 1 and 2."""
        turned = images.rot90(self.turns, (1, 2))
        return turned.flip(1) if self.mirror else turned

    def back(self, images: Tensor) -> Tensor:
        """Return images as they were before `turned`."""
        return (images.flip(1) if self.mirror else images).rot90(-self.turns, (1, 2))

    def vector(self, vectors: Tensor) -> Tensor:
        """Return vectors in the plane (…, 2) turned and mirrored like images."""
        x, y = vectors.unbind(-1)
        for _ in range(self.turns):
            x, y = -y, x
        return torch.stack([-x if self.mirror else x, y], -1)

    def vector_back(self, vectors: Tensor) -> Tensor:
        """Return vectors (…, 2) as they were before `vector`."""
        x, y = vectors.unbind(-1)
        x = -x if self.mirror else x
        for _ in range(self.turns):
            x, y = y, -x
        return torch.stack([x, y], -1)


SYMMETRIES = tuple(Symmetry(turns, mirror) for turns in range(4) for mirror in (False, True))
ALIKE = tuple(tuple(s for s in SYMMETRIES if s.turns % 2 == across) for across in (0, 1))  # that give scans one shape
