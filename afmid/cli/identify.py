"""`afmid identify`: scans to answers."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from afmid.cli.methods import Loaded, MethodName, Weights, by_pixels, load, wanted
from afmid.cli.options import (
    Device,
    Force,
    Json,
    Order,
    Pixel,
    Settings,
    Step,
    TipName,
    check_inputs,
    registry,
)
from afmid.cli.output import STANDARD, check_file, is_folder, note, print_preview, print_table, with_folder
from afmid.cli.stages import Candidates, Refine, Top
from afmid.errors import DataError, UsageError
from afmid.text import line

if TYPE_CHECKING:
    from afmid.identification import Identification
    from afmid.scan import Scan

CONFIDENT = 0.5
SHOWN = 5  # candidates, in words
ALIKE = 0.01  # of the score
SHARED = 0.5  # of the narrower of two scans of one sample, along each side
FAILED, NO_ANSWER = 1, 3  # exit codes
ATOMS, MOLECULE = "atoms.xyz", "molecule.sdf"  # in a folder, where there are some
IN_FOLDER = ("result.json", "maps.npz", ATOMS, MOLECULE, "picture.png", "report.html")
SUFFIXES = (".json", ".npz", ".xyz", ".sdf", ".png", ".html")


def identify(
    scans: Annotated[list[str], typer.Argument(metavar="SCAN", hidden=True)],
    method: MethodName = None,
    weights: Weights = None,
    second: Annotated[
        str | None, typer.Option("--second", metavar="SCAN", help="scan of the same sample taken with another tip")
    ] = None,
    device: Device = "auto",
    settings: Settings = None,
    candidates: Candidates = None,
    top: Top = None,
    refine: Refine = False,
    preview: Annotated[bool, typer.Option("--preview", help="draw the scan and the atoms in the terminal")] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="folder/ for all results, or a json, npz, xyz, sdf, png, html"
        ),
    ] = None,
    json_: Json = False,
    pixel: Pixel = None,
    step: Step = None,
    order: Order = None,
    tip: TipName = None,
    second_tip: Annotated[
        str | None, typer.Option("--second-tip", metavar="NAME", help="tip of the second scan, if its file tells none")
    ] = None,
    force: Force = False,
) -> None:
    """Say what a scan shows: maps, atoms, bonds, the molecule, and how sure that is.

    SCAN is a file of afmid or ppafm (npz), a bare stack of images (npy, npz) with --pixel and --step, or - for stdin.
    A folder/ receives result.json, maps.npz, atoms.xyz, molecule.sdf, picture.png and the page report.html; with
    several scans or methods, one folder for each. --second brings what another tip shows of the same place, such as Xe
    beside CO, for methods that learn from both. Exit code 3: the answer is empty, or a method that gives atoms found
    none with a confidence of 0.5. Methods and what --set sets of them: afmid plugins.

    \b
    afmid identify scan.npz -o result/
    afmid identify scan.npz --candidates pack.npz --refine -o result/
    afmid identify co.npz --second xe.npz -o result/
    afmid identify stack.npy --pixel 0.125 --step 0.1 --json
    afmid identify scan.npz --method all -o result/
    """
    known = registry()
    asked = wanted(known, method, settings, candidates, top, refine)
    json_ = json_ or output == STANDARD
    targets = _targets(scans, asked.names, None if output == STANDARD else output)
    inputs = _inputs(scans, second, second_tip)
    check_inputs(inputs)
    for file in (file for files in targets.values() for file in files):
        check_file(file, force)
        if any(file.exists() and scan != STANDARD and file.samefile(scan) for scan in inputs):
            raise UsageError(f"{file}: is the scan itself; give the answer another name")

    from afmid.io import read_scan

    loaded: list[Loaded] = []
    failed = confident = False
    for path in scans:
        try:
            sample = [read_scan(path, pixel=pixel, step=step, order=order, tip=tip)]
            paths = [path]
            if second is not None:
                sample.append(read_scan(second, pixel=pixel, step=step, order=order, tip=second_tip))
                paths.append(second)
                _check_pair(sample[0], sample[1], second)
            loaded = loaded or load(known, asked, weights, device)
            for part in loaded:
                answer = part.answer(sample, paths)
                shown = [sample[i] for i in by_pixels(sample, answer)]
                files = targets.get((path, part.identifier.name), [])
                _report(path, answer, _write(shown, answer, files), json_)
                if preview:
                    print_preview(shown[0], answer, to_stderr=json_)
                confident |= is_confident(answer, part.identifier.gives)
        except DataError as error:  # the other scans are wanted all the same
            note(str(error))
            failed = True
    if failed:
        raise typer.Exit(FAILED)
    if not confident:
        note(f"no confident answer: nothing was found that reaches {CONFIDENT}")
        raise typer.Exit(NO_ANSWER)


def is_confident(answer: "Identification", gives: Sequence[str]) -> bool:
    """Return whether an answer is not empty and, where the method gives atoms, holds one that is likely.

    Of a library some molecule always is the best: it counts where it fits the scan.
    """
    if answer.smiles or answer.picture is not None:
        return True
    if answer.candidates and (answer.fit is None or answer.fit >= CONFIDENT):
        return True
    if answer.atoms or "atoms" in gives:
        return any(atom.confidence >= CONFIDENT for atom in answer.atoms)
    return bool(answer.maps)


def _inputs(scans: Sequence[str], second: str | None, second_tip: str | None) -> list[str]:
    """Return all files to read.

    Raises:
        UsageError: a second scan of several first ones, or its tip without it.
    """
    if second is None:
        if second_tip:
            raise UsageError("--second-tip is the tip of the second scan; give that: --second SCAN")
        return list(scans)
    if len(scans) > 1:
        raise UsageError(f"--second is the second scan of one sample, and {len(scans)} scans are given; take one")
    return [*scans, second]


def _check_pair(first: "Scan", second: "Scan", path: str) -> None:
    """Raise DataError where two scans cannot be of one place, each with a tip of its own; `path` is the second's."""
    if first.tip == second.tip:
        raise DataError(
            f"{path}: both scans are of a {first.tip} tip, and the second is to be of another; where its file does not "
            "tell the tip, name it: --second-tip Xe"
        )
    for name in ("x", "y"):
        a, b = getattr(first, name), getattr(second, name)
        overlap = min(a[-1], b[-1]) - max(a[0], b[0])
        if overlap < SHARED * min(a[-1] - a[0], b[-1] - b[0]):
            raise DataError(
                f"{path}: reaches from {name} = {b[0]:.2f} to {b[-1]:.2f} Å, the first scan from {a[0]:.2f} to "
                f"{a[-1]:.2f} Å; a second scan shows the same place, in the same frame"
            )


