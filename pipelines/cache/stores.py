"""Explain, remove and repair feature stores."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from typing_extensions import TypedDict

from ...featcache import atomic_files
from ...featcache.documents import check, read_json
from ...featcache.errors import (
    DatasetChangedError,
    SpecError,
    StoreCorruptError,
    StoreInUseError,
    StoreNotFoundError,
)
from ...featcache.home import is_in_home
from ...featcache.regular_files import is_there
from ...featcache.store import remedies, verified_files
from ...featcache.store.catalog import (
    Unread,
    find_store,
    manifest_folders,
    note_unread,
    read_catalog,
)
from ...featcache.store.damage import clear_damage, find_damage
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.key import StoreDescription
from ...featcache.store.locks import holders, owning_split
from ...featcache.store.manifest import (
    COPY,
    MANIFEST,
    has_manifest,
    named_key,
    read_manifest,
    read_whole_manifest,
)
from ..runs import run_folder as runs

Recompute: TypeAlias = Callable[[FeatureStore, list[int]], None]
_ABSENT = "absent"


class _AnyManifest(TypedDict):
    """Manifest of whatever format version, as far as keys are explained by it."""

    key: str
    keyed: dict[str, Any]
    description: dict[str, Any]


_NAMES = ("dataset", "encoder")  # of the folders: they change the place of a store, not its key


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


@dataclass(frozen=True, kw_only=True)
class RemoveReport:
    """Report of one removed store.

    Attributes:
        store: Folder of the store.
        bytes: Size of its files.
        runs: Names of the runs that referred to it.
        pairs: The list of pairs that no other store needs, or None where one does.
    """

    store: Path
    bytes: int
    runs: tuple[str, ...]
    pairs: Path | None


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """Report of one repaired store.

    Attributes:
        store: Folder of the store.
        damaged: One line for each damaged file that was found.
        recomputed: Numbers of the shards that were computed again.
        differing: Those of them whose bytes are not what they were: another version of a library,
            another device or batch size rounds otherwise.
        left: One line for each file that is still not as it should be; lightalign did not write it.
    """

    store: Path
    damaged: tuple[str, ...]
    recomputed: tuple[int, ...]
    differing: tuple[int, ...]
    left: tuple[str, ...]


def explain(home: Path, description: StoreDescription) -> Explanation:
    """Compare what is asked for with the store that is nearest to it.

    A store of the same encoder and dataset is nearer than any other, then counts how many values
    are equal; the newest of equals is taken. Stores of other format versions take part.
    """
    names = {name: getattr(description, name) for name in _NAMES}
    wanted = _flatten({**names, **description.keyed()})
    return _nearest(wanted, description.key, manifest_folders(home))


def explain_stores(home: Path, first: str, second: str | None = None) -> Explanation:
    """Compare two stores; the second is the one nearest to the first if none is named.

    Raises:
        StoreNotFoundError: There is no such store.
        StoreCorruptError: A manifest cannot be read.
    """
    folder = find_store(home, first)
    wanted = _fields(folder)
    if second is None:
        others = [other for other in manifest_folders(home) if not other.samefile(folder)]
        return _nearest(wanted, str(folder), others)
    other = find_store(home, second)
    return _compare(wanted, _fields(other), str(folder), other)


def remove(home: Path, store: str, *, force: bool = False) -> RemoveReport:
    """Remove a store, and the pairs of its source with the last store of it.

    Args:
        home: Folder of everything lightalign keeps.
        store: Folder, name or key of the store.
        force: Remove it even if runs refer to it.

    Raises:
        StoreNotFoundError: There is no such store.
        SpecError: It lies outside `home`, by a link in its path, too: its runs alone are asked.
        StoreInUseError: A run refers to it, or a living process writes it.
    """
    named = find_store(home, store)
    folder = named.parent.resolve() / named.name  # of a link to a store, the link
    if not is_in_home(folder.parent, home):
        raise SpecError(_elsewhere(named, home))
    with owning_split(folder.parent):
        if not has_manifest(folder):
            raise StoreNotFoundError(f"{folder} was removed by another process just now")
        return _remove(home, folder, force=force)


def _elsewhere(folder: Path, home: Path) -> str:
    """Return why a store that lies in another home is not removed, and the command that does."""
    real = folder.resolve()
    ours = home / "features"
    if not folder.absolute().is_relative_to(ours.absolute()):
        return f"{real} is not in {ours}: name its home with --home"
    command = remedies.removal_of_entry(real)
    return f"{folder} lies elsewhere, in {real.parent}: remove it there by `{command}`"


def _remove(home: Path, folder: Path, *, force: bool) -> RemoveReport:
    """Remove a store of a split whose lock is held; of a link to one elsewhere the link alone."""
    is_link = folder.is_symlink()
    writing = [] if is_link else [str(who) for _, who in holders(folder)]
    if writing:
        raise StoreInUseError(f"{folder} is being written by {sorted(set(writing))}: stop it first")
    referring, unknown = _runs_of(home, _keys_of(home, folder))
    if referring and not force:
        raise StoreInUseError(
            f"{folder} was used by the runs {referring}: add --force to remove it"
        )
    if unknown and not force:
        raise StoreInUseError(
            f"{folder} may have been used by a run that cannot be read, {unknown[0]}: add --force "
            "to remove it all the same"
        )
    below = [] if is_link else atomic_files.files_below(folder)
    num_bytes = sum(file.stat().st_size for file in below)
    pairs = _pairs_of_it_alone(folder)
    if pairs is not None:
        pairs.unlink()  # first: pairs without a store would be found by nobody
    verified_files.memory_of_store(folder, home).forget()
    if is_link:
        folder.unlink()
    else:
        atomic_files.remove_whole(folder)
    return RemoveReport(store=folder, bytes=num_bytes, runs=tuple(referring), pairs=pairs)


def repair(home: Path, store: str, recompute: Recompute) -> RepairReport:
    """Restore what is damaged in a store, computing only its damaged shards again.

    It is as old as before at each moment: verbs take the newest when they are not told which.

    Args:
        home: Folder of everything lightalign keeps.
        store: Folder, name or key of the store.
        recompute: Writes the shards of these numbers into the store.

    Raises:
        StoreNotFoundError: There is no such store.
        StoreCorruptError: The manifest and its copy are both damaged.
        StoreInUseError: A living process writes one of the damaged shards.
        DatasetChangedError: An item can no longer be read; its shard stays missing.
    """
    folder = find_store(home, store)
    damage = find_damage(folder)
    if not damage:
        return RepairReport(store=folder, damaged=(), recomputed=(), differing=(), left=())
    before = FeatureStore(folder, read_whole_manifest(folder)).receipt_of_each_shard()
    clear_damage(folder, damage)
    opened = FeatureStore(folder, read_manifest(folder))
    differing: list[int] = []
    if damage.shards or damage.pairs:
        recompute(opened, list(damage.shards))
        if not opened.complete and not opened.missing_shards():
            opened.finish()
        differing = _compare_receipts(opened, before)
    return RepairReport(
        store=folder,
        damaged=damage.lines,
        recomputed=damage.shards,
        differing=tuple(differing),
        left=find_damage(folder).lines,
    )


def _compare_receipts(store: FeatureStore, before: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Return the shards whose files differ from what they were.

    Raises:
        DatasetChangedError: One has other rows; all such are missing then.
    """
    after = store.receipt_of_each_shard()
    both = [index for index in before if index in after]
    lost = {
        index: [item for item in after[index]["skipped"] if item not in before[index]["skipped"]]
        for index in both
    }
    changed = [index for index in both if lost[index]]
    if changed:
        store.drop_shards(changed)
        reasons = [item["reason"] for index in changed for item in lost[index]]
        raise DatasetChangedError(
            f"shards {changed} of {store.folder} would lose rows and stay missing: "
            f"{'; '.join(reasons[:3])}; restore these and run "
            f"`{remedies.repair(store.folder, store.folder.absolute().parents[3])}`"
        )
    return [index for index in both if before[index]["files"] != after[index]["files"]]


