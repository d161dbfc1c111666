"""Group images, boxes and texts by split, and serve them as a `Source`."""

import math
from array import array
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ...errors import DatasetFormatError
from ...links import REGIONS, Links, compact
from ...regions import NOWHERE, Regions
from ...string_array import GrowingStrings, Strings
from ...types import IMAGE_TEXT, Item, Modality
from ..base import ReadReport, Source, Split, format_error
from ..tables.picture_places import PicturePlaces
from .images import require_images, storable_ids, storable_note
from .item_ledger import ItemLedger
from .question_source import folder_of

_TOLERANCE = 1.0  # pixels by which a box may reach out of its picture: it was rounded
_PROBED = 100  # pictures by which their folder is found


class RegionRows:
    """Images, boxes and texts of a dataset, in whatever order its files have them.

    They are numbers in arrays: of the five million boxes of Visual Genome, lists would take
    gigabytes.

    Args:
        ledger: What becomes known of boxes that are left out.
    """

    def __init__(self, ledger: ItemLedger) -> None:
        self._ledger = ledger
        self._number_of: dict[str, int] = {}
        self._splits: list[str] = []
        self._sizes = array("q")
        self._boxes, self._image_of_box, self._labels = array("f"), array("q"), array("q")
        self._texts, self._image_of_text = GrowingStrings(), array("q")
        self._mentions, self._text_of_mention = array("q"), array("q")

    @property
    def num_boxes(self) -> int:
        """Return the number of boxes so far."""
        return len(self._image_of_box)

    def add_image(
        self, name: str, split: str, size: tuple[int, int], *, place: str, path: Path
    ) -> int:
        """Append an image, and return its number.

        Args:
            name: Its id; `RegionSource` makes it one that can be stored.
            split: Its split.
            size: Width and height in pixels.
            place: Where it stands in the file, for messages.
            path: The file that names it.

        Raises:
            DatasetFormatError: An image of this id is there.
        """
        number = len(self._number_of)
        if self._number_of.setdefault(name, number) != number:
            raise format_error(path, place, f"image {name!r:.200} is there twice")
        self._splits.append(split)
        self._sizes.extend(size)
        return number

    def add_box(
        self,
        image: int,
        corners: Sequence[float],
        *,
        place: str,
        label: int = NOWHERE,
    ) -> int | None:
        """Append a box, cut to its picture, and return its number; or None of one that is bad.

        A box is left out and listed that is not finite, has no area, or reaches out of its picture
        by more than a pixel.

        Args:
            image: Number of its image.
            corners: x1, y1, x2, y2 in pixels.
            place: Where it stands, with the name of the file.
            label: Number of its class.
        """
        width, height = self._sizes[2 * image], self._sizes[2 * image + 1]
        reason = _flaw(corners, width, height)
        if reason is None:
            left, top, right, bottom = corners
            cut = (max(left, 0), max(top, 0), min(right, width), min(bottom, height))
            corners = array("f", cut)  # rounded as it will be stored
            reason = _flaw(corners, width, height)
        if reason is not None:
            self._ledger.skip(place, reason)
            return None
        self._boxes.extend(corners)
        self._image_of_box.append(image)
        self._labels.append(label)
        return self.num_boxes - 1

    def add_text(self, image: int, text: str) -> int:
        """Append a text of an image, and return its number."""
        self._texts.append(text)
        self._image_of_text.append(image)
        return len(self._image_of_text) - 1

    def add_mention(self, text: int, box: int, first: int = NOWHERE, last: int = NOWHERE) -> None:
        """Have characters of a text name a box."""
        self._mentions.extend((box, first, last))
        self._text_of_mention.append(text)

    def names_in(self, split: str) -> list[str]:
        """Return the names of the images of a split."""
        named = zip(self._number_of, self._splits, strict=True)
        return [name for name, image_split in named if image_split == split]

    @property
    def names(self) -> list[str]:
        """Return the names of all images."""
        return list(self._number_of)

    def splits(
        self, ids: Sequence[str], places: Sequence[str], class_names: Sequence[str]
    ) -> dict[str, "RegionSplit"]:
        """Return the splits.

        Args:
            ids: Id of each image.
            places: File of each image.
            class_names: Names of all classes of the dataset.
        """
        names, texts = Strings.of(class_names), self._texts.strings()
        image_of_text, image_of_box = (
            np.array(images, dtype=np.int64) for images in (self._image_of_text, self._image_of_box)
        )
        text_of_mention = np.array(self._text_of_mention, dtype=np.int64)
        boxes = np.array(self._boxes, dtype=np.float32).reshape(-1, 4)
        labels = np.array(self._labels, dtype=np.int64)
        mentions = np.array(self._mentions, dtype=np.int64).reshape(-1, 3)
        sizes = np.array(self._sizes, dtype=np.int64).reshape(-1, 2)
        split_of = np.array(self._splits)
        splits = {}
        for split in dict.fromkeys(self._splits):
            images = np.flatnonzero(split_of == split)
            box_rows, ends = _grouped(image_of_box, images, len(split_of))
            text_rows, text_ends = _grouped(image_of_text, images, len(split_of))
            mention_rows, mention_ends = _grouped(text_of_mention, text_rows, len(texts))
            named = mentions[mention_rows]
            named[:, 0] = _positions(box_rows, len(boxes))[named[:, 0]]
            splits[split] = RegionSplit(
                Strings.of(ids[image] for image in images.tolist()),
                [places[image] for image in images.tolist()],
                texts,
                text_rows,
                text_ends,
                Regions(
                    sizes=sizes[images],
                    ends=ends,
                    boxes=boxes[box_rows],
                    class_of=labels[box_rows],
                    class_names=names,
                    mention_ends=mention_ends,
                    mentions=named,
                ),
            )
        return splits


