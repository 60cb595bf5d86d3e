"""How fast SOAP spectra are computed, by dscribe and by afmid's torch, in one run and one thread each.

Molecules are random atoms at the density of an organic one; spectra are those of the graph network: five classes, n_max
3, l_max 2, cutoff 4 Å. dscribe takes one molecule after the other, in double precision; with gradients torch computes
those of the sum with respect to all places, too. The predictor says them after the last atom has come.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import report
import torch

from afmid_soap.power_spectrum import Soap
from afmid_soap.predictor import Predictor
from afmid_soap.reference import DscribeSoap

DENSITY = 0.1  # atoms per Å³
SIZES = (10, 40, 160)


def main() -> None:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--batch", type=int, default=32, help="molecules that torch computes at once")
    parser.add_argument("--repeat", type=int, default=7, help="how often; the median counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    soap, rows = Soap(), []
    reference, predictor = DscribeSoap(soap), Predictor()
    for atoms in SIZES:
        rng = np.random.default_rng(atoms)
        side = (atoms / DENSITY) ** (1 / 3)
        positions = torch.tensor(rng.uniform(0, side, (options.batch, atoms, 3)))
        classes = torch.tensor(np.eye(soap.classes)[rng.integers(soap.classes, size=(options.batch, atoms))])

        def forward(compute: Callable, dtype: torch.dtype, gradient: bool = False) -> float:
            places, kinds = positions.to(dtype).requires_grad_(gradient), classes.to(dtype)  # noqa: B023
            times = []
            for _ in range(options.repeat):
                begun = time.perf_counter()
                spectra = compute(places, kinds, places)
                if gradient:
                    spectra.sum().backward()
                times.append(time.perf_counter() - begun)
            return statistics.median(times) / options.batch

        new = torch.full((options.batch,), atoms - 1)

        @torch.no_grad()
        def predicted(places: torch.Tensor, kinds: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
            return predictor(places, kinds, places.new_zeros(*kinds.shape[:2], soap.pairs, soap.entries), new)  # noqa: B023

        seconds = {
            "dscribe": forward(reference, torch.float64),
            "torch, double": forward(soap, torch.float64),
            "torch, single": forward(soap, torch.float32),
            "torch, single, with gradients": forward(soap, torch.float32, gradient=True),
            "predictor": forward(predicted, torch.float32),
        }
        rows.append({"atoms": atoms, **seconds})
    names = [name for name in rows[0] if name != "atoms"]
    cells = [[f"{1e3 * row[name]:.2g} ms ({row['dscribe'] / row[name]:.2g} ×)" for name in names] for row in rows]
    lines = [[str(row["atoms"]), *own] for row, own in zip(rows, cells, strict=True)]
    report.publish(options, "soap-speed", rows, report.table(["atoms", *names], lines), "")


if __name__ == "__main__":
    main()
