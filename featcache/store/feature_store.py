"""A feature store: a folder of immutable shards under a key of everything that changes a number.

    <home>/features/<dataset>/<split>/<encoder>--<first 12 of the key>/
        manifest.json           key, what it is made of, versions; shard rows once complete
        manifest.copy.json      the same bytes, which restore a damaged manifest
        shard-00000[.h5]        values, ids and, where rows differ in length, offsets
        shard-00000.json        receipt of a finished shard, until the manifest takes it over
        shard-00000.lock        held by the process that writes the shard

A shard is written under a temporary name, made durable, renamed, and only then gets its receipt.
A shard without a receipt is written again; the manifest is completed last. Nothing in the folder
depends on the time or the number of interruptions: the same command on the same machine ends with
the same bytes. Values may differ in their last bit with the batch size, the number of threads and
the versions of the libraries, which all choose how a matrix product is rounded.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import atomic_files
from ..errors import FeatureRangeError, SpecError, StoreCorruptError, StoreIncompleteError
from ..item_ids import encode_ids
from ..registry import Registry
from ..regular_files import holds
from ..types import PER_TOKEN, Features
from .containers.base import ArrayLocation, ArrayType, Format
from .key import FORMAT_VERSION, Skipped, StoreDescription
from .locks import MANIFEST_LOCK, ShardLocks, is_abandoned, remove_unheld
from .manifest import (
    COPY,
    MANIFEST,
    has_manifest,
    manifest_damage,
    read_manifest,
    read_receipt,
    restore_manifest,
    write_manifest,
)
from .remedies import extraction_into, repair
from .stored_types import SCALES, companion_type, first_not_finite, storage
from .verified_files import promise_of
from .verify import IntegrityEntry, other_flaws, shard_flaws

FORMATS = Registry(
    "format", f"{__package__}.containers", Path(__file__).parent / "containers", Format
)


class FeatureStore:
    """Folder of a store: opened by `create` to be written, by `open` to be read."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.description = StoreDescription(**manifest["description"])
        self.format = FORMATS.load(self.description.container)()

    @classmethod
    def create(
        cls,
        folder: Path,
        description: StoreDescription,
        *,
        versions: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> "FeatureStore":
        """Open `folder` for writing, made if it is missing, and clear the leftovers of a crash.

        The versions of libraries, and settings such as the batch size, are recorded when the store
        is made. Where this waits for another process, `tell` is told; see `FileLock.wait`.

        Raises:
            SpecError: The folder was begun with another number of rows per shard.
            StoreCorruptError: The folder holds another store, or its manifest and the copy of it
                are both damaged.
            LockError: The file system has no locks.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with ShardLocks(folder) as locks:
            # meanwhile no other process begins, mends or completes the store
            locks.wait_for(MANIFEST_LOCK, tell)
            FORMATS.load(description.container)  # before anything of it is on disk
            if not has_manifest(folder):
                manifest = {
                    "format_version": FORMAT_VERSION,
                    "key": description.key,
                    "keyed": description.keyed(),
                    "description": description.table(),
                    "versions": dict(versions),
                    "settings": dict(settings or {}),
                    "complete": False,
                }
                write_manifest(folder, manifest)
            restore_manifest(folder)
            store = cls(folder, read_manifest(folder))
            if store.manifest["key"] != description.key:
                raise StoreCorruptError(f"{folder} holds the key {store.manifest['key']}")
            begun = store.description.rows_per_shard
            if not store.complete and begun != description.rows_per_shard:
                raise SpecError(
                    f"{folder} was begun with rows_per_shard={begun}, "
                    f"not {description.rows_per_shard}: repeat that number or delete the folder"
                )
            store._clear_leftovers(locks)
        return store

    @classmethod
    def cached(cls, folder: Path, description: StoreDescription) -> "FeatureStore | None":
        """Open a complete store in which nothing is to be done, or return None; writes nothing.

        What a dead process has left counts only where it could be removed.

        Raises:
            StoreCorruptError: A manifest that is whole describes no store of ours.
        """
        if not has_manifest(folder) or manifest_damage(folder):
            return None
        store = cls(folder, read_manifest(folder))
        if store.manifest["key"] != description.key or not store.complete:
            return None
        # by sizes alone: bytes are compared with their checksums when the store is read
        if any(True for _ in store.flaws(content=False)):
            return None
        receipts = set(store.needless_receipts())
        is_clean = not os.access(folder, os.W_OK) or not any(
            path.name in receipts or path.suffix == ".lock" or atomic_files.is_temporary(path)
            for path in folder.iterdir()
        )
        return store if is_clean else None

    @classmethod
    def open(cls, folder: Path) -> "FeatureStore":
        """Open a complete store for reading; checks that each file is there with its size.

        Raises:
            StoreNotFoundError: The folder holds no store.
            StoreIncompleteError: Its extraction has not finished.
            StoreCorruptError: A file is missing or has another size than the manifest says.
        """
        try:
            store = cls(folder, read_manifest(folder))
        except StoreCorruptError as error:
            raise StoreCorruptError(f"{error}; {_remedy(folder)}") from error
        if not store.complete:
            missing = len(store.missing_shards())
            raise StoreIncompleteError(
                f"{folder} is not complete: {missing} of {store.num_shards} shards are missing; "
                f"{_remedy(folder)}"
            )
        for flaw in store.flaws(content=False):
            raise StoreCorruptError(f"{flaw}; {_remedy(folder)}")
        return store

    @property
    def complete(self) -> bool:
        """Return whether every shard is in the manifest."""
        return bool(self.manifest["complete"])

    @property
    def num_shards(self) -> int:
        """Return how many shards cover all items."""
        return self.description.num_shards

    def shard_items(self, index: int) -> range:
        """Return the positions of the items that shard `index` covers."""
        return self.description.shard_items(index)

    def shard_path(self, index: int) -> Path:
        """Return the file or folder of shard `index`."""
        return self.folder / f"shard-{index:05d}{self.format.suffix}"

    def missing_shards(self) -> list[int]:
        """List the shards that are not finished, in order."""
        finished = self.receipt_of_each_shard()
        return [index for index in range(self.num_shards) if index not in finished]

    def refresh(self) -> None:
        """Read the manifest again: another process may have completed the store.

        Raises:
            StoreNotFoundError: The store is no longer there.
            StoreCorruptError: The manifest is damaged.
        """
        if not self.complete:
            self.manifest = read_manifest(self.folder)

    def has_shard(self, index: int) -> bool:
        """Return whether shard `index` is finished."""
        if self.complete:
            return True
        # its receipt alone is read: there may be a million others
        with suppress(FileNotFoundError, StoreCorruptError):
            read_receipt(self._receipt(index), self.shard_items(index))
            return True
        return False

    def write_shard(
        self, index: int, features: Features, skipped: list[Skipped], *, derived: bool = False
    ) -> None:
        """Write one shard: temporary, durable, renamed, receipt.

        The features are the rows of the items it covers, in item order, in the stored dtype; of the
        skipped there is none. It is recorded if they were derived from another store.

        Raises:
            FeatureRangeError: A value is not finite.
        """
        assert len(features) + len(skipped) == len(self.shard_items(index))
        self._check_range(features)
        path = self.shard_path(index)
        arrays = self._arrays(features)
        with atomic_files.replacing(path) as temporary:
            self.format.write(temporary, arrays, compression=self.description.compression)
            atomic_files.remove(path)  # without a receipt it may be anything
        receipt: dict[str, Any] = {
            "rows": len(features),
            "tokens": len(features.values),
            "files": {
                str(file.relative_to(self.folder)): promise_of(file)
                for file in atomic_files.files_below(path)
            },
            "skipped": [asdict(item) for item in skipped],
        }
        if derived:
            receipt["derived"] = True
        # last of all: a shard without a receipt counts as not written, whatever lies there
        atomic_files.write_sealed(self._receipt(index), receipt)

    def finish(self) -> None:
        """Move the receipts into the manifest; the store is complete after this."""
        missing = self.missing_shards()
        assert not missing, f"shards {missing} are not written"
        if not self.complete:
            self.manifest = {**self.manifest, "complete": True, "shards": list(self.receipts())}
            write_manifest(self.folder, self.manifest)
        # after the manifest has taken them over: a kill in between leaves both, never none
        for index in range(self.num_shards):
            self._receipt(index).unlink(missing_ok=True)
        atomic_files.sync(self.folder)

    def touch(self) -> bool:
        """Make this the newest store, which verbs take when they are not told which.

        Returns:
            Whether that was allowed: a store may be another user's, or on a read-only file system.
        """
        manifest = self.folder / MANIFEST
        now = time.time_ns()
        try:
            try:
                # the kernel's clock of files moves by milliseconds: two stores would be of one age
                os.utime(manifest, ns=(now, now))
            except PermissionError:
                os.utime(manifest)  # a time may be named by the owner only, "now" by all who write
        except OSError as error:
            if error.errno not in atomic_files.NOT_ALLOWED:
                raise
            return False
        return True

    def receipts(self) -> Iterator[dict[str, Any]]:
        """Iterate over what is recorded of each finished shard, in order."""
        yield from self.receipt_of_each_shard().values()

    def skipped(self) -> list[Skipped]:
        """List the items without a row, in order."""
        return skipped_of(self.receipts())

    @cached_property
    def num_rows(self) -> int:
        """Return the number of rows of all finished shards."""
        return sum(receipt["rows"] for receipt in self.receipts())

    @cached_property
    def num_tokens(self) -> int:
        """Return the number of tokens of all finished shards."""
        return sum(receipt["tokens"] for receipt in self.receipts())

    @cached_property
    def num_bytes(self) -> int:
        """Return the bytes of all finished shards."""
        files = (file for receipt in self.receipts() for file in receipt["files"].values())
        return sum(file["bytes"] for file in files)

    def locate(self, index: int) -> dict[str, ArrayLocation]:
        """Return where the arrays of shard `index` lie.

        Raises:
            StoreCorruptError: The shard cannot be read.
        """
        receipts = self.manifest["shards"] if self.complete else self.receipt_of_each_shard()
        return self.format.locate(self.shard_path(index), self._array_types(receipts[index]))

    def flaws(self, *, content: bool) -> Iterator[IntegrityEntry]:
        """Iterate over what is not as the manifest says; with `content`, of every byte and file."""
        for name in self._differing_store_files():
            yield IntegrityEntry(path=self.folder / name, problem="differs")
        for index, receipt in self.receipt_of_each_shard().items():
            yield from shard_flaws(self.folder, index, receipt, content=content)
        if content:
            for name, problem in manifest_damage(self.folder).items():
                yield IntegrityEntry(path=self.folder / name, problem=problem)
            for index in self.missing_shards():
                path = self._receipt(index)
                if path.is_file():
                    yield IntegrityEntry(path=path, problem="checksum differs", shard=index)
            yield from other_flaws(self.folder, self._known_files())

    def drop_shards(self, indices: Collection[int]) -> None:
        """Remove these shards, so that just they are missing; the store is incomplete after it."""
        receipts = self.receipt_of_each_shard()
        remaining = {index: receipts[index] for index in receipts if index not in indices}
        if self.complete:
            # before the manifest forgets them: until then a kill leaves a complete store
            for index, receipt in remaining.items():
                atomic_files.write_sealed(self._receipt(index), receipt)
            rest = {key: value for key, value in self.manifest.items() if key != "shards"}
            self.manifest = {**rest, "complete": False}
            write_manifest(self.folder, self.manifest)
        for index in indices:
            # its receipt first: files without one are written again
            self._receipt(index).unlink(missing_ok=True)
            atomic_files.remove(self.shard_path(index))

    def needless_receipts(self) -> list[str]:
        """List the receipts that lie in a complete store, whose manifest has taken them over."""
        if not self.complete:
            return []
        paths = [self._receipt(index) for index in range(self.num_shards)]
        return [path.name for path in paths if path.is_file()]

    def _known_files(self) -> set[str]:
        names = {MANIFEST, COPY, *self.format.store_files}
        names.update(file for receipt in self.receipts() for file in receipt["files"])
        if not self.complete:
            names.update(self._receipt(index).name for index in range(self.num_shards))
        return names

    def _differing_store_files(self) -> list[str]:
        contents = self.format.store_files.items()
        return [name for name, content in contents if not holds(self.folder / name, content)]

    def _receipt(self, index: int) -> Path:
        return self.folder / f"shard-{index:05d}.json"

    def receipt_of_each_shard(self) -> dict[int, dict[str, Any]]:
        """Return what is recorded of each finished shard; a damaged receipt records nothing."""
        if self.complete:
            return dict(enumerate(self.manifest["shards"]))
        receipts = {}
        for index in range(self.num_shards):
            with suppress(FileNotFoundError, StoreCorruptError):
                receipts[index] = read_receipt(self._receipt(index), self.shard_items(index))
        return receipts

    def _clear_leftovers(self, locks: ShardLocks) -> None:
        for name in self._differing_store_files():
            atomic_files.write_bytes(self.folder / name, self.format.store_files[name])
        for path in list(self.folder.iterdir()):
            if is_abandoned(path):
                atomic_files.clear(path)
        remove_unheld(self.folder)
        shards = {flaw.shard for flaw in self.flaws(content=False)}
        ours = {index for index in shards if index is not None and locks.claim(index)}
        if ours:
            self.drop_shards(ours)
        for index in ours:
            locks.release(index)
        if self.complete:
            self.finish()

    def _array_types(self, receipt: Mapping[str, Any]) -> dict[str, ArrayType]:
        """Return the types of a shard's arrays, of which only the receipt is known."""
        rows, tokens = receipt["rows"], receipt["tokens"]
        described = self.description
        per_row = described.tokens_per_item
        values: tuple[int, ...] = (tokens, described.width)
        types = {"ids": ArrayType(np.dtype("uint8"), (rows, None))}
        if per_row is None:
            types["offsets"] = ArrayType(np.dtype("int64"), (rows + 1,))
        else:
            values = (rows, per_row, described.width)
        types["values"] = ArrayType(storage(described.dtype), values, described.compression)
        if described.dtype == "int8":
            types[SCALES] = ArrayType(np.dtype("float32"), (tokens,))
        for name in described.companions:
            dtype, axes = companion_type(name)
            types[name] = ArrayType(dtype, (tokens if name in PER_TOKEN else rows, *axes))
        return types

    def _arrays(self, features: Features) -> dict[str, np.ndarray]:
        described = self.description
        tokens = described.tokens_per_item
        scales = {SCALES} if described.dtype == "int8" else set()
        assert set(features.companions) == {*scales, *described.companions}
        arrays = {"values": features.values, "ids": encode_ids(features.ids)}
        if tokens is None:
            arrays["offsets"] = features.offsets
        else:
            arrays["values"] = features.values.reshape(len(features), tokens, described.width)
        return {**arrays, **features.companions}

    def _check_range(self, features: Features) -> None:
        dtype = self.description.dtype
        token = first_not_finite(features.values, features.companions.get(SCALES), dtype)
        if token is None:
            return
        row = int(np.searchsorted(features.offsets, token, side="right")) - 1
        hint = "its encoder gives it" if dtype == "float32" else "try --dtype float32"
        raise FeatureRangeError(
            f"item {features.ids[row]!r} has a feature that is not finite in {dtype}: {hint}"
        )


def skipped_of(receipts: Iterable[Mapping[str, Any]]) -> list[Skipped]:
    """Return the items without a row that receipts of shards record, in order."""
    names = ("id", "reason", "stage")  # later versions may add fields
    return [
        Skipped(**{name: item[name] for name in names if name in item})
        for receipt in receipts
        for item in receipt["skipped"]
    ]


def _remedy(folder: Path) -> str:
    """Return what to do with a store that is damaged or was not finished."""
    extraction = extraction_into(folder)
    if extraction is None:
        return "replace the store by a whole copy"
    return f"`{repair(folder, extraction[0])}` restores it"
