"""Threads beside an encoder take little of its cores."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.threads import (
    lower_thread_priority,
    threads_kept,
    use_one_thread,
)
from lightalign.pipelines.extraction.throughput import overlaps

from ..conftest import extract_toy


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_thread_that_decodes_computes_alone_and_the_encoder_with_all():
    with threads_kept():
        with ThreadPoolExecutor(1, initializer=use_one_thread) as pool:
            assert pool.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are those of Linux")
def test_the_writer_gives_way_and_no_other_thread_does():
    import os
    from threading import get_native_id

    def priority():
        return os.getpriority(os.PRIO_PROCESS, get_native_id())

    before = priority()
    with ThreadPoolExecutor(1, initializer=lower_thread_priority) as pool:
        assert pool.submit(priority).result() == min(before + 10, 19)
    assert priority() == before


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.usefixtures("untried")
def test_items_are_prepared_while_an_encoder_runs_only_if_they_may(tmp_path, monkeypatch, overlap):
    begun: list[str] = []
    meanwhile: list[int] = []
    preprocess, encode = ToyEncoder.preprocess, ToyEncoder.encode

    encoding = threading.Event()

    def prepare(self, content, *, item_id):
        begun.append(item_id)
        if int(item_id[-6:]) >= 8:  # of the next batch: no thread comes further before the first
            encoding.wait(30)
        return preprocess(self, content, item_id=item_id)

    def slow(self, batch):
        before = len(begun)
        encoding.set()
        patience = time.monotonic() + (30 if overlap else 0.1) * (not meanwhile)
        while len(begun) - before <= 2 and time.monotonic() < patience:
            time.sleep(0.01)
        meanwhile.append(len(begun) - before)
        return encode(self, batch)

    monkeypatch.setattr(ToyEncoder, "preprocess", prepare)
    monkeypatch.setattr(ToyEncoder, "encode", slow)
    monkeypatch.setattr(extract, "overlaps", lambda _: overlap)
    extract_toy(tmp_path, "toy-image", split="train", batch_size=8, rows_per_shard=24)
    assert (max(meanwhile) > 2) == overlap  # two had begun before


@pytest.mark.parametrize(
    ("device", "threads", "workers", "expected"),
    [("cpu", 2, 2, False), ("cpu", 8, 2, False), ("cpu", 9, 2, True), ("cpu", 1, 0, True)],
)
def test_few_cores_do_not_decode_while_they_compute(
    tmp_path, monkeypatch, device, threads, workers, expected
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    spec = extract.ExtractSpec(
        encoders=("toy-image",), data="shapes", home=tmp_path, device=device, workers=workers
    )
    assert overlaps(spec) == expected
