import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr
from sklearn.metrics import confusion_matrix, mean_squared_error, precision_recall_fscore_support

from afmid.builtin import afmid_evaluate
from afmid.errors import DataError
from afmid.evaluate import Confusion, Samples, Share, evaluate, map_figures, summarise
from afmid.evaluate.figures import from_json, to_json
from afmid.evaluate.metrics import (
    CLASSES,
    atoms,
    bonds,
    candidates,
    confidence,
    depth,
    elements,
    molecule,
)
from afmid.identification import Atom, Bond, Candidate, Identification
from afmid.molecule import LEARNT, SYMBOLS, Molecule

AXIS = np.linspace(-8, 8, 5)
METRICS = afmid_evaluate()
SCORES = {metric.name: metric.load() for metric in METRICS}
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
ETHANOL, BENZENE = "LFQSCWFLJHTTHZ", "UHOVQNZJYSORNB"  # first blocks of the InChIKeys

# Three visible atoms in a row and a hidden oxygen; C–C, C–N, N=O are bonded.
TRUTH = Molecule([6, 6, 7, 8], [[0, 0, 5.0], [1.5, 0, 4.8], [3, 0, 4.5], [4.5, 0, 3.0]], bonds=[[0, 1], [1, 2], [2, 3]],
                 orders=[1, 1, 2], smiles="CCN=O")  # fmt: skip


def answer(*atoms, bonds=(), smiles=None, keys=(), meta=None, sure=0.5):
    """Return an answer of atoms (element, x, y, z), bonds (a, b, order) and candidates' InChIKeys."""
    return Identification(
        "test", "1", AXIS, AXIS, smiles=smiles, meta=meta or {},
        atoms=tuple(Atom(element, x, y, z, sure) for element, x, y, z in atoms),
        bonds=tuple(Bond(a, b, order, sure) for a, b, order in bonds),
        candidates=tuple(Candidate("", key, "", 0.0) for key in keys),
    )  # fmt: skip


def perfect(truth=TRUTH):
    """Return the truth as an answer that is sure of itself."""
    from afmid.chem import inchikey

    places = zip(truth.symbols, truth.topmost_at_zero().positions.tolist(), strict=True)
    joined = [(*bond, order) for bond, order in zip(truth.bonds.tolist(), truth.orders.tolist(), strict=True)]
    return answer(*((symbol, *place) for symbol, place in places), bonds=joined, smiles=truth.smiles,
                  keys=[inchikey(truth.smiles)], meta={"candidates": {"pool": 1}}, sure=1.0)  # fmt: skip


@st.composite
def molecules(draw, apart=0.0, learnt=LEARNT):
    """Draw molecules of up to 8 atoms, at least `apart` (Å) from each other laterally."""
    n = draw(st.integers(2, 8))
    places = draw(arrays(float, (n, 3), elements=st.floats(-3, 3, width=16), unique=True))
    places[:, 0] += np.arange(n) * (apart + 6 if apart else 0)
    pairs = draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] < p[1]),
                         min_size=1))  # fmt: skip
    return Molecule(
        draw(st.lists(st.sampled_from(learnt), min_size=n, max_size=n)), places, bonds=sorted(pairs),
        orders=draw(st.lists(st.sampled_from([1, 1.5, 2, 3]), min_size=len(pairs), max_size=len(pairs))),
        smiles=draw(st.sampled_from(["CCN=O", "c1ccccc1", "BrC=CI", "C[Si](C)(C)C", "OP(O)(O)=O.O"])),
    )  # fmt: skip


def expected_of_perfect(name):
    """Return the figure of a perfect answer that is sure of all, where it is always the same."""
    if re.search(r"_error_|_nearest_|_ece$|_wrong_at_90$", name):
        return 0
    return None if name.endswith(("_true", "_found", "_pool")) else 1


# all of them


