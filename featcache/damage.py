"""Sort what is damaged in a store, and take just that away."""

from dataclasses import dataclass, field
from pathlib import Path

from . import files
from .catalog import pairs_path, read_pairs
from .errors import StoreCorruptError, StoreInUseError, StoreNotFoundError, UnknownNameError
from .flaws import Flaw
from .locks import ShardLocks, holders, is_abandoned, lock_files, remove_unheld
from .manifest import (
    COPY,
    MANIFEST,
    read_manifest,
    read_whole_manifest,
    restore_manifest,
)
from .store import FeatureStore


@dataclass(frozen=True, kw_only=True)
class Damage:
    """Name everything in a store that is not as its manifest says.

    Attributes:
        shards: Numbers of the shards that must be computed again.
        store_files: Names of the files between the shards that differ.
        manifests: Which of the manifest and its copy is damaged.
        locks: Names of the lock files that are damaged or of dead processes.
        temporaries: Names of what dead processes have left.
        pairs: The list of pairs of the store's source, if it is damaged.
        foreign: Files that lightalign has not written; only their owner may remove them.
        lines: One line for each damaged file, for people.
    """

    shards: tuple[int, ...] = ()
    store_files: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    temporaries: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    lines: tuple[str, ...] = field(default=(), compare=False)

    def __bool__(self) -> bool:
        return bool(self.lines)


def verify_folder(folder: Path) -> list[str]:
    """Read every byte; return one line for each damaged file of a store, its manifest among them.

    What the manifest cannot say any more, its copy does.
    """
    try:
        return list(find_damage(folder).lines)
    except (StoreCorruptError, StoreNotFoundError, UnknownNameError) as error:
        return [str(error)]
    except OSError as error:
        return [f"{error.filename or folder} cannot be read: {error.strerror}"]


def find_damage(folder: Path) -> Damage:
    """Read every byte of a store and sort what is damaged.

    Raises:
        StoreNotFoundError: The folder holds no store.
        StoreCorruptError: The manifest and its copy are both damaged.
        UnknownNameError: No format has the name that the manifest gives.
    """
    store = FeatureStore(folder, read_whole_manifest(folder))
    flaws = list(store.flaws(content=True))
    pairs = _pairs_flaw(store)
    sorted_flaws: dict[str, list[str]] = {}
    shards = {_shard_of(store, flaw) for flaw in flaws} - {None}
    for flaw in flaws:
        if _shard_of(store, flaw) is None:
            kind, name = _kind_of(store, flaw)
            sorted_flaws.setdefault(kind, []).append(name)
    return Damage(
        shards=tuple(sorted(index for index in shards if index is not None)),
        pairs=() if pairs is None else (pairs.path.name,),
        lines=tuple(str(flaw) for flaw in [*flaws, *([pairs] if pairs else [])]),
        **{kind: tuple(dict.fromkeys(names)) for kind, names in sorted_flaws.items()},
    )


def clear_damage(folder: Path, damage: Damage) -> None:
    """Restore what can be restored, and remove damaged shards so that just these are missing.

    Files that lightalign has not written stay.

    Raises:
        StoreCorruptError: The manifest and its copy are both damaged.
        StoreInUseError: A living process works on one of the damaged shards.
    """
    if damage.manifests:
        restore_manifest(folder)
    store = FeatureStore(folder, read_manifest(folder))
    for name in damage.store_files:
        files.write_bytes(folder / name, store.format.store_files[name])
    if damage.locks:
        remove_unheld(folder)
    for name in damage.temporaries:
        files.clear(folder / name)
    if not damage.shards:
        return
    with ShardLocks(folder) as claimed:
        busy = [index for index in damage.shards if not claimed.claim(index)]
        if busy:
            held = "; ".join(f"{path.name}: {who}" for path, who in holders(folder))
            raise StoreInUseError(f"shards {busy} of {folder} are being written: {held}")
        store.drop_shards(damage.shards)


def _pairs_flaw(store: FeatureStore) -> Flaw | None:
    """Return what is wrong with the pairs of the store's source; None for a store in no home."""
    described = store.description
    home = store.folder.resolve().parents[3:4]
    if not home or described.folder(home[0]) != store.folder.resolve():
        return None
    path = pairs_path(home[0], described.dataset, described.split, described.source)
    try:
        read_pairs(path)
    except StoreCorruptError:
        return Flaw(path=path, problem="damaged" if path.is_file() else "missing")
    return None


def _shard_of(store: FeatureStore, flaw: Flaw) -> int | None:
    """Return the shard that must be computed again, among them those never finished."""
    if flaw.shard is not None:
        return flaw.shard
    top = flaw.path.relative_to(store.folder).parts[0]
    unfinished = {store.shard_path(index).name: index for index in store.missing_shards()}
    return unfinished.get(top)


def _kind_of(store: FeatureStore, flaw: Flaw) -> tuple[str, str]:
    """Return the attribute of `Damage` that `flaw` belongs to, and the name to put there."""
    name = str(flaw.path.relative_to(store.folder))
    if name in (MANIFEST, COPY):
        return "manifests", name
    if name in store.format.store_files:
        return "store_files", name
    if flaw.path in lock_files(store.folder):
        return "locks", name
    top = store.folder / Path(name).parts[0]
    return ("temporaries", top.name) if is_abandoned(top) else ("foreign", name)
