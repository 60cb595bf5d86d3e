"""How well matching finds the way 1S-camphor lies: where the true configuration comes among those that are found.

The molecule is that of Alldritt et al., Sci. Adv. 6, eaay6913 (2020). The scans are simulated: orientations drawn
evenly, the usual CO tip at a height drawn within 0.2 Å, uniform noise of 5 % of each image's range, and no word of the
height. A configuration is the true one if a rotation of less than 15° brings it there; camphor has no symmetry.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import report
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from afmid.chem import embed, find_named
from afmid.cli.methods import load, wanted
from afmid.cli.options import registry
from afmid.evaluate.candidates import CandidateOptions, rank
from afmid.evaluate.library import open_library
from afmid.identification import Identification, Map
from afmid.molecule import Molecule, Molecules
from afmid.offers import Renders, Simulator
from afmid.scan import ABOVE_LAST_IMAGE, Scan
from afmid.simulate import SimulationOptions, load_engine

CAMPHOR = "(1S)-camphor"
NEAR = 15.0  # degrees
HEIGHT = 0.2  # Å: by which the tip is higher or lower at most
NOISE = 0.05  # of an image's range, from end to end
SETTINGS = SimulationOptions()
WAYS = {
    "true maps alone": ("maps", True),
    "predicted maps alone": ("maps", False),
    "images alone": ("images", False),
    "predicted maps, then images": ("both", False),
}  # by what is matched, and whether the maps are those of the true molecule


def main() -> None:
    parser = report.parser(__doc__, timed=False)
    parser.add_argument("--method", default="descriptor", help="whose maps are matched")
    parser.add_argument("--weights", help="file or name of its weights, in place of the usual ones")
    parser.add_argument("--scans", type=int, default=20, help="orientations that are drawn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    known = registry()
    (loaded,) = load(known, wanted(known, options.method, None, None, None, False), options.weights, "cpu")
    method = loaded.method
    if not isinstance(method, Renders):
        raise SystemExit(f"{options.method} draws no maps of molecules")
    _, simulator = load_engine(device="cpu")
    library, molecule = open_library(CAMPHOR), embed(find_named(CAMPHOR)[1])
    rows = []
    for number, (scan, turn) in enumerate(scans(molecule, simulator, options.scans, options.seed), 1):
        answer = method.identify([scan], loaded.options)
        for name, (by, true) in WAYS.items():
            start = time.perf_counter()
            given = with_true_maps(answer, scan.truth, method) if true else answer
            found = rank(given, scan, library, simulator, CandidateOptions(by=by), method=method)
            seconds = time.perf_counter() - start
            angles = [angle(each.molecule, molecule.turned(turn)) for each in found.candidates if each.molecule]
            place = next((place for place, each in enumerate(angles, 1) if each < NEAR), None)
            rows.append({"scan": number, "way": name, "place": place, "seconds": seconds, "angles": angles,
                         "scores": [candidate.score for candidate in found.candidates]})  # fmt: skip
            sys.stderr.write(f"scan {number}, {name}: place {place or 'none'}, {seconds:.1f} s\n")
    report.publish(options, "camphor", rows, table(rows), "")


def scans(
    molecule: Molecule, simulator: Simulator, count: int, seed: int
) -> Iterator[tuple[Scan, NDArray[np.float64]]]:
    """Yield scans, and how their molecule is turned (3, 3)."""
    rng = np.random.default_rng(seed)
    for turn in Rotation.random(count, random_state=rng).as_matrix():
        higher = SETTINGS.model_copy(update={"clearance": SETTINGS.clearance + HEIGHT * rng.uniform(-1, 1)})
        scene = higher.scene(molecule.turned(turn))
        df = simulator.images([scene], SETTINGS.weights()).values[0].numpy()[..., -SETTINGS.heights :]
        df += NOISE * np.ptp(df, axis=(0, 1)) * rng.uniform(-0.5, 0.5, df.shape).astype(np.float32)
        z = scene.z[-SETTINGS.heights :]
        yield Scan(
            df=df, x=scene.x, y=scene.y, z=z - z[-1], z_reference=ABOVE_LAST_IMAGE, amplitude=SETTINGS.amplitude,
            truth=scene.molecule,
        ), turn  # fmt: skip


def with_true_maps(answer: Identification, molecule: Molecule, method: Renders) -> Identification:
    """Return an answer whose maps have no error."""
    names = tuple(name for name in method.rendered_maps if name in answer.maps)
    values = method.rendered(Molecules.of([molecule]), answer.x, answer.y, names)[0].numpy()
    maps = {name: Map(image, answer.maps[name].unit) for name, image in zip(names, values, strict=True)}
    return replace(answer, maps=maps)


def angle(molecule: Molecule, truth: Molecule) -> float:
    """Return by how much a molecule is turned against the true one (degrees); the atoms are in the same order."""
    centred = [each.positions - each.positions.mean(0) for each in (molecule, truth)]
    return float(np.rad2deg(Rotation.align_vectors(*centred)[0].magnitude()))


def table(rows: list[dict[str, Any]]) -> str:
    """Return how often the true configuration comes first, or among the first, by what is matched."""
    body = []
    for name in WAYS:
        places = [row["place"] or float("inf") for row in rows if row["way"] == name]
        seconds = statistics.median(row["seconds"] for row in rows if row["way"] == name)
        counts = [f"{sum(place <= most for place in places)} of {len(places)}" for most in (1, 5, 10)]
        body.append([name, *counts, report.short(seconds)])
    return report.table(["matched", "first", "among 5", "among 10", "seconds"], body)


if __name__ == "__main__":
    main()
