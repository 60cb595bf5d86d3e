"""The tip: a probe particle on two springs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from afmid.errors import DataError
from afmid.molecule import SYMBOLS
from afmid.units import N_per_m


@dataclass(frozen=True)
class Tip:
    """A probe particle that hangs from the tip base (Hapala et al., PRB 90, 085421, 2014).

    Attributes:
        probe: element of the probe particle.
        charge: its monopole (e).
        quadrupole: Q (e·Å²) of the charge density Q ∂²δ/∂z²; its energy with a charge q is k_e q Q (3 z² − r²)/r⁵.
        length: distance (Å) from the tip base to the probe at rest.
        offset: lateral rest position (Å) of the probe relative to the base, for a tilted tip.
        lateral_stiffness, radial_stiffness: of the springs, eV/Å² (`0.25 * N_per_m`).

    Raises:
        DataError: an unknown element, or an offset that is longer than the tip.
    """

    probe: str = "O"
    charge: float = 0.0
    quadrupole: float = -0.1
    length: float = 4.0
    offset: tuple[float, float] = (0.0, 0.0)
    lateral_stiffness: float = 0.25 * N_per_m
    radial_stiffness: float = 30 * N_per_m

    def __post_init__(self) -> None:
        if self.probe not in SYMBOLS[1:]:
            raise DataError(f"no element {self.probe!r} for the probe")
        if not np.hypot(*self.offset) < self.length:
            raise DataError(f"the probe's offset {self.offset} Å must be shorter than the tip, {self.length} Å")
        if min(self.lateral_stiffness, self.radial_stiffness) <= 0:
            raise DataError("the lateral and the radial stiffness must be positive")

    @property
    def number(self) -> int:
        """Atomic number of the probe."""
        return SYMBOLS.index(self.probe)

    @property
    def rest(self) -> tuple[float, float, float]:
        """Vector (Å) from the tip base to the probe at rest, (0, 0, -length) for a straight tip."""
        x, y = self.offset
        return (x, y, -float(np.sqrt(self.length**2 - x**2 - y**2)))


TipName = Literal["CO", "Xe", "Cl"]
TIPS: dict[TipName, Tip] = {
    "CO": Tip(),
    "Xe": Tip(probe="Xe", quadrupole=0.3),
    "Cl": Tip(probe="Cl", charge=-0.3, quadrupole=0.0, lateral_stiffness=0.5 * N_per_m),
}
