"""Mirrors of weights files: http, https, sftp, a DOI, or a directory.

pooch's downloaders speak to http, https and DOIs (Zenodo, figshare, Dataverse). sftp goes through paramiko, where that
is installed, with the user's own keys and known hosts: pooch's own checks no host key and takes no port.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from afmid import __version__
from afmid.errors import WeightsError

CONNECT, WAIT = 10.0, 30.0  # s: for a connection, and between two packets
DOI = re.compile(r"(?:doi:|https?://(?:dx\.)?doi\.org/)?(10\.\d{4,}/[^\s/]+)/?", re.IGNORECASE)
_FAULTS = (OSError, ValueError, LookupError, ImportError)  # requests' errors are OSErrors; pooch raises the others


class MirrorError(WeightsError):
    """A mirror that cannot be reached, lacks the file, or broke off."""


@dataclass(frozen=True)
class Received:
    """What came from a mirror: where from (without password), SHA-256 and size (bytes)."""

    origin: str
    sha256: str
    size: int


def download(
    mirror: str, name: str, target: BinaryIO, *, limit: int, progress: Callable[[int], None] | None = None
) -> Received:
    """Copy a mirror's file `name` into `target`; `progress` is told how many bytes have come.

    Raises:
        MirrorError: the mirror cannot be reached, lacks the file, or broke off.
        WeightsError: it is no mirror, or sends more than `limit` bytes.
        OSError: `target` cannot be written.
    """
    read, where = _address(mirror, name)
    sink = _Sink(without_password(where), target, limit, progress)
    try:
        read(where, sink)
    except _FAULTS as error:
        if error is sink.fault:
            raise
        raise MirrorError(f"{sink.origin}: {_reason(error, sink.size)}") from error
    return Received(sink.origin, sink.digest.hexdigest(), sink.size)


def without_password(where: str) -> str:
    """Return an address without user name and password, fit to be shown."""
    return re.sub(r"(?<=://)[^/]*@", "", where)


class _Sink:
    """A file being written, in the shape that pooch's downloaders want: counted, hashed, and of bounded size."""

    def __init__(self, origin: str, target: BinaryIO, limit: int, progress: Callable[[int], None] | None) -> None:
        self.origin, self.target, self.limit, self.progress = origin, target, limit, progress
        self.size = 0
        self.digest = hashlib.sha256()
        self.fault: OSError | None = None

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self.limit:
            raise WeightsError(f"{self.origin}: larger than {self.limit} bytes, so not the file that is meant")
        self.digest.update(chunk)
        try:
            self.target.write(chunk)
        except OSError as error:
            self.fault = error
            raise
        if self.progress:
            self.progress(self.size)

    def flush(self) -> None:
        """Do nothing: pooch asks for it after every chunk."""


def _address(mirror: str, name: str) -> tuple[Callable[[str, _Sink], None], str]:
    """Return how and from where a mirror gives a file."""
    if doi := DOI.fullmatch(mirror):
        return _by_doi, f"doi:{doi[1]}/{name}"
    scheme, _, path = mirror.partition("://") if "://" in mirror else ("directory", "", mirror)
    match scheme.lower():
        case "http" | "https":
            return _by_http, f"{mirror.rstrip('/')}/{quote(name)}"
        case "sftp":
            return _by_sftp, f"{mirror.rstrip('/')}/{quote(name)}"
        case "file":
            return _by_copy, str(Path(url2pathname(path)) / name)
        case "directory":
            return _by_copy, str(Path(path).expanduser() / name)
    raise WeightsError(
        f"{without_password(mirror)!r} is no mirror of weights; AFMID_WEIGHTS_URL takes an http, https or sftp "
        "address, a DOI, or a directory"
    )


def _by_http(where: str, sink: _Sink) -> None:
    import pooch

    pooch.HTTPDownloader(timeout=(CONNECT, WAIT), headers=_headers())(where, sink, None)


def _by_doi(where: str, sink: _Sink) -> None:
    import pooch

    pooch.DOIDownloader(timeout=(CONNECT, WAIT), headers=_headers())(where, sink, None)


def _headers() -> dict[str, str]:
    # "identity": packed in transit by nobody, so that the length a server promises is the file's own
    return {"User-Agent": f"afmid/{__version__}", "Accept-Encoding": "identity"}


def _by_sftp(where: str, sink: _Sink) -> None:
    import paramiko

    address = urlsplit(where)
    with paramiko.SSHClient() as client:
        client.load_system_host_keys()
        try:
            client.connect(
                address.hostname or "",
                address.port or 22,
                username=unquote(address.username) if address.username else None,
                password=unquote(address.password) if address.password else None,
                timeout=CONNECT,
                banner_timeout=CONNECT,
                auth_timeout=CONNECT,
            )
            with client.open_sftp() as session:
                session.get_channel().settimeout(WAIT)
                with session.open(unquote(address.path)) as source:
                    source.prefetch(min(source.stat().st_size, sink.limit))  # asks for all pieces at once
                    _pour(source, sink)
        except (paramiko.SSHException, EOFError) as error:
            raise ConnectionError(str(error) or "the connection broke off") from error


def _by_copy(where: str, sink: _Sink) -> None:
    with Path(where).open("rb") as source:
        _pour(source, sink)


def _pour(source: BinaryIO, sink: _Sink) -> None:
    while chunk := source.read(2**15):  # the largest piece that every sftp server gives
        sink.write(chunk)


def _reason(error: Exception, size: int) -> str:
    """Say in a few words why a mirror gave nothing, or only `size` bytes."""
    kind = type(error).__name__
    response = getattr(error, "response", None)
    if isinstance(error, ImportError):
        return f"needs the package {error.name}: pip install 'afmid[sftp]'"
    if size or kind == "ChunkedEncodingError":
        return f"the download broke off after {size} bytes"
    if response is not None:
        return f"the mirror answers {response.status_code} {response.reason}"
    known = {
        "ConnectTimeout": f"no answer within {CONNECT:.0f} s",
        "ReadTimeout": f"no answer within {WAIT:.0f} s",
        "SSLError": "its certificate is not trusted",
        "ProxyError": "the proxy cannot be reached",
        "ConnectionError": "the mirror cannot be reached",
    }
    if type(error).__module__.startswith("requests") and kind in known:
        return known[kind]
    words = error.strerror.lower() if isinstance(error, OSError) and error.strerror else f"{kind}: {error}"
    return " ".join(words.split())
