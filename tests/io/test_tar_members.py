"""The members of a tar, as Python's own tarfile has them."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis.strategies import binary, dictionaries, from_regex, integers

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


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@given(letters=integers(90, 300))
def test_names_over_100_letters_are_found_from_the_first_of_their_headers_on(kind: int, letters: int) -> None:
    names = ["short.png", "ö" + "x" * letters + ".png", "f/" * 60 + "y" * letters + ".xyz", "last.png"]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for i, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = i
            tar.addfile(member, io.BytesIO(b"abcd"))
    found = list(members(stream))
    assert [(member.name, read(stream, member, 9)) for member in found] == [
        (name, b"abcd"[:i]) for i, name in enumerate(names)
    ]
    assert [next(members(stream, member.header)) for member in found] == found


def test_a_name_without_bounds_is_refused() -> None:
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 2**16 + 1
    with pytest.raises(DataError, match="65537 bytes; afmid reads up to 65536"):
        list(members(io.BytesIO(long.tobuf() + b"a" * long.size + bytes(4096))))


@pytest.mark.parametrize("record", [b"1 path=a\n", b"99999 path=a\n", b"path=a\n", b"0 =", b"9 path=\xff\n"])
def test_a_damaged_record_of_a_name_ends(record: bytes) -> None:
    extended, file = tarfile.TarInfo("x"), tarfile.TarInfo("file")
    extended.type, extended.size = tarfile.XHDTYPE, len(record)
    stream = io.BytesIO(extended.tobuf() + record.ljust(512, b"\0") + file.tobuf() + END)
    assert len(list(members(stream))) == 1


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
