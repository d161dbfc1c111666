"""Give every image of a dataset of classes a split, and serve it as a `Source`."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import DatasetFormatError
from ...types import Classes, Item, Modality, Pairs
from ..base import Doubt, ImageReader, ReadReport, SkippedRow, Source, Split
from ..splits import SPLIT_ORDER, sha256_of
from .images import SplitImages

_TEST_SHARE, _VAL_SHARE = 5, 10  # one image in so many
_LEAST = 3  # images of a class that can be in every split


@dataclass(frozen=True, kw_only=True)
class ClassedImages:
    """Images of a dataset in order, each with its class and perhaps its split.

    Attributes:
        origin: File or folder that says which classes there are; used in messages.
        names: Name of each class, as the dataset writes it.
        class_of: Class of each image, an index into `names`, by image id.
        split_of: Split by image id; empty where nothing gives the splits.
        places: Place of each image by its id, from which `reader` reads it.
        reader: Reader of the images.
        notes: What a user should know about how the files were read.
        skipped_rows: Rows of a table that cannot be read.
        tables: Files of the table that lists them, if one does.
        doubt: Why they may be of no classes, if so.
        read_before: Function that reads them as they once were, where that was otherwise.
    """

    origin: Path
    names: tuple[str, ...]
    class_of: Mapping[str, int]
    split_of: Mapping[str, str]
    places: Mapping[str, Any]
    reader: ImageReader = field(default_factory=ImageReader)
    notes: tuple[str, ...] = ()
    skipped_rows: tuple[SkippedRow, ...] = ()
    tables: tuple[Path, ...] = ()
    doubt: Doubt | None = None
    read_before: "Callable[[], ClassedImages] | None" = None

    def with_splits(self, *, remedy: str) -> "ClassedImages":
        """Return the images with splits, made where there are none, or a lone `train`.

        Made splits depend on nothing but the image ids, class by class: the ids of each class are
        ordered by their SHA-256; the first fifth, at least 1, is `test`, the next tenth, at least
        1, `val`, and the rest `train`. A class of fewer than three images is all `train`.

        Args:
            remedy: What would give splits of the user's own, for the note.
        """
        if not set(self.split_of.values()) <= {"train"}:
            return self
        of_class: dict[int, list[str]] = defaultdict(list)
        for image_id, index in self.class_of.items():
            of_class[index].append(image_id)
        split_of = dict.fromkeys(self.class_of, "train")
        for members in of_class.values():
            if len(members) < _LEAST:
                continue
            members.sort(key=sha256_of)
            num_test = max(1, len(members) // _TEST_SHARE)
            num_val = max(1, len(members) // _VAL_SHARE)
            split_of |= dict.fromkeys(members[:num_test], "test")
            split_of |= dict.fromkeys(members[num_test : num_test + num_val], "val")
        counts = {split: list(split_of.values()).count(split) for split in SPLIT_ORDER}
        note = (
            f"nothing gives the splits: {counts['test']:,} test and {counts['val']:,} val images, "
            "a fifth and a tenth of each class, chosen by the SHA-256 of their names; to choose, "
            f"{remedy}"
        )
        return replace(self, split_of=split_of, notes=(*self.notes, note))


class _ClassSplit(Split):
    """Images of one split with their classes; nothing is paired.

    It has all classes of the dataset, whether or not one of its images is of it.
    """

    def __init__(self, names: tuple[str, ...], reader: ImageReader) -> None:
        self.images = SplitImages(reader)
        self.classes: list[int] = []
        self._names = names

    def ids(self, modality: Modality) -> Sequence[str]:
        return self.images.ids if modality is Modality.IMAGE else ()

    def item(self, modality: Modality, position: int) -> Item:
        return self.images.item(position)

    def pairs(self) -> Pairs:
        of_image = dict(zip(self.images.ids, self.classes, strict=True))
        return Pairs(tuple(self.images.ids), (), (), classes=Classes(self._names, of_image))

    def content(self) -> str | None:
        return self.images.content()


class ClassSource(Source):
    """Images that have classes and no texts; the subclasses say where they come from.

    Args:
        root: Place of the dataset.
        images: All images with classes and splits.

    Raises:
        DatasetFormatError: There are fewer than two classes.
    """

    def __init__(self, root: Path, images: ClassedImages) -> None:
        if len(images.names) < 2:
            raise DatasetFormatError(
                f"{images.origin}: a dataset of classes has two or more, found {list(images.names)}"
            )
        splits = defaultdict(lambda: _ClassSplit(images.names, images.reader))
        for image_id, index in images.class_of.items():
            split = splits[images.split_of[image_id]]
            split.images.ids.append(image_id)
            split.images.places.append(images.places[image_id])
            split.classes.append(index)
        read_before = images.read_before
        report = ReadReport(
            notes=images.notes,
            skipped_rows=images.skipped_rows,
            tables=images.tables,
            doubt=images.doubt,
            read_before=read_before and (lambda: ClassSource(root, read_before())),
        )
        super().__init__(root, dict(splits), report)
