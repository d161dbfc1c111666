"""Find the files and texts of what an index holds; stores and indexes hold ids."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..featcache.datasets import is_drawn, open_source, open_version, parse_data
from ..featcache.errors import (
    DatasetChangedError,
    DatasetFormatError,
    DatasetNotFoundError,
    SpecError,
)
from ..featcache.home import plain_place
from ..featcache.known_datasets import place_in, version_of
from ..featcache.source import Source, require_place
from ..featcache.types import IMAGE_TEXT, TEXT_TEXT, Item, Modality, Side

if TYPE_CHECKING:
    from .saved_index import SavedIndex
else:
    SavedIndex = Any  # imports FAISS


def open_as_extracted(
    data: str, *, options: Mapping[str, Any] | None, home: Path, split: str, fingerprint: str
) -> Source:
    """Open a dataset that is what its features were extracted from.

    Where the home remembers it, its place and its options are the remembered ones, unless it has
    moved since and another place is named.

    Args:
        data: `NAME` or `NAME=PATH`.
        options: The dataset's own options, or None for their defaults.
        home: Folder of everything lightalign keeps.
        split: Name of the split.
        fingerprint: `Source.fingerprint` of the split when it was extracted.

    Raises:
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: The files cannot be understood.
        DatasetChangedError: They are others now.
    """
    version = version_of(home, parse_data(data)[0], split, fingerprint)
    gone: DatasetNotFoundError | None = None
    if version is not None:
        try:
            opened = open_version(version, home=home)
            require_as_extracted(opened, split, fingerprint)
        except DatasetNotFoundError as error:
            gone = error
        except (DatasetFormatError, DatasetChangedError):
            pass  # another place is named, perhaps
        else:
            return opened
        options = version.options if options is None else options
    try:
        opened = open_source(data, home=home, options=options)
    except DatasetNotFoundError as error:
        raise gone or error from error
    require_as_extracted(opened, split, fingerprint)
    return opened


def open_there(
    data: str, *, options: Mapping[str, Any] | None, home: Path, split: str, fingerprint: str
) -> Source:
    """Open a dataset at the place that is named, and nowhere else, as it was extracted.

    Args:
        data: `NAME=PATH`.
        options: The dataset's own options, where the home does not remember them; or None.
        home: Folder of everything lightalign keeps.
        split: Name of the split.
        fingerprint: `Source.fingerprint` of the split when it was extracted.

    Raises:
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: The files cannot be understood.
        DatasetChangedError: They are others.
        SpecError: The dataset is drawn, and lies nowhere.
    """
    name, place = parse_data(data)
    assert place is not None, "the place is named"
    require_place(place)
    version = version_of(home, name, split, fingerprint)
    if version is None or version.place is None:
        opened = open_source(data, home=home, options=options)
    else:
        there = place_in(version, plain_place(place))
        opened = open_version(replace(version, place=there), home=home)
    require_as_extracted(opened, split, fingerprint)
    return opened


def require_as_extracted(opened: Source, split: str, fingerprint: str) -> None:
    """Refuse an opened dataset that is not what its features were extracted from.

    Raises:
        DatasetChangedError: It has no such split, or other items there.
    """
    if split not in opened.splits() or opened.fingerprint(split) != fingerprint:
        raise DatasetChangedError(
            f"the dataset in {opened.root} is not the one that was extracted: other ids, texts or "
            "image files"
        )


def content_of(item: Item) -> str:
    """Return the text of an item, or where its file lies; an empty string if it has none."""
    return item.text or ("" if item.path is None else str(item.path.absolute()))


def find_items(
    saved: SavedIndex,
    rows: Sequence[int],
    *,
    home: Path,
    opened: Source | None = None,
    pictures: bool = False,
    again: str,
) -> tuple[dict[str, Item], str | None]:
    """Return the items of some rows by id, and a warning where some were not found.

    The dataset itself is opened only where the index does not know its files, or these are gone.

    Args:
        saved: The index.
        rows: Rows of it.
        home: Folder of everything lightalign keeps.
        opened: The dataset, where its place was named; else None.
        pictures: Whether pictures are wanted of datasets that keep no files, too.
        again: Command that writes the index anew, in backquotes.
    """
    manifest = saved.manifest
    wanted = [saved.ids.at(row) for row in rows]
    if opened is not None:
        return _items_of(opened, manifest, wanted), None
    contents = dict(zip(wanted, map(saved.contents.at, rows), strict=True))
    known = _recorded(contents, _side(manifest))
    missing = [item_id for item_id in wanted if item_id not in known]
    keeps_no_files = manifest["knows_dataset"] and not any(contents.values())
    if not missing or (keeps_no_files and not pictures):
        return known, None
    try:
        source = open_as_extracted(
            manifest["data"],
            options=manifest["source_options"],
            home=home,
            split=manifest["split"],
            fingerprint=manifest["source"],
        )
    except (DatasetNotFoundError, DatasetFormatError, DatasetChangedError, SpecError) as error:
        contained = "texts" if _side(manifest).modality is Modality.TEXT else "files"
        warning = f"{len(missing)} of {len(wanted)} {contained} are not found, only their ids"
        place = f"--data {manifest['dataset']}=PATH"
        # a dataset that is not there at all names the way out itself
        named = place in str(error) or isinstance(error, DatasetNotFoundError)
        advice = "" if named else f"; name the dataset's place: {place}"
        if is_drawn(manifest["dataset"]):  # it has none: an index knows how it was drawn
            advice = f"; write the index anew by {again}"
        return known, f"{warning}: {error}{advice}"
    return {**known, **_items_of(source, manifest, missing)}, None


def _items_of(source: Source, manifest: Mapping[str, Any], ids: Sequence[str]) -> dict[str, Item]:
    asked = set(ids)
    items = source.items(manifest["split"], _side(manifest).modality)
    return {item.id: item for item in items if item.id in asked}


def _side(manifest: Mapping[str, Any]) -> Side:
    return next(side for side in (*IMAGE_TEXT, *TEXT_TEXT) if side.value == manifest["side"])


def _recorded(contents: Mapping[str, str], side: Side) -> dict[str, Item]:
    """Return what the index itself knows, and is still there."""
    if side.modality is Modality.TEXT:
        return {item_id: Item(id=item_id, text=text) for item_id, text in contents.items() if text}
    paths = {item_id: Path(path) for item_id, path in contents.items() if path}
    return {
        item_id: Item(id=item_id, path=path) for item_id, path in paths.items() if path.is_file()
    }
