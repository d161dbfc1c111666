"""Estimate the cost of an extraction before it begins: rows, bytes, memory and minutes."""

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...featcache.modalities import reader_of
from ...featcache.sources.base import Source
from ...featcache.store.catalog import StoreEntry
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.item_rows import BLOCK_ELEMENTS
from ...featcache.store.manifest import read_whole_manifest
from ...featcache.store.stored_types import token_bytes
from ...featcache.types import Item
from ..common.progress import SILENT, Progress
from ..common.versions import library_versions
from .derive import BLOCKS_HELD, Derivation
from .exportable import note_exports
from .filling import StoreJob
from .loaded_encoder import load_all, splits_with_items
from .opening import open_all
from .origins import as_begun, begun_manifest, find_origins, name_of, pass_of
from .outputs import Output, describe_outputs
from .reports import Estimate, StoreEstimate
from .shard_writer import ShardWriter
from .sizes import estimate_store, free_bytes, uncompressed_bytes
from .spec import ExtractSpec
from .throughput import fitting_batch_size, overlaps

_WARM_BATCHES = 1
_TIMED_BATCHES = 4
_TIMED_SORTED_BATCHES = 32  # as batches of similar length take many items to choose from


def run(spec: ExtractSpec, progress: Progress = SILENT) -> Estimate:
    """Estimate what `extract` with `spec` would do; nothing is left on disk.

    Raises:
        LightalignError: The dataset or the weights are not usable.
    """
    opened = open_all(spec, progress)
    loaded = load_all(spec, opened, progress)
    note_exports(spec, [loaded_encoder.encoder for loaded_encoder in loaded], progress)
    estimates: list[StoreEstimate] = []
    seconds = 0.0
    buffers = 0
    for split in splits_with_items(opened, loaded, progress):
        outputs = describe_outputs(spec, opened, loaded, split)
        by_key: dict[str, StoreEstimate] = {}
        # passes are one after the other: their seconds add up, their memory does not
        for group, origin in _passes(spec, outputs):
            pass_estimates, pass_seconds = _estimate_pass(spec, opened.source, group, origin)
            seconds += pass_seconds
            if pass_seconds:
                buffers = max(buffers, _pass_buffer(group, pass_estimates, origin))
            by_key |= {estimate.key: estimate for estimate in pass_estimates}
        estimates += [by_key[output.description.key] for output in outputs]
    return Estimate(
        stores=tuple(estimates),
        missing_bytes=sum(estimate.missing_bytes for estimate in estimates),
        free_bytes=free_bytes(spec.home),
        peak_memory_bytes=_resident_bytes() + buffers,
        minutes=seconds / 60,
    )


def _passes(
    spec: ExtractSpec, outputs: Sequence[Output]
) -> list[tuple[list[Output], StoreEntry | None]]:
    """Return the stores that extraction would fill together, and what they are derived from."""
    origins = find_origins(spec, outputs)
    groups: dict[object, tuple[list[Output], StoreEntry | None]] = {}
    for output in outputs:
        begun = replace(output, description=as_begun(output.description, spec.home))
        origin = origins.get(output.description.key)
        group, _ = groups.setdefault(pass_of(begun.description, origin), ([], origin))
        group.append(begun)
    return list(groups.values())


def _estimate_pass(
    spec: ExtractSpec, source: Source, group: Sequence[Output], origin: StoreEntry | None
) -> tuple[list[StoreEstimate], float]:
    """Return what the stores of one pass will hold, and the seconds that it will take."""
    estimates = [estimate_store(output, source, spec.home) for output in group]
    items = _items_to_do(group, spec.home)
    if not items:
        return estimates, 0.0
    if origin is not None:
        name = name_of(origin)
        derived = [
            replace(estimate, derived_from=name) if estimate.missing else estimate
            for estimate in estimates
        ]
        return derived, items * _seconds_to_derive(source, group, origin)
    per_item, ratios = _probe(spec, source, group)
    scaled = [
        replace(
            estimate,
            bytes=round(estimate.bytes * ratio),
            missing_bytes=round(estimate.missing_bytes * ratio),
        )
        for estimate, ratio in zip(estimates, ratios, strict=True)
    ]
    return scaled, items * per_item


