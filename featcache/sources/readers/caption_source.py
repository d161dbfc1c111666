"""Group caption rows by image, give every image a split, and serve both as a `Source`."""

import hashlib
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...config import fingerprint
from ...errors import DatasetNotFoundError
from ...item_ids import storable_id
from ...registry import unknown_name
from ...regular_files import is_regular
from ...types import Item, Modality, Pairs
from ..base import SkippedRow, Source, fingerprint_items
from ..splits import SPLIT_ORDER, split_name
from ..tables.decoding import format_error
from ..tables.parquet import StoredItem, StoredPicture, StoredPictures
from ..tables.picture_places import PicturePlaces
from ..tables.row_ledger import shortened_places
from ..tables.text_files import Row
from .lazy_items import LazyItems

# note of a table whose splits `splits_of_folders` gives
BY_FOLDERS = "splits are the folders that the image paths begin with"


@dataclass(frozen=True)
class CaptionedImages:
    """Images of a dataset in file order, each with its captions and perhaps its split.

    Attributes:
        file: The file that names the images; used in messages.
        captions: Captions of each image by image id; an image may have none.
        split_of: Split by image id; images that are in no split are missing here.
        notes: What a user should know about how the files were read.
    """

    file: Path
    captions: Mapping[str, Sequence[str]]
    split_of: Mapping[str, str]
    notes: tuple[str, ...] = ()


def splits_by_folder(names: Iterable[str]) -> dict[str, str] | None:
    """Return the split of each path by the folder it begins with; None unless all are in one."""
    split_of = {name: split_name(name.partition("/")[0]) for name in names}
    if all("/" in name and split in SPLIT_ORDER for name, split in split_of.items()):
        return split_of
    return None


def splits_of_folders(names: Iterable[str], places: PicturePlaces) -> dict[str, str] | None:
    """Return the split of each path of a table by its first folder; None without two splits.

    A lone folder, such as `train`, says nothing of what is held out: it is one of images.
    """
    below = {name: places.below(name) for name in names}
    split_of = splits_by_folder(below.values())
    if split_of is None or len(set(split_of.values())) < 2:
        return None
    return {name: split_of[path] for name, path in below.items()}


def in_order(splits: Collection[str]) -> tuple[str, ...]:
    """Return the names of splits in order: train, val, test, then others."""
    others = sorted(set(splits) - set(SPLIT_ORDER))
    return (*(name for name in SPLIT_ORDER if name in splits), *others)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun in the right number."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def group_rows(rows: Iterable[Row], *, file: Path) -> CaptionedImages:
    """Collect the captions of each image; empty captions are dropped and counted in the notes.

    Raises:
        DatasetFormatError: There are no rows, a row names no image or no split where others do, or
            one image stands in two splits.
    """
    captions: dict[str, list[str]] = {}
    split_of: dict[str, str] = {}
    num_empty = 0
    without: list[str] = []
    row = None
    for row in rows:
        if not row.image:
            raise format_error(file, row.place, "names no image")
        stripped = [caption.strip() for caption in row.captions]
        nonempty = [caption for caption in stripped if caption]
        num_empty += len(stripped) - len(nonempty)
        if len(nonempty) < len(stripped):
            without.append(row.place)
        captions.setdefault(row.image, []).extend(nonempty)
        if row.split is not None:
            _add_split(split_of, row, file)
    if row is None:
        raise format_error(file, "", "holds no captions")
    empty = f"{counted(num_empty, 'empty caption')} dropped: {shortened_places(without)}"
    notes = (empty,) if num_empty else ()
    return CaptionedImages(file, captions, split_of, notes)


def _add_split(split_of: dict[str, str], row: Row, file: Path) -> None:
    split = split_name(row.split or "")
    if not split:
        raise format_error(file, row.place, f"gives no split for image {row.image!r}")
    if split_of.setdefault(row.image, split) != split:
        problem = f"puts {row.image!r} in split {split!r}, but it was in {split_of[row.image]!r}"
        raise format_error(file, row.place, problem)


