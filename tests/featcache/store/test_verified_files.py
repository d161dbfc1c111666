"""Files are compared with their promised checksums, large ones once until they are touched."""

import errno
import os
import shutil

import pytest

from lightalign.featcache import atomic_files
from lightalign.featcache.errors import RunInUseError, StoreCorruptError, StoreInUseError
from lightalign.featcache.store import verified_files
from lightalign.featcache.store.verified_files import Memory, promise_of, require

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
def memory(tmp_path):
    return Memory(tmp_path, "memory")


@pytest.fixture
def path(tmp_path):
    """Return the file of the memory."""
    return tmp_path / "verified" / "memory.json"


@pytest.fixture
def read(monkeypatch):
    """Return the list of the files whose bytes are compared from here on; all count as settled."""
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
        require(folder, promises)


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
        require(folder, promises)


def test_a_large_file_is_read_once_until_it_is_touched(promised, memory, read):
    folder, promises = promised
    for _ in range(2):
        require(folder, promises, memory, least=0)
    assert read == ["data"]
    content = (folder / "data").read_bytes()
    (folder / "data").unlink()
    (folder / "data").write_bytes(content)  # another inode, later times
    require(folder, promises, memory, least=0)
    assert read == ["data"] * 2


def test_a_home_that_was_moved_is_not_read_again(promised, memory, read, tmp_path):
    folder, promises = promised
    home = tmp_path / "home"
    home.mkdir()
    folder.rename(home / "folder")
    require(home / "folder", promises, Memory(home, "memory"), least=0)
    home.rename(tmp_path / "moved")
    require(tmp_path / "moved" / "folder", promises, Memory(tmp_path / "moved", "memory"), least=0)
    assert read == ["data"]


def test_a_change_that_puts_the_time_back_is_seen(promised, memory, read):
    folder, promises = promised
    require(folder, promises, memory, least=0)
    with (folder / "data").open("r+b") as file:
        file.write(b"8")
    os.utime(folder / "data", (LONG_AGO, LONG_AGO))
    with pytest.raises(StoreCorruptError, match="other bytes"):
        require(folder, promises, memory, least=0)


def test_another_promise_is_not_remembered(promised, memory, read):
    folder, promises = promised
    require(folder, promises, memory, least=0)
    with pytest.raises(StoreCorruptError, match="other bytes"):
        require(folder, {"data": {"bytes": 8, "sha256": "0" * 64}}, memory, least=0)


def test_a_small_file_is_read_each_time_and_leaves_no_memory(promised, memory, path, read):
    folder, promises = promised
    for _ in range(2):
        require(folder, promises, memory)
    assert read == ["data"] * 2
    assert not path.exists()


def test_a_file_that_was_just_written_is_not_remembered(promised, memory, path):
    folder, promises = promised  # its inode was changed by this test
    require(folder, promises, memory, least=0)
    assert not path.exists()


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


def _huge(path):
    os.truncate(path, 2**40)  # without taking the disk


def _of_another_type(path):
    atomic_files.write_sealed(path, {"version": 2, "whole": ["folder/data"]})


def _of_other_marks(path):
    atomic_files.write_sealed(
        path, {"version": 2, "whole": {"folder/data": {"mark": 1}, "\0": "x"}}
    )


def _of_an_earlier_version(path):
    atomic_files.write_sealed(path, {"version": 1, "verified": {"folder/data": {"size": 8}}})


DAMAGES = [
    _pipe,
    _huge,
    _of_another_type,
    _of_other_marks,
    _of_an_earlier_version,
    *(
        pytest.param(lambda path, content=content: path.write_bytes(content), id=name)
        for name, content in {
            "empty": b"",
            "list": b"[]",
            "not UTF-8": b"\xff",
            "unsealed": b'{"version": 2, "whole": {}, "checksum": "0"}',
            "nested": b"[" * 10**6,
            "half a surrogate": b'{"version": 2, "whole": {"\\ud800": "0"}, "checksum": "0"}',
        }.items()
    ),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_memory_remembers_nothing_and_is_written_anew(
    damage, promised, memory, path, read
):
    folder, promises = promised
    require(folder, promises, memory, least=0)
    whole = path.read_bytes()
    damage(path)
    require(folder, promises, memory, least=0)
    assert read == ["data"] * 2
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EROFS, "Read-only file system"),
        OSError(errno.ENOSPC, "No space left on device"),
        StoreInUseError("another process writes it"),
        RunInUseError("another process writes it"),
    ],
    ids=str,
)
def test_a_memory_that_cannot_be_written_is_no_error(
    error, promised, memory, path, read, monkeypatch
):
    def fail(*_args, **_named):
        raise error

    folder, promises = promised
    monkeypatch.setattr(atomic_files, "write_sealed", fail)
    for _ in range(2):
        require(folder, promises, memory, least=0)
    assert read == ["data"] * 2
    assert not path.exists()


def test_a_file_in_place_of_the_folder_of_memories_is_no_error(promised, tmp_path, memory, read):
    folder, promises = promised
    (tmp_path / "verified").write_text("")
    for _ in range(2):
        require(folder, promises, memory, least=0)
    assert read == ["data"] * 2
    memory.forget()


def test_a_memory_that_cannot_be_removed_is_no_error(memory, path):
    path.mkdir(parents=True)  # whoever may do everything cannot unlink a folder either
    memory.forget()
    assert path.is_dir()


def test_what_is_gone_is_forgotten(promised, memory, path, tmp_path, read):
    folder, promises = promised
    require(folder, promises, memory, least=0)
    shutil.move(folder, tmp_path / "moved")
    require(tmp_path / "moved", promises, memory, least=0)
    assert atomic_files.read_sealed(path)["whole"].keys() == {"moved/data"}
