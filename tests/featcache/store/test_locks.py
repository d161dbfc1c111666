import errno
import fcntl
import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from lightalign.featcache.errors import LockError
from lightalign.featcache.file_locks import LockHolder, holder, lock_damage
from lightalign.featcache.store import locks
from lightalign.featcache.store.locks import ShardLocks, lock_path

HOLD = """
import sys
from pathlib import Path
from lightalign.featcache.store.locks import ShardLocks
with ShardLocks(Path(sys.argv[1])) as held:
    assert held.claim(3)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Yield a process that holds shard 3 until its standard input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd="/", **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_what_another_process_holds_cannot_be_claimed(tmp_path, other):
    with ShardLocks(tmp_path) as ours:
        assert not ours.claim(3)
        assert ours.claim(4)
    found = holder(lock_path(tmp_path, 3))
    assert found is not None
    assert found.pid == other.pid
    assert str(found).startswith(f"process {other.pid} on ")


def test_a_killed_holder_frees_its_lock(tmp_path, other):
    other.kill()  # SIGKILL: nothing of it can run any more
    other.wait()
    path = lock_path(tmp_path, 3)
    assert path.is_file()
    assert holder(path) is None
    with ShardLocks(tmp_path) as ours:
        assert ours.claim(3)
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert not path.exists()


def test_a_holder_that_ends_well_leaves_no_file(tmp_path, other):
    other.stdin.close()
    other.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_claimed_once_and_again_by_its_holder_only(tmp_path):
    first, second = ShardLocks(tmp_path), ShardLocks(tmp_path)
    assert first.claim(0)
    assert first.claim(0)
    assert not second.claim(0)
    second.release(0)  # not its own: nothing happens
    assert not second.claim(0)
    first.release(0)
    assert second.claim(0)
    second.release(0)


def _claim_two_and_fail(folder) -> None:
    with ShardLocks(folder) as held:
        assert held.claim(0)
        assert held.claim(1)
        raise KeyError


def test_leaving_the_block_by_an_error_releases_everything(tmp_path):
    with pytest.raises(KeyError):
        _claim_two_and_fail(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_vanished_between_opening_and_locking_is_opened_again(tmp_path, monkeypatch):
    """Its former holder unlinks it after we opened it: our lock would be on a nameless file."""
    path = lock_path(tmp_path, 0)
    first = ShardLocks(tmp_path)
    assert first.claim(0)
    flock, calls = fcntl.flock, []

    def release_then_lock(descriptor, operation):
        if not calls:
            first.release(0)
            assert not path.exists()
        calls.append(operation)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", release_then_lock)
    with ShardLocks(tmp_path) as second:
        assert second.claim(0)
        assert len(calls) == 2
        assert path.is_file()
        assert not first.claim(0)


def test_a_lock_file_that_is_not_ours_any_more_is_left_alone(tmp_path):
    path = lock_path(tmp_path, 0)
    first = ShardLocks(tmp_path)
    assert first.claim(0)
    path.unlink()  # by hand
    with ShardLocks(tmp_path) as second:
        assert second.claim(0)
        first.release(0)
        assert path.is_file()


def _sleep() -> None:
    time.sleep(60)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks beside threads
def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path):
    held = ShardLocks(tmp_path)
    assert held.claim(0)
    child = multiprocessing.get_context("fork").Process(target=_sleep)
    child.start()
    try:
        deadline = time.monotonic() + 20
        held._locks.pop(0).forget()  # as the end of this process would, without release
        while holder(lock_path(tmp_path, 0)) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert child.is_alive()
    finally:
        child.kill()
        child.join()


def test_any_flipped_byte_of_a_lock_is_damage(tmp_path):
    path = lock_path(tmp_path, 0)
    with ShardLocks(tmp_path) as held:
        assert held.claim(0)
        content = path.read_bytes()
        assert lock_damage(path) is None
        for position in range(len(content)):
            flipped = bytearray(content)
            flipped[position] ^= 1
            path.write_bytes(bytes(flipped))
            assert lock_damage(path) == "checksum differs"
            assert holder(path) == LockHolder(host=None, pid=None)
        path.write_bytes(b"")
        assert lock_damage(path) is None
    assert lock_damage(path) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"host": 1}', b"\xff", b'{"host": "a"}'])
def test_a_damaged_lock_of_the_dead_is_taken_over(tmp_path, content):
    path = lock_path(tmp_path, 0)
    path.write_bytes(content)
    with ShardLocks(tmp_path) as held:
        assert held.claim(0)
        assert lock_damage(path) is None


def test_only_unheld_locks_are_removed(tmp_path):
    lock_path(tmp_path, 1).write_bytes(b"left")
    (tmp_path / "notes.lock").write_text("mine")
    with ShardLocks(tmp_path) as held:
        assert held.claim(0)
        assert [path.name for path, _ in locks.holders(tmp_path)] == ["shard-00000.lock"]
        assert locks.remove_unheld(tmp_path) == ["shard-00001.lock"]
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "notes.lock",
            "shard-00000.lock",
        ]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, number):
    def refuse(_descriptor, _operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with ShardLocks(tmp_path) as held, pytest.raises(LockError, match="has no locks"):
        held.claim(0)
