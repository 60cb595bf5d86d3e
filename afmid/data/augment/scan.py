"""Augmentation of a scan, which keeps its axes and its truth."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import BaseModel

from afmid.errors import DataError, PluginError
from afmid.offers import Augmentation, Targets
from afmid.scan import Scan


def augment_scan(scan: Scan, steps: Sequence[tuple[Augmentation, BaseModel]], seed: int) -> Scan:
    """Return the scan after `steps`, each an augmentation and its options, in this order.

    Axes and truth stay. `meta["augment"]`, a list, gains one record: the seed, and the steps with their options.

    Raises:
        DataError: a step that moves the targets, so that axes and truth would no longer fit; or a `meta["augment"]`
            that is no list.
        PluginError: a step that returns another shape, or values that are not finite.
    """
    before = scan.meta.get("augment", [])
    if not isinstance(before, list):
        raise DataError(f"meta of the scan: augment must be a list of steps taken, is {before!r}")
    generator = torch.Generator().manual_seed(seed)
    df = torch.from_numpy(scan.df.copy())[None]
    _, nx, ny, _ = df.shape
    pixels = torch.arange(nx * ny, dtype=df.dtype).view(1, 1, nx, ny)  # targets that show where each pixel went
    corners = torch.cartesian_prod(torch.tensor([0.0, nx - 1]), torch.tensor([0.0, ny - 1]))[None]
    for offer, options in steps:
        new, targets = offer.load(options)(df, Targets(pixels.clone(), corners.clone()), generator)
        if new.shape != df.shape or not torch.isfinite(new).all():
            raise PluginError(
                f"augmentation {offer.name!r} must return finite values of shape {tuple(df.shape)}, "
                f"returned {int((~torch.isfinite(new)).sum())} that are not finite and shape {tuple(new.shape)}"
            )
        if not (torch.equal(targets.maps, pixels) and torch.equal(targets.points, corners)):
            raise DataError(
                f"augmentation {offer.name!r} moves the image sideways, so that the scan's axes and truth would no "
                "longer fit; leave it out: it is for training"
            )
        df = new
    taken = [{"name": offer.name, "options": options.model_dump(mode="json")} for offer, options in steps]
    return replace(scan, df=df[0].numpy(), meta={**scan.meta, "augment": [*before, {"seed": seed, "steps": taken}]})
