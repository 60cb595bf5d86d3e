"""What the tests of the commands share: a stranger's plugin, and a scan."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afmid import Molecule
from afmid.data.pack import concatenate, write_pack

METADATA = "Metadata-Version: 2.1\nName: afmid-stranger\nVersion: 1.0\n"
SMALL = ("--pixels", "24", "--heights", "2")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the stranger's plugin is installed, and no other beside the core."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(Path(__file__).with_name("stranger.py"), site)
    record = site / "afmid_stranger-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(METADATA)
    (record / "entry_points.txt").write_text("[afmid]\nstranger = stranger\n")
    return {"PYTHONPATH": str(site), "AFMID_PLUGINS": "stranger"}


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A molecule pack of water and formaldehyde, roughly, in both splits of a training."""
    water = Molecule(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]))
    planar = np.array([[0, 0, 0], [1.2, 0, 0], [-0.6, 0.9, 0], [-0.6, -0.9, 0]])
    formaldehyde = Molecule(np.array([6, 8, 1, 1]), planar)
    path = tmp_path_factory.mktemp("pack") / "pack.npz"
    write_pack(concatenate([[water], [formaldehyde], [water]], ["made up"] * 3, ["train", "train", "val"], {}), path)
    return path


@pytest.fixture(scope="session")
def scan(afmid: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scan of benzene, with its truth."""
    path = tmp_path_factory.mktemp("scan") / "benzene.npz"
    assert afmid("simulate", "benzene", "-o", path, *SMALL).returncode == 0
    return path


@pytest.fixture(scope="session")
def xenon(afmid: Any, scan: Path) -> Path:
    """What a tilted Xe tip shows of it, in a smaller window."""
    path = scan.with_name("xenon.npz")
    options = ("--tip", "Xe", "--tilt-x", "0.3", "--size", "12", "--pixels", "20", "--heights", "2")
    assert afmid("simulate", "benzene", "-o", path, *options).returncode == 0
    return path