@given(truth=molecules())
def test_the_truth_as_answer_is_perfect_in_every_figure(truth):
    record = evaluate(perfect(truth), truth, SCORES)
    for name, summary in summarise([record]).items():
        if (wanted := expected_of_perfect(name)) is not None:
            assert summary.value == pytest.approx(wanted, abs=1e-6), name
    for name, figure in record.items():
        if isinstance(figure, Confusion):
            assert all(true == said for true, said in figure.counts), name
    assert record["atoms_found"] == record["atoms_whole_true"] == len(truth) >= record["atoms_visible_true"]


@given(truth=molecules(), lift=st.floats(-50, 50), seed=st.integers(0, 99))
def test_neither_the_height_of_the_truth_nor_the_order_of_its_atoms_matters(truth, lift, seed):
    order = np.random.default_rng(seed).permutation(len(truth))
    other = Molecule(truth.numbers[order], truth.positions[order] + [0, 0, lift], smiles=truth.smiles,
                     bonds=np.argsort(order)[truth.bonds], orders=truth.orders)  # fmt: skip
    said = perfect(truth)
    one, two = (summarise([evaluate(said, truth, SCORES)]) for truth in (truth, other))
    assert {name: s.value for name, s in two.items()} == pytest.approx(
        {name: s.value for name, s in one.items()}, abs=1e-6
    )


@given(truth=molecules(apart=1.0), missing=st.integers(0, 8), false=st.integers(0, 3), off=st.floats(0, 0.3),
       lift=st.floats(-1, 0), wrong=st.integers(0, 8))  # fmt: skip
def test_known_faults_move_each_figure_as_computed(truth, missing, false, off, lift, wrong):
    whole = perfect(truth)
    n = len(truth)
    kept = list(range(min(missing, n), n))
    moved = [replace(whole.atoms[i], x=whole.atoms[i].x + off, z=whole.atoms[i].z + lift, confidence=1.0) for i in kept]
    wrong = min(wrong, len(kept))
    moved[:wrong] = [replace(a, element="C" if a.element != "C" else "N") for a in moved[:wrong]]
    found = replace(whole, atoms=(*moved, *(Atom("H", 90, 90 + i, 0, 1) for i in range(false))), bonds=())
    record = evaluate(found, truth, SCORES)
    said = len(kept) + false
    assert record["atoms_whole_recall_within_35_pm"] == Share(len(kept), n)
    assert record["atoms_whole_precision_within_35_pm"] == Share(len(kept), said)
    assert record["elements_whole_given"] == Share(len(kept), len(kept))
    assert record["elements_whole_accuracy"] == Share(len(kept) - wrong, len(kept))
    joined = {*map(tuple, truth.bonds.tolist())}
    assert record["bonds_whole_recall"] == Share(0, sum({*bond} <= {*kept} for bond in joined))
    for axis, error in {"x": off, "y": 0, "z": -lift, "xy": off}.items():
        np.testing.assert_allclose(record[f"atoms_whole_error_{axis}"].values, [error] * len(kept), atol=1e-6)
    summaries = summarise([record])
    assert sum(record[name].right for name in record if re.fullmatch("depth_.*_recall", name)) == len(kept)
    assert sum(record[name].of for name in record if re.fullmatch("depth_.*_recall", name)) == n
    assert sum(record[name].right for name in record if re.fullmatch("depth_.*_precision", name)) == len(kept)
    assert sum(record[name].of for name in record if re.fullmatch("depth_.*_precision", name)) == said
    if said:  # all of it with confidence 1
        assert summaries["confidence_atoms_wrong_at_90"].value == pytest.approx((wrong + false) / said)
        assert summaries["confidence_atoms_ece"].value == pytest.approx((wrong + false) / said)


def test_every_figure_survives_its_file():
    for figure in evaluate(perfect(), TRUTH, SCORES).values():
        assert to_json(from_json(to_json(figure))) == to_json(figure)


