"""Work on a real Dask cluster of two processes: the same as here, whatever becomes of a worker."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from afmid.data.cluster import AHEAD
from afmid.data.workers import LostError, in_order
from afmid.errors import AfmidError, DataError, UsageError


def square(number: int) -> int:
    if number == 3:
        raise DataError("three is refused")
    logging.getLogger("afmid.test").warning("squared %d", number)
    return number * number


def fail(number: int) -> int:
    raise TimeoutError("a bug")


def die(number: int) -> int:
    return os._exit(9) if number == 1 else number


def slow(number: int) -> int:
    time.sleep(0.05)
    return number


def told(function, cluster, jobs: int = 1) -> list[tuple[int, str]]:
    return [(task, str(value)) for task, value in in_order(function, range(5), jobs, scheduler=cluster)]


def test_results_and_warnings_come_in_the_order_of_the_tasks_as_from_local_processes(cluster, caplog) -> None:
    assert told(square, cluster.scheduler_address) == told(square, "")
    messages = [record.getMessage() for record in caplog.records if record.name == "afmid.test"]
    assert messages == ["squared 0", "squared 1", "squared 2", "squared 4"] * 2


def test_a_bug_is_raised_as_it_is(cluster) -> None:
    with pytest.raises(TimeoutError, match="a bug"):
        told(fail, cluster.scheduler_address)


def test_a_killed_worker_costs_its_tasks_another_try_and_nothing_else(mortal_cluster) -> None:
    results = in_order(slow, range(100), 1, scheduler=mortal_cluster.scheduler_address)
    values = [next(results)[1] for _ in range(10)]
    victim = next(iter(mortal_cluster.workers.values())).pid
    os.kill(victim, signal.SIGKILL)
    assert values + [value for _, value in results] == list(range(100))


def test_a_task_that_kills_every_worker_fails_alone(mortal_cluster) -> None:
    zero, one, *others = (value for _, value in in_order(die, range(5), 1, scheduler=mortal_cluster.scheduler_address))
    assert [zero, *others] == [0, 2, 3, 4]
    assert isinstance(one, LostError)
    assert (one.kind, str(one)) == ("crash", "the workers that took it died")


def test_a_scheduler_that_is_not_there_or_dies_is_said_in_words(cluster, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("afmid.data.cluster.CONNECT_S", 1)
    with pytest.raises(AfmidError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9; start one with"):
        list(in_order(abs, [1], 1, scheduler="tcp://127.0.0.1:9"))
    for text in ("nonsense", "tcp://127.0.0.1:nine"):
        with pytest.raises(UsageError, match=rf"--scheduler is '{text}'; write an address such as"):
            list(in_order(abs, [1], 1, scheduler=text))
    file = tmp_path / "scheduler"
    code = f"""
import distributed, time
if __name__ == "__main__":
    cluster = distributed.LocalCluster(n_workers=1, processes=False, protocol="tcp://", dashboard_address=None)
    open({str(file)!r} + ".new", "w").write(cluster.scheduler_address)
    import os; os.rename({str(file)!r} + ".new", {str(file)!r})
    time.sleep(600)
"""
    running = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        while not file.exists():
            time.sleep(0.05)
        results = in_order(time.sleep, [0.01] * 3 + [60] * 3, 1, scheduler=file.read_text())
        next(results)
        running.kill()
        with pytest.raises(AfmidError, match="is gone; start it, and give the same command again"):
            list(results)
    finally:
        running.kill()
        running.wait()


def test_a_cluster_without_workers_is_waited_for_and_said_once(caplog, monkeypatch) -> None:
    monkeypatch.setattr("afmid.data.cluster.ASK_S", 0.3)
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=None, silence_logs=50) as empty:
        threading.Timer(1.0, empty.scale, [1]).start()
        answers = [value for _, value in in_order(abs, range(20), 1, scheduler=empty.scheduler_address)]
        assert answers == list(range(20))
        address = empty.scheduler_address
    says = f"{address} has no workers; start some with: dask worker {address}"
    assert [record.getMessage() for record in caplog.records if record.name == "afmid.data.cluster"] == [says]


def test_few_results_wait_in_the_memory_of_a_cluster(cluster) -> None:
    drawn: list[int] = []
    results = in_order(abs, (drawn.append(i) or i for i in range(100)), 1, scheduler=cluster.scheduler_address)
    next(results)
    assert len(drawn) <= AHEAD * sum(worker.nthreads for worker in cluster.workers.values())
    results.close()


def test_without_distributed_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(AfmidError, match=r"pip install 'afmid\[dask\]'"):
        list(in_order(abs, [1], 1, scheduler="tcp://127.0.0.1:9"))
