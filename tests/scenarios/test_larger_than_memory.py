"""Train on a store that is larger than what the process may allocate."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightalign.featcache.links import Links
from lightalign.featcache.store import catalog
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.types import IMAGE_TEXT, Features, Modality

ALLOWED = 96 * 2**20  # bytes of data that the process may take after its imports
NUM_ROWS, TOKENS, WIDTH = 12288, 16, 1024  # as float16 384 MiB, four times of that
ROWS_PER_SHARD = 64  # 2 MiB, of which several fit

CHILD = """
import json, resource, sys
from pathlib import Path
import torch
from lightalign.featcache.hardware import memory_fields
from lightalign.pipelines.training import trainer as loop, train
from lightalign.pipelines.training.spec import TrainSpec
torch.set_num_threads(1)
weight = torch.ones(64, 64, requires_grad=True)
weight.mm(weight).sum().backward()
torch.optim.AdamW([weight]).step()  # imports a good part of torch when it is first used
limit = memory_fields(Path("/proc/self/status"))["VmData"] + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
overrides = ("train.epochs=1", "train.batch_size=16", "train.validation=none", *sys.argv[3:])
home, preset = Path(sys.argv[1]), "lightalign/fusion"
spec = TrainSpec(home=home, preset=preset, overrides=overrides, device="cpu")
print(json.dumps(dict(train.run(spec).report)))
"""


def write_random(home: Path, modality: Modality, tokens: int, width: int, compression: str) -> None:
    """Write one shard at a time, so that the test itself needs little memory."""
    random = np.random.default_rng(0)
    description = StoreDescription(
        dataset="random",
        split="train",
        source="random",
        encoder=f"random-{modality.value}",
        identity={"modality": modality.value},
        modality=modality.value,
        width=width,
        tokens_per_item=tokens,
        num_items=NUM_ROWS,
        rows_per_shard=ROWS_PER_SHARD,
        compression=compression,
    )
    store = FeatureStore.create(description.folder(home), description, versions={})
    for index in store.missing_shards():
        items = store.shard_items(index)
        values = random.standard_normal((len(items) * tokens, width), np.float32)
        offsets = np.arange(len(items) + 1) * tokens
        ids = tuple(f"{modality.value}-{item}" for item in items)
        store.write_shard(index, Features(values.astype(np.float16), offsets, ids), [])
    store.finish()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("compression", ["none", "blosc-lz4"])
def test_training_goes_on_with_a_quarter_of_the_memory_of_its_store(tmp_path, compression):
    """384 MiB of features, one epoch over all of them, 96 MiB of data for the whole training.

    The limit is on the private writable memory (RLIMIT_DATA) that the process takes after its
    imports: heap, batches, activations, thread stacks and decompressed shards, but not the pages of
    mapped files, which the system can drop at any time. Held in memory, the same store must fail.
    """
    write_random(tmp_path, Modality.IMAGE, TOKENS, WIDTH, compression)
    write_random(tmp_path, Modality.TEXT, 1, 8, "none")
    names = [tuple(f"{side}-{row}" for row in range(NUM_ROWS)) for side in ("image", "text")]
    pairs = Links.of(
        dict(zip(IMAGE_TEXT, names, strict=True)), {IMAGE_TEXT: zip(*names, strict=True)}
    )
    catalog.write_pairs(catalog.pairs_path(tmp_path, "random", "train", "random"), pairs)

    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["residency"]["image"]["name"] == "disk"
    assert report["residency"]["image"]["num_bytes"] == 4 * ALLOWED
    assert report["best"]["step"] == NUM_ROWS // 16

    if compression != "none":  # a raw store on the host is mapped too
        done = run(tmp_path, "train.residency=host")
        assert done.returncode != 0
        assert "allocate" in done.stderr or "MemoryError" in done.stderr


def run(home: Path, *overrides: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(home), str(ALLOWED), *overrides],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
