"""Weights files as a method loads them."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import nn

from afmid.errors import WeightsError
from afmid.weights import read_safetensors

Network = TypeVar("Network", bound=nn.Module)


class Origin(NamedTuple):
    """Where a network's weights come from: the file, its SHA-256, and what it says of itself."""

    path: Path
    sha256: str
    metadata: Mapping[str, str]


def read_network(path: Path | None, method: str, build: Callable[[str, str], Network]) -> tuple[Network, Origin]:
    """Return the network of a weights file, on the CPU.

    Args:
        path: a safetensors file.
        method: whose it is.
        build: makes the network of an architecture and its sizes, JSON; raises ValueError or TypeError where it cannot.

    Raises:
        WeightsError: no file, one made for something else, or tensors that do not fit the network.
    """
    if path is None:
        raise WeightsError(f"{method} needs weights and none came with it; train some: afmid train {method}")
    tensors, metadata = read_safetensors(path, method)
    with fitting(path, method):
        network = build(metadata["architecture"], metadata.get("config", "{}"))
        network.load_state_dict(tensors)
    return network, Origin(path, hashlib.sha256(path.read_bytes()).hexdigest(), metadata)


@contextmanager
def fitting(path: Path, method: str) -> Iterator[None]:
    """Turn what goes wrong while a file's content is made sense of into a WeightsError."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: does not fit the {method} network: {reason}") from error
