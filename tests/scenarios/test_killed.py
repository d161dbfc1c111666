"""Extraction with real encoders, killed at random moments."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store.catalog import list_stores

from ..helpers import tree_bytes


def extract_command(
    home: Path, encoder: str, batch_size: int, container: str, more: tuple[str, ...] = ()
) -> list[str]:
    return [
        *(sys.executable, "-m", "lightalign", "extract", "--quiet", "--device", "cpu"),
        *("--encoder", encoder, "--data", "shapes", "--split", "test", "--home", str(home)),
        *("--set", "source.test=160", "--set", "rows_per_shard=20"),
        *("--batch-size", str(batch_size), "--format", container),
        *more,
    ]


def run(
    home: Path,
    encoder: str,
    batch_size: int = 8,
    container: str = "zarr",
    more: tuple[str, ...] = (),
) -> None:
    subprocess.run(
        extract_command(home, encoder, batch_size, container, more),
        check=True,
        capture_output=True,
        cwd="/",
    )


def entries(folder: Path) -> set[str]:
    """Return all names below `folder`; `os.walk` bears with what vanishes meanwhile."""
    return {
        f"{parent}/{name}" for parent, folders, files in os.walk(folder) for name in folders + files
    }


def kill_at_random(
    home: Path, encoder: str, batch_sizes: list[int], container: str, more: tuple[str, ...] = ()
) -> None:
    """Start the extraction with each batch size and kill it while it writes shards."""
    random = np.random.default_rng(0)
    to_do = batch_sizes[::-1]
    while to_do:
        batch_size = to_do[-1]
        running = subprocess.Popen(
            extract_command(home, encoder, batch_size, container, more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        before = entries(home)
        while running.poll() is None and entries(home) == before:
            time.sleep(0.01)  # until it has begun to write
        time.sleep(random.uniform(0, 0.5))
        os.kill(running.pid, signal.SIGKILL)
        if running.wait() == -signal.SIGKILL:
            to_do.pop()
        else:  # it was quicker: the next one begins anew
            shutil.rmtree(home)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("encoder", "container"),
    [("efficientnet-lite0", "zarr"), ("minilm", "zarr"), ("minilm", "hdf5")],
)
def test_killed_ten_times_it_ends_with_the_same_bytes(tmp_path, encoder, container):
    run(tmp_path / "whole", encoder, container=container)
    kill_at_random(tmp_path / "cut", encoder, [8] * 10, container)
    run(tmp_path / "cut", encoder, container=container)
    assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_masked_texts_killed_ten_times_end_with_the_same_bytes(tmp_path):
    more = ("--mlm-variants", "2")
    run(tmp_path / "whole", "minilm", more=more)
    kill_at_random(tmp_path / "cut", "minilm", [8] * 10, "zarr", more)
    run(tmp_path / "cut", "minilm", more=more)
    assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("encoder", ["efficientnet-lite0", "minilm"])
def test_resumed_with_other_batch_sizes_rows_are_the_same(tmp_path, encoder, record_property):
    run(tmp_path / "whole", encoder)
    kill_at_random(tmp_path / "cut", encoder, [1, 7, 64], "zarr")
    run(tmp_path / "cut", encoder, batch_size=13)
    (whole,), (cut,) = (list_stores(tmp_path / name) for name in ("whole", "cut"))
    ours, theirs = FeatureReader(whole.folder), FeatureReader(cut.folder)
    assert ours.ids == theirs.ids
    assert ours.lengths.tolist() == theirs.lengths.tolist()
    rows = range(len(ours))
    first, second = (r.gather(rows).values.astype(np.float32) for r in (ours, theirs))
    difference = float(np.abs(first - second).max())
    record_property("largest_difference", difference)
    # float16 has 11 bits: two neighbouring values differ by at most 2^-10 of the value
    np.testing.assert_allclose(first, second, rtol=2**-9, atol=2e-3)


FAST = """
import sys, time
from pathlib import Path
from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.pipelines.extraction.extract import run
from lightalign.pipelines.extraction.spec import ExtractSpec

encode = ToyEncoder.encode
def slow(self, batch):
    time.sleep(0.004)  # so that a kill meets the work, not the end of it
    return encode(self, batch)
ToyEncoder.encode = slow
home, workers = Path(sys.argv[1]), int(sys.argv[2])
print("go", flush=True)
run(ExtractSpec(encoders=("toy-image", "toy-text"), data="shapes", home=home, split="train",
    source={"train": 150, "size": 32}, features=("tokens", "mean"), batch_size=4,
    rows_per_shard=15, workers=workers, device="cpu"))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("workers", "num_processes", "kills"),
    [(0, 1, 8), (1, 1, 9), (2, 1, 8), (0, 2, 8), (1, 2, 9), (2, 2, 8)],
)
def test_fifty_kills_over_workers_and_processes_change_no_byte(
    tmp_path, workers, num_processes, kills
):
    """Four stores of one pass; two processes share their shards and are killed one by one."""
    script = [sys.executable, "-c", FAST]
    subprocess.run([*script, str(tmp_path / "whole"), str(workers)], check=True, cwd="/")
    random = np.random.default_rng([workers, num_processes])
    done = met_work = 0
    while done < kills:
        running = [
            subprocess.Popen(
                [*script, str(tmp_path / "cut"), str(workers)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
            )
            for _ in range(num_processes)
        ]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        for process in running:
            time.sleep(random.uniform(0.05, 0.8))
            process.kill()
            done += process.wait() == -signal.SIGKILL
            assert process.stdout is not None
            process.stdout.close()
        stores = list_stores(tmp_path / "cut")
        met_work += any(not store.complete for store in stores)
        if len(stores) == 4 and all(store.complete for store in stores):
            assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "whole")
            shutil.rmtree(tmp_path / "cut")  # the next kills meet work again
    subprocess.run([*script, str(tmp_path / "cut"), str(workers)], check=True, cwd="/")
    assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "whole")
    assert met_work >= 1
