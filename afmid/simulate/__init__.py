"""Molecule to Δf: the probe-particle model (Hapala et al., PRB 90, 085421, 2014)."""

from typing import TYPE_CHECKING, Any

from afmid.simulate.oscillation import frequency_shift, oscillation_weights
from afmid.simulate.scan_simulation import SimulationOptions, load_engine, probe_forces, simulate
from afmid.simulate.scene import Scene, Scenes
from afmid.simulate.tip import TIPS, Tip

if TYPE_CHECKING:
    from afmid.simulate.batch import Batch
    from afmid.simulate.torch_engine import TorchSimulator

__all__ = [
    "TIPS",
    "Batch",
    "Scene",
    "Scenes",
    "SimulationOptions",
    "Tip",
    "TorchSimulator",
    "frequency_shift",
    "load_engine",
    "oscillation_weights",
    "probe_forces",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for."""
    from importlib import import_module

    modules = {"Batch": "batch", "TorchSimulator": "torch_engine"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{modules[name]}"), name)
