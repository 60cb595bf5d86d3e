"""The electric field against that of a DFT Hartree potential, from the scans of a CO and a Xe tip, and of CO alone.

The files are those of https://github.com/SINGROUP/ED-AFM (MIT): of each sample NAME the stacks NAME_CO.npz and
NAME_Xe.npz and the field NAME_esmap.npy (V/Å, 4 Å above the top atom). A sample is named with the width of its
window in Å where its files tell a wrong one: Water=18.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import ours
import report

from afmid.evaluate import map_figures
from afmid.io.scans import read_scan


def main() -> None:
    options = _arguments()
    identifier, method = ours.method(options.ours)
    rows: list[dict[str, Any]] = []
    for sample in options.samples:
        name, _, width = sample.partition("=")
        truth = np.load(options.folder / f"{name}_esmap.npy", allow_pickle=False)
        pixel = float(width) / len(truth) if width else None
        scans = [read_scan(options.folder / f"{name}_{tip}.npz", pixel=pixel, tip=tip) for tip in ("CO", "Xe")]
        for tips, seen in (("CO + Xe", scans), ("CO", scans[:1])):
            if len(seen) > 1 and method.second != "Xe":
                continue  # these weights do not look at it
            answer = method.identify(seen, identifier.options())
            figures = map_figures("field", answer.maps["field"].values, truth, "volt_per_angstrom")
            rows.append({"sample": name, "tips": tips, "mean square": float(np.square(truth).mean()), **figures})
    header = ["sample", "tips", "relative error", "correlation", "mean square of the truth, (V/Å)²"]
    cells = ("field_relative_error", "field_correlation", "mean square")
    lines = [[row["sample"], row["tips"], *(report.short(row[cell]) for cell in cells)] for row in rows]
    report.publish(options, "field", rows, report.table(header, lines), "")


def _arguments() -> argparse.Namespace:
    parser = report.parser(__doc__, timed=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path, help="where the files lie")
    parser.add_argument("samples", nargs="*", default=["BCB", "Water=18"], help="which [default: BCB Water=18]")
    ours.add_option(parser)
    return parser.parse_args()


if __name__ == "__main__":
    main()
