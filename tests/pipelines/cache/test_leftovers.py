"""What the dead have left is named and cleared; what lives, and what is not ours, stays."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lightalign.featcache import atomic_files
from lightalign.featcache.file_locks import FileLock
from lightalign.featcache.store import catalog
from lightalign.featcache.store.locks import ShardLocks, owning_split
from lightalign.pipelines.cache import leftovers
from lightalign.pipelines.cache.leftovers import clear_leftovers, find_leftovers

from ...helpers import folder_for_everyone, lightalign, tree_bytes
from .store_helpers import put, put_pairs


def names(home: Path) -> set[str]:
    return {str(leftover.path.relative_to(home)) for leftover in find_leftovers(home)}


def killed_temporary(folder: Path) -> Path:
    """Return a temporary whose owner is dead: its owner file is there, and nobody holds it."""
    place = folder / ".tmp-abcdefgh"
    place.mkdir(parents=True)
    (place / ".owner").write_bytes(b"")
    (place / "half").write_text("half")
    return place


def test_a_home_of_whole_stores_has_no_leftovers(tmp_path):
    put(tmp_path)
    assert find_leftovers(tmp_path) == []
    assert clear_leftovers(tmp_path) == []


def test_what_the_dead_left_anywhere_is_named_and_cleared(tmp_path):
    put(tmp_path)
    run = tmp_path / "runs" / "a"
    (run / "index").mkdir(parents=True)
    for name in ("run.toml", "report.json"):
        (run / name).write_text("")
    whole = tree_bytes(tmp_path)
    for folder in ("features/d/train", "runs", "runs/a", "runs/a/index", "evaluations", "verified"):
        killed_temporary(tmp_path / folder)
    (run / "state.safetensors").write_bytes(b"of a training that is finished")
    (run / ".tmpAb3dE6").write_text("what safetensors leaves")
    (tmp_path / "features" / "d" / "train" / "e--unbegun").mkdir()
    (tmp_path / "features" / "d" / "val").mkdir()
    (tmp_path / "features" / "empty").mkdir()
    orphan = put_pairs(tmp_path, source="gone")
    assert names(tmp_path) == {
        "features/d/train/.tmp-abcdefgh",
        "features/d/train/e--unbegun",
        str(orphan.relative_to(tmp_path)),
        str(catalog.arrays_path(orphan).relative_to(tmp_path)),
        "features/d/val",
        "features/empty",
        "runs/.tmp-abcdefgh",
        "runs/a/.tmp-abcdefgh",
        "runs/a/.tmpAb3dE6",
        "runs/a/index/.tmp-abcdefgh",
        "runs/a/state.safetensors",
        "evaluations/.tmp-abcdefgh",
        "verified/.tmp-abcdefgh",
    }
    assert lightalign("cache", "verify", home=tmp_path).returncode == 1
    assert len(clear_leftovers(tmp_path)) == 13
    assert find_leftovers(tmp_path) == []
    assert tree_bytes(tmp_path) == whole
    assert not (tmp_path / "features" / "d" / "val").exists()
    assert not (tmp_path / "features" / "empty").exists()


def test_what_a_living_process_is_about_is_no_leftover(tmp_path):
    folder = put(tmp_path)
    with owning_split(folder.parent):
        put_pairs(tmp_path, source="begun just now")
        begun = folder.parent / "e--begun"
        begun.mkdir()
        with ShardLocks(begun) as locks, atomic_files.workspace(folder):
            assert locks.claim(0)
            assert find_leftovers(tmp_path) == []


def test_what_is_not_ours_is_named_and_stays_and_is_no_damage(tmp_path):
    put(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    for name in ("features/notes.txt", "features/d/notes.txt", "runs/a/notes.txt"):
        (tmp_path / name).write_text("mine")
    told = lightalign("cache", "verify", home=tmp_path)
    assert told.returncode == 0
    assert told.stdout.count("not written by lightalign") == 3
    assert clear_leftovers(tmp_path) == []
    assert (tmp_path / "runs" / "a" / "notes.txt").read_text() == "mine"


def test_in_a_folder_of_the_user_only_our_own_temporaries_are_cleared(tmp_path):
    for name in ("empty", "begun", "half"):  # killed when it had written no owner, or half of it
        (tmp_path / f".tmp-lightalign-{name}").mkdir()
    (tmp_path / ".tmp-lightalign-half" / ".owner").write_text('{"checksum": "ab')
    (tmp_path / ".tmp-ours").mkdir()
    (tmp_path / ".tmp-other").mkdir()
    (tmp_path / ".tmp-empty").mkdir()  # may be one that another program has just made
    (tmp_path / ".tmp-owned").mkdir()
    (tmp_path / ".tmp-owned" / ".owner").write_text("another program")
    (tmp_path / ".tmp-lightalign-begun" / ".owner").write_bytes(b"")
    (tmp_path / ".tmp-ours" / ".owner").write_bytes(b"")
    (tmp_path / ".tmp-ours" / "page.html").write_text("half")
    (tmp_path / ".tmp-other" / "data").write_text("of another program")
    (tmp_path / ".tmpAb3dE6").write_text("of another program")
    atomic_files.clear_abandoned_beside(tmp_path / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(".tmp-empty", ".tmp-other", ".tmp-owned", ".tmpAb3dE6")
    ]


def test_folders_that_may_not_be_read_or_have_vanished_are_passed_over(tmp_path, monkeypatch):
    """As root reads everything, reading is refused here by what the system would raise."""
    names = ("unreadable", "vanished")
    for name in names:
        (tmp_path / f".tmp-lightalign-{name}").mkdir()
    entries = atomic_files.entries

    def refuse(folder):
        if folder.name.endswith("unreadable"):
            raise PermissionError(13, "Permission denied", str(folder))
        listed = entries(folder)
        (tmp_path / ".tmp-lightalign-vanished").rmdir() if folder == tmp_path else None
        return listed

    monkeypatch.setattr(atomic_files, "entries", refuse)
    atomic_files.clear_abandoned_beside(tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == [".tmp-lightalign-unreadable"]


@pytest.mark.parametrize("place", ["features/d/train", "runs", "runs/a", "runs/a/index"])
def test_a_temporary_that_has_just_been_begun_is_no_leftover(tmp_path, place):
    """The folder of a temporary comes first, and its owner's lock in the next moment."""
    put(tmp_path)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    begun = tmp_path / place / ".tmp-lightalign-begun"
    begun.mkdir()
    lock = FileLock(begun / ".owner")
    later = threading.Timer(0.05, lock.wait)
    later.start()
    assert [one for one in find_leftovers(tmp_path) if one.path == begun] == []
    later.join()
    lock.release()
    assert names(tmp_path) == {str(begun.relative_to(tmp_path))}


