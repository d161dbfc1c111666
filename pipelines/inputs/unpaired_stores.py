"""Choose the stores of items without a partner that a training learns from, too."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...featcache.errors import SpecError, StoreIncompleteError, StoreNotFoundError
from ...featcache.home import command_line
from ...featcache.store.catalog import StoreEntry, find_store, read_catalog
from ...featcache.store.key import StoreDescription
from ...featcache.store.remedies import extraction
from ...featcache.types import IMAGE_TEXT, Side, in_words
from .store_selection import DatasetQuery, SideQuery, StorePair, extract_again


@dataclass(frozen=True)
class UnpairedStores:
    """Store of each side whose items have no partner; of one dataset or of two.

    Attributes:
        entries: The store of each side, in the order of the sides.
    """

    entries: Mapping[Side, StoreEntry]


def choose_unpaired(
    home: Path, names: Mapping[Side, str | None], pair: StorePair
) -> UnpairedStores | None:
    """Return the stores that are named, or None where none is.

    A name is a store's folder, its name below `features`, the start of its key, or `DATASET/SPLIT`,
    for the newest store there that is like the paired one.

    Args:
        home: Folder of everything lightalign keeps.
        names: Name of the store of each side.
        pair: Stores of the paired items, of whose encoders and features these must be.

    Raises:
        SpecError: One side is named and the other is not, the pairs are of other sides, a
            side has several streams, or a store is not like the paired one.
        StoreNotFoundError: There is no such store.
        StoreIncompleteError: Its extraction has not finished.
    """
    if not any(names.values()):
        return None
    if pair.sides != IMAGE_TEXT:
        raise SpecError(
            "--unpaired-images and --unpaired-texts go beside pairs of images and texts, not "
            f"between {in_words(pair.sides)}"
        )
    for side, count in pair.num_streams.items():
        if count > 1:
            raise SpecError(
                f"--unpaired-images and --unpaired-texts go with one {side.label} stream, found "
                f"{count}: name one encoder and one layer, or leave both out"
            )
    entries: dict[Side, StoreEntry] = {}
    for side in pair.sides:
        name = names.get(side)
        if name is None:
            raise SpecError(
                f"unpaired {side.label}s are missing: give --unpaired-images and --unpaired-texts, "
                "as either are compared with the other"
            )
        entries[side] = _store_of(home, name, side, pair.entries[side])
    return UnpairedStores(entries)


def recorded_unpaired(
    home: Path,
    recorded: Mapping[str, Any],
    *,
    run: str,
    encoders: Mapping[str, Any] | None = None,
) -> UnpairedStores:
    """Return the stores that a run records, whatever newer ones there are.

    `recorded` is what `provenance.describe_unpaired` wrote, `encoders` what `describe_encoders`
    did.

    Raises:
        SpecError: The record is not one of ours.
        StoreNotFoundError: One of them is not there, or not complete.
    """
    catalog = read_catalog(home)
    entries: dict[Side, StoreEntry] = {}
    for side in IMAGE_TEXT:
        store = recorded.get(side.value)
        if not isinstance(store, Mapping) or not isinstance(store.get("key"), str):
            raise SpecError(f"the spec of run {run} does not name its unpaired {side.label} store")
        entry = catalog.get(store["key"])
        if entry is None:
            again = extract_again(home, store, store, (encoders or {}).get(side.value))
            raise StoreNotFoundError(
                f"run {run} learns from unpaired store {store['key'][:12]}, which "
                f"{catalog.why_missing(store['key'])}: extract it again by `{again}`"
            )
        entries[side] = entry
    return UnpairedStores(entries)


def _store_of(home: Path, name: str, side: Side, paired: StoreEntry) -> StoreEntry:
    """Return the store of one side."""
    parts = Path(name).parts
    if len(parts) == 2 and not Path(name).is_absolute() and (home / "features" / name).is_dir():
        return _newest_in(home, parts[0], parts[1], side, paired)
    folder = find_store(home, name).resolve()
    catalog = read_catalog(home)
    entry = next((entry for entry in catalog.entries if entry.folder.resolve() == folder), None)
    if entry is None:
        raise StoreNotFoundError(
            f"store {name} is not in {home}, of which it must be: see "
            f"`{command_line('cache', 'ls', home=home)}`"
        )
    stored = entry.description
    if stored.modality != side.modality.value:
        raise SpecError(f"store {name} holds {stored.modality}s, not unpaired {side.label}s")
    if entry.encoder_key != paired.encoder_key:
        raise SpecError(
            f"unpaired {side.label}s of {name} are by {_what(stored)}, the paired ones by "
            f"{_what(paired.description)}{_hidden(stored, paired.description)}: one adapter reads "
            "both, so name a store of the same encoder and features"
        )
    if not entry.complete:
        raise StoreIncompleteError(
            f"store {name} is not complete: finish it by `{extraction(stored, home=home)}`"
        )
    return entry


def _newest_in(home: Path, dataset: str, split: str, side: Side, paired: StoreEntry) -> StoreEntry:
    """Return the newest complete store of a split that is like the paired one."""
    catalog = read_catalog(home, f"{dataset}/{split}")
    of_side = [
        entry for entry in catalog.entries if entry.description.modality == side.modality.value
    ]
    for entry in of_side:
        if entry.complete and entry.encoder_key == paired.encoder_key:
            return entry
    have = sorted({_what(entry.description) for entry in of_side})
    data = DatasetQuery.of(dataset, home=home, options=None).words
    command = SideQuery.like(paired).extraction(data, home=home, split=split)
    raise StoreNotFoundError(
        f"no complete {side.label} store of {dataset}/{split} like the paired one, by "
        f"{_what(paired.description)}, in {home}; have: {have or 'none'}{catalog.unread_line()}; "
        f"run `{command}`"
    )


def _what(description: StoreDescription) -> str:
    return f"{description.encoder} ({description.what})"


def _hidden(first: StoreDescription, second: StoreDescription) -> str:
    """Return what to add where two stores differ in nothing that their names say."""
    return " of other weights or precision" if _what(first) == _what(second) else ""
