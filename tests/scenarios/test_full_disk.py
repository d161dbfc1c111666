"""On a full disk whatever a library would write itself is one error that names the file.

A limit on the size of files fails as a full disk does, with EFBIG for ENOSPC.
"""

import errno
import fcntl
import os
import resource
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from torch import nn

from lightalign.featcache import atomic_files
from lightalign.featcache.errors import DurabilityError, LockError
from lightalign.pipelines.cache.export import FORMATS, export
from lightalign.pipelines.ranking.faiss_index import build
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.search.saved_index import write_index
from lightalign.pipelines.training.checkpoint import TrainingState, load_state, save_state
from lightalign.pipelines.training.log import RunLog

from ..pipelines.cache.test_export import put


@contextmanager
def full_disk(size=1024):
    """Let no file grow further than that, and nothing but one error come of it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            yield caught
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG


def trained(folder):
    """Return a module and its optimiser after one step, with the other tensors of a training."""
    module = nn.Linear(16, 16)
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 16)).sum().backward()
    optimiser.step()
    (folder / run_folder.SPEC).write_text("")
    others = {"queue": {"rows": torch.arange(3), "half": torch.ones(2, dtype=torch.bfloat16)}}
    return module, optimiser, others


def test_the_state_of_a_training(tmp_path):
    module, optimiser, others = trained(tmp_path)
    with full_disk() as caught:
        save_state(tmp_path, TrainingState(), {"adapter": module}, optimiser, others)
    assert caught.value.filename == str(tmp_path / run_folder.STATE)
    assert [path.name for path in tmp_path.iterdir()] == [run_folder.SPEC]


def test_the_state_of_a_training_comes_back_as_it_was_written(tmp_path):
    module, optimiser, others = trained(tmp_path)
    save_state(tmp_path, TrainingState(epoch=3), {"adapter": module}, optimiser, others)
    again = nn.Linear(16, 16)
    resumed = torch.optim.AdamW(again.parameters())
    counts, tensors = load_state(tmp_path, {"adapter": again}, resumed, tell=pytest.fail)
    assert counts == TrainingState(epoch=3)
    assert all(
        torch.equal(one, other)
        for one, other in zip(module.parameters(), again.parameters(), strict=True)
    )
    moments = (
        kept.state[part]["exp_avg"]
        for kept, part in ((optimiser, module.weight), (resumed, again.weight))
    )
    assert torch.equal(*moments)
    assert tensors["queue"]["rows"].tolist() == [0, 1, 2]
    assert tensors["queue"]["half"].dtype == torch.bfloat16


def written(folder, vectors):
    return write_index(
        folder,
        build(vectors, "flat", queries=vectors),
        ids=["a"] * len(vectors),
        contents=[""] * len(vectors),
        described={},
    )


def test_an_index_leaves_no_folder_and_no_line_of_its_library(tmp_path, capfd):
    vectors = np.eye(64, dtype=np.float32)
    place = tmp_path / "index" / "d"
    with full_disk() as caught:
        written(place, vectors)
    assert caught.value.filename == str(place / "index.faiss")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_an_index_has_the_bytes_that_faiss_writes(tmp_path):
    vectors = np.eye(64, dtype=np.float32)
    written(tmp_path / "d", vectors)
    plain = faiss.IndexFlatIP(64)
    plain.add(vectors)
    faiss.write_index(plain, str(tmp_path / "plain"))
    assert (tmp_path / "d" / "index.faiss").read_bytes() == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_of_a_store_leaves_no_folder(format, tmp_path):
    store, _ = put(tmp_path / "home")
    place = tmp_path / "deep" / "out"
    with full_disk(100) as caught:
        export(tmp_path / "home", store, place, format=format)
    assert caught.value.filename.startswith(str(place))
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("size", [10, 200])
def test_events_for_tensorboard_print_no_traceback_of_a_thread(size, tmp_path, capfd):
    def log() -> None:
        with RunLog(tmp_path, tensorboard=True) as opened:
            opened.go_on(epochs=0, next_step=0)
            opened.append({"step": 1, "validation": {"recall_sum": 1.0}})
            opened.append({"step": 2, "validation": {"recall_sum": 2.0}})
            opened.append({"step": 3, "validation": {"recall_sum": 3.0}})

    with full_disk(size) as caught:
        log()
    (events,) = (tmp_path / run_folder.TENSORBOARD).iterdir()
    assert caught.value.filename == str(events)
    assert capfd.readouterr() == ("", "")


def refuses_everything(monkeypatch, number):
    """Let no file and no folder be made that has no name yet, as a full disk does."""
    mkdir = os.mkdir

    def refused(path, *arguments, **options):
        if ".tmp-lightalign-" in str(path):
            raise OSError(number, os.strerror(number), str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refused)


def refuses_owners(monkeypatch, number):
    """Let temporary folders be made, but nothing be written into them."""
    write = os.write

    def refused(descriptor, content):
        if ".tmp-lightalign-" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(number, os.strerror(number))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", refused)


def new_run(home):
    with run_folder.new_run(home, "mine", "x", spec={}):
        pytest.fail("it has begun")


PLACES = {
    "runs/mine": new_run,
    "index": lambda home: written(home / "index", np.eye(4, dtype=np.float32)),
    "r.json": lambda home: atomic_files.write_report(home / "r.json", {}),
    "a folder/s": lambda home: enter(atomic_files.replacing(home / "a folder" / "s")),
    "page.html": lambda home: atomic_files.write_bytes(home / "page.html", b""),
    "a folder": lambda home: atomic_files.remove_whole(home / "a folder"),
}


def enter(block):
    with block:
        pytest.fail("it has begun")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="asks /proc for names")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("refuse", [refuses_everything, refuses_owners])
@pytest.mark.parametrize("place", PLACES)
def test_what_has_not_begun_is_named_by_where_it_was_to_be(
    place, refuse, number, tmp_path, monkeypatch
):
    (tmp_path / "a folder").mkdir()
    with monkeypatch.context() as patch:
        refuse(patch, number)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            PLACES[place](tmp_path)
    assert caught.value.errno == number
    assert caught.value.filename == str(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["a folder"]


def test_what_was_prepared_for_a_run_is_named_by_its_folder(tmp_path):
    """The spec is what is written first."""
    with full_disk(200) as caught, run_folder.new_run(tmp_path, "mine", "x", spec={"a": "b" * 500}):
        pytest.fail("it has begun")
    assert caught.value.filename == str(tmp_path / "runs" / "mine" / run_folder.SPEC)


def test_a_file_system_without_locks_or_fsync_is_told_of_the_place(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refused)
        with pytest.raises(DurabilityError) as caught:
            atomic_files.write_bytes(tmp_path / "a", b"")
    assert f"cannot make {tmp_path / 'a'} durable" in str(caught.value)
    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(LockError) as caught:
        atomic_files.write_bytes(tmp_path / "a", b"")
    assert f"cannot lock {tmp_path / 'a'}: " in str(caught.value)
