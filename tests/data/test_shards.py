"""The scans of molecules in shards: the same ones wherever they are simulated, and however often a run is killed."""

import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from afmid.data import scan_stream, shards
from afmid.data.scan_set import open_scans
from afmid.data.scan_stream import Cluster, ScanStream
from afmid.data.shards import key_of, shard_jobs
from afmid.data.sources import open_sources
from afmid.errors import DataError, UsageError
from afmid.io.shard_file import ShardWriter
from afmid.simulate import SimulationOptions
from afmid.simulate.potential import Potential

SMALL = SimulationOptions(pixels=8, heights=1)


@pytest.fixture
def stream(listed: Path, simulator, monkeypatch) -> ScanStream:
    monkeypatch.setattr(scan_stream, "AT_ONCE", 2)
    return ScanStream(open_sources([str(listed)]), {"": SMALL}, simulator, "entropy", 3)


def test_the_shards_hold_each_scan_once_in_the_order_of_the_molecules(
    stream: ScanStream, listed: Path, tmp_path: Path
) -> None:
    jobs = shard_jobs(stream, "list", tmp_path / "out", 3)
    (tmp_path / "out").mkdir()
    assert [job.path.name for job in jobs] == [f"list-0000{i}-of-00003.tar" for i in range(3)]
    assert [job.write() for job in jobs] == [2, 4, 4]
    assert [job.stream.failed for job in jobs] == [2, 0, 0]
    scans = open_scans([tmp_path / "out"])
    good = [smiles for i, smiles in enumerate(listed.read_text().split()) if i not in (1, 3)]
    assert [scan.truth.smiles for scan in scans] == good
    for scan, (_, whole) in zip(scans, stream.scans(), strict=True):
        assert scan.meta == whole.meta
        np.testing.assert_allclose(scan.df, whole.df, rtol=1e-4, atol=1e-5)  # which were simulated in other blocks


def test_a_shard_depends_on_its_own_molecules_alone(stream: ScanStream, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    three = shard_jobs(stream, "list", tmp_path / "out", 3, chosen=1)
    assert len(three) == 1
    assert three[0].write() == 4
    scans = open_scans([three[0].path])
    assert [scan.meta["pose"]["index"] for scan in scans] == [4, 5, 6, 7]


def test_there_may_be_more_shards_than_molecules(stream: ScanStream, tmp_path: Path) -> None:
    jobs = shard_jobs(replace(stream, first=0, last=2), "list", tmp_path, 4)
    assert [job.write() for job in jobs] == [0, 1, 0, 0]
    assert all(job.is_done() for job in jobs)
    assert [scan.truth.smiles for scan in open_scans([tmp_path])] == ["O"]


def test_too_many_scans_for_a_shard_are_refused_first(stream: ScanStream, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "MOST_SAMPLES", 9)
    many = replace(stream, settings={"near": SMALL, "far": SMALL.model_copy(update={"clearance": 2.0})})
    with pytest.raises(UsageError, match="up to 9 scans; give more shards: --shard 3"):
        shard_jobs(many, "list", tmp_path, 2)
    assert all(job.stream.molecules * 2 <= 9 for job in shard_jobs(many, "list", tmp_path, 3))


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 5, 8])
def test_a_run_that_was_killed_is_taken_up_and_ends_the_same(stream: ScanStream, tmp_path: Path, samples: int) -> None:
    (whole,) = shard_jobs(stream, "list", tmp_path, 1)
    assert whole.write() == 10
    content = whole.path.read_bytes()
    end = [match.start() for match in re.finditer(rb"\d{8}-list-\d{6}\.npy", content)][samples] + 700
    whole.path.unlink()
    whole.path.with_name(f".{whole.path.name}.part").write_bytes(content[:end])
    (again,) = shard_jobs(stream, "list", tmp_path, 1)
    done: list[int] = []
    assert again.write(progress=done.append) == 10
    assert again.path.read_bytes() == content
    assert again.stream.failed == 2
    assert sum(done) == stream.pixels


