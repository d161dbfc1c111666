"""Time the start of `retrieve` on a verified store: `python tests/benchmarks/warm_start.py`.

Writes a store of `--gigabytes` of random float16 vectors below `--folder`, and removes it. A start
is what `retrieve` does before its first batch: its modules, the store, its ids and the first rows.
It is timed in new processes (`start`), and without the imports in this one (`opening`), with what
is remembered of the last verification and with `--no-verify`, in turns; `cold` is the first opening
after the memory of it is gone, with the files in the page cache.

Prints medians of wall and CPU seconds, and as its last line one JSON object.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median

import numpy as np

from lightalign.featcache import verified
from lightalign.featcache.description import StoreDescription
from lightalign.featcache.reader import FeatureReader
from lightalign.featcache.store import FeatureStore
from lightalign.featcache.trust import trusting
from lightalign.featcache.types import Features

WIDTH, TOKENS, ROWS_PER_SHARD = 768, 49, 850  # shards of 64 MB, as extraction writes them
START = """
import sys
from contextlib import nullcontext
from pathlib import Path
import lightalign.cli
from lightalign.pipelines import pairs, retrieve
from lightalign.featcache.reader import FeatureReader
from lightalign.featcache.trust import trusting
with trusting() if sys.argv[2] == "trusting" else nullcontext():
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
    with trusting() if how == "trusting" else nullcontext():
        FeatureReader(folder, residency="disk").gather(range(64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="warm-start-", dir=options.folder))
    try:
        folder = write_store(home, int(options.gigabytes * 1e9))
        for act in (start, opening):
            act(folder, "trusting")
        shutil.rmtree(home / verified.FOLDER)
        result: dict[str, object] = {"cold": timed(lambda: opening(folder, "verifying"))}
        print(f"cold opening: {result['cold'][0]:.2f} s wall, {result['cold'][1]:.2f} s CPU")
        for act, rounds in ((opening, 10 * options.rounds), (start, options.rounds)):
            times: dict[str, list[tuple[float, float]]] = {"verifying": [], "trusting": []}
            for turn in range(rounds):
                for how in list(times)[:: 1 if turn % 2 else -1]:
                    times[how].append(timed(lambda act=act, how=how: act(folder, how)))
            medians = {how: [median(one) for one in zip(*times[how], strict=True)] for how in times}
            wall, cpu = (medians["verifying"][i] / medians["trusting"][i] for i in (0, 1))
            for how, (seconds, busy) in medians.items():
                print(f"{act.__name__}, {how}: {seconds:.4f} s wall, {busy:.4f} s CPU")
            print(f"{act.__name__}: ratio {wall:.3f} wall, {cpu:.3f} CPU")
            result[act.__name__] = {**medians, "ratio": [wall, cpu]}
    finally:
        shutil.rmtree(home)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
