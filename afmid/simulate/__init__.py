"""Molecule to Δf: the probe-particle model (Hapala et al., PRB 90, 085421, 2014)."""

from afmid.simulate.oscillation import frequency_shift, oscillation_weights
from afmid.simulate.scan_simulation import SimulationOptions, load_engine, probe_forces, simulate
from afmid.simulate.scene import Scene
from afmid.simulate.tip import TIPS, Tip

__all__ = [
    "TIPS",
    "Scene",
    "SimulationOptions",
    "Tip",
    "frequency_shift",
    "load_engine",
    "oscillation_weights",
    "probe_forces",
    "simulate",
]
