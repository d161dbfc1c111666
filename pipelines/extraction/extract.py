"""Make every store of one split complete: create, extract what is missing, report."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...featcache import atomic_files, notes
from ...featcache.encoders.references import keep_card
from ...featcache.errors import StoreCorruptError
from ...featcache.known_datasets import newest, remember, stood_for
from ...featcache.modalities import reader_of
from ...featcache.sources.base import Source
from ...featcache.sources.text_marks import marked_pairs
from ...featcache.store import catalog
from ...featcache.store.catalog import StoreEntry
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.key import StoreDescription
from ...featcache.store.locks import owning_split
from ...featcache.types import Modality
from ..common import stopping
from ..common.progress import SILENT, Progress
from ..common.versions import library_versions
from .derive import Derivation
from .exportable import note_exports
from .filling import Filling, StageTimes, StoreJob, removals_told
from .loaded_encoder import LoadedEncoder, load_all, splits_with_items
from .opening import ResolvedExtraction, open_all, with_place
from .origins import as_begun, begun_manifest, find_origins, name_of, pass_of
from .outputs import Output, describe_outputs
from .prepared_items import check_skipped
from .reports import ExtractReport, StoreReport, ViewReport
from .shard_writer import ShardWriter
from .sizes import check_disk
from .spec import ExtractSpec
from .throughput import fitting_batch_size, overlaps

_MOST_ROWS_LISTED = 1000  # of those that cannot be read: a manifest is no copy of a broken table


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
        StoreCorruptError: Tokens that others are derived from differ from their checksums.
    """
    # without the lock first: a home that is complete may be on a read-only file system
    jobs = _cached_jobs(spec, outputs)
    origins: Mapping[str, StoreEntry] = {}
    if jobs is None:
        split = outputs[0].description.folder(spec.home).parent
        # two processes may begin one split: pairs and manifests are written by one of them
        with owning_split(split, progress.note):
            atomic_files.clear_abandoned(split)
            _ensure_pairs(spec.home, source, outputs[0].description)
            origins = find_origins(spec, outputs)
            jobs = _begin(spec, source, outputs, origins, progress)
    passes: dict[object, list[StoreJob]] = {}
    for job in jobs:
        origin = origins.get(job.output.description.key)
        passes.setdefault(pass_of(job.store.description, origin), []).append(job)
    reports: list[StoreReport] = []
    for group in passes.values():
        origin = origins.get(group[0].output.description.key)
        reports += _fill_pass(spec, source, group, origin, progress)
    # backwards, so that what was named first is the newest
    for job in reversed(jobs) if makes_newest else ():
        folder = job.store.folder
        with removals_told([folder]):
            touched = job.store.touch()
        if not touched:
            progress.note(
                f"{folder} cannot be written and so not be made the newest: name its encoder "
                "and features where more than one fit"
            )
    return reports


def _cached_jobs(spec: ExtractSpec, outputs: Sequence[Output]) -> list[StoreJob] | None:
    """Return the stores of a split if nothing of it is to be written, else None.

    They may be another user's, or on a read-only file system.
    """
    jobs = []
    path = _pairs_path(spec.home, outputs[0].description)
    try:
        pairs = catalog.read_pairs(path)
    except StoreCorruptError:
        return None
    # an earlier version did not say which texts are the same
    if (
        pairs.text_marks is None
        and len(pairs.ids_of(Modality.TEXT))
        and os.access(path.parent, os.W_OK)
    ):
        return None
    for output in outputs:
        store = FeatureStore.cached(output.description.folder(spec.home), output.description)
        if store is None:
            return None
        jobs.append(StoreJob(output=output, store=store))
    return jobs


