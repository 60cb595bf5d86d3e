"""Identify single molecules from CO-tip atomic force microscopy images.

The names below are afmid's public interface, beside those without an underscore in afmid.chem, data, evaluate, io,
recipe, simulate, testing, training, units and weights. What is here loads when first used: `import afmid` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "AfmidError": "errors",
    "Atom": "identification",
    "Augmentation": "offers",
    "Bond": "identification",
    "Candidate": "identification",
    "DataError": "errors",
    "Engine": "offers",
    "Identification": "identification",
    "Identifier": "offers",
    "Map": "identification",
    "Metric": "offers",
    "Molecule": "molecule",
    "Scan": "scan",
    "Trainer": "offers",
    "hookimpl": "hookspecs",
}
__all__ = sorted([*_HOME, "__version__"])

if TYPE_CHECKING:
    from afmid.errors import AfmidError as AfmidError
    from afmid.errors import DataError as DataError
    from afmid.hookspecs import hookimpl as hookimpl
    from afmid.identification import Atom as Atom
    from afmid.identification import Bond as Bond
    from afmid.identification import Candidate as Candidate
    from afmid.identification import Identification as Identification
    from afmid.identification import Map as Map
    from afmid.molecule import Molecule as Molecule
    from afmid.offers import Augmentation as Augmentation
    from afmid.offers import Engine as Engine
    from afmid.offers import Identifier as Identifier
    from afmid.offers import Metric as Metric
    from afmid.offers import Trainer as Trainer
    from afmid.scan import Scan as Scan


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'afmid' has no attribute {name!r}")
    return getattr(import_module(f"afmid.{_HOME[name]}"), name)
