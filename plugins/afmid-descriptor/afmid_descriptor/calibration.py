"""What validation scans settle of a network's answers: atoms' confidence and depth, maps' deviations, and the tilt.

A network for two tips is settled twice, for scans of one tip and of two, and the results travel with its weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from afmid_descriptor.atoms import FIGURES, Fit

ONE, TWO = "one", "two"  # tips


@dataclass(frozen=True)
class Calibration:
    """What was settled.

    Attributes:
        fit: of the atoms' confidence and depth; None where nothing settled it.
        spread: of each map, its errors' standard deviation in units of what the network says.
        tilt: standard deviation of the tilt's error along x or y, Å; None where the tilt is not told.
    """

    fit: Fit | None = None
    spread: Mapping[str, float] = field(default_factory=dict)
    tilt: float | None = None

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"fit": self.fit and self.fit._asdict(), "spread": dict(self.spread), "tilt": self.tilt}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return what `record` made; KeyError, TypeError, ValueError or AttributeError where it is none."""
        names = ("constant", *FIGURES)
        told = record["fit"]
        fit = Fit(*({name: float(told[part][name]) for name in names} for part in Fit._fields)) if told else None
        spread = {name: float(value) for name, value in record["spread"].items()}
        return cls(fit, spread, None if record["tilt"] is None else float(record["tilt"]))


def written(calibrations: Mapping[str, Calibration]) -> str:
    """Return calibrations, by `ONE` and `TWO`, as a weights file keeps them."""
    return json.dumps({tips: calibration.record() for tips, calibration in calibrations.items()})


def read(text: str) -> dict[str, Calibration]:
    """Return what `written` wrote; the errors of `Calibration.of` where it did not."""
    return {tips: Calibration.of(record) for tips, record in json.loads(text).items()}