def _items_to_do(group: Sequence[Output], home: Path) -> int:
    """Return how many items one pass looks at: those of every shard that any store lacks."""
    missing: set[int] = set()
    for output in group:
        manifest = begun_manifest(output.description, home)
        if manifest is None:
            return output.description.num_items
        missing.update(FeatureStore(output.description.folder(home), manifest).missing_shards())
    return sum(len(group[0].description.shard_items(index)) for index in missing)


def _seconds_to_derive(source: Source, group: Sequence[Output], origin: StoreEntry) -> float:
    """Return the seconds of one item, from tokens that are really read and reduced."""
    described = group[0].description
    ids = source.ids(described.split, group[0].encoder.modality)
    count = min(len(ids), origin.description.rows_per_shard)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lightalign-") as folder:
        jobs = _probe_jobs(group, count, Path(folder))
        Derivation(jobs, origin.folder, ids, max_bad=count, progress=SILENT).run()
    return (time.perf_counter() - began) / max(1, count)


def _probe(spec: ExtractSpec, source: Source, group: Sequence[Output]) -> tuple[float, list[float]]:
    """Time some batches through the real pipeline into a folder that is removed again.

    Returns:
        Seconds of one item, and for each output stored bytes over uncompressed ones.
    """
    loaded = [output.loaded for output in group]
    batch_size = spec.batch_size or fitting_batch_size(loaded, spec.device)
    modality = group[0].encoder.modality
    items = group[0].items(source)
    timed_batches = (
        _TIMED_SORTED_BATCHES if reader_of(modality).sorted_by_length else _TIMED_BATCHES
    )
    count = min(len(items), batch_size * (_WARM_BATCHES + timed_batches))
    sample = [items[index] for index in np.linspace(0, len(items) - 1, count).astype(int).tolist()]
    # the first batch also pays for memory and for kernels that are chosen by trial
    warm = sample[: batch_size * _WARM_BATCHES]
    _extract(spec, group, warm, batch_size)
    timed = sample[len(warm) :] or warm
    began = time.perf_counter()
    stored = _extract(spec, group, timed, batch_size)
    seconds = time.perf_counter() - began
    # what is not compressed is counted exactly, the sample's own overhead aside
    ratios = [1.0] * len(group)
    if spec.compression != "none":
        ids = [item.id for item in timed]
        plain = [
            uncompressed_bytes(_with_items(output, len(timed)), timed, ids) for output in group
        ]
        ratios = [compressed / raw for compressed, raw in zip(stored, plain, strict=True)]
    return seconds / len(timed), ratios


def _extract(
    spec: ExtractSpec, group: Sequence[Output], items: Sequence[Item], batch_size: int
) -> list[int]:
    """Extract some items into a temporary folder and return the bytes of each store."""
    with tempfile.TemporaryDirectory(prefix="lightalign-") as folder:
        jobs = _probe_jobs(group, len(items), Path(folder))
        ShardWriter(
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


def _probe_jobs(group: Sequence[Output], count: int, folder: Path) -> list[StoreJob]:
    """Begin stores of so many items in a folder."""
    jobs = []
    for number, output in enumerate(group):
        probe = _with_items(output, count)
        store = FeatureStore.create(
            folder / str(number), probe.description, versions=library_versions()
        )
        jobs.append(StoreJob(output=probe, store=store))
    return jobs


def _with_items(output: Output, count: int) -> Output:
    description = replace(output.description, num_items=count, rows_per_shard=max(1, count))
    return replace(output, description=description)


def _pass_buffer(
    group: Sequence[Output], estimates: Sequence[StoreEstimate], origin: StoreEntry | None
) -> int:
    """Return the bytes of what one pass holds in memory beside encoders."""
    shards = 0
    for output, estimate in zip(group, estimates, strict=True):
        rows = min(output.description.rows_per_shard, estimate.rows)
        # collected, joined, and being written
        shards += 3 * rows * estimate.bytes // max(1, estimate.rows)
    if origin is None:
        return shards
    receipts = FeatureStore(origin.folder, read_whole_manifest(origin.folder)).receipts()
    largest: int = max(receipt["tokens"] for receipt in receipts)
    what = origin.description
    shard = largest * token_bytes(what.dtype, what.width)
    block = min(BLOCK_ELEMENTS, largest * what.width) * 4  # float32
    return shards + shard + BLOCKS_HELD * block


def _resident_bytes() -> int:
    """Return the largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes
