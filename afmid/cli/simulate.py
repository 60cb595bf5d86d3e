"""`afmid simulate`: molecules to scans."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from afmid import __version__
from afmid.cli.options import Device, Force, Settings, cores, plugin_names, registry, with_options
from afmid.cli.output import (
    STANDARD,
    check_binary_stdout,
    check_file,
    check_picture,
    few_warnings,
    is_folder,
    note,
    scan_bar,
    with_folder,
)
from afmid.data.poses import Pose
from afmid.errors import UsageError
from afmid.offers import Engine
from afmid.plugins import parse_options
from afmid.simulate import SimulationOptions
from afmid.simulate.presets import PresetName, variants
from afmid.units import N_per_m

if TYPE_CHECKING:
    from afmid.data.scan_stream import ScanStream
    from afmid.data.shards import ShardJob
    from afmid.molecule import Molecule
    from afmid.simulate.potential import Potential

log = logging.getLogger(__name__)

Place = Callable[[str], str]  # from the name of a scan to its file, or "-"

POTENTIALS = (".cube", ".cub", ".xsf")
AUTO = "auto"
FAILED = 1  # exit code
MOST_NOTES = 10  # files that are named as they are written


@with_options(SimulationOptions, "options")
def simulate(
    molecules: Annotated[list[str], typer.Argument(metavar="MOLECULE", hidden=True)],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PATH", help="scan file, folder/, or - for stdout [default: NAME.npz]"),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="draw into this png, pdf or svg; of several one image each"),
    ] = None,
    pose: Annotated[
        Pose, typer.Option("--pose", metavar="NAME", help="as-given, flat, or entropy: random, with many atoms on top")
    ] = "as-given",
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**63 - 1, help="the same seed gives the same poses")
    ] = 0,
    preset: Annotated[
        PresetName | None,
        typer.Option("--preset", metavar="NAME", help="quam: the 24 scans per molecule of QUAM-AFM, 24 Å, 256 pixels"),
    ] = None,
    potential: Annotated[
        Path | None,
        typer.Option("--potential", metavar="FILE", help="Hartree potential (cube, xsf) in place of the point charges"),
    ] = None,
    potential_sign: Annotated[
        Literal["electron", "positive"] | None,
        typer.Option(
            "--potential-sign", metavar="NAME", help="electron or positive: whose energy is given [default: electron]"
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="of a list or pack only these, such as test")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="write shard I of N (from 0), a tar; N alone writes all of them"),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=0, help="processes that read and embed molecules; 0: all cores")
    ] = 1,
    scheduler: Annotated[
        str, typer.Option("--scheduler", metavar="ADDRESS", help="of a Dask cluster that simulates, as tcp://node:8786")
    ] = "",
    engine: Annotated[str, typer.Option("--engine", metavar="NAME", help="what simulates; auto: the fastest")] = AUTO,
    device: Device = "auto",
    settings: Settings = None,
    force: Force = False,
    *,
    options: SimulationOptions,
) -> None:
    """Simulate the scan of molecules: Δf images at constant heights, far to near, with the molecule as their truth.

    MOLECULE is a file (xyz, sdf, mol), - for one from stdin, a SMILES, or a name such as PTCDA; or many of them: a
    folder of files, a list of SMILES (csv, smi, txt; gzipped or not), a molecule pack (npz). It is scanned as it lies,
    from +z; one without a geometry is laid flat. A cube or xsf file brings its Hartree potential along with its atoms.
    Of many, those that fail are left out and named, and the exit code is 1. With --shard the scans go into tar files of
    webdataset's layout; a run that was killed is taken up by the same command. Engines and what --set sets of them:
    afmid plugins.

    \b
    afmid simulate pentacene --plot pentacene.png
    afmid simulate PTCDA -o scan.npz --tip Xe --amplitude 0.3 --tilt-x 0.2 --lateral-stiffness 0.4
    afmid simulate benzene coronene 'CCO' -o scans/ --pose entropy --seed 7 --plot sheet.png
    afmid simulate pack.npz --split test --pose entropy --shard 0/16 -o shards/
    afmid simulate 'c1ccc2ccccc2c1' -o - | afmid identify -
    """
    from afmid.data.scan_stream import ScanStream
    from afmid.data.shards import shard_jobs
    from afmid.data.sources import open_sources

    kinds = variants(preset, options) if preset else {"": options}
    check_picture(plot, force)
    if output == STANDARD:
        check_binary_stdout()
    pairs = tuple(settings or ())
    _check_engine(engine, device, pairs)
    field, atoms = _read_potential(molecules, potential, potential_sign, pose)
    sources = open_sources(molecules, split, atoms)
    stream = ScanStream(sources, kinds, None, pose, seed, jobs or cores(), field)
    if shard:
        folder, count, chosen = _shards(shard, output, plot)
    else:
        place = _place(stream, output)
        _check_files(stream, place, force)
    record = {"afmid": __version__, **_load_engine(stream, engine, device, pairs, scheduler)}
    if field:
        record["potential"] = {"file": Path(potential or molecules[0]).name, "sign": potential_sign or "electron"}
    stream.record = record
    _log_settings(kinds)
    tried = stream.molecules
    if shard:
        parts = shard_jobs(stream, _stem(molecules), folder, count, chosen)
        tried, written = sum(part.stream.molecules for part in parts), _write_shards(stream, parts, force)
    else:
        written = _write(stream, place, plot)
    if stream.failed:
        note(f"{stream.failed} of {tried} molecules failed; scans written to {output or '.'}: {written}")
        raise typer.Exit(FAILED)
    if written > MOST_NOTES and not shard:
        note(f"wrote {written} scans to {output or '.'}")


def _check_engine(engine: str, device: str, pairs: tuple[str, ...]) -> None:
    """Find out, before anything heavy is loaded, whether there are an engine and a device of these names."""
    from afmid.devices import DEVICES, resolve_device

    if device not in DEVICES:
        resolve_device(device)
    if engine != AUTO:
        parse_options(registry().get(Engine, engine), pairs)


def _load_engine(
    stream: "ScanStream", engine: str, device: str, pairs: tuple[str, ...], scheduler: str
) -> dict[str, Any]:
    """Give the stream what simulates, here or on a cluster; return what scans tell of the engine."""
    from afmid.data.scan_stream import Cluster
    from afmid.simulate import load_engine

    if not scheduler or engine == AUTO:
        chosen, stream.simulator = load_engine(engine, device, pairs, registry())
        engine = chosen.name
    if scheduler:
        stream.cluster = Cluster(scheduler, engine, device, pairs, plugin_names())
    options = parse_options(registry().get(Engine, engine), pairs)
    return {"engine": engine, "engine_options": options.model_dump(mode="json")}


def _shards(text: str, output: str | None, plot: Path | None) -> tuple[Path, int, int | None]:
    """Return where shards go, how many there are, and which one is wanted; None for all. Raises UsageError."""
    found = re.fullmatch(r"(?:(\d{1,5})/)?(\d{1,5})", text.strip())
    if not found or not int(found[2]) or (found[1] and int(found[1]) >= int(found[2])):
        raise UsageError(f"--shard is {text!r}; write I/N for shard I of N, from 0/N to N-1/N, or N for all of them")
    if output is None or output == STANDARD or not is_folder(output):
        raise UsageError("shards need -o FOLDER/")
    if plot:
        raise UsageError("--plot is not for shards")
    return Path(output), int(found[2]), None if found[1] is None else int(found[1])


def _stem(texts: list[str]) -> str:
    """Return what the names of shards begin with."""
    stem = Path(texts[0]).name.partition(".")[0] if len(texts) == 1 else ""
    return re.sub(r"[^\w+-]+", "_", stem).strip("_")[:60] or "scans"


def _write_shards(stream: "ScanStream", jobs: "Sequence[ShardJob]", force: bool) -> int:
    """Write the shards that are not there yet; return the number of their scans."""
    remaining = [job for job in jobs if force or not job.is_done()]
    for job in jobs:
        if job not in remaining:
            note(f"{job.path}: is there already")
    written = 0
    pixels = sum(job.stream.pixels for job in remaining)
    scans = sum(job.stream.molecules for job in remaining) * len(stream.settings)
    with few_warnings(), scan_bar(scans, max(pixels, 1)) as progress:
        try:
            for job in remaining:
                with_folder(job.path)
                count = job.write(force, progress)
                note(f"wrote {job.path}: {count} scans")
                written += count
        except KeyboardInterrupt:
            note("interrupted; the same command goes on from here")
            raise
    stream.failed = sum(job.stream.failed for job in jobs)
    return written


def _read_potential(
    texts: list[str], file: Path | None, sign: Literal["electron", "positive"] | None, pose: Pose
) -> "tuple[Potential | None, dict[str, Molecule]]":
    """Return the potential that was named, or that the molecule's own file holds, and the atoms of the latter.

    Raises:
        DataError: no potential can be read.
        UsageError: it is not that of a single molecule as it lies.
    """
    from afmid.data.sources import is_table

    own = [text for text in texts if Path(text).suffix.lower() in POTENTIALS]
    if not (file or own):
        if sign:
            raise UsageError("--potential-sign is for a potential; give one with --potential")
        return None, {}
    alone = len(texts) == 1 and (Path(texts[0]).is_file() or texts[0] == STANDARD) and not is_table(texts[0])
    if not alone or pose != "as-given":
        raise UsageError("a potential is that of one molecule as it lies in a file: one MOLECULE, and no other --pose")
    from afmid.chem import perceive_bonds
    from afmid.io import read_molecule, read_potential

    sign = sign or "electron"
    potential, atoms = read_potential(file or own[0], sign)
    if not own:
        molecule = read_molecule(texts[0])
    else:
        molecule = perceive_bonds(read_potential(own[0], sign)[1] if file else atoms)
    if not _lies_in(molecule, atoms):
        log.warning("%s has no atoms where those of %s are; is it in the frame of the potential?", texts[0], file)
    return potential, {texts[0]: molecule}


def _lies_in(molecule: "Molecule", atoms: "Molecule") -> bool:
    """Return whether each atom is within 0.5 Å of one of the others."""
    from scipy.spatial import KDTree

    return bool((KDTree(atoms.positions).query(molecule.positions)[0] < 0.5).all())


def _write(stream: "ScanStream", place: Place, plot: Path | None) -> int:
    """Write the scans as they are made, draw what was asked for; return their number."""
    from afmid.io import write_scan
    from afmid.report.picture import MOST_SCANS, draw_scan, draw_sheet, telling

    total = stream.molecules * len(stream.settings)
    done, shown = 0, {}
    with (
        few_warnings(),
        _interrupted(lambda: done),
        scan_bar(total, stream.pixels) as progress,
        closing(stream.scans(progress)) as scans,
    ):
        for done, (name, scan) in enumerate(scans, 1):
            file = place(name)
            write_scan(scan, file if file == STANDARD else with_folder(Path(file)))
            if total > MOST_NOTES or file == place(""):  # many, or the file that the user named
                log.info("wrote %s", file)
            else:
                note(f"wrote {file}")
            if plot and done <= MOST_SCANS:
                shown[name] = scan if total == 1 else telling(scan)
    if plot and shown:
        if total == 1:
            draw_scan(shown[name], with_folder(plot))
        else:
            draw_sheet(shown, done, with_folder(plot))
    return done


@contextmanager
def _interrupted(done: Callable[[], int]) -> Iterator[None]:
    """Say after Ctrl-C how many scans were written."""
    try:
        yield
    except KeyboardInterrupt:
        note(f"interrupted; scans written: {done()}")
        raise


def _place(stream: "ScanStream", output: str | None) -> Place:
    """Return what gives a scan its file: the one that was named, or one of the scan's name in a folder.

    Raises:
        UsageError: several scans do not go into one file, and those of a list or a preset nowhere unasked.
    """
    many = len(stream.settings) > 1 or any(source.several for source in stream.sources)
    folder = output != STANDARD and (output is None or is_folder(output))
    if (many and output is None) or ((many or len(stream.sources) > 1) and not folder):
        raise UsageError("several scans need -o FOLDER/")
    if folder:
        return lambda name: str(Path(output or "") / f"{name}.npz")
    return lambda name: str(output)


def _check_files(stream: "ScanStream", place: Place, force: bool) -> None:
    """Find out, before the work, whether all files can be written. Raises DataError."""
    names = stream.names()
    first = Path(place(next(names)))
    if str(first) == STANDARD:
        return
    check_file(first, force)
    if force or not first.parent.is_dir():
        return
    there = {file.name for file in first.parent.iterdir()}  # asked once: there may be very many
    for file in (Path(place(name)) for name in names):
        if file.name in there:
            check_file(file, force)


def _log_settings(kinds: Mapping[str, SimulationOptions]) -> None:
    """Say with --verbose what is simulated; one value for each scan of a molecule where they differ."""
    some, tips = next(iter(kinds.values())), [options.effective_tip() for options in kinds.values()]
    tip = tips[0]
    lateral, radial = _each(tip.lateral_stiffness / N_per_m for tip in tips), tip.radial_stiffness / N_per_m
    log.info(
        "tip: %s: probe %s, charge %g e, quadrupole %g e·Å², lateral stiffness %s N/m, radial %g N/m, length %g Å, "
        "rest position %g, %g Å",
        some.tip, tip.probe, tip.charge, tip.quadrupole, lateral, radial, tip.length, *tip.offset,
    )  # fmt: skip
    log.info("grid: %d × %d pixels over %g × %g Å", some.pixels, some.pixels, some.size, some.size)
    log.info(
        "heights: %d images %g Å apart, the nearest %g Å above Lennard-Jones contact",
        some.heights, some.step, some.clearance,
    )  # fmt: skip
    amplitude = _each(options.amplitude for options in kinds.values())
    log.info(
        "cantilever: amplitude %s Å, resonance %g Hz, stiffness %g N/m", amplitude, some.f0, some.cantilever_stiffness
    )


def _each(values: Iterable[float]) -> str:
    return ", ".join(dict.fromkeys(f"{value:g}" for value in values))
