"""Where results may go is found out before the work."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afmid.cli.output import check_file, is_folder, one_line, with_folder
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
