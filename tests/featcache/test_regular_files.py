"""Files of others are read within a bound, and never waited for."""

import errno
import os
import socket
from pathlib import Path

import pytest

from lightalign.featcache.regular_files import check_regular, read_regular, size_of


def _refusal(path: Path, limit: int = 100) -> OSError:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # its number is what the tests look at
        read_regular(path, limit=limit)
    return caught.value


def _num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 100])
def test_a_file_up_to_its_limit_is_read_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_regular(tmp_path / "file", limit=100) == content


def test_one_byte_more_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**40)  # a sparse file: reading it would take all of the memory
    refusal = _refusal(tmp_path / "file")
    assert refusal.errno == errno.EFBIG
    assert "1,099,511,627,776 bytes are more than the 100 allowed" in str(refusal)


def test_a_file_whose_size_is_not_told_is_read_to_its_end_or_its_limit() -> None:
    status = Path("/proc/self/status")  # a regular file of 0 bytes with some content
    assert read_regular(status, limit=10**6).startswith(b"Name:")
    assert _refusal(status, limit=10).errno == errno.EFBIG


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "is a named pipe, not a regular file" in str(_refusal(tmp_path / "pipe"))


def test_a_socket_a_device_and_a_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is at most 108 bytes long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        assert "not a regular file" in str(_refusal(tmp_path / "socket"))
    for device in ("/dev/zero", "/dev/null"):
        assert "is a device, not a regular file" in str(_refusal(Path(device)))
    assert isinstance(_refusal(tmp_path), IsADirectoryError)


def test_links_are_followed_to_a_file_and_no_further(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert read_regular(tmp_path / "link", limit=1) == b"x"
    assert _refusal(tmp_path / "loop").errno == errno.ELOOP
    assert isinstance(_refusal(tmp_path / "dangling"), FileNotFoundError)


@pytest.mark.parametrize("name", ["a\0b", "\ud83d"])
def test_a_name_that_no_file_can_have_is_an_error_of_the_system(tmp_path: Path, name: str) -> None:
    assert "no file can have this name" in str(_refusal(tmp_path / name))
    assert size_of(tmp_path / name) == -1


def test_a_name_too_long_is_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path / ("x" * 300)).errno == errno.ENAMETOOLONG
    assert size_of(tmp_path / ("x" * 300)) == -1


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    before = _num_descriptors()
    _refusal(tmp_path / "pipe")
    _refusal(tmp_path)
    check_regular(tmp_path / "file")
    assert _num_descriptors() == before


def test_what_would_have_to_be_waited_for_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of /sys that has nothing to say yet answers EAGAIN to a read without waiting."""

    def not_yet(_descriptor: int, _count: int) -> bytes:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "read", not_yet)
    assert _refusal(Path("/proc/self/status")).errno == errno.EAGAIN
