"""afmid's maps beside those of the published weights (Alldritt et al., Sci. Adv. 6, eaay6913, 2020): squared errors.

The weights are the two Keras files of https://github.com/SINGROUP/ASD-AFM (MIT), pretrained_weights/model_light.h5 and
model_heavy.h5; reading them needs h5py. Both networks see each image with zero mean and unit variance, the published
one also with the noise that it was trained with; the best of what the published weights give counts for them. afmid
answers as `afmid identify` does, without that noise. Scans are stored stacks (--stacks), or drawn and simulated as
those of afmid's suites, molecules of up to 40 heavy atoms (--simulated).

A file of stacks is an npz: df (N, X, Y, 10) from far to near, 0.125 Å per pixel, 0.1 Å between images; disks, spheres,
height (N, X, Y), and light (N,), whether a molecule holds H C N O F alone.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import ours
import report
import torch
from numpy.typing import NDArray
from scipy.ndimage import shift

from afmid import Scan
from afmid.data.pack import read_pack
from afmid.evaluate.suites import open_suite
from afmid.molecule import Molecule
from afmid.networks.stack import PIXEL, STEP
from afmid_descriptor.paper import HEIGHTS, Paper
from afmid_descriptor.targets import descriptor_maps

NAMES = Paper.names
LIGHT = (1, 6, 7, 8, 9)  # the elements that the light weights were trained on
HEAVY_ATOMS = 40
NOISE = 0.1  # of an image's range: the published training's
FARTHEST = 0.75  # Å, that disks and spheres are moved at most
WEIGHT = {"disks": 20.0, "spheres": 0.2}  # in the published loss
RESAMPLES, FEWEST = 2000, 5  # of the bootstrap, and the scans it needs
OURS = "afmid"
AT_BASE = "afmid, below the tip's base"  # disks and spheres moved there by the tilt that it tells

Maps = NDArray[np.float32]  # (3, X, Y)


@dataclass(frozen=True, eq=False)
class Case:
    """A scan, its maps, and whether its molecule holds light elements alone."""

    scan: Scan
    truth: Maps
    light: bool


def main() -> None:
    options = _arguments()
    answers = _answers(options)
    rows: list[dict[str, Any]] = []
    if options.stacks:
        beside = {**answers, AT_BASE: _ours(options.ours, below_base=True)}
        rows += (found := _errors(_stored(options.stacks), beside, "stored"))
        report.publish(options, "published-stored", rows, f"{options.stacks.name}:\n\n{_tables(found)}", "")
    if options.simulated:
        rows += (found := _errors(_simulated(options.simulated, options.data), answers, "simulated"))
        suite = "sim-test" if options.data else "sim-open"
        about = f"The first of {suite} with up to {HEAVY_ATOMS} heavy atoms"
        if options.data:
            about += f", of a pack with the hash {read_pack(options.data).sha256[:16]}"
        report.publish(options, f"published-{suite}", rows, f"{about}:\n\n{_tables(found)}", "")


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("published", nargs="+", type=Path, help="model_light.h5 and model_heavy.h5")
    parser.add_argument("--stacks", type=Path, metavar="NPZ", help="stored stacks with their maps")
    parser.add_argument("--simulated", type=int, default=0, metavar="N", help="so many simulated scans")
    parser.add_argument("--data", type=Path, metavar="PACK", help="draw them from a pack's test split, as sim-test")
    ours.add_option(parser)
    options = parser.parse_args()
    if not (options.stacks or options.simulated):
        parser.error("give --stacks NPZ, --simulated N, or both")
    return options


def _stored(path: Path) -> Iterator[Case]:
    with np.load(path, allow_pickle=False) as file:
        arrays = [file[name] for name in ("df", "light", *NAMES)]
    for df, light, *maps in zip(*arrays, strict=True):
        truth = np.stack(maps).astype(np.float32)
        x, y, z = (np.arange(n) * step for n, step in zip(df.shape, (PIXEL, PIXEL, STEP), strict=True))
        scan = Scan(df=df.astype(np.float32), x=x, y=y, z=z[::-1])
        yield Case(scan, truth - truth.min((1, 2), keepdims=True), bool(light))


def _simulated(count: int, data: Path | None) -> Iterator[Case]:
    suite = open_suite("sim-test" if data else "sim-open", data)
    made = 0
    for i in range(len(suite)):
        sample = suite[i]
        numbers = sample.truth.numbers
        if (numbers > 1).sum() > HEAVY_ATOMS:
            continue
        truth = _true_maps(sample.truth, sample.scan)
        yield Case(replace(sample.scan, truth=None), truth, bool(np.isin(numbers, LIGHT).all()))
        made += 1
        if made == count:
            return
    raise SystemExit(f"{suite.name} holds {made} scans of molecules of up to {HEAVY_ATOMS} heavy atoms, not {count}")


def _true_maps(molecule: Molecule, scan: Scan) -> Maps:
    numbers, positions = torch.from_numpy(molecule.numbers)[None], torch.from_numpy(molecule.positions)[None]
    axes = (torch.from_numpy(axis)[None] for axis in (scan.x, scan.y))
    mask = torch.ones_like(numbers, dtype=torch.bool)
    maps: Maps = descriptor_maps(numbers, positions, mask, *axes, names=NAMES)[0].float().numpy()
    return maps


def _answers(options: argparse.Namespace) -> dict[str, Callable[[Scan], Maps]]:
    """Return what gives maps (3, X, Y): each published network on clean and on noisy images, and afmid."""
    answers: dict[str, Callable[[Scan], Maps]] = {}
    for path in options.published:
        for noise in (0.0, NOISE):
            answers[f"{path.stem}, {'noise' if noise else 'clean'}"] = _published(_read(path), noise)
    answers[OURS] = _ours(options.ours)
    return answers


def _read(path: Path) -> Paper:
    """Return the network with the published weights of a Keras file."""
    network = Paper()
    convs = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)]
    with h5py.File(path) as file, torch.no_grad():
        layers = sorted((name for name in file if name.startswith("conv")), key=_place)
        for conv, layer in zip(convs, layers, strict=True):
            values = file[layer][layer.replace("_reflective", "")]
            kernel = torch.from_numpy(values["kernel:0"][...])  # (x, y, z, in, out) or (x, y, in, out)
            conv.weight.copy_(kernel.permute(4, 3, 2, 0, 1) if kernel.ndim == 5 else kernel.permute(3, 2, 0, 1))
            conv.get_parameter("bias").copy_(torch.from_numpy(values["bias:0"][...]))
    return network.eval()


def _place(layer: str) -> tuple[bool, int]:
    """Return where a layer such as conv2d_reflective_7 stands: 3D before 2D, then by number."""
    return layer.startswith("conv2d"), int(layer.rpartition("_")[2])


def _published(network: Paper, noise: float) -> Callable[[Scan], Maps]:
    rng = np.random.default_rng(0)

    def answer(scan: Scan) -> Maps:
        df = np.asarray(scan.df, np.float32)[..., -HEIGHTS:]
        df = (df - df.mean((0, 1))) / df.std((0, 1))
        if noise:
            df = df + (rng.random(df.shape, np.float32) - 0.5) * noise * (df.max((0, 1)) - df.min((0, 1)))
        with torch.inference_mode():
            maps: Maps = network(torch.from_numpy(df)[None])[0].numpy()
        return maps

    return answer


def _ours(weights: Path | None, below_base: bool = False) -> Callable[[Scan], Maps]:
    identifier, method = ours.method(weights)

    def answer(scan: Scan) -> Maps:
        found = method.identify([scan], identifier.options())
        maps = {name: found.maps[name].values for name in NAMES}
        if below_base:
            tilt = found.meta.get("tip_tilt_angstrom", (0.0, 0.0))
            maps |= {name: at_base(maps[name], tilt) for name in WEIGHT}
        return np.stack([*maps.values()]).astype(np.float32)

    return answer


def at_base(image: NDArray[Any], tilt: Sequence[float]) -> NDArray[Any]:
    """Return an image (X, Y) of the resting probe's frame in that of the tip's base, beside which it hangs (Å)."""
    return shift(image, np.array(tilt) / PIXEL, order=1)


def _errors(cases: Iterator[Case], answers: dict[str, Callable[[Scan], Maps]], kind: str) -> list[dict[str, Any]]:
    """Return for each case and network the mean squared error of each map: as it is, and after the best shift."""
    rows = []
    for number, case in enumerate(cases):
        for name, answer in answers.items():
            maps = answer(case.scan)
            moved = _moved_best(maps, case.truth)
            row = {"kind": kind, "scan": number, "light": case.light, "network": name}
            rows.append({**row, "plain": _mse(maps, case.truth), "moved": _mse(moved, case.truth)})
    return rows


def _mse(maps: Maps, truth: Maps) -> list[float]:
    return [float(error) for error in np.square(maps - truth).mean((1, 2), dtype=np.float64)]


def _moved_best(maps: Maps, truth: Maps) -> Maps:
    """Return the maps with disks and spheres moved together by the whole pixels that the published loss likes best."""
    both = [NAMES.index(name) for name in WEIGHT]
    weights = np.array([*WEIGHT.values()])
    reach = int(FARTHEST / PIXEL)
    steps = [(a, b) for a, b in product(range(-reach, reach + 1), repeat=2) if np.hypot(a, b) * PIXEL <= FARTHEST]
    best = min((_moved(maps[both], step) for step in steps), key=lambda m: float(weights @ _mse(m, truth[both])))
    result = maps.copy()
    result[both] = best
    return result


def _moved(maps: Maps, step: tuple[int, int]) -> Maps:
    """Return maps moved by whole pixels; from beyond the edge comes zero, their minimum."""
    (a, b), (x, y) = step, maps.shape[1:]
    moved = np.zeros_like(maps)
    moved[:, max(a, 0) : x + min(a, 0), max(b, 0) : y + min(b, 0)] = maps[
        :, max(-a, 0) : x + min(-a, 0), max(-b, 0) : y + min(-b, 0)
    ]
    return moved


def _tables(rows: Sequence[dict[str, Any]]) -> str:
    moved = f"Disks and spheres of each network moved by the best common shift of each scan, up to {FARTHEST} Å:"
    return "\n\n".join([_table(rows, "plain"), moved, _table(rows, "moved")])


def _table(rows: Sequence[dict[str, Any]], how: str) -> str:
    groups = {"light": (True,), "heavy": (False,), "all": (True, False)}
    networks = list(dict.fromkeys(row["network"] for row in rows if how == "plain" or row["network"] != AT_BASE))
    afmids = [name for name in networks if name in (OURS, AT_BASE)]
    ratios = {name: (f"{name} / best published", f"{name}: 95 % interval") for name in afmids}
    header, lines = [""], {name: [name] for name in (*networks, *chain(*ratios.values()))}
    for group, of in groups.items():
        errors = {n: np.array([r[how] for r in rows if r["network"] == n and r["light"] in of]) for n in networks}
        if not len(errors[OURS]) or (group == "all" and len({row["light"] for row in rows}) == 1):
            continue
        header += [f"{group} ({len(errors[OURS])}): {name}" for name in NAMES]
        means = {name: values.mean(0) for name, values in errors.items()}
        for name, values in means.items():
            lines[name] += [f"{value:.2e}".replace("e-0", "e-") for value in values]
        for k in range(len(NAMES)):
            best = min((name for name in networks if name not in ratios), key=lambda name: means[name][k])
            for name, (ratio, interval) in ratios.items():
                lines[ratio].append(f"{means[name][k] / means[best][k]:.2f}")
                lines[interval].append(_interval(errors[name][:, k], errors[best][:, k]))
    return report.table(header, lines.values())


def _interval(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> str:
    """Return the 95 % interval of the ratio of means, by bootstrap over scans; "–" for too few."""
    if len(ours) < FEWEST:
        return report.short(None)
    drawn = np.random.default_rng(0).integers(len(ours), size=(RESAMPLES, len(ours)))
    low, high = np.percentile(ours[drawn].mean(1) / theirs[drawn].mean(1), [2.5, 97.5])
    return f"{low:.2f}–{high:.2f}"


if __name__ == "__main__":
    main()
