"""Published sets of scans: which settings they share, and which they vary.

quam: QUAM-AFM. J. Carracedo-Cosme et al., J. Chem. Inf. Model. 62, 1214 (2022): each molecule in 24 scans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from afmid.errors import UsageError
from afmid.plugins import checked
from afmid.simulate.scan_simulation import SimulationOptions

PresetName = Literal["quam"]


@dataclass(frozen=True)
class Preset:
    """A set of scans of each molecule.

    Attributes:
        shared: settings of all of them, by the names of SimulationOptions; what a user sets otherwise goes first.
        lateral_stiffness: N/m, and
        amplitude: zero to peak, Å: each with each is one scan.
    """

    shared: Mapping[str, float] = field(default_factory=dict)
    lateral_stiffness: tuple[float, ...] = ()
    amplitude: tuple[float, ...] = ()


PRESETS: dict[PresetName, Preset] = {
    "quam": Preset(
        shared={"size": 24.0, "pixels": 256, "heights": 10, "step": 0.1},
        lateral_stiffness=(0.4, 0.6, 0.8, 1.0),
        amplitude=(0.4, 0.6, 0.8, 1.0, 1.2, 1.4),
    ),
}


def variants(name: PresetName, options: SimulationOptions) -> dict[str, SimulationOptions]:
    """Return the scans of a preset by what their files' names end with, such as "K040_Amp060": 0.40 N/m, 0.60 Å.

    Args:
        name: of the preset.
        options: what was set of them goes before what the preset's scans share.

    Raises:
        UsageError: what the preset varies was set, or the settings do not go together.
    """
    preset, chosen = PRESETS[name], options.model_dump(exclude_unset=True)
    for varied in ("lateral_stiffness", "amplitude"):
        if varied in chosen:
            values = ", ".join(f"{value:g}" for value in getattr(preset, varied))
            raise UsageError(f"the preset {name} takes each {varied.replace('_', ' ')} of {values}; leave yours out")
    scans = {}
    for stiffness, amplitude in product(preset.lateral_stiffness, preset.amplitude):
        settings = {**preset.shared, **chosen, "lateral_stiffness": stiffness, "amplitude": amplitude}
        scans[f"K{100 * stiffness:03.0f}_Amp{100 * amplitude:03.0f}"] = checked(SimulationOptions, settings)
    return scans
