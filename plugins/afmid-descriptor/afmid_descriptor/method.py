"""Identify with the descriptor network: maps of the surface, and the visible atoms without their elements."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from afmid import Atom, DataError, Identification, Map, Molecule, Scan
from afmid.errors import WeightsError
from afmid.weights import read_safetensors
from afmid_descriptor import NAME, Options, __version__
from afmid_descriptor.atoms import UNFITTED, confidence, find_cones
from afmid_descriptor.metrics import UNITS
from afmid_descriptor.model import BRANCHES, STRIDE, Config, DescriptorCNN
from afmid_descriptor.stack import Stack, prepare, resample

log = logging.getLogger(__name__)

ARCHITECTURE = "paper"
TIP = "CO"  # what the network was trained on


class DescriptorMethod:
    """The network with its weights.

    Args:
        model: the network, on the device where it runs.
        coefficients: of the atoms' confidence; None where the weights bring none.
        weights: SHA-256 of the weights file.
    """

    def __init__(self, model: DescriptorCNN, coefficients: Mapping[str, float] | None = None, weights: str = ""):
        self.model = model.eval()
        self.coefficients = coefficients
        self.weights = weights

    def identify(self, scans: Sequence[Scan], options: Options, prefix: Molecule | None = None) -> Identification:
        """Return maps on the scan's axes and the atoms read from its disks; of several scans, the CO tip's is used.

        Raises:
            DataError: no scan, or one that the network cannot see (afmid_descriptor.stack.prepare).
        """
        scan = _choose(scans)
        if prefix is not None:
            log.info("descriptor: atoms known beforehand make no difference to this method")
        stack = prepare(scan)
        maps = self.maps(stack, options.average)
        on_scan = resample(maps, scan.df.shape[:2]).numpy()
        return Identification(
            method=NAME,
            version=__version__,
            x=scan.x,
            y=scan.y,
            weights=self.weights,
            source=scan.source,
            atoms=self._atoms(maps[list(BRANCHES).index("disks")].numpy(), stack, options),
            maps={name: Map(image, UNITS[name]) for name, image in zip(BRANCHES, on_scan, strict=True)},
            meta={
                "options": options.model_dump(),
                "notes": list(stack.notes),
                "confidence": "fitted on validation scans" if self.coefficients else "not calibrated",
            },
        )

    @torch.inference_mode()
    def maps(self, stack: Stack, average: bool) -> Tensor:
        """Return the maps (3, X, Y) of a stack, on the CPU; `average` those of its eight turns and mirror images."""
        df = stack.df.to(next(self.model.parameters()).device)
        symmetries = [(turns, mirror) for turns in range(4) for mirror in (False, True)] if average else [(0, False)]
        maps = torch.stack([self._seen(df, *symmetry) for symmetry in symmetries]).mean(0)
        return maps[0].float().cpu()

    def _seen(self, df: Tensor, turns: int, mirror: bool) -> Tensor:
        """Return maps (1, 3, X, Y) of stacks (1, X, Y, 10) that the network sees turned by 90° steps and mirrored."""
        seen = df.rot90(turns, (1, 2))
        seen = seen.flip(1) if mirror else seen
        x, y = seen.shape[1:3]
        seen = pad(seen.permute(0, 3, 1, 2), (0, -y % STRIDE, 0, -x % STRIDE), mode="replicate").permute(0, 2, 3, 1)
        maps = self.model(seen)[..., :x, :y]
        maps = maps.flip(2) if mirror else maps
        return maps.rot90(-turns, (2, 3))

    def _atoms(self, disks: np.ndarray, stack: Stack, options: Options) -> tuple[Atom, ...]:
        cones = find_cones(disks, stack.x, stack.y, options.threshold)
        sure = confidence(cones.figures, self.coefficients or UNFITTED)
        cones, sure = cones.where(keep := sure >= options.confidence), sure[keep]
        rows = zip(cones.x, cones.y, cones.z, sure, strict=True)
        return tuple(Atom(None, float(x), float(y), float(z), float(share)) for x, y, z, share in rows)


def load(weights: Path | None, device: str) -> DescriptorMethod:
    """Return the method with the weights of a safetensors file.

    Raises:
        WeightsError: no file, one made for something else, or tensors that do not fit the network.
    """
    if weights is None:
        raise WeightsError("descriptor needs weights and none came with it; train some: afmid train descriptor")
    tensors, metadata = read_safetensors(weights, NAME, architecture=ARCHITECTURE)
    try:
        model = DescriptorCNN(Config.from_json(metadata.get("config", "{}")))
        model.load_state_dict(tensors)
        coefficients = json.loads(metadata["confidence"]) if "confidence" in metadata else None
        if coefficients is not None:
            coefficients = {name: float(coefficients[name]) for name in UNFITTED}
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{weights}: does not fit the descriptor network: {reason}") from error
    return DescriptorMethod(model.to(device), coefficients, hashlib.sha256(weights.read_bytes()).hexdigest())


def _choose(scans: Sequence[Scan]) -> Scan:
    if not scans:
        raise DataError("descriptor needs a scan, got none")
    scan = next((scan for scan in scans if scan.tip == TIP), scans[0])
    if len(scans) > 1:
        log.warning("descriptor uses one scan, that of the %s tip; the other %d are not used", scan.tip, len(scans) - 1)
    if scan.tip != TIP:
        log.warning("descriptor was trained on %s tips; a scan with a %s tip may be misread", TIP, scan.tip)
    return scan
