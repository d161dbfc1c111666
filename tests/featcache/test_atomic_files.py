"""Files that are written whole or not at all, and temporaries that nothing leaves behind."""

import errno
import json
import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightalign.featcache import atomic_files
from lightalign.featcache.documents import read_json
from lightalign.featcache.errors import DurabilityError, LockError

from ..helpers import temporary_of


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_and_nothing_else_lies_beside_it(tmp_path):
    path = tmp_path / "a.json"
    for value in ({"first": 1}, [2]):
        atomic_files.write_json(path, value)
        assert read_json(path) == value
        assert names(tmp_path) == ["a.json"]


def test_a_folder_is_replaced_by_a_folder(tmp_path):
    place = tmp_path / "place"
    for name in ("old", "new"):
        with atomic_files.replacing(place) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
        assert names(tmp_path) == ["place"]
        assert names(place) == [name]


def test_what_fails_while_it_is_written_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    atomic_files.write_bytes(path, b"old")

    def write_half() -> None:
        with atomic_files.replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.txt"]


def test_a_name_of_255_letters_can_be_written(tmp_path):
    path = tmp_path / ("a" * 255)
    atomic_files.write_bytes(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_forbidden_mode_is_not_left_on_what_is_written(tmp_path):
    """The temporary folder is private; what leaves it has the mode that the process asks for."""
    mask = os.umask(0o022)
    try:
        atomic_files.write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def killed_while_writing(path) -> None:
    """Fork a process that is killed with a half-written temporary of `path`."""
    child = os.fork()
    if child == 0:
        with atomic_files.replacing(path) as temporary:
            temporary.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks beside threads
def test_a_temporary_of_a_killed_process_is_cleared_and_one_of_a_living_process_is_not(tmp_path):
    killed_while_writing(tmp_path / "a")
    (abandoned,) = tmp_path.iterdir()
    assert atomic_files.is_abandoned(abandoned)
    with atomic_files.replacing(tmp_path / "b") as temporary:
        temporary.write_bytes(b"whole")
        assert not atomic_files.is_abandoned(temporary.parent)
        assert atomic_files.clear_abandoned(tmp_path) == [abandoned.name]
    assert names(tmp_path) == ["b"]


def test_temporaries_of_earlier_versions_and_of_safetensors_are_cleared(tmp_path):
    """Earlier versions named them after host and process: another container's stayed for ever."""
    temporary_of(tmp_path / "run.toml", os.getppid()).write_text("half")
    temporary_of(tmp_path / "shard-00000", 1).mkdir()
    (tmp_path / ".tmpAb3dE6").write_text("what safetensors leaves")
    (tmp_path / ".tmpfile").write_text("of somebody else")
    atomic_files.clear_abandoned(tmp_path)
    assert names(tmp_path) == [".tmpfile"]


def test_a_whole_folder_is_removed(tmp_path):
    (tmp_path / "store" / "shard").mkdir(parents=True)
    (tmp_path / "store" / "shard" / "values").write_bytes(b"1")
    atomic_files.remove_whole(tmp_path / "store")
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_that_cannot_make_durable_is_one_error(tmp_path, monkeypatch, number):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DurabilityError, match="put the folder on another one"):
        atomic_files.write_bytes(tmp_path / "a", b"content")
    assert names(tmp_path) == []


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        atomic_files.write_bytes(tmp_path / "a", b"content")
    assert caught.value.filename.endswith("/a")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_error(tmp_path, monkeypatch, number):
    import fcntl

    def fail(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(LockError, match="its file system has no locks"):
        atomic_files.write_bytes(tmp_path / "a", b"content")
    assert names(tmp_path) == []


def test_two_processes_may_clear_one_leftover(tmp_path, monkeypatch):
    """The second takes the lock, and so makes its file, between the release and the rmdir."""
    place = tmp_path / ".tmp-lightalign-left"
    place.mkdir()
    (place / "half").write_text("half")
    release, second = atomic_files.FileLock.release, atomic_files.FileLock(place / ".owner")

    def overtaken(lock):
        release(lock)
        if lock is not second:
            assert second.claim()

    monkeypatch.setattr(atomic_files.FileLock, "release", overtaken)
    assert atomic_files.clear(place)
    assert names(place) == [".owner"]
    monkeypatch.undo()
    second.release()
    assert atomic_files.clear(place)
    assert names(tmp_path) == []


def test_a_temporary_of_another_user_stays(tmp_path, monkeypatch):
    place = tmp_path / ".tmp-lightalign-left"
    place.mkdir()

    def refuse(lock):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(lock.path))

    monkeypatch.setattr(atomic_files.FileLock, "claim", refuse)
    assert atomic_files.clear_abandoned(tmp_path) == []
    assert names(tmp_path) == [place.name]


def test_folders_that_were_made_for_nothing_go_again(tmp_path):
    (tmp_path / "there").mkdir()

    def fail(folder, *, beside=False) -> None:
        with atomic_files.making(folder):
            if beside:
                (folder.parent / "beside").mkdir()
            raise ZeroDivisionError

    for folder, left in (("there", ["there"]), ("a/b", ["there"]), ("there/c", ["there"])):
        with pytest.raises(ZeroDivisionError):
            fail(tmp_path / folder)
        assert names(tmp_path) == left
        assert names(tmp_path / "there") == []
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "a" / "b", beside=True)
    assert names(tmp_path / "a") == ["beside"]


def test_an_error_of_what_is_written_names_its_place_and_no_temporary(tmp_path):
    place = tmp_path / "folder"
    with (
        pytest.raises(OSError, match="No space") as caught,
        atomic_files.replacing(place) as temporary,
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(temporary / "part"))
    assert caught.value.filename == str(place / "part")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@given(table=st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=4))
@example(table={"a": [[], {}, [{}]], "not a number": [float("nan"), float("-inf")]})
def test_json_is_written_as_pythons_encoder_indents_it(table):
    """Files of earlier versions were written by it, and their bytes are compared."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.json"
        atomic_files.write_json(path, table)
        expected = json.dumps(table, indent=1, sort_keys=True) + "\n"
        assert path.read_text(encoding="utf-8") == expected


def test_a_pipe_in_the_place_of_what_was_read_is_no_wait(tmp_path):
    """Between reading and comparing, somebody may put a pipe there that nobody writes to."""
    path = tmp_path / "sealed.json"
    atomic_files.write_sealed(path, {"a": 1})
    table = read_json(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="is a named pipe"):
        atomic_files.unsealed(path, table)
