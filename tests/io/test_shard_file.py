"""Tar shards: what is written comes back, other programs read it, and damage costs no more than what it hits."""

import io
import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from afmid.errors import DataError
from afmid.io import shard_file
from afmid.io.meta import parse_json, write_json
from afmid.io.shard_file import ShardWriter, packed, read_sample, read_shard
from afmid.molecule import Molecule
from afmid.scan import ABOVE_ATOM, Scan
from afmid.units import N_per_m

WATER = Molecule(
    numbers=[8, 1, 1],
    positions=[[0, 0, 0], [0.76, 0.1, -0.59], [-0.76, 1 / 3, -0.59]],
    charges=[-0.8, 0.4, 0.4],
    bonds=[[0, 1], [0, 2]],
    orders=[1, 1],
    name="wåter",
    smiles="O",
)


def scan_of(value: float, **changes) -> Scan:
    df = np.linspace(-1, value, 5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    made = Scan(
        df, x=np.arange(5) / 3, y=np.arange(4) / 7, z=np.array([3.2, 3.1, 3.0]), z_reference=ABOVE_ATOM, tip="Xe",
        amplitude=0.4, f0=30300.0, cantilever_stiffness=1800 * N_per_m, source="made up",
        meta={"sample": {"name": f"n{value}", "split": "test"}, "pose": {"index": 3}}, truth=WATER,
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shard.tar"
    with ShardWriter(path, "job") as writer:
        for i in range(5):
            writer.add(f"{i:08d}-a", scan_of(i))
        writer.finish(failed=2)
    return path


def test_what_is_written_comes_back(shard: Path) -> None:
    found = read_shard(shard)
    assert (found.job, found.failed) == ("job", 2)
    assert [(sample.key, sample.split) for sample in found.samples] == [(f"{i:08d}-a", "test") for i in range(5)]
    for i, sample in enumerate(found.samples):
        scan, made = read_sample(shard, sample.start), scan_of(i)
        for name in ("df", "x", "y", "z"):
            assert_array_equal(getattr(scan, name), getattr(made, name))
        for name in ("tip", "amplitude", "f0", "z_reference", "channel", "source", "meta"):
            assert getattr(scan, name) == getattr(made, name)
        assert scan.cantilever_stiffness == pytest.approx(made.cantilever_stiffness, rel=1e-14)
        for name in ("numbers", "positions", "charges", "bonds", "orders"):
            assert_array_equal(getattr(scan.truth, name), getattr(WATER, name))
        assert (scan.truth.name, scan.truth.smiles) == ("wåter", "O")


def test_a_scan_without_a_molecule_comes_back_too(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "blind.tar", "") as writer:
        writer.add("a", scan_of(1, truth=None, amplitude=None, meta={}))
        writer.add("b", scan_of(2, truth=None))
        writer.finish(0)
    first, second = (read_sample(tmp_path / "blind.tar", s.start) for s in read_shard(tmp_path / "blind.tar").samples)
    assert (first.truth, first.amplitude, second.amplitude) == (None, None, 0.4)


def test_the_layout_is_that_of_webdataset(shard: Path) -> None:
    with tarfile.open(shard) as tar:
        names = tar.getnames()
        assert names[0] == "__job__"
        assert names[-1] == "__index__"  # webdataset passes over names in double underscores
        assert names[1:4] == ["00000000-a.npy", "00000000-a.json", "00000000-a.xyz"]
        assert all(name.count(".") == 1 for name in names[1:-1])
        said = {(member.mtime, member.uid, member.gid, member.uname, member.mode, member.type) for member in tar}
        assert said == {(0, 0, 0, "", 0o644, tarfile.REGTYPE)}
        array = np.load(io.BytesIO(tar.extractfile("00000002-a.npy").read()))  # type: ignore[union-attr]
        record = json.load(tar.extractfile("00000002-a.json"))  # type: ignore[arg-type]
    assert (array.dtype, array.shape) == (np.float32, (5, 4, 3))
    assert record["cantilever_stiffness_n_per_m"] == 1800.0
    assert record["truth"]["bonds"] == [[0, 1], [0, 2]]


def test_plain_tar_unpacks_it(shard: Path) -> None:
    done = subprocess.run(["tar", "xf", shard.name], cwd=shard.parent, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (shard.parent / "00000004-a.xyz").read_text().startswith("3\n")


def test_the_same_scans_give_the_same_bytes(shard: Path, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "again.tar", "job") as writer:
        for i in range(5):
            writer.add(f"{i:08d}-a", scan_of(i))
        writer.finish(failed=2)
    assert (tmp_path / "again.tar").read_bytes() == shard.read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def without_index(shard: Path) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content[: content.index(b"__index__")] + bytes(1024))


def with_shifted_index(shard: Path) -> None:
    content = shard.read_bytes()
    assert content.count(b'"starts": [1024, ') == 1
    shard.write_bytes(content.replace(b'"starts": [1024, ', b'"starts": [1536, '))


def with_a_wild_position(shard: Path) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content[: -1024 - 16] + b"9" * 16 + bytes(1024))


def repacked_by_another_program(shard: Path) -> None:
    with tarfile.open(shard) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar if not member.name.startswith("__")]  # type: ignore[union-attr]
    with tarfile.open(shard, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            member.mtime = 1234.5  # which takes a header of its own
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    "damage", [without_index, with_shifted_index, with_a_wild_position, repacked_by_another_program]
)
def test_where_the_index_is_missing_or_wrong_the_samples_are_found_by_their_headers(shard: Path, damage) -> None:
    before = [read_sample(shard, sample.start) for sample in read_shard(shard).samples]
    damage(shard)
    samples = read_shard(shard).samples
    assert [(sample.key, sample.split) for sample in samples] == [(f"{i:08d}-a", "test") for i in range(5)]
    for sample, scan in zip(samples, before, strict=True):
        assert_array_equal(read_sample(shard, sample.start).df, scan.df)


