"""Give every image of a dataset of classes a split, and serve it as a `Source`."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...config import fingerprint
from ...errors import DatasetFormatError, DatasetNotFoundError
from ...registry import unknown_name
from ...regular_files import is_regular
from ...types import Classes, Item, Modality, Pairs
from ..base import Doubt, SkippedRow, Source, fingerprint_items
from ..tables.parquet import StoredItem, StoredPicture, StoredPictures
from .caption_source import counted, sha256_of
from .lazy_items import LazyItems

SPLITS = ("train", "val", "test")
_TEST_SHARE, _VAL_SHARE = 5, 10  # one image in so many
_LEAST = 3  # images of a class that can be in every split


@dataclass(frozen=True)
class ClassedImages:
    """Images of a dataset in order, each with its class and perhaps its split.

    Attributes:
        place: File or folder that says which classes there are; used in messages.
        names: Name of each class, as the dataset writes it.
        class_of: Class of each image, an index into `names`, by image id.
        split_of: Split by image id; empty where nothing gives the splits.
        notes: What a user should know about how the files were read.
        skipped: Rows of a table that cannot be read.
        tables: Files of the table that lists them, if one does.
    """

    place: Path
    names: tuple[str, ...]
    class_of: Mapping[str, int]
    split_of: Mapping[str, str]
    notes: tuple[str, ...] = ()
    skipped: tuple[SkippedRow, ...] = ()
    tables: tuple[Path, ...] = ()


def with_hashed_class_splits(images: ClassedImages, *, remedy: str) -> ClassedImages:
    """Return `images` with splits that depend on nothing but the image ids, class by class.

    The ids of each class are ordered by their SHA-256; the first fifth, at least 1, is `test`, the
    next tenth, at least 1, `val`, and the rest `train`. A class of fewer than three images is all
    `train`.

    Args:
        images: Images whose files give no splits.
        remedy: What would give splits of the user's own, for the note.
    """
    of_class: dict[int, list[str]] = defaultdict(list)
    for image_id, index in images.class_of.items():
        of_class[index].append(image_id)
    split_of = dict.fromkeys(images.class_of, "train")
    for members in of_class.values():
        if len(members) < _LEAST:
            continue
        members.sort(key=sha256_of)
        num_test = max(1, len(members) // _TEST_SHARE)
        num_val = max(1, len(members) // _VAL_SHARE)
        split_of |= dict.fromkeys(members[:num_test], "test")
        split_of |= dict.fromkeys(members[num_test : num_test + num_val], "val")
    counts = {split: list(split_of.values()).count(split) for split in SPLITS}
    note = (
        f"nothing gives the splits: {counts['test']:,} test and {counts['val']:,} val images, a "
        f"fifth and a tenth of each class, chosen by the SHA-256 of their names; {remedy}"
    )
    return replace(images, split_of=split_of, notes=(*images.notes, note))


class Pictures(ABC):
    """Pictures of a dataset, by image id."""

    @abstractmethod
    def item(self, image_id: str) -> Item:
        """Return one of them."""

    @abstractmethod
    def digest(self, image_ids: Sequence[str]) -> str | None:
        """Return a hash of the content of some, or None where file sizes stand for it."""


class PictureFiles(Pictures):
    """Pictures of a dataset that are files.

    Args:
        paths: File by image id.

    Raises:
        DatasetNotFoundError: None of the files is there.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        if not any(map(is_regular, paths.values())):
            first = next(iter(paths.values()))
            raise DatasetNotFoundError(
                f"none of the {counted(len(paths), 'image')} is there, such as {first}"
            )
        self._paths = paths

    def item(self, image_id: str) -> Item:
        """Return one of them."""
        return Item(id=image_id, path=self._paths[image_id])

    def digest(self, image_ids: Sequence[str]) -> str | None:
        """Return None: reading every file would cost as much as decoding it."""
        return None


