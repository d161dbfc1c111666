"""Make every store of one split complete: create, extract what is missing, report."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from ..featcache import catalog
from ..featcache.backends import resolve_device
from ..featcache.description import StoreDescription
from ..featcache.manifest import MANIFEST, read_manifest
from ..featcache.source import Source
from ..featcache.store import FeatureStore
from ..featcache.types import Modality
from .encode import Extraction, Job, Shares, check_bad
from .environment import library_versions
from .estimate import check_disk
from .extract import ExtractSpec, StoreReport
from .outputs import LoadedEncoder, describe_outputs
from .progress import Progress

# More is no faster on a CPU; a GPU that lacks the memory halves its batches.
_BATCH_SIZES = {"cpu": 32, "cuda": 256}


def fill_split(
    spec: ExtractSpec,
    source: Source,
    loaded: Sequence[LoadedEncoder],
    dataset: str,
    split: str,
    progress: Progress,
) -> list[StoreReport]:
    """Make the stores of one split complete and say what that took.

    Raises:
        DiskSpaceError: The disk cannot hold the features.
        TooManyBadItemsError: More items are unreadable than `spec` allows.
        FeatureRangeError: A feature is not finite in the stored type.
    """
    outputs = describe_outputs(spec, source, loaded, dataset, split)
    check_disk(outputs, source, spec.home)
    pairs_path = catalog.pairs_path(spec.home, dataset, split, source.fingerprint(split))
    if not pairs_path.is_file():
        catalog.write_pairs(pairs_path, source.pairs(split))
    batch_size = batch_size_of(spec)
    jobs = []
    for output in outputs:
        settings = {
            **output.loaded.settings,
            "batch_size": batch_size,
            "source": dict(spec.source),
        }
        folder = output.description.folder(spec.home)
        store = FeatureStore.create(
            folder,
            _as_begun(output.description, folder, asked=spec.rows_per_shard),
            versions=library_versions(),
            settings=settings,
        )
        jobs.append(Job(output=output, store=store))
    reports: list[StoreReport] = []
    for (modality, _), group in groupby(jobs, key=_pass_of):
        reports += _fill_pass(spec, source, list(group), modality, progress)
    return reports


def _as_begun(
    description: StoreDescription, folder: Path, *, asked: int | None
) -> StoreDescription:
    """Return `description` with the shards of a store that was begun beside other ones."""
    if asked is not None or not (folder / MANIFEST).is_file():
        return description
    begun = read_manifest(folder)["description"]["rows_per_shard"]
    return replace(description, rows_per_shard=begun)


def batch_size_of(spec: ExtractSpec) -> int:
    """Return the items per forward pass: as asked, or the default of the device."""
    return spec.batch_size or _BATCH_SIZES[resolve_device(spec.device).type]


def _pass_of(job: Job) -> tuple[Modality, int]:
    return job.output.encoder.modality, job.store.description.rows_per_shard


def _fill_pass(
    spec: ExtractSpec, source: Source, jobs: list[Job], modality: Modality, progress: Progress
) -> list[StoreReport]:
    """Fill stores of one modality and equal rows per shard from one pass over the items."""
    began = time.perf_counter()
    split = jobs[0].store.description.split
    items = source.items(split, modality)
    max_bad = spec.allowed_bad(len(items))
    open_jobs = [job for job in jobs if not job.store.complete]
    missing = {id(job): job.store.missing_shards() for job in open_jobs}
    shares = Shares()
    if open_jobs:
        union = sorted({index for found in missing.values() for index in found})
        to_do = sum(len(open_jobs[0].store.shard_items(index)) for index in union)
        extraction = Extraction(
            open_jobs,
            items,
            batch_size=batch_size_of(spec),
            workers=spec.workers,
            max_bad=max_bad,
            progress=progress,
        )
        label = f"{split} {modality.value}s"
        progress.start(label, len(items), unit="items", done=len(items) - to_do)
        try:
            extraction.run()
        finally:
            progress.finish()
        shares = extraction.shares
        progress.note(f"{label}: time went to {shares.describe()}")
    for job in reversed(jobs):  # so that what was named first is the newest
        check_bad(job.store.skipped(), len(items), max_bad)
        job.store.touch()
    reports = []
    for job in jobs:
        indices = missing.get(id(job), [])
        description = job.store.description
        reports.append(
            StoreReport(
                encoder=description.encoder,
                modality=description.modality,
                layer=description.layer,
                kind=description.kind,
                split=split,
                folder=job.store.folder,
                key=description.key,
                rows=job.store.num_rows,
                tokens=job.store.num_tokens,
                bytes=job.store.num_bytes,
                encoded=sum(len(job.store.shard_items(index)) for index in indices),
                skipped=tuple(job.store.skipped()),
                seconds=time.perf_counter() - began,
                shares=vars(shares),
            )
        )
    return reports