def test_an_empty_answer_misses_everything_and_is_not_skipped():
    record = evaluate(answer(), TRUTH, SCORES)
    assert record["atoms_found"] == 0
    assert record["atoms_visible_recall_within_35_pm"] == record["atoms_visible_recall_within_50_pm"] == Share(0, 3)
    assert record["atoms_whole_recall_within_35_pm"] == Share(0, 4)
    assert record["depth_over_80_pm_recall"] == Share(0, 1)
    values = {name: summary.value for name, summary in summarise([record]).items() if "true" not in name}
    assert set(values.values()) == {0}  # and what would need an atom to be said is not there
    assert not any("precision" in name or "error" in name or "confidence" in name for name in values)
    assert {"molecule_exact", "molecule_tanimoto", "candidates_top_10"} <= values.keys()


# atoms


def test_the_figures_of_the_atoms_are_those_worked_out_by_hand():
    found = answer(
        (None, 0.3, 0.0, 0.0),  # 0.3 Å off the first atom
        (None, 1.5, 0.4, -0.3),  # 0.4 Å off the second, 0.1 Å too low: only within 50 pm
        (None, 4.5, 0.1, -1.5),  # the hidden atom, 0.5 Å too high
        (None, 7.0, 7.0, 0.0),  # nothing there
    )
    figures = atoms(found, TRUTH)
    shares = {
        "atoms_visible_precision_within_35_pm": Share(1, 3),  # first | second, fourth; the third is not counted
        "atoms_visible_recall_within_35_pm": Share(1, 3),
        "atoms_visible_precision_within_50_pm": Share(2, 3),
        "atoms_visible_recall_within_50_pm": Share(2, 3),
        "atoms_whole_precision_within_35_pm": Share(2, 4),
        "atoms_whole_recall_within_35_pm": Share(2, 4),
        "atoms_whole_precision_within_50_pm": Share(3, 4),
        "atoms_whole_recall_within_50_pm": Share(3, 4),
    }
    assert {name: figure for name, figure in figures.items() if isinstance(figure, Share)} == shares
    samples = {
        "atoms_visible_error_x": [0.3],
        "atoms_visible_error_y": [0.0],
        "atoms_visible_error_z": [0.0],
        "atoms_visible_error_xy": [0.3],
        "atoms_visible_nearest_xy": [0.3, 0.4, np.hypot(1.5, 0.1)],
        "atoms_whole_error_x": [0.3, 0.0],
        "atoms_whole_error_y": [0.0, 0.1],
        "atoms_whole_error_z": [0.0, 0.5],
        "atoms_whole_error_xy": [0.3, 0.1],
        "atoms_whole_nearest_xy": [0.3, 0.4, np.hypot(1.5, 0.1), 0.1],  # of the third, both neighbours are as far
    }
    assert {name for name, figure in figures.items() if isinstance(figure, Samples)} == samples.keys()
    for name, values in samples.items():
        np.testing.assert_allclose(figures[name].values, values, atol=1e-12, err_msg=name)
    assert (figures["atoms_found"], figures["atoms_visible_true"], figures["atoms_whole_true"]) == (4, 3, 4)
    assert summarise([figures])["atoms_whole_nearest_xy_median_angstrom"].value == pytest.approx(0.35)


