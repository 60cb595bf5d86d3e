import io
import sys

import pytest

from afmid.errors import DataError
from afmid.io.stream import opened, source_of, write_bytes


def test_a_pipe_that_brings_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"12345")))
    with pytest.raises(DataError, match="brings more than"), opened("-", max_bytes=4):
        pytest.fail("the block must not run")


def test_bytes_come_back_from_the_file_they_went_to(tmp_path):
    write_bytes(b"content", tmp_path / "a")
    with opened(tmp_path / "a") as stream:
        assert stream.read() == b"content"


def test_the_source_is_what_a_reader_would_call_it():
    assert (source_of("-"), source_of("a/b.npz")) == ("stdin", "a/b.npz")
