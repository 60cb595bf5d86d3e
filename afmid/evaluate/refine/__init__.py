"""Refinement: the atoms of an answer are moved until their simulation reproduces the scan.

docs/explanation/refinement.md says why it is done like this and what its numbers mean.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from afmid.errors import DataError
from afmid.identification import Atom, Candidate, Identification
from afmid.molecule import Molecule
from afmid.scan import Scan

if TYPE_CHECKING:
    from torch import Tensor

    from afmid.evaluate.refine.fit import Fit, Model
    from afmid.evaluate.refine.swaps import Trial

SUPPORT = 3.0  # standard deviations by which an atom's presence must differ from none


class RefineOptions(BaseModel, extra="forbid", frozen=True):
    """How an answer is refined."""

    iterations: int = Field(12, ge=1, le=200, description="most iterations of each of its four fits")
    pixels: int = Field(8000, ge=100, le=100_000, description="most pixels that are used")
    noise: float | None = Field(None, gt=0, description="noise of the scan, Hz; estimated from the scan by default")
    tip: bool = Field(True, description="fit the tip along: stiffness, charges, tilt, and the size of all atoms")
    swaps: bool = Field(True, description="try other elements where the scan asks for it")


@dataclass(frozen=True, eq=False)
class Refinement:
    """A molecule that reproduces a scan.

    Attributes:
        molecule: in the scan's frame (x, y and z).
        sigma: standard deviations of the positions (N, 3), Å.
        presence: of each atom (N,): how much of its force the scan asks for, 1 for all; `presence_sigma` (N,).
        supported: whether the scan tells that the atom is there (N,).
        fit_before, fit_after: correlation with the scan over all images, the mean of each taken off.
        rms_before, rms_after: of what is left, Hz.
        noise: of one value of the scan, Hz.
        scatter: what uncertainties are made with, Hz: the noise, or more where the model errs.
        tip: parameters by name: value and standard deviation.
        swaps: the other elements that came closest, by gain.
        iterations: of the fits before other elements were tried.
        seconds: how long all took.
        converged: whether the last fit came to rest.
    """

    molecule: Molecule
    sigma: NDArray[np.float64]
    presence: NDArray[np.float64]
    presence_sigma: NDArray[np.float64]
    supported: NDArray[np.bool_]
    fit_before: float
    fit_after: float
    rms_before: float
    rms_after: float
    noise: float
    scatter: float
    tip: Mapping[str, tuple[float, float]]
    swaps: "tuple[Trial, ...]"
    iterations: int
    seconds: float
    converged: bool

    def record(self) -> dict[str, Any]:
        """Return all but the molecule's bonds and charges, ready for JSON; keys say the units."""
        return {
            "fit_before": self.fit_before, "fit_after": self.fit_after,
            "rms_before_hz": self.rms_before, "rms_after_hz": self.rms_after,
            "noise_hz": self.noise, "scatter_hz": self.scatter,
            "iterations": self.iterations, "seconds": self.seconds, "converged": self.converged,
            "tip": {name: {"value": value, "sigma": sigma} for name, (value, sigma) in self.tip.items()},
            "atoms": [
                {
                    "element": symbol, **dict(zip(("x_angstrom", "y_angstrom", "z_angstrom"), place, strict=True)),
                    "sigma_angstrom": sigma, "presence": presence, "presence_sigma": uncertain, "supported": supported,
                }
                for symbol, place, sigma, presence, uncertain, supported in zip(
                    self.molecule.symbols, self.molecule.positions.tolist(), self.sigma.tolist(),
                    self.presence.tolist(), self.presence_sigma.tolist(), self.supported.tolist(), strict=True,
                )
            ],
            "swaps": [trial.record() for trial in self.swaps],
        }  # fmt: skip


