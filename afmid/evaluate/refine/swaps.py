"""Other elements: where a refined molecule leaves more than noise, atoms of one valence are exchanged.

An element and the height of its atom are nearly degenerate, and the rest of the molecule and the tip give way too. So
each trial gets the charges of the new molecule, and is refined from the answer on before it is compared.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from afmid.chem import mmff_charges
from afmid.evaluate.refine.fit import Fit, Model, explained, far_first, far_images, fits, scatter
from afmid.molecule import LEARNT, SYMBOLS, Molecule

ALIKE = ((9, 17, 35, 53), (1, 9), (8, 16), (7, 15))  # elements that take each other's place
NEAR = 1.2  # Å: pixels this near an atom tell of it
SUSPECT = 1.1  # of χ² per value that are left there
MOVED = 2.5  # standard deviations of its prior that an atom moved: suspect as well
MOST = 16  # trials in a round, the most suspect first
ROUNDS = 3
EXPLAINED = 0.7  # of the scan's variance: what explains less has more wrong with it than elements
SHORT, MORE, FINALISTS = 4, 10, 4  # iterations of all trials; the most of each later fit; of how many trials
GAIN = 10.0  # of χ²: less adopts nothing; 0.993 for one trial
CERTAIN = 0.999  # the most that is said: what all probabilities rest on, the model, is less certain than that


@dataclass(frozen=True)
class Trial:
    """Elements tried in place of those given.

    Attributes:
        changes: atoms (indices) and the elements they had and got.
        gain: by how much χ² falls.
        probability: of these elements against all others tried with them, each as likely beforehand, if the model is
            right; no more than CERTAIN.
        adopted: whether the refined molecule has them.
    """

    changes: dict[int, tuple[str, str]]
    gain: float
    probability: float
    adopted: bool

    def record(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        changes = [{"atom": atom, "from": old, "to": new} for atom, (old, new) in self.changes.items()]
        return {"changes": changes, "chi2_gain": self.gain, "probability": self.probability, "adopted": self.adopted}


def swapped(
    model: Model, fit: Fit, iterations: int, progress: Callable[[str], None]
) -> tuple[Model, Fit, tuple[Trial, ...]]:
    """Return the model with the elements that fit best, its fit of so many iterations, and what else came close."""
    if explained(model.measured, fit) < EXPLAINED:
        progress("no other elements are tried: the molecule explains too little of the scan")
        return model, fit, ()
    trials: list[Trial] = []
    for _ in range(ROUNDS):
        changes = _suspects(model, fit)
        if not changes:
            break
        changes, others, briefs = _finalists(model, changes, progress)
        *_, null = fits(model.thinned(), fit.theta, fit.residual.shape[2], MORE)
        noise, share = min(brief.noise for brief in (null, *briefs)), fit.residual.numel() / null.residual.numel()
        variance = scatter(fit, model.atoms)
        gains = np.array([share * (null.cost(noise) - brief.cost(noise)) / variance for brief in briefs])
        best = int(gains.argmax())
        adopted = None
        if gains[best] > GAIN:
            other = Model(model.measured, others[best].molecule, model.tip, model.fit_tip)
            *_, after = fits(other, briefs[best].theta, fit.residual.shape[2], iterations)
            noise = min(fit.noise, after.noise)
            variance, before = scatter(after, model.atoms), variance  # that of the better model counts
            gains *= before / variance
            gains[best] = (fit.cost(noise) - after.cost(noise)) / variance
            adopted = best if gains[best] > GAIN else None
        chances = np.exp((np.append(gains, 0) - max(0.0, gains.max())) / 2)
        chances = np.minimum(chances / chances.sum(), CERTAIN)
        kept = float(chances[-1])  # of what earlier rounds found
        trials = [replace(t, probability=t.probability * kept) if t.adopted and adopted is None else t for t in trials]
        trials += [
            Trial(_named(model.molecule, change), float(gain), float(chance), i == adopted)
            for i, (change, gain, chance) in enumerate(zip(changes, gains, chances[:-1], strict=True))
        ]
        if adopted is None:
            break
        model, fit = other, after
        progress(f"other elements are adopted, for {gains[adopted]:.0f} of χ²")
    return model, fit, tuple(sorted(trials, key=lambda trial: -trial.gain))


def _suspects(model: Model, fit: Fit) -> list[dict[int, int]]:
    """Return changes (atom to new number) of atoms that leave more than noise or had to move far, the worst first."""
    molecule, measured = model.moved(fit.theta), model.measured
    excess = fit.residual.square().mean(-1).numpy() / measured.noise**2  # (X, Y)
    suspicion = np.array([
        excess[np.hypot(*np.meshgrid(measured.x - x, measured.y - y, indexing="ij")) < NEAR].mean()
        if measured.x[0] < x < measured.x[-1] and measured.y[0] < y < measured.y[-1] else 0.0
        for x, y, _ in molecule.positions.tolist()
    ])  # fmt: skip
    far = fit.theta[: model.atoms].reshape(-1, 3).norm(dim=1).numpy() / MOVED
    suspicion = np.maximum(suspicion / SUSPECT, far)
    changes = [change for change in _changes(molecule.numbers) if suspicion[[*change]].max() > 1]
    return sorted(changes, key=lambda change: -float(suspicion[[*change]].mean()))[:MOST]


def _changes(numbers: NDArray[np.int64]) -> Iterator[dict[int, int]]:
    """Yield all pairs of atoms that may be exchanged, and each atom's other elements."""
    others = {number: {other for kind in ALIKE if number in kind for other in kind} - {number} for number in LEARNT}
    known = [(i, number) for i, number in enumerate(numbers.tolist()) if others.get(number)]
    for at, (i, number) in enumerate(known):
        yield from ({i: other, j: number} for j, other in known[at + 1 :] if other in others[number])
        yield from ({i: other} for other in sorted(others[number]))


def _finalists(
    model: Model, changes: Sequence[dict[int, int]], progress: Callable[[str], None]
) -> tuple[list[dict[int, int]], list[Model], list[Fit]]:
    """Return the changes that do best in a brief fit, each with its model on fewer pixels and a longer fit."""
    others = [model.thinned(_with_elements(model.molecule, change)) for change in changes]
    far, brief = far_images(model.measured)[0], []
    for i, other in enumerate(others, 1):
        brief.append(_last(fits(other, other.start(), far, SHORT)))
        progress(f"{i} of {len(others)} other choices of elements are tried")
    noise = min(fit.noise for fit in brief)
    best = sorted(range(len(changes)), key=lambda i: brief[i].cost(noise))[:FINALISTS]
    fitted = [_last(far_first(others[i], brief[i].theta, MORE)) for i in best]
    return [changes[i] for i in best], [others[i] for i in best], fitted


def _last(steps: Iterable[Fit]) -> Fit:
    """Return the last of some fits, without its derivatives: those of all trials would fill the memory."""
    return deque(steps, 1).pop()._replace(jacobian=torch.empty(0))


def _with_elements(molecule: Molecule, change: dict[int, int]) -> Molecule:
    """Return a molecule with other elements, and with charges that differ by what MMFF94's differ."""
    numbers = molecule.numbers.copy()
    numbers[[*change]] = [*change.values()]
    other = replace(molecule, numbers=numbers, smiles="")
    before, after = mmff_charges(molecule), mmff_charges(other)
    if before is None or after is None:
        return other
    return replace(other, charges=molecule.charges + after - before)


def _named(molecule: Molecule, change: dict[int, int]) -> dict[int, tuple[str, str]]:
    return {atom: (molecule.symbols[atom], SYMBOLS[number]) for atom, number in change.items()}
