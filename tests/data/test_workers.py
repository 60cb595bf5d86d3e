"""Work in other processes: nothing of it depends on how many there are, and nothing hangs."""

import logging
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import pytest

from afmid.data.workers import AHEAD, LostError, in_order, kept_warnings
from afmid.errors import AfmidError, DataError


def square(number: int) -> int:
    if number == 3:
        raise DataError("three is refused")
    logging.getLogger("afmid.test").warning("squared %d", number)
    return number * number


def die(number: int) -> int:
    return os._exit(9) if number == 1 else number


def stick(number: int) -> int:
    return time.sleep(600) if number == 1 else number  # type: ignore[return-value,func-returns-value]


def fail(number: int) -> int:
    raise ZeroDivisionError("a bug")


def told(function, jobs: int) -> list[tuple[int, str]]:
    return [(task, str(value)) for task, value in in_order(function, range(5), jobs)]


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_results_and_warnings_come_in_the_order_of_the_tasks(jobs: int, caplog) -> None:
    results = told(square, jobs)
    assert results == [(0, "0"), (1, "1"), (2, "4"), (3, "three is refused"), (4, "16")]
    assert caplog.messages == ["squared 0", "squared 1", "squared 2", "squared 4"]


@pytest.mark.parametrize(
    ("function", "kind", "why"), [(die, "crash", "its process died"), (stick, "timeout", "took longer than 2 s")]
)
def test_a_task_that_ends_its_process_fails_alone(function, kind: str, why: str) -> None:
    zero, one, *others = (value for _, value in in_order(function, range(5), 2, patience_s=2.0))
    assert [zero, *others] == [0, 2, 3, 4]
    assert isinstance(one, LostError)
    assert (one.kind, str(one)) == (kind, why)


def keep(number: int) -> list[str]:
    with kept_warnings("afmid") as records:
        for _ in range(20):
            logging.getLogger("afmid.test").warning("from %d", number)
            time.sleep(0.001)
    return [record.getMessage() for record in records]


def test_each_thread_keeps_its_own_warnings_and_none_are_shown(caplog) -> None:
    with ThreadPoolExecutor(4) as threads:
        kept = list(threads.map(keep, range(8)))
    assert kept == [[f"from {number}"] * 20 for number in range(8)]
    assert caplog.messages == []
    logging.getLogger("afmid.test").warning("shown again")
    assert caplog.messages == ["shown again"]


def test_the_time_that_a_module_takes_to_import_is_not_the_first_tasks(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "slow_module.py").write_text("import time\ntime.sleep(1.5)\ndef double(n): return 2 * n\n")
    monkeypatch.syspath_prepend(tmp_path)
    from slow_module import double

    assert [value for _, value in in_order(double, range(3), 1, patience_s=1.0)] == [0, 2, 4]


def test_a_process_that_does_not_start_is_said_without_advice_that_was_followed(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "lost_module.py").write_text("def double(n): return 2 * n\n")
    monkeypatch.syspath_prepend(tmp_path)
    from lost_module import double

    (tmp_path / "lost_module.py").write_text("raise ImportError('no such thing')\n")
    with pytest.raises(AfmidError, match=r"could not start; see what it says above, or give fewer with --jobs$"):
        list(in_order(double, range(3), 1))


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_bug_is_raised_as_it_is(jobs: int) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        told(fail, jobs)


def test_tasks_without_end_are_drawn_a_few_ahead_and_closing_leaves_no_process() -> None:
    before = multiprocessing.active_children()
    drawn: list[int] = []
    tasks = (drawn.append(i) or i for i in count())
    results = in_order(abs, tasks, 2)
    assert [value for _, value in islice(results, 5)] == [0, 1, 2, 3, 4]
    assert len(drawn) <= 5 + 2 * AHEAD
    results.close()
    assert multiprocessing.active_children() == before
