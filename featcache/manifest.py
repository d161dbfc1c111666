"""The manifest of a store, and its copy, which restores it.

Both hold the same bytes: a checksum protects the content, and the copy is written second.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from . import files
from .description import FORMAT_VERSION, StoreDescription
from .documents import check, is_inside, read_json
from .errors import SpecError, StoreCorruptError, StoreNotFoundError

MANIFEST = "manifest.json"


class ShardFile(TypedDict):
    """One file of a shard."""

    bytes: int
    sha256: str


class SkippedItem(TypedDict):
    """One item without a row."""

    id: str
    reason: str


class Receipt(TypedDict):
    """Record of one finished shard: its rows, tokens, files, and the items without a row."""

    rows: int
    tokens: int
    files: dict[str, ShardFile]
    skipped: list[SkippedItem]


class Manifest(TypedDict):
    """Content of `manifest.json`, but for its checksum."""

    key: str
    keyed: dict[str, Any]
    description: StoreDescription
    versions: dict[str, str]
    settings: dict[str, Any]
    complete: bool
    shards: NotRequired[list[Receipt]]


COPY = "manifest.copy.json"


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of the store in `folder`, then its copy."""
    for name in (MANIFEST, COPY):
        files.write_sealed(folder / name, manifest)


def read_manifest(folder: Path, name: str = MANIFEST) -> dict[str, Any]:
    """Return the manifest of a store, complete or not.

    Args:
        folder: The store's folder.
        name: `MANIFEST`, or `COPY` to read that.

    Raises:
        StoreNotFoundError: The folder holds no store.
        StoreCorruptError: The manifest is damaged or is not one of ours.
    """
    path = folder / name
    if not path.is_file():
        raise StoreNotFoundError(f"no feature store in {folder}: {name} is missing")
    manifest = read_json(path)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise StoreCorruptError(
            f"{path} has format version {version!r:.40}, this lightalign reads {FORMAT_VERSION}"
        )
    check(manifest, Manifest, where=path)
    try:
        description = StoreDescription(**manifest["description"])
    except (LookupError, TypeError, SpecError) as error:
        raise StoreCorruptError(f"{path} is not a manifest of ours: {error}") from error
    if description.key != manifest["key"]:
        raise StoreCorruptError(f"{path}: the key does not belong to the description")
    num_shards = len(manifest.get("shards", ()))
    if manifest["complete"] and num_shards != description.num_shards:
        raise StoreCorruptError(
            f"{path} lists {num_shards} shards, not the {description.num_shards} of a whole store"
        )
    for receipt in manifest.get("shards", ()):
        _check_names(receipt, where=path)
    return files.read_sealed(path)


def read_receipt(path: Path) -> dict[str, Any]:
    """Return the receipt of a finished shard.

    Raises:
        FileNotFoundError: There is none.
        StoreCorruptError: It is damaged, or names a file outside the store.
    """
    receipt = files.read_sealed(path)
    check(receipt, Receipt, where=path)
    _check_names(receipt, where=path)
    return receipt


def _check_names(receipt: Mapping[str, Any], *, where: Path) -> None:
    """Refuse a receipt by which a file outside of the store would be read, or removed."""
    outside = [name for name in receipt["files"] if not is_inside(name)]
    if outside:
        raise StoreCorruptError(f"{where} names a file outside of the store: {outside[0]!r}")


def has_manifest(folder: Path) -> bool:
    """Say whether a store was begun in `folder`."""
    return any((folder / name).is_file() for name in (MANIFEST, COPY))


def read_whole_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest, or its copy where the manifest itself is damaged or missing.

    Raises:
        StoreNotFoundError: The folder holds no store.
        StoreCorruptError: Both are damaged.
    """
    damaged = manifest_damage(folder)
    return read_manifest(folder, COPY if MANIFEST in damaged and COPY not in damaged else MANIFEST)


def manifest_damage(folder: Path) -> dict[str, str]:
    """Say what is wrong with the manifest and with its copy, by file name; empty if both are whole.

    Where both are whole and differ, the copy is the older one: it is written second.
    """
    problems = {name: _problem(folder, name) for name in (MANIFEST, COPY)}
    found = {name: problem for name, problem in problems.items() if problem}
    if not found and (folder / MANIFEST).read_bytes() != (folder / COPY).read_bytes():
        found[COPY] = f"differs from {MANIFEST}"
    return found


def restore_manifest(folder: Path) -> None:
    """Write the damaged one of manifest and copy anew from the other.

    Raises:
        StoreCorruptError: Both are damaged.
    """
    damaged = manifest_damage(folder)
    if len(damaged) == 2:
        raise StoreCorruptError(
            f"{folder / MANIFEST} and {COPY} are both damaged: remove the store and extract again"
        )
    for name in damaged:
        whole = COPY if name == MANIFEST else MANIFEST
        files.write_bytes(folder / name, (folder / whole).read_bytes())


def _problem(folder: Path, name: str) -> str | None:
    try:
        read_manifest(folder, name)
    except StoreNotFoundError:
        return "missing"
    except StoreCorruptError as error:
        return str(error).removeprefix(f"{folder / name}").lstrip(": ")
    return None
