"""A feature store: a folder of immutable shards under a key of everything that changes a number.

    <home>/features/<dataset>/<split>/<encoder>--<first 12 of the key>/
        manifest.json           key, what it is made of, versions; shard rows once complete
        shard-00000[.h5]        values, ids and, where rows differ in length, offsets
        shard-00000.json        receipt of a finished shard, until the manifest takes it over

A shard is written under a temporary name, made durable, renamed, and only then gets its receipt.
A shard without a receipt is written again; the manifest is completed last. Nothing in the folder
depends on the time or the number of interruptions: the same command on the same machine ends with
the same bytes. Values may differ in their last bit with the batch size, the number of threads and
the versions of the libraries, which all choose how a matrix product is rounded.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import files
from .description import FORMAT_VERSION, Skipped, StoreDescription
from .errors import (
    FeatureRangeError,
    SpecError,
    StoreCorruptError,
    StoreIncompleteError,
    StoreNotFoundError,
    UnknownNameError,
)
from .format import ArrayLocation, Format
from .item_ids import encode_ids
from .registry import Registry
from .types import Features

FORMATS = Registry("format", f"{__package__}.formats", Path(__file__).parent / "formats", Format)
MANIFEST = "manifest.json"


class FeatureStore:
    """Read and write one store folder.

    Open one with `FeatureStore.create` to write and `FeatureStore.open` to read.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.description = StoreDescription(**manifest["description"])
        self.format = FORMATS.load(self.description.container)()

    @classmethod
    def create(
        cls, folder: Path, description: StoreDescription, *, versions: Mapping[str, str]
    ) -> "FeatureStore":
        """Open `folder` for writing, making it if it is not there, and clear what a crash left.

        Args:
            folder: The store's folder.
            description: What the store shall hold.
            versions: Library versions, recorded when the store is made.

        Raises:
            SpecError: The folder was begun with another number of rows per shard.
            StoreCorruptError: The folder holds another store.
        """
        path = folder / MANIFEST
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            manifest = {
                "format_version": FORMAT_VERSION,
                "key": description.key,
                "keyed": description.keyed(),
                "description": asdict(description),
                "versions": dict(versions),
                "complete": False,
            }
            files.write_json(path, manifest)
        store = cls(folder, read_manifest(folder))
        if store.manifest["key"] != description.key:
            raise StoreCorruptError(f"{folder} holds the key {store.manifest['key']}")
        if not store.complete and store.description.rows_per_shard != description.rows_per_shard:
            raise SpecError(
                f"{folder} was begun with rows_per_shard={store.description.rows_per_shard}, "
                f"not {description.rows_per_shard}: repeat that number or delete the folder"
            )
        store._clear_leftovers()
        return store

    @classmethod
    def open(cls, folder: Path) -> "FeatureStore":
        """Open a complete store for reading; checks that each file is there with its size.

        Raises:
            StoreNotFoundError: The folder holds no store.
            StoreIncompleteError: Its extraction has not finished.
            StoreCorruptError: A file is missing or has another size than the manifest says.
        """
        store = cls(folder, read_manifest(folder))
        if not store.complete:
            missing = len(store.missing_shards())
            raise StoreIncompleteError(
                f"{folder} is not complete: {missing} of {store.num_shards} shards are missing; "
                "run the same extract command again"
            )
        for damage in store._damaged(content=False):
            raise StoreCorruptError(f"{damage}; run the extract command again to write it anew")
        return store

    @property
    def complete(self) -> bool:
        """Say whether every shard is in the manifest."""
        return bool(self.manifest["complete"])

    @property
    def num_shards(self) -> int:
        """Return how many shards cover all items."""
        return -(-self.description.num_items // self.description.rows_per_shard)

    def shard_items(self, index: int) -> range:
        """Return the positions of the items that shard `index` covers."""
        first = index * self.description.rows_per_shard
        last = min(first + self.description.rows_per_shard, self.description.num_items)
        return range(first, last)

    def shard_path(self, index: int) -> Path:
        """Return the file or folder of shard `index`."""
        return self.folder / f"shard-{index:05d}{self.format.suffix}"

    def missing_shards(self) -> list[int]:
        """List the shards that are not finished, in order."""
        if self.complete:
            return []
        return [index for index in range(self.num_shards) if not self._receipt(index).is_file()]

    def write_shard(self, index: int, features: Features, skipped: list[Skipped]) -> None:
        """Write one shard: temporary, durable, renamed, receipt.

        Args:
            index: Number of the shard.
            features: Rows of the items it covers, in item order, in the stored dtype.
            skipped: Items it covers that have no row.

        Raises:
            FeatureRangeError: A value is not finite.
        """
        assert len(features) + len(skipped) == len(self.shard_items(index))
        self._check_range(features)
        path = self.shard_path(index)
        temporary = files.temporary_path(path)
        self.format.write(temporary, self._arrays(features))
        files.sync_tree(temporary)
        _remove(path)  # without a receipt it may be anything
        temporary.rename(path)
        files.sync_folder(self.folder)
        receipt = {
            "rows": len(features),
            "tokens": len(features.values),
            "files": {
                str(file.relative_to(self.folder)): {
                    "bytes": file.stat().st_size,
                    "sha256": files.sha256_file(file),
                }
                for file in files.files_below(path)
            },
            "skipped": [asdict(item) for item in skipped],
        }
        files.write_json(self._receipt(index), receipt)

    def finish(self) -> None:
        """Move the receipts into the manifest; the store is complete after this."""
        missing = self.missing_shards()
        assert not missing, f"shards {missing} are not written"
        if not self.complete:
            shards = [files.read_json(self._receipt(index)) for index in range(self.num_shards)]
            self.manifest = {**self.manifest, "complete": True, "shards": shards}
            files.write_json(self.folder / MANIFEST, self.manifest)
        for index in range(self.num_shards):
            self._receipt(index).unlink(missing_ok=True)
        files.sync_folder(self.folder)

    def touch(self) -> None:
        """Make this the newest store, which verbs take when they are not told which."""
        (self.folder / MANIFEST).touch()

    def receipts(self) -> Iterator[dict[str, Any]]:
        """Iterate over what is recorded of each finished shard, in order."""
        if self.complete:
            yield from self.manifest["shards"]
            return
        for index in range(self.num_shards):
            if self._receipt(index).is_file():
                yield files.read_json(self._receipt(index))

    def skipped(self) -> list[Skipped]:
        """List the items without a row, in order."""
        return [Skipped(**item) for receipt in self.receipts() for item in receipt["skipped"]]

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
        return sum(
            entry["bytes"] for receipt in self.receipts() for entry in receipt["files"].values()
        )

    def locate(self, index: int) -> dict[str, ArrayLocation]:
        """Return where the arrays of shard `index` lie.

        Raises:
            StoreCorruptError: The shard cannot be read.
        """
        locations = self.format.locate(self.shard_path(index))
        expected = set(self._array_names())
        if set(locations) != expected:
            raise StoreCorruptError(
                f"{self.shard_path(index)} holds {sorted(locations)}, expected {sorted(expected)}"
            )
        return locations

    def verify(self) -> list[str]:
        """Read every byte; return one line for each damaged, missing or foreign file."""
        return list(self._damaged(content=True))

    def _damaged(self, *, content: bool) -> Iterator[str]:
        known = {MANIFEST, *self.format.store_files}
        yield from (f"{self.folder / name}: differs" for name, _ in self._differing_store_files())
        if not self.complete:
            known |= {self._receipt(index).name for index in range(self.num_shards)}
        for receipt in self.receipts():
            known |= set(receipt["files"])
            yield from self._shard_damage(receipt, content=content)
        if content:
            for file in files.files_below(self.folder):
                name = str(file.relative_to(self.folder))
                if name not in known:
                    yield f"{file}: not in the manifest"

    def _differing_store_files(self) -> list[tuple[str, bytes]]:
        def found(name: str) -> bytes | None:
            path = self.folder / name
            return path.read_bytes() if path.is_file() else None

        wanted = self.format.store_files
        return [(name, content) for name, content in wanted.items() if found(name) != content]

    def _receipt(self, index: int) -> Path:
        return self.folder / f"shard-{index:05d}.json"

    def _clear_leftovers(self) -> None:
        for name, content in self._differing_store_files():
            files.write_bytes(self.folder / name, content)
        for path in list(self.folder.iterdir()):
            if files.is_abandoned(path):
                _remove(path)
        if self.complete:
            self._reopen_damaged()
        if self.complete:
            self.finish()

    def _reopen_damaged(self) -> None:
        """Make a complete store incomplete again where files are missing or cut short."""
        whole = {
            index: receipt
            for index, receipt in enumerate(self.receipts())
            if not any(self._shard_damage(receipt, content=False))
        }
        if len(whole) == self.num_shards:
            return
        for index, receipt in whole.items():
            files.write_json(self._receipt(index), receipt)
        kept = {key: value for key, value in self.manifest.items() if key != "shards"}
        self.manifest = {**kept, "complete": False}
        files.write_json(self.folder / MANIFEST, self.manifest)

    def _shard_damage(self, receipt: Mapping[str, Any], *, content: bool) -> Iterator[str]:
        for name, entry in receipt["files"].items():
            problem = _file_problem(self.folder / name, entry, content=content)
            if problem:
                yield f"{self.folder / name}: {problem}"

    def _array_names(self) -> tuple[str, ...]:
        ragged = self.description.tokens_per_item is None
        return ("values", "ids", "offsets") if ragged else ("values", "ids")

    def _arrays(self, features: Features) -> dict[str, np.ndarray]:
        ids = {"ids": encode_ids(features.ids)}
        tokens = self.description.tokens_per_item
        if tokens is None:
            return {"values": features.values, "offsets": features.offsets, **ids}
        shape = (len(features), tokens, self.description.width)
        return {"values": features.values.reshape(shape), **ids}

    def _check_range(self, features: Features) -> None:
        finite = np.isfinite(features.values).all(axis=1)
        if finite.all():
            return
        token = int(np.argmin(finite))
        row = int(np.searchsorted(features.offsets, token, side="right")) - 1
        raise FeatureRangeError(
            f"item {features.ids[row]!r} has a feature that is not finite in "
            f"{self.description.dtype}: try --dtype float32"
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a store, complete or not.

    Raises:
        StoreNotFoundError: The folder holds no store.
        StoreCorruptError: The manifest is not one of ours.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise StoreNotFoundError(f"no feature store in {folder}: {MANIFEST} is missing")
    manifest = files.read_json(path)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise StoreCorruptError(
            f"{path} has format version {version}, this lightalign reads {FORMAT_VERSION}"
        )
    try:
        description = StoreDescription(**manifest["description"])
        consistent = description.key == manifest["key"]
    except (KeyError, TypeError, SpecError) as error:
        raise StoreCorruptError(f"{path} is not a manifest of ours: {error}") from error
    if not consistent:
        raise StoreCorruptError(f"{path}: the key does not belong to the description")
    return dict(manifest)


def verify_folder(folder: Path) -> list[str]:
    """Return one line for each damaged file of a store, its manifest among them."""
    try:
        store = FeatureStore(folder, read_manifest(folder))
    except (StoreCorruptError, StoreNotFoundError, UnknownNameError) as error:
        return [str(error)]
    return store.verify()


def _file_problem(path: Path, entry: Mapping[str, Any], *, content: bool) -> str | None:
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"{size} bytes, expected {entry['bytes']}"
    if content and files.sha256_file(path) != entry["sha256"]:
        return "checksum differs"
    return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
