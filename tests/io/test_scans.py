import io
import os
import pickle
import sys
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from afmid.errors import DataError
from afmid.io import read_scan, write_scan
from afmid.scan import Scan

STACK = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
SCAN = Scan(STACK, np.arange(4.0), np.arange(3.0), np.array([0.1, 0.0]))


class Stream:
    def __init__(self, content=b""):
        self.buffer = io.BytesIO(content)


def test_a_scan_goes_through_stdout_and_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Stream())
    write_scan(SCAN, "-")
    monkeypatch.setattr(sys, "stdin", Stream(sys.stdout.buffer.getvalue()))
    assert_array_equal(read_scan("-").df, STACK)


def test_a_scan_comes_through_a_named_pipe(tmp_path):
    write_scan(SCAN, tmp_path / "scan.npz")
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "scan.npz").read_bytes()))
    thread.start()
    assert_array_equal(read_scan(tmp_path / "pipe").df, STACK)
    thread.join()


def test_bare_arrays_are_read_from_npy_and_from_an_npz_of_one(tmp_path):
    np.save(tmp_path / "stack.npy", STACK)
    np.savez(tmp_path / "stack.npz", images=STACK)
    for name in ("stack.npy", "stack.npz"):
        assert_array_equal(read_scan(tmp_path / name, pixel=0.1, step=0.1).df, STACK)
        with pytest.raises(DataError, match=f"{name}: .*--pixel and --step"):
            read_scan(tmp_path / name)


def test_the_content_counts_and_not_the_name(tmp_path):
    write_scan(SCAN, tmp_path / "scan.jpg")
    assert_array_equal(read_scan(tmp_path / "scan.jpg").df, STACK)


def test_the_same_scan_gives_the_same_bytes(tmp_path):
    write_scan(SCAN, tmp_path / "a.npz")
    write_scan(SCAN, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (pickle.dumps([1, 2]), "pickle, which afmid never loads"),
        (b"hello, this is text", "no scan that afmid can read"),
        (b"PK\x03\x04 and then nothing", "damaged or cut short"),
    ],
)
def test_what_is_no_scan_is_said_with_the_files_name(content, says, tmp_path):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.npz: .*{says}"):
        read_scan(tmp_path / "bad.npz")


def test_arrays_that_afmid_does_not_know_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", up=STACK, down=STACK)
    with pytest.raises(DataError, match="its arrays are: 'down', 'up'"):
        read_scan(tmp_path / "a.npz")


def test_a_scan_with_axes_takes_no_pixel(tmp_path):
    write_scan(SCAN, tmp_path / "scan.npz")
    with pytest.raises(DataError, match="brings its own axes and tip; give no pixel for it"):
        read_scan(tmp_path / "scan.npz", pixel=0.1)


def test_a_file_that_is_not_there_or_is_a_folder_is_said(tmp_path):
    with pytest.raises(DataError, match=r"no\.npz: no such file"):
        read_scan(tmp_path / "no.npz")
    with pytest.raises(DataError, match="is a folder"):
        read_scan(tmp_path)
