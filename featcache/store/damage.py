"""Sort what is damaged in a store, and take just that away."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import atomic_files
from ..errors import StoreCorruptError, StoreInUseError, StoreNotFoundError, UnknownNameError
from .catalog import pairs_path, read_pairs
from .feature_store import FeatureStore
from .locks import MANIFEST_LOCK, ShardLocks, holders, is_abandoned, lock_files, remove_unheld
from .manifest import COPY, MANIFEST, read_manifest, read_whole_manifest, restore_manifest
from .verified_files import home_of
from .verify import IntegrityEntry, shard_flaws

_NAMED = 8  # missing shards that are listed by their numbers


@dataclass(frozen=True, kw_only=True)
class IntegrityReport:
    """Everything in a store that is not as its manifest says, by name.

    Attributes:
        shards: Numbers of the shards that must be computed, again or for the first time.
        is_unfinished: Whether the store is not complete and nobody is writing it.
        store_files: Names of the files between the shards that differ.
        manifests: Which of the manifest and its copy is damaged.
        locks: Names of the lock files that are damaged or of dead processes.
        temporaries: Names of what dead processes have left.
        receipts: Names of receipts of shards that the manifest already has.
        pairs: The list of pairs of the store's source, if it is damaged.
        foreign: Files that lightalign has not written; only their owner may remove them.
        lines: One line for each damaged file, for people.
    """

    shards: tuple[int, ...] = ()
    is_unfinished: bool = False
    store_files: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    temporaries: tuple[str, ...] = ()
    receipts: tuple[str, ...] = ()
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


def find_damage(folder: Path) -> IntegrityReport:
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
    shards = set()
    for flaw in flaws:
        shard = _shard_of(store, flaw)
        if shard is not None:
            shards.add(shard)
        else:
            kind, name = _kind_of(store, flaw)
            sorted_flaws.setdefault(kind, []).append(name)
    # a living process that writes into the store is about to write what is missing
    is_unfinished = not store.complete and not any(True for _ in holders(folder))
    missing = store.missing_shards() if is_unfinished else []
    lines = [str(flaw) for flaw in flaws]
    if is_unfinished:
        lines.append(_unfinished_line(store, missing))
    if pairs is not None:
        lines.append(str(pairs))
    return IntegrityReport(
        shards=tuple(sorted(shards | set(missing))),
        is_unfinished=is_unfinished,
        pairs=() if pairs is None else (pairs.path.name,),
        lines=tuple(lines),
        **{kind: tuple(dict.fromkeys(names)) for kind, names in sorted_flaws.items()},
    )


def clear_damage(folder: Path, damage: IntegrityReport) -> None:
    """Restore what can be restored, and remove damaged shards so that just these are missing.

    Files that lightalign has not written stay, and so does what another process has mended since.

    Raises:
        StoreCorruptError: The manifest and its copy are both damaged.
        StoreInUseError: A living process works on one of the damaged shards.
        StoreNotFoundError: The store was removed meanwhile.
    """
    with ShardLocks(folder) as claimed:
        try:
            claimed.wait_for(MANIFEST_LOCK)  # nobody else begins, mends or completes it now
        except FileNotFoundError as error:
            raise StoreNotFoundError(f"{folder} was removed meanwhile") from error
        # the manifest first, as it says what all else must be
        if damage.manifests:
            restore_manifest(folder)
        store = FeatureStore(folder, read_manifest(folder))
        for name in damage.store_files:
            atomic_files.write_bytes(folder / name, store.format.store_files[name])
        if damage.locks:
            remove_unheld(folder)
        for name in damage.temporaries:
            atomic_files.clear(folder / name)
        if store.complete:
            store.finish()
        _drop_damaged(store, damage, claimed)
        if not store.complete and not store.missing_shards():
            store.finish()


def _drop_damaged(store: FeatureStore, damage: IntegrityReport, claimed: ShardLocks) -> None:
    """Remove the shards that are still damaged, now that nobody else can mend them."""
    folder = store.folder
    receipts = store.receipt_of_each_shard()
    written = [index for index in damage.shards if index in receipts]
    busy = [index for index in written if not claimed.claim(index)]
    if busy:
        held = "; ".join(f"{path.name}: {who}" for path, who in holders(folder))
        raise StoreInUseError(f"shards {busy} of {folder} are being written: {held}")
    damaged = {
        index
        for index in written
        if any(True for _ in shard_flaws(folder, index, receipts[index], content=True))
    }
    # of those without a receipt what lies there is worth nothing, unless it is being written
    rest = {index for index in damage.shards if index not in receipts and claimed.claim(index)}
    if damaged or rest:
        store.drop_shards(damaged | rest)


def _unfinished_line(store: FeatureStore, missing: Sequence[int]) -> str:
    if not missing:
        return f"{store.folder}: incomplete, though all of its {store.num_shards} shards are there"
    named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
    return (
        f"{store.folder}: incomplete, {len(missing)} of {store.num_shards} shards are missing: "
        f"{named}"
    )


def _pairs_flaw(store: FeatureStore) -> IntegrityEntry | None:
    """Return what is wrong with the pairs of the store's source; None for a store in no home."""
    described = store.description
    # through links, as the pairs lie beside the store itself
    home = home_of(store.folder.resolve(), described)
    if home is None:
        return None
    path = pairs_path(home, described.dataset, described.split, described.source)
    try:
        read_pairs(path)
    except StoreCorruptError:
        return IntegrityEntry(path=path, problem="damaged" if path.is_file() else "missing")
    return None


def _shard_of(store: FeatureStore, flaw: IntegrityEntry) -> int | None:
    """Return the shard that must be computed again, among them those never finished."""
    if flaw.shard is not None:
        return flaw.shard
    top = flaw.path.relative_to(store.folder).parts[0]
    unfinished = {store.shard_path(index).name: index for index in store.missing_shards()}
    return unfinished.get(top)


def _kind_of(store: FeatureStore, flaw: IntegrityEntry) -> tuple[str, str]:
    """Return the attribute of the report that `flaw` belongs to, and the name to put there."""
    name = str(flaw.path.relative_to(store.folder))
    if name in (MANIFEST, COPY):
        return "manifests", name
    if name in store.format.store_files:
        return "store_files", name
    if flaw.path in lock_files(store.folder):
        return "locks", name
    if name in store.needless_receipts():
        return "receipts", name
    top = store.folder / Path(name).parts[0]
    return ("temporaries", top.name) if is_abandoned(top) else ("foreign", name)