def test_what_vanishes_while_it_is_looked_at_is_no_leftover(tmp_path, monkeypatch):
    put(tmp_path)
    unbegun = tmp_path / "features" / "d" / "train" / "e--unbegun"
    unbegun.mkdir()
    needs_pairs, lock_files = leftovers.needs_pairs, leftovers.lock_files

    def vanish(folder):
        unbegun.rmdir()
        return lock_files(folder)

    def replaced(split, path):
        raise FileNotFoundError

    monkeypatch.setattr(leftovers, "lock_files", vanish)
    assert find_leftovers(tmp_path) == []
    monkeypatch.setattr(leftovers, "needs_pairs", replaced)
    assert find_leftovers(tmp_path) == []
    monkeypatch.setattr(leftovers, "needs_pairs", needs_pairs)
    assert find_leftovers(tmp_path) == []


def test_what_is_not_ours_is_named_inside_of_indexes_too(tmp_path):
    index = tmp_path / "runs" / "a" / "index"
    (index / "d").mkdir(parents=True)
    (index / "mine").mkdir()
    for name in ("run.toml", "index/notes.txt", "index/d/notes.txt", "index/mine/deep.txt"):
        (index.parent / name).write_text("mine")
    for name in ("index.json", "index.faiss", "ids.npy", "ids-ends.npy", "contents.npy"):
        (index / "d" / name).write_text("ours")
    assert names(tmp_path) == {
        *("runs/a/index/notes.txt", "runs/a/index/d/notes.txt", "runs/a/index/mine")
    }
    assert clear_leftovers(tmp_path) == []


AS_ANOTHER_USER = """
import os, sys
from lightalign.cli import main

def run(command):
    sys.argv = ["lightalign", *command.split()]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, stopped.code

commands = sys.argv[1].split(";")
for command in commands:  # what they import may lie where another user may not look
    run(command)
print("AS ANOTHER USER", flush=True)
os.system(f"chmod -R a-w,a+rX {os.environ['LIGHTALIGN_HOME']}")
os.setuid(65534)
for command in commands:
    run(command)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_complete_stores_of_another_user_are_cached_and_evaluated():
    """Of a user who may only read the extraction is cached, and the numbers are printed."""
    place = folder_for_everyone("another-user-")
    try:
        home = place / "home"
        extract = (
            "extract --encoder toy-image --encoder toy-text --data shapes --set source.train=24 "
            "--set source.test=8 --set source.size=32 --precision float32 --device cpu"
        )
        train = "train-adapter --preset linear --set train.epochs=1 --name a --device cpu"
        for command in (extract, train):
            assert lightalign(*command.split(), home=home).returncode == 0
        commands = [extract, "retrieve a --device cpu", "cache verify", "cache ls"]
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, ";".join(commands)],
            env={**os.environ, "LIGHTALIGN_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        told = done.stdout.partition("AS ANOTHER USER")[2]
        assert told.count("0 items to do (cached)") == 6
        assert "report: none; the report could not be written to" in told
        assert "0 damaged files" in told
        assert not [path for path in home.rglob("*") if path.name.startswith(".tmp")]
    finally:
        shutil.rmtree(place)