def _flaw(corners: Sequence[float], width: int, height: int) -> str | None:
    """Return why a box is none of a picture, or None."""
    left, top, right, bottom = corners
    if not math.isfinite(left + top + right + bottom):
        return "the box is not finite"
    if right <= left or bottom <= top:
        return "the box has no area"
    reaches_out = (
        min(left, top) < -_TOLERANCE or right > width + _TOLERANCE or bottom > height + _TOLERANCE
    )
    return "the box reaches out of its picture" if reaches_out else None


def _grouped(
    owners: Int64[np.ndarray, " entries"], chosen: Int64[np.ndarray, " n"], count: int
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " n"]]:
    """Return which entries are of the chosen owners, owner by owner, and where those of each end.

    Args:
        owners: Owner of each entry, one of `count`.
        chosen: Owners, in the order that the entries are to have.
        count: All owners.
    """
    position = _positions(chosen, count)[owners]
    entries = np.flatnonzero(position >= 0)
    entries = entries[np.argsort(position[entries], kind="stable")]
    return entries, np.cumsum(np.bincount(position[entries], minlength=len(chosen)))


def _positions(chosen: Int64[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " count"]:
    """Return the position of each of `count` numbers among the chosen, or -1."""
    positions = np.full(count, -1, dtype=np.int64)
    positions[chosen] = np.arange(len(chosen))
    return positions


class RegionSplit(Split):
    """Images of one split with their boxes and texts.

    The id of a text is that of its image and its number there: `<image id>#<n>`.

    Args:
        image_ids: Ids of the images.
        places: File of each image.
        texts: Texts of all splits.
        text_rows: Which of them are of this one, image by image.
        text_ends: Where the texts of each image end in `text_rows`.
        regions: Boxes of the images, and which texts mention them.
    """

    modalities = IMAGE_TEXT

    def __init__(
        self,
        image_ids: Strings,
        places: Sequence[str],
        texts: Strings,
        text_rows: Int64[np.ndarray, " texts"],
        text_ends: Int64[np.ndarray, " images"],
        regions: Regions,
    ) -> None:
        self._image_ids = image_ids
        self._places = places
        self._texts = texts
        self._text_rows = text_rows
        self._text_ends = text_ends
        self._regions = regions

    def ids(self, modality: Modality) -> Sequence[str]:
        """Return the ids of images, or of texts."""
        return self._image_ids if modality is Modality.IMAGE else self._text_ids

    def count(self, modality: Modality) -> int:
        """Return the number of images, or of texts."""
        return len(self._image_ids if modality is Modality.IMAGE else self._text_rows)

    def item(self, modality: Modality, position: int) -> Item:
        """Return an image, or a text."""
        if modality is Modality.IMAGE:
            return Item(id=self._image_ids.at(position), path=Path(self._places[position]))
        text = self._texts.at(int(self._text_rows[position]))
        return Item(id=self._text_ids.at(position), text=text)

    def pairs(self) -> Links:
        """Return which images and texts belong together, and the regions."""
        count = len(self._text_rows)
        ids = {Modality.IMAGE: self._image_ids}
        if not count:
            return Links(ids, labels={REGIONS: self._regions})
        texts = np.arange(count)
        images = np.searchsorted(self._text_ends, texts, side="right")
        return Links(
            ids | {Modality.TEXT: self._text_ids},
            {IMAGE_TEXT: compact(np.stack([images, texts], axis=1))},
            {REGIONS: self._regions},
        )

    @cached_property
    def _text_ids(self) -> Strings:
        ids = GrowingStrings()
        for image, count in zip(
            self._image_ids, np.diff(self._text_ends, prepend=0).tolist(), strict=True
        ):
            ids.extend([f"{image}#{number}" for number in range(count)])
        return ids.strings()


class RegionSource(Source):
    """Images with boxes, and texts that may name them; the subclasses say where they come from.

    Args:
        root: Place of the dataset.
        rows: All images, boxes and texts.
        places: File of each image.
        file: The file that names the images; used in messages.
        class_names: Names of all classes of the boxes.
        ledger: What becomes known while they are read.

    Raises:
        DatasetNotFoundError: None of the images is there.
        DatasetFormatError: There are no images, two have the same id, or most boxes are bad.
    """

    labels = (REGIONS,)

    def __init__(
        self,
        root: Path,
        rows: RegionRows,
        places: Sequence[str],
        *,
        file: Path,
        class_names: Sequence[str],
        ledger: ItemLedger,
    ) -> None:
        if not rows.names:
            raise DatasetFormatError(f"{file}: holds no images")
        ledger.check(rows.num_boxes, root)
        require_images(
            places,
            listed_in=f" that {file} names",
            advice="; put the image files beside the boxes",
        )
        ids = storable_ids(rows.names, file)
        ledger.note(*storable_note(ids))
        splits = rows.splits([ids.get(name, name) for name in rows.names], places, class_names)
        super().__init__(root, splits, ledger.report(ReadReport()))


def find_pictures(
    names: Sequence[str], folders: Sequence[str], *, place: Path, root: str | None, file: Path
) -> list[str]:
    """Return the path of each picture, in the first folder that holds any of them.

    Args:
        names: Their names.
        folders: Folders below that of the dataset, or below `root`, the usual one first.
        place: Folder of the dataset.
        root: Absolute path of a further folder below which they may lie, or None.
        file: The file that names them, for messages.

    Raises:
        DatasetFormatError: One lies elsewhere.
        SourceOptionError: `root` is no absolute path of a folder.
    """
    tops = [place, *([] if root is None else [Path(root)])]
    candidates = [top / folder for folder in folders for top in tops]
    folder = folder_of(names[:_PROBED], candidates) or candidates[0]
    pictures = PicturePlaces(file, folder, root, dataset=place)
    paths = [str(pictures.path_of(name, "")) for name in names]
    pictures.check()
    return paths


def is_number(value: object) -> bool:
    """Return whether a value of JSON is a number, as coordinates are; NaN is one."""
    return type(value) in {int, float}


def as_float(number: float | int) -> float:
    """Return a number of JSON as a float, one of hundreds of digits as infinity."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def is_size(value: object) -> bool:
    """Return whether a value of JSON is the width or height of a picture."""
    return type(value) is int and 0 < value < 2**31
