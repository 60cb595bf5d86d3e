"""Training from a pack on a machine that has torch, numpy and the core, and nothing of chemistry."""

import os
from pathlib import Path

import pytest

CHEMISTRY = ("rdkit", "ase", "dscribe", "pyopencl")
SMALL = ("steps=2", "batch=2", "validation_scans=2", "simulation.size=4", "simulation.pixels=32")
METHODS = (
    "line", "descriptor", "graphgen", "graphgen architecture=paper", "graphgen architecture=resimulate",
    "soap", "soap architecture=paper", "soap architecture=predictor",
)  # fmt: skip


@pytest.mark.parametrize("trained", METHODS)
@pytest.mark.parametrize("absent", [CHEMISTRY, (*CHEMISTRY, "matplotlib")], ids=["chemistry", "matplotlib too"])
def test_a_method_is_trained_from_a_pack_where_importing_them_fails(
    afmid, stranger, pack: Path, tmp_path: Path, trained: str, absent: tuple[str, ...]
) -> None:
    method, *own = trained.split()
    if method != "line":
        pytest.importorskip(f"afmid_{method}")
    blocked = "".join(f"sys.modules[{name!r}] = None\n" for name in absent)
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{blocked}")
    environment = {
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{stranger['PYTHONPATH']}",
        "AFMID_PLUGINS": "stranger" if method == "line" else method,
    }
    settings = [word for pair in (*SMALL, *own) for word in ("--set", pair)]
    done = afmid("train", method, "--data", pack, "-o", tmp_path / "run", "--device", "cpu", *settings, **environment)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "run" / "best.safetensors").exists()
    assert len(list((tmp_path / "run" / "pictures").iterdir())) == (0 if "matplotlib" in absent else 1)
