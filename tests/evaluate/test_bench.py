"""What molecules look like under the tip of a scan."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from afmid.chem import embed
from afmid.errors import DataError
from afmid.evaluate.bench import ImageBench, MapBench
from afmid.identification import Identification, Map
from afmid.molecule import Molecules
from afmid.simulate import SimulationOptions, load_engine, simulate

_, SIMULATOR = load_engine("auto", "cpu")
MOLECULE = embed("Cc1ccc(Cl)nc1O")


@pytest.fixture(scope="module")
def scan():
    return next(simulate([MOLECULE], SimulationOptions(size=12, pixels=40), SIMULATOR))


class Spots:
    """Draws a spot on every atom: sharp ones and, fainter, broad ones."""

    rendered_maps = ("sharp", "broad", "other")

    def rendered(self, molecules, x, y, names):
        places, atoms = torch.from_numpy(molecules.positions), torch.from_numpy(molecules.numbers > 0)
        axes = (torch.from_numpy(axis) for axis in (x, y))
        dx, dy = ((axis[:, None] - places[:, None, :, i]) ** 2 for i, axis in enumerate(axes))
        squares = dx[:, :, None] + dy[:, None]
        widths = {"sharp": 0.3, "broad": 2.0}
        spots = [(torch.exp(-squares / widths[name]) * widths[name] * atoms[:, None, None]).sum(-1) for name in names]
        return torch.stack(spots, 1).float()


def test_a_bench_makes_the_images_of_the_scan_from_its_own_heights(scan):
    for count, step in ((10, 0.1), (3, 0.1), (3, 0.2)):
        bench = ImageBench.of(scan, SIMULATOR, count, step=step)
        images = bench.images(Molecules.of([scan.truth]), scan.x, scan.y)[0].numpy()
        wanted = scan.df[..., bench.chosen]
        assert images.shape == (40, 40, count)
        assert np.corrcoef(images.ravel(), wanted.ravel())[0, 1] > (0.99999 if step == 0.1 else 0.995)


def test_a_scan_that_cannot_be_simulated_is_refused(scan):
    with pytest.raises(DataError, match="holds phase"):
        ImageBench.of(replace(scan, channel="phase"), SIMULATOR, 3)
    with pytest.raises(DataError, match="no tip 'Cu'; there are: CO, Xe, Cl"):
        ImageBench.of(replace(scan, tip="Cu"), SIMULATOR, 3)


def test_molecules_are_laid_at_the_height_that_the_scan_tells_or_as_far_away_as_usual(scan):
    truth, raised = Molecules.of([scan.truth]), Molecules.of([scan.truth.moved((0, 0, 3.3))])
    told = ImageBench.of(scan, SIMULATOR, 3)
    assert_allclose(told.laid(raised).positions, truth.positions, atol=1e-9)
    untold = ImageBench.of(replace(scan, z=scan.z - scan.z[-1], z_reference="last image"), SIMULATOR, 3)
    assert_allclose(untold.laid(raised).positions, truth.positions - [0, 0, scan.z[-1]], atol=1e-9)


def test_maps_of_the_true_molecule_are_those_of_an_answer_without_error_each_of_one_variance(scan):
    molecules = Molecules.of([scan.truth])
    sharp, broad = (image.numpy() for image in Spots().rendered(molecules, scan.x, scan.y, ("sharp", "broad"))[0])
    maps = {"broad": Map(broad, "1"), "sharp": Map(sharp, "1"), "else": Map(sharp, "1")}
    bench = MapBench.of(Identification("m", "1", scan.x, scan.y, maps=maps), Spots())
    assert list(bench.deviations) == ["sharp", "broad"]
    assert_allclose(bench.target.std((0, 1)), 1, rtol=1e-5)
    assert_allclose(bench.images(molecules, scan.x, scan.y)[0], bench.target, atol=1e-5)


def test_an_answer_without_maps_that_are_drawn_or_with_empty_ones_alone_has_nothing_to_match(scan):
    empty = np.zeros((len(scan.x), len(scan.y)), np.float32)
    for maps in ({}, {"else": Map(empty + scan.x[:, None], "1")}, {"sharp": Map(empty, "1")}):
        assert MapBench.of(Identification("m", "1", scan.x, scan.y, maps=maps), Spots()) is None
