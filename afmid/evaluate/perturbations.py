"""What may differ between two scans of a molecule: place, direction, tip, noise, number of images. All else stays.

A perturbation changes the scene before it is simulated, the scan afterwards, or its noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from afmid.scan import Scan
from afmid.simulate.scene import Scene
from afmid.units import N_per_m

NONE = "as it is"


def _unchanged_scene(scene: Scene) -> Scene:
    return scene


def _unchanged_scan(scan: Scan) -> Scan:
    return scan


@dataclass(frozen=True)
class Perturbation:
    """A change by its name.

    Attributes:
        name: in words.
        of_scene: of what is simulated.
        of_scan: of the scan that came out, noise and all.
        noise: standard deviation of white noise in place of the scan's own, Hz.
    """

    name: str
    of_scene: Callable[[Scene], Scene] = _unchanged_scene
    of_scan: Callable[[Scan], Scan] = _unchanged_scan
    noise: float | None = None


def shifted(scene: Scene, distance: float) -> Scene:
    """Return the scene with its molecule `distance` (Å) further along x, towards the side with more room."""
    molecule, x = scene.molecule.positions[:, 0], scene.x + scene.tip.offset[0]
    room_right, room_left = x[-1] - molecule.max(), molecule.min() - x[0]
    step = distance if room_right >= room_left else -distance
    return replace(scene, molecule=scene.molecule.moved((step, 0.0, 0.0)))


def higher(scene: Scene, distance: float) -> Scene:
    """Return the scene with all images taken `distance` (Å) higher."""
    return replace(scene, z=scene.z + distance)


def with_stiffness(scene: Scene, stiffness: float) -> Scene:
    """Return the scene with another lateral stiffness of the probe (N/m)."""
    return replace(scene, tip=replace(scene.tip, lateral_stiffness=stiffness * N_per_m))


def turned(scan: Scan) -> Scan:
    """Return the scan with its images, its axes and its truth turned by 90° about x = y = 0, from x to y."""
    quarter = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    df = np.ascontiguousarray(scan.df[:, ::-1].transpose(1, 0, 2))
    return replace(scan, df=df, x=-scan.y[::-1], y=scan.x, truth=scan.truth and scan.truth.turned(quarter))


def nearest(scan: Scan, images: int) -> Scan:
    """Return the scan with its nearest images alone."""
    return replace(scan, df=scan.df[..., -images:], z=scan.z[-images:])


PERTURBATIONS = (
    Perturbation(NONE),
    Perturbation("shifted by 2 Å", of_scene=partial(shifted, distance=2.0)),
    Perturbation("turned by 90°", of_scan=turned),
    Perturbation("tip 0.4 Å higher", of_scene=partial(higher, distance=0.4)),
    Perturbation("tip 0.4 Å lower", of_scene=partial(higher, distance=-0.4)),
    *(
        Perturbation(f"lateral stiffness {k:.2f} N/m", of_scene=partial(with_stiffness, stiffness=k))
        for k in (0.2, 0.5, 1.0)
    ),
    *(Perturbation(f"noise {hertz:g} Hz", noise=hertz) for hertz in (0.1, 0.3, 1.0)),
    *(Perturbation(f"nearest {count} images", of_scan=partial(nearest, images=count)) for count in (6, 4)),
)
