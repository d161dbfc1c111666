"""Look up thumbnails and texts of the worst answers of an evaluation."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...featcache.errors import (
    DatasetChangedError,
    DatasetNotFoundError,
    LightalignError,
    SpecError,
    StoreCorruptError,
    UnreadableItemError,
)
from ...featcache.known_datasets import newest
from ...featcache.modalities.base import readable_size
from ...featcache.modalities.image import decode_image, jpeg_address
from ...featcache.sources.base import Source
from ...featcache.sources.opening import open_source, parse_data
from ...featcache.store.catalog import pairs_path, read_pairs
from ...featcache.types import IMAGE_TEXT, Item, Modality
from ..inputs.original_dataset import open_as_extracted, open_there

_SIDE = 160  # pixels of the longer side
_QUALITY = 78  # of a JPEG: about 6 kB
_RIGHT = 3  # right answers that are shown


class FailurePictures:
    """Look up items of the datasets that were evaluated.

    Each place that is known of a dataset is tried. Where it is nowhere, or is another one now, ids
    stand alone; of one that has lost pictures the others are shown. A note says so.

    Args:
        home: Folder of everything lightalign keeps.
        data: `NAME=PATH` of each dataset that has moved; see `require_used`.

    Attributes:
        notes: What could not be shown, and why.
    """

    def __init__(self, home: Path, data: Sequence[str] = ()) -> None:
        self.notes: list[str] = []
        self._home = home
        self._data = data
        self._refused: dict[str, LightalignError] = {}  # named places, by what is wrong with them
        self._used: set[str] = set()  # named places that hold what was evaluated
        self._items: dict[tuple[str, str, str], dict[str, Item]] = {}
        self._small: dict[str, str] = {}

    def cards(self, report: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
        """Return the worst answers of a report as a page shows them."""
        key = (report["dataset"], report["split"], report.get("source", ""))
        if key not in self._items:
            self._items[key] = self._open(report, *key)
        items = self._items[key]

        def shown(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
            return [self._shown(entry, items) for entry in entries]

        return [
            {
                "direction": failure.get("direction", "").replace("_", " "),
                "rank": failure.get("rank"),
                "facts": failure.get("facts", {}),
                "query": shown(_queries(failure)),
                "right": shown(failure.get("right", ())[:_RIGHT]),
                "first": shown(failure.get("first", ())),
            }
            for failure in report["failures"][:most]
        ]

    def require_used(self) -> None:
        """Check that each place that was named holds an evaluated dataset.

        Raises:
            SpecError: There is such a place: what it was named for was looked for elsewhere.
        """
        for data, error in self._refused.items():
            if data not in self._used:
                raise SpecError(
                    f"--data {data} is not what was evaluated: {error}; leave it out, or name the "
                    "place that holds what was"
                )

    def _open(
        self, report: Mapping[str, Any], dataset: str, split: str, fingerprint: str
    ) -> dict[str, Item]:
        """Return the items of the first place that has the evaluated dataset, or its rest."""
        places = _places(report, dataset, self._data)
        faults: list[LightalignError] = []
        for data, options in places:
            source = self._try(data, options, split, fingerprint)
            if isinstance(source, Source):
                self._used.add(data)
                return {
                    item.id: item
                    for modality in source.modalities(split)
                    for item in source.items(split, modality)
                }
            faults.append(source)
        # only when no place is whole: one that has lost pictures shows the others
        for (data, options), fault in zip(places, faults, strict=True):
            if isinstance(fault, DatasetChangedError):
                source = open_source(data, home=self._home, options=options)
                left = self._left(source, dataset, split, fingerprint)
                if left:
                    self._used.add(data)
                    return left
        self._note(f"{dataset}/{split}", dataset, faults)
        return {}

    def _try(
        self, data: str, options: Mapping[str, Any] | None, split: str, fingerprint: str
    ) -> Source | LightalignError:
        """Return the dataset as it was evaluated, or why it is not at this place."""
        is_named = data in self._data and parse_data(data)[1] is not None
        open_it = open_there if is_named else open_as_extracted
        try:
            return open_it(
                data, options=options, home=self._home, split=split, fingerprint=fingerprint
            )
        except LightalignError as error:
            if is_named:
                self._refused[data] = error
            return error

    def _left(
        self, source: Source, dataset: str, split: str, fingerprint: str
    ) -> dict[str, Item] | None:
        """Return the items of a dataset that has lost some and gained none; else None.

        Where ids are gone those that are left have to name their files: a counter would now be that
        of another picture.
        """
        try:
            path = pairs_path(self._home, dataset, split, fingerprint)
            then = read_pairs(path)
        except PermissionError as error:
            self.notes.append(f"{path} cannot be read: {error.strerror}")
            return None
        # which items the ids stood for is gone with the stores
        except StoreCorruptError as error:
            if path.is_file():
                self.notes.append(str(error))
            return None
        if split not in source.splits() or not set(source.modalities(split)) <= set(IMAGE_TEXT):
            return None
        now = source.pairs(split)
        images_now, images_then = (links.ids_of(Modality.IMAGE) for links in (now, then))
        for there, then_ids in (
            (images_now, images_then),
            (now.ids_of(Modality.TEXT), then.ids_of(Modality.TEXT)),
            (now.id_pairs(IMAGE_TEXT), then.id_pairs(IMAGE_TEXT)),
        ):
            if not set(there) <= set(then_ids):
                return None
        # a file may be gone while a table still names it
        images = [item for item in source.items(split, Modality.IMAGE) if readable_size(item) >= 0]
        missing = len(images_then) - len(images)
        counters = any(item.path is None or item.path.name not in item.id for item in images)
        if not missing or (counters and len(images_now) < len(images_then)):
            return None
        self.notes.append(
            f"{missing} of {len(images_then)} pictures of {dataset}/{split} are not there any "
            f"more in {source.root}: the others are shown as they are now"
        )
        return {item.id: item for item in (*images, *source.items(split, Modality.TEXT))}

    def _note(self, what: str, dataset: str, faults: Sequence[LightalignError]) -> None:
        """Note why ids are shown alone; changed data is named before missing data."""
        others = [fault for fault in faults if not isinstance(fault, DatasetNotFoundError)]
        changed = [fault for fault in others if isinstance(fault, DatasetChangedError)]
        if changed:
            self.notes.append(f"{what} is not what was evaluated any more: ids are shown alone")
        elif others:
            self.notes.append(f"no pictures and texts of {dataset}: {others[0]}")
        elif newest(self._home, dataset) is not None:
            self.notes.append(f"no pictures and texts of {dataset}: {faults[0]}")
        else:
            self.notes.append(
                f"no pictures and texts of {dataset}, which is not in its usual place: name "
                f"another by --data {dataset}=PATH"
            )

    def _shown(self, entry: Mapping[str, Any], items: Mapping[str, Item]) -> dict[str, Any]:
        item_id, text = entry.get("id", ""), entry.get("name", entry.get("text"))
        item, picture = items.get(item_id), None
        if item is not None and item.text is not None:
            text = item.text
        elif item is not None:
            picture = self._picture(item)
        return {"id": item_id, "score": entry.get("score"), "text": text, "picture": picture}

    def _picture(self, item: Item) -> str | None:
        """Return a thumbnail as a data URL, or None where the picture cannot be read."""
        if item.id not in self._small:
            try:
                picture = decode_image(item.read_bytes(), item_id=item.id)
            except UnreadableItemError as error:
                self.notes.append(str(error))
                return None
            picture.thumbnail((_SIDE, _SIDE))
            self._small[item.id] = jpeg_address(picture, quality=_QUALITY)
        return self._small[item.id]


def _places(
    report: Mapping[str, Any], dataset: str, moved: Sequence[str]
) -> list[tuple[str, Mapping[str, Any] | None]]:
    """Return the places where a dataset may lie, each once, with the options to open it."""
    training = report.get("training", {})
    command, stores = training.get("command", {}), training.get("stores", {})
    options = report.get("options", {})
    source_options = options.get("source")
    if not source_options and dataset == stores.get("train", {}).get("dataset"):
        source_options = command.get("source")
    places = (*moved, options.get("data"), command.get("data"), dataset)
    names = [place for place in places if place and parse_data(place)[0] == dataset]
    return [(place, source_options or None) for place in dict.fromkeys(names)]


def _queries(failure: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the items of a query: one, or the two texts of a pair."""
    asked = failure["query"]
    ids = [asked] if isinstance(asked, str) else asked
    texts = failure.get("texts", [None] * len(ids))
    return [{"id": name, "text": text} for name, text in zip(ids, texts, strict=True)]
