"""Where results may go is found out before the work, and how far that is may be seen."""

import logging
import os
import pty
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmid.cli.main import _log_to_stderr
from afmid.cli.output import (
    MOST_WARNINGS,
    check_file,
    few_warnings,
    is_folder,
    one_line,
    scan_bar,
    with_folder,
)
from afmid.errors import DataError


@given(st.text())
def test_a_note_is_one_line_that_cannot_steer_the_terminal(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1


@given(st.text(st.characters(categories=["L", "N", "P"], codec="utf-8")))
def test_plain_words_stay_as_they_are(text: str) -> None:
    assert one_line(text) == text


def test_a_new_file_may_be_written_and_leaves_no_trace_before_it_is(tmp_path: Path) -> None:
    check_file(tmp_path / "new" / "folder" / "scan.npz", force=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_written_over_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "scan.npz").touch()
    with pytest.raises(DataError, match=r"scan\.npz: exists; give --force"):
        check_file(tmp_path / "scan.npz", force=False)
    check_file(tmp_path / "scan.npz", force=True)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".", "is a folder"),
        ("file/scan.npz", "cannot be written"),
        (os.devnull, "not a regular file"),
        ("/proc/scan.npz", "cannot be written"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_refused(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").touch()
    if not (tmp_path / place).parent.exists():
        pytest.skip(f"this system has no {place}")
    with pytest.raises(DataError, match=message):
        check_file(tmp_path / place, force=True)


def test_a_folder_is_what_is_one_or_ends_in_a_slash_or_is_new_without_a_suffix(tmp_path: Path) -> None:
    (tmp_path / "run.1").mkdir()
    assert is_folder("out/")
    assert is_folder("out")
    assert is_folder("out.npz/")
    assert is_folder(str(tmp_path / "run.1"))
    assert not is_folder("out.npz")
    assert not is_folder(os.devnull)


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    assert with_folder(tmp_path / "a" / "b.npz").parent.is_dir()


@pytest.fixture
def handlers():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before, level


@pytest.mark.parametrize(("verbose", "shown"), [(False, MOST_WARNINGS), (True, MOST_WARNINGS + 5)])
def test_the_same_warning_is_shown_a_few_times_and_then_counted(handlers, capsys, verbose: bool, shown: int) -> None:
    _log_to_stderr(verbose)
    with few_warnings():
        for i in range(MOST_WARNINGS + 5):
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
    seen = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):  # which is how Linux says that all is read
        while chunk := terminal.read(65536):
            seen += chunk
    assert b"2 of 4 scans" in seen
    assert b" 62%" in seen


def test_a_pipe_is_shown_nothing(capsys) -> None:
    with scan_bar(4, 400) as progress:
        progress(100)
    assert capsys.readouterr().err == ""
