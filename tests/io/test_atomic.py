import errno
import os

import pytest

from afmid.errors import DataError
from afmid.io import atomic, atomic_path


def test_a_finished_block_puts_the_file_in_place(tmp_path):
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        assert not (tmp_path / "a.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_failed_block_leaves_what_was_there_and_nothing_beside(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def write_half():
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_place_that_cannot_be_written_to_is_said_before_the_work(tmp_path):
    missing = tmp_path / "no/a.txt"
    with pytest.raises(DataError, match=r"no/a\.txt: cannot be written: no such file"), atomic_path(missing):
        pytest.fail("the block must not run")


def test_a_folder_or_a_device_is_never_replaced(tmp_path):
    with pytest.raises(DataError, match="is a folder"), atomic_path(tmp_path):
        pytest.fail("the block must not run")
    with pytest.raises(DataError, match="not a regular file"), atomic_path(os.devnull):
        pytest.fail("the block must not run")


def test_a_full_disk_is_an_error_in_words(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: cannot be written: no space"), atomic_path(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_other_errors_of_the_system_pass_through(tmp_path):
    with pytest.raises(ConnectionRefusedError), atomic_path(tmp_path / "a.txt"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")


def test_a_link_is_followed(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with atomic_path(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_link_to_a_file_that_is_not_there_yet_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("target")
    with atomic_path(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_file_that_is_written_again_keeps_its_permissions_from_the_start(mode, tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "a.txt").chmod(mode)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert temporary.stat().st_mode & 0o077 == mode & 0o077
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode
    assert (tmp_path / "a.txt").read_text() == "new"


def test_an_interrupt_right_after_the_file_was_made_leaves_nothing(tmp_path, monkeypatch):
    create = atomic._create

    def interrupted(*paths):
        create(*paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "_create", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic.atomic_path(tmp_path / "a.txt"):
        pass
    assert list(tmp_path.iterdir()) == []
