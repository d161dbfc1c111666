"""The manifest of a store, and its copy, which restores it.

Both hold the same bytes: a checksum protects the content, and the copy is written second.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import files
from .description import FORMAT_VERSION, StoreDescription
from .errors import SpecError, StoreCorruptError, StoreNotFoundError

MANIFEST = "manifest.json"
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
    manifest = files.read_json(path)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise StoreCorruptError(
            f"{path} has format version {version}, this lightalign reads {FORMAT_VERSION}"
        )
    try:
        description = StoreDescription(**manifest["description"])
        consistent = description.key == manifest["key"]
    except (LookupError, TypeError, SpecError) as error:
        raise StoreCorruptError(f"{path} is not a manifest of ours: {error}") from error
    if not consistent:
        raise StoreCorruptError(f"{path}: the key does not belong to the description")
    return files.read_sealed(path)


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
