"""Identify with a graphgen network: atoms with their elements, bonds, and the molecule that they make."""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from afmid import Atom, Bond, DataError, Identification, Map, Molecule, Scan
from afmid.molecule import SYMBOLS
from afmid.networks.file import fitting, read_network
from afmid.networks.stack import prepare, resample
from afmid_graphgen import NAME, Options, __version__
from afmid_graphgen.decode import Decoded, decode
from afmid_graphgen.graph import CLASSES, ELEMENTS
from afmid_graphgen.networks import Network, build, look
from afmid_graphgen.parallel import Temperatures

log = logging.getLogger(__name__)

TIP = "CO"  # what the networks were trained on
LEAST = 0.01  # probability of an element that is told


class GraphgenMethod:
    """A network with its weights; a method of another name may do the same with networks of its own.

    Attributes:
        name, version: of the method.
        build: makes its networks, as in afmid_graphgen.networks.

    Args:
        model: the network, on the device where it runs.
        temperatures: of its confidences.
        weights: SHA-256 of the weights file.
    """

    name: ClassVar[str] = NAME
    version: ClassVar[str] = __version__
    build: ClassVar[Callable[[str, str], Network]] = staticmethod(build)

    def __init__(self, model: Network, temperatures: Temperatures | None = None, weights: str = ""):
        self.model = model.eval()
        self.temperatures = temperatures or Temperatures()
        self.weights = weights

    @classmethod
    def load(cls, weights: Path | None, device: str) -> Self:
        """Return the method with the weights of a safetensors file.

        Raises:
            WeightsError: no file, one made for something else, or tensors that do not fit the network.
        """
        model, origin = read_network(weights, cls.name, cls.build)
        with fitting(origin.path, cls.name):
            temperatures = Temperatures.from_json(origin.metadata.get("temperatures", "{}"))
        return cls(model.to(device), temperatures, origin.sha256)

    def identify(self, scans: Sequence[Scan], options: Options, prefix: Molecule | None = None) -> Identification:
        """Return the atoms, bonds and SMILES of what the CO tip's scan shows.

        Raises:
            DataError: no scan, or one that the network cannot see (afmid.networks.stack.prepare).
        """
        if not scans:
            raise DataError(f"{self.name} needs a scan, got none")
        scan = next((scan for scan in scans if scan.tip == TIP), scans[0])
        if scan.tip != TIP:
            log.warning("%s was trained on %s tips; a scan with a %s tip may be misread", self.name, TIP, scan.tip)
        notes = [f"the scan of the {other.tip} tip was not used" for other in scans if other is not scan]
        if prefix is not None:
            log.info("%s: atoms known beforehand make no difference to this method", self.name)
        stack = prepare(scan)
        seen = look(self.model, stack, options.average, self.temperatures)
        decoded = decode(seen.graph, options.confidence)
        shape = scan.df.shape[:2]
        maps = {name: Map(resample(image[None], shape)[0].numpy(), "1") for name, image in seen.maps.items()}
        return Identification(
            method=self.name,
            version=self.version,
            x=scan.x,
            y=scan.y,
            weights=self.weights,
            source=scan.source,
            smiles=decoded.smiles,
            atoms=_atoms(decoded),
            bonds=_bonds(decoded),
            maps=maps,
            meta={
                "options": options.model_dump(),
                "notes": [*stack.notes, *notes, *_told(decoded)],
                "completed_hydrogens": [
                    {"atom_index": index, "count": count}
                    for index, count in enumerate(decoded.hydrogens.tolist()) if count
                ],
                "elements": _likely(decoded.graph.elements, ELEMENTS),
                "classes": _likely(decoded.graph.classes, map(",".join, CLASSES)),
                **seen.meta,
            },
        )


def _atoms(decoded: Decoded) -> tuple[Atom, ...]:
    positions, sigma = decoded.graph.positions.copy(), decoded.graph.sigma
    positions[:, 2] -= positions[:, 2].max(initial=-np.inf)
    spreads = [None] * len(positions) if sigma is None else [(x, y, z) for x, y, z in sigma.tolist()]
    rows = zip(decoded.numbers.tolist(), positions.tolist(), decoded.atom_confidences.tolist(), spreads, strict=True)
    return tuple(Atom(SYMBOLS[number], x, y, z, confidence, sigma) for number, (x, y, z), confidence, sigma in rows)


def _bonds(decoded: Decoded) -> tuple[Bond, ...]:
    rows = zip(decoded.bonds.tolist(), decoded.orders.tolist(), decoded.bond_confidences.tolist(), strict=True)
    return tuple(Bond(a, b, order, confidence) for (a, b), order, confidence in rows)


def _likely(probabilities: NDArray[np.float64], names: Iterable[str]) -> list[dict[str, float]]:
    """Return of each atom (N, K) what it is with at least `LEAST`, the likeliest first."""
    names = tuple(names)
    return [
        {names[k]: round(row[k], 3) for k in np.argsort(row)[::-1] if row[k] >= LEAST}
        for row in probabilities.round(6).tolist()
    ]


def _told(decoded: Decoded) -> list[str]:
    if decoded.smiles is None:
        return ["the atoms and bonds found make no valid molecule"] if len(decoded.graph) else []
    notes, count = [], int(decoded.hydrogens.sum())
    if count:
        what, does = ("hydrogen", "completes") if count == 1 else ("hydrogens", "complete")
        notes.append(f"{count} {what} that the scan does not show {does} the molecule, in its SMILES alone")
    if (pieces := decoded.smiles.count(".") + 1) > 1:
        notes.append(f"the atoms found make {pieces} separate pieces")
    return notes
