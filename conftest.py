"""What holds for the tests of the core and of the plugins alike."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Keep torch to one thread: for images this small more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
