"""Explain why two stores have different keys."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from ...featcache.documents import check, read_json
from ...featcache.errors import StoreCorruptError, StoreNotFoundError
from ...featcache.store.catalog import Unread, find_store, manifest_folders, note_unread
from ...featcache.store.key import StoreDescription
from ...featcache.store.manifest import COPY, MANIFEST
from .listing import last_change

_ABSENT = "absent"
_VIEW = "view.name"  # absent from a plain store
_NAMES = ("dataset", "encoder")  # of the folders: they change the place of a store, not its key


class _AnyManifest(TypedDict):
    """Manifest of any format version, as far as keys are explained by it."""

    key: str
    keyed: dict[str, Any]
    description: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One value in which two stores differ.

    Attributes:
        field: Dotted name of the value.
        first: It in the first, as JSON; or `absent`, without quotes.
        second: It in the second.
    """

    field: str
    first: str
    second: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Comparison of two stores, by all values that make their keys and names.

    Attributes:
        first: Key of what was asked for, or the folder of the first store.
        second: Folder of the store it is compared with, or None if there is none.
        complete: Whether the extraction of the second has finished.
        num_equal: Values that are equal.
        differences: The others.
    """

    first: str
    second: Path | None
    complete: bool
    num_equal: int
    differences: tuple[Difference, ...]


def explain(home: Path, description: StoreDescription) -> Explanation:
    """Compare the store of a description with the nearest one that is there.

    A store of the same encoder and dataset is nearer than any other, then counts how many values
    are equal; the newest of equals is taken. Stores of other format versions take part. A view is
    near to stores of that view alone, and a plain store to plain ones.
    """
    names = {name: getattr(description, name) for name in _NAMES}
    fields = _flatten({**names, **description.keyed()})
    return _nearest(fields, description.key, manifest_folders(home))


def explain_stores(home: Path, first: str, second: str | None = None) -> Explanation:
    """Compare two stores; the second is the one nearest to the first if none is named.

    Raises:
        StoreNotFoundError: There is no such store.
        StoreCorruptError: A manifest cannot be read.
    """
    folder = find_store(home, first)
    fields = _fields(folder)
    if second is None:
        others = [other for other in manifest_folders(home) if not other.samefile(folder)]
        return _nearest(fields, str(folder), others)
    other = find_store(home, second)
    return _compare(fields, _fields(other), str(folder), other)


def _nearest(fields: Mapping[str, Any], name: str, folders: Sequence[Path]) -> Explanation:
    candidates = []
    for folder in folders:
        try:
            other_fields = _fields(folder)
        except StoreNotFoundError:  # noqa: PERF203  # of each folder its own reason
            pass  # removed meanwhile
        except StoreCorruptError as error:
            note_unread(Unread(folder, str(error)))
        except OSError as error:
            note_unread(Unread(folder, f"{error.filename} cannot be read: {error.strerror}"))
        else:
            if fields.get(_VIEW) != other_fields.get(_VIEW):
                continue
            near = _compare(fields, other_fields, name, folder)
            same_names = sum(fields[key] == other_fields.get(key) for key in _NAMES)
            # names first: a store of another encoder is no near miss, however much else is equal
            candidates.append((same_names, near.num_equal, last_change(folder), near))
    if not candidates:
        return Explanation(first=name, second=None, complete=False, num_equal=0, differences=())
    return max(candidates, key=lambda candidate: candidate[:3])[3]


def _compare(
    first: Mapping[str, Any], second: Mapping[str, Any], name: str, folder: Path
) -> Explanation:
    fields = dict.fromkeys([*first, *second])
    differences = tuple(
        Difference(field=field, first=_shown(first, field), second=_shown(second, field))
        for field in fields
        if _shown(first, field) != _shown(second, field)
    )
    return Explanation(
        first=name,
        second=folder,
        complete=bool(read_any_manifest(folder).get("complete")),
        num_equal=len(fields) - len(differences),
        differences=differences,
    )


def _shown(table: Mapping[str, Any], field: str) -> str:
    return json.dumps(table[field], ensure_ascii=False) if field in table else _ABSENT


def _fields(folder: Path) -> dict[str, Any]:
    """Return the values behind key and name of a store, of any format version."""
    try:
        manifest = read_any_manifest(folder)
        names = {name: manifest["description"][name] for name in _NAMES}
        return _flatten({**names, **manifest["keyed"]})
    # a manifest that may not be read is not damaged: the caller names it as unread
    except PermissionError:
        raise
    except (KeyError, TypeError, OSError) as error:
        raise StoreCorruptError(
            f"{folder / MANIFEST} is not a manifest of ours: {error}"
        ) from error


def read_any_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a store of any format version, or its copy.

    Raises:
        StoreCorruptError: It is no manifest.
    """
    path = folder / MANIFEST
    path = path if path.is_file() else folder / COPY
    manifest: dict[str, Any] = read_json(path)
    check(manifest, _AnyManifest, where=path)
    return manifest


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested tables and lists by dotted name; an empty one is a leaf."""
    parts = dict(enumerate(value)) if isinstance(value, list | tuple) else value
    if not isinstance(parts, Mapping) or not parts:
        return {name: value}
    leaves: dict[str, Any] = {}
    for key, part in parts.items():
        leaves |= _flatten(part, f"{name}.{key}" if name else str(key))
    return leaves
