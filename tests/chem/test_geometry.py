import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from rdkit import Chem
from scipy.spatial.distance import pdist

from afmid.chem import PressError, SlowError, embed, geometry, height_range, inchikey, lay_flat, smiles_of
from afmid.errors import DataError
from afmid.io.sdf_file import from_text, to_text

CLOUDS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=1, max_side=8).map(lambda s: (*s, 3)),
                    elements=st.floats(-20, 20))  # fmt: skip


@given(CLOUDS)
def test_laying_flat_is_a_rotation_about_the_centre_that_orders_the_extents(positions):
    flat = lay_flat(positions)
    assert_allclose(pdist(flat), pdist(positions), atol=1e-9)
    assert_allclose(flat.mean(0), 0, atol=1e-9)
    spread = (flat**2).sum(0)
    assert spread[0] >= spread[1] - 1e-6
    assert spread[1] >= spread[2] - 1e-6


@given(CLOUDS.filter(lambda p: len(p) > 3))
def test_laying_flat_keeps_handedness(positions):
    def volume(p):
        return np.linalg.det(p[1:4] - p[0])

    assert_allclose(volume(lay_flat(positions)), volume(positions), atol=1e-6)


@pytest.mark.parametrize("smiles", ["CCCCCO", "O.CCCCC", "C[C@H](N)C(=O)O"])
def test_the_same_seed_gives_the_same_molecule_and_another_seed_another(smiles):
    first, again, other = embed(smiles, 3), embed(smiles, 3), embed(smiles, 4)
    assert_array_equal(first.positions, again.positions)
    assert_array_equal(first.charges, again.charges)
    assert np.abs(first.positions - other.positions).max() > 1e-4


def test_benzene_is_the_ring_of_the_textbook_and_lies_flat():
    benzene = embed("c1ccccc1")
    lengths = np.linalg.norm(np.diff(benzene.positions[benzene.bonds], axis=1)[:, 0], axis=1)
    assert_allclose(lengths[benzene.orders == 1.5], 1.39, atol=0.01)
    assert_allclose(lengths[benzene.orders == 1.0], 1.09, atol=0.01)
    assert_allclose(benzene.positions[:, 2], 0, atol=0.01)
    assert_allclose(benzene.positions.mean(0), 0, atol=1e-9)
    assert_allclose(benzene.charges.sum(), 0, atol=1e-9)
    assert benzene.smiles == "c1ccccc1"


@pytest.mark.parametrize("pressed", [False, True])
@pytest.mark.parametrize("smiles", ["Cc1cc2ccccc2[nH]c1=O", "c1ccc2c(c1)c1cncnc1c1cncnc21"])
def test_orders_are_those_of_the_smiles_although_mmff94_has_its_own_aromaticity(smiles, pressed):
    bonds = Chem.AddHs(Chem.MolFromSmiles(smiles)).GetBonds()
    assert_array_equal(embed(smiles, pressed=pressed).orders, [bond.GetBondTypeAsDouble() for bond in bonds])


def test_stereochemistry_is_that_of_the_smiles():
    for smiles in ("CC1(C)[C@H]2CC[C@]1(C)C(=O)C2", "F/C=C/Cl", "F/C=C\\Cl", "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"):
        assert inchikey(from_text(to_text(embed(smiles)), "").smiles) == inchikey(smiles)


@given(CLOUDS)
def test_the_height_range_is_that_of_the_positions_laid_flat(positions):
    assert_allclose(height_range(positions), np.ptp(lay_flat(positions)[:, 2]), atol=1e-9)


@pytest.mark.parametrize("smiles", ["c1ccccc1-c1ccccc1", "CCCCCCCC", "COc1ccccc1C(=O)NCCc1ccccc1", "O.O.c1ccccc1"])
def test_a_pressed_conformer_is_flatter_than_free_ones_and_its_bonds_are_whole(smiles):
    def heights(**how):
        made = [embed(smiles, seed, **how) for seed in range(0, 12, 4)]
        return [height_range(molecule.positions[molecule.numbers > 1]) for molecule in made]

    assert np.mean(heights(pressed=True)) < np.mean(heights())
    free, pressed = embed(smiles), embed(smiles, pressed=True)
    assert_array_equal(free.bonds, pressed.bonds)
    lengths = [np.linalg.norm(np.diff(m.positions[m.bonds], axis=1)[:, 0], axis=1) for m in (free, pressed)]
    assert_allclose(*lengths, atol=0.1)
    assert_array_equal(pressed.positions, embed(smiles, pressed=True).positions)


