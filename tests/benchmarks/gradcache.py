"""Measure the memory of large contrastive batches: `python tests/benchmarks/gradcache.py`.

Trains one step of a preset on stores of random numbers with each batch size, the gradient replayed
in chunks of one size, and one with the whole graph, each in a process of its own. Prints a table of
the most memory that the step took (pages of its own, not those of mapped files) and of seconds; and
as its last line one JSON object with the ratio of the largest batch to the smallest.

`--quick` takes small stores and ends within a minute.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from _stores import write_random_store

from lightalign.featcache.links import Links
from lightalign.featcache.store import catalog
from lightalign.featcache.types import IMAGE_TEXT
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.planning.measure import watching_memory
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

TOKENS, WORDS = 50, 12  # of an image and of a text
WIDTHS = {"image": 384, "text": 768}


def write_stores(home: Path, num_rows: int) -> None:
    """Write an image store and a text store of random numbers, one text an image."""
    ids = tuple(f"{row:06d}" for row in range(num_rows))
    for modality, tokens in (("image", TOKENS), ("text", WORDS)):
        width = WIDTHS[modality]
        write_random_store(home, modality, ids, tokens=tokens, width=width, rows_per_shard=1024)
    path = catalog.pairs_path(home, "random", "train", "random")
    catalog.write_pairs(
        path, Links.of(dict.fromkeys(IMAGE_TEXT, ids), {IMAGE_TEXT: zip(ids, ids, strict=True)})
    )


def one_step(home: Path, preset: str, batch: int, chunk: int) -> dict[str, float]:
    """Train one step; return its seconds and the memory it took."""
    overrides = (
        f"train.batch_size={batch}",
        f"train.chunk_size={chunk}",
        "train.accumulate=1",
        "train.validation=none",
        "train.residency=disk",
        "train.precision=float32",
    )
    spec = TrainSpec(home=home, preset=preset, overrides=overrides, device="cpu")
    trainer = Trainer(resolve(spec, SILENT), home=home, seed=0, device=torch.device("cpu"))
    rows = next(trainer.batches.order(1))
    began = time.perf_counter()
    with watching_memory() as own:
        trainer.train_step.add_gradient(trainer.batches.load(rows))
        trainer.train_step.take()
    return {"seconds": time.perf_counter() - began, "bytes": own.bytes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="peme/bridge")
    parser.add_argument("--batches", nargs="+", type=int, default=[256, 1024, 4096])
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        home, preset, batch, chunk = options.child
        print(json.dumps(one_step(Path(home), preset, int(batch), int(chunk))))
        return
    if options.quick:
        options.preset, options.batches, options.chunk = "lightalign/fusion", [64, 256], 16
    with tempfile.TemporaryDirectory() as home:
        write_stores(Path(home), max(options.batches))
        cases = [(batch, options.chunk) for batch in options.batches]
        found = {}
        print(f"{'batch':>8}{'chunk':>8}{'MB':>10}{'seconds':>10}")
        for batch, chunk in [*cases, (options.batches[0], 0)]:
            case = [home, options.preset, str(batch), str(chunk)]
            command = [sys.executable, __file__, "--child", *case]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            one = found[batch, chunk] = json.loads(done.stdout)
            cells = f"{one['bytes'] / 1e6:10.0f}{one['seconds']:10.1f}"
            print(f"{batch:8}{chunk or 'none':>8}{cells}", flush=True)
    smallest, largest = options.batches[0], options.batches[-1]
    ratio = found[largest, options.chunk]["bytes"] / found[smallest, options.chunk]["bytes"]
    print(json.dumps({"preset": options.preset, "chunk": options.chunk, "memory": ratio}))


if __name__ == "__main__":
    main()
