"""Work on a Dask cluster, its results in the order of the tasks."""

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from afmid.data.workers import Answer, LostError, Result, Task, answered, received
from afmid.errors import AfmidError, UsageError

log = logging.getLogger(__name__)

AHEAD = 4  # tasks per thread of the cluster that are begun before their results are asked for, which take its memory
CONNECT_S = 10
ASK_S = 3  # how often to find out whether the scheduler is still there


def in_order_on(
    scheduler: str, function: Callable[[Task], Result], tasks: Iterable[Task]
) -> Generator[tuple[Task, Result | AfmidError], None, None]:
    """Do what afmid.data.workers.in_order does on the workers of a Dask cluster.

    Raises:
        AfmidError: `distributed` is not installed, or the scheduler does not answer (any more).
        UsageError: no address.
    """
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError as error:
        raise AfmidError("--scheduler needs the package distributed; install it: pip install 'afmid[dask]'") from error
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would log is raised here
    try:
        get_address_host_port(scheduler)
    except ValueError as error:
        raise UsageError(f"--scheduler is {scheduler!r}; write an address such as tcp://HOST:8786") from error
    try:
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise AfmidError(f"no Dask scheduler answers at {scheduler}; start one with: dask scheduler") from error
    with client:
        remaining = iter(tasks)
        begun: deque[tuple[Task, Any]] = deque()
        while True:
            with _understood(scheduler):
                threads = sum(client.nthreads().values())  # which may grow
            for task in islice(remaining, max(AHEAD * max(threads, 1) - len(begun), 0)):
                begun.append((task, client.submit(answered, function, task, pure=False)))
            if not begun:
                return
            task, future = begun.popleft()
            with _understood(scheduler):
                answer = _waited(client, future, scheduler)
            yield task, received(answer)


def _waited(client: Any, future: Any, scheduler: str) -> Answer:
    """Return what comes of a task, however long it takes. Raises OSError where the scheduler is gone."""
    from distributed import KilledWorker

    warned = False
    while True:
        try:
            answer: Answer = future.result(timeout=ASK_S)
            return answer
        except KilledWorker:
            return LostError("the workers that took it died", "crash"), []
        except TimeoutError:
            if client.status != "running":
                raise
            if not (warned or client.nthreads()):
                log.warning("%s has no workers; start some with: dask worker %s", scheduler, scheduler)
                warned = True


@contextmanager
def _understood(scheduler: str) -> Iterator[None]:
    """Say in words what goes wrong between here and the workers."""
    from distributed import CancelledError

    try:
        yield
    except (OSError, CancelledError) as error:
        message = f"the Dask scheduler at {scheduler} is gone; start it, and give the same command again"
        raise AfmidError(message) from error
    except ImportError as error:
        raise AfmidError(f"a worker at {scheduler} says {str(error)!r}; install this afmid there") from error
