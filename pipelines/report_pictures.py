"""Look up what the worst answers of an evaluation are: their pictures, small, and their texts."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..featcache.datasets import parse_data
from ..featcache.errors import (
    DatasetChangedError,
    DatasetNotFoundError,
    LightalignError,
    UnreadableItemError,
)
from ..featcache.images import decode_image, jpeg_address
from ..featcache.types import Item, Modality
from .indexed_items import open_as_extracted

_SIDE = 160  # pixels of the longer side
_QUALITY = 78  # of a JPEG: about 6 kB
_RIGHT = 3  # right answers that are shown


class Pictures:
    """Look up items of the datasets that were evaluated.

    Where a dataset is not found, or is another one now, ids stand alone, and a note says so.

    Args:
        home: Folder of everything lightalign keeps.
        data: `NAME=PATH` of each dataset that has moved.
    """

    def __init__(self, home: Path, data: Sequence[str] = ()) -> None:
        self.notes: list[str] = []
        self._home = home
        self._data = data
        self._items: dict[tuple[str, str, str], dict[str, Item]] = {}
        self._small: dict[str, str] = {}

    def cards(self, report: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """Return the worst answers of a report as a page shows them."""
        failures = report["failures"][:most]
        entries = [entry for failure in failures for entry in _entries(failure)]
        items = self._of(report, {entry["id"] for entry in entries if "id" in entry})
        return [
            {
                "direction": failure.get("direction", "").replace("_", " "),
                "rank": failure.get("rank"),
                "facts": failure.get("facts", {}),
                "query": [self._shown(one, items) for one in _queries(failure)],
                "right": [self._shown(one, items) for one in failure.get("right", ())[:_RIGHT]],
                "first": [self._shown(one, items) for one in failure.get("first", ())],
            }
            for failure in failures
        ]

    def _of(self, report: Mapping[str, Any], ids: Iterable[str]) -> dict[str, Item]:
        """Return the items of these ids that are found."""
        dataset, split = report["dataset"], report["split"]
        key = (dataset, split, report.get("source", ""))
        if key not in self._items:
            self._items[key] = self._open(report, dataset, split)
        known = self._items[key]
        return {item_id: known[item_id] for item_id in ids if item_id in known}

    def _open(self, report: Mapping[str, Any], dataset: str, split: str) -> dict[str, Item]:
        command = report.get("training", {}).get("command", {})
        options: Mapping[str, Any] = report.get("options", {})
        places = (*self._data, options.get("data"), command.get("data"), dataset)
        data = next(place for place in places if place and parse_data(place)[0] == dataset)
        given = options.get("source") or command.get("source") or None
        try:
            source = open_as_extracted(
                data,
                options=given,
                home=self._home,
                split=split,
                fingerprint=report.get("source", ""),
            )
            return {item.id: item for side in Modality for item in source.items(split, side)}
        except DatasetChangedError:
            self.notes.append(
                f"{dataset}/{split} is not what was evaluated any more: ids are shown alone"
            )
        except DatasetNotFoundError:
            self.notes.append(
                f"no pictures and texts of {dataset}, which is not in its usual place: name "
                f"another by --data {dataset}=PATH"
            )
        except LightalignError as error:
            self.notes.append(f"no pictures and texts of {dataset}: {error}")
        return {}

    def _shown(self, entry: Mapping[str, Any], items: Mapping[str, Item]) -> dict[str, Any]:
        text = entry.get("name", entry.get("text"))
        found = {"id": entry.get("id", ""), "score": entry.get("score"), "text": text}
        item = items.get(found["id"])
        found["picture"] = None
        if item is None:
            return found
        if item.text is not None:
            return {**found, "text": item.text}
        return {**found, "picture": self._picture(item)}

    def _picture(self, item: Item) -> str | None:
        """Return a small picture as the address that holds it, or None where it cannot be read."""
        if item.id not in self._small:
            try:
                picture = decode_image(item.read_bytes(), item_id=item.id)
            except UnreadableItemError as error:
                self.notes.append(str(error))
                return None
            picture.thumbnail((_SIDE, _SIDE))
            self._small[item.id] = jpeg_address(picture, quality=_QUALITY)
        return self._small[item.id]


def _queries(failure: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what was asked: one item, or the two texts of a pair."""
    asked = failure["query"]
    ids = [asked] if isinstance(asked, str) else asked
    texts = failure.get("texts", [None] * len(ids))
    return [{"id": name, "text": text} for name, text in zip(ids, texts, strict=True)]


def _entries(failure: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*_queries(failure), *failure.get("first", ()), *failure.get("right", ())]
