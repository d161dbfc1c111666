"""Make every store of one split complete: create, extract what is missing, report."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from ..featcache import catalog, files, notes
from ..featcache.backends import resolve_device
from ..featcache.description import StoreDescription
from ..featcache.errors import StoreCorruptError
from ..featcache.locks import owning_split
from ..featcache.manifest import has_manifest, read_whole_manifest
from ..featcache.residency import free_memory
from ..featcache.source import Source
from ..featcache.store import FeatureStore
from ..featcache.text_marks import marked_pairs
from ..featcache.types import Modality
from .encode import Extraction, Job, Shares, removals_told
from .environment import library_versions
from .estimate import check_disk
from .extract import ExtractSpec, Opened, StoreReport
from .outputs import LoadedEncoder, Output, describe_outputs
from .progress import SILENT, Progress
from .ready import check_bad

_BATCH_SIZES = {"cpu": 32, "cuda": 256}  # more are no faster
_CORES_A_WORKER = 4  # from here on the cores that decoding takes are few among many
_MOST_ROWS_LISTED = 1000  # of those that cannot be read: a manifest is no copy of a broken table
_MEMORY_SHARE = 0.5  # of what is free: operations need memory that no probe sees


def fill(
    spec: ExtractSpec,
    opened: Opened,
    loaded: Sequence[LoadedEncoder],
    splits: Sequence[str],
    progress: Progress,
    *,
    makes_newest: bool = True,
) -> list[StoreReport]:
    """Make the stores of some splits complete and say what that took.

    Raises:
        DiskSpaceError: The disk cannot hold the features.
        LightalignError: See `fill_split`.
    """
    source = opened.source
    outputs = {
        split: describe_outputs(spec, source, loaded, opened.dataset, split) for split in splits
    }
    check_disk([output for found in outputs.values() for output in found], source, spec.home)
    return [
        report
        for described in outputs.values()
        for report in fill_split(spec, source, described, progress, makes_newest=makes_newest)
    ]


def fill_split(
    spec: ExtractSpec,
    source: Source,
    outputs: Sequence[Output],
    progress: Progress,
    *,
    makes_newest: bool = True,
) -> list[StoreReport]:
    """Make the stores of one split complete and say what that took.

    Verbs take the newest stores when they are not told which; a repair makes none newer.

    Raises:
        DatasetChangedError: A file that was there can no longer be read.
        TooManyBadItemsError: More items are unreadable than `spec` allows.
        FeatureRangeError: A feature is not finite in the stored type.
    """
    batch_size = _batch_size(spec, outputs, progress)
    jobs = _cached_jobs(spec, outputs)
    if jobs is None:
        split = outputs[0].description.folder(spec.home).parent
        with owning_split(split, progress.note):
            files.clear_abandoned(split)
            _ensure_pairs(spec.home, source, outputs[0].description)
            jobs = _begin(spec, source, outputs, batch_size, progress)
    reports: list[StoreReport] = []
    for (modality, _), group in groupby(jobs, key=_pass_of):
        filled = list(group)
        reports += _fill_pass(spec, source, filled, modality, batch_size, progress)
        if makes_newest:
            for job in reversed(filled):  # so that what was named first is the newest
                _make_newest(job.store, progress)
    return reports


def _make_newest(store: FeatureStore, progress: Progress) -> None:
    with removals_told([store.folder]):
        newest = store.touch()
    if not newest:
        progress.note(
            f"{store.folder} cannot be written and so not be made the newest: name its encoder "
            "and features where more than one fit"
        )


def _cached_jobs(spec: ExtractSpec, outputs: Sequence[Output]) -> list[Job] | None:
    """Return the stores of a split if nothing of it is to be written, else None.

    They may be another user's, or on a read-only file system.
    """
    jobs = []
    path = _pairs_path(spec.home, outputs[0].description)
    try:
        pairs = catalog.read_pairs(path)
    except StoreCorruptError:
        return None
    if pairs.text_marks is None and pairs.text_ids and os.access(path.parent, os.W_OK):
        return None  # an earlier version did not say which texts are the same
    for output in outputs:
        store = FeatureStore.cached(output.description.folder(spec.home), output.description)
        if store is None:
            return None
        jobs.append(Job(output=output, store=store))
    return jobs


def _begin(
    spec: ExtractSpec,
    source: Source,
    outputs: Sequence[Output],
    batch_size: int,
    progress: Progress,
) -> list[Job]:
    """Open the stores of a split for writing; its lock is held."""
    jobs = []
    skipped_rows = _ledger_of_rows(source)
    for output in outputs:
        settings = {
            **output.loaded.settings,
            "batch_size": batch_size,
            "source": dict(spec.source),
            **skipped_rows,
        }
        description = _as_begun(output.description, spec)
        store = FeatureStore.create(
            description.folder(spec.home),
            description,
            versions=library_versions(),
            settings=settings,
            tell=progress.note,
        )
        jobs.append(Job(output=output, store=store))
    return jobs


def _ledger_of_rows(source: Source) -> dict[str, Any]:
    """Return what a manifest says of the rows of a table that cannot be read, if there are any."""
    rows = source.skipped_rows()
    if not rows:
        return {}
    listed = [asdict(row) for row in rows[:_MOST_ROWS_LISTED]]
    return {"skipped_rows": listed, "num_skipped_rows": len(rows)}


def _ensure_pairs(home: Path, source: Source, description: StoreDescription) -> None:
    """Write the pairs of a split where they are missing, damaged, or of an earlier version."""
    path = _pairs_path(home, description)
    try:
        pairs = catalog.read_pairs(path)
        if pairs.text_marks is not None or not pairs.text_ids:
            return
    except StoreCorruptError:
        if path.exists():
            notes.note(f"the pairs in {path} are damaged: they are written again")
    catalog.write_pairs(path, marked_pairs(source, description.split))


def _pairs_path(home: Path, description: StoreDescription) -> Path:
    return catalog.pairs_path(home, description.dataset, description.split, description.source)


def _as_begun(description: StoreDescription, spec: ExtractSpec) -> StoreDescription:
    """Return `description` with the shards of a store that was begun beside other ones."""
    begun = _begun(description, spec.home)
    if begun is None or spec.rows_per_shard is not None:
        return description
    return replace(description, rows_per_shard=begun["description"]["rows_per_shard"])


def _begun(description: StoreDescription, home: Path) -> Mapping[str, Any] | None:
    """Return the manifest of a store that was begun, by another process just now perhaps."""
    folder = description.folder(home)
    return read_whole_manifest(folder) if has_manifest(folder) else None


def _batch_size(spec: ExtractSpec, outputs: Sequence[Output], progress: Progress) -> int:
    """Return the batch size as asked, else that of a store that was begun, else one that fits.

    A store that was begun goes on as it was, so that an interruption never changes its bytes.
    """
    if spec.batch_size is not None:
        return spec.batch_size
    begun = [_begun(output.description, spec.home) for output in outputs]
    sizes = [manifest["settings"].get("batch_size") for manifest in begun if manifest]
    found = next((size for size in sizes if size), None)
    return found or fitting_batch_size([output.loaded for output in outputs], spec.device, progress)


def overlaps(spec: ExtractSpec) -> bool:
    """Say whether items are best prepared while encoders run.

    On few cores they are not: each thread that decodes takes the core of one that computes, and
    the others of a matrix product wait for that one.
    """
    on_cpu = resolve_device(spec.device).type == "cpu"
    return not on_cpu or torch.get_num_threads() > _CORES_A_WORKER * spec.workers


def fitting_batch_size(
    loaded: Sequence[LoadedEncoder], device_name: str, progress: Progress = SILENT
) -> int:
    """Return the batch size that is fast on the device, or half of it until it fits the memory."""
    device = resolve_device(device_name)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    largest = max(loaded, key=lambda one: one.item_bytes)
    usual = size = _BATCH_SIZES[device.type]
    while size > 1 and size * largest.item_bytes > _MEMORY_SHARE * free:
        size //= 2
    if size < usual:
        progress.note(
            f"batch size {size} instead of {usual}: one item takes up to "
            f"{largest.item_bytes / 1e6:.0f} MB in {largest.encoder.name}, "
            f"{free / 1e9:.1f} GB are free"
        )
    return size


def _pass_of(job: Job) -> tuple[Modality, int]:
    return job.output.encoder.modality, job.store.description.rows_per_shard


def _fill_pass(
    spec: ExtractSpec,
    source: Source,
    jobs: list[Job],
    modality: Modality,
    batch_size: int,
    progress: Progress,
) -> list[StoreReport]:
    """Fill stores of one modality and equal rows per shard from one pass over the items."""
    began = time.perf_counter()
    first = jobs[0].store.description
    split = first.split
    items = source.items(split, modality)
    max_bad = spec.allowed_bad(len(items))
    open_jobs = [job for job in jobs if not job.store.complete]
    shares = Shares()
    written: Mapping[Path, int] = {}
    if open_jobs:
        union = {index for job in open_jobs for index in job.store.missing_shards()}
        to_do = sum(len(open_jobs[0].store.shard_items(index)) for index in union)
        extraction = Extraction(
            open_jobs,
            items,
            batch_size=batch_size,
            workers=spec.workers,
            max_bad=max_bad,
            overlap=overlaps(spec),
            unchanged=lambda: source.fingerprint(split) == first.source,
            progress=progress,
        )
        label = f"{split} {modality.value}s"
        progress.start(label, len(items), unit="items", done=len(items) - to_do)
        try:
            extraction.run()
        finally:
            progress.finish()
        shares = extraction.shares
        written = extraction.num_written
        progress.note(f"{label}: time went to {shares.describe()}")
    for job in jobs:
        check_bad(job.store.skipped(), len(items), max_bad)
    seconds = time.perf_counter() - began
    return [_report(job.store, written.get(job.store.folder, 0), seconds, shares) for job in jobs]


def _report(store: FeatureStore, encoded: int, seconds: float, shares: Shares) -> StoreReport:
    description = store.description
    return StoreReport(
        encoder=description.encoder,
        modality=description.modality,
        layer=description.layer,
        kind=description.kind,
        split=description.split,
        folder=store.folder,
        key=description.key,
        rows=store.num_rows,
        tokens=store.num_tokens,
        bytes=store.num_bytes,
        encoded=encoded,
        skipped=tuple(store.skipped()),
        seconds=seconds,
        shares=vars(shares),
    )
