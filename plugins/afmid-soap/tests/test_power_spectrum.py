"""The power spectrum: its laws, and dscribe's own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation
from scipy.special import eval_legendre

from afmid_soap.power_spectrum import Soap, flattened, solid_harmonics
from afmid_soap.reference import DscribeSoap

GRAPHS = Soap(classes=5, n_max=3, l_max=2)  # of the graph network
STUDY = Soap(classes=3, n_max=4, l_max=3)  # of the predictor's study
SOAPS = sampled_from([GRAPHS, STUDY])


def molecule(seed, soap, atoms=12, spread=4.0):
    """Return places (1, N, 3) and one-hot classes (1, N, classes) of random atoms, in double precision."""
    rng = np.random.default_rng(seed)
    classes = np.eye(soap.classes)[rng.integers(soap.classes, size=atoms)]
    return torch.tensor(rng.uniform(-spread, spread, (1, atoms, 3))), torch.tensor(classes)[None]


def around(soap, positions, classes):
    return soap(positions, classes, positions)


def assert_alike(actual, expected, tolerance=1e-5):
    """Assert that two spectra agree to `tolerance` of the largest entry of each pair of classes."""
    size = expected.abs().amax((0, 1, 3), keepdim=True).clamp_min(1e-12)
    assert float(((actual - expected).abs() / size).max()) < tolerance


@settings(deadline=None, max_examples=30)
@given(seed=integers(0, 2**32 - 1), soap=SOAPS, atoms=integers(1, 30))
def test_spectra_are_those_of_dscribe(seed, soap, atoms):
    positions, classes = molecule(seed, soap, atoms)
    assert_alike(around(soap, positions, classes), DscribeSoap(soap)(positions, classes, positions))


@settings(deadline=None, max_examples=15)
@given(seed=integers(0, 2**32 - 1), soap=SOAPS)
def test_spectra_at_places_without_an_atom_are_those_of_dscribe(seed, soap):
    positions, classes = molecule(seed, soap)
    centres, _ = molecule(seed + 1, soap, atoms=5)
    assert_alike(soap(positions, classes, centres), DscribeSoap(soap)(positions, classes, centres))


@settings(deadline=None, max_examples=30)
@given(seed=integers(0, 2**32 - 1), soap=SOAPS)
def test_turning_mirroring_and_shifting_a_molecule_changes_nothing(seed, soap):
    positions, classes = molecule(seed, soap)
    rng = np.random.default_rng(seed)
    matrix = Rotation.random(rng=rng).as_matrix() * rng.choice([-1, 1])
    moved = positions @ torch.tensor(matrix).T + torch.tensor(rng.uniform(-9, 9, 3))
    assert_alike(around(soap, moved, classes), around(soap, positions, classes))


def test_single_precision_is_enough_for_1e_5():
    positions, classes = molecule(3, GRAPHS, atoms=30)
    rough = around(GRAPHS, positions.float(), classes.float())
    assert_alike(rough.double(), around(GRAPHS, positions, classes))


def test_mixed_precision_leaves_spectra_in_single_precision():
    positions, classes = (part.float() for part in molecule(3, GRAPHS))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = around(GRAPHS, positions, classes)
    torch.testing.assert_close(mixed, around(GRAPHS, positions, classes), rtol=0, atol=0)


@pytest.mark.parametrize("soap", [Soap(2, 2, 2), Soap(2, 2, 3)])
def test_gradients_flow_to_places_shares_and_centres(soap):
    positions, classes = molecule(5, soap, atoms=4, spread=2.0)
    parts = [part.requires_grad_() for part in (positions, classes, positions.detach()[:, :2].clone())]
    assert torch.autograd.gradcheck(lambda *given: soap(*given), parts)


def test_the_gradient_is_finite_where_an_atom_is_the_centre():
    positions, classes = molecule(6, STUDY)
    positions.requires_grad_()
    around(STUDY, positions, classes).square().sum().backward()
    assert positions.grad.isfinite().all()


@given(seed=integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=10)
def test_the_order_of_the_atoms_makes_no_difference(seed):
    positions, classes = molecule(seed, GRAPHS)
    order = np.random.default_rng(seed).permutation(positions.shape[1])
    mixed = GRAPHS(positions[:, order], classes[:, order], positions)
    assert_alike(mixed, around(GRAPHS, positions, classes), 1e-10)


def test_a_batch_equals_its_members_and_what_fills_it_up_counts_nothing():
    (large, kinds), (small, few) = molecule(1, GRAPHS, 9), molecule(2, GRAPHS, 4)
    fill = torch.nn.functional.pad
    positions = torch.cat([large, fill(small, (0, 0, 0, 5))])
    classes = torch.cat([kinds, fill(few, (0, 0, 0, 5))])
    both = around(GRAPHS, positions, classes)
    torch.testing.assert_close(both[:1], around(GRAPHS, large, kinds))
    torch.testing.assert_close(both[1:, :4], around(GRAPHS, small, few))


def test_an_atom_beyond_reach_does_not_count():
    positions, classes = molecule(1, GRAPHS, 2)
    positions = torch.tensor([[[0.0, 0, 0], [GRAPHS.reach + 1e-6, 0, 0]]], dtype=torch.float64)
    alone = GRAPHS(positions[:, :1], classes[:, :1], positions[:, :1])
    torch.testing.assert_close(GRAPHS(positions, classes, positions[:, :1]), alone, rtol=0, atol=0)


def test_two_halves_of_an_atom_are_one():
    positions, classes = molecule(1, GRAPHS)
    halves = torch.cat([positions, positions], 1), torch.cat([classes, classes], 1) / 2
    torch.testing.assert_close(GRAPHS(*halves, positions), around(GRAPHS, positions, classes))


def test_the_addition_theorem_holds_for_the_harmonics():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20, 3))
    r, s = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    for degree, (first, second) in enumerate(zip(*(solid_harmonics(torch.tensor(v), 3) for v in (a, b)), strict=True)):
        assert first.shape[1] == 2 * degree + 1
        expected = (2 * degree + 1) / (4 * np.pi) * (r * s) ** degree * eval_legendre(degree, (a * b).sum(1) / (r * s))
        assert_allclose((first * second).sum(1), expected, rtol=1e-10, atol=1e-12)


def test_flattened_spectra_keep_their_signs_and_order():
    spectra = torch.tensor([[[-100.0, 0.0], [1.0, 1000.0]]])
    flat = flattened(spectra)
    assert flat.shape == (1, 4)
    assert (flat.argsort(1) == torch.tensor([[0, 1, 2, 3]])).all()
    assert flat[0, 0] == -flattened(-spectra)[0, 0]


@pytest.mark.parametrize("wrong", [{"l_max": 4}, {"n_max": 0}, {"classes": 0}, {"cutoff": 1.0}, {"sigma": 0.0}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="SOAP"):
        Soap(**wrong)


def test_dscribe_refuses_shares_of_classes():
    positions, classes = molecule(0, GRAPHS)
    with pytest.raises(ValueError, match="one class each"):
        DscribeSoap(GRAPHS)(positions, classes / 2, positions)


@pytest.mark.parametrize("count", [0, 3])
def test_where_there_are_no_atoms_or_no_centres_dscribe_is_not_asked(count):
    positions, classes = molecule(0, GRAPHS, 3)
    nothing = DscribeSoap(GRAPHS)(positions, torch.zeros_like(classes), positions[:, :count])
    assert nothing.shape == (1, count, 15, 27)
    assert not nothing.any()