def test_the_figures_by_depth_are_those_worked_out_by_hand():
    heights = [5.0, 4.75, 4.75, 4.25, 3.0]  # 0, 25, 25, 75 and 200 pm below the topmost
    truth = Molecule([6] * 5, [[2 * i, 0, z] for i, z in enumerate(heights)])
    found = answer((None, 0.3, 0.1, -0.1), (None, 2, 0.2, -0.5), (None, 8, 0, -1), (None, 20, 0, 0))
    figures = depth(found, truth)
    shares = {name.removeprefix("depth_"): (share.right, share.of)
              for name, share in figures.items() if isinstance(share, Share)}  # fmt: skip
    assert {name.removesuffix("_pm_recall"): share for name, share in shares.items() if "recall" in name} == {
        "0_to_20": (1, 1), "20_to_40": (1, 2), "40_to_60": (0, 0), "60_to_80": (0, 1), "over_80": (1, 1)
    }  # fmt: skip
    assert {name.removesuffix("_pm_precision"): share for name, share in shares.items() if "precision" in name} == {
        "0_to_20": (1, 2), "20_to_40": (0, 0), "40_to_60": (1, 1), "60_to_80": (0, 0), "over_80": (1, 1)
    }  # fmt: skip
    errors = {name: figure.values.tolist() for name, figure in figures.items() if "error" in name}
    assert errors == {f"depth_{name}_pm_error_{axis}": pytest.approx(values) for name, (xy, z) in {
        "0_to_20": ([np.hypot(0.3, 0.1)], [0.1]), "20_to_40": ([0.2], [0.25]), "40_to_60": ([], []),
        "60_to_80": ([], []), "over_80": ([0], [1]),
    }.items() for axis, values in (("xy", xy), ("z", z))}  # fmt: skip


def test_a_limit_of_depth_belongs_to_the_shallower_bin_as_it_does_to_the_visible_part():
    truth = Molecule([6, 6], [[0, 0, 0.0], [2, 0, -0.8]])
    assert depth(answer(), truth)["depth_60_to_80_pm_recall"] == Share(0, 1)
    assert atoms(answer(), truth)["atoms_visible_true"] == 2


# elements


def test_the_figures_of_the_elements_are_those_worked_out_by_hand():
    found = answer(
        ("C", 0, 0, 0),  # right
        ("Si", 1.5, 0, 0),  # C: the right class
        ("O", 3, 0, 0),  # N: wrong
        (None, 4.5, 0, -2),  # not given
        ("H", 7, 7, 0),  # not matched
    )
    figures = elements(found, TRUTH)
    expected = {
        "elements_visible_given": Share(3, 3),
        "elements_visible_accuracy": Share(1, 3),
        "elements_visible_accuracy_five_classes": Share(2, 3),
        "elements_visible_precision_c_si": Share(2, 2),
        "elements_visible_recall_c_si": Share(2, 2),
        "elements_visible_precision_o_s": Share(0, 1),
        "elements_visible_recall_o_s": Share(0, 0),
        "elements_visible_precision_n_p": Share(0, 0),
        "elements_visible_recall_n_p": Share(0, 1),
        "elements_visible_precision_h": Share(0, 0),
        "elements_visible_confusion": Confusion({("C", "C"): 1, ("C", "Si"): 1, ("N", "O"): 1}),
        "elements_visible_confusion_five_classes": Confusion({("C,Si", "C,Si"): 2, ("N,P", "O,S"): 1}),
        "elements_whole_given": Share(3, 4),
        "elements_whole_accuracy": Share(1, 3),
        "elements_whole_recall_o_s": Share(0, 0),  # of those whose element is given
        "elements_whole_confusion": Confusion({("C", "C"): 1, ("C", "Si"): 1, ("N", "O"): 1, ("O", "none"): 1}),
    }
    assert {name: figures[name] for name in expected} == expected


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (5, 1), (20, 2), (80, 3)])
def test_the_figures_of_the_elements_agree_with_scikit_learn(n, seed):
    rng = np.random.default_rng(seed)
    symbols = [SYMBOLS[n] for n in LEARNT]
    truth = Molecule(rng.choice(LEARNT, n), np.arange(n)[:, None] * [1.0, 0, 0])
    said = rng.choice(symbols, n).tolist()
    figures = elements(answer(*((symbol, i, 0, 0) for i, symbol in enumerate(said))), truth)
    counts = figures["elements_whole_confusion"].counts
    table = [[counts.get((true, mine), 0) for mine in symbols] for true in symbols]
    np.testing.assert_array_equal(table, confusion_matrix(truth.symbols, said, labels=symbols))

    kinds = [[next(c for c in CLASSES if s in c.split(",")) for s in row] for row in (truth.symbols, said)]
    precision, recall, _, _ = precision_recall_fscore_support(*kinds, labels=list(CLASSES), zero_division=0)
    for name, wanted in (("precision", precision), ("recall", recall)):
        mine = [figures[f"elements_whole_{name}_{c.lower().replace(',', '_')}"] for c in CLASSES]
        assert [share.right / max(share.of, 1) for share in mine] == pytest.approx(wanted)