def _nearest(wanted: Mapping[str, Any], name: str, folders: Sequence[Path]) -> Explanation:
    candidates = []
    for folder in folders:
        try:
            other_fields = _fields(folder)
        except StoreNotFoundError:
            continue  # removed meanwhile
        except StoreCorruptError as error:
            note_unread(Unread(folder, str(error)))
            continue
        except OSError as error:
            note_unread(Unread(folder, f"{error.filename} cannot be read: {error.strerror}"))
            continue
        near = _compare(wanted, other_fields, name, folder)
        same_names = sum(wanted[key] == other_fields.get(key) for key in _NAMES)
        candidates.append((same_names, near.num_equal, _changed(folder), near))
    if not candidates:
        return Explanation(first=name, second=None, complete=False, num_equal=0, differences=())
    return max(candidates, key=lambda candidate: candidate[:3])[3]


def _changed(folder: Path) -> int:
    return max(
        (folder / name).stat().st_mtime_ns for name in (MANIFEST, COPY) if (folder / name).is_file()
    )


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
        complete=bool(_manifest(folder).get("complete")),
        num_equal=len(fields) - len(differences),
        differences=differences,
    )


def _shown(table: Mapping[str, Any], field: str) -> str:
    return json.dumps(table[field], ensure_ascii=False) if field in table else _ABSENT


