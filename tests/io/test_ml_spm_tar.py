"""ml-spm's tars, imitated."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from afmid.errors import DataError
from afmid.io.ml_spm_tar import open_tar, read_tar_sample


def test_each_tip_of_each_sample_is_a_scan(tmp_path: Path, pictures) -> None:
    path = pictures.ml_spm(tmp_path / "a.tar")
    samples = open_tar(path)
    assert [sample.name for sample in samples] == ["0.0", "0.1", "1.0", "1.1"]
    co, xe = (read_tar_sample(path, sample) for sample in samples[:2])
    assert (co.tip, xe.tip) == ("CO", "Xe")
    assert (co.df != xe.df).any()
    assert "no hertz" in co.meta["ml_spm"]["units"]
    assert co.truth.symbols == ["O", "H", "H"]


def test_the_window_is_that_of_the_comment_and_slices_come_from_far_to_near(tmp_path: Path, pictures) -> None:
    path = pictures.ml_spm(tmp_path / "a.tar", tips=1)
    scan = read_tar_sample(path, open_tar(path)[0])
    assert (scan.x[0], scan.pixel[0]) == pytest.approx((0, 0.5))
    assert (scan.y[0], scan.pixel[1]) == pytest.approx((1, 0.5))
    assert (np.diff(scan.df.min((0, 1))) < 0).all()
    assert np.unravel_index(scan.df[..., -1].argmax(), (32, 32)) == (8, 27)
    np.testing.assert_allclose(scan.truth.positions[0], [1, 2, 0])


def test_quam_as_ml_spm_packs_it_runs_from_near_to_far_in_its_lattice(tmp_path: Path, pictures) -> None:
    with tarfile.open(tmp_path / "q.tar", "w") as tar:
        for i in range(10):
            pictures.add(tar, f"c.{i:03d}.jpg", pictures.encoded(pictures.picture(i), "jpeg"))
        pictures.add(tar, "c.xyz", pictures.XYZ.format('Lattice="24.0 0 0 0 24 0 0 0 1"').encode())
    scan = read_tar_sample(tmp_path / "q.tar", open_tar(tmp_path / "q.tar")[0])
    assert scan.pixel == pytest.approx((0.75, 0.75))
    assert (np.diff(scan.df.min((0, 1))) < 0).all()


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("nothing", "names no scan window"),
        ("Scan window: [[0 0], [1 1 1]]", "cannot be read"),
        ("Scan window: [[0 0 0], [0 1 1]]", "is empty"),
        ('Lattice="1 2 3"', "cannot be read"),
    ],
)
def test_a_window_that_cannot_be_is_told(tmp_path: Path, pictures, window: str, message: str) -> None:
    path = pictures.ml_spm(tmp_path / "a.tar", window=window)
    with pytest.raises(DataError, match=message):
        read_tar_sample(path, open_tar(path)[0])


def test_the_comment_of_the_molecule_may_hold_what_only_python_takes_for_the_end_of_a_line(
    tmp_path: Path, pictures
) -> None:
    path = pictures.ml_spm(tmp_path / "a.tar", window="page\f1\u2028 Scan window: [[0 0 0], [16 16 1]]")
    assert read_tar_sample(path, open_tar(path)[0]).pixel == (0.5, 0.5)


def test_a_scan_of_which_a_slice_is_missing_is_refused(tmp_path: Path, pictures) -> None:
    path = pictures.ml_spm(tmp_path / "a.tar", keys=(0,), tips=1)
    with tarfile.open(path) as whole, tarfile.open(tmp_path / "b.tar", "w") as tar:
        for member in whole:
            if member.name not in ("0.03.0.png", "0.04.0.png"):
                tar.addfile(member, whole.extractfile(member))
    (sample,) = open_tar(tmp_path / "b.tar")
    with pytest.raises(DataError, match="slices are missing; it has 0, 1, 2, 5, 6, 7, 8, 9"):
        read_tar_sample(tmp_path / "b.tar", sample)


def test_a_long_key_is_found(tmp_path: Path, pictures) -> None:
    path = pictures.ml_spm(tmp_path / "a.tar", keys=("k" * 120, "short"), tips=1)
    samples = open_tar(path)
    assert [sample.key for sample in samples] == ["k" * 120, "short"]
    assert read_tar_sample(path, samples[0]).df.shape == (32, 32, 10)


def test_corrupt_members_are_told(tmp_path: Path, pictures) -> None:
    path = pictures.ml_spm(tmp_path / "a.tar", keys=(0,), tips=1)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x89PNG", b"\x89PMG", 1))
    with pytest.raises(DataError, match=r"0\.00\.0\.png: the picture cannot be read"):
        read_tar_sample(path, open_tar(path)[0])
    path.write_bytes(content[:5000])
    with pytest.raises(DataError, match="is cut short"):
        open_tar(path)


def test_of_a_tar_that_is_cut_short_the_whole_samples_are_read(tmp_path: Path, pictures, caplog) -> None:
    path = pictures.ml_spm(tmp_path / "a.tar", keys=(0, 1, 2), tips=1)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"2.05.0.png") + 600])
    assert [sample.name for sample in open_tar(path)] == ["0.0", "1.0"]
    assert "is cut short" in caplog.text


def test_a_tar_of_other_things_is_refused(tmp_path: Path, pictures) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        pictures.add(tar, "readme.txt", b"hello")
    with pytest.raises(DataError, match="holds no scans"):
        open_tar(tmp_path / "a.tar")
