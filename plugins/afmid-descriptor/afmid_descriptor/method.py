"""Identify with a descriptor network: maps of the surface, and the visible atoms without their elements."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afmid import Atom, DataError, Identification, Map, Molecule, Scan
from afmid.molecule import Molecules
from afmid.networks.file import fitting, read_network
from afmid.networks.stack import Stack, padded, prepare, resample
from afmid.networks.symmetry import ALIKE, SYMMETRIES, Symmetry
from afmid_descriptor import NAME, Options, __version__
from afmid_descriptor.atoms import PEAKS, UNFITTED, find_peaks, with_sigma
from afmid_descriptor.calibration import ONE, TWO, Calibration, read
from afmid_descriptor.edafm import EDAFM
from afmid_descriptor.maps import MAPS
from afmid_descriptor.matching import RENDERED, rendered
from afmid_descriptor.model import DescriptorNet
from afmid_descriptor.networks import STRIDE, Network, build, seen

log = logging.getLogger(__name__)

TIP = "CO"  # what the networks were trained on


class Look(NamedTuple):
    """What a network sees in a stack, on the CPU.

    Attributes:
        maps: (C, X, Y), in the units of `MAPS`.
        sigma: their standard deviations, (C, X, Y).
        tilt: where the probe rests beside the tip's base (2,), Å.
    """

    maps: Tensor
    sigma: Tensor
    tilt: Tensor


class DescriptorMethod:
    """A network with its weights.

    Args:
        model: the network, on the device where it runs.
        calibrations: for scans of one tip and of two, as far as the weights bring them.
        weights: SHA-256 of the weights file.
        second: the second tip that the network was trained with, such as Xe; "" where with none.
    """

    rendered_maps = RENDERED

    def __init__(
        self, model: Network, calibrations: Mapping[str, Calibration] | None = None, weights: str = "", second: str = ""
    ):
        self.model = model.eval()
        self.calibrations = calibrations or {}
        self.weights = weights
        self.second = second
        self._warned: set[str] = set()

    def identify(self, scans: Sequence[Scan], options: Options, prefix: Molecule | None = None) -> Identification:
        """Return maps on the axes of the CO tip's scan, and the atoms read from them.

        A scan of the second tip that the network was trained with is looked at, too.

        Raises:
            DataError: no scan, or one that the network cannot see (afmid.networks.stack.prepare).
        """
        scan, second, ignored = self._chosen(scans)
        if prefix is not None:
            log.info("descriptor: atoms known beforehand make no difference to this method")
        stack = prepare(scan, second)
        calibration = self._calibration(stack)
        maps, sigma, tilt = self.look(stack, options.average)
        on_scan = [resample(images, scan.df.shape[:2]).numpy() for images in (maps, sigma)]
        return Identification(
            method=NAME,
            version=__version__,
            x=scan.x,
            y=scan.y,
            weights=self.weights,
            source=scan.source,
            atoms=self._atoms(self._named(maps), self._named(sigma), stack, options),
            maps=self._maps(*on_scan),
            meta={
                "options": options.model_dump(),
                "notes": [*stack.notes, *ignored],
                "confidence": "fitted on validation scans" if calibration.fit else "not calibrated",
                **(_told_tilt(tilt, calibration.tilt) if calibration.tilt else {}),
            },
        )

    @torch.inference_mode()
    def look(self, stack: Stack, average: bool) -> Look:
        """Return what the network sees in a stack.

        `average` means over the eight turns and mirror images of the stack, and counts how they differ as uncertainty.
        A published network tells neither deviations nor tilt: those are zero.
        """
        parts = [self._looked(stack, symmetries) for symmetries in (ALIKE if average else [SYMMETRIES[:1]])]
        maps, variances, tilts = (torch.cat(columns).float().cpu() for columns in zip(*parts, strict=True))
        mean = maps.mean(0)
        spread = torch.tensor([self._calibration(stack).spread.get(name, 1.0) for name in self.model.names])
        variance = variances.mean(0) + (maps - mean).square().mean(0) if self._tells_more else torch.zeros_like(mean)
        return Look(mean, variance.sqrt() * spread[:, None, None], tilts.mean(0))

    def rendered(
        self, molecules: Molecules, x: NDArray[np.float64], y: NDArray[np.float64], names: tuple[str, ...]
    ) -> Tensor:
        """Return true maps of molecules; see afmid.offers.Renders."""
        return rendered(molecules, x, y, names)

    @property
    def _tells_more(self) -> bool:
        return isinstance(self.model, DescriptorNet)

    def _calibration(self, stack: Stack) -> Calibration:
        return self.calibrations.get(ONE if stack.second is None else TWO, Calibration())

    def _looked(self, stack: Stack, symmetries: Sequence[Symmetry]) -> tuple[Tensor, Tensor, Tensor]:
        """Return maps, variances (S, C, X, Y) and tilts (S, 2) as seen under symmetries half turns apart."""
        device = next(self.model.parameters()).device

        def shown(df: Tensor) -> Tensor:
            turned = torch.cat([symmetry.turned(df) for symmetry in symmetries]).to(device)
            return seen(self.model, padded(turned, STRIDE))

        df, second = shown(stack.df), None if stack.second is None else shown(stack.second)
        if isinstance(self.model, DescriptorNet):
            maps, log_variance, tilt = self.model.predict(df, second)
            variance = log_variance.exp()
        else:
            maps = self.model(df, second)
            variance, tilt = torch.zeros_like(maps), maps.new_zeros(len(maps), 2)
        x, y = stack.df.shape[1:3] if symmetries[0].turns % 2 == 0 else stack.df.shape[2:0:-1]

        def straight(images: Tensor) -> Tensor:
            pairs = zip(images[..., :x, :y], symmetries, strict=True)
            return torch.stack([symmetry.back(image) for image, symmetry in pairs])

        tilts = [symmetry.vector_back(vector) for vector, symmetry in zip(tilt, symmetries, strict=True)]
        return straight(maps), straight(variance), torch.stack(tilts)

    def _maps(self, values: NDArray[np.float32], sigma: NDArray[np.float32]) -> dict[str, Map]:
        rows = zip(self.model.names, values, sigma, strict=True)
        return {name: Map(image, MAPS[name], error if self._tells_more else None) for name, image, error in rows}

    def _named(self, images: Tensor) -> dict[str, NDArray[np.float32]]:
        return dict(zip(self.model.names, images.numpy(), strict=True))

    def _atoms(
        self,
        maps: Mapping[str, NDArray[np.float32]],
        sigma: Mapping[str, NDArray[np.float32]],
        stack: Stack,
        options: Options,
    ) -> tuple[Atom, ...]:
        if not any(name in maps for name in PEAKS):
            return ()
        fit = self._calibration(stack).fit or UNFITTED
        peaks = find_peaks(with_sigma(maps, sigma), stack.x, stack.y, options.threshold)
        peaks = peaks.where(peaks.confidence(fit) >= options.confidence)
        z = peaks.z(fit)
        columns = np.stack([peaks.x, peaks.y, z - z.max(initial=-np.inf), peaks.confidence(fit)], 1)
        surest_first = columns[np.argsort(-columns[:, 3], kind="stable")]
        return tuple(Atom(None, *row) for row in surest_first.tolist())

    def _chosen(self, scans: Sequence[Scan]) -> tuple[Scan, Scan | None, list[str]]:
        """Return the scan, that of the second tip, and what is to be said of the others."""
        if not scans:
            raise DataError("descriptor needs a scan, got none")
        scan = next((scan for scan in scans if scan.tip == TIP), scans[0])
        if scan.tip != TIP:
            log.warning("descriptor was trained on %s tips; a scan with a %s tip may be misread", TIP, scan.tip)
        second = next((other for other in scans if other is not scan and other.tip == self.second), None)
        if second is None and isinstance(self.model, EDAFM) and self.model.config.tips > 1:
            raise DataError(f"these weights need a scan of a {self.second} tip beside that of CO; give it as --second")
        known = f"{TIP} and {self.second}" if self.second else TIP
        ignored = [
            f"the scan of the {other.tip} tip was not used: these weights know {known}"
            for other in scans if other is not scan and other is not second
        ]  # fmt: skip
        for note in ignored:
            if note not in self._warned:  # once for many samples
                log.warning("descriptor: %s", note)
                self._warned.add(note)
        return scan, second, ignored


def load(weights: Path | None, device: str) -> DescriptorMethod:
    """Return the method with the weights of a safetensors file.

    Raises:
        WeightsError: no file, one made for something else, or tensors that do not fit the network.
    """
    model, origin = read_network(weights, NAME, build)
    with fitting(origin.path, NAME):
        calibrations = read(origin.metadata.get("calibration", "{}"))
    return DescriptorMethod(model.to(device), calibrations, origin.sha256, origin.metadata.get("second", ""))


def _told_tilt(tilt: Tensor, sigma: float) -> dict[str, Any]:
    parts = [round(float(part), 3) + 0.0 for part in tilt]  # no −0
    return {"tip_tilt_angstrom": parts, "tip_tilt_sigma_angstrom": round(sigma, 3)}