class PicturesOfTable(Pictures):
    """Pictures of which some stand in a table themselves.

    Args:
        places: Place in the table, or file, by image id.
        pictures: The pictures of the table.
    """

    def __init__(
        self, places: Mapping[str, Path | StoredPicture], pictures: StoredPictures
    ) -> None:
        self._places = places
        self._pictures = pictures

    def item(self, image_id: str) -> Item:
        """Return one of them."""
        place = self._places[image_id]
        if isinstance(place, Path):
            return Item(id=image_id, path=place)
        return StoredItem(id=image_id, pictures=self._pictures, picture=place)

    def digest(self, image_ids: Sequence[str]) -> str | None:
        """Return a hash of the files of the table in which some stand, or None if none does."""
        places = map(self._places.__getitem__, image_ids)
        files = {place.file for place in places if isinstance(place, StoredPicture)}
        return self._pictures.fingerprint(sorted(files)) if files else None


@dataclass(frozen=True)
class Classed:
    """Images with classes as they were read.

    Attributes:
        images: The images.
        pictures: What they look like.
        read_before: Function that reads them as they once were, where that was otherwise.
        doubt: Why they may be of no classes, if so.
    """

    images: ClassedImages
    pictures: Pictures
    read_before: Callable[[], "Classed"] | None = None
    doubt: Doubt | None = None


class ClassSource(Source):
    """Serve images that have classes and no texts; the subclasses say where they come from.

    Args:
        root: Place of the dataset.
        classed: All images with classes and splits, and what they look like.

    Raises:
        DatasetFormatError: There are fewer than two classes.
    """

    def __init__(self, root: Path, classed: Classed) -> None:
        super().__init__(root)
        images = classed.images
        if len(images.names) < 2:
            raise DatasetFormatError(
                f"{images.place}: a dataset of classes has two or more, found {list(images.names)}"
            )
        self._images = images
        self._pictures = classed.pictures
        self._read_before = classed.read_before
        self._doubt = classed.doubt
        self._ids: dict[str, list[str]] = {}
        for image_id in images.class_of:
            self._ids.setdefault(images.split_of[image_id], []).append(image_id)

    def splits(self) -> tuple[str, ...]:
        """Return the names of the splits that hold images: train, val, test, then others."""
        others = sorted(set(self._ids) - set(SPLITS))
        return (*(name for name in SPLITS if name in self._ids), *others)

    def items(self, split: str, modality: Modality) -> Sequence[Item]:
        """Return the images of one split, or no texts.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        ids = self._of_split(split)
        if modality is not Modality.IMAGE:
            return ()
        return LazyItems(len(ids), lambda position: self._pictures.item(ids[position]))

    def ids(self, split: str, modality: Modality) -> Sequence[str]:
        """Return the ids of `items`."""
        image_ids = self._of_split(split)
        return image_ids if modality is Modality.IMAGE else ()

    def pairs(self, split: str) -> Pairs:
        """Return the images of one split with their classes; nothing is paired.

        Every split has all classes of the dataset, whether or not one of its images is of it.

        Raises:
            UnknownNameError: The dataset has no such split.
        """
        ids = self._of_split(split)
        classes = Classes(
            self._images.names, {image_id: self._images.class_of[image_id] for image_id in ids}
        )
        return Pairs(tuple(ids), (), (), classes=classes)

    def doubt(self) -> Doubt | None:
        """Return why a column that no name tells may hold no classes."""
        return self._doubt

    @property
    def was_read_otherwise(self) -> bool:
        """Return whether the images once had other classes."""
        return self._read_before is not None

    def as_read_before(self) -> Source | None:
        """Return the images with the classes that they once had, or None where these are alike."""
        if self._read_before is None:
            return None
        try:
            return ClassSource(self.root, self._read_before())
        except (DatasetFormatError, DatasetNotFoundError):  # nobody can remember it so
            return None

    def table_files(self) -> tuple[Path, ...]:
        """Return the files of the table that lists the images, if one does."""
        return self._images.tables

    def notes(self) -> tuple[str, ...]:
        """Return what was left out or chosen, one line each."""
        return self._images.notes

    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """Return the rows of an index that cannot be read, in file order."""
        return self._images.skipped

    def fingerprint(self, split: str) -> str:
        """Return a hash of ids, classes, and the content or file sizes of one split."""
        digest = fingerprint_items(self, split)
        content = self._pictures.digest(self._of_split(split))
        return digest if content is None else fingerprint({"items": digest, "content": content})

    def _of_split(self, split: str) -> list[str]:
        if split not in self._ids:
            raise unknown_name("split", split, self.splits())
        return self._ids[split]
