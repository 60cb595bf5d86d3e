import numpy as np
import pytest
from numpy.testing import assert_array_equal

from afmid.chem import inchikey
from afmid.chem.names import imaged_molecules, named_molecules
from afmid.data.pack import concatenate, write_pack
from afmid.data.prepare import split_of
from afmid.errors import DataError, UsageError
from afmid.evaluate.perturbations import NONE, PERTURBATIONS
from afmid.evaluate.suites import BATCH, SIZES, SUITES, Suite, open_molecules, open_suite, stored_suite
from afmid.io import write_scan
from afmid.molecule import Molecule
from afmid.scan import Scan


def water(z: float = 0.0) -> Molecule:
    positions = [[0, 0, 0], [0.76, 0.59, z], [-0.76, 0.59, z]]
    return Molecule(np.array([8, 1, 1]), np.array(positions), smiles="O")


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """A pack of waters, of which two are of the kind that sim-test takes."""
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    sources, splits = ["muv", "muv", "enum-pah", "derived", "muv"], ["test", "test", "test", "test", "train"]
    pressed = [True, False, False, False, False]
    write_pack(concatenate([[water()], [water(0.4)], *[[water()]] * 3], sources, splits, {}, pressed), path)
    return path


@pytest.fixture(scope="module")
def small(pack) -> Suite:
    return open_suite("sim-small", pack, limit=6, device="cpu")


def test_nobody_who_prepares_a_list_trains_on_the_molecules_that_come_with_afmid():
    pack = open_molecules()
    assert {split_of(inchikey(smiles)) for smiles in pack.smiles} == {"test"}
    assert set(pack.split) == {"test"}


def test_the_molecules_that_come_with_afmid_are_its_own_and_suffice():
    pack = open_molecules()
    assert all(source in ("curated", "afm") or source.startswith("enum-") for source in pack.source)
    assert len(set(pack.smiles)) == len(pack) >= 500
    assert pack.pressed.sum() >= 250


def test_a_scan_does_not_depend_on_how_many_are_asked_for():
    one, many = (open_suite("sim-open", limit=limit, device="cpu") for limit in (2, BATCH + 2))
    assert (len(one), len(many)) == (2, BATCH + 2)
    assert one.names == many.names[:2]
    mine, same, other = one[1], many[1], many[0]
    assert_array_equal(mine.scan.df, same.scan.df)
    assert mine.sha256 == same.sha256 != other.sha256
    assert mine.truth.smiles == same.truth.smiles


def test_every_other_scan_is_of_a_pressed_molecule_that_lies_flat(small, pack):
    for i in range(4):
        heights = small[i].truth.positions[:, 2]
        flat = np.ptp(heights) < 0.3  # 10° at most
        assert flat if i % 2 == 0 else True
    assert {small[i].groups["source"] for i in range(len(small))} == {"muv"}


def test_the_molecule_lies_within_the_window_and_under_it_is_the_truth(small):
    sample = small[0]
    positions = sample.truth.positions
    assert (np.abs(positions[:, :2]) < SIZES[0] / 2).all()
    assert positions[:, 2].max() == 0
    assert sample.scan.df.shape == (128, 128, 10)
    assert sample.scan.truth is sample.truth


def test_small_is_the_beginning_of_the_whole_test(small, pack):
    whole = open_suite("sim-test", pack, limit=2, device="cpu")
    assert_array_equal(whole[1].scan.df, small[1].scan.df)
    assert len(open_suite("sim-test", pack)) == 500
    assert len(open_suite("sim-small", pack)) == 50


def test_two_tips_show_the_scans_of_sim_open_with_a_second_of_the_same_place():
    pairs, alone = (open_suite(name, limit=4, device="cpu") for name in ("two-tips", "sim-open"))
    lifts = []
    for i in range(4):
        pair = pairs[i]
        assert_array_equal(pair.scan.df, alone[i].scan.df)
        assert pair.sha256 != alone[i].sha256
        assert pair.groups == alone[i].groups
        assert [scan.tip for scan in pair.blind] == ["CO", "Xe"]
        for name in "xy":
            np.testing.assert_allclose(getattr(pair.second, name), getattr(pair.scan, name), atol=1e-12)
        np.testing.assert_allclose(pair.second.truth.positions, pair.truth.positions, atol=1e-12)
        tips = [scan.meta["tip"] for scan in (pair.scan, pair.second)]
        assert len({(*tip["offset"], tip["lateral_stiffness_n_per_m"]) for tip in tips}) == 2
        assert 0.15 <= tips[1]["quadrupole"] <= 0.45
        assert tips[1]["probe"] == "Xe"
        lifts.append(pair.second.z[-1] - pair.scan.z[-1])
    assert alone[0].second is None
    assert np.std(lifts) > 0.1  # Å: the heights are drawn apart


