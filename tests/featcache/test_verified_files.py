import os

import pytest

from lightalign.featcache import files
from lightalign.featcache.errors import StoreCorruptError
from lightalign.featcache.verified_files import FileChecks, promise_of

LONG_AGO = 1_000_000_000  # seconds since the epoch


@pytest.fixture
def promised(tmp_path):
    """Return a folder with one file that nobody has touched for long, and its promise."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data").write_bytes(b"12345678")
    os.utime(folder / "data", (LONG_AGO, LONG_AGO))
    return folder, {"data": promise_of(folder / "data")}


@pytest.fixture
def read(monkeypatch):
    """Return the list of the files whose bytes are compared from here on; all count as settled."""
    from lightalign.featcache import verified_files

    compared = []
    compare = verified_files._compare
    monkeypatch.setattr(verified_files, "_SETTLED", -(10**12))
    monkeypatch.setattr(
        verified_files,
        "_compare",
        lambda path, sha: (compared.append(path.name), compare(path, sha)),
    )
    return compared


def test_a_promise_is_the_size_and_the_published_checksum(promised):
    # sha256 of "12345678", as `printf 12345678 | sha256sum` prints it
    checksum = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f"
    assert promised[1]["data"] == {"bytes": 8, "sha256": checksum}


def test_bytes_in_another_order_are_refused(promised):
    folder, promises = promised
    (folder / "data").write_bytes(b"87654321")
    with pytest.raises(StoreCorruptError, match="data has other bytes"):
        FileChecks(None).require(folder, promises)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"1234567"), "has 7 bytes, not 8"),
        (lambda path: None, "No such file"),
        (lambda path: os.mkfifo(path), "named pipe"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
)
def test_what_is_no_such_file_is_refused_without_waiting(promised, make, message):
    folder, promises = promised
    (folder / "data").unlink()
    make(folder / "data")
    with pytest.raises(StoreCorruptError, match=message):
        FileChecks(None).require(folder, promises)


def test_a_large_file_is_read_once_until_it_is_touched(promised, tmp_path, read):
    folder, promises = promised
    memory = tmp_path / "memory.json"
    for _ in range(2):
        FileChecks(memory, least=0).require(folder, promises)
    assert read == ["data"]
    content = (folder / "data").read_bytes()
    (folder / "data").unlink()
    (folder / "data").write_bytes(content)  # another inode, later times
    FileChecks(memory, least=0).require(folder, promises)
    assert read == ["data"] * 2


def test_a_change_that_puts_the_time_back_is_seen(promised, tmp_path, read):
    folder, promises = promised
    memory = tmp_path / "memory.json"
    FileChecks(memory, least=0).require(folder, promises)
    with (folder / "data").open("r+b") as file:
        file.write(b"8")
    os.utime(folder / "data", (LONG_AGO, LONG_AGO))
    with pytest.raises(StoreCorruptError, match="other bytes"):
        FileChecks(memory, least=0).require(folder, promises)


def test_a_small_file_is_read_each_time_and_leaves_no_memory(promised, tmp_path, read):
    folder, promises = promised
    for _ in range(2):
        FileChecks(tmp_path / "memory.json").require(folder, promises)
    assert read == ["data"] * 2
    assert not (tmp_path / "memory.json").exists()


def test_a_file_that_was_just_written_is_not_remembered(promised, tmp_path):
    folder, promises = promised  # its inode was changed by this test
    FileChecks(tmp_path / "memory.json", least=0).require(folder, promises)
    assert not (tmp_path / "memory.json").exists()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff", b'{"version": 1, "verified": {}, "checksum": "0"}']
)
def test_a_damaged_memory_remembers_nothing(promised, tmp_path, read, content):
    folder, promises = promised
    memory = tmp_path / "memory.json"
    FileChecks(memory, least=0).require(folder, promises)
    memory.write_bytes(content)
    FileChecks(memory, least=0).require(folder, promises)
    assert read == ["data"] * 2
    assert files.read_sealed(memory)["verified"].keys() == {str(folder / "data")}


def test_a_home_that_cannot_be_written_is_read_each_time(promised, tmp_path, read):
    folder, promises = promised
    (tmp_path / "file").write_text("")
    for _ in range(2):
        FileChecks(tmp_path / "file" / "memory.json", least=0).require(folder, promises)
    assert read == ["data"] * 2


def test_what_is_gone_is_forgotten(promised, tmp_path, read):
    folder, promises = promised
    memory = tmp_path / "memory.json"
    FileChecks(memory, least=0).require(folder, promises)
    folder.rename(tmp_path / "moved")
    FileChecks(memory, least=0).require(tmp_path / "moved", promises)
    assert files.read_sealed(memory)["verified"].keys() == {str(tmp_path / "moved" / "data")}
