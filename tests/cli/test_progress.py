"""What a long command says while it works."""

import logging
import os
import pty

import pytest

from afmid.cli.main import _log_to_stderr
from afmid.cli.progress import MOST, few_warnings, scan_bar


@pytest.fixture(autouse=True)
def handlers():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before, level


@pytest.mark.parametrize(("verbose", "shown"), [(False, MOST), (True, MOST + 5)])
def test_the_same_warning_is_shown_a_few_times_and_then_counted(capsys, verbose: bool, shown: int) -> None:
    _log_to_stderr(verbose)
    with few_warnings():
        for i in range(MOST + 5):
            logging.getLogger("afmid.test").warning("molecule %d is odd", i)
        logging.getLogger("afmid.test").warning("another")
    logging.getLogger("afmid.test").warning("molecule %d is odd", 99)
    lines = capsys.readouterr().err.splitlines()
    assert sum("is odd" in line and "more like" not in line for line in lines) == shown + 1
    assert "afmid: warning: another" in lines
    assert [line for line in lines if "more like" in line] == (
        [] if verbose else ["afmid: warning: 5 more like: molecule 0 is odd; see all with: afmid --verbose"]
    )


def test_a_terminal_is_shown_how_many_scans_are_done(monkeypatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(theirs, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        with scan_bar(4, 400) as progress:
            progress(100)
            progress(150)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert "2 of 4 scans" in seen
    assert " 62%" in seen


def test_a_pipe_is_shown_nothing(capsys) -> None:
    with scan_bar(4, 400) as progress:
        progress(100)
    assert capsys.readouterr().err == ""
