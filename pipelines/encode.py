"""Encode one split of a dataset into its store, shard by shard."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ..featcache import catalog
from ..featcache.description import Skipped, StoreDescription
from ..featcache.encoder import Encoder
from ..featcache.errors import TooManyBadItemsError, UnreadableItemError
from ..featcache.source import Source
from ..featcache.store import FeatureStore
from ..featcache.tokens import Tokens
from ..featcache.types import Features, Item
from .ahead import map_ahead
from .environment import library_versions
from .extract import ExtractSpec, SplitReport
from .progress import Progress

_SHARD_BYTES = 64 * 2**20  # large enough to write at disk speed, small enough to redo after a crash
_RAGGED_ROWS = 4096  # captions of a dozen tokens: about 40 MB at 384 features

Prepared = TypeVar("Prepared")


def extract_split(
    spec: ExtractSpec,
    source: Source,
    encoder: Encoder[Any],
    dataset: str,
    split: str,
    progress: Progress,
) -> SplitReport:
    """Make the store of one split complete and say what that took.

    Raises:
        TooManyBadItemsError: More items are unreadable than `spec.max_bad` allows.
        FeatureRangeError: A feature is not finite in the stored dtype.
    """
    began = time.perf_counter()
    items = source.items(split, encoder.modality)
    description = _describe(spec, source, encoder, dataset, split, len(items))
    folder = description.folder(spec.home)
    pairs_path = catalog.pairs_path(spec.home, dataset, split, description.source)
    if not pairs_path.is_file():
        catalog.write_pairs(pairs_path, source.pairs(split))
    store = FeatureStore.create(folder, description, versions=library_versions())
    missing = store.missing_shards()
    encoded = sum(len(store.shard_items(index)) for index in missing)
    if missing:
        label = f"{split} {encoder.modality.value}s"
        progress.start(label, len(items), unit="items", done=len(items) - encoded)
        try:
            _write_missing(spec, store, encoder, items, missing, progress)
        finally:
            progress.finish()
    _check_bad(store.skipped(), len(items), spec.max_bad)
    store.finish()
    store.touch()
    return SplitReport(
        split=split,
        folder=folder,
        key=description.key,
        rows=store.num_rows,
        tokens=store.num_tokens,
        bytes=store.num_bytes,
        encoded=encoded,
        skipped=tuple(store.skipped()),
        seconds=time.perf_counter() - began,
    )


def _describe(
    spec: ExtractSpec,
    source: Source,
    encoder: Encoder[Any],
    dataset: str,
    split: str,
    num_items: int,
) -> StoreDescription:
    return StoreDescription(
        dataset=dataset,
        split=split,
        source=source.fingerprint(split),
        encoder=spec.encoder,
        identity=encoder.identity(),
        modality=encoder.modality.value,
        width=encoder.width,
        tokens_per_item=encoder.tokens_per_item,
        num_items=num_items,
        rows_per_shard=spec.rows_per_shard or _rows_per_shard(encoder, spec.dtype),
        dtype=spec.dtype,
        container=spec.format,
    )


def _rows_per_shard(encoder: Encoder[Any], dtype: str) -> int:
    if encoder.tokens_per_item is None:
        return _RAGGED_ROWS
    row_bytes = encoder.tokens_per_item * encoder.width * np.dtype(dtype).itemsize
    return max(1, _SHARD_BYTES // row_bytes)


def _write_missing(
    spec: ExtractSpec,
    store: FeatureStore,
    encoder: Encoder[Any],
    items: Sequence[Item],
    missing: Sequence[int],
    progress: Progress,
) -> None:
    bad = store.skipped()
    positions = [position for index in missing for position in store.shard_items(index)]
    prepared = map_ahead(
        lambda position: _prepare(encoder, items[position]),
        positions,
        ahead=spec.batch_size + spec.workers,  # decode the next batch while this one is encoded
        workers=spec.workers,
    )
    with closing(prepared):
        for index in missing:
            shard = _encode_shard(
                encoder, prepared, len(store.shard_items(index)), spec.batch_size, progress
            )
            bad += shard.skipped
            _check_bad(bad, len(items), spec.max_bad)
            features = to_features(shard.tokens, tuple(shard.ids), spec.dtype, encoder.width)
            store.write_shard(index, features, shard.skipped)


def _prepare(encoder: Encoder[Prepared], item: Item) -> tuple[str, Prepared | UnreadableItemError]:
    try:
        return item.id, encoder.prepare(item)
    except UnreadableItemError as error:
        return item.id, error


@dataclass
class _Shard:
    """Collect what becomes one shard."""

    ids: list[str] = field(default_factory=list)
    tokens: list[Tokens] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def _encode_shard(
    encoder: Encoder[Prepared],
    prepared: Iterator[tuple[str, Prepared | UnreadableItemError]],
    count: int,
    batch_size: int,
    progress: Progress,
) -> _Shard:
    """Encode the next `count` items; a batch never crosses the end of a shard.

    So a shard that is written again after a crash sees the same batches and gets the same bytes.
    """
    shard = _Shard()
    batch: list[Prepared] = []
    for position in range(count):
        item_id, result = next(prepared)
        if isinstance(result, UnreadableItemError):
            shard.skipped.append(Skipped(id=item_id, reason=str(result)))
            progress.advance(1)
        else:
            shard.ids.append(item_id)
            batch.append(result)
        if batch and (len(batch) == batch_size or position == count - 1):
            shard.tokens.append(encoder.encode(batch))
            progress.advance(len(batch))
            batch = []
    return shard


def to_features(
    batches: Sequence[Tokens], ids: tuple[str, ...], dtype: str, width: int
) -> Features:
    """Join encoded batches to rows without padding, converted to the stored dtype.

    A value that does not fit becomes infinite here and is refused by `FeatureStore.write_shard`.
    """
    values = [np.empty((0, width), dtype=dtype)]
    lengths = [np.empty(0, dtype=np.int64)]
    for batch in batches:
        with np.errstate(over="ignore"):
            values.append(batch.values[batch.mask].numpy().astype(dtype))
        lengths.append(batch.mask.sum(dim=1).numpy())
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return Features(np.concatenate(values), offsets, ids)


def _check_bad(bad: Sequence[Skipped], num_items: int, max_bad: float) -> None:
    if len(bad) > max_bad * num_items:
        examples = "; ".join(item.reason for item in bad[:3])
        raise TooManyBadItemsError(
            f"{len(bad)} of {num_items} items cannot be read, --max-bad allows {max_bad:.1%}: "
            f"{examples}"
        )