def _targets(scans: Sequence[str], methods: Sequence[str], output: str | None) -> dict[tuple[str, str], list[Path]]:
    """Return the files that take the answer to each scan by each method: one, or those in a folder."""
    if output is None:
        return {}
    if not is_folder(output):
        if len(scans) > 1 or len(methods) > 1:
            raise UsageError("several answers need a folder: -o FOLDER/")
        if Path(output).suffix not in SUFFIXES:
            raise UsageError(f"{output}: answers are written as {', '.join(SUFFIXES)}, or all into a folder/")
        return {(scans[0], methods[0]): [Path(output)]}
    stems = {scan: "stdin" if scan == STANDARD else Path(scan).stem for scan in scans}
    stem, count = Counter(stems.values()).most_common(1)[0]
    if count > 1:
        raise UsageError(f"{count} scans are called {stem!r} and would share a folder; identify them one by one")
    targets = {}
    for scan in scans:
        for method in methods:
            parts = [stems[scan]] * (len(scans) > 1) + [method] * (len(methods) > 1)
            targets[scan, method] = [Path(output, *parts, name) for name in IN_FOLDER]
    return targets


def _write(scans: "Sequence[Scan]", answer: "Identification", files: Sequence[Path]) -> list[Path]:
    """Write the answer into files by their suffixes, and return those of a folder's files that there was reason for.

    Of the scans the first is that on whose pixels the answer stands.
    """
    from afmid.io import write_identification, write_molecule
    from afmid.report.page import write_identification_page
    from afmid.report.picture import draw_identification

    lacking = {ATOMS: not answer.atoms, MOLECULE: answer.molecule is None} if len(files) > 1 else {}
    written = [file for file in files if not lacking.get(file.name)]
    for file in files:
        if file not in written:
            file.unlink(missing_ok=True)  # of an earlier answer
        elif file.suffix == ".png":
            draw_identification(scans[0], answer, with_folder(file))
        elif file.suffix == ".html":
            write_identification_page(scans[0], answer, with_folder(file), *scans[1:])
        elif file.name == MOLECULE and answer.molecule and len(files) > 1:
            write_molecule(answer.molecule, with_folder(file))
        else:
            write_identification(answer, with_folder(file))
    return written


