"""Say what an extraction will cost before it begins: rows, bytes, memory and minutes."""

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..featcache.dtypes import token_bytes
from ..featcache.errors import DiskSpaceError, UnreadableItemError
from ..featcache.manifest import has_manifest, read_whole_manifest
from ..featcache.source import Source
from ..featcache.store import FeatureStore
from ..featcache.types import PER_ROW, Item, Modality
from .encode import Extraction
from .environment import library_versions
from .exportable import note_exports
from .extract import (
    Estimate,
    ExtractSpec,
    StoreEstimate,
    load_all,
    open_all,
    splits_with_items,
)
from .filling import Job
from .outputs import Output, describe_outputs
from .progress import SILENT, Progress

_LENGTH_SAMPLE = 4096  # texts whose lengths are counted: their mean is known to about 0.5 %
_WARM_BATCHES = 1
# Of texts more, as batches of similar length take many texts to choose from.
_TIMED_BATCHES = {Modality.IMAGE: 4, Modality.TEXT: 32}
# Bytes of one line of each array that may stand beside the features.
_COMPANION_BYTES = {
    "token_ids": 4,
    "special_tokens": 1,
    "character_spans": 8,
    "geometry": 32,
}


def run(spec: ExtractSpec, progress: Progress = SILENT) -> Estimate:
    """Estimate what `extract` with `spec` would do; nothing is left on disk.

    Raises:
        LightalignError: The dataset or the weights are not usable.
    """
    opened = open_all(spec, progress)
    loaded = load_all(spec, opened, progress)
    note_exports(spec, [one.encoder for one in loaded], progress)
    estimates: list[StoreEstimate] = []
    seconds = 0.0
    buffers = 0
    for split in splits_with_items(opened, loaded, progress):
        outputs = describe_outputs(spec, opened.source, loaded, opened.dataset, split)
        for group in _passes(outputs):
            found = [estimate_store(output, opened.source, spec.home) for output in group]
            estimates += found
            most = max(one.missing for one in found)
            if most:
                per_item, ratios = _probe(spec, opened.source, split, group)
                seconds += per_item * most
                estimates[-len(found) :] = [
                    replace(
                        one,
                        bytes=round(one.bytes * ratio),
                        missing_bytes=round(one.missing_bytes * ratio),
                    )
                    for one, ratio in zip(found, ratios, strict=True)
                ]
                held = sum(map(_shard_buffer, group, estimates[-len(found) :]))
                buffers = max(buffers, held)
    return Estimate(
        stores=tuple(estimates),
        missing_bytes=sum(one.missing_bytes for one in estimates),
        free_bytes=free_bytes(spec.home),
        peak_memory_bytes=_resident_bytes() + buffers,
        minutes=seconds / 60,
    )


def estimate_store(output: Output, source: Source, home: Path) -> StoreEstimate:
    """Return what one store will hold, uncompressed; text lengths are counted on a sample.

    Of a complete store it is what it does hold.
    """
    description = output.description
    folder = description.folder(home)
    rows = missing = description.num_items
    total = None
    if has_manifest(folder):
        store = FeatureStore(folder, read_whole_manifest(folder))
        missing = sum(len(store.shard_items(index)) for index in store.missing_shards())
        total = None if missing else store.num_bytes
    if total is None:
        items = source.items(description.split, output.encoder.modality)
        total = _bytes_of(output, items, source.ids(description.split, output.encoder.modality))
    return StoreEstimate(
        encoder=description.encoder,
        split=description.split,
        layer=description.layer,
        kind=description.kind,
        key=description.key,
        rows=rows,
        missing=missing,
        bytes=total,
        missing_bytes=round(total * missing / max(1, rows)),
    )


def check_disk(outputs: Sequence[Output], source: Source, home: Path) -> None:
    """Refuse to start what the disk cannot hold; compressed stores count as if they were not.

    How far features shrink is not known before they are there; `--dry-run` measures it.

    Raises:
        DiskSpaceError: The disk of `home` has less left than the missing shards need.
    """
    needed = sum(estimate_store(output, source, home).missing_bytes for output in outputs)
    free = free_bytes(home)
    if needed > free:
        raise DiskSpaceError(
            f"the features need {needed / 1e6:,.1f} MB, the disk of {home} has {free / 1e6:,.1f} "
            "MB left: name another --home, or keep less (--features mean, --dtype int8)"
        )


