"""How well the predictor of afmid-soap says SOAP spectra, under the protocol of the study that proposed it.

Ten random atoms in the cube [−1, 1]³ Å, of two or three classes; l_max 3, n_max 4, cutoff 4 Å. The molecule grows atom
by atom, and after each the spectra of all atoms that are there are predicted; the mean squared error is of the
descriptor's own units, over the entries of pairs of classes that are there. It trains the predictor first, on atoms
drawn anew for each step; a run that was stopped goes on with the same command, and one that is done is only measured.
"""

import argparse
import hashlib
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import report
import torch

from afmid.data.examples import Examples
from afmid.training import fit
from afmid_soap.options import SoapRecipe
from afmid_soap.predictor_task import ATOMS, PredictorTask, predicted

CLASSES = (1, 6, 7)  # elements that stand for three classes
PUBLISHED = {"mse": 11.80, "mse_with_first": 10.47}
COLUMNS = {
    "mse": "first atom apart", "mse_with_first": "first atom counted", "mse_one_step": "told the truth each time",
    "mean_square": "mean square of the truth",
}  # fmt: skip


@dataclass(frozen=True)
class RandomAtoms:
    """Examples without images: ten atoms in a cube."""

    recipe: SoapRecipe

    @property
    def sha256(self) -> str:
        """Of the protocol."""
        return hashlib.sha256(f"{ATOMS} atoms in [-1, 1]^3 of 2 or 3 classes".encode()).hexdigest()

    def batch(self, step: int) -> Examples:
        """Return the atoms of a step."""
        return self._drawn(self.recipe.batch, (self.recipe.seed, step))

    def validation(self) -> list[Examples]:
        """Return atoms that no step has, in batches."""
        return [self._drawn(100, (1 + self.recipe.seed, 2**32 + i)) for i in range(self.recipe.validation_scans // 100)]

    def _drawn(self, count: int, key: tuple[int, int]) -> Examples:
        rng = np.random.default_rng(key)
        kinds = rng.integers(2, 4, (count, 1))
        shift = rng.integers(0, 3, (count, 1))  # which two of the three
        numbers = np.array(CLASSES)[(rng.integers(0, kinds, (count, ATOMS)) + shift) % 3]
        nothing = torch.zeros(count, 0)
        return Examples(
            df=torch.zeros(count, 1, 1, 10), maps=torch.zeros(count, 0, 1, 1), numbers=torch.tensor(numbers),
            positions=torch.tensor(rng.uniform(-1, 1, (count, ATOMS, 3)), dtype=torch.float32),
            charges=torch.zeros(count, ATOMS), bonds=torch.zeros(count, 0, 2, dtype=torch.int64), orders=nothing,
            x=torch.zeros(count, 1), y=torch.zeros(count, 1), z=torch.zeros(count, 10), tilt=torch.zeros(count, 2),
        )  # fmt: skip


def main() -> None:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--run", type=Path, default=Path("runs/soap-predictor"), help="folder of the run")
    parser.add_argument("--steps", type=int, default=1500, help="of 100 molecules each")
    parser.add_argument("--molecules", type=int, default=1000, help="in the test")
    options = parser.parse_args()
    recipe = SoapRecipe(
        architecture="predictor", classes=3, n_max=4, l_max=3, steps=options.steps, warmup=50, validate_every=250,
        validation_scans=200,
    )  # fmt: skip
    task = PredictorTask(recipe, "cpu")
    with closing(fit(task, RandomAtoms(recipe), recipe, options.run)) as steps:
        for progress in steps:
            if progress.validation:
                mse, rate = progress.validation["mse"], progress.rate
                sys.stderr.write(f"step {progress.step}: mean squared error {mse:.3g}, {rate:.0f} molecules/s\n")
    state = torch.load(options.run / "last.ckpt", map_location="cpu", weights_only=True)
    task.model.load_state_dict(state["averaged"])
    seconds = float(state["seconds"])
    test = RandomAtoms(recipe.model_copy(update={"seed": 10**6, "validation_scans": options.molecules}))
    figures = predicted(task.model.eval(), test.validation())
    learnt = f"afmid, {options.steps * recipe.batch:,} molecules, {seconds / 60:.0f} min"
    rows: list[dict[str, Any]] = [{"predictor": learnt, **figures}, {"predictor": "published", **PUBLISHED}]
    lines = [[row["predictor"], *(report.short(row.get(key)) for key in COLUMNS)] for row in rows]
    report.publish(options, "soap-predictor", rows, report.table(["predictor", *COLUMNS.values()], lines), "")


if __name__ == "__main__":
    main()