def refine(
    scan: Scan,
    molecule: Molecule,
    options: RefineOptions | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Refinement:
    """Move a molecule until its simulation reproduces a scan.

    Args:
        scan: of Δf. What it does not say (amplitude, f0, stiffness) is taken as usual.
        molecule: x and y in the scan's frame; its height is searched. Without charges it gets MMFF94's.
        options: see there.
        progress: called now and then with a line on how it goes.

    Raises:
        DataError: a scan or a molecule that cannot be refined, or values so large that the fit breaks down.
    """
    from afmid.chem import with_charges
    from afmid.evaluate.refine.fit import Fit, Measured, Model, far_first, fits, tip_of
    from afmid.evaluate.refine.height import placed
    from afmid.evaluate.refine.swaps import swapped

    options, start = options or RefineOptions(), time.perf_counter()
    measured, tip = Measured.of(scan, molecule, options.pixels, options.noise), tip_of(scan)
    if not molecule.charges.any():
        molecule = with_charges(molecule)
    model = Model(measured, placed(measured, molecule, tip, scan.z_reference), tip, options.tip)
    before = model.compare(model.start(), len(scan.z))[0]

    def told(fit: Fit) -> Fit:
        images, left = fit.residual.shape[2], float(fit.residual.std())
        progress(f"{images} images, iteration {fit.iterations}: {left:.3g} Hz are left")
        if not np.isfinite(left):
            raise DataError("the simulation is beyond all numbers; are Δf (Hz), z (Å) and the tip of the scan right?")
        return fit

    *early, fit = (told(fit) for fit in far_first(model.thinned(), model.start(), options.iterations))
    *late, fit = (told(fit) for fit in fits(model, fit.theta, len(scan.z), options.iterations))
    iterations = len(early) + len(late) + 2
    trials: tuple[Trial, ...] = ()
    if options.swaps:
        model, fit, trials = swapped(model, fit, options.iterations, progress)
    return _summary(model, fit, before, trials, iterations, time.perf_counter() - start)


def _summary(
    model: "Model", fit: "Fit", before: "Tensor", trials: "tuple[Trial, ...]", iterations: int, seconds: float
) -> Refinement:
    from afmid.evaluate.refine.fit import scatter
    from afmid.evaluate.refine.uncertainty import deviations, presences

    variance = scatter(fit, model.atoms)
    sigma, tip = deviations(model, fit, variance)
    presence, presence_sigma = presences(model, fit, variance)
    df = model.measured.df
    return Refinement(
        molecule=model.moved(fit.theta),
        sigma=sigma,
        presence=presence,
        presence_sigma=presence_sigma,
        supported=presence > SUPPORT * presence_sigma,
        fit_before=correlation(df, df - before),
        fit_after=correlation(df, df - fit.residual),
        rms_before=float(before.std()),
        rms_after=float(fit.residual.std()),
        noise=model.measured.noise,
        scatter=variance**0.5,
        tip=tip,
        swaps=trials,
        iterations=iterations,
        seconds=seconds,
        converged=fit.converged,
    )


def correlation(a: "Tensor", b: "Tensor") -> float:
    """Return the correlation of two stacks (X, Y, Z), the mean of each image taken off; 0 where one is flat."""
    a, b = (stack - stack.mean((0, 1)) for stack in (a, b))
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size else 0.0


def refined(answer: Identification, refinement: Refinement) -> Identification:
    """Return an answer with what refinement found of its `molecule`.

    Atoms without elements stay where they are, and the best candidate's molecule takes the new places.
    """
    molecule = refinement.molecule.topmost_at_zero()
    meta = {**answer.meta, "refinement": refinement.record()}
    if not answer.atoms or any(atom.element is None for atom in answer.atoms):
        moved = next(candidate for candidate in answer.candidates if candidate.molecule)
        candidates = tuple(_moved(c, molecule) if c is moved else c for c in answer.candidates)
        return replace(answer, candidates=candidates, fit=refinement.fit_after, meta=meta)
    atoms = tuple(
        Atom(symbol, x, y, z, _confidence(i, atom, refinement), (sx, sy, sz))
        for i, (atom, symbol, (x, y, z), (sx, sy, sz)) in enumerate(
            zip(answer.atoms, molecule.symbols, molecule.positions.tolist(), refinement.sigma.tolist(), strict=True)
        )
    )
    same = all(atom.element == before.element for atom, before in zip(atoms, answer.atoms, strict=True))
    smiles = answer.smiles if same else _smiles(molecule)
    return replace(answer, atoms=atoms, smiles=smiles, fit=refinement.fit_after, meta=meta)


def _confidence(index: int, atom: Atom, refinement: Refinement) -> float:
    """Return the confidence in an atom: that of its new element where that changed, less where the scan is silent."""
    confidence = atom.confidence
    for trial in refinement.swaps:
        if trial.adopted and index in trial.changes and trial.changes[index][1] == refinement.molecule.symbols[index]:
            confidence = trial.probability
    if refinement.supported[index]:
        return confidence
    odds = (2 * refinement.presence[index] - 1) / (2 * refinement.presence_sigma[index] ** 2)  # there against not there
    return confidence / (1 + float(np.exp(-np.clip(odds, -50, 50))))


def _moved(candidate: Candidate, molecule: Molecule) -> Candidate:
    """Return a candidate as it lies now; of other elements it is another molecule."""
    from afmid.chem import formula, inchikey

    if candidate.molecule and candidate.molecule.symbols == molecule.symbols:
        return replace(candidate, molecule=molecule)
    smiles = _smiles(molecule)
    names = (smiles, inchikey(smiles), formula(smiles)) if smiles else ("", "", "")
    return Candidate(*names, candidate.score, candidate.scores, replace(molecule, name="", smiles=names[0]))


def _smiles(molecule: Molecule) -> str | None:
    from afmid.chem import smiles_of

    try:
        return smiles_of(molecule)
    except DataError:
        return None
