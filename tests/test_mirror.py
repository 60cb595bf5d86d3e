import hashlib
import io
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afmid.errors import WeightsError
from afmid.mirror import MirrorError, download, without_password

CONTENT = bytes(range(256)) * 300
LIMIT = 2**20


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=5000))
def test_a_download_is_the_file_with_its_hash_and_size(content, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "a").write_bytes(content)
    target = io.BytesIO()
    got = download(str(folder), "a", target, limit=len(content))
    assert target.getvalue() == content
    assert (got.origin, got.sha256, got.size) == (str(folder / "a"), hashlib.sha256(content).hexdigest(), len(content))


def test_a_download_stops_at_its_limit(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="larger than 1000 bytes"):
        download(str(tmp_path), "a", io.BytesIO(), limit=1000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_not_blamed_on_the_mirror(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        download(str(tmp_path), "a", full, limit=LIMIT)


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=10)


@settings(deadline=None, max_examples=50)
@given(user=words, password=words)
def test_an_address_is_shown_without_its_password(user, password):
    login = f"{quote(user, safe='')}:{quote(password, safe='@')}"
    assert without_password(f"sftp://{login}@server/afmid") == "sftp://server/afmid"
    assert without_password("https://server/user@home/afmid") == "https://server/user@home/afmid"


def test_no_message_tells_the_password():
    with pytest.raises(MirrorError) as raised:
        download("http://me:secret@127.0.0.1:1/afmid", "a", io.BytesIO(), limit=LIMIT)
    assert "http://127.0.0.1:1/afmid/a" in str(raised.value)
    assert "secret" not in str(raised.value)
    with pytest.raises(WeightsError) as raised:
        download("ftp://me:secret@server/afmid", "a", io.BytesIO(), limit=LIMIT)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("mirror", ["doi:10.5281/zenodo.1", "10.5281/zenodo.1", "https://doi.org/10.5281/zenodo.1/"])
def test_a_doi_is_known_in_all_its_forms(mirror, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # cuts the network off
    with pytest.raises(MirrorError, match=r"^doi:10\.5281/zenodo\.1/a: the proxy cannot be reached$"):
        download(mirror, "a", io.BytesIO(), limit=LIMIT)


NO_ADDRESSES = ["http://[", "http://", "http://a b", "sftp://[", "sftp://server:port/x", "file://["]


@pytest.mark.parametrize("mirror", NO_ADDRESSES)
def test_an_address_that_is_none_is_an_error_in_words(mirror):
    with pytest.raises(MirrorError, match=r"^\S+.*: \w+"):
        download(mirror, "a", io.BytesIO(), limit=LIMIT)


# --- sftp, against a real server on this machine ------------------------------------------------------------------


@pytest.fixture
def sftp(tmp_path, monkeypatch) -> Iterator[str]:
    """An sftp server for user "me" with password "p@ss" that serves tmp_path/served, and whose host key is known."""
    paramiko = pytest.importorskip("paramiko", reason="sftp mirrors need paramiko, which is optional")
    (tmp_path / "served").mkdir()

    class Login(paramiko.ServerInterface):
        def check_auth_password(self, username: str, password: str) -> int:
            good = (username, password) == ("me", "p@ss")
            return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED

        def check_channel_request(self, kind: str, chanid: int) -> int:
            return paramiko.OPEN_SUCCEEDED

    class File(paramiko.SFTPHandle):
        def stat(self) -> object:
            return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))

    class Files(paramiko.SFTPServerInterface):
        def open(self, path: str, flags: int, attr: object) -> object:
            try:
                handle = File(flags)
                handle.readfile = (tmp_path / "served" / path.lstrip("/")).open("rb")
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno)
            return handle

    key = paramiko.ECDSAKey.generate()
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    known = f"[127.0.0.1]:{listener.getsockname()[1]} {key.get_name()} {key.get_base64()}\n"
    (tmp_path / ".ssh" / "known_hosts").write_text(known)
    transports = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files)
            transport.start_server(server=Login())
            transports.append(transport)

    threading.Thread(target=serve, daemon=True).start()
    yield address
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for transport in transports:
        transport.close()


def test_a_file_comes_over_sftp(sftp, tmp_path):
    (tmp_path / "served" / "a").write_bytes(CONTENT)
    target = io.BytesIO()
    got = download(f"sftp://me:p%40ss@{sftp}/", "a", target, limit=LIMIT)
    assert target.getvalue() == CONTENT
    assert got.origin == f"sftp://{sftp}/a"


def test_an_sftp_server_whose_key_is_not_known_gets_no_password(sftp, tmp_path):
    (tmp_path / ".ssh" / "known_hosts").write_text("")
    with pytest.raises(MirrorError, match="not found in known_hosts"):
        download(f"sftp://me:p%40ss@{sftp}/", "a", io.BytesIO(), limit=LIMIT)


def test_a_file_that_an_sftp_server_lacks_or_a_wrong_password_is_named(sftp):
    with pytest.raises(MirrorError, match=f"^sftp://{sftp}/a: .*no such file"):
        download(f"sftp://me:p%40ss@{sftp}/", "a", io.BytesIO(), limit=LIMIT)
    with pytest.raises(MirrorError, match=f"^sftp://{sftp}/a: .*uthentication failed"):
        download(f"sftp://me:wrong@{sftp}/", "a", io.BytesIO(), limit=LIMIT)


def test_sftp_without_paramiko_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "paramiko.py").write_text("raise ModuleNotFoundError(name='paramiko')")  # hides an installed one
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "paramiko", raising=False)
    with pytest.raises(MirrorError, match="needs the package paramiko: pip install 'afmid\\[sftp\\]'"):
        download("sftp://server/afmid", "a", io.BytesIO(), limit=LIMIT)
