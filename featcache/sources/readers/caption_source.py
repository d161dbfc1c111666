"""Group caption rows by image, give every image a split, and serve both as a `Source`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..base import ImageReader, ReadReport, Source, counted, format_error
from ..splits import hashed_splits, split_name
from ..tables.parquet import StoredPicture
from ..tables.row_ledger import shortened_places
from ..tables.text_files import Row
from .images import ImageSplit, require_images, storable_ids, storable_note


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

    def with_listed_splits(
        self, split_of: Mapping[str, str], *, listed_in: str
    ) -> "CaptionedImages":
        """Return the images with the splits of a list; what it lacks is left out with a note.

        Images that are listed but have no caption are appended without captions.

        Args:
            split_of: Split by image id.
            listed_in: File name or names that the splits come from.

        Raises:
            DatasetFormatError: The list and the captions have no image in common.
        """
        captions = {name: texts for name, texts in self.captions.items() if name in split_of}
        left_out = len(self.captions) - len(captions)
        if not captions:
            raise format_error(self.file, "", f"has no image in common with {listed_in}")
        captions |= {name: [] for name in split_of if name not in captions}
        images = f"{counted(left_out, 'image')} of {self.file.name}"
        notes = (f"{images} left out: no split in {listed_in}",) if left_out else ()
        return CaptionedImages(self.file, captions, split_of, (*self.notes, *notes))

    def with_hashed_splits(self, *, remedy: str) -> "CaptionedImages":
        """Return the images with splits that depend on nothing but their ids.

        Args:
            remedy: What would give the official splits, for the note.
        """
        split_of, held_out = hashed_splits(self.captions)
        note = (
            f"no file gives the splits: {held_out:,} test and {held_out:,} val images chosen by "
            f"the SHA-256 of their names; {remedy}"
        )
        return replace(self, split_of=split_of, notes=(*self.notes, note))


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
    for row in rows:
        if not row.image:
            raise format_error(file, row.place, "names no image")
        stripped = [caption.strip() for caption in row.captions]
        nonempty = [caption for caption in stripped if caption]
        if len(nonempty) < len(stripped):
            num_empty += len(stripped) - len(nonempty)
            without.append(row.place)
        captions.setdefault(row.image, []).extend(nonempty)
        if row.split is not None:
            _add_split(split_of, row, file)
    if not captions:
        raise format_error(file, "", "holds no captions")
    empty = f"{counted(num_empty, 'empty caption')} dropped: {shortened_places(without)}"
    return CaptionedImages(file, captions, split_of, (empty,) if num_empty else ())


def _add_split(split_of: dict[str, str], row: Row, file: Path) -> None:
    split = split_name(row.split or "")
    if not split:
        raise format_error(file, row.place, f"gives no split for image {row.image!r}")
    if split_of.setdefault(row.image, split) != split:
        problem = f"puts {row.image!r} in split {split!r}, but it was in {split_of[row.image]!r}"
        raise format_error(file, row.place, problem)


class CaptionSource(Source):
    """Images with captions; the subclasses say where they come from.

    Image ids are the keys of `images.captions`, but for those that `storable_ids` writes otherwise.

    Args:
        root: Place of the dataset.
        images: All images with captions and splits.
        places: File by image id, or place in the table where the image stands in it.
        reader: Reader of the images, if some are no files.
        report: How the files were read; its notes follow those of the images.

    Raises:
        DatasetNotFoundError: None of the image files is there.
        DatasetFormatError: Two images would get the same id.
    """

    def __init__(
        self,
        root: Path,
        images: CaptionedImages,
        places: Mapping[str, str | StoredPicture],
        *,
        reader: ImageReader | None = None,
        report: ReadReport | None = None,
    ) -> None:
        require_images(
            list(places.values()),
            listed_in=f" that {images.file} names",
            advice="; put the image files beside the captions",
        )
        splits: defaultdict[str, ImageSplit] = defaultdict(
            lambda: ImageSplit(reader or ImageReader())
        )
        ids = storable_ids(images.captions, images.file)
        for name, captions in images.captions.items():
            split = splits[images.split_of[name]]
            split.add(ids.get(name, name), places[name], captions=captions)
        num_bare = sum(not captions for captions in images.captions.values())
        bare = f"{counted(num_bare, 'image')} without any caption kept, in no pair"
        notes = (*images.notes, *((bare,) if num_bare else ()), *storable_note(ids))
        super().__init__(root, dict(splits), replace(report or ReadReport(), notes=notes))
