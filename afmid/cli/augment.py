"""`afmid augment`: make a simulated scan look measured."""

from pathlib import Path
from typing import Annotated

import typer

from afmid.cli.options import Force, Order, Pixel, Settings, Step, TipName, registry, settings_of
from afmid.cli.output import STANDARD, check_binary_stdout, check_file, check_picture, with_folder
from afmid.offers import Augmentation
from afmid.plugins import parse_options


def augment(
    scan: Annotated[str, typer.Argument(metavar="SCAN", hidden=True)],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="scan file, or - for stdout")],
    steps: Annotated[str, typer.Option("--steps", metavar="A,B", help="what to do, in this order")] = "noise,cutout",
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**63 - 1, help="the same seed gives the same scan")
    ] = 0,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="draw before and after into this png, pdf or svg")
    ] = None,
    settings: Settings = None,
    pixel: Pixel = None,
    step: Step = None,
    order: Order = None,
    tip: TipName = None,
    force: Force = False,
) -> None:
    """Make a simulated scan look measured: noise, drift, missing patches.

    SCAN is a scan file, or - for stdin. The steps there are, and what can be set of them: afmid plugins.

    \b
    afmid augment scan.npz -o noisy.npz --steps noise --set noise.level=0.2 --seed 7
    afmid augment scan.npz -o worn.npz --steps drift,line-noise,noise --plot worn.png
    afmid simulate pentacene -o - | afmid augment - -o - | afmid identify -
    afmid plugins noise
    """
    names = [name.strip() for name in steps.split(",") if name.strip()]
    known = [registry().get(Augmentation, name) for name in names]
    chosen = [(offer, parse_options(offer, settings_of(offer.name, settings, names))) for offer in known]
    if output == STANDARD:
        check_binary_stdout()
    else:
        check_file(Path(output), force)
    check_picture(plot, force)

    from afmid.data.augment import augment_scan
    from afmid.io import read_scan, write_scan

    before = read_scan(scan, pixel=pixel, step=step, order=order, tip=tip)
    after = augment_scan(before, chosen, seed)
    write_scan(after, STANDARD if output == STANDARD else with_folder(Path(output)))
    if plot:
        from afmid.report.picture import draw_change

        draw_change(before, after, ", ".join(names), with_folder(plot))