def test_an_element_beside_the_eleven_is_a_class_of_its_own():
    truth = Molecule([79, 79], [[0, 0, 0], [2, 0, 0]])
    figures = elements(answer(("Au", 0, 0, 0), ("Ag", 2, 0, 0)), truth)
    assert figures["elements_whole_accuracy_five_classes"] == Share(1, 2)
    assert figures["elements_whole_confusion_five_classes"].counts == {("Au", "Au"): 1, ("Au", "Ag"): 1}


def test_a_method_that_names_no_element_is_neither_right_nor_wrong_about_them():
    figures = elements(answer((None, 0, 0, 0)), TRUTH)
    assert figures["elements_visible_given"] == Share(0, 1)
    assert figures["elements_visible_accuracy"] == Share(0, 0)


# bonds


def test_the_figures_of_the_bonds_are_those_worked_out_by_hand():
    places = [(None, 0, 0, 0), (None, 1.5, 0, 0), (None, 3, 0, 0), (None, 4.5, 0, -2), (None, 7, 7, 0)]
    # right but for its order; wrong; of an atom that matches nothing; right
    found = answer(*places, bonds=[(1, 0, 1.4), (0, 2, 1), (3, 4, 1), (2, 3, 2.1)])
    assert bonds(found, TRUTH) == {
        "bonds_visible_precision": Share(1, 2),
        "bonds_visible_recall": Share(1, 2),
        "bonds_visible_order_accuracy": Share(0, 1),
        "bonds_visible_confusion": Confusion({("1", "1.5"): 1, ("none", "1"): 1, ("1", "none"): 1}),
        "bonds_whole_precision": Share(2, 3),
        "bonds_whole_recall": Share(2, 3),
        "bonds_whole_order_accuracy": Share(1, 2),
        "bonds_whole_confusion": Confusion({("1", "1.5"): 1, ("none", "1"): 1, ("1", "none"): 1, ("2", "2"): 1}),
    }


def test_a_bond_said_in_both_directions_is_one_bond():
    found = answer((None, 0, 0, 0), (None, 1.5, 0, 0), bonds=[(0, 1, 1), (1, 0, 1)])
    assert bonds(found, TRUTH)["bonds_visible_precision"] == Share(1, 1)


def test_atoms_without_bonds_miss_all_bonds_between_them_and_have_no_precision():
    figures = bonds(answer(("C", 0, 0, 0), ("C", 1.5, 0, 0)), TRUTH)
    assert (figures["bonds_visible_recall"], figures["bonds_visible_precision"]) == (Share(0, 1), Share(0, 0))


def test_a_truth_without_bonds_does_not_judge_them():
    bare = Molecule(TRUTH.numbers, TRUTH.positions)
    assert bonds(perfect(), bare) == {}
    assert "confidence_bonds" not in confidence(perfect(), bare)


# molecule