def _begin(
    spec: ExtractSpec,
    source: Source,
    outputs: Sequence[Output],
    origins: Mapping[str, StoreEntry],
    progress: Progress,
) -> list[StoreJob]:
    """Open the stores of a split for writing; its lock is held."""
    encoded = [output for output in outputs if output.description.key not in origins]
    batch_size = None
    if not all(begun_manifest(output.description, spec.home) for output in encoded):
        batch_size = _batch_size(spec, encoded, progress)
    of_source: dict[str, Any] = {"source": dict(spec.source)}
    unreadable = source.skipped_rows()
    if unreadable:
        listed = [asdict(row) for row in unreadable[:_MOST_ROWS_LISTED]]
        of_source |= {"skipped_rows": listed, "num_skipped_rows": len(unreadable)}
    jobs = []
    for output in outputs:
        origin = origins.get(output.description.key)
        made_by: dict[str, Any] = {"batch_size": batch_size}
        if origin is not None:
            made_by = {"derived_from": {"key": origin.key, "store": name_of(origin)}}
        description = output.description
        # a store goes on with the shards that it has, unless others are asked for
        if spec.rows_per_shard is None:
            description = as_begun(description, spec.home)
        store = FeatureStore.create(
            description.folder(spec.home),
            description,
            versions=library_versions(),
            settings={**output.loaded.settings, **made_by, **of_source},
            tell=progress.note,
        )
        jobs.append(StoreJob(output=output, store=store))
        begun_from = store.manifest["settings"].get("derived_from")
        if spec.derive and origin is None and begun_from is not None and not store.complete:
            progress.note(
                f"{store.folder} was begun from {begun_from['store']}, which is not there any more "
                "or not complete: what is missing is encoded"
            )
    return jobs


def _ensure_pairs(home: Path, source: Source, description: StoreDescription) -> None:
    """Write the pairs of a split where they are missing, damaged, or of an earlier version."""
    path = _pairs_path(home, description)
    try:
        pairs = catalog.read_pairs(path)
        if pairs.text_marks is not None or not len(pairs.ids_of(Modality.TEXT)):
            return
    except StoreCorruptError:
        if path.exists():
            notes.note(f"the pairs in {path} are damaged: they are written again")
    catalog.write_pairs(path, marked_pairs(source, description.split))


def _pairs_path(home: Path, description: StoreDescription) -> Path:
    return catalog.pairs_path(home, description.dataset, description.split, description.source)


def _batch_size(spec: ExtractSpec, outputs: Sequence[Output], progress: Progress) -> int:
    """Return the batch size as asked, else that of a store that was begun, else one that fits.

    A store that was begun goes on as it was, so that an interruption never changes its bytes.
    """
    if spec.batch_size is not None:
        return spec.batch_size
    begun = [begun_manifest(output.description, spec.home) for output in outputs]
    sizes = [manifest["settings"].get("batch_size") for manifest in begun if manifest]
    begun_size = next((size for size in sizes if size), None)
    return begun_size or fitting_batch_size(
        [output.loaded for output in outputs], spec.device, progress
    )


def _fill_pass(
    spec: ExtractSpec,
    source: Source,
    jobs: list[StoreJob],
    origin: StoreEntry | None,
    progress: Progress,
) -> list[StoreReport]:
    """Fill stores of one modality and equal rows per shard from one pass over items or tokens."""
    began = time.perf_counter()
    first = jobs[0].store.description
    modality = jobs[0].output.encoder.modality
    view = jobs[0].output.view
    num_items = len(jobs[0].output.items(source))
    max_bad = spec.allowed_bad(len(source.items(first.split, modality)))
    if view is not None:
        # an item that cannot be read lacks all its rows
        max_bad = view.most_rows(source, first.split, max_bad)
    open_jobs = [job for job in jobs if not job.store.complete]
    shares = StageTimes()
    if open_jobs:
        union = {index for job in open_jobs for index in job.store.missing_shards()}
        to_do = sum(len(open_jobs[0].store.shard_items(index)) for index in union)
        filling: Filling
        if origin is None:
            filling = _extraction(spec, source, open_jobs, max_bad=max_bad, progress=progress)
        else:
            ids = source.ids(first.split, modality)
            filling = Derivation(open_jobs, origin.folder, ids, max_bad=max_bad, progress=progress)
        label = f"{first.split} {reader_of(modality).plural}" + (" from tokens" if origin else "")
        label += "" if view is None else f" {view.name}"
        unit = "items" if view is None else "rows"
        progress.start(label, num_items, unit=unit, done=num_items - to_do)
        try:
            filling.run()
        finally:
            progress.finish()
        shares = filling.shares
        if origin is None:
            progress.note(f"{label}: time went to {shares.describe()}")
    for job in jobs:
        check_skipped(job.store.skipped(), num_items, max_bad)
    seconds = time.perf_counter() - began
    return [_report(job, origin, seconds, shares) for job in jobs]


