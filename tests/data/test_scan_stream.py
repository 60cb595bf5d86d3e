"""Molecules to scans, many of them: each as if it had been simulated alone."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from afmid import chem
from afmid.data import scan_stream
from afmid.data.poses import posed
from afmid.data.prepare import split_of
from afmid.data.scan_stream import ScanStream
from afmid.data.sources import open_sources
from afmid.errors import DataError
from afmid.scan import Scan
from afmid.simulate import SimulationOptions, simulate

SMALL = SimulationOptions(pixels=8, heights=1)


def test_each_scan_is_that_of_its_molecule_alone(listed: Path, simulator) -> None:
    stream = ScanStream(open_sources([str(listed)]), {"": SMALL}, simulator)
    scans = dict(stream.scans())
    for i, smiles in ((0, "O"), (2, "N"), (10, "CCCCCC")):
        scan = scans[f"list-{i:06}"]
        assert scan.truth.smiles == smiles
        (alone,) = simulate([scan.truth], SMALL, simulator)
        assert_allclose(scan.df, alone.df, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pose", ["as-given", "flat", "entropy"])
def test_neither_processes_nor_groups_change_a_scan(listed: Path, simulator, monkeypatch, pose) -> None:
    sources = open_sources([str(listed)])
    one = list(ScanStream(sources, {"": SMALL}, simulator, pose, 3, jobs=1).scans())
    monkeypatch.setattr(scan_stream, "FEW", 100)
    here = list(ScanStream(sources, {"": SMALL}, simulator, pose, 3, jobs=1).scans())
    assert len(one) == 10
    for (name, scan), (name_here, scan_here) in zip(one, here, strict=True):
        assert name == name_here
        assert np.array_equal(scan.truth.positions, scan_here.truth.positions)
        assert np.array_equal(scan.df, scan_here.df)
        assert scan.meta == scan_here.meta


def test_a_pose_depends_on_the_seed_and_the_number_alone(listed: Path, simulator) -> None:
    def poses(seed: int, *arguments: str) -> list[np.ndarray]:
        stream = ScanStream(open_sources(arguments), {"": SMALL}, simulator, "flat", seed)
        return [scan.truth.positions for _, scan in stream.scans()]

    first, again, other = poses(1, "O", "O"), poses(1, "N", "O"), poses(2, "O", "O")
    assert not np.allclose(first[0], first[1])
    assert np.array_equal(first[1], again[1])
    assert not np.allclose(first[0], other[0])


def test_failures_are_counted_and_named_and_the_bar_still_fills(listed: Path, simulator, caplog) -> None:
    done: list[int] = []
    stream = ScanStream(open_sources([str(listed)]), {"": SMALL}, simulator, jobs=2)
    assert len(list(stream.scans(done.append))) == 10
    assert (stream.failed, stream.molecules) == (2, 12)
    assert sum(done) == stream.pixels == 12 * 64
    assert "left out: list-000001 (no_smiles): 'no_smiles' is no valid SMILES" in caplog.messages
    assert any(message.startswith("left out: list-000003 (C[W]): no Lennard-Jones") for message in caplog.messages)


def test_a_molecule_asked_for_alone_raises_its_error(simulator) -> None:
    with pytest.raises(DataError, match="no Lennard-Jones parameters for W"):
        list(ScanStream(open_sources(["C[W]"]), {"": SMALL}, simulator).scans())


def test_each_setting_is_applied_to_each_molecule(simulator, monkeypatch) -> None:
    monkeypatch.setattr(scan_stream, "AT_ONCE", 2)
    settings = {"near": SMALL, "far": SMALL.model_copy(update={"clearance": 2.0})}
    stream = ScanStream(open_sources(["O", "N", "C"]), settings, simulator)
    scans: dict[str, Scan] = dict(stream.scans())
    assert sorted(scans) == sorted(stream.names())
    assert list(scans) == ["H2O_near", "H3N_near", "H2O_far", "H3N_far", "CH4_near", "CH4_far"]
    assert scans["H3N_far"].z[0] - scans["H3N_near"].z[0] == pytest.approx(2.55)


def test_no_more_molecules_are_read_than_are_needed(tmp_path: Path, simulator, monkeypatch) -> None:
    monkeypatch.setattr(scan_stream, "AT_ONCE", 2)
    monkeypatch.setattr(scan_stream, "FEW", 100)
    path = tmp_path / "list.smi"
    path.write_text("O\n" * 2 + "no_smiles\n" * 50)
    stream = ScanStream(open_sources([str(path)]), {"": SMALL}, simulator)
    scans = stream.scans()
    assert len(list(islice(scans, 2))) == 2
    assert stream.failed == 0
    scans.close()


def test_the_record_says_how_the_molecule_lies(simulator) -> None:
    ((_, scan),) = ScanStream(open_sources(["CCO"]), {"": SMALL}, simulator, "entropy", 5).scans()
    assert scan.meta["pose"] == {"name": "entropy", "seed": 5, "index": 0}
    embedded = next(iter(open_sources(["CCO"])[0].entries())).load()
    assert_allclose(scan.truth.positions, posed(embedded, "entropy", 5, 0).topmost_at_zero().positions)


def test_a_part_of_the_molecules_can_be_taken_across_sources(listed: Path, simulator) -> None:
    sources = open_sources(["O", str(listed), "N"])
    whole = list(ScanStream(sources, {"": SMALL}, simulator, "entropy", 1).scans())
    for first, last in ((0, 1), (0, 3), (1, 4), (3, 14), (13, None)):
        part = ScanStream(sources, {"": SMALL}, simulator, "entropy", 1, first=first, last=last)
        scans = list(part.scans())
        assert list(part.names()) == [entry.name for s in sources for entry in s.entries()][first:last]
        expected = [(name, scan) for name, scan in whole if first <= scan.meta["pose"]["index"] < (last or 14)]
        assert [name for name, _ in scans] == [name for name, _ in expected]
        for (_, scan), (_, other) in zip(scans, expected, strict=True):
            assert np.array_equal(scan.truth.positions, other.truth.positions)


def test_scans_of_molecules_that_experiments_have_shown_are_kept_from_training(tmp_path: Path, simulator) -> None:
    pentacene = "c1ccc2cc3cc4cc5ccccc5cc4cc3cc2c1"
    (tmp_path / "list.smi").write_text(pentacene)
    sources = open_sources([str(tmp_path / "list.smi")])
    ((_, scan),) = ScanStream(sources, {"": SMALL}, simulator, record={"engine": "torch"}).scans()
    assert split_of(chem.inchikey(pentacene)) == "train"
    assert scan.meta["sample"]["split"] == "test"


def test_the_record_names_the_split_that_a_pack_would_have(listed: Path, simulator) -> None:
    scans = dict(ScanStream(open_sources([str(listed)]), {"": SMALL}, simulator, record={"engine": "torch"}).scans())
    methanol = scans["list-000004"].meta
    assert methanol["sample"] == {"name": "list-000004", "split": split_of(chem.inchikey("CO")), "source": "list.smi"}
    assert methanol["engine"] == "torch"


def test_large_scans_make_small_blocks() -> None:
    def block(**changes) -> int:
        return ScanStream([], {"": SimulationOptions(**changes)}, None).block

    assert block() == 32
    assert block(pixels=256) == 25
    assert block(pixels=2048, heights=100) == 1
