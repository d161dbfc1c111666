"""Time the start of `retrieve` on a verified store: `python tests/benchmarks/warm_start.py`.

Writes a store of `--gigabytes` of random float16 vectors below `--folder`, and removes it. A start
is what `retrieve` does before its first batch: its modules, the store, its ids and the first rows.
It is timed in new processes (`start`), and without the imports in this one (`opening`), with what
is remembered of the last verification and with `--no-verify`, in rounds of random order; `cold` is
the first opening after the memory of it is gone, with the files in the page cache. Each round has a
second turn with `--no-verify`, the control: its ratio to the first is what the machine's other work
makes of two equal things.

Prints medians of wall and CPU seconds and of the differences within a round, and as its last line
one JSON object.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store import verified_files
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.store.trust import trusting
from lightalign.featcache.types import Features

TURNS = ("verifying", "trusting", "control")
WIDTH, TOKENS, ROWS_PER_SHARD = 768, 49, 850  # shards of 64 MB, as extraction writes them
START = """
import sys
from contextlib import nullcontext
from pathlib import Path
import lightalign.cli
from lightalign.pipelines.inputs import image_text as pairs
from lightalign.pipelines.evaluation import retrieve
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store.trust import trusting
with nullcontext() if sys.argv[2] == "verifying" else trusting():
    reader = FeatureReader(Path(sys.argv[1]), residency="disk")
    reader.gather(range(64))
"""


def write_store(home: Path, num_bytes: int) -> Path:
    row_bytes = WIDTH * TOKENS * 2
    description = StoreDescription(
        dataset="random",
        split="test",
        source="random",
        encoder="random",
        identity={"version": 1},
        modality="image",
        width=WIDTH,
        tokens_per_item=TOKENS,
        num_items=-(-num_bytes // row_bytes),
        rows_per_shard=ROWS_PER_SHARD,
    )
    store = FeatureStore.create(description.folder(home), description, versions={})
    values = np.random.default_rng(0).standard_normal((ROWS_PER_SHARD * TOKENS, WIDTH))
    values = values.astype(np.float16)
    for index in range(store.num_shards):
        items = store.shard_items(index)
        offsets = np.arange(len(items) + 1) * TOKENS
        ids = tuple(f"image-{item:08d}.jpg" for item in items)
        store.write_shard(index, Features(values[: offsets[-1]], offsets, ids), [])
    store.finish()
    return store.folder


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds, those of child processes included."""
    wall, before = time.perf_counter(), os.times()
    act()
    after = os.times()
    return time.perf_counter() - wall, sum(after[:4]) - sum(before[:4])


def start(folder: Path, how: str) -> None:
    subprocess.run([sys.executable, "-c", START, str(folder), how], check=True)


def opening(folder: Path, how: str) -> None:
    with nullcontext() if how == "verifying" else trusting():
        FeatureReader(folder, residency="disk").gather(range(64))


def compared(name: str, times: dict[str, list[tuple[float, float]]]) -> dict[str, object]:
    """Print and return medians, and ratios and differences to the turns that verify nothing."""
    result: dict[str, object] = {}
    base = np.array(times["trusting"])
    for how in TURNS:
        seconds = np.array(times[how])
        middle = np.median(seconds, axis=0)
        ratio = middle / np.median(base, axis=0)
        difference = np.median(seconds - base, axis=0)
        print(
            f"{name}, {how}: {middle[0]:.4f} s wall, {middle[1]:.4f} s CPU; "
            f"ratio {ratio[0]:.3f} wall, {ratio[1]:.3f} CPU; "
            f"within a round {difference[0]:+.4f} s wall, {difference[1]:+.4f} s CPU"
        )
        result[how] = [middle.tolist(), ratio.tolist(), difference.tolist()]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a small store and one round")
    options = parser.parse_args()
    if options.quick:
        options.gigabytes, options.rounds = 0.1, 1
    home = Path(tempfile.mkdtemp(prefix="warm-start-", dir=options.folder))
    try:
        folder = write_store(home, int(options.gigabytes * 1e9))
        for act in (start, opening):
            act(folder, "trusting")
        shutil.rmtree(home / verified_files.FOLDER, ignore_errors=True)
        result: dict[str, object] = {"cold": timed(lambda: opening(folder, "verifying"))}
        print(f"cold opening: {result['cold'][0]:.2f} s wall, {result['cold'][1]:.2f} s CPU")
        for act, rounds in ((opening, 10 * options.rounds), (start, options.rounds)):
            times: dict[str, list[tuple[float, float]]] = {how: [] for how in TURNS}
            for _ in range(rounds):
                for how in random.sample(TURNS, len(TURNS)):
                    times[how].append(timed(lambda act=act, how=how: act(folder, how)))
            result[act.__name__] = compared(act.__name__, times)
    finally:
        shutil.rmtree(home)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
