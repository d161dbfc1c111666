"""Open the shards of a store and compare them with what is recorded of them, once.

The bytes come first: a shard is opened when its checksums are right, and its values are read for
numbers that are not finite then. What was compared is remembered in `verified.py`.
"""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from . import verified
from .dtypes import SCALES, finite_tokens
from .errors import FeatureRangeError, StoreCorruptError
from .flaws import shard_flaws
from .format import ArrayLocation
from .item_ids import decode_ids
from .store import FeatureStore
from .trust import is_trusting

T = TypeVar("T")
_MOST_THREADS = 8
_BLOCK_BYTES = 2**21  # of values that are examined at once, which stay in the processor's cache


def open_shards(store: FeatureStore) -> list[dict[str, ArrayLocation]]:
    """Return where the arrays of each shard lie; what was not read whole before is read now.

    Raises:
        StoreCorruptError: A file differs from its checksum, or is not what it is described as.
        FeatureRangeError: A stored feature is not finite.
    """
    receipts = list(store.receipts())
    unread = {} if is_trusting() else _states_of_unread(store, receipts)

    def check_files(index: int) -> None:
        for flaw in shard_flaws(store.folder, index, receipts[index], content=True):
            raise StoreCorruptError(f"{flaw}; {_remedy(store)}")

    for _ in _in_threads(check_files, list(unread)):
        pass
    shards = [store.locate(index) for index in range(store.num_shards)]
    for _ in _in_threads(lambda index: _check_values(store, shards[index]), list(unread)):
        pass
    # as the files are now: one that was touched meanwhile is read again the next time
    whole = {
        index: state
        for index, state in unread.items()
        if verified.state_of_shard(store.folder, receipts[index]) == state
    }
    verified.remember(store.folder, store.description, whole)
    return shards


def repair_command(folder: Path, home: Path) -> str:
    """Return the command that computes what is damaged in a store again."""
    return f"lightalign cache repair {shlex.quote(str(folder))} --home {shlex.quote(str(home))}"


def _states_of_unread(store: FeatureStore, receipts: Sequence[dict[str, Any]]) -> dict[int, str]:
    remembered = verified.read(store.folder, store.description)
    try:
        states = [verified.state_of_shard(store.folder, receipt) for receipt in receipts]
    except OSError as error:
        raise StoreCorruptError(f"{error.filename} cannot be read: {error.strerror}") from error
    return {
        index: state for index, state in enumerate(states) if remembered.get(str(index)) != state
    }


def _remedy(store: FeatureStore) -> str:
    home = verified.home_of(store.folder, store.description)
    if home is None:
        return "replace the store by a whole copy, or extract it again"
    return f"to mend it: {repair_command(store.folder.absolute(), home)}"


def _in_threads(act: Callable[[int], T], indices: Sequence[int]) -> Iterator[T]:
    """Yield what `act` returns of each shard; both hashing and NumPy let other threads run."""
    if not indices:
        return
    threads = min(_MOST_THREADS, os.cpu_count() or 1, len(indices))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
    try:
        yield from pool.map(act, indices)
    finally:
        pool.shutdown(cancel_futures=True)  # a signal is not to wait for all shards


def _check_values(store: FeatureStore, arrays: dict[str, ArrayLocation]) -> None:
    described = store.description
    values = np.asarray(arrays["values"].read()).reshape(-1, described.width)
    scales = np.asarray(arrays[SCALES].read()) if SCALES in arrays else None
    lines = max(1, _BLOCK_BYTES // max(1, values.strides[0]))
    for first in range(0, len(values), lines):
        block = slice(first, first + lines)
        finite = finite_tokens(
            values[block], None if scales is None else scales[block], described.dtype
        )
        if not finite.all():
            raise _not_finite(store, arrays, first + int(np.argmin(finite)))


def _not_finite(
    store: FeatureStore, arrays: dict[str, ArrayLocation], token: int
) -> FeatureRangeError:
    """Return the error of a token that is not finite, which names its item."""
    tokens = store.description.tokens_per_item
    if tokens is None:
        row = int(np.searchsorted(arrays["offsets"].read(), token, side="right")) - 1
    else:
        row = token // tokens
    item = decode_ids(arrays["ids"].read())[row]
    return FeatureRangeError(
        f"{store.folder}: the stored features of item {item!r} are not all finite, and their "
        "checksum is right: remove the store with `cache rm` and extract it again, with "
        "--dtype float32 if it was a narrower one"
    )
