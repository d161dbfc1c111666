"""The manifest of a store, and its copy, which restores it.

Both hold the same bytes: a checksum protects the content, and the copy is written second.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from typing_extensions import NotRequired, TypedDict

from .. import atomic_files as files
from ..documents import MAX_BYTES, check, is_inside, read_json
from ..errors import StoreCorruptError, StoreNotFoundError
from ..regular_files import is_file, read_regular
from .key import FORMAT_VERSION, StoreDescription
from .remedies import extraction_into, removal_of_store

_NAMED_BY_KEY = re.compile(r"--([0-9a-f]{12})\Z")  # folders elsewhere may have other names

MANIFEST = "manifest.json"
COPY = "manifest.copy.json"

Count = Annotated[int, Meta(ge=0, lt=2**53)]  # of rows, tokens or bytes
Checksum = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class ShardFile(TypedDict):
    """One file of a shard, or of a run."""

    bytes: Count
    sha256: Checksum


class _SkippedItem(TypedDict):
    id: str
    reason: str
    stage: NotRequired[str]


class Receipt(TypedDict):
    """Record of one finished shard; derived rows were made of another store's and not encoded."""

    rows: Count
    tokens: Count
    files: dict[str, ShardFile]
    skipped: list[_SkippedItem]
    derived: NotRequired[bool]


class _Origin(TypedDict):
    key: Checksum
    store: str


class _UnreadRow(TypedDict):
    place: str
    reason: str


class Settings(TypedDict):
    """Settings and observations of the first extraction that the description leaves out."""

    batch_size: NotRequired[Annotated[int, Meta(ge=1, lt=2**31)]]
    source: NotRequired[dict[str, Any]]
    skipped_rows: NotRequired[list[_UnreadRow]]  # of a table, which are no items
    num_skipped_rows: NotRequired[Count]
    derived_from: NotRequired[_Origin]  # the store of tokens that this one was begun from
    first_is_class: NotRequired[bool]


class Manifest(TypedDict):
    """Content of `manifest.json`, but for its checksum."""

    key: Checksum
    keyed: dict[str, Any]
    description: StoreDescription
    versions: dict[str, str]
    settings: Settings
    complete: bool
    shards: NotRequired[list[Receipt]]


