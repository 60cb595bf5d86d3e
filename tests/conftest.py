"""Settings of all tests, and what several of them use."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

settings.register_profile("afmid", deadline=None, derandomize=True)  # machines differ in speed; a failure should repeat
settings.load_profile("afmid")

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="session")
def afmid() -> Run:
    """Run the real command: afmid("plugins", "--json", AFMID_PLUGINS="core")."""

    def run(
        *arguments: str | Path, stdin: bytes = b"", cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "afmid", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def pictures() -> ModuleType:
    """Other people's data sets, imitated: pictures.quam(folder), pictures.ml_spm(path)."""
    spec = importlib.util.spec_from_file_location("pictures", Path(__file__).with_name("pictures.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
