"""Images of a dataset: where each lies, what it is called in a store, and its captions or class."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetNotFoundError
from ...item_ids import storable_id
from ...links import CLASSES, Links, compact
from ...regular_files import is_regular
from ...string_array import Strings
from ...types import IMAGE_TEXT, Classes, Item, Modality
from ..base import ImageReader, Split, counted, format_error


class ImageSplit(Split):
    """Images of one split, each with captions or with a class.

    The id of a caption is that of its image and its number there: `<image id>#<n>`.

    Args:
        reader: Reader of the images.
        class_names: Names of all classes of the dataset, if it has classes; the split may lack
            images of some.
    """

    modalities = (Modality.IMAGE, Modality.TEXT)

    def __init__(self, reader: ImageReader, class_names: tuple[str, ...] | None = None) -> None:
        self._reader = reader
        self._class_names = class_names
        self._image_ids: list[str] = []
        self._places: list[Any] = []
        self._labels: list[int] = []
        self._texts: list[str] = []
        # of a million captions arrays take a tenth of the memory of lists
        self._image_of_text = array("q")
        self._first_text = array("q")

    def add(
        self, image_id: str, place: Any, *, captions: Sequence[str] = (), label: int = -1
    ) -> None:
        """Append an image; a class is an index into the names."""
        self._image_of_text.extend([len(self._image_ids)] * len(captions))
        self._first_text.append(len(self._texts))
        self._texts.extend(captions)
        self._image_ids.append(image_id)
        self._places.append(place)
        self._labels.append(label)

    def ids(self, modality: Modality) -> Sequence[str]:
        """Return the ids of images, or of captions."""
        if modality is Modality.IMAGE:
            return self._image_ids
        return [self._text_id(position) for position in range(len(self._texts))]

    def count(self, modality: Modality) -> int:
        """Return the number of images, or of captions."""
        return len(self._image_ids if modality is Modality.IMAGE else self._texts)

    def item(self, modality: Modality, position: int) -> Item:
        """Return an image, or a caption."""
        if modality is Modality.IMAGE:
            return self._reader.item(self._image_ids[position], self._places[position])
        return Item(id=self._text_id(position), text=self._texts[position])

    def pairs(self) -> Links:
        """Return which images and captions belong together, and the classes."""
        labels = {}
        if self._class_names is not None:
            label_of = dict(zip(self._image_ids, self._labels, strict=True))
            labels[CLASSES] = Classes(self._class_names, label_of)
        ids = {side: Strings.of(self.ids(side)) for side in IMAGE_TEXT if self.count(side)}
        images = np.frombuffer(self._image_of_text, dtype=np.int64)
        places = np.stack([images, np.arange(len(images))], axis=1)
        return Links(ids, {IMAGE_TEXT: compact(places)} if len(images) else {}, labels)

    def content(self) -> str | None:
        """Return a hash of the images, or None where their file sizes stand for them."""
        return self._reader.digest(self._places)

    def _text_id(self, position: int) -> str:
        image = self._image_of_text[position]
        return f"{self._image_ids[image]}#{position - self._first_text[image]}"


def require_images(places: Sequence[Any], *, listed_in: str = "", advice: str = "") -> None:
    """Pass if an image is there, or stands in a table or an archive.

    Args:
        places: Where the images lie.
        listed_in: Which file names the images, for the message.
        advice: What to do, for the message.

    Raises:
        DatasetNotFoundError: None is.
    """
    if not any(not isinstance(place, str) or is_regular(Path(place)) for place in places):
        images = f"{counted(len(places), 'image')}{listed_in}"
        raise DatasetNotFoundError(f"none of the {images} is there, such as {places[0]}{advice}")


def storable_ids(names: Iterable[str], file: Path) -> dict[str, str]:
    """Return the ids of those names that are no ids themselves; see `storable_id`.

    Args:
        names: What the dataset calls its items, each once.
        file: Where it does, for messages.

    Raises:
        DatasetFormatError: Another item is called like one of the ids.
    """
    names = list(names)
    ids = {name: item_id for name in names if (item_id := storable_id(name)) != name}
    clashing = set(ids.values()) & set(names) if ids else set()
    if clashing or len(set(ids.values())) < len(ids):
        problem = f"two items would have the id {next(iter(clashing or ids.values()))!r}"
        raise format_error(file, "", f"{problem}; rename one of them")
    return ids


def storable_note(ids: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note of the ids that `storable_ids` wrote otherwise, if there are any."""
    if not ids:
        return ()
    example = next(iter(ids.values()))
    names = f"{counted(len(ids), 'name')} without UTF-8, with a zero or too long"
    return (f"{names}: escaped or shortened as ids, such as {example:.80}",)
