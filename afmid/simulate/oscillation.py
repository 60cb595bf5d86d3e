"""From force to frequency shift: Giessibl's average over one oscillation of the cantilever.

With the lowest point of the oscillation at z and amplitude A (zero to peak),

    Δf(z) = −f₀/(π k A) ∫₋₁¹ F(z + A(1 + u)) u/√(1 − u²) du        (Giessibl, Rev. Mod. Phys. 75, 949, 2003)

The force is known every dz and taken as linear between, for which the integral is exact.
"""

import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from afmid.errors import DataError

STATIC = 1e-6  # Å: amplitudes below this are the static limit

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", NDArray[np.float64], "Tensor")


def oscillation_weights(dz: float, amplitude: float, f0: float, cantilever_stiffness: float) -> NDArray[np.float64]:
    """Return w (K,), Hz/(eV/Å), so that Δf = Σ w_k F_k over K heights from far to near, the last the lowest point.

    Args:
        dz: step between heights (Å).
        amplitude: zero to peak (Å); 0 gives the static limit, −f₀/(2k) dF/dz over the last step.
        f0: resonance frequency (Hz).
        cantilever_stiffness: eV/Å².

    Raises:
        DataError: a step, frequency or stiffness that is not positive, or a negative amplitude.
    """
    if not (dz > 0 and f0 > 0 and cantilever_stiffness > 0 and amplitude >= 0):
        raise DataError(
            f"Δf needs dz, f0 and cantilever stiffness above 0 and an amplitude of 0 or more; "
            f"got {dz} Å, {f0} Hz, {cantilever_stiffness} eV/Å², {amplitude} Å"
        )
    if amplitude < STATIC:
        return f0 / (2 * cantilever_stiffness * dz) * np.array([-1.0, 1.0])
    steps = math.ceil(2 * amplitude / dz - 1e-9)
    nodes = dz * np.arange(steps + 1) / amplitude - 1  # u of each height, from near to far
    edges = np.clip(nodes, -1, 1)
    root = np.sqrt(1 - edges**2)
    first = -np.diff(root)  # ∫ u/√(1 − u²) du over each interval
    second = np.diff(np.arcsin(edges) - edges * root) / 2  # ∫ u²/√(1 − u²) du
    slope = (second - nodes[:-1] * first) * amplitude / dz  # the share of an interval's far end
    weights = np.zeros(steps + 1)
    weights[:-1] += first - slope
    weights[1:] += slope
    return -f0 / (np.pi * cantilever_stiffness * amplitude) * weights[::-1]


def frequency_shift(fz: Array, dz: float, amplitude: float, f0: float, cantilever_stiffness: float) -> Array:
    """Return Δf (Hz), (…, Z'), of vertical forces fz (eV/Å), (…, Z) every dz from far to near.

    Z' = Z − K + 1, where K = ⌈2 amplitude/dz⌉ + 1 heights make one image; image i belongs to the height i + K − 1.
    NumPy arrays and torch tensors (with gradients) alike.

    Raises:
        DataError: fewer heights than one oscillation spans.
    """
    return weighted(fz, oscillation_weights(dz, amplitude, f0, cantilever_stiffness))


def weighted(fz: Array, weights: NDArray[np.float64]) -> Array:
    """Return images (…, Z'), image i being Σ_k weights_k fz_{i+k}, of forces (…, Z) and weights (K,); Z' = Z − K + 1.

    Raises:
        DataError: fewer heights than weights.
    """
    heights, span = fz.shape[-1], len(weights)
    if heights < span:
        raise DataError(f"one oscillation spans {span} heights; there are {heights}")
    images = heights - span + 1
    return sum(float(w) * fz[..., k : k + images] for k, w in enumerate(weights))  # type: ignore[return-value]
