"""The power spectrum as dscribe computes it: what `power_spectrum` is held to, and what paper's network uses on a CPU.

Himanen et al., "DScribe: library of descriptors for machine learning in materials science", Comput. Phys. Commun. 247,
106949 (2020); version 2.1.
"""

import numpy as np
import torch
from ase import Atoms
from dscribe.descriptors import SOAP
from torch import Tensor, nn

from afmid_soap.power_spectrum import Soap


class DscribeSoap(nn.Module):
    """Power spectra like those of `Soap`, without gradients, one molecule after the other."""

    def __init__(self, soap: Soap):
        super().__init__()
        self.soap = soap
        numbers = list(range(1, soap.classes + 1))  # elements that stand for the classes
        self.dscribe = SOAP(
            r_cut=soap.cutoff, n_max=soap.n_max, l_max=soap.l_max, sigma=soap.sigma, rbf="gto", species=numbers
        )
        self.places = [self.dscribe.get_location((a, b)) for i, a in enumerate(numbers) for b in numbers[i:]]

    def forward(self, positions: Tensor, classes: Tensor, centres: Tensor) -> Tensor:
        """Return the power spectra (B, M, pairs, entries) of the surroundings of M centres.

        Args:
            positions: of atoms (B, N, 3), Å.
            classes: one-hot (B, N, classes); nothing of any where there is no atom.
            centres: (B, M, 3), Å.

        Raises:
            ValueError: an atom that is in part of a class, which dscribe does not know.
        """
        shares = classes.detach().cpu().double().numpy()
        if not np.isin(shares, (0, 1)).all() or shares.sum(2).max(initial=0) > 1:
            raise ValueError("dscribe takes atoms of one class each, no shares of several")
        columns = (part.detach().cpu().double().numpy() for part in (positions, centres))
        rows = zip(shares, *columns, strict=True)
        spectra = [self._spectra(own, places, at) for own, places, at in rows]
        return torch.as_tensor(np.stack(spectra)).to(positions)

    def _spectra(self, shares: np.ndarray, positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
        soap, there = self.soap, shares.any(1)
        spectra = np.zeros((len(centres), soap.pairs, soap.l_max + 1, soap.n_max, soap.n_max))
        if there.any() and len(centres):
            atoms = Atoms(numbers=1 + shares[there].argmax(1), positions=positions[there])
            made = self.dscribe.create(atoms, centers=list(centres)).reshape(len(centres), -1)
            above = np.triu_indices(soap.n_max)
            for pair, place in enumerate(self.places):
                entries = made[:, place].reshape(len(centres), soap.l_max + 1, -1)
                if entries.shape[2] == soap.n_max**2:
                    spectra[:, pair] = entries.reshape(spectra[:, pair].shape)
                else:
                    spectra[:, pair, :, above[0], above[1]] = entries.transpose(2, 0, 1)
                    spectra[:, pair, :, above[1], above[0]] = entries.transpose(2, 0, 1)
        return spectra.reshape(len(centres), soap.pairs, soap.entries)
