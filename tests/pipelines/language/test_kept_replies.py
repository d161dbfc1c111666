"""Replies in a file: each is there after a kill, and what was damaged is asked again."""

import json
import os
import subprocess
import sys
import threading

import pytest

from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.language.kept_replies import KeptReplies


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "kept.jsonl"


def keep(path, **replies):
    with KeptReplies(path) as kept:
        for asked, reply in replies.items():
            kept.add(asked, reply)


def test_a_reply_is_there_the_next_time(path):
    keep(path, one="red", two="a\nb \ud800 ü")
    with KeptReplies(path) as kept:
        assert (kept.get("one"), kept.get("two")) == ("red", "a\nb \ud800 ü")
        assert kept.get("three") is None
    assert [entry.name for entry in path.parent.iterdir()] == ["kept.jsonl"]


def test_half_a_line_is_dropped_and_the_next_reply_stands_alone(path):
    keep(path, one="red", two="blue")
    path.write_bytes(path.read_bytes()[:-20])
    keep(path, three="green")
    with KeptReplies(path) as kept:
        assert [kept.get(asked) for asked in ("one", "two", "three")] == ["red", None, "green"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b"red", b"blu"),
        lambda _: b"{}\n",
        lambda _: b"[" * 1000 + b"\n",
        lambda line: json.dumps({**json.loads(line), "reply": 3}).encode() + b"\n",
        lambda line: json.dumps({**json.loads(line), "more": 3}).encode() + b"\n",
    ],
)
def test_a_line_that_was_changed_is_not_believed(path, damage):
    keep(path, one="red", two="blue")
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(damage(first) + second)
    notes = Notes()
    with KeptReplies(path, notes) as kept:
        assert (kept.get("one"), kept.get("two")) == (None, "blue")
    assert len(notes.notes) == 1
    assert "1 of 2 replies" in notes.notes[0]
    assert path.read_bytes() == second


KILLED = """
import os, sys
from pathlib import Path
from lightalign.pipelines.language.kept_replies import KeptReplies
with KeptReplies(Path(sys.argv[1])) as kept:
    kept.add("one", "red")
    os.kill(os.getpid(), 9)
"""


def test_a_reply_survives_a_kill_and_its_lock_is_taken_over(path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, cwd="/")
    assert done.returncode == -9
    with KeptReplies(path) as kept:
        assert kept.get("one") == "red"


def test_one_at_a_time_has_the_file(path):
    order = []

    def second():
        with KeptReplies(path) as kept:
            order.append(kept.get("one"))

    with KeptReplies(path) as kept:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        assert not order
        kept.add("one", "red")
    thread.join()
    assert order == ["red"]


def test_where_nothing_may_be_written_replies_are_kept_in_memory(path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, os.strerror(13), str(path.parent))

    monkeypatch.setattr("lightalign.featcache.atomic_files.making", refuse)
    notes = Notes()
    with KeptReplies(path, notes) as kept:
        kept.add("one", "red")
        assert kept.get("one") == "red"
    assert "replies are not kept" in notes.notes[0]
    assert not path.exists()