def named_key(folder: Path) -> str | None:
    """Return the start of the key that the name of a store's folder gives, or None without one."""
    named = _NAMED_BY_KEY.search(folder.name)
    return named[1] if named else None


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of the store in `folder`, then its copy; the store's age stays.

    Verbs take the newest store when they are not told which, and only an extraction makes one the
    newest, by `FeatureStore.touch`.
    """
    times = _times(folder)
    for name in (MANIFEST, COPY):
        files.write_sealed(folder / name, manifest, times=times)


def _times(folder: Path) -> os.stat_result | None:
    """Return the state of the file that says how old a store is; None if it is not begun."""
    paths = (folder / name for name in (MANIFEST, COPY))
    return next((path.stat() for path in paths if is_file(path)), None)


def read_manifest(folder: Path, name: str = MANIFEST) -> dict[str, Any]:
    """Return the manifest of a store, complete or not, or its copy by the name of that.

    Raises:
        StoreNotFoundError: The folder holds no store.
        StoreCorruptError: The manifest is damaged or is not one of ours.
    """
    path = folder / name
    if not is_file(path):
        raise StoreNotFoundError(f"no feature store in {folder}: {name} is missing")
    manifest = read_json(path)
    # the version first: the manifest of another one may be of another type
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise StoreCorruptError(
            f"{path} has format version {version!r:.40}, this lightalign reads {FORMAT_VERSION}"
        )
    check(manifest, Manifest, where=path)
    try:
        description = StoreDescription(**manifest["description"])
    except TypeError as error:  # a field that this version does not know
        raise StoreCorruptError(f"{path} is not a manifest of ours: {error}") from error
    if description.key != manifest["key"]:
        raise StoreCorruptError(f"{path}: the key does not belong to the description")
    named = named_key(folder)
    if named and not description.key.startswith(named):
        raise StoreCorruptError(f"{path} is that of another store, {description.key[:12]}")
    if manifest["complete"]:
        _check_shards(manifest.get("shards", ()), description, where=path)
    # the checksum last: what is wrong by its type is told in words before
    return files.unsealed(path, manifest)


def _check_shards(
    receipts: Sequence[Receipt], description: StoreDescription, *, where: Path
) -> None:
    """Refuse a table of shards that is not that of a whole store."""
    num_shards = description.num_shards
    if len(receipts) != num_shards:
        raise StoreCorruptError(
            f"{where} lists {len(receipts)} shards, not the {num_shards} of a whole store"
        )
    for index, receipt in enumerate(receipts):
        name = f"shard-{index:05d}"
        _check_receipt(receipt, description.shard_items(index), name=name, where=where)


def read_receipt(path: Path, items: range) -> dict[str, Any]:
    """Return the receipt of the finished shard that covers these positions of items.

    Raises:
        FileNotFoundError: There is none.
        StoreCorruptError: It is damaged, or is that of another shard.
    """
    receipt = files.read_sealed(path)
    _check_receipt(check(receipt, Receipt, where=path), items, name=path.stem, where=path)
    return receipt


def _check_receipt(receipt: Receipt, items: range, *, name: str, where: Path) -> None:
    """Refuse the receipt of another shard, or by which a file outside would be removed."""
    outside = [name for name in receipt["files"] if not is_inside(name)]
    if outside:
        raise StoreCorruptError(f"{where} names a file outside of the store: {outside[0]!r}")
    others = [file for file in receipt["files"] if file.partition("/")[0].partition(".")[0] != name]
    if others:
        raise StoreCorruptError(f"{where} names a file of another shard than {name}: {others[0]!r}")
    num_items = receipt["rows"] + len(receipt["skipped"])
    if num_items != len(items):
        raise StoreCorruptError(f"{where} has {num_items} items in a shard of {len(items)}")


def has_manifest(folder: Path) -> bool:
    """Return whether a store was begun in `folder`.

    Raises:
        PermissionError: The folder may not be searched.
    """
    return any(is_file(folder / name) for name in (MANIFEST, COPY))


def read_whole_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest, or its copy where the manifest itself is damaged or missing.

    Raises:
        StoreNotFoundError: The folder holds no store.
        StoreCorruptError: Both are damaged.
    """
    damaged = manifest_damage(folder)
    if {MANIFEST, COPY} <= set(damaged) and has_manifest(folder):
        raise StoreCorruptError(_both_damaged(folder, damaged))
    return read_manifest(folder, COPY if MANIFEST in damaged and COPY not in damaged else MANIFEST)


def manifest_damage(folder: Path) -> dict[str, str]:
    """Return what is wrong with the manifest and with its copy, by file name; empty if nothing is.

    Where both are whole and differ, the copy is the older one: it is written second.
    """
    problems = {name: _problem(folder, name) for name in (MANIFEST, COPY)}
    damaged = {name: problem for name, problem in problems.items() if problem}
    if not damaged and _read(folder, MANIFEST) != _read(folder, COPY):
        damaged[COPY] = f"differs from {MANIFEST}"
    return damaged


def restore_manifest(folder: Path) -> None:
    """Write the damaged one of manifest and copy anew from the other.

    Raises:
        StoreCorruptError: Both are damaged.
    """
    damaged = manifest_damage(folder)
    if len(damaged) == 2:
        raise StoreCorruptError(_both_damaged(folder, damaged))
    times = _times(folder)
    for name in damaged:
        whole = COPY if name == MANIFEST else MANIFEST
        files.write_bytes(folder / name, _read(folder, whole), times=times)


def _both_damaged(folder: Path, damaged: Mapping[str, str]) -> str:
    way_out = "replace the store by a whole copy"
    extraction = extraction_into(folder)
    if extraction is not None:
        home, command = extraction
        way_out = (
            f"remove the store by `{removal_of_store(folder, home)}` and extract it again by "
            f"`{command}`, with the options that it had"
        )
    return f"{folder / MANIFEST} and {COPY} are both damaged: {way_out} ({damaged[MANIFEST]})"


def _read(folder: Path, name: str) -> bytes:
    return read_regular(folder / name, limit=MAX_BYTES)


def _problem(folder: Path, name: str) -> str | None:
    try:
        read_manifest(folder, name)
    except StoreNotFoundError:
        return "missing"
    except StoreCorruptError as error:
        return str(error).removeprefix(f"{folder / name}").lstrip(": ")
    return None