def test_of_a_shard_that_is_cut_short_the_whole_samples_are_read(shard: Path, caplog) -> None:
    starts = [sample.start for sample in read_shard(shard).samples]
    with shard.open("r+b") as file:
        file.truncate(starts[3] + 700)
    assert [sample.start for sample in read_shard(shard).samples] == starts[:3]
    assert "is cut short" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"schema": "afmid.sample/1"', b'"schema": "afmid.sample/2"', "schema is 'afmid.sample/2'"),
        (b'"x_angstrom": [0.0', b'"x_angstrom": [NaN', "meta is not JSON"),
        (b'"numbers": [8, 1, 1]', b'"numbers": [8, 1, 0]', "no element has the atomic number 0"),
        (b'"bonds": [[0, 1], [0, 2]]', b'"bonds": [[0, 1], [0, 9]]', "bonds must join two different atoms"),
        (b'"bonds": [[0, 1], [0, 2]]', b'"bonds": [[0, 1], [0   ]]', "bonds must have rows of one length"),
        (b'"numbers": [8, 1, 1]', b'"numbers": [8, 1e19]'.ljust(20), "numbers"),
        (b'"smiles": "O", "numbers": [8, 1, 1]', b'"numbers": [1180591620717411303424]', "numbers must be whole"),
        (b"(5, 4, 3)", b"(5, 4, 9)", "header says 720 bytes"),
        (b"'<f4'", b"'|O' ", "python objects"),
        (b"\x93NUMPY", b"\x93NUMPX", "damaged"),
    ],
)
def test_a_damaged_sample_says_what_is_wrong_and_the_others_are_read(
    shard: Path, old: bytes, new: bytes, message: str
) -> None:
    content = shard.read_bytes()
    shard.write_bytes(content.replace(old, new, 1))
    first, second, *_ = read_shard(shard).samples
    with pytest.raises(DataError, match=message):
        read_sample(shard, first.start)
    assert read_sample(shard, second.start).df.shape == (5, 4, 3)


def test_sizes_that_a_header_claims_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    huge = tarfile.TarInfo("a.npy")
    huge.size = 2**40
    (tmp_path / "huge.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(DataError, match=r"huge\.tar: is cut short"):
        read_shard(tmp_path / "huge.tar")
    long = tarfile.TarInfo("a.json")
    long.size = shard_file.MAX_JSON + 1
    stack = tarfile.TarInfo("a.npy")
    with (tmp_path / "long.tar").open("wb") as file:
        file.write(stack.tobuf() + long.tobuf())
        file.truncate(2 * 512 + long.size)
    (sample,) = read_shard(tmp_path / "long.tar").samples
    with pytest.raises(DataError, match="afmid reads up to"):
        read_sample(tmp_path / "long.tar", sample.start)


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, bytes(4096)])
def test_what_is_no_shard_is_refused_or_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    try:
        assert read_shard(tmp_path / "a.tar").samples == []
    except DataError as error:
        assert "a.tar" in str(error)  # noqa: PT017