def with_listed_splits(
    images: CaptionedImages, split_of: Mapping[str, str], *, listed_in: str
) -> CaptionedImages:
    """Return `images` with the splits of a list; what no split lists is left out with a note.

    Images that are listed but have no caption are appended without captions.

    Args:
        images: Images whose caption file gives no splits.
        split_of: Split by image id.
        listed_in: File name or names that the splits come from.

    Raises:
        DatasetFormatError: The list and the captions have no image in common.
    """
    captions = {name: texts for name, texts in images.captions.items() if name in split_of}
    left_out = len(images.captions) - len(captions)
    if not captions:
        raise format_error(images.file, "", f"has no image in common with {listed_in}")
    captions |= {name: [] for name in split_of if name not in captions}
    note = f"{counted(left_out, 'image')} of {images.file.name} left out: no split in {listed_in}"
    notes = (*images.notes, note) if left_out else images.notes
    return replace(images, captions=captions, split_of=split_of, notes=notes)


def with_hashed_splits(images: CaptionedImages, *, remedy: str) -> CaptionedImages:
    """Return `images` with splits that depend on nothing but the image ids.

    Args:
        images: Images whose files give no splits; `hashed_splits` chooses by their ids.
        remedy: What would give the official splits, for the note.
    """
    split_of, held_out = hashed_splits(images.captions)
    note = (
        f"no file gives the splits: {held_out:,} test and {held_out:,} val images chosen by the "
        f"SHA-256 of their names; {remedy}"
    )
    return replace(images, split_of=split_of, notes=(*images.notes, note))


def hashed_splits(names: Iterable[str]) -> tuple[dict[str, str], int]:
    """Return the split of each name, and how many are `test`, and as many `val`.

    Names are ordered by their SHA-256; the first 10 %, at least 1 and at most 1,000, are `test`,
    the next as many `val`, the rest `train`. Fewer than three names are all `train`.
    """
    ordered = sorted(set(names), key=sha256_of)
    held_out = 0 if len(ordered) < len(SPLIT_ORDER) else max(1, min(1000, len(ordered) // 10))
    split_of = dict.fromkeys(ordered, "train")
    split_of |= dict.fromkeys(ordered[:held_out], "test")
    split_of |= dict.fromkeys(ordered[held_out : 2 * held_out], "val")
    return split_of, held_out


def sha256_of(name: str) -> bytes:
    """Return the SHA-256 of a name; half of a surrogate pair, which has no UTF-8, counts, too."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


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
    """Return a note of what `storable_ids` found, if it found anything."""
    if not ids:
        return ()
    example = next(iter(ids.values()))
    names = f"{counted(len(ids), 'name')} without UTF-8, with a zero or too long"
    return (f"{names}: escaped or shortened as ids, such as {example:.80}",)


class _Split:
    """Images and captions of one split; items are made when they are asked for."""

    def __init__(self, pictures: StoredPictures | None) -> None:
        self._pictures = pictures
        self.image_ids: list[str] = []
        self.places: list[str | StoredPicture] = []
        self.texts: list[str] = []
        self.image_of_text = array("q")
        self.first_text = array("q")

    def add(self, image_id: str, place: Path | StoredPicture, captions: Sequence[str]) -> None:
        """Append an image with its captions."""
        self.image_of_text.extend([len(self.image_ids)] * len(captions))
        self.first_text.append(len(self.texts))
        self.image_ids.append(image_id)
        self.places.append(str(place) if isinstance(place, Path) else place)
        self.texts.extend(captions)

    def image(self, position: int) -> Item:
        """Return one image."""
        image_id, place = self.image_ids[position], self.places[position]
        if isinstance(place, str):
            return Item(id=image_id, path=Path(place))
        assert self._pictures is not None
        return StoredItem(id=image_id, pictures=self._pictures, picture=place)

    def text(self, position: int) -> Item:
        """Return one caption."""
        return Item(id=self.text_id(position), text=self.texts[position])

    def text_id(self, position: int) -> str:
        """Return the id of one caption: that of its image, and its number there."""
        image = self.image_of_text[position]
        return f"{self.image_ids[image]}#{position - self.first_text[image]}"


class CaptionSource(Source):
    """Serve images with captions; the subclasses say where they come from.

    Image ids are the keys of `images.captions`, but for those that `storable_ids` writes otherwise;
    caption n of an image is `<image id>#<n>`.

    Args:
        root: Place of the dataset.
        images: All images with captions and splits.
        paths: File by image id, or place in the table where the image stands in it.
        pictures: The images that stand in the table, if any do.
        skipped: Rows of the table that cannot be read.

    Raises:
        DatasetNotFoundError: None of the image files is there.
        DatasetFormatError: Two images would get the same id.
    """

    def __init__(
        self,
        root: Path,
        images: CaptionedImages,
        paths: Mapping[str, Path] | Mapping[str, Path | StoredPicture],
        *,
        pictures: StoredPictures | None = None,
        skipped: Sequence[SkippedRow] = (),
    ) -> None:
        super().__init__(root)
        self._pictures = pictures
        self._skipped = tuple(skipped)
        if not any(
            not isinstance(picture, Path) or is_regular(picture) for picture in paths.values()
        ):
            first = next(iter(paths.values()))
            raise DatasetNotFoundError(
                f"none of the {counted(len(paths), 'image')} that {images.file} names is there, "
                f"such as {first}; put the image files beside the captions"
            )
        self._splits: dict[str, _Split] = {}
        num_bare = 0
        ids = storable_ids(images.captions, images.file)
        for name, captions in images.captions.items():
            split = self._splits.setdefault(images.split_of[name], _Split(pictures))
            split.add(ids.get(name, name), paths[name], captions)
            num_bare += not captions
        bare = f"{counted(num_bare, 'image')} without any caption kept, in no pair"
        self._notes = images.notes + ((bare,) if num_bare else ()) + storable_note(ids)

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits that hold images: train, val, test, then others."""
        return in_order(self._splits)

    def items(self, split: str, modality: Modality) -> Sequence[Item]:
        """Return the items of one split in the order of the caption file.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        split_items = self._split(split)
        if modality is Modality.IMAGE:
            return LazyItems(len(split_items.image_ids), split_items.image)
        return LazyItems(len(split_items.texts), split_items.text)

    def ids(self, split: str, modality: Modality) -> Sequence[str]:
        """Return the ids of `items`."""
        split_items = self._split(split)
        if modality is Modality.IMAGE:
            return split_items.image_ids
        return [split_items.text_id(position) for position in range(len(split_items.texts))]

    def pairs(self, split: str) -> Pairs:
        """Return which images and captions of one split belong together.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        split_items = self._split(split)
        text_ids = tuple(self.ids(split, Modality.TEXT))
        owners = (split_items.image_ids[image] for image in split_items.image_of_text)
        return Pairs(
            tuple(split_items.image_ids), text_ids, tuple(zip(owners, text_ids, strict=True))
        )

    def notes(self) -> tuple[str, ...]:
        """Return what was dropped, left out or chosen, one line each."""
        return self._notes

    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """Return the rows of the table that cannot be read, in file order."""
        return self._skipped

    def fingerprint(self, split: str) -> str:
        """Return a hash of ids, captions, image sizes in bytes and pairs of one split.

        Of images that stand in the table the hash is of the files that they stand in.
        """
        items = fingerprint_items(self, split)
        if self._pictures is None:
            return items
        places = self._split(split).places
        files = {place.file for place in places if isinstance(place, StoredPicture)}
        content = self._pictures.fingerprint(sorted(files))
        return fingerprint({"items": items, "content": content}) if files else items

    def _split(self, split: str) -> _Split:
        if split not in self._splits:
            raise unknown_name("split", split, self.splits())
        return self._splits[split]