@pytest.mark.parametrize(("said", "valid", "exact", "formula", "precision", "recall"), [
    ("N(=O)CC", 1, 1, 1, (4, 4), (4, 4)),  # H C N O
    ("CC=NO", 1, 0, 1, (4, 4), (4, 4)),  # an isomer
    ("CCS", 1, 0, 0, (2, 3), (2, 4)),  # H C S
    ("no smiles at all", 0, 0, 0, (0, 0), (0, 4)),
    ("C1CC", 0, 0, 0, (0, 0), (0, 4)),
    (None, 0, 0, 0, (0, 0), (0, 4)),
])  # fmt: skip
def test_the_figures_of_the_molecule_are_those_worked_out_by_hand(said, valid, exact, formula, precision, recall):
    figures = molecule(answer(smiles=said), TRUTH)
    tanimoto = figures.pop("molecule_tanimoto")
    assert figures == {
        "molecule_valid": Share(valid, 1),
        "molecule_exact": Share(exact, 1),
        "molecule_formula": Share(formula, 1),
        "molecule_elements_precision": Share(*precision),
        "molecule_elements_recall": Share(*recall),
    }
    assert (tanimoto == 1) == exact
    assert (tanimoto == 0) == (not valid)


def test_the_tanimoto_similarity_counts_shared_environments():
    # Environments (Morgan, up to two bonds): of methane CH4 alone; ethane adds none to CH3 and CH3–CH3 of its own.
    assert molecule(answer(smiles="C"), replace(TRUTH, smiles="CC"))["molecule_tanimoto"] == 0
    # Ethanol: CH3, CH2, OH, and the three with one bond around; propane shares CH3 and CH2 and CH3 in CH3–CH2.
    assert molecule(answer(smiles="CCC"), replace(TRUTH, smiles="CCO"))["molecule_tanimoto"] == pytest.approx(3 / 7)


def test_stereochemistry_does_not_matter():
    alanine = replace(TRUTH, smiles="C[C@H](N)C(=O)O")
    assert molecule(answer(smiles="C[C@@H](N)C(=O)O"), alanine)["molecule_exact"] == Share(1, 1)


@pytest.mark.parametrize("metric", [molecule, candidates])
def test_a_truth_without_a_smiles_does_not_judge_the_molecule(metric):
    assert metric(perfect(), replace(TRUTH, smiles="")) == {}


@pytest.mark.parametrize("metric", [molecule, candidates])
def test_a_truth_whose_smiles_is_not_valid_is_an_error(metric):
    with pytest.raises(DataError, match="no valid SMILES"):
        metric(perfect(), replace(TRUTH, smiles="C1CC"))


# candidates


@pytest.mark.parametrize(("place", "top"), [(0, (1, 1, 1)), (1, (0, 1, 1)), (4, (0, 1, 1)), (5, (0, 0, 1)),
                                            (9, (0, 0, 1)), (10, (0, 0, 0))])  # fmt: skip
def test_the_true_molecule_is_looked_for_among_the_first_candidates(place, top):
    keys = [f"{letter * 14}-UHFFFAOYSA-N" for letter in "ABCDEFGHIJKL"]
    keys[place] = f"{ETHANOL}-ABCDEFGHIJ-N"  # the first block decides
    keys = [keys[0], *keys]  # one that may lie in two ways counts once
    figures = candidates(answer(keys=keys, meta={"candidates": {"pool": 1000}}), replace(TRUTH, smiles="CCO"))
    wanted = {f"candidates_top_{n}": Share(right, 1) for n, right in zip((1, 5, 10), top, strict=True)}
    assert figures == wanted | {"candidates_pool": 1000.0}


@pytest.mark.parametrize("meta", [{}, {"candidates": 3}, {"candidates": {}}, {"candidates": {"pool": "many"}}])
def test_without_candidates_none_is_right_and_a_pool_that_is_not_said_is_not_guessed(meta):
    assert candidates(answer(meta=meta), TRUTH) == {f"candidates_top_{n}": Share(0, 1) for n in (1, 5, 10)}


# confidence


