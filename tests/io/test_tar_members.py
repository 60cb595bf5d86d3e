"""The members of a tar, as Python's own tarfile has them."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis.strategies import binary, dictionaries, from_regex

from afmid.errors import DataError
from afmid.io.tar_members import END, key, members, packed, read

NAMES = from_regex(r"[a-z]{1,20}(/[a-z]{1,9})?\.[a-z]{1,5}", fullmatch=True)


@given(files=dictionaries(NAMES, binary(max_size=1500), max_size=6))
def test_what_is_packed_is_found_here_and_by_tarfile(files: dict[str, bytes]) -> None:
    stream = io.BytesIO(b"".join(piece for file in files.items() for piece in packed(*file)) + END)
    assert {member.name: read(stream, member, 1500) for member in members(stream)} == files
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == files  # type: ignore[union-attr]


@given(files=dictionaries(NAMES, binary(max_size=1500), min_size=1, max_size=6))
def test_what_tarfile_packs_is_found(files: dict[str, bytes]) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1.5  # which takes a header of its own
            tar.addfile(member, io.BytesIO(content))
    assert {member.name: read(stream, member, 1500) for member in members(stream)} == files


@given(content=binary(max_size=3000))
def test_anything_at_all_is_members_or_an_error_in_words(content: bytes) -> None:
    stream = io.BytesIO(content)
    try:
        assert all(member.start + member.size <= len(content) for member in members(stream))
    except DataError as error:
        assert "copy" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.npy", "a"),
        ("a.00.1.png", "a"),
        ("x.y/a.b.npy", "x.y/a"),
        ("__job__", ""),
        ("__a__.json", ""),
        ("readme", ""),
    ],
)
def test_a_key_ends_at_the_first_dot_of_the_file(name: str, expected: str) -> None:
    assert key(name) == expected
