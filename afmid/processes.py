"""Several processes that train one network together, each on its share of every batch, as torchrun starts them.

Gradients are averaged by one call over all of them laid end to end, in place of DistributedDataParallel: our networks
are small, so that there is nothing to gain from sending some gradients while others are being computed.

Where there is one process the functions answer for it, and change nothing.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from afmid.errors import AfmidError, UsageError

Answer = TypeVar("Answer")
PATIENCE = timedelta(days=1)  # with the first process, which prepares molecules and validates while the others wait
GRACE_S = 60.0  # for a process that is to stop because another failed


def rank() -> int:
    """Return which of the processes this is, from 0."""
    return distributed.get_rank() if _several() else 0


def world() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if _several() else 1


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def started() -> bool:
    """Return whether torchrun or `launch` started this process as one of those that train together."""
    return "WORLD_SIZE" in os.environ


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Train together with the other processes that were started with this one, where there are any.

    Raises:
        UsageError: processes on this device cannot train together, or there are fewer GPUs than processes.
    """
    if not started():
        yield
        return
    if device == "cuda":
        number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if number >= there:
            raise UsageError(f"this machine has {there} GPUs; start as many processes, or give --device cpu")
        torch.cuda.set_device(number)
    elif device != "cpu":
        raise UsageError(f"several processes can train together on cpu or cuda, not on {device}")
    distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def leave(code: int) -> None:
    """End this process with an exit code, at once, where it is one of several; else do nothing.

    Now and then a thread of torch's breaks a process that ends in Python's own way, after all is done.
    """
    if started():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def first(function: Callable[[], Answer]) -> Answer:
    """Call `function` in the first process alone, and return its answer in all.

    Raises:
        AfmidError: what it raises, in the first process; the others exit with its code, as one message is enough.
    """
    answer = together(lambda: function() if rank() == 0 else None)
    if not _several():
        return answer  # type: ignore[return-value]
    shared: list[Any] = [answer]
    with _heard():
        distributed.broadcast_object_list(shared, 0)
    return shared[0]  # type: ignore[no-any-return]


def together(function: Callable[[], Answer]) -> Answer:
    """Call `function` in each process, and return its answer where it succeeds in all.

    Raises:
        AfmidError: the first that it raises in any, in the first process; the others exit with its code.
    """
    if not _several():
        return function()
    errors: list[AfmidError | None] = [None] * world()
    answer, own = None, None
    try:
        answer = function()
    except AfmidError as error:
        own = error
    with _heard():
        distributed.all_gather_object(errors, own)
    if found := next((error for error in errors if error), None):
        raise found if rank() == 0 else SystemExit(found.exit_code)
    return answer  # type: ignore[return-value]


def any_of(*flags: bool) -> list[bool]:
    """Return which of the flags are set in any process."""
    if not _several():
        return list(flags)
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(flags, dtype=torch.int32, device=device)
    with _heard():
        distributed.all_reduce(shared, distributed.ReduceOp.MAX)
    return [bool(flag) for flag in shared.tolist()]


@contextmanager
def _heard() -> Iterator[None]:
    """Say in words that another process is gone; it tells why itself.

    Raises:
        AfmidError: it is.
    """
    try:
        yield
    except RuntimeError as error:
        raise AfmidError("a process of this run is gone, so this one ends, too") from error


def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their mean over the processes, the same bits in each."""

    def mean(flat: Tensor) -> None:
        distributed.all_reduce(flat)
        flat /= world()

    _end_to_end(tensors, mean)


def take_first(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by those of the first process."""
    _end_to_end(tensors, lambda flat: distributed.broadcast(flat, 0))


def _end_to_end(tensors: Sequence[Tensor], exchange: Callable[[Tensor], Any]) -> None:
    """Exchange tensors by one call for each type that they have."""
    if not _several():
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor.detach() for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in alike])
        with _heard():
            exchange(flat)
        for tensor, part in zip(alike, torch.split(flat, [tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(part.view_as(tensor))


def launch(command: Sequence[str], count: int) -> int:
    """Run a command `count` times on this machine, as processes that train together, and return their exit code.

    It is what torchrun does; but an exit code comes back as it is, and what was said once is not said again. SIGINT and
    SIGTERM are passed on. Where a process fails the others are stopped, and the exit code is the first failure's.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
    copies = [
        subprocess.Popen(  # in a session of its own: Ctrl-C reaches it through us, and just once
            command, env={**os.environ, **shared, "RANK": str(i), "LOCAL_RANK": str(i)}, start_new_session=True
        )
        for i in range(count)
    ]

    def pass_on(number: int, _: Any) -> None:
        for copy in copies:
            copy.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _outcome(copies)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcome(copies: Sequence["subprocess.Popen[bytes]"]) -> int:
    """Wait for processes and return 0, or the exit code of the first that failed, after stopping the others."""
    failure, deadline = 0, float("inf")
    while (codes := [copy.poll() for copy in copies]).count(None):
        if not failure and (failure := next(filter(None, codes), 0)):
            deadline = time.monotonic() + GRACE_S
        if time.monotonic() > deadline:
            for copy in copies:
                copy.kill()
        time.sleep(0.05)
    failure = failure or next(filter(None, codes), 0)
    return failure if failure >= 0 else 128 - failure  # as a shell says that a signal ended it