def test_each_perturbation_stands_beside_the_scan_as_it_is(pack):
    robust = open_suite("robust", pack, limit=1, device="cpu")
    samples = [robust[i] for i in range(len(robust))]
    assert [sample.groups["perturbation"] for sample in samples] == [change.name for change in PERTURBATIONS]
    assert len({sample.sha256 for sample in samples}) == len(samples)
    base = samples[0]
    assert base.groups["perturbation"] == NONE
    assert_array_equal(base.scan.df, open_suite("sim-test", pack, limit=1, device="cpu")[0].scan.df)
    by_name = {sample.groups["perturbation"]: sample.scan for sample in samples}
    assert by_name["nearest 4 images"].df.shape[2] == 4
    assert_array_equal(by_name["nearest 4 images"].df, base.scan.df[..., -4:])
    assert_array_equal(by_name["turned by 90°"].df, base.scan.df[:, ::-1].transpose(1, 0, 2))
    assert by_name["tip 0.4 Å higher"].z[-1] == pytest.approx(base.scan.z[-1] + 0.4)
    loud = by_name["noise 1 Hz"].df - base.scan.df
    assert loud.std() == pytest.approx(1 - base.scan.meta["noise_hz"], rel=0.02)  # the same noise, louder


def test_the_named_molecules_are_those_of_experiments():
    suite = open_suite("afm-named", limit=2, device="cpu")
    assert suite.names == ["afm-named/pentacene", "afm-named/PTCDA"]
    assert suite[1].truth.name == "PTCDA"
    assert np.ptp(suite[1].truth.positions[:, 2]) < 0.1
    assert len(imaged_molecules()) > 40
    assert len(set(imaged_molecules().values())) == len(imaged_molecules())  # no molecule twice, under another name
    assert imaged_molecules().items() <= named_molecules().items()


def test_a_molecule_that_cannot_be_simulated_costs_itself(tmp_path):
    tungsten = Molecule(np.array([74]), np.zeros((1, 3)), smiles="[W]")
    write_pack(concatenate([[water()], [tungsten]], ["muv"] * 2, ["test"] * 2, {}, [True, False]), tmp_path / "w.npz")
    suite = open_suite("sim-test", tmp_path / "w.npz", limit=2, device="cpu")
    assert len(suite[0].truth) == 3
    with pytest.raises(DataError, match=r"sim-test/001: .*W"):
        suite[1]


@pytest.mark.parametrize(
    ("name", "with_pack", "words"),
    [
        ("sim-opne", False, "did you mean 'sim-open'"),
        ("nothing-like-it", False, "there are: sim-open"),
        ("sim-test", False, "give --data PACK"),
        ("sim-open", True, "brings its own molecules"),
    ],
)
def test_a_suite_that_cannot_be_is_refused_in_words(name, with_pack, words, pack):
    with pytest.raises(UsageError, match=words):
        open_suite(name, pack if with_pack else None)


def test_a_pack_of_made_up_molecules_alone_is_refused(tmp_path):
    write_pack(concatenate([[water()]], ["enum-pah"], ["test"], {}), tmp_path / "made-up.npz")
    with pytest.raises(DataError, match=r"made-up\.npz: its test split holds no molecules but"):
        open_suite("sim-test", tmp_path / "made-up.npz")


def test_stored_scans_are_a_suite_and_tell_their_source(tmp_path):
    image = np.random.default_rng(0).normal(size=(3, 3, 1))
    axis = np.arange(3.0)
    scan = Scan(image, axis, axis, np.zeros(1), truth=water(), meta={"sample": {"source": "muv"}})
    write_scan(scan, tmp_path / "a.npz")
    write_scan(Scan(image, axis, axis, np.zeros(1)), tmp_path / "blind.npz")
    suite = open_suite(str(tmp_path))
    assert (len(suite), suite.name) == (2, str(tmp_path))
    assert suite[0].groups == {"source": "muv"}
    with pytest.raises(DataError, match=r"blind\.npz: does not hold the true molecule"):
        suite[1]
    assert len(stored_suite([str(tmp_path)], limit=1)) == 1


def test_a_method_sees_neither_the_truth_nor_how_the_scan_was_made(small):
    sample = small[0]
    assert sample.scan.meta["tip"]
    assert sample.scan.source
    (blind,) = sample.blind
    assert (blind.truth, blind.source, blind.meta) == (None, "", {})
    assert_array_equal(blind.df, sample.scan.df)
    assert (blind.tip, blind.amplitude, blind.f0) == (sample.scan.tip, sample.scan.amplitude, sample.scan.f0)


def test_names_of_stored_scans_can_be_printed_and_written_whatever_they_are(tmp_path):
    (tmp_path / "a\udcff").mkdir()
    made = {"sample": {"source": "x\ud800" * 100}}
    write_scan(Scan(np.zeros((2, 2, 1)), [0, 1], [0, 1], [0], truth=water(), meta=made), tmp_path / "a\udcff" / "b.npz")
    suite = stored_suite([str(tmp_path / "a\udcff")])
    for text in (suite.name, *suite.names, suite[0].name, suite[0].groups["source"]):
        assert text.encode()
        assert len(text.removeprefix(str(tmp_path))) <= 80


def test_the_help_names_every_suite(afmid):
    words = afmid("evaluate", "--help").stdout.decode()
    assert all(name in words for name in SUITES)