def _extraction(
    spec: ExtractSpec, source: Source, jobs: list[StoreJob], *, max_bad: int, progress: Progress
) -> ShardWriter:
    described = jobs[0].store.description
    return ShardWriter(
        jobs,
        jobs[0].output.items(source),
        batch_size=_batch_size(spec, [job.output for job in jobs], progress),
        workers=spec.workers,
        max_bad=max_bad,
        overlap=overlaps(spec),
        unchanged=lambda: source.fingerprint(described.split) == described.source,
        progress=progress,
    )


def _report(
    job: StoreJob, origin: StoreEntry | None, seconds: float, shares: StageTimes
) -> StoreReport:
    store, written = job.store, job.num_written
    description = store.description
    is_derived = origin is not None and written > 0
    view = {} if description.view is None else {"view": description.view}
    report: type[StoreReport] = ViewReport if view else StoreReport
    return report(
        **view,
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
        encoded=0 if is_derived else written,
        derived=written if is_derived else 0,
        derived_from=name_of(origin) if origin is not None and is_derived else None,
        skipped=tuple(store.skipped()),
        seconds=seconds,
        shares=vars(shares),
    )


Prepared = tuple[ResolvedExtraction, list[LoadedEncoder]]


def prepare(spec: ExtractSpec, progress: Progress = SILENT) -> Prepared:
    """Open the dataset that `spec` names and load its encoders.

    Raises:
        LightalignError: The dataset or the weights are not usable.
    """
    opened = open_all(spec, progress)
    return opened, load_all(spec, opened, progress)


def run(
    spec: ExtractSpec,
    progress: Progress = SILENT,
    *,
    makes_newest: bool = True,
    prepared: Prepared | None = None,
) -> ExtractReport:
    """Extract every split that `spec` asks for, going on where an earlier call stopped.

    Args:
        spec: What to extract.
        progress: Receives notes and the progress.
        makes_newest: Whether verbs take these stores when they are not told which.
        prepared: What `spec` names, where it is open already.

    Raises:
        DiskSpaceError: The disk cannot hold the features.
        LightalignError: The dataset, the weights or too many items are not usable.
    """
    stopping.keep(stopping.SHARDS)
    opened, loaded = prepare(spec, progress) if prepared is None else prepared
    note_exports(spec, [loaded_encoder.encoder for loaded_encoder in loaded], progress)
    splits = splits_with_items(opened, loaded, progress)
    # before the first store names an encoder, so that its card is there whatever happens
    for reference, (card, weights) in zip(spec.encoders, opened.cards, strict=True):
        keep_card(reference, with_place(card, weights), spec.home)
    outputs = [describe_outputs(spec, opened, loaded, split) for split in splits]
    # before the first is begun: a disk that fills up half way helps nobody
    check_disk([output for of_split in outputs for output in of_split], opened.source, spec.home)
    stores = [
        report
        for of_split in outputs
        for report in fill_split(spec, opened.source, of_split, progress, makes_newest=makes_newest)
    ]
    before = None
    # last: a name stands for the dataset whose stores are there
    if makes_newest:
        version = opened.identified()
        before = stood_for(newest(spec.home, version.name), version)
        remember(spec.home, version, tell=progress.note)
    return ExtractReport(
        dataset=opened.dataset,
        weights={loaded_encoder.encoder.name: loaded_encoder.origin for loaded_encoder in loaded},
        stores=tuple(stores),
        skipped_rows=opened.source.skipped_rows(),
        stood_for=before,
    )