def free_bytes(folder: Path) -> int:
    """Return the free bytes of the disk that `folder` is or will be on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _passes(outputs: Sequence[Output]) -> list[list[Output]]:
    groups: dict[object, list[Output]] = {}
    for output in outputs:
        groups.setdefault(output.encoder.modality, []).append(output)
    return list(groups.values())


def _bytes_of(output: Output, items: Sequence[Item], ids: Sequence[str]) -> int:
    description = output.description
    rows = len(items)
    tokens = description.tokens_per_item
    num_tokens = rows * tokens if tokens is not None else _count_tokens(output, items)
    total = num_tokens * token_bytes(description.dtype, description.width)
    total += rows * 8 if tokens is None else 0  # offsets
    for name in description.companions:
        total += _COMPANION_BYTES[name] * (rows if name in PER_ROW else num_tokens)
    for first in range(0, rows, description.rows_per_shard):
        last = min(first + description.rows_per_shard, rows)
        longest = max(len(ids[index].encode()) for index in range(first, last))
        total += longest * (last - first)  # ids are as wide as the longest of their shard
    return total


def _count_tokens(output: Output, items: Sequence[Item]) -> int:
    """Return the tokens of all items, from a sample spread over them."""
    sample = np.unique(np.linspace(0, len(items) - 1, _LENGTH_SAMPLE).astype(int)).tolist()
    sizes = [_size(output, items[index]) for index in sample]
    return round(float(np.mean(sizes)) * len(items))


def _size(output: Output, item: Item) -> int:
    try:
        return output.encoder.size(output.encoder.prepare(item))
    except UnreadableItemError:
        return 0


def _probe(
    spec: ExtractSpec, source: Source, split: str, group: Sequence[Output]
) -> tuple[float, list[float]]:
    """Time some batches through the real pipeline into a folder that is removed again.

    Returns:
        Seconds of one item, and for each output stored bytes over uncompressed ones.
    """
    from .fill import fitting_batch_size

    loaded = [output.loaded for output in group]
    batch_size = spec.batch_size or fitting_batch_size(loaded, spec.device)
    items = source.items(split, group[0].encoder.modality)
    num_batches = _WARM_BATCHES + _TIMED_BATCHES[group[0].encoder.modality]
    count = min(len(items), batch_size * num_batches)
    sample = [items[index] for index in np.linspace(0, len(items) - 1, count).astype(int).tolist()]
    warm = sample[: batch_size * _WARM_BATCHES]
    _extract(spec, group, warm, batch_size)
    timed = sample[len(warm) :] or warm
    began = time.perf_counter()
    stored = _extract(spec, group, timed, batch_size)
    seconds = time.perf_counter() - began
    ratios = [1.0] * len(group)
    if spec.compression != "none":
        ids = [item.id for item in timed]
        plain = [_bytes_of(_with_items(output, len(timed)), timed, ids) for output in group]
        ratios = [found / raw for found, raw in zip(stored, plain, strict=True)]
    return seconds / len(timed), ratios


def _extract(
    spec: ExtractSpec, group: Sequence[Output], items: Sequence[Item], batch_size: int
) -> list[int]:
    """Extract some items into a temporary folder and return the bytes of each store."""
    from .fill import overlaps

    with tempfile.TemporaryDirectory(prefix="lightalign-") as folder:
        jobs = []
        for number, output in enumerate(group):
            probe = _with_items(output, len(items))
            store = FeatureStore.create(
                Path(folder) / str(number), probe.description, versions=library_versions()
            )
            jobs.append(Job(output=probe, store=store))
        Extraction(
            jobs,
            items,
            batch_size=batch_size,
            workers=spec.workers,
            max_bad=len(items),
            overlap=overlaps(spec),
            unchanged=lambda: True,
            progress=SILENT,
        ).run()
        return [job.store.num_bytes for job in jobs]


def _with_items(output: Output, count: int) -> Output:
    description = replace(output.description, num_items=count, rows_per_shard=max(1, count))
    return replace(output, description=description)


def _shard_buffer(output: Output, estimate: StoreEstimate) -> int:
    """Return the bytes of one store's shards in memory: collected, joined, and being written."""
    rows = min(output.description.rows_per_shard, estimate.rows)
    return 3 * rows * estimate.bytes // max(1, estimate.rows)


def _resident_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes
