"""Images of a dataset: where each lies, and what it is called in a store."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import DatasetNotFoundError
from ...item_ids import storable_id
from ...regular_files import is_regular
from ...types import Item
from ..base import ImageReader, counted, format_error


class SplitImages:
    """Images of one split, with the places that their reader reads them from."""

    def __init__(self, reader: ImageReader) -> None:
        self._reader = reader
        self.ids: list[str] = []
        self.places: list[Any] = []

    def add(self, image_id: str, place: Any) -> None:
        """Append an image."""
        self.ids.append(image_id)
        self.places.append(place)

    def item(self, position: int) -> Item:
        """Return one image."""
        return self._reader.item(self.ids[position], self.places[position])

    def content(self) -> str | None:
        """Return a hash of the images, or None where their file sizes stand for them."""
        return self._reader.digest(self.places)


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
