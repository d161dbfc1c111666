"""Measure the start of a training on many captions: `python tests/benchmarks/links.py`.

Writes an image store and a text store of random vectors, five texts an image and the ids of a
table, with what belongs together, and starts a training of `linear` in a process of its own for
each step of it: `read` reads what belongs together, `join` opens both stores and finds the rows,
`start` goes on to the first batch. Each is taken after the same on a hundred captions: its
megabytes are the most that the process had beyond that, pages of mapped files among them.

Prints a table, and as its last line one JSON object. `--quick` takes 10,000 captions; `--json-form`
has what belongs together as earlier versions wrote it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _stores import write_random_store

from lightalign.featcache import atomic_files
from lightalign.featcache.links import Links, compact
from lightalign.featcache.store import catalog
from lightalign.featcache.string_array import Strings
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

TEXTS, WIDTH = 5, 8  # of an image; features, few of them as they are not what is measured
STEPS = ("read", "join", "start")
WARM = 100  # captions of a home on which each step is taken once before: what it imports later
ROWS_PER_SHARD = 65_536
HEX_DIGITS = 12  # of a mark of an earlier version


def write_home(home: Path, num_texts: int, *, json_form: bool) -> Path:
    """Write both stores and their links, and return where these are."""
    images = [f"{number * 7919 % 10**10:010d}.jpg" for number in range(num_texts // TEXTS)]
    texts = [f"{image}#{number}" for image in images for number in range(TEXTS)]
    for modality, ids in zip(IMAGE_TEXT, (images, texts), strict=True):
        write_random_store(
            home, modality.value, ids, tokens=1, width=WIDTH, rows_per_shard=ROWS_PER_SHARD
        )
    path = catalog.pairs_path(home, "random", "train", "random")
    marks = np.random.default_rng(0).integers(2**48, size=len(texts))
    if json_form:
        links = [(image, f"{image}#{number}") for image in images for number in range(TEXTS)]
        table = {"image_ids": images, "text_ids": texts, "links": links, "file": path.name}
        hexadecimal = [f"{mark:0{HEX_DIGITS}x}" for mark in marks.tolist()]
        atomic_files.write_sealed(path, {**table, "text_marks": hexadecimal})
        return path
    numbers = np.arange(len(texts))
    places = compact(np.stack([numbers // TEXTS, numbers], axis=1))
    ids_of = {Modality.IMAGE: Strings.of(images), Modality.TEXT: Strings.of(texts)}
    catalog.write_pairs(path, Links(ids_of, {IMAGE_TEXT: places}, {"text_marks": marks}))
    return path


def most_memory() -> int:
    """Return the most bytes that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def take(step: str, home: Path) -> dict[str, float]:
    """Return the seconds of the clock and of the processor, and the bytes, of one step."""
    before, began, worked = most_memory(), time.perf_counter(), time.process_time()
    if step == "read":
        catalog.read_pairs(catalog.pairs_path(home, "random", "train", "random"))
    else:
        overrides = ("train.validation=none", "train.batch_size=256")
        spec = TrainSpec(home=home, preset="linear", overrides=overrides, device="cpu")
        trainer = Trainer(resolve(spec, SILENT), home=home, seed=0, device=torch.device("cpu"))
        if step == "start":
            rows = next(trainer.batches.order(1))
            trainer.train_step.add_gradient(trainer.batches.load(rows))
            trainer.train_step.take()
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - worked,
        "bytes": most_memory() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json-form", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        step, home = options.child
        take(step, Path(home, "warm"))
        print(json.dumps(take(step, Path(home, "large"))))
        return
    if options.quick:
        options.captions, options.rounds = 10_000, 1
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("warm", WARM), ("large", options.captions)):
            path = write_home(Path(folder, name), count, json_form=options.json_form)
        size = sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
        print(f"{'step':>10}{'seconds':>10}{'CPU':>8}{'MB':>8}")
        for step in STEPS:
            command = [sys.executable, __file__, "--child", step, folder]
            rounds = [
                json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                for _ in range(options.rounds)
            ]
            measured[step] = {
                name: float(np.median([figures[name] for figures in rounds]))
                for name in ("seconds", "cpu_seconds", "bytes")
            }
            seconds, worked, num_bytes = measured[step].values()
            print(f"{step:>10}{seconds:10.2f}{worked:8.2f}{num_bytes / 1e6:8.0f}", flush=True)
    print(json.dumps({"captions": options.captions, "file_bytes": size, **measured}))


if __name__ == "__main__":
    main()
