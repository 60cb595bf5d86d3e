"""By what scans are told apart in a table: how corrugated a molecule lies, and how large it is."""

import numpy as np

from afmid.molecule import Molecule

# Of each group its bins, in order; the limits (Å, atoms) stand below, and a limit belongs to the bin above it.
BINS = {
    "corrugation": ("< 50 pm", "50–100 pm", "100–150 pm", "> 150 pm"),
    "atoms": ("1–15", "16–30", "31–45", "> 45"),
}
_LIMITS = {"corrugation": (0.5, 1.0, 1.5), "atoms": (16, 31, 46)}


def groups_of(truth: Molecule) -> dict[str, str]:
    """Return the bin of each group that a scan of this molecule belongs to."""
    values = {"corrugation": corrugation(truth), "atoms": len(truth)}
    return {group: BINS[group][int(np.digitize(value, _LIMITS[group]))] for group, value in values.items()}


def corrugation(molecule: Molecule) -> float:
    """Return the height range (Å) of the heavy atoms as the molecule lies; 0 where there are none.

    All of them count, not those alone that a tip can see: these span at most 0.8 Å.
    """
    heavy = molecule.positions[molecule.numbers > 1, 2]
    return float(np.ptp(heavy)) if len(heavy) else 0.0
