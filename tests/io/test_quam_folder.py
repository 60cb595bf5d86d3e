"""QUAM-AFM's folders, imitated: read as far as the publication says, and corrupt scans told."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from afmid.errors import DataError
from afmid.io.quam_folder import molecule_of, open_quam, read_quam


@pytest.fixture
def root(tmp_path: Path, pictures) -> Path:
    return pictures.quam(tmp_path / "QUAM")


def test_all_scans_are_found_setting_by_setting(root: Path) -> None:
    assert open_quam(root).names == [
        "K-1/Conformer3D_CID_12_K040_Amp040",
        "K-1/Conformer3D_CID_7_K040_Amp040",
        "K-24/Conformer3D_CID_12_K100_Amp140",
        "K-24/Conformer3D_CID_7_K100_Amp140",
    ]


def test_one_setting_can_be_opened_alone(root: Path) -> None:
    folder = open_quam(root / "K-24")
    assert folder.names == ["K-24/Conformer3D_CID_12_K100_Amp140", "K-24/Conformer3D_CID_7_K100_Amp140"]
    assert read_quam(folder, folder.names[0]).truth.symbols == ["O", "H", "H"]


def test_another_folder_is_none_of_these(tmp_path: Path) -> None:
    (tmp_path / "K2").mkdir()
    assert open_quam(tmp_path) is None


def test_a_scan_says_its_settings_and_that_it_is_in_no_hertz(root: Path) -> None:
    scan = read_quam(open_quam(root), "K-24/Conformer3D_CID_7_K100_Amp140")
    assert scan.amplitude == 1.4
    assert scan.meta["quam"]["lateral_stiffness_n_per_m"] == 1.0
    assert "no hertz" in scan.meta["quam"]["units"]
    assert scan.df.shape == (32, 32, 10)
    np.testing.assert_allclose(scan.z, np.arange(10)[::-1] * 0.1)
    assert scan.pixel == pytest.approx((0.75, 0.75))


def test_the_nearest_image_comes_last(root: Path) -> None:
    scan = read_quam(open_quam(root), "K-1/Conformer3D_CID_7_K040_Amp040")
    floor = scan.df.min((0, 1))  # seed 0, the nearest, is the darkest
    assert (np.diff(floor) < 0).all()


def test_columns_run_along_x_and_rows_against_y_about_the_molecule(root: Path) -> None:
    scan = read_quam(open_quam(root), "K-1/Conformer3D_CID_7_K040_Amp040")
    i, j = np.unravel_index(scan.df[..., -1].argmax(), (32, 32))
    assert (i, j) == (8, 27)  # column 8, row 4 from above
    positions = scan.truth.positions
    centre = (positions.max(0) + positions.min(0)) / 2
    assert (scan.x.mean(), scan.y.mean()) == pytest.approx(tuple(centre[:2]))
    assert positions[:, 2].max() == 0


def test_all_scans_of_a_molecule_share_its_name() -> None:
    assert molecule_of("a/K-1/Conformer3D_CID_7_K040_Amp040") == molecule_of("K-9/x_CID_7_K060_Amp080") == "CID_7"


def test_corrupt_scans_say_what_is_wrong(root: Path, pictures) -> None:
    folder = open_quam(root)
    name = "K-1/Conformer3D_CID_7_K040_Amp040"
    images = sorted((root / name).iterdir())

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            read_quam(folder, name)

    whole = images[3].read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "003.jpg: the picture cannot be read"),
        (b"", "003.jpg: the picture cannot be read"),
        (pictures.encoded(np.full((32, 32), 9, np.uint8), "jpeg"), "003.jpg: the picture is of a single grey"),
        (pictures.encoded(pictures.picture(0, (16, 16)), "jpeg"), "its images differ in size"),
        (pictures.encoded(np.zeros((2, 3000), np.uint8), "png"), "afmid reads up to 2048"),
    ):
        images[3].write_bytes(content)
        refused(message)
    images[3].unlink()
    refused("holds 9 images")
    images[3].write_bytes(whole)
    xyz = root / "XYZ_FILES" / "7" / "7.xyz"
    xyz.write_text("5\n\nH 0 0 0\n")
    refused("7.xyz: says 5 atoms")
    xyz.unlink()
    refused("7.xyz: no such file")
    shutil.rmtree(root / "XYZ_FILES")
    assert read_quam(folder, name).truth is None
