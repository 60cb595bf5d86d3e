"""The model is held to the simulator and to finite differences; refinement to hidden truths under unknown tips."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from afmid.chem import embed, with_charges
from afmid.errors import DataError
from afmid.evaluate.refine import RefineOptions, correlation, refine, refined
from afmid.evaluate.refine.fit import FEWEST, MOST_VALUES, WIDTHS, Measured, Model, noise_of, tip_of
from afmid.evaluate.refine.swaps import CERTAIN
from afmid.identification import Atom, Bond, Candidate, Identification
from afmid.molecule import SYMBOLS, Molecule
from afmid.scan import ABOVE_ATOM, ABOVE_LAST_IMAGE, Scan
from afmid.simulate import TIPS, SimulationOptions, TorchSimulator, simulate

SETTINGS = SimulationOptions(size=12, pixels=48, heights=8, charge=-0.08, quadrupole=-0.05, lateral_stiffness=0.2)
FEW = RefineOptions(pixels=1200)
NOISE = 0.05  # Hz


def scan_of(
    molecule: Molecule, settings: SimulationOptions = SETTINGS, noise: float = NOISE, tell: bool = False
) -> Scan:
    """Return a scan that does not tell its tip, unless it is to."""
    (scan,) = simulate([molecule], settings, TorchSimulator())
    df = scan.df + noise * np.random.default_rng(1).standard_normal(scan.df.shape)
    return replace(scan, df=df, meta=scan.meta if tell else {})


def displaced(molecule: Molecule, seed: int = 2) -> Molecule:
    """Return a molecule whose atoms are moved by 0.2 Å rms."""
    step = np.random.default_rng(seed).standard_normal(molecule.positions.shape) * 0.2 / np.sqrt(3)
    return replace(molecule, positions=molecule.positions + step)


def answer_of(molecule: Molecule, scan: Scan, **given) -> Identification:
    atoms = tuple(
        Atom(symbol, *place, confidence=0.9)
        for symbol, place in zip(molecule.symbols, molecule.positions.tolist(), strict=True)
    )
    pairs = zip(molecule.bonds.tolist(), molecule.orders.tolist(), strict=True)
    bonds = tuple(Bond(a, b, order, 0.9) for (a, b), order in pairs)
    return Identification("test", "1", scan.x, scan.y, **{"atoms": atoms, "bonds": bonds, **given})


@pytest.fixture(scope="module")
def formaldoxime() -> Molecule:
    """A small flat molecule, turned off the pixel grid."""
    return _turned(embed("C=NO"))


@pytest.fixture(scope="module")
def chlorofluorobenzene() -> Molecule:
    return _turned(embed("Fc1ccc(Cl)cc1"))


def _turned(molecule: Molecule) -> Molecule:
    cos, sin = np.cos(0.3), np.sin(0.3)
    turned = molecule.turned(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]))
    return turned.moved((0.031, 0.017, 0)).topmost_at_zero()


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (SETTINGS, 1e-3),
        (SETTINGS.model_copy(update={"tip": "Xe", "tilt_x": 0.3, "tilt_y": -0.2, "amplitude": 0.37}), 1e-3),
        (SETTINGS.model_copy(update={"step": 0.25, "heights": 3}), 0.05),  # the model takes the force more often
    ],
    ids=["CO", "tilted Xe", "long steps"],
)
def test_at_its_start_the_model_is_the_scan_that_its_settings_make(formaldoxime, settings, tolerance):
    scan = scan_of(formaldoxime, settings, noise=0, tell=True)
    assert scan.truth is not None
    model = Model(Measured.of(scan, formaldoxime, 500, None), scan.truth, tip_of(scan))
    residual, _ = model.compare(model.start(), len(scan.z))
    assert residual[..., 0].numel() <= 500
    assert residual.shape[2] == len(scan.z)
    assert residual.abs().max() < tolerance * np.ptp(scan.df)


def test_heights_of_any_spacing_lie_near_heights_of_the_force(formaldoxime):
    scan = scan_of(formaldoxime)
    for z in ([0.3531, 0.1, 0.0], [2.0, 1.7, 0.9, 0.0], [0.31, 0.0], [0.0]):
        some = replace(scan, df=scan.df[..., : len(z)], z=np.array(z) + 3.1)
        measured = Measured.of(some, formaldoxime, 500, None)
        assert_allclose(measured.z[measured.images + len(measured.weights) - 1], some.z, atol=0.02)
        assert -0.11 < np.diff(measured.z).max() < 0
        assert np.ptp(measured.z) > 0.99


def test_images_may_be_missing(formaldoxime):
    scan = scan_of(formaldoxime, noise=0, tell=True)
    kept = [0, 2, 3, 7]
    few = replace(scan, df=scan.df[..., kept], z=scan.z[kept])
    model = Model(Measured.of(few, formaldoxime, 500, None), few.truth, tip_of(few))
    for images in (2, 4):
        assert model.compare(model.start(), images)[0].abs().max() < 1e-3


def test_the_derivatives_are_those_of_finite_differences(formaldoxime):
    scan = scan_of(formaldoxime)
    model = Model(Measured.of(scan, formaldoxime, 100, None), formaldoxime.moved((0, 0, -0.7)), tip_of(scan))
    model.engine, model.batch = TorchSimulator(precision="double"), _double(model.batch)
    model.widths, model.linear = model.widths.double(), model.linear.double()
    generator = torch.Generator().manual_seed(0)
    theta = 0.3 * torch.randn(len(model.start()), generator=generator, dtype=torch.float64)
    images = len(scan.z)
    _, jacobian = model.compare(theta, images, presence=True)
    assert len(theta) == 3 * len(formaldoxime) + len(WIDTHS)
    assert jacobian.shape[-1] == len(theta) + len(formaldoxime)
    for at in range(len(theta)):
        step = torch.zeros_like(theta)
        step[at] = 1e-4
        ahead, behind = (model.compare(theta + sign * step, images)[0] for sign in (1, -1))
        column = (behind - ahead) / 2e-4
        assert (column - jacobian[..., at]).abs().median() <= 1e-5 * jacobian[..., at].abs().max()


def _double(batch):
    values = {
        name: value.double()
        for name, value in vars(batch).items()
        if torch.is_tensor(value) and value.is_floating_point()
    }
    return replace(batch, **values)


@given(sigma=st.floats(0.01, 10), seed=st.integers(0, 100))
def test_noise_is_found_under_a_smooth_scan(sigma, seed):
    x, y = np.meshgrid(np.linspace(0, 12, 64), np.linspace(0, 12, 64), indexing="ij")
    smooth = (np.sin(x) * np.cos(y))[..., None] * np.linspace(0.01, 1, 5)
    noise = sigma * np.random.default_rng(seed).standard_normal(smooth.shape)
    assert_allclose(noise_of((smooth + noise).astype(np.float32)), sigma, rtol=0.1)


@pytest.mark.parametrize("last_image", [False, True], ids=["height known", "height unknown"])
def test_displaced_atoms_come_back_under_an_unknown_tip_and_errors_are_as_large_as_said(formaldoxime, last_image):
    scan = scan_of(formaldoxime)
    if last_image:
        scan = replace(scan, z=scan.z - scan.z[-1], z_reference=ABOVE_LAST_IMAGE)
    lines: list[str] = []
    found = refine(scan, displaced(formaldoxime), FEW, lines.append)
    left = found.molecule.positions - scan.truth.positions
    left[:, 2] -= left[:, 2].mean()
    assert found.supported.all()
    assert np.sqrt((left**2).sum(1).mean()) < 0.03
    assert 0.3 < np.sqrt(((left / found.sigma) ** 2).mean()) < 2
    assert found.fit_before < found.fit_after > 0.97
    assert found.rms_after < 1.1 * NOISE < found.rms_before
    assert_allclose(found.noise, NOISE, rtol=0.1)
    assert found.converged
    assert not any(trial.adopted for trial in found.swaps)
    for name, value in {"charge_e": -0.08, "quadrupole_e_angstrom2": -0.05, "lateral_stiffness_n_per_m": 0.2}.items():
        assert abs(found.tip[name][0] - value) < 5 * found.tip[name][1] + 0.005
    assert len(lines) == found.iterations


def test_swapped_halogens_are_found_and_how_sure_that_is(chlorofluorobenzene, caplog):
    scan = scan_of(chlorofluorobenzene)
    numbers = chlorofluorobenzene.numbers.copy()
    ends = np.flatnonzero(numbers > 8)
    numbers[ends] = numbers[ends[::-1]]
    wrong = with_charges(replace(chlorofluorobenzene, numbers=numbers, smiles="nothing"))
    with caplog.at_level(logging.WARNING):
        found = refine(scan, wrong, FEW)
    assert not caplog.records
    assert (found.molecule.numbers == chlorofluorobenzene.numbers).all()
    assert_allclose(found.molecule.charges, chlorofluorobenzene.charges, atol=1e-6)
    adopted = [trial for trial in found.swaps if trial.adopted]
    assert {atom for trial in adopted for atom in trial.changes} == set(ends.tolist())
    assert all(trial.gain > 10 and 0.9 < trial.probability <= CERTAIN for trial in adopted)

    answer = refined(answer_of(wrong, scan, smiles="c1ccccc1"), found)
    assert [atom.element for atom in answer.atoms] == chlorofluorobenzene.symbols
    assert answer.smiles == "Fc1ccc(Cl)cc1"
    assert max(atom.z for atom in answer.atoms) == pytest.approx(0)
    assert all(atom.sigma and max(atom.sigma) < 0.2 for atom in answer.atoms)
    assert answer.fit == found.fit_after
    record = json.loads(json.dumps(answer.meta))["refinement"]
    assert [atom["element"] for atom in record["atoms"]] == chlorofluorobenzene.symbols
    assert record["swaps"][0]["probability"] == found.swaps[0].probability
    changed = {atom: trial.probability for trial in adopted for atom in trial.changes}
    assert [answer.atoms[i].confidence for i in ends] == [changed[i] for i in ends]


def test_an_atom_that_is_not_there_is_not_supported_and_loses_its_confidence(formaldoxime):
    scan = scan_of(formaldoxime)
    more = Molecule(
        np.append(formaldoxime.numbers, 1),
        np.vstack([formaldoxime.positions, [3.5, -3.5, 0.0]]),
        np.append(formaldoxime.charges, 0.1),
    )
    found = refine(scan, more, FEW.model_copy(update={"swaps": False}))
    assert found.supported.tolist() == [True] * len(formaldoxime) + [False]
    answer = refined(answer_of(more, scan), found)
    assert answer.atoms[-1].confidence < 0.1
    assert all(atom.confidence == 0.9 for atom in answer.atoms[:-1])


def test_a_tilted_tip_is_found_and_leaves_the_molecule_where_the_resting_probe_sees_it(formaldoxime):
    scan = scan_of(formaldoxime, SETTINGS.model_copy(update={"tilt_x": 0.15, "tilt_y": -0.1}))
    assert scan.truth is not None
    found = refine(scan, scan.truth, FEW.model_copy(update={"swaps": False}))
    for axis, tilt in (("x", 0.15), ("y", -0.1)):
        value, sigma = found.tip[f"tilt_{axis}_angstrom"]
        assert abs(value - tilt) < min(5 * sigma, 0.08)
    left = found.molecule.positions - scan.truth.positions
    assert np.abs(left[:, :2].mean(0)).max() < 0.04


def test_without_free_tip_the_tip_is_held(formaldoxime):
    scan = scan_of(formaldoxime, tell=True)
    found = refine(scan, displaced(formaldoxime), RefineOptions(pixels=1200, tip=False))
    assert set(found.tip) == {"df_factor", "df_offset_hz", "df_slope_hz_per_angstrom"}
    assert found.rms_after < 1.1 * NOISE


def test_where_atoms_have_no_elements_the_best_candidate_takes_the_new_places(formaldoxime):
    scan = scan_of(formaldoxime)
    other = Candidate("CC", "OTMSDBZUPAUEDD-UHFFFAOYSA-N", "C2H6", 0.1)
    best = Candidate("C=NO", "SFGRWXLROIRCJG-UHFFFAOYSA-N", "CH3NO", 1.0, molecule=formaldoxime)
    bare = answer_of(formaldoxime, scan, atoms=(Atom(None, 0, 0, 0, 0.5),), bonds=(), candidates=(other, best))
    assert bare.molecule is formaldoxime
    found = refine(scan, displaced(formaldoxime), FEW)
    answer = refined(bare, found)
    assert answer.atoms == bare.atoms
    assert answer.candidates[0] is other
    assert_allclose(answer.candidates[1].molecule.positions, found.molecule.topmost_at_zero().positions)
    assert answer.candidates[1].inchikey == best.inchikey


def test_a_candidate_whose_elements_change_is_called_what_it_has_become(chlorofluorobenzene):
    scan = scan_of(chlorofluorobenzene)
    numbers = chlorofluorobenzene.numbers.copy()
    numbers[numbers == 17] = 35
    wrong = replace(chlorofluorobenzene, numbers=numbers, smiles="Fc1ccc(Br)cc1")
    best = Candidate("Fc1ccc(Br)cc1", "AITNMTXHTIIIBB-UHFFFAOYSA-N", "C6H4BrF", 1.0, {"fit": 0.9}, wrong)
    answer = refined(answer_of(wrong, scan, atoms=(), bonds=(), candidates=(best,)), refine(scan, wrong, FEW))
    (moved,) = answer.candidates
    assert (moved.smiles, moved.inchikey, moved.formula) == (
        "Fc1ccc(Cl)cc1", "RJCGZNCCVKIBHO-UHFFFAOYSA-N", "C6H4ClF",
    )  # fmt: skip
    assert moved.molecule.symbols == chlorofluorobenzene.symbols
    assert moved.molecule.smiles == moved.smiles


def test_elements_are_not_tried_where_the_molecule_explains_little_of_the_scan(formaldoxime):
    scan = scan_of(formaldoxime)
    near = replace(scan, z=scan.z - scan.z[-1] - 2, z_reference=ABOVE_ATOM)  # as if from within the molecule
    lines: list[str] = []
    found = refine(near, formaldoxime, FEW.model_copy(update={"iterations": 3}), lines.append)
    assert found.swaps == ()
    assert "explains too little" in lines[-1]


def test_a_spike_in_the_scan_is_not_taken_for_its_noise(formaldoxime):
    scan = scan_of(formaldoxime)
    scan.df[2, 2, 1] = 1e4
    found = refine(scan, formaldoxime, FEW.model_copy(update={"swaps": False}))
    assert_allclose(found.noise, NOISE, rtol=0.1)
    assert found.supported.all()


@pytest.mark.parametrize(
    "wrong",
    [{"probe": "U"}, {"probe": "Qq"}, {"charge": float("nan")}, {"charge": 10**400}, {"lateral_stiffness_n_per_m": -1},
     {"length": None}, {"offset": [9.0, 9.0]}, {"offset": "no"}],
)  # fmt: skip
def test_a_record_of_a_tip_that_cannot_be_is_passed_over(formaldoxime, wrong):
    scan = scan_of(formaldoxime, tell=True)
    assert tip_of(scan).charge == pytest.approx(-0.08)
    assert tip_of(replace(scan, meta={"tip": {**scan.meta["tip"], **wrong}})) == TIPS["CO"]


def test_many_images_of_many_atoms_are_fitted_on_fewer_pixels(formaldoxime):
    scan = scan_of(formaldoxime)
    scan = replace(scan, df=np.repeat(scan.df, 60, axis=2), z=scan.z[-1] + 0.01 * np.arange(480)[::-1])
    many = Molecule(np.full(300, 6), np.tile(formaldoxime.positions, (50, 1)))
    measured = Measured.of(scan, many, 8000, None)
    assert FEWEST**2 / 4 <= measured.df[..., 0].numel() <= FEWEST**2
    measured = Measured.of(scan, formaldoxime, 8000, None)
    assert 400 < measured.df[..., 0].numel() < MOST_VALUES // (480 * 4 * len(formaldoxime))


def test_what_cannot_be_refined_is_refused(formaldoxime):
    scan = scan_of(formaldoxime)
    with pytest.raises(DataError, match="holds phase"):
        refine(replace(scan, channel="phase"), formaldoxime)
    with pytest.raises(DataError, match="the same everywhere"):
        refine(replace(scan, df=np.ones_like(scan.df)), formaldoxime)
    with pytest.raises(DataError, match="beside the scan"):
        refine(scan, formaldoxime.moved((20, 0, 0)))
    with pytest.raises(DataError, match="on 5 pixels across; refinement takes 8"):
        refine(replace(scan, df=scan.df[::8, ::8], x=scan.x[::8], y=scan.y[::8]), formaldoxime)
    with pytest.raises(DataError, match="no tip 'Cu'; there are: CO, Xe, Cl"):
        refine(replace(scan, tip="Cu"), formaldoxime)
    with pytest.raises(DataError, match="beyond all numbers"):
        refine(replace(scan, df=1e20 * scan.df), formaldoxime, FEW)
    many = Molecule(np.full(301, 6), np.zeros((301, 3)), np.ones(301))
    with pytest.raises(DataError, match="up to 300 atoms; the molecule has 301"):
        refine(scan, many)
    odd = Molecule(np.array([SYMBOLS.index("U")]), np.zeros((1, 3)), np.ones(1))
    with pytest.raises(DataError, match="no Lennard-Jones parameters for U"):
        refine(scan, odd)


def test_correlation_does_not_see_what_is_the_same_all_over_an_image():
    a = torch.randn(8, 8, 3, generator=torch.Generator().manual_seed(0))
    assert correlation(a, 2 * a + torch.tensor([1.0, -5.0, 3.0])) == pytest.approx(1)
    assert correlation(a, torch.ones_like(a)) == 0
