"""Archives whose headers promise what is not there are one line, in little memory and time."""

import gzip
import io
import pickle
import tarfile

import pytest

from lightalign.featcache.errors import DatasetFormatError
from lightalign.featcache.sources.readers.plain_pickle import read_plain_pickle
from lightalign.featcache.sources.readers.tar_files import read_tar_files

LIMIT = 2**20


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 512)


GOOD = header("folder/file", 3) + padded(b"abc")
END = b"\0" * 1024


def read(tmp_path, content: bytes) -> dict[str, bytes]:
    (tmp_path / "archive.tar.gz").write_bytes(content)
    return read_tar_files(tmp_path / "archive.tar.gz", ["folder/file"], limit=LIMIT)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_is_found_behind_others(tmp_path, pack) -> None:
    others = header("folder/", 0, tarfile.DIRTYPE) + header("other", 5) + padded(b"12345")
    assert read(tmp_path, pack(others + GOOD + END)) == {"folder/file": b"abc"}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_extended_header_of_9_gigabytes_is_one_line(tmp_path, kind, pack) -> None:
    with pytest.raises(DatasetFormatError, match=r"it is cut off|larger than any published"):
        read(tmp_path, pack(header("x", 9 * 2**30, kind) + END))


def test_a_member_of_9_gigabytes_is_one_line(tmp_path) -> None:
    with pytest.raises(DatasetFormatError, match="larger than any published file"):
        read(tmp_path, header("folder/file", 9 * 2**30) + END)


def test_a_bomb_of_zeros_is_left_at_its_limit(tmp_path) -> None:
    content = header("other", 2**26) + b"\0" * 2**26 + GOOD + END
    with pytest.raises(DatasetFormatError, match="larger than any published file"):
        read(tmp_path, gzip.compress(content))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_member_that_is_no_file_is_passed_over(tmp_path, kind) -> None:
    assert read(tmp_path, header("folder/file", 0, kind) + END) == {}


def test_a_sparse_file_whose_map_has_no_end_is_one_line(tmp_path) -> None:
    """The standard library waits for ever for the lines of such a map."""
    records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    content = header("x", len(records), tarfile.XHDTYPE) + padded(records)
    content += header("folder/file", 512) + padded(b"99999\n")
    assert list(read(tmp_path, content + END)) == ["folder/file"]


@pytest.mark.parametrize("cut", [1, 100, 511, 513, 600])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_archive_that_is_cut_off_is_one_line(tmp_path, pack, cut) -> None:
    with pytest.raises(DatasetFormatError, match="it is cut off"):
        read(tmp_path, pack(GOOD[:cut]))


def test_compressed_bytes_that_are_cut_off_are_one_line(tmp_path) -> None:
    with pytest.raises(DatasetFormatError, match="cannot be read"):
        read(tmp_path, gzip.compress(GOOD + END)[:30])


def test_a_damaged_header_is_one_line(tmp_path) -> None:
    with pytest.raises(DatasetFormatError, match="get it again"):
        read(tmp_path, b"x" * 2048)


def test_a_pickle_that_encodes_one_text_again_and_again_is_refused(tmp_path) -> None:
    """A text of a megabyte, named a thousand times, would be a gigabyte of bytes."""
    text = "x" * 10**6
    pushed = (
        b"(X"
        + len(text).to_bytes(4, "little")
        + text.encode()
        + b"q\x00X\x06\x00\x00\x00latin1q\x01"
    )
    again = b"c_codecs\nencode\nh\x00h\x01\x86R" * 1000
    with pytest.raises(DatasetFormatError, match="more bytes in its arrays than in all of it"):
        read_plain_pickle(b"\x80\x02" + pushed + again + b"l.", file=tmp_path)


def test_a_pickle_whose_key_is_a_huge_number_is_one_line(tmp_path) -> None:
    buffer = io.BytesIO()
    pickle.dump({10**5000: 1}, buffer, protocol=2)
    with pytest.raises(DatasetFormatError, match="is no whole pickle"):
        read_plain_pickle(buffer.getvalue(), file=tmp_path)
