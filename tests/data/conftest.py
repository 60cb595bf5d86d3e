"""What the tests of the data share: a Dask cluster, a simulator, a list of molecules."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from afmid.offers import Simulator
from afmid.simulate import load_engine


@contextmanager
def two_workers() -> Iterator[Any]:
    """Start two workers, each a process with two threads."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A Dask cluster that the tests share, and leave alive."""
    with two_workers() as cluster:
        yield cluster


@pytest.fixture
def mortal_cluster() -> Iterator[Any]:
    """A Dask cluster of its own for a test that kills a worker; another that is restarted then stays out of it."""
    with two_workers() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def simulator() -> Simulator:
    return load_engine("torch", "cpu")[1]


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A list of twelve molecules, of which numbers 1 and 3 fail: no SMILES, and an element without parameters."""
    path = tmp_path / "list.smi"
    path.write_text("\n".join(["O", "no_smiles", "N", "C[W]", "CO", *("C" * n for n in range(1, 8))]))
    return path