def test_the_calls_are_those_worked_out_by_hand():
    said = [("C", 0.3, 0, 0, 0.9), ("N", 1.5, 0, 0, 0.8), (None, 3, 0.3, 0, 0.7), ("O", 4.5, 0.4, -2, 0.6),
            ("O", 4.5, 0.1, -2, 0.5)]  # fmt: skip
    found = replace(
        answer(),
        atoms=tuple(Atom(*row) for row in said),
        bonds=(Bond(0, 1, 3, 0.9), Bond(0, 2, 1, 0.8), Bond(3, 2, 1, 0.7), Bond(3, 1, 1, 0.6), Bond(2, 4, 2, 0.4)),
    )
    figures = confidence(found, TRUTH)
    assert to_json(figures["confidence_atoms"]) == {  # right; wrong element; element not said; too far; right
        "confidence": [0.9, 0.8, 0.7, 0.6, 0.5], "right": [True, False, True, False, True],
    }  # fmt: skip
    assert to_json(figures["confidence_bonds"]) == {  # right, whatever its order; wrong; two of no atom; right
        "confidence": [0.9, 0.8, 0.7, 0.6, 0.4], "right": [True, False, False, False, True],
    }  # fmt: skip


# maps

pixels = arrays(np.float32, (4, 3), elements=st.floats(-10, 10, width=16))


@given(said=pixels, true=pixels)
def test_figures_of_maps_agree_with_scikit_learn_and_scipy(said, true):
    figures = map_figures("m", said, true, "angstrom")
    assert figures["m_mse_angstrom2"] == pytest.approx(mean_squared_error(true, said))
    if true.any():
        square = np.square(true.astype(float)).mean()
        assert figures["m_relative_error"] * square == pytest.approx(mean_squared_error(true, said))
    else:
        assert "m_relative_error" not in figures
    if np.ptp(said) > 0 and np.ptp(true) > 0:
        wanted = pearsonr(said.ravel().astype(float), true.ravel().astype(float)).statistic
        assert figures["m_correlation"] == pytest.approx(wanted)
    else:
        assert "m_correlation" not in figures


def test_no_error_is_relative_to_a_map_whose_square_is_zero():
    assert "m_relative_error" not in map_figures("m", np.ones((4, 3)), np.full((4, 3), 1e-200))


@given(true=pixels.filter(lambda p: np.ptp(p) > 0.1), gain=st.floats(0.5, 2), offset=st.floats(-3, 3))
def test_correlation_sees_neither_gain_nor_offset(true, gain, offset):
    figures = map_figures("m", gain * true + offset, true)
    assert figures["m_correlation"] == pytest.approx(1, abs=1e-4)
    assert set(figures) == {"m_mse", "m_relative_error", "m_correlation"}


# the offers and their page


def test_the_headline_of_each_metric_is_among_its_figures():
    for metric in METRICS:
        names = summarise([metric.load()(perfect(), TRUTH)])
        assert metric.headline
        assert set(metric.headline) <= set(names)


def test_each_figure_is_defined_on_the_reference_page_and_each_definition_is_a_figure():
    page = PAGE.read_text(encoding="utf-8")
    sets = {"PART": "(visible|whole)", "AXIS": "(x|y|z|xy)", "CLASS": "(h|c_si|n_p|o_s|f_cl_br_i)",
            "DEPTH": "(0_to_20_pm|20_to_40_pm|40_to_60_pm|60_to_80_pm|over_80_pm)"}  # fmt: skip
    kinds = {}  # by a pattern of names
    for row in page.splitlines():
        _, names, kind, *_ = [*row.split("|"), "", ""]
        for name in re.findall(r"`([A-Za-z][A-Za-z0-9_]+)`", names) if row.startswith("| `") else ():
            kinds[re.sub("|".join(sets), lambda match: sets[match[0]], name)] = kind.strip()
    reached = set()
    for name, figure in evaluate(perfect(), TRUTH, SCORES).items():
        (pattern,) = [pattern for pattern in kinds if re.fullmatch(pattern, name)]
        unit = f", {figure.unit}" if isinstance(figure, Samples) else ""
        kind = "number" if isinstance(figure, float) else type(figure).__name__.lower() + unit
        assert kinds[pattern] == kind, name
        reached.add(pattern)
    assert reached == kinds.keys()
    assert all(f"## `{metric}`" in page for metric in SCORES)