def _fields(folder: Path) -> dict[str, Any]:
    """Return what makes the key and the name of a store of whatever format version."""
    try:
        manifest = _manifest(folder)
        names = {name: manifest["description"][name] for name in _NAMES}
        return _flatten({**names, **manifest["keyed"]})
    except PermissionError:
        raise
    except (KeyError, TypeError, OSError) as error:
        raise StoreCorruptError(
            f"{folder / MANIFEST} is not a manifest of ours: {error}"
        ) from error


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    path = path if path.is_file() else folder / COPY
    manifest: dict[str, Any] = read_json(path)
    check(manifest, _AnyManifest, where=path)
    return manifest


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested tables and lists by dotted name; an empty one is a leaf."""
    if isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = {str(index): part for index, part in enumerate(value)}.items()
    else:
        return {name: value}
    if not parts:
        return {name: value}
    leaves = {}
    for key, part in parts:
        leaves.update(_flatten(part, f"{name}.{key}" if name else key))
    return leaves


def _keys_of(home: Path, folder: Path) -> list[str]:
    """Return the keys, or starts of them, by which runs may know a store.

    Where its manifest is that of another store these are two, but for one of a store that is whole.
    """
    named = named_key(folder)
    try:
        key = str(_manifest(folder)["key"])
    except (StoreCorruptError, KeyError, TypeError):
        return [named or folder.name.rpartition("--")[2]]
    if named is None or key.startswith(named):
        return [key]
    others = [entry.key for entry in read_catalog(home).entries]
    return [
        candidate
        for candidate in (named, key)
        if not any(other.startswith(candidate) for other in others)
    ]


def _runs_of(home: Path, keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the runs whose tables name the store, finished or not, and why others cannot say."""
    referring, unknown = [], []
    for folder in sorted(runs.run_folders(home)):
        tables, faults = _tables_of(folder)
        if any(_names_key(tables, key) for key in keys):
            referring.append(folder.name)
        else:
            unknown.extend(faults)
    return referring, unknown


def _tables_of(run: Path) -> tuple[list[Any], list[str]]:
    """Return all tables of a run, and what is wrong with those that cannot be read."""
    tables: list[Any] = []
    faults: list[str] = []
    try:
        spec = [run / runs.SPEC] if is_there(run / runs.SPEC) else []
        paths = [*spec, *atomic_files.matching(run, "*.json")]
    except OSError as error:
        return [], [f"{error.filename} cannot be read: {error.strerror}"]
    for path in paths:
        table, fault = _table_of(path)
        tables.append(table)
        faults.extend(filter(None, [fault]))
    return tables, faults


def _table_of(path: Path) -> tuple[Any, str]:
    """Return the content of a TOML or JSON file, and why it cannot be read, if it cannot."""
    try:
        is_spec = path.suffix == ".toml"
        return (runs.read_table(path.parent) if is_spec else atomic_files.read_report(path)), ""
    except (SpecError, StoreCorruptError) as error:
        return None, str(error)
    except OSError as error:
        return None, f"{path} cannot be read: {error.strerror}"


def _names_key(value: Any, key: str) -> bool:
    if isinstance(value, Mapping):
        return any(_names_key(part, key) for part in value.values())
    if isinstance(value, list):
        return any(_names_key(part, key) for part in value)
    return isinstance(value, str) and value.startswith(key)


def _pairs_of_it_alone(folder: Path) -> Path | None:
    """Return the pairs of the store's source if all stores beside it are of another source."""
    source = _source_of(folder)
    others = [_source_of(other) for other in stores_in(folder.parent) if not other.samefile(folder)]
    if source is None or source in others or None in others:  # an unreadable one may need them
        return None
    path = folder.parent / f"pairs--{source[:12]}.json"
    return path if path.is_file() else None


def stores_in(split: Path) -> list[Path]:
    """List the stores of a split, whatever state each one is in; what is closed may be one."""
    return [folder for folder in atomic_files.entries(split) if _may_be_store(folder)]


def _may_be_store(folder: Path) -> bool:
    try:
        return has_manifest(folder)
    except PermissionError:
        return True


def needs_pairs(split: Path, path: Path) -> bool:
    """Return whether a store of the split needs these pairs; an unreadable one may need any."""
    sources = [_source_of(folder) for folder in stores_in(split)]
    mark = path.stem.removeprefix("pairs--")
    return any(source is None or source.startswith(mark) for source in sources)


def _source_of(folder: Path) -> str | None:
    try:
        return str(_manifest(folder)["description"]["source"])
    except (StoreCorruptError, KeyError, TypeError, OSError):
        return None
