"""What training simulates."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError
from scipy.spatial.distance import cdist

from afmid.data.pack import concatenate
from afmid.data.scenes import (
    EDGE,
    GAP,
    OH,
    UNEVEN,
    SceneRanges,
    draw_amplitude,
    draw_scenes,
    gather,
    side_by_side,
    under_second_tip,
    water_cluster,
)  # fmt: skip
from afmid.errors import DataError
from afmid.io import read_molecule
from afmid.molecule import Molecule
from afmid.simulate import Batch, SimulationOptions, load_engine
from afmid.simulate.elements import lennard_jones
from afmid.simulate.scan_simulation import closest_height
from afmid.units import N_per_m

OPTIONS = SimulationOptions(pixels=8)
ALONE = SceneRanges(several=0, water=0)
ROD = Molecule(np.full(30, 6), np.stack([1.4 * np.arange(30), 0.1 * np.arange(30) ** 1.1, np.zeros(30)], 1))
QUAM = list(itertools.product((0.40, 0.60, 0.80, 1.00, 1.20, 1.40), (0.40, 0.60, 0.80, 1.00)))


@pytest.fixture(scope="module")
def pack():
    """Naphthalene, free and pressed; phenol; water; and a rod of 41 Å."""
    molecules = [read_molecule(name) for name in ("naphthalene", "Oc1ccccc1", "O")]
    groups = [[molecules[0]] * 2, *([molecule] for molecule in molecules[1:]), [ROD]]
    pressed = [False, True, False, False, False]
    return concatenate(groups, ["test"] * 4, ["train"] * 4, {}, pressed)


def draw(pack, conformers, ranges=ALONE, options=OPTIONS, seed=0):
    return draw_scenes(pack, np.asarray(conformers), options, ranges, np.random.default_rng(seed))


def test_gathered_conformers_are_those_of_the_pack(pack):
    chosen = np.array([3, 0, 4])
    columns = gather(pack, chosen)
    for b, conformer in enumerate(chosen):
        molecule = pack.molecule(conformer)
        for name in ("numbers", "positions", "charges"):
            assert_array_equal(getattr(columns, name)[b, : len(molecule)], getattr(molecule, name))
            assert not getattr(columns, name)[b, len(molecule) :].any()
        for name in ("bonds", "orders"):
            assert_array_equal(getattr(columns, name)[b, : len(molecule.bonds)], getattr(molecule, name))
            assert not getattr(columns, name)[b, len(molecule.bonds) :].any()


def test_a_second_tip_finds_the_same_molecules_in_the_same_window(pack):
    everything = SceneRanges(several=0.3, water=0.3, second_charge=(0.5, 1.5))
    first = draw(pack, np.arange(60) % 4, everything)
    options = OPTIONS.model_copy(update={"tip": "Xe"})
    second, again = (under_second_tip(first, options, everything, np.random.default_rng(5)) for _ in range(2))
    assert_array_equal(second.z, again.z)
    for name in ("numbers", "positions", "charges", "bonds", "orders", "smiles"):
        assert_array_equal(getattr(second, name), getattr(first, name))
    for name, offset, other in (("x", first.offset[:, :1], second.offset[:, :1]),
                                ("y", first.offset[:, 1:], second.offset[:, 1:])):  # fmt: skip
        assert_allclose(getattr(second, name) + other, getattr(first, name) + offset, atol=1e-12)
    assert set(second.probe) == {54}
    assert not second.charge.any()
    assert (second.quadrupole.min(), second.quadrupole.max()) == pytest.approx((0.15, 0.45), abs=0.03)
    lift = second.z[:, -1] - first.z[:, -1]
    assert 0.15 < lift.std() < 0.5  # Å: √2 times that of one height, which is uniform in ±0.4
    pairs = (first.lateral_stiffness, second.lateral_stiffness), (first.offset[:, 0], second.offset[:, 0])
    assert all(abs(np.corrcoef(pair)[0, 1]) < 0.4 for pair in pairs)
    chlorine = under_second_tip(first, OPTIONS.model_copy(update={"tip": "Cl"}), everything, np.random.default_rng(5))
    assert ((chlorine.charge >= -0.45) & (chlorine.charge <= -0.15)).all()
    assert not chlorine.quadrupole.any()


def test_scenes_hold_their_molecules_and_repeat_under_a_seed(pack):
    everything = SceneRanges(several=0.3, water=0.3)
    chosen = np.arange(60) % 4
    scenes, again = (draw(pack, chosen, everything, seed=7) for _ in range(2))
    for name in ("numbers", "positions", "bonds", "z", "offset", "lateral_stiffness"):
        assert_array_equal(getattr(again, name), getattr(scenes, name))
    assert again.smiles == scenes.smiles
    assert (draw(pack, chosen, everything, seed=8).z != scenes.z).all()
    for scene, conformer in zip(draw(pack, chosen), chosen, strict=True):
        molecule = pack.molecule(conformer)
        assert scene.molecule.smiles == molecule.smiles
        for name in ("numbers", "charges", "bonds", "orders"):
            assert_array_equal(getattr(scene.molecule, name), getattr(molecule, name))
        distances = (cdist(m.positions, m.positions) for m in (scene.molecule, molecule))
        assert_allclose(next(distances), next(distances), atol=1e-9)


def test_what_is_drawn_does_not_depend_on_the_molecules(pack):
    small, large = draw(pack, [3] * 40), draw(pack, [0] * 40)
    for name in ("offset", "lateral_stiffness", "charge", "quadrupole"):
        assert_array_equal(getattr(small, name), getattr(large, name))


def test_tips_and_heights_stay_in_their_ranges_and_fill_them(pack):
    ranges = SceneRanges(clearance=0.3, tilt=0.4, stiffness=(0.3, 0.6))
    scenes = draw(pack, np.arange(500) % 4, ranges)
    stiffness = scenes.lateral_stiffness / N_per_m
    assert 0.3 - 1e-9 <= stiffness.min() < 0.31 < 0.59 < stiffness.max() <= 0.6 + 1e-9
    assert abs(np.log(stiffness / 0.3).mean() / np.log(2) - 0.5) < 0.05  # evenly in its logarithm
    tilt = np.hypot(*scenes.offset.T)
    assert 0.39 < tilt.max() <= 0.4
    assert abs((tilt < 0.4 / np.sqrt(2)).mean() - 0.5) < 0.08  # evenly over the disk
    monopole = scenes.charge != 0
    assert 200 < monopole.sum() < 300
    assert not scenes.quadrupole[monopole].any()
    assert scenes.charge.min() >= -0.1
    assert -0.15 <= scenes.quadrupole.min() < scenes.quadrupole.max() <= 0.05
    lowest = [closest_height(s.molecule.numbers, s.molecule.positions[:, 2], 8, OPTIONS.clearance) for s in scenes]
    change = scenes.z[:, -1] - lowest
    assert -0.3 - 1e-9 <= change.min() < -0.28 < 0.28 < change.max() <= 0.3 + 1e-9


def test_the_topmost_atom_is_at_zero_and_the_window_is_about_zero(pack):
    scenes = draw(pack, np.arange(40) % 5, SceneRanges(several=0.3, water=0.3))
    assert_allclose([scene.molecule.positions[:, 2].max() for scene in scenes], 0, atol=1e-12)
    assert_allclose(scenes.x.mean(1) + scenes.offset[:, 0], 0, atol=1e-12)
    assert_allclose(scenes.x + scenes.offset[:, :1], scenes.y + scenes.offset[:, 1:], atol=1e-12)
    assert_allclose(np.diff(scenes.x), 2.0)
    assert_allclose(np.diff(scenes.z), -0.1)


def test_the_default_ranges_hold_the_settings_of_quam_afm():
    ranges = SceneRanges()
    for amplitude, stiffness in QUAM:
        assert ranges.amplitude[0] <= amplitude <= ranges.amplitude[1]
        assert ranges.stiffness[0] <= stiffness <= ranges.stiffness[1]
    amplitudes = [draw_amplitude(ranges, np.random.default_rng(i)) for i in range(300)]
    assert 0.4 <= min(amplitudes) < 0.43 < 1.37 < max(amplitudes) <= 1.4


@pytest.mark.parametrize(
    "wrong",
    [{"stiffness": (0.5, 0.2)}, {"stiffness": (0, 0.5)}, {"charge": (0, -0.1)}, {"quadrupole": (-np.inf, 0)},
     {"charge": (0, np.nan)}, {"amplitude": (-1, 0.5)}],
)  # fmt: skip
def test_a_range_goes_from_low_to_high_within_reason(wrong):
    with pytest.raises(ValidationError, match="the lower and the upper end of a range within"):
        SceneRanges(**wrong)


def test_pressed_molecules_lie_flat_and_the_others_as_often_as_asked(pack):
    def heights(conformer, flat):
        ranges = SceneRanges(several=0, water=0, flat=flat, flat_tilt=0, attempts=1)
        return np.array([np.ptp(s.molecule.positions[:, 2]) for s in draw(pack, [conformer] * 200, ranges)])

    flat = np.ptp(pack.molecule(0).positions[:, 2]) + 0.1
    assert (heights(1, flat=0.0) < flat).all()
    assert (heights(0, flat=0.0) < flat).sum() < 10
    assert 70 < (heights(0, flat=0.5) < flat).sum() < 130


def middles(scenes):
    boxes = [(s.molecule.positions[:, :2].min(0), s.molecule.positions[:, :2].max(0)) for s in scenes]
    return np.array([(low + high) / 2 for low, high in boxes]), np.array([high - low for low, high in boxes])


def test_a_molecule_lies_anywhere_in_the_window(pack):
    flat = SceneRanges(several=0, water=0, flat=1, flat_tilt=0)
    at, width = middles(draw(pack, [0] * 500, flat))
    room = (OPTIONS.size - width) / 2
    share = at / room
    assert (np.abs(share) <= 1 + 1e-9).all()  # never cut
    assert np.abs(share.mean(0)).max() < 0.08
    assert_allclose(np.histogram2d(*share.T, bins=3)[0], 500 / 9, atol=25)
    at, _ = middles(draw(pack, [0] * 20, flat.model_copy(update={"offset": 0.0})))
    assert_allclose(at, 0, atol=1e-9)


def test_a_molecule_wider_than_the_window_is_cut_at_different_parts(pack):
    seen = np.zeros(30)
    for scene in draw(pack, [4] * 300, SceneRanges(several=0, water=0, flat=1, flat_tilt=0)):
        inside = (np.abs(scene.molecule.positions[:, :2]) <= OPTIONS.size / 2).all(1)
        assert 0 < inside.sum() < 30
        seen += inside
    assert seen.min() > 5


def test_a_topmost_atom_is_in_the_window(pack):
    for scene in draw(pack, [4] * 100, SceneRanges(several=0.5, water=0.1)):
        high = scene.molecule.positions[scene.molecule.positions[:, 2] >= -UNEVEN]
        assert (np.abs(high[:, :2]) <= OPTIONS.size / 2 - EDGE + 1e-9).all(1).any()


def test_molecules_side_by_side_do_not_touch_and_are_about_as_high(pack):
    rng = np.random.default_rng(0)
    for _ in range(50):
        group = [pack.molecule(i) for i in rng.integers(0, 4, rng.integers(2, 4))]
        joint = side_by_side(group, rng)
        ends = np.cumsum([0, *map(len, group)])
        parts = [joint.positions[a:b] for a, b in itertools.pairwise(ends)]
        for one, other in itertools.combinations(parts, 2):
            assert cdist(one[:, :2], other[:, :2]).min() >= GAP - 1e-9
        assert min(cdist(one[:, :2], other[:, :2]).min() for one, other in itertools.pairwise(parts)) < 3 * GAP
        assert np.ptp([part[:, 2].max() for part in parts]) <= UNEVEN
        lengths = np.linalg.norm(joint.positions[joint.bonds[:, 0]] - joint.positions[joint.bonds[:, 1]], axis=1)
        assert len(joint.bonds) == sum(len(molecule.bonds) for molecule in group)
        assert lengths.max() < 1.6
        assert joint.smiles == ".".join(molecule.smiles for molecule in group)


def test_as_many_scenes_hold_several_molecules_or_water_as_asked(pack):
    several = draw(pack, [0] * 400, SceneRanges(several=0.5, water=0))
    sizes = several.counts // 18
    assert 160 < (sizes > 1).sum() < 240
    assert set(sizes.tolist()) == {1, 2, 3}
    assert [scene.molecule.smiles.count(".") + 1 for scene in several] == sizes.tolist()
    wet = draw(pack, [0] * 400, SceneRanges(several=0, water=0.5))
    alone = [scene for scene in wet if 6 not in scene.molecule.numbers]
    beside = [scene for scene in wet if set(scene.molecule.numbers[18:].tolist()) == {1, 8}]
    assert 70 < len(alone) < 130
    assert 70 < len(beside) < 130
    assert {len(scene.molecule) for scene in alone} == {3 * n for n in range(1, 9)}


def test_a_scene_is_no_wider_than_its_largest_molecule(pack):
    wet = draw(pack, [0] * 50, SceneRanges(several=0, water=1))
    assert wet.numbers.shape[1] == wet.counts.max()
    assert wet.orders.shape[1] == np.count_nonzero(wet.orders, axis=1).max()


@pytest.mark.parametrize("count", range(1, 9))
def test_water_clusters_hold_together_by_hydrogen_bonds_and_do_not_clash(count):
    for seed in range(30):
        cluster = water_cluster(count, np.random.default_rng(seed))
        waters = cluster.positions.reshape(count, 3, 3)
        bonds = waters[:, 1:] - waters[:, :1]
        assert_allclose(np.linalg.norm(bonds, axis=-1), OH)
        angles = np.degrees(np.arccos((bonds[:, 0] * bonds[:, 1]).sum(-1) / OH**2))
        assert_allclose(angles, 104.5)
        assert np.ptp(cluster.positions[:, 2]) < 2 * OH + 0.3
        assert_allclose(cluster.charges.sum(), 0, atol=1e-12)
        assert len(cluster.bonds) == 2 * count
        oxygen, hydrogen = waters[:, 0], waters[:, 1:]
        if count == 1:
            continue
        apart = np.linalg.norm(oxygen[:, None] - oxygen, axis=-1) + 9 * np.eye(count)
        assert apart.min() > 2.6
        to_oxygen = np.linalg.norm(hydrogen[:, :, None] - oxygen, axis=-1)  # (count, 2, count)
        to_oxygen[np.arange(count), :, np.arange(count)] = np.inf  # but for its own
        assert to_oxygen.min() > 1.75
        donors = (to_oxygen[:, 0] < 1.9).any(1)
        assert donors.sum() >= count - 1  # one hydrogen of each points at another's oxygen, but for the first's
        groups = hydrogen.reshape(-1, 3)
        between = np.linalg.norm(groups[:, None] - groups, axis=-1)
        between[np.arange(2 * count)[:, None] // 2 == np.arange(2 * count) // 2] = np.inf
        assert between.min() > 1.7


def test_a_batch_of_drawn_scenes_equals_its_members(pack):
    scenes = draw(pack, np.arange(12) % 4, SceneRanges(several=0.3, water=0.3))
    batch, other = (Batch.of(given, torch.float64) for given in (scenes, list(scenes)))
    for name in ("centres", "counts", "positions", "charges", "radii", "depths", "offset", "x", "y", "z"):
        assert torch.equal(getattr(batch, name), getattr(other, name))
    for b, scene in enumerate(scenes):
        assert_allclose(batch.radii[b, : batch.counts[b]], lennard_jones(scene.molecule.numbers)[0])


@pytest.mark.parametrize("engine", ["torch", "opencl"])
def test_images_of_drawn_scenes_equal_those_of_their_list(pack, engine):
    if engine == "opencl":
        pytest.importorskip("pyopencl", reason="pyopencl is not installed; it comes with afmid[opencl]")
    _, simulator = load_engine(engine, "cpu")
    scenes, weights = draw(pack, [0, 2, 3, 4, 0, 2], SceneRanges(several=0.4, water=0.4)), OPTIONS.weights()
    together, apart = (simulator.images(given, weights) for given in (scenes, list(scenes)))
    assert_array_equal(together.values.numpy(), apart.values.numpy())
    assert together.values.abs().amax((1, 2, 3)).min() > 0.5  # Hz: something is seen on each


def test_an_offset_longer_than_the_tip_is_no_tip(pack):
    options = OPTIONS.model_copy(update={"length": 1.0})
    with pytest.raises(DataError, match="shorter than the tip"):
        draw(pack, [0] * 50, SceneRanges(tilt=2), options)
