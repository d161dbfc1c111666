"""Give every image of a dataset of classes a split, and serve it as a `Source`."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DatasetFormatError
from ..base import ImageReader, ReadReport, Source
from ..splits import sha256_of
from .images import ImageSplit

_TEST_SHARE, _VAL_SHARE = 5, 10  # one image in so many
_LEAST = 3  # images of a class that can be in every split


class ClassedImage(NamedTuple):
    """Image with its class.

    Attributes:
        place: From where the reader of the dataset reads it: the path of a file, or another.
        label: Its class, an index into the names of all.
        split: Its split, if anything gives it.
    """

    place: Any
    label: int
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClassedImages:
    """Images of a dataset, each with its class and perhaps its split.

    Attributes:
        origin: File or folder that says which classes there are; used in messages.
        names: Name of each class, as the dataset writes it.
        images: The images in order, by their ids.
        reader: Reader of the images.
        report: How the files were read.
    """

    origin: Path
    names: tuple[str, ...]
    images: Mapping[str, ClassedImage]
    reader: ImageReader = field(default_factory=ImageReader)
    report: ReadReport = field(default_factory=ReadReport)

    def with_splits(self, *, remedy: str) -> "ClassedImages":
        """Return the images with splits, made where there are none, or a lone `train`.

        Made splits depend on nothing but the image ids, class by class: the ids of each class are
        ordered by their SHA-256; the first fifth, at least 1, is `test`, the next tenth, at least
        1, `val`, and the rest `train`. A class of fewer than three images is all `train`.

        Args:
            remedy: What would give splits of the user's own, for the note.
        """
        if not {image.split for image in self.images.values()} <= {"train", None}:
            return self
        of_class: dict[int, list[str]] = defaultdict(list)
        for image_id, image in self.images.items():
            of_class[image.label].append(image_id)
        split_of = dict.fromkeys(self.images, "train")
        for members in of_class.values():
            if len(members) < _LEAST:
                continue
            # by hash, so that no split is a stretch of the names, on any machine the same
            members.sort(key=sha256_of)
            num_test = max(1, len(members) // _TEST_SHARE)
            num_val = max(1, len(members) // _VAL_SHARE)
            split_of |= dict.fromkeys(members[:num_test], "test")
            split_of |= dict.fromkeys(members[num_test : num_test + num_val], "val")
        counts = Counter(split_of.values())
        note = (
            f"nothing gives the splits: {counts['test']:,} test and {counts['val']:,} val images, "
            "a fifth and a tenth of each class, chosen by the SHA-256 of their names; to choose, "
            f"{remedy}"
        )
        return replace(
            self,
            images={
                name: image._replace(split=split_of[name]) for name, image in self.images.items()
            },
            report=replace(self.report, notes=(*self.report.notes, note)),
        )


class ClassSource(Source):
    """Images that have classes and no texts; the subclasses say where they come from.

    Args:
        root: Place of the dataset.
        classed: All images with classes and splits.

    Raises:
        DatasetFormatError: There are fewer than two classes.
    """

    def __init__(self, root: Path, classed: ClassedImages) -> None:
        if len(classed.names) < 2:
            names = list(classed.names)
            problem = f"a dataset of classes has two or more, found {names}"
            raise DatasetFormatError(f"{classed.origin}: {problem}")
        splits: defaultdict[str, ImageSplit] = defaultdict(
            lambda: ImageSplit(classed.reader, classed.names)
        )
        for image_id, image in classed.images.items():
            splits[image.split or ""].add(image_id, image.place, label=image.label)
        super().__init__(root, dict(splits), classed.report)
