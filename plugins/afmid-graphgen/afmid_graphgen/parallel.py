"""From a stack to a graph by the parallel network, which looks at all eight turns and mirror images.

The stack is padded such that the molecule's centre lies where coarse pixels of the U-Net meet, wherever in the window
it is, since a convolutional network with strides does not see the same in a shifted image (Zhang, "Making convolutional
networks shift-invariant again", ICML 2019).

What it says is brought to honest confidences by one temperature for each kind of answer (Guo et al., "On calibration of
modern neural networks", ICML 2017), settled on validation scans.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, pad

from afmid.data.examples import Examples
from afmid.networks.peaks import find_peaks
from afmid.networks.symmetry import ALIKE, SYMMETRIES, Symmetry
from afmid_graphgen.graph import ORDERS, Graph
from afmid_graphgen.model import Answers, GraphNet, Pairs, pairs_of
from afmid_graphgen.targets import truth_of

Array = NDArray[np.float64]

COLDEST, HOTTEST = 0.2, 5.0  # temperatures, and factors of deviations
MOST = 1000  # peaks that are looked at, the highest
AT_ONCE = 2**18  # pixels of all looks that are taken together: a bound on the memory of one pass


class View(NamedTuple):
    """What a network sees in one stack, on the CPU.

    Attributes:
        image: of peaks (X, Y).
        places: of its M peaks, in pixels (M, 2).
        answers, pairs: about those.
    """

    image: Tensor
    places: Tensor
    answers: Answers
    pairs: Pairs


@dataclass(frozen=True)
class Temperatures:
    """What logits are divided by, and what deviations of positions are multiplied by.

    Raises:
        ValueError: one that no fit gives.
    """

    exists: float = 1.0
    elements: float = 1.0
    missing: float = 1.0
    bonds: float = 1.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if bad := [value for value in asdict(self).values() if not COLDEST <= value <= HOTTEST]:
            raise ValueError(f"a temperature lies in {COLDEST}–{HOTTEST}, not {bad[0]}")

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what a weights file bears; ValueError or TypeError where it is none."""
        return cls(**{name: float(value) for name, value in dict(json.loads(text)).items()})

    def to_json(self) -> str:
        """Return them as a weights file bears them."""
        return json.dumps(asdict(self))


@torch.inference_mode()
def view(model: GraphNet, df: Tensor, average: bool = True, places: Tensor | None = None) -> View:
    """Return what the network sees in a stack (1, X, Y, 10).

    `average` means over the eight turns and mirror images. `places` (M, 2), in pixels, take the place of the peaks.
    """
    x, y = df.shape[1:3]
    (left, low), df = _laid(df, model.stride)
    df = df.to(next(model.parameters()).device)
    size, moved = df.new_tensor(df.shape[1:3]), df.new_tensor([left, low])
    looks, images = [], []
    for alike in _batches(ALIKE if average else [SYMMETRIES[:1]], df.shape[1] * df.shape[2]):
        turned = torch.cat([symmetry.turned(df) for symmetry in alike])
        features = model.features(turned)
        shown = model.image(features)[:, None]
        images += [symmetry.back(image) for symmetry, image in zip(alike, shown, strict=True)]
        looks.append((alike, features, size.new_tensor(turned.shape[1:3])))
    image = torch.cat(images).mean(0)[left : left + x, low : low + y]
    if places is None:
        peaks, heights = find_peaks(image[None], most=MOST)
        places = peaks[heights > 0]
    places = places.to(size)
    pairs = pairs_of(places, torch.zeros(len(places), dtype=torch.long, device=size.device))
    said = []
    for alike, features, turned_size in looks:
        there = [symmetry.vector(places + moved - (size - 1) / 2) + (turned_size - 1) / 2 for symmetry in alike]
        look = torch.arange(len(alike), device=size.device)
        of_each = Pairs(
            *((len(places) * look[:, None] + atom).flatten() for atom in pairs[:2]), pairs.distance.repeat(len(alike))
        )
        answers = model.answer(features, torch.cat(there), look.repeat_interleave(len(places)), of_each)
        parts = zip(*(part.tensor_split(len(alike)) for part in answers), strict=True)
        for symmetry, one in zip(alike, map(Answers._make, parts), strict=True):
            shift = torch.cat([symmetry.vector_back(one.shift[:, :2]), one.shift[:, 2:]], 1)
            across = [1, 0, 2] if symmetry.turns % 2 else [0, 1, 2]
            said.append(one._replace(shift=shift, log_variance=one.log_variance[:, across]))
    mean = Answers(*(torch.stack(parts).mean(0).cpu() for parts in zip(*said, strict=True)))
    within = torch.stack([answers.log_variance.exp() for answers in said]).mean(0)
    shifts = torch.stack([answers.shift for answers in said])
    between = (shifts - shifts.mean(0)).square().mean(0)  # how the looks differ
    mean = mean._replace(log_variance=(within + between).log().cpu())
    return View(image.cpu(), places.cpu(), mean, Pairs(*(part.cpu() for part in pairs)))


