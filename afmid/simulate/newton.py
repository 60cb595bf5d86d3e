"""The settings of the safeguarded Newton iteration that the engines share: how the probe finds where it rests.

At each height the probe starts where the heights before it lead, and steps until little force is left on it. The last
step is taken after the test and the force follows it to first order, so that no evaluation is spent on confirmation.
"""

import numpy as np
from numpy.typing import ArrayLike

SOFTEST = 1e-3  # eV/Å²: curvatures below this count as this
STIFFEST = 0.01  # eV/Å²: the same along z
RIDGE = -1e-4  # eV/Å²: below this curvature the probe stands on a ridge,
OFF_RIDGE = 0.05  # Å: and is sent off it by at least this
REACH = 0.3  # Å: the longest step at first;
GROWTH = 1.5  # it grows by this factor from step to step, and halves
OVERSHOT = 0.3  # where the force opposes the last step by more than this share of what drove it
GUESS = 0.15  # Å: the longest extrapolation from the heights before
SETTLED = 3e-3  # eV/Å: the most force that may be left on the probe when its last step is taken,
LAST_STEP = 0.005  # Å: which is shorter than this
ITERATIONS = 40

WIDE = 1.0  # Å: images that average the force over less are made from forces that have settled better,
NARROW = 0.1  # down to this share of SETTLED and LAST_STEP


def goal(weights: ArrayLike, z: ArrayLike) -> tuple[float, float]:
    """Return the most force (eV/Å) that may be left and the longest last step (Å), for images of these weights.

    Differences of forces at few heights, such as the static limit, magnify their errors.

    Args:
        weights: (K,), as for `Simulator.images`.
        z: heights (Z,) or (B, Z), Å, descending.
    """
    span, steps = len(np.asarray(weights)), -np.diff(np.asarray(z))
    share = 1.0 if span < 2 or not steps.size else float(np.clip(span * steps.min() / WIDE, NARROW, 1))
    return SETTLED * share, LAST_STEP * share
