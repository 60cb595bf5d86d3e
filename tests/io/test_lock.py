import subprocess
import sys

import pytest

from afmid.errors import DataError
from afmid.io.lock import locked

HOLD = """
import sys
from afmid.io.lock import locked
file = locked(open(sys.argv[1], "ab"), "x")
print(1, flush=True)
input()
"""


def test_a_file_is_locked_until_the_process_that_holds_it_is_killed(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"1\n"
        file = path.open("ab")
        with pytest.raises(DataError, match=r"^pack\.npz: another process is writing it; wait for that, or end it$"):
            locked(file, "pack.npz")
        assert file.closed
        other.kill()
        other.wait()
    with path.open("ab") as file:
        assert locked(file, "pack.npz") is file


def test_a_closed_file_is_free_again(tmp_path):
    path = tmp_path / "lock"
    locked(path.open("ab"), path).close()
    with path.open("ab") as again:
        assert locked(again, path) is again