def _laid(df: Tensor, multiple: int) -> tuple[tuple[int, int], Tensor]:
    """Return how many pixels come before a stack (1, X, Y, Z) along x and y, and it between repeated edges.

    X and Y become multiples of a number. Where Δf changes is the molecule; its centre comes to lie at such a multiple.
    """
    steep = torch.stack(torch.gradient(df[0].cpu().double().mean(2))).square().sum(0) + torch.finfo(torch.double).tiny
    sides = []
    for profile in (steep.sum(1), steep.sum(0)):
        centre = int((profile * torch.arange(len(profile))).sum() / profile.sum())
        sides.append((-(centre + 1) % multiple, (centre + 1 - len(profile)) % multiple))
    x, y = sides
    return (x[0], y[0]), pad(df.permute(0, 3, 1, 2), (*y, *x), mode="replicate").permute(0, 2, 3, 1)


def _batches(looks: Sequence[Sequence[Symmetry]], pixels: int) -> list[Sequence[Symmetry]]:
    """Return looks of one shape each in smaller batches: of at most `AT_ONCE` pixels, or of one look."""
    count = max(1, AT_ONCE // pixels)
    return [alike[i : i + count] for alike in looks for i in range(0, len(alike), count)]


def graph_of(seen: View, x: Array, y: Array, temperatures: Temperatures) -> Graph:
    """Return the graph of a stack on pixels at x (X,) and y (Y,), Å."""
    answers, count = seen.answers, len(seen.places)
    first, pixel = np.array([x[0], y[0]]), np.array([x[1] - x[0], y[1] - y[0]])
    positions = np.asarray(answers.shift, np.float64).copy()
    positions[:, :2] += first + np.asarray(seen.places, np.float64) * pixel
    bonds = np.zeros((count, count, len(ORDERS)))
    bonds[..., 0] = 1.0
    a, b = seen.pairs.first.numpy(), seen.pairs.second.numpy()
    bonds[a, b] = bonds[b, a] = _probabilities(answers.bonds, temperatures.bonds)
    return Graph(
        positions=positions,
        exists=(answers.exists / temperatures.exists).double().sigmoid().numpy(),
        elements=_probabilities(answers.elements, temperatures.elements),
        bonds=bonds,
        missing=_probabilities(answers.missing, temperatures.missing),
        sigma=temperatures.sigma * np.exp(answers.log_variance.double().numpy() / 2),
    )


def settle(model: GraphNet, batches: Sequence[Examples]) -> Temperatures:
    """Return the temperatures that make the truth of examples most likely."""
    logits: dict[str, list[Tensor]] = {name: [] for name in ("exists", "elements", "missing", "bonds")}
    truths: dict[str, list[Tensor]] = {name: [] for name in logits}
    errors = [torch.empty(0)]
    for batch in batches:
        for i in range(len(batch)):
            seen, one = view(model, batch.df[i, None]), batch[i : i + 1]
            axes = [axis[0].cpu() for axis in (one.x, one.y)]
            found = torch.stack([a[0] + seen.places[:, k] * (a[1] - a[0]) for k, a in enumerate(axes)], 1)
            truth = truth_of(one.to("cpu"), found, torch.zeros(len(found), dtype=torch.long), seen.pairs)
            known = truth.exists
            both = known[seen.pairs.first] & known[seen.pairs.second]
            off = torch.cat([found + seen.answers.shift[:, :2], seen.answers.shift[:, 2:]], 1) - truth.positions
            errors.append((off.square() / seen.answers.log_variance.exp())[known].flatten())
            for name, keep in (("exists", ...), ("elements", known), ("missing", known), ("bonds", both)):
                logits[name].append(getattr(seen.answers, name)[keep])
                truths[name].append(getattr(truth, name)[keep])
    settled = {name: _settled(torch.cat(logits[name]), torch.cat(truths[name])) for name in logits}
    squared = torch.cat(errors)
    spread = float(squared.mean().sqrt()) if len(squared) else 1.0
    return Temperatures(**settled, sigma=min(max(spread, COLDEST), HOTTEST))


def _settled(logits: Tensor, truth: Tensor) -> float:
    if not len(truth):
        return 1.0

    def loss(log_temperature: float) -> float:
        cooled = logits / np.exp(log_temperature)
        if truth.dtype == torch.bool:
            return float(binary_cross_entropy_with_logits(cooled, truth.float()))
        return float(cross_entropy(cooled, truth))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded").x))


def _probabilities(logits: Tensor, temperature: float) -> Array:
    probabilities: Array = (logits / temperature).double().softmax(-1).numpy()
    return probabilities
