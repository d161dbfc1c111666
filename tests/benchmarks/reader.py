"""Compare our reader with NumPy, zarr-python and h5py: `python tests/benchmarks/reader.py`.

Writes stores of random numbers with `FeatureStore` into a temporary folder, which is removed at the
end: images as 197 tokens of 384 float16, texts as 8 to 40 of them, and one pooled vector a row.
Reads batches of 256 random rows with every contender in turn, all in this process and from a warm
page cache, and compares medians. Prints a table, and as its last line one JSON object with the
ratios: ours over theirs, in rows per second, so that more than one is faster.

`--quick` takes smaller stores and ends within a minute.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import h5py
import numpy as np

from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.types import Features

WIDTH = 384
PATCHES = 197
SHORTEST, LONGEST = 8, 40  # tokens of a text
BATCH = 256
SHARD_BYTES = 2**26
LIBRARIES = ("zarr-python oindex", "h5py fancy")

Read = Callable[[np.ndarray], object]


@dataclass(frozen=True)
class Scale:
    """Say how much is written and measured.

    Attributes:
        image_bytes: Bytes of an image store.
        text_bytes: Bytes of a text store, and of a store of pooled vectors.
        repeats: Batches of each contender; a slow one stops after `seconds`.
        seconds: Most seconds for one contender.
    """

    image_bytes: int
    text_bytes: int
    repeats: int
    seconds: float


FULL = Scale(image_bytes=4_000_000_000, text_bytes=1_000_000_000, repeats=60, seconds=10)
QUICK = Scale(image_bytes=400_000_000, text_bytes=100_000_000, repeats=30, seconds=2)


def write_store(
    folder: Path, container: str, tokens: int | None, num_bytes: int
) -> list[np.ndarray]:
    """Write a store, and its values as one array to `values.bin`; return the lengths by shard."""
    random = np.random.default_rng(0)
    mean = tokens or (SHORTEST + LONGEST) / 2
    num_rows = int(num_bytes / (mean * WIDTH * 2))
    description = StoreDescription(
        dataset="random",
        split="train",
        source="random",
        encoder="random",
        identity={},
        modality="image" if tokens else "text",
        width=WIDTH,
        tokens_per_item=tokens,
        num_items=num_rows,
        rows_per_shard=int(SHARD_BYTES / (mean * WIDTH * 2)),
        container=container,
    )
    store = FeatureStore.create(folder / container, description, versions={})
    all_lengths = []
    with (folder / "values.bin").open("wb") as plain:
        for index in range(store.num_shards):
            items = store.shard_items(index)
            lengths = (
                np.full(len(items), tokens)
                if tokens
                else random.integers(SHORTEST, LONGEST + 1, len(items))
            )
            offsets = np.cumsum([0, *lengths]).astype(np.int64)
            values = random.standard_normal((offsets[-1], WIDTH), np.float32).astype(np.float16)
            ids = tuple(f"{item:08d}" for item in items)
            store.write_shard(index, Features(values, offsets, ids), [])
            plain.write(values.data)
            all_lengths.append(lengths)
    store.finish()
    return all_lengths


def zarr_python(folder: Path, shards: int) -> list[object]:
    import zarr

    group = zarr.open_group(folder, mode="r")
    return [group[f"shard-{index:05d}"]["values"] for index in range(shards)]


def by_shard(arrays: list, first_rows: np.ndarray, select: Callable) -> Read:
    """Read rows of several arrays, each of its own once and in order, as h5py demands it."""

    def read(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), *arrays[0].shape[1:]), np.float16)
        shard = np.searchsorted(first_rows, rows, side="right") - 1
        for index in np.unique(shard).tolist():
            here = np.flatnonzero(shard == index)
            local, inverse = np.unique(rows[here] - first_rows[index], return_inverse=True)
            out[here] = select(arrays[index], local)[inverse]
        return out

    return read


def memmap_loop(folder: Path, lengths: list[np.ndarray]) -> Read:
    """Read ragged rows as one would by hand: offsets, a memory map, a loop."""
    ends = np.cumsum(np.concatenate(lengths))
    starts = ends - np.concatenate(lengths)
    values = np.memmap(folder / "values.bin", np.float16, mode="r").reshape(-1, WIDTH)

    def read(rows: np.ndarray) -> np.ndarray:
        sizes = ends[rows] - starts[rows]
        out = np.empty((int(sizes.sum()), WIDTH), np.float16)
        place = 0
        for row, size in zip(rows.tolist(), sizes.tolist(), strict=True):
            out[place : place + size] = values[starts[row] : ends[row]]
            place += size
        return out

    return read


def contenders(
    folder: Path, container: str, tokens: int | None, lengths: list[np.ndarray]
) -> tuple[dict[str, Read], int]:
    """Return what to compare by name, ours first, and the number of rows."""
    reader = FeatureReader(folder / container, residency="disk")
    if tokens is None:
        return {"ours": reader.gather, "memmap loop": memmap_loop(folder, lengths)}, len(reader)
    shape = (len(reader), tokens, WIDTH)
    plain = np.memmap(folder / "values.bin", np.float16, mode="r", shape=shape)
    mine, theirs = (np.empty((BATCH, tokens, WIDTH), np.float16) for _ in range(2))
    reads: dict[str, Read] = {
        "ours": reader.gather,
        "ours, host": FeatureReader(folder / container, residency="host").padded,
        "memmap": lambda rows: plain[rows],
        "ours, into": lambda rows: reader.gather_into(rows, mine),
        "memmap, into": lambda rows: np.take(plain, rows, axis=0, out=theirs, mode="clip"),
    }
    if container == "zarr":
        arrays = zarr_python(folder / container, len(lengths))
        select = lambda array, rows: array.oindex[rows]  # noqa: E731
        reads["zarr-python oindex"] = by_shard(arrays, reader.first_rows, select)
    else:
        paths = [reader.store.shard_path(index) for index in range(len(lengths))]
        arrays = [h5py.File(path)["values"] for path in paths]
        reads["h5py fancy"] = by_shard(arrays, reader.first_rows, lambda array, rows: array[rows])
    return reads, len(reader)


def warm(reads: dict[str, Read], num_rows: int) -> None:
    """Read every row once through both memory maps, so that all pages are mapped."""
    for name in ("ours", "ours, host", "memmap", "memmap loop"):
        for start in range(0, num_rows, BATCH) if name in reads else ():
            reads[name](np.arange(start, min(start + BATCH, num_rows)))


def measure(reads: dict[str, Read], num_rows: int, scale: Scale) -> dict[str, float]:
    """Return the median seconds of a batch of each contender, taken in turn in random order."""
    random = np.random.default_rng(1)
    seconds: dict[str, list[float]] = {name: [] for name in reads}
    for _ in range(scale.repeats):
        for name in random.permutation(list(reads)).tolist():
            if sum(seconds[name]) > scale.seconds:
                continue
            rows = random.integers(0, num_rows, BATCH)
            began = time.perf_counter()
            reads[name](rows)
            seconds[name].append(time.perf_counter() - began)
    return {name: median(times) for name, times in seconds.items()}


def compare(
    folder: Path, label: str, container: str, tokens: int | None, scale: Scale
) -> dict[str, float]:
    """Write one store, print a table of its contenders, and return ours over theirs."""
    num_bytes = scale.image_bytes if tokens == PATCHES else scale.text_bytes
    lengths = write_store(folder, container, tokens, num_bytes)
    reads, num_rows = contenders(folder, container, tokens, lengths)
    warm(reads, num_rows)
    # those that read whole shards would leave nothing of the others in the caches of the processor
    libraries = {name: read for name, read in reads.items() if name in LIBRARIES}
    ours = {name: read for name, read in reads.items() if name not in LIBRARIES}
    repeats = scale.repeats * (10 if tokens == 1 else 1)
    found = measure(ours, num_rows, replace(scale, repeats=repeats))
    found |= measure(libraries, num_rows, scale)
    batch_bytes = BATCH * WIDTH * 2 * (tokens or (SHORTEST + LONGEST) / 2)
    ratios = {}
    for name, seconds in found.items():
        same = found["ours, into" if name == "memmap, into" else "ours"]
        if name == "memmap" and tokens == 1:  # trainings read pooled rows so, and without ids
            same = found["ours, host"]
        ratio = "" if name.startswith("ours") else f"{seconds / same:8.2f}"
        speed = batch_bytes / seconds / 1e9
        print(f"| {label} | {container} | {name} | {seconds * 1e3:.3f} | {speed:.2f} | {ratio} |")
        if ratio:
            ratios[name] = round(seconds / same, 3)
    shutil.rmtree(folder)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        free = shutil.disk_usage(name).free
        if free < 2.5 * scale.image_bytes:  # a store and its plain copy at a time
            parser.error(f"{name} has {free / 1e9:.1f} GB free: name another --folder")
        print("| Rows | Format | Reader | ms per 256 rows | GB/s | Ours over it |")
        print("|---|---|---|---|---|---|", flush=True)
        ratios: dict[str, dict[str, dict[str, float]]] = {}
        rows = {"197 x 384": PATCHES, "8 to 40 x 384": None, "1 x 384": 1}
        for label, tokens in rows.items():
            for container in ("zarr", "hdf5"):
                folder = Path(name) / f"{container}-{tokens}"
                folder.mkdir()
                found = compare(folder, label, container, tokens, scale)
                ratios.setdefault(label, {})[container] = found
    print(json.dumps({"ours_over_theirs": ratios}))


if __name__ == "__main__":
    main()