def _report(path: str, answer: "Identification", written: Sequence[Path], json_: bool) -> None:
    """Print the answer: as a line of JSON, or in words."""
    from afmid.io import to_json

    if json_:
        typer.echo(to_json(answer))
        return
    weights = f", weights {answer.weights[:12]}" if answer.weights else ""
    typer.echo(f"{path}: {answer.method} {answer.version}{weights}")
    print_table(("", ""), [*_summary(answer), *(("written", str(file)) for file in written)])


def _summary(answer: "Identification") -> Iterator[tuple[str, str]]:
    if answer.smiles:
        yield "molecule", answer.smiles
    yield from _ranking(answer)
    if answer.atoms:
        likely = [atom for atom in answer.atoms if atom.confidence >= CONFIDENT]
        elements = Counter(atom.element for atom in likely if atom.element)
        kinds = ", ".join(f"{count} {element}" for element, count in sorted(elements.items()))
        mean = sum(atom.confidence for atom in answer.atoms) / len(answer.atoms)
        words = f"{len(answer.atoms)} found, {len(likely)} of them with a confidence of {CONFIDENT} or more"
        yield "atoms", f"{words}{f' ({kinds})' if kinds else ''}; mean confidence {mean:.2f}"
    else:
        yield "atoms", "none found"
    if answer.bonds:
        yield "bonds", f"{len(answer.bonds)}"
    for name, image in answer.maps.items():
        unit = "" if image.unit == "1" else f" {image.unit}"
        low, high = (float(f"{end:.2g}") for end in (image.values.min(), image.values.max()))
        yield f"map {name}", f"{low:g} to {high:g}{unit}"
    if answer.fit is not None:
        yield "fit", f"{answer.fit:.3f} (correlation of the answer, simulated again, with the scan)"
    notes = answer.meta.get("notes")
    for text in notes if isinstance(notes, list) else ():
        yield "note", line(str(text))
    if "refinement" in answer.meta:
        yield "refined", "; ".join(_refinement(answer.meta["refinement"]))


def _ranking(answer: "Identification") -> Iterator[tuple[str, str]]:
    for place, candidate in enumerate(answer.candidates[:SHOWN], 1):
        parts = "".join(f"  {name} {value:.3f}" for name, value in candidate.scores.items())
        name = f"{candidate.name}: " if candidate.name else ""
        yield f"candidate {place}", f"{name}{candidate.smiles}  {candidate.formula}  score {candidate.score:.3f}{parts}"
    if (more := len(answer.candidates) - SHOWN) > 0:
        yield "", f"{more} more"
    alike = sum(candidate.score > answer.candidates[0].score - ALIKE for candidate in answer.candidates)
    if alike > 1:
        yield "", f"the first {alike} are within {ALIKE} of each other: they are hardly told apart"


def _refinement(record: Mapping[str, Any]) -> Iterator[str]:
    yield f"fit {record['fit_before']:.3f} before"
    yield f"{record['rms_after_hz']:.2g} Hz of {record['rms_before_hz']:.2g} left"
    if not record["converged"]:
        yield "not come to rest: trust it less, or give more iterations, --set refine.iterations=N"
    if lost := sum(not atom["supported"] for atom in record["atoms"]):
        yield f"{lost} of {len(record['atoms'])} atoms not supported by the scan"
    for swap in record["swaps"]:
        if swap["adopted"]:
            changes = ", ".join(f"{c['from']} {c['atom'] + 1} is {c['to']}" for c in swap["changes"])
            yield f"{changes}, with a probability of {swap['probability']:.3f}"
