"""Work spread over processes that may crash or stick, its results in the order of the tasks."""

import logging
import multiprocessing
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from logging.handlers import BufferingHandler
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Generic, Literal, TypeVar

from afmid.errors import AfmidError, DataError

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 32  # tasks per process that are begun before their results are asked for
PATIENCE_S = 300.0  # for one task: far beyond what one takes, so that it ends a process that hangs and no other
_CONTEXT = multiprocessing.get_context("spawn")
_LOCK = threading.Lock()
_keeping: Counter[logging.Logger] = Counter()  # how many threads keep what is logged there


class LostError(DataError):
    """A task that took too long, or its process with it."""

    def __init__(self, message: str, kind: Literal["timeout", "crash"]) -> None:
        super().__init__(message)
        self.kind = kind


def in_order(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    jobs: int,
    patience_s: float = PATIENCE_S,
    scheduler: str = "",
) -> Generator[tuple[Task, Result | AfmidError], None, None]:
    """Yield each task with what `function` makes of it, or with the AfmidError that it raises.

    The tasks are drawn as they are needed, few ahead. Close the iterator to end the processes at once.

    Args:
        function: a pure function that can be pickled; what it logs at WARNING or above, this process logs. `patience_s`
            does not count the time that its module takes to import.
        tasks: what can be pickled.
        jobs: processes; with 0 all runs in this one. Their number does not change the results, but in a process a task
            that crashes, or takes longer than `patience_s`, fails alone: it comes with `LostError`.
        scheduler: address of a Dask cluster, such as "tcp://node7:8786", whose workers take the place of `jobs`
            processes. A task whose worker dies is tried again on others; it comes with `LostError` when several died
            of it. A task that takes long is waited for.

    Raises:
        AfmidError: the processes do not start, or the cluster does not answer (any more).
    """
    if scheduler:
        from afmid.data.cluster import in_order_on

        yield from in_order_on(scheduler, function, tasks)
        return
    if jobs < 1:
        for task in tasks:
            yield task, _attempt(function, task)
        return
    pool = _Pool(function, jobs, patience_s)
    try:
        remaining = iter(tasks)
        begun = deque((task, pool.begin(task)) for task in islice(remaining, AHEAD * jobs))
        while begun:
            task, future = begun.popleft()
            yield task, received(future.result())
            begun.extend((task, pool.begin(task)) for task in islice(remaining, 1))
    finally:
        pool.end()


def _attempt(function: Callable[[Task], Result], task: Task) -> Result | AfmidError:
    try:
        return function(task)
    except AfmidError as error:
        return error


Answer = tuple[Any, list[logging.LogRecord]]


def answered(function: Callable[[Task], Any], task: Task) -> Answer:
    """Return what `function` makes of a task or raises, and what it logs; a bug of ours keeps its traceback as text."""
    with kept_warnings() as records:
        try:
            answer = _attempt(function, task)
        except Exception as error:
            error.add_note("".join(traceback.format_exception(error)))
            answer = error
    return answer, records


def received(answer: Answer) -> Any:
    """Return the result in an answer from another process as if it had been made in this one: log, raise a bug."""
    result, records = answer
    for record in records:
        logging.getLogger(record.name).handle(record)
    if isinstance(result, Exception) and not isinstance(result, AfmidError):
        raise result
    return result


class _Pool(Generic[Task]):
    """Processes, each with a thread of this process that waits for it."""

    def __init__(self, function: Callable[[Task], Any], jobs: int, patience_s: float) -> None:
        self._workers = [_Worker(function, patience_s) for _ in range(jobs)]
        self._idle: SimpleQueue[_Worker[Task]] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(jobs)

    def begin(self, task: Task) -> "Future[Answer]":
        return self._threads.submit(self._run, task)

    def _run(self, task: Task) -> Answer:
        worker = self._idle.get()
        try:
            return worker.answer(task)
        finally:
            self._idle.put(worker)

    def end(self) -> None:
        for worker in self._workers:
            worker.end()  # which wakes the thread that waits for it
        self._threads.shutdown(cancel_futures=True)


class _Worker(Generic[Task]):
    """A process that answers one task after the other; started when first needed, and anew where it fails."""

    def __init__(self, function: Callable[[Task], Any], patience_s: float) -> None:
        self._function, self._patience_s = function, patience_s
        self._process: multiprocessing.process.BaseProcess | None = None
        self._ended = False

    def answer(self, task: Task) -> Answer:
        """Return what the process says; raise AfmidError where it cannot even start."""
        if self._process is None:
            self._start()
        try:
            self._pipe.send(task)
            if self._pipe.poll(self._patience_s):
                answer: Answer = self._pipe.recv()
                return answer
            failure = LostError(f"took longer than {self._patience_s:g} s", "timeout")
        except (EOFError, OSError):
            failure = LostError("its process died", "crash")
        self._kill()
        return failure, []

    def end(self) -> None:
        self._ended = True
        self._kill()

    def _start(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(theirs, self._function), daemon=True)
        with _undisturbed():
            process.start()
        self._process = process
        theirs.close()
        try:
            if self._ended or not self._pipe.poll(PATIENCE_S):
                raise EOFError
            self._pipe.recv()
        except (EOFError, OSError) as error:
            self._kill()
            raise AfmidError(
                "a process for the molecules could not start; see what it says above, or give fewer with --jobs"
            ) from error

    def _kill(self) -> None:
        if (process := self._process) is not None:
            process.kill()
            process.join()
            self._process = None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a process that is started in this block never hear of Ctrl-C; the parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # which would let the signal through again, were it started with the process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def kept_warnings(name: str | None = None) -> Iterator[list[logging.LogRecord]]:
    """Keep what the logger `name`, or any, is warned of by this thread in this block, instead of showing it."""
    logger, kept, thread = logging.getLogger(name), BufferingHandler(sys.maxsize), threading.get_ident()
    kept.setLevel(logging.WARNING)
    kept.addFilter(lambda record: record.thread == thread)
    with _LOCK:
        _keeping[logger] += 1
        logger.addHandler(kept)
        logger.propagate = False
    try:
        yield kept.buffer
    finally:
        with _LOCK:
            _keeping[logger] -= 1
            logger.removeHandler(kept)
            logger.propagate = not _keeping[logger]


def _serve(pipe: "Connection[Any, Any]", function: Callable[[Any], Any]) -> None:
    try:
        pipe.send(None)  # ready
        while True:
            pipe.send(answered(function, pipe.recv()))
    except (EOFError, OSError):  # the parent is gone
        return
