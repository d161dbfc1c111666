"""Bytes that stores will take, counted before any item is encoded, and the free disk."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...featcache.errors import DiskSpaceError, UnreadableItemError
from ...featcache.sources.base import Source
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.manifest import has_manifest, read_whole_manifest
from ...featcache.store.stored_types import token_bytes
from ...featcache.types import PER_ROW, Item
from .outputs import Output
from .reports import StoreEstimate, ViewEstimate

# texts whose lengths are counted: their mean is known to about 0.5 %
_LENGTH_SAMPLE = 4096
# Bytes of one line of each array that may stand beside the features.
_COMPANION_BYTES = {
    "token_ids": 4,
    "special_tokens": 1,
    "character_spans": 8,
    "masked_ids": 4,
    "geometry": 32,
    "item": 8,
    "variant": 4,
    "box": 8,
}


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
        total = uncompressed_bytes(output, output.items(source), output.ids(source))
    view: dict[str, Any] = {} if description.view is None else {"view": description.view}
    estimate: type[StoreEstimate] = ViewEstimate if view else StoreEstimate
    return estimate(
        **view,
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


def uncompressed_bytes(output: Output, items: Sequence[Item], ids: Sequence[str]) -> int:
    """Return the bytes of a store of `items`, as if nothing were compressed."""
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
        # ids are as wide as the longest of their shard
        total += longest * (last - first)
    return total


def _count_tokens(output: Output, items: Sequence[Item]) -> int:
    """Return the tokens of all items, from a sample spread over them."""
    sample = np.unique(np.linspace(0, len(items) - 1, _LENGTH_SAMPLE).astype(int)).tolist()
    encoder = output.encoder
    total = 0
    for index in sample:
        # an item that cannot be read will have no row to count
        with suppress(UnreadableItemError):
            total += encoder.size(encoder.prepare(items[index]))
    return round(total / len(sample) * len(items))
