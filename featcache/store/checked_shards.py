"""Open the shards of a store and compare them with what is recorded of them, once.

The bytes come first: a shard is opened when its checksums are right, and its values are read for
numbers that are not finite then. What was compared is remembered in `verified_files.py`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from .. import notes
from ..errors import FeatureRangeError, StoreCorruptError
from ..home import command_line
from ..item_ids import decode_ids
from . import verified_files
from .containers.base import ArrayLocation
from .feature_store import FeatureStore
from .remedies import extraction, removal_of_store, repair
from .stored_types import SCALES, finite_tokens
from .trust import is_trusting
from .verify import shard_flaws

T = TypeVar("T")
_MOST_THREADS = 8
_ANNOUNCED_BYTES = 2**30  # what is less is read within seconds
_BLOCK_BYTES = 2**21  # of values that are examined at once, which stay in the processor's cache
# no command knows such a store
_WITHOUT_HOME = "replace the store by a whole copy, or extract it again"


def open_shards(store: FeatureStore) -> list[dict[str, ArrayLocation]]:
    """Return where the arrays of each shard lie; what was not read whole before is read now.

    Raises:
        StoreCorruptError: A file differs from its checksum, or is not what it is described as.
        FeatureRangeError: A stored feature is not finite.
    """
    receipts = list(store.receipts())
    home = verified_files.home_of(store.folder, store.description)
    memory = verified_files.memory_of_store(store.folder, home)
    names = [memory.name_of(store.shard_path(index).absolute()) for index in range(len(receipts))]
    unread = {} if is_trusting() else _states_of_unread(store, receipts, memory.read(), names)
    _announce(store, [receipts[index] for index in unread])

    for _ in _in_threads(lambda index: _check_files(store, index, receipts[index]), list(unread)):
        pass
    shards = [store.locate(index) for index in range(store.num_shards)]
    for _ in _in_threads(lambda index: _check_values(store, shards[index]), list(unread)):
        pass
    # as the files were before: one that was touched meanwhile is read again the next time
    memory.remember({names[index]: state for index, state in unread.items()})
    return shards


class CheckedShards:
    """Open the shards of a store one by one, each compared with what is recorded of it first.

    Where a store is read once from its beginning to its end that takes no pass of its own.

    Args:
        store: A complete store.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.receipts = list(store.receipts())
        home = verified_files.home_of(store.folder, store.description)
        self._memory = verified_files.memory_of_store(store.folder, home)
        self._remembered = self._memory.read()
        self._whole: dict[str, verified_files.State] = {}

    def open(self, index: int) -> dict[str, ArrayLocation]:
        """Return where the arrays of a shard lie.

        Raises:
            StoreCorruptError: A file differs from its checksum, or is not what it is described as.
            FeatureRangeError: A stored feature is not finite.
        """
        store, receipt = self.store, self.receipts[index]
        name = self._memory.name_of(store.shard_path(index).absolute())
        state = _state_of(store, receipt)
        is_remembered = name in self._whole or self._remembered.get(name) == state.mark
        if not is_remembered:
            _check_files(store, index, receipt)
        arrays = store.locate(index)
        if not is_remembered:
            _check_values(store, arrays)
            self._whole[name] = state
        return arrays

    def remember(self) -> None:
        """Record which shards were found whole."""
        self._memory.remember(self._whole)


def _announce(store: FeatureStore, receipts: Sequence[Mapping[str, Any]]) -> None:
    """Note that a comparison with checksums will take long, before it begins."""
    files_of_shards = (entry for receipt in receipts for entry in receipt["files"].values())
    num_bytes = sum(entry["bytes"] for entry in files_of_shards)
    if num_bytes > _ANNOUNCED_BYTES:
        what = store.description
        notes.note(
            f"comparing {num_bytes / 1e9:.1f} GB of {what.dataset}/{what.split}/{what.encoder} "
            "with their checksums, once: --no-verify leaves that out"
        )


def repair_command(folder: Path, home: Path) -> str:
    """Return the command that computes what is damaged in a store again."""
    return repair(folder, home)


def listing_command(folder: Path, home: Path) -> str:
    """Return the command that lists what of a dataset could not be read into a store."""
    return command_line("cache", "info", folder.absolute(), home=home)


def _states_of_unread(
    store: FeatureStore,
    receipts: Sequence[Mapping[str, Any]],
    remembered: Mapping[str, str],
    names: Sequence[str],
) -> dict[int, verified_files.State]:
    states = [_state_of(store, receipt) for receipt in receipts]
    return {
        index: state
        for index, state in enumerate(states)
        if remembered.get(names[index]) != state.mark
    }


def _state_of(store: FeatureStore, receipt: Mapping[str, Any]) -> verified_files.State:
    """Return the state of a shard's files.

    Raises:
        StoreCorruptError: One is not there.
    """
    try:
        return verified_files.state_of(store.folder, receipt["files"])
    except PermissionError:
        raise
    except OSError as error:
        raise StoreCorruptError(f"{error.filename} cannot be read: {error.strerror}") from error


def _check_files(store: FeatureStore, index: int, receipt: Mapping[str, Any]) -> None:
    """Pass if the files of a shard have the checksums that are recorded of them.

    Raises:
        StoreCorruptError: One differs.
    """
    for flaw in shard_flaws(store.folder, index, receipt, content=True):
        raise StoreCorruptError(f"{flaw}; {_remedy(store)}")


def _remedy(store: FeatureStore) -> str:
    home = verified_files.home_of(store.folder, store.description)
    if home is None:
        return _WITHOUT_HOME
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
    token = first_not_finite(values, scales, described.dtype)
    if token is not None:
        tokens = described.tokens_per_item
        row = token // tokens if tokens is not None else _row_of(arrays["offsets"].read(), token)
        raise not_finite(store, decode_ids(arrays["ids"].read())[row])


def first_not_finite(
    values: Shaped[np.ndarray, "total width"],
    scales: Float32[np.ndarray, " total"] | None,
    dtype: str,
) -> int | None:
    """Return the first token with a feature that is not finite in the stored type, or None."""
    lines = max(1, _BLOCK_BYTES // max(1, values.strides[0]))
    for first in range(0, len(values), lines):
        block = slice(first, first + lines)
        finite = finite_tokens(values[block], None if scales is None else scales[block], dtype)
        if not finite.all():
            return first + int(np.argmin(finite))
    return None


def _row_of(offsets: Int64[np.ndarray, " rows_plus_1"], token: int) -> int:
    return int(np.searchsorted(offsets, token, side="right")) - 1


def not_finite(store: FeatureStore, item: str) -> FeatureRangeError:
    """Return the error of an item with a stored feature that is not finite."""
    home = verified_files.home_of(store.folder, store.description)
    remedy = _WITHOUT_HOME
    if home is not None:
        removal = removal_of_store(store.folder, home)
        command = extraction(store.description, store.manifest.get("settings"), home=home)
        remedy = f"remove the store by `{removal}` and extract it again by `{command}`"
    return FeatureRangeError(
        f"{store.folder}: the stored features of item {item!r} are not all finite, and no "
        f"extraction writes such: {remedy}, with --dtype float32 if it was a narrower one"
    )