def test_a_shard_that_is_there_is_known_by_its_run(stream: ScanStream, listed: Path, tmp_path: Path) -> None:
    (job,) = shard_jobs(stream, "list", tmp_path, 1)
    assert not job.is_done()
    job.write()
    (again,) = shard_jobs(stream, "list", tmp_path, 1)
    assert again.is_done()
    assert again.stream.failed == 2
    xenon = {"": SMALL.model_copy(update={"tip": "Xe"})}
    field = Potential(np.zeros((8, 8, 8)), np.zeros(3), 2 * np.eye(3))
    changed = [Potential(field.values + 1, field.origin, field.cell), field.moved((0.1, 0, 0)), field]
    potentials = [{"potential": potential} for potential in changed]
    assert len({replace(stream, **changes).sha256() for changes in potentials}) == 3
    for changes in ({"seed": 4}, {"settings": xenon}, {"record": {"engine": "x"}}, *potentials):
        (other,) = shard_jobs(replace(stream, **changes), "list", tmp_path, 1)
        with pytest.raises(DataError, match="--force"):
            other.is_done()
    listed.write_text("\n".join(listed.read_text().split()[::-1]))
    (other,) = shard_jobs(replace(stream, sources=open_sources([str(listed)])), "list", tmp_path, 1)
    with pytest.raises(DataError, match="--force"):
        other.is_done()


def test_a_shard_that_was_cut_short_is_not_taken_for_whole(stream: ScanStream, tmp_path: Path) -> None:
    (job,) = shard_jobs(stream, "list", tmp_path, 1)
    job.write()
    job.path.write_bytes(job.path.read_bytes()[:-5000])
    with pytest.raises(DataError, match="is damaged; give --force"):
        job.is_done()


def test_a_part_of_another_run_is_not_taken_up(stream: ScanStream, tmp_path: Path) -> None:
    (job,) = shard_jobs(stream, "list", tmp_path, 1)
    with ShardWriter(job.path, "another"):
        pass
    with pytest.raises(DataError, match="--force"):
        job.write()
    assert job.write(force=True) == 10


def test_serial_processes_and_a_cluster_write_the_same_bytes(stream: ScanStream, tmp_path: Path, cluster) -> None:
    there = Cluster(cluster.scheduler_address, "torch", "cpu")
    kinds = {"serial": {}, "pool": {"jobs": 2}, "dask": {"cluster": there, "simulator": None}}
    written = {}
    for kind, changes in kinds.items():
        (tmp_path / kind).mkdir()
        (job,) = shard_jobs(replace(stream, **changes), "list", tmp_path / kind, 1)
        assert job.write() == 10
        assert job.stream.failed == 2
        written[kind] = job.path.read_bytes()
    assert written["serial"] == written["pool"] == written["dask"]


def test_a_worker_that_is_killed_costs_a_retry(stream: ScanStream, tmp_path: Path, mortal_cluster) -> None:
    (job,) = shard_jobs(stream, "list", tmp_path, 1)
    job.write()
    content = job.path.read_bytes()
    job.path.unlink()
    there = Cluster(mortal_cluster.scheduler_address, "torch", "cpu")
    (again,) = shard_jobs(replace(stream, cluster=there, simulator=None), "list", tmp_path, 1)
    killed = []

    def kill(pixels: int) -> None:
        if pixels and not killed:
            killed.append(next(iter(mortal_cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    assert again.write(progress=kill) == 10
    assert killed
    assert again.path.read_bytes() == content


def test_a_key_has_no_dots_and_fits_a_header() -> None:
    assert key_of(7, "a.b/ö") == "00000007-a_b__"
    long = key_of(7, "x" * 300 + "_K040_Amp060")
    assert len(long) == 90
    assert long.endswith("_K040_Amp060")
