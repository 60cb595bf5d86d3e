"""Candidates, laid under the tip and ranked by how well they fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from afmid.chem import embed
from afmid.data.pack import concatenate
from afmid.errors import DataError
from afmid.evaluate.candidates import CandidateOptions, rank
from afmid.evaluate.placement import apart
from afmid.evaluate.search import ALIKE
from afmid.identification import Atom, Identification, Map
from afmid.molecule import Molecule, Molecules
from afmid.scan import Scan
from afmid.simulate import TIPS, Scene, SimulationOptions, load_engine
from afmid.units import N_per_m

SMILES = ("Cc1ccc(Cl)nc1O", "Cc1ccc(Cl)nc1", "Nc1ccc(F)c(Cl)c1", "CC1CCC(O)CC1N", "O=C1CC2CCC1C2", "c1ccc2occc2c1")
LIBRARY = concatenate([[embed(smiles)] for smiles in SMILES], ["test"] * 6, ["test"] * 6, {})
OPTIONS = CandidateOptions(poses=10, directions=150, shortlist=4, starts=2, top=3)
SQUARE = np.arange(64) * 0.25
_, SIMULATOR = load_engine("auto", "cpu")
USUAL = SimulationOptions()


def scanned(smiles, x=SQUARE, y=SQUARE, at=(8.0, 8.0), turn=1.0, lean=(0.0, 0.0), images=10, higher=0.0, **tip):
    """Return the scan of a molecule turned and shifted in the window: not flat where it leans (radians about x, y)."""
    tilted = Rotation.from_euler("xyz", [*lean, turn]).as_matrix() @ Rotation.from_euler("x", np.pi).as_matrix()
    molecule = embed(smiles).turned(tilted).topmost_at_zero().moved((*at, 0.0))
    tip = replace(TIPS["CO"], **tip)
    closest = USUAL.scene(molecule).z[-1] + higher
    z = closest + 0.1 * np.arange(images + len(USUAL.weights()) - 1)[::-1]
    df = SIMULATOR.images([Scene(molecule, tip, x - tip.offset[0], y - tip.offset[1], z)], USUAL.weights()).values
    return Scan(df[0].numpy(), x, y, z[-images:], z_reference="topmost atom", amplitude=0.5, truth=molecule)


def ranked(scan, library=LIBRARY, options=OPTIONS, **told):
    answer = Identification("method", "1", scan.x, scan.y, **told)
    return rank(answer, scan, library, SIMULATOR, options)


def distance(candidate, truth):
    """Return the largest distance (Å) of a true atom from one of its element: a mirror image may exchange some."""
    apart = np.linalg.norm(candidate.molecule.positions[:, None] - truth.positions, axis=-1)
    return np.where(candidate.molecule.numbers[:, None] == truth.numbers, apart, np.inf).min(0).max()


CASES = {
    "beside the middle": ({"at": (5.5, 10.0), "turn": 2.2}, 0.02),
    "leaning": ({"lean": (0.3, -0.2)}, 0.05),
    "not square, of other pixels": (
        {"x": np.linspace(-20, -6, 50), "y": np.linspace(30, 42, 90), "at": (-12, 37), "turn": -0.5}, 0.02),
    "of four images": ({"images": 4, "turn": 4.0}, 0.05),
    "under a tilted, stiffer tip with a monopole": (
        {"offset": (0.4, -0.2), "lateral_stiffness": 0.5 * N_per_m, "charge": -0.05, "quadrupole": 0.0}, 0.1),
    "from higher up": ({"higher": 0.3}, 0.05),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_molecule_of_the_scan_comes_first_and_lies_where_it_is(case):
    settings, tolerance = CASES[case]
    scan = scanned(SMILES[0], **settings)
    answer = ranked(scan)
    best = answer.candidates[0]
    assert best.smiles == SMILES[0]
    assert answer.fit == best.score == best.scores["fit"] > 0.995
    assert distance(best, scan.truth) < tolerance


def test_a_molecule_whose_hand_is_not_told_is_found_with_either_and_one_whose_hand_is_told_keeps_it():
    smiles = "CC1CCC(O)CC1N"
    molecule = embed(smiles)
    mirrored = replace(molecule, positions=molecule.positions * [-1.0, 1.0, 1.0])
    told = replace(mirrored, smiles="C[C@H]1CC[C@@H](O)C[C@H]1N")  # which of the hands does not matter here
    free, held = (concatenate([[each]], ["test"], ["test"], {}) for each in (mirrored, told))
    scan = scanned(smiles, lean=(0.3, 0.1))
    (either, *_), (other, *_) = (ranked(scan, library).candidates for library in (free, held))
    assert either.scores["fit"] > 0.998 > other.scores["fit"] + 0.001
    assert distance(either, scan.truth) < 0.1 < distance(other, scan.truth)


def test_a_scan_that_does_not_tell_its_height_is_matched_at_the_height_that_fits():
    scan = scanned(SMILES[0], higher=0.2)
    best = ranked(replace(scan, z=scan.z - scan.z[-1], z_reference="last image")).candidates[0]
    assert best.smiles == SMILES[0]
    assert distance(best, scan.truth) < 0.1


def test_a_molecule_that_the_window_cuts_is_found_all_the_same():
    scan = scanned(SMILES[0], at=(1.5, 8.0))
    best = ranked(scan).candidates[0]
    assert best.smiles == SMILES[0]
    assert distance(best, scan.truth) < 0.1


def test_what_the_answer_says_of_the_molecule_counts_beside_the_fit():
    scan = scanned(SMILES[1])
    alone = ranked(scan)
    assert set(alone.candidates[0].scores) == {"fit"}
    said = ranked(scan, smiles=SMILES[1])
    assert set(said.candidates[0].scores) == {"fit", "graph", "formula"}
    assert said.candidates[0].scores["graph"] == said.candidates[0].scores["formula"] == 1
    assert_allclose(said.candidates[0].score, said.fit + 0.2)
    atoms = tuple(Atom(element, 0, 0, 0, 1) for element in ("C",) * 6 + ("N", "Cl", "O"))
    told = ranked(scan, atoms=atoms, options=OPTIONS.model_copy(update={"formula_weight": 10.0}))
    assert told.candidates[0].smiles == SMILES[0]
    assert set(told.candidates[0].scores) == {"fit", "formula"}


def test_of_a_large_library_the_likeliest_are_simulated_and_the_pool_is_told():
    few = OPTIONS.model_copy(update={"most": 2})
    answer = ranked(scanned(SMILES[0]), options=few, smiles=SMILES[0])
    assert len(answer.candidates) == 2
    assert answer.meta["candidates"]["pool"] == 6
    assert answer.meta["candidates"]["simulated"] == 2


def test_the_same_scan_gives_the_same_ranking_and_tells_its_progress():
    scan, shares = scanned(SMILES[0]), []
    answer = Identification("method", "1", scan.x, scan.y)
    one, other = (rank(answer, scan, LIBRARY, SIMULATOR, OPTIONS, shares.append) for _ in range(2))
    assert [c.score for c in one.candidates] == [c.score for c in other.candidates]
    assert shares == sorted(shares[: len(shares) // 2]) * 2
    assert shares[-1] == pytest.approx(1)


def test_without_a_library_the_answers_own_molecule_is_laid_under_the_tip():
    scan = scanned(SMILES[5])
    answer = ranked(scan, None, smiles=SMILES[5])
    assert [candidate.smiles for candidate in answer.candidates] == [SMILES[5]]
    assert answer.fit > 0.99
    assert answer.candidates[0].formula == "C8H6O"
    assert answer.candidates[0].molecule.positions[:, 2].max() == 0
    assert ranked(scan, None).candidates == ()


def test_candidates_and_answers_without_a_valid_smiles_are_ranked_all_the_same():
    scan = scanned(SMILES[0])
    unnamed = concatenate([[replace(embed(SMILES[0]), smiles="")], [embed(SMILES[1])]], ["", ""], ["", ""], {})
    best = ranked(scan, unnamed, smiles="][").candidates[0]
    assert (best.smiles, best.inchikey, best.formula) == ("", "", "")
    assert 0.99 < best.score == best.scores["fit"] <= 1
    assert best.scores.keys() == {"fit"}


def test_a_scan_too_wide_to_be_searched_is_refused():
    scan = scanned(SMILES[0])
    with pytest.raises(DataError, match="the scan is 300 Å wide, and candidates are searched in 80; crop it"):
        ranked(replace(scan, y=np.linspace(0, 300, 64)))


def test_candidates_of_elements_without_parameters_are_left_out():
    krypton = Molecule(np.array([36]), np.zeros((1, 3)), smiles="[Kr]")
    scan = scanned(SMILES[0])
    mixed = concatenate([[krypton], [embed(SMILES[0])]], ["", ""], ["", ""], {})
    assert [candidate.smiles for candidate in ranked(scan, mixed).candidates] == [SMILES[0]]
    with pytest.raises(DataError, match="no candidate of the library can be simulated"):
        ranked(scan, concatenate([[krypton]], [""], [""], {}))


class Tops:
    """Draws the upper surface of molecules, made of paraboloids."""

    rendered_maps = ("tops",)

    def rendered(self, molecules, x, y, names):
        places, atoms = molecules.positions, molecules.numbers[:, None, None] > 0
        squares = (x[:, None, None] - places[:, None, None, :, 0]) ** 2 + (
            y[:, None] - places[:, None, None, :, 1]
        ) ** 2
        surface = np.where(
            atoms, places[:, None, None, :, 2] - 0.3 * squares * (1 + (molecules.numbers == 1)[:, None, None]), -9
        )
        level = surface.max((1, 2, 3), keepdims=True)
        return torch.tensor(np.maximum(surface - level + 1.5, 0).max(3)[:, None], dtype=torch.float32)


def mapped(scan, library, **options):
    """Return the ranking by a method whose maps have no error."""
    (tops,) = Tops().rendered(Molecules.of([scan.truth]), scan.x, scan.y, ("tops",))[0].numpy()
    answer = Identification("method", "1", scan.x, scan.y, maps={"tops": Map(tops, "Å")})
    return rank(answer, scan, library, SIMULATOR, OPTIONS.model_copy(update=options), method=Tops())


@pytest.mark.parametrize("by", ["maps", "both"])
def test_molecules_are_found_in_maps_alone_under_a_tip_that_is_not_known(by, caplog):
    scan = replace(scanned("CC1CCC(O)CC1N", lean=(0.9, -0.5)), tip="Cu")
    answer = mapped(scan, LIBRARY, by=by, configurations=2)
    assert ("ranked by the maps alone: the scan: no tip 'Cu'; there are: CO, Xe, Cl" in caplog.text) == (by == "both")
    best = answer.candidates[0]
    assert best.smiles == "CC1CCC(O)CC1N"
    assert best.score == best.scores["maps"] > 0.99
    assert best.scores.keys() == {"maps"}
    assert answer.meta["candidates"]["ranked_by"] == ["maps"]
    assert answer.fit is None
    assert distance(best, scan.truth) < 0.3
    assert len(answer.candidates) == 2 * OPTIONS.top


def test_what_is_found_in_maps_is_settled_in_the_images_and_both_count():
    scan = scanned("CC1CCC(O)CC1N", lean=(0.9, -0.5), higher=0.2)
    answer = mapped(replace(scan, z=scan.z - scan.z[-1], z_reference="last image"), LIBRARY)
    best = answer.candidates[0]
    assert best.smiles == "CC1CCC(O)CC1N"
    assert distance(best, scan.truth) < 0.1
    assert answer.fit == best.scores["fit"] > 0.995
    assert_allclose(best.score, best.scores["fit"] + 0.1 * best.scores["maps"])


def test_of_a_single_molecule_the_ways_it_may_lie_are_ranked_and_none_is_its_mirror_image():
    smiles = "C[C@H]1CC[C@@H](O)C[C@H]1N"
    molecule = embed(smiles)
    library = concatenate([[molecule]], ["test"], ["test"], {})
    answer = mapped(scanned(smiles, lean=(0.4, 0.3)), library, by="maps", top=4)
    assert [candidate.smiles for candidate in answer.candidates] == [smiles] * 4
    scores = [candidate.score for candidate in answer.candidates]
    assert scores == sorted(scores, reverse=True)
    for candidate in answer.candidates:
        centred = [each.positions - each.positions.mean(0) for each in (candidate.molecule, molecule)]
        assert np.linalg.det(centred[0].T @ centred[1]) > 0
    lying = Molecules.of([candidate.molecule for candidate in answer.candidates])
    assert min(apart(lying, i, range(i)).min() for i in range(1, 4)) > ALIKE


def test_without_maps_that_the_method_draws_images_are_searched_and_maps_alone_are_refused():
    scan = scanned(SMILES[0])
    assert ranked(scan, options=OPTIONS.model_copy(update={"by": "both"})).candidates[0].scores.keys() == {"fit"}
    with pytest.raises(DataError, match="draws no maps of candidates; rank by images: --set candidates"):
        ranked(scan, options=OPTIONS.model_copy(update={"by": "maps"}))
