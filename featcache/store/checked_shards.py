"""Open the shards of a store, each compared once with its record in the manifest.

The bytes come first: a shard is opened when its checksums are right, and its values are read for
numbers that are not finite then. What was compared is remembered in `verified_files.py`.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .. import notes
from ..errors import FeatureRangeError, StoreCorruptError
from ..home import command_line
from ..item_ids import decode_ids
from . import verified_files
from .containers.base import ArrayLocation
from .feature_store import FeatureStore
from .remedies import extraction, removal_of_store, repair
from .stored_types import SCALES, first_not_finite
from .trust import is_trusting
from .verify import shard_flaws

_MOST_THREADS = 8
_ANNOUNCED_BYTES = 2**30  # what is less is read within seconds
# no command knows such a store
_WITHOUT_HOME = "replace the store by a whole copy, or extract it again"


def open_shards(store: FeatureStore) -> list[dict[str, ArrayLocation]]:
    """Return where the arrays of each shard lie; what was not read whole before is read now.

    Raises:
        StoreCorruptError: A file differs from its checksum, or is not what it is described as.
        FeatureRangeError: A stored feature is not finite.
    """
    checked = CheckedShards(store)
    unread = [] if is_trusting() else checked.unread()
    _announce(store, [checked.receipts[index] for index in unread])
    _in_threads(checked.check_files, unread)
    shards = [store.locate(index) for index in range(store.num_shards)]
    _in_threads(lambda index: _check_values(store, shards[index]), unread)
    checked.remember(unread)
    return shards


class CheckedShards:
    """Open the shards of a store one by one, each compared with what is recorded of it first.

    Where a complete store is read once from its beginning to its end that takes no pass of its own.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.receipts = list(store.receipts())
        home = verified_files.home_of(store.folder, store.description)
        self._memory = verified_files.memory_of_store(store.folder, home)
        self._remembered = self._memory.read()
        self._states: dict[int, verified_files.State] = {}
        self._whole: set[int] = set()

    def unread(self) -> list[int]:
        """List the shards that were not read whole before, or were touched since."""
        return [index for index in range(len(self.receipts)) if not self._is_remembered(index)]

    def check_files(self, index: int) -> None:
        """Compare the files of a shard with the checksums that are recorded of them.

        Raises:
            StoreCorruptError: One differs.
        """
        store = self.store
        for flaw in shard_flaws(store.folder, index, self.receipts[index], content=True):
            home = verified_files.home_of(store.folder, store.description)
            remedy = _WITHOUT_HOME
            if home is not None:
                remedy = f"to mend it: {repair(store.folder.absolute(), home)}"
            raise StoreCorruptError(f"{flaw}; {remedy}")

    def open(self, index: int) -> dict[str, ArrayLocation]:
        """Return where the arrays of a shard lie.

        Raises:
            StoreCorruptError: A file differs from its checksum, or is not what it is described as.
            FeatureRangeError: A stored feature is not finite.
        """
        if index in self._whole or self._is_remembered(index):
            return self.store.locate(index)
        self.check_files(index)
        arrays = self.store.locate(index)
        _check_values(self.store, arrays)
        self._whole.add(index)
        return arrays

    def remember(self, others: Iterable[int] = ()) -> None:
        """Record which shards were found whole, and that `others` were."""
        # as the files were before: one that was touched meanwhile is read again the next time
        whole = {self._name(index): self._states[index] for index in (*self._whole, *others)}
        self._memory.remember(whole)

    def _name(self, index: int) -> str:
        return self._memory.name_of(self.store.shard_path(index).absolute())

    def _is_remembered(self, index: int) -> bool:
        """Return whether the files of a shard are as they were when they were read whole."""
        try:
            state = verified_files.state_of(self.store.folder, self.receipts[index]["files"])
        except PermissionError:
            raise
        except OSError as error:
            raise StoreCorruptError(f"{error.filename} cannot be read: {error.strerror}") from error
        self._states[index] = state
        return self._remembered.get(self._name(index)) == state.mark


def _announce(store: FeatureStore, receipts: Iterable[Mapping[str, Any]]) -> None:
    """Note that a comparison with checksums will take long, before it begins."""
    files_of_shards = (entry for receipt in receipts for entry in receipt["files"].values())
    num_bytes = sum(entry["bytes"] for entry in files_of_shards)
    if num_bytes > _ANNOUNCED_BYTES:
        what = store.description
        notes.note(
            f"comparing {num_bytes / 1e9:.1f} GB of {what.dataset}/{what.split}/{what.encoder} "
            "with their checksums, once: --no-verify leaves that out"
        )


def listing_command(folder: Path, home: Path) -> str:
    """Return the command that lists what of a dataset could not be read into a store."""
    return command_line("cache", "info", folder.absolute(), home=home)


def _in_threads(act: Callable[[int], None], indices: Sequence[int]) -> None:
    """Call `act` with each shard; both hashing and NumPy let other threads run."""
    if not indices:
        return
    threads = min(_MOST_THREADS, os.cpu_count() or 1, len(indices))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
    try:
        for _ in pool.map(act, indices):
            pass
    finally:
        # a signal is not to wait for all shards
        pool.shutdown(cancel_futures=True)


def _check_values(store: FeatureStore, arrays: dict[str, ArrayLocation]) -> None:
    described = store.description
    values = np.asarray(arrays["values"].read()).reshape(-1, described.width)
    scales = np.asarray(arrays[SCALES].read()) if SCALES in arrays else None
    token = first_not_finite(values, scales, described.dtype)
    if token is not None:
        tokens = described.tokens_per_item
        if tokens is not None:
            row = token // tokens
        else:
            row = int(np.searchsorted(arrays["offsets"].read(), token, side="right")) - 1
        raise not_finite(store, decode_ids(arrays["ids"].read())[row])


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
