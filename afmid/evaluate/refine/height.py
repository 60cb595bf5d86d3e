"""How high the tip was: the scan's images are compared with those of a molecule at all heights."""

import numpy as np

from afmid.evaluate.refine.fit import Measured
from afmid.molecule import Molecule
from afmid.scan import ABOVE_ATOM
from afmid.simulate import Batch, Scene, Tip, TorchSimulator
from afmid.simulate.scan_simulation import closest_height

KNOWN = 0.6  # Å: how far the height of the topmost atom is searched about where it should be
CLOSEST, FARTHEST = -1.2, 2.0  # Å: clearances (see `closest_height`) that are searched where nothing is known
PIXELS = 24  # along each side


def placed(measured: Measured, molecule: Molecule, tip: Tip, z_reference: str) -> Molecule:
    """Return a molecule at the height in the scan's frame (of which `z_reference` tells the origin) that fits best.

    Raises:
        DataError: an element without Lennard-Jones parameters.
    """
    molecule = molecule.topmost_at_zero()
    stride = max(1, -(-max(len(measured.x), len(measured.y)) // PIXELS))
    measured = measured.thinned(stride)
    last, step = measured.z[-1], measured.z[-2] - measured.z[-1]
    low, high = last - KNOWN, last + KNOWN
    if z_reference != ABOVE_ATOM:
        contact = float(closest_height(molecule.numbers, molecule.positions[:, 2], tip.number, 0.0))
        low, high = contact + CLOSEST, contact + FARTHEST
    lowest = np.arange(high, low, -step)  # heights of the last image above the topmost atom
    z = np.concatenate([lowest[0] + (measured.z - last)[:-1], lowest])
    x, y = (axis - offset for axis, offset in zip((measured.x, measured.y), tip.offset, strict=True))
    values = TorchSimulator().batch_images(Batch.of([Scene(molecule, tip, x, y, z)]), measured.weights).values[0]
    misfits = []
    for k in range(len(lowest)):
        left = measured.df - values[..., measured.images + k]
        misfits.append(float((left - left.median()).abs().mean()))
    return molecule.moved((0.0, 0.0, last - float(lowest[int(np.argmin(misfits))])))
