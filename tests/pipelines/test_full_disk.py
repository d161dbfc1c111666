"""On a full disk whatever a library would write itself is one error that names the file.

A limit on the size of files fails as a full disk does, with EFBIG for ENOSPC.
"""

import errno
import resource
from contextlib import contextmanager

import faiss
import numpy as np
import pytest
import torch
from torch import nn

from lightalign.pipelines import runs
from lightalign.pipelines.export import FORMATS, export
from lightalign.pipelines.index import build
from lightalign.pipelines.logs import RunLog
from lightalign.pipelines.saved_index import write_index
from lightalign.pipelines.state import Counts, load_state, save_state

from .test_export import put


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
    (folder / runs.SPEC).write_text("")
    others = {"queue": {"rows": torch.arange(3), "half": torch.ones(2, dtype=torch.bfloat16)}}
    return module, optimiser, others


def test_the_state_of_a_training(tmp_path):
    module, optimiser, others = trained(tmp_path)
    with full_disk() as caught:
        save_state(tmp_path, Counts(), {"adapter": module}, optimiser, others)
    assert caught.value.filename == str(tmp_path / runs.STATE)
    assert [path.name for path in tmp_path.iterdir()] == [runs.SPEC]


def test_the_state_of_a_training_comes_back_as_it_was_written(tmp_path):
    module, optimiser, others = trained(tmp_path)
    save_state(tmp_path, Counts(epoch=3), {"adapter": module}, optimiser, others)
    again = nn.Linear(16, 16)
    resumed = torch.optim.AdamW(again.parameters())
    counts, tensors = load_state(tmp_path, {"adapter": again}, resumed, tell=pytest.fail)
    assert counts == Counts(epoch=3)
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
    (events,) = (tmp_path / runs.TENSORBOARD).iterdir()
    assert caught.value.filename == str(events)
    assert capfd.readouterr() == ("", "")
