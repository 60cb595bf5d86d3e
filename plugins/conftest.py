import pytest
import torch


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