@pytest.mark.parametrize(
    "smiles",
    [
        "O[C@@H]1[C@@H](O[C@@H]2OC[C@H](O)[C@H](O)[C@H]2O)[C@H](O)CO[C@H]1O",  # a sugar that 30 % turn into another
        "C[C@]12CCC(=O)C[C@@H]1CC[C@@H]1[C@@H]2CC[C@]2(C)[C@@H](O)CC[C@@H]12",
        "F/C=C\\Cl",
        "C[C@H](N)C(=O)O",
    ],
)
def test_pressing_keeps_the_stereoisomer(smiles):
    assert inchikey(smiles_of(embed(smiles, pressed=True))) == inchikey(smiles)


def test_pressing_leaves_no_bond_stretched():
    pressed = embed("C[Si]1(C)c2cc(-c3ccncn3)sc2-c2sc(-c3ccnc(-c4cc5c(s4)-c4sccc4[Si]5(C)C)n3)cc21", pressed=True)
    assert np.linalg.norm(np.diff(pressed.positions[pressed.bonds], axis=1)[:, 0], axis=1).max() < 1.95  # Å, Si–C


def test_what_stays_strained_is_not_called_pressed(monkeypatch):
    monkeypatch.setattr(geometry, "PRESS_FORCE", 0.0)  # which no minimiser reaches
    with pytest.raises(PressError, match=r"^CCCCO: pressed, it is strained or another stereoisomer"):
        embed("CCCCO", pressed=True)


def test_an_embedding_that_takes_too_long_is_no_failure_of_geometry(monkeypatch):
    monkeypatch.setattr(geometry, "TIMEOUT_S", 1)
    with pytest.raises(SlowError, match="took longer than 1 s"):
        embed("C" * 160)


def test_fragments_do_not_lie_inside_each_other():
    cluster = embed("O.O.c1ccccc1")
    fragments = [[0], [1], list(range(2, 8))]
    for i, a in enumerate(fragments):
        for b in fragments[:i]:
            gaps = cluster.positions[a][:, None] - cluster.positions[b][None]
            assert np.linalg.norm(gaps, axis=-1).min() > 2.2


def test_cyclo_18_carbon_is_laid_on_a_circle():
    ring = embed("c1c#cc#cc#cc#cc#cc#cc#cc#cc#1")
    radii = np.linalg.norm(ring.positions, axis=1)
    assert_allclose(radii, radii.mean(), rtol=0.05)
    assert radii.mean() == pytest.approx(3.7, abs=0.3)  # Kaiser et al., Science 365, 1299 (2019)


def test_boron_is_relaxed_although_mmff94_does_not_know_it():
    molecule = embed("OB(O)c1ccccc1")
    lengths = {
        tuple(sorted(molecule.symbols[i] for i in bond)): np.linalg.norm(np.subtract(*molecule.positions[bond]))
        for bond in molecule.bonds
    }
    assert 1.3 < lengths["B", "O"] < 1.5


@pytest.mark.parametrize(
    ("smiles", "says"),
    [
        ("xyz", "no valid SMILES"),
        ("Cé", "no valid SMILES"),
        ("C\udcff", "no valid SMILES"),
        ("", "the SMILES is empty"),
        ("C*C", "without an element"),
        ("C" * 200, "602 atoms; afmid places up to 500"),
        ("[C@@H]12CC[C@H](CC1)C2", "no 3D geometry found"),  # norbornane with one bridgehead inside out
    ],
)
def test_what_has_no_geometry_is_said(smiles, says, capfd):
    with pytest.raises(DataError, match=says):
        embed(smiles)
    assert capfd.readouterr() == ("", "")
