"""Files and texts of the items whose ids an index holds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...featcache.errors import (
    DatasetChangedError,
    DatasetFormatError,
    DatasetNotFoundError,
    SpecError,
)
from ...featcache.modalities import reader_of
from ...featcache.sources.base import Source
from ...featcache.sources.opening import is_drawn
from ...featcache.types import Item, Side, side_called
from ..inputs.original_dataset import open_as_extracted
from .saved_index import SavedIndex


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
    `opened` is the dataset, where its place was named; `pictures` says whether pictures are wanted
    of datasets that keep no files, too; `again` is the command that writes the index anew.
    """
    manifest = saved.manifest
    ids = [saved.ids.at(row) for row in rows]
    if opened is not None:
        return _items_of(opened, manifest, ids), None
    contents = dict(zip(ids, map(saved.contents.at, rows), strict=True))
    recorded = _recorded(contents, _side(manifest))
    missing = [item_id for item_id in ids if item_id not in recorded]
    keeps_no_files = manifest["knows_dataset"] and not any(contents.values())
    if not missing or (keeps_no_files and not pictures):
        return recorded, None
    try:
        source = open_as_extracted(
            manifest["data"],
            options=manifest["source_options"],
            home=home,
            split=manifest["split"],
            fingerprint=manifest["source"],
        )
    except (DatasetNotFoundError, DatasetFormatError, DatasetChangedError, SpecError) as error:
        contained = "files" if reader_of(_side(manifest).modality).has_files else "texts"
        warning = f"{len(missing)} of {len(ids)} {contained} are not found, only their ids"
        advice = f"; name the dataset's place: --data {manifest['dataset']}=PATH"
        # a dataset that is not there at all names the way out itself
        if isinstance(error, DatasetNotFoundError):
            advice = ""
        # a drawn dataset has no place to name; an index that is written anew knows how it was drawn
        if is_drawn(manifest["dataset"]):
            advice = f"; write the index anew by {again}"
        return recorded, f"{warning}: {error}{advice}"
    return {**recorded, **_items_of(source, manifest, missing)}, None


def _items_of(source: Source, manifest: Mapping[str, Any], ids: Sequence[str]) -> dict[str, Item]:
    asked = set(ids)
    items = source.items(manifest["split"], _side(manifest).modality)
    return {item.id: item for item in items if item.id in asked}


def _side(manifest: Mapping[str, Any]) -> Side:
    return side_called(manifest["side"])


def _recorded(contents: Mapping[str, str], side: Side) -> dict[str, Item]:
    """Return what the index itself knows, and is still there."""
    if not reader_of(side.modality).has_files:
        return {item_id: Item(id=item_id, text=text) for item_id, text in contents.items() if text}
    paths = {item_id: Path(path) for item_id, path in contents.items() if path}
    return {
        item_id: Item(id=item_id, path=path) for item_id, path in paths.items() if path.is_file()
    }
