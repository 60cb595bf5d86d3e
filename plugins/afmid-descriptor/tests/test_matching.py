"""Maps of candidates."""

import numpy as np
import torch

from afmid import Molecule
from afmid.chem import embed
from afmid.molecule import Molecules
from afmid_descriptor.maps import MAPS
from afmid_descriptor.matching import RENDERED, rendered
from afmid_descriptor.targets import descriptor_maps

X, Y = np.linspace(-6, 6, 25), np.linspace(-5, 7, 33)


def test_maps_of_candidates_are_those_that_the_network_learns_at_any_height():
    molecules = [embed("c1ccccc1O"), embed("CO").moved((1.0, 2.0, -5.0))]
    maps = rendered(Molecules.of(molecules), X, Y)
    assert maps.shape == (2, len(RENDERED), 25, 33)
    assert maps.dtype == torch.float32
    for molecule, its in zip(molecules, maps, strict=True):
        numbers, positions = torch.from_numpy(molecule.numbers)[None], torch.from_numpy(molecule.positions)[None]
        axes = torch.from_numpy(X)[None], torch.from_numpy(Y)[None]
        learnt = descriptor_maps(numbers, positions, numbers > 0, *axes, names=RENDERED)[0]
        assert (its - learnt).abs().max() < 1e-3
    assert set(RENDERED) <= set(MAPS)


def test_names_choose_maps_in_their_order():
    molecules = Molecules.of([Molecule(np.array([6]), np.zeros((1, 3)))])
    both, turned = rendered(molecules, X, Y), rendered(molecules, X, Y, RENDERED[::-1])
    assert torch.equal(both, turned.flip(1))
    assert not torch.equal(both[:, 0], both[:, 1])
