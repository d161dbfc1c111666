"""Remove feature stores, unless a run or a living process needs them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache import atomic_files
from ...featcache.errors import SpecError, StoreCorruptError, StoreInUseError, StoreNotFoundError
from ...featcache.home import is_in_home
from ...featcache.regular_files import is_there
from ...featcache.store import remedies, verified_files
from ...featcache.store.catalog import arrays_path, find_store, read_catalog
from ...featcache.store.locks import holders, owning_split
from ...featcache.store.manifest import has_manifest, named_key
from ..runs import run_folder
from .explain import read_any_manifest


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
    # not resolved itself: of a link to a store the link is removed
    folder = named.parent.resolve() / named.name
    if not is_in_home(folder.parent, home):
        raise SpecError(_elsewhere(named, home))
    # a store of the split that another process begins meanwhile may need the pairs
    with owning_split(folder.parent):
        if not has_manifest(folder):
            raise StoreNotFoundError(f"{folder} was removed by another process just now")
        return _remove(home, folder, force=force)


def _elsewhere(folder: Path, home: Path) -> str:
    """Return why a store of another home is not removed, and the command that does it."""
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
        # first: pairs without a store would be found by nobody
        arrays_path(pairs).unlink(missing_ok=True)
        pairs.unlink()
    verified_files.memory_of_store(folder, home).forget()
    if is_link:
        folder.unlink()
    else:
        atomic_files.remove_whole(folder)
    return RemoveReport(store=folder, bytes=num_bytes, runs=tuple(referring), pairs=pairs)


def _keys_of(home: Path, folder: Path) -> list[str]:
    """Return the keys, or starts of them, by which runs may know a store.

    Where its manifest is that of another store these are two, but for one of a store that is whole.
    """
    named = named_key(folder)
    try:
        key = str(read_any_manifest(folder)["key"])
    except (StoreCorruptError, KeyError, TypeError):
        return [named or folder.name.rpartition("--")[2]]
    if named is None or key.startswith(named):
        return [key]
    others = [entry.key for entry in read_catalog(home).everything]
    return [
        candidate
        for candidate in (named, key)
        if not any(other.startswith(candidate) for other in others)
    ]


def _runs_of(home: Path, keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the runs that refer to the store, and why others cannot be read."""
    referring, unknown = [], []
    for folder in sorted(run_folder.run_folders(home)):
        faults: list[str] = []
        tables = list(_tables_of(folder, faults))
        if any(_names_key(tables, key) for key in keys):
            referring.append(folder.name)
        else:
            unknown.extend(faults)
    return referring, unknown


def _tables_of(run: Path, faults: list[str]) -> Iterator[Any]:
    """Yield all tables of a run, and add to `faults` why others cannot be read."""
    try:
        has_spec = is_there(run / run_folder.SPEC)
        paths = atomic_files.matching(run, "*.json")
    except OSError as error:
        faults.append(f"{error.filename} cannot be read: {error.strerror}")
        return
    for path in [*([run / run_folder.SPEC] if has_spec else []), *paths]:
        try:
            is_spec = path.suffix == ".toml"
            yield run_folder.read_table(run) if is_spec else atomic_files.read_report(path)
        except (SpecError, StoreCorruptError) as error:  # noqa: PERF203  # of each file its own
            faults.append(str(error))
        except OSError as error:
            faults.append(f"{path} cannot be read: {error.strerror}")


def _names_key(value: Any, key: str) -> bool:
    if isinstance(value, Mapping):
        return any(_names_key(part, key) for part in value.values())
    if isinstance(value, list):
        return any(_names_key(part, key) for part in value)
    return isinstance(value, str) and value.startswith(key)


def _pairs_of_it_alone(folder: Path) -> Path | None:
    """Return the pairs of the store's source if all stores beside it are of another source."""
    # by source, as a folder of a split may hold stores of two states of a dataset
    source = _source_of(folder)
    others = [_source_of(other) for other in stores_in(folder.parent) if not other.samefile(folder)]
    if source is None or source in others or None in others:  # an unreadable one may need them
        return None
    path = folder.parent / f"pairs--{source[:12]}.json"
    return path if path.is_file() else None


def stores_in(split: Path) -> list[Path]:
    """List the stores of a split in any state; a folder that may not be read may be one."""
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
        return str(read_any_manifest(folder)["description"]["source"])
    except (StoreCorruptError, KeyError, TypeError, OSError):
        return None
