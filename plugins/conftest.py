import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Keep torch to one thread: for images this small more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def awake():
    """Make every weight of a network matter: many layers start from zero."""

    def woken(network):
        torch.manual_seed(1)
        for weight in network.parameters():
            if not weight.any():
                torch.nn.init.normal_(weight, std=0.05)
        return network.eval()

    return woken