def test_links_are_no_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "linked.tar", "w") as tar:
        for name in ("a.npy", "a.json"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
    assert read_shard(tmp_path / "linked.tar").samples == []


def test_a_run_that_was_cut_short_anywhere_goes_on_with_its_whole_samples(shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    path = tmp_path / "new.tar"
    for cut in (0, 100, 700, 3000, len(content) // 2 + 11, len(content) - 2000, len(content)):
        path.with_name(".new.tar.part").write_bytes(content[:cut])
        with ShardWriter(path, "job") as writer:
            for i in range(len(writer.keys), 5):
                writer.add(f"{i:08d}-a", scan_of(i))
            writer.finish(failed=2)
        assert path.read_bytes() == content


def test_samples_can_be_taken_back(shard: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.tar"
    path.with_name(".new.tar.part").write_bytes(shard.read_bytes()[:-3000])
    with ShardWriter(path, "job") as writer:
        writer.truncate(2)
        assert writer.keys == ["00000000-a", "00000001-a"]
        for i in range(2, 5):
            writer.add(f"{i:08d}-a", scan_of(i))
        writer.finish(2)
    assert path.read_bytes() == shard.read_bytes()


def test_what_another_run_left_is_only_written_over_when_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new.tar"
    with ShardWriter(path, "one") as writer:
        writer.add("a", scan_of(1))
    with pytest.raises(DataError, match="--force"):
        ShardWriter(path, "other")
    with ShardWriter(path, "other", force=True) as writer:
        assert writer.keys == []
        writer.finish(0)
    assert (read_shard(path).job, read_shard(path).samples) == ("other", [])


def test_two_runs_do_not_write_the_same_shard(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with ShardWriter(tmp_path / "new.tar", "one"), pytest.raises(DataError, match="another process is writing it"):
        ShardWriter(tmp_path / "new.tar", "one")


def test_a_shard_is_moved_to_its_place_while_it_is_still_locked(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("fcntl")
    path, replace = tmp_path / "new.tar", Path.replace

    def refused_meanwhile(part: Path, target: Path) -> Path:
        with pytest.raises(DataError, match="another process is writing it"):
            ShardWriter(path, "job")
        return replace(part, target)

    monkeypatch.setattr(Path, "replace", refused_meanwhile)
    with ShardWriter(path, "job") as writer:
        writer.add("a", scan_of(1))
        writer.finish(0)
    assert read_shard(path).indexed


@pytest.mark.parametrize("begun_again", [False, True])
def test_a_shard_that_another_process_finishes_before_the_lock_is_held_stays_whole(
    tmp_path: Path, monkeypatch, begun_again: bool
) -> None:
    path = tmp_path / "new.tar"
    with ShardWriter(path, "job") as first:
        first.add("a", scan_of(1))

        def finished_before(file: BinaryIO, path: Path) -> BinaryIO:
            first.finish(0)
            if begun_again:
                path.with_name(".new.tar.part").touch()
            return file

        monkeypatch.setattr(shard_file, "locked", finished_before)
        with pytest.raises(DataError, match="another process has just finished it; give the same command again"):
            ShardWriter(path, "job")
    found = read_shard(path)
    assert found.indexed
    assert len(found.samples) == 1


def test_the_index_of_the_largest_shard_can_be_read() -> None:
    count = shard_file.MOST_SAMPLES
    keys, starts = ["k" * shard_file.KEY_LETTERS] * count, [10**12] * count
    index = shard_file._Index(
        schema="afmid.shard/1", job="0" * 64, failed=10**6, keys=keys, starts=starts, splits=["train"] * count
    )
    text = write_json(index)
    assert len(text) < shard_file.MAX_INDEX - 1024
    assert parse_json(shard_file._Index, text, "afmid.shard/1") == index


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be written as JSON"):
        packed("a", scan_of(1, meta={"a": float("nan")}))
