"""`afmid simulate`: molecules to scans."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from afmid.cli.options import Device, Force, Settings, registry, with_options
from afmid.cli.output import STANDARD, check_binary_stdout, check_file, is_folder, note, with_folder
from afmid.errors import UsageError
from afmid.simulate import SimulationOptions

if TYPE_CHECKING:
    from afmid.molecule import Molecule


@with_options(SimulationOptions, "options")
def simulate(
    molecules: Annotated[list[str], typer.Argument(metavar="MOLECULE", hidden=True)],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PATH", help="scan file, folder, or - for stdout [default: NAME.npz]"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="draw the images into this png, pdf or svg")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", metavar="NAME", help="what simulates; auto: the fastest")] = "auto",
    device: Device = "auto",
    settings: Settings = None,
    force: Force = False,
    *,
    options: SimulationOptions,
) -> None:
    """Simulate the scan of a molecule: Δf images at constant heights, far to near, with the molecule as their truth.

    MOLECULE is a file (xyz, sdf, mol), a SMILES, a name such as PTCDA, or - for stdin. It is scanned as it lies, from
    +z; one without a geometry is laid flat. Engines and what --set sets of them: afmid plugins.

    \b
    afmid simulate pentacene --plot pentacene.png
    afmid simulate molecule.xyz -o scan.npz --tip Xe --amplitude 0.3
    afmid simulate 'c1ccc2ccccc2c1' -o - | afmid identify -
    """
    from afmid.io import read_molecule, write_scan
    from afmid.simulate import load_engine
    from afmid.simulate import simulate as run

    if len(molecules) > 1 and (plot or output == STANDARD or (output and not is_folder(output))):
        raise UsageError("several molecules need -o FOLDER/ and no --plot")
    if output == STANDARD:
        check_binary_stdout()
    _, simulator = load_engine(engine, device, settings or (), registry())
    known = [read_molecule(molecule) for molecule in molecules]
    targets = _targets(known, output)
    for target in [*targets, *([plot] if plot else [])]:
        check_file(target, force)
    scans = list(run(known, options, simulator))
    if plot:
        from afmid.report.picture import draw_scan

        draw_scan(scans[0], with_folder(plot))
    for scan, target in zip(scans, targets, strict=False):
        write_scan(scan, with_folder(target))
        if output != str(target):
            note(f"wrote {target}")
    if output == STANDARD:
        write_scan(scans[0], STANDARD)


def _targets(molecules: "list[Molecule]", output: str | None) -> list[Path]:
    """Return the file of each scan: the one named, or one that bears the molecule's name; none for stdout."""
    if output == STANDARD:
        return []
    if output and not is_folder(output):
        return [Path(output)]
    names: list[str] = []
    for molecule in molecules:
        name = _file_name(molecule)
        twins = sum(re.sub(r"-\d+$", "", other) == name for other in names)
        names.append(f"{name}-{twins + 1}" if twins else name)
    return [Path(output or "") / f"{name}.npz" for name in names]


def _file_name(molecule: "Molecule") -> str:
    from afmid.chem import formula

    name = molecule.name or (formula(molecule.smiles) if molecule.smiles else "")
    return re.sub(r"[^\w.+-]+", "_", name).strip("_.") or "molecule"
