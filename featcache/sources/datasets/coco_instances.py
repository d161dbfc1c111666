"""COCO: 123,000 photos, boxes of 80 classes of things in them, and five captions each.

Source: Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014;
https://cocodataset.org/#format-data.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...regular_files import is_regular
from ..base import counted, format_error, missing_dataset
from ..readers.item_ledger import ItemLedger
from ..readers.question_source import is_image_number
from ..readers.region_source import (
    RegionRows,
    RegionSource,
    as_float,
    find_pictures,
    is_number,
    is_size,
)
from ..tables.json_lists import objects_by_key

_SPLITS = ("train", "val")
_YEARS = ("2017", "2014")  # the later one first: its split is that of most publications
_FOLDERS = ("annotations", "", "annotations_trainval2017", "annotations_trainval2014")
_IMAGE_FOLDERS = (".", "images", "Images", "coco", "coco/images")
_LISTS = {"images": "image", "annotations": "annotation", "categories": "category"}


@dataclass(frozen=True, kw_only=True)
class CocoInstancesOptions:
    """Options of COCO with boxes.

    Attributes:
        root: Absolute path of a folder below which images may lie, too, such as `/`.
    """

    root: str | None = None


class CocoInstancesSource(RegionSource):
    """Read COCO from its official `instances_*.json`, with the `captions_*.json` beside them.

    Splits are `train` and `val` of 2017, else of 2014. Boxes of crowds are left out. Captions name
    no boxes: a mention is known of none.

    Args:
        place: Folder of the dataset.
        options: See `CocoInstancesOptions`.

    Raises:
        DatasetNotFoundError: No annotations, or none of the images is there.
        DatasetFormatError: A file cannot be understood, or names an image elsewhere.
        SpecError: `root` is no absolute path of a folder.
    """

    title = "COCO: 123,000 photos, boxes of 80 classes, five captions each"
    Options = CocoInstancesOptions

    def __init__(self, place: Path, options: CocoInstancesOptions) -> None:
        files, year = _instance_files(place)
        ledger = ItemLedger("region")
        rows = RegionRows(ledger)
        class_names: list[str] = []
        places: list[str] = []
        for split, file in files.items():
            instances = _Instances(file)
            image_numbers = instances.add_to(rows, split, class_names, ledger)
            captions = file.with_name(file.name.replace("instances", "captions"))
            if is_regular(captions):
                _add_captions(captions, rows, image_numbers, ledger)
            else:
                ledger.note(f"{split} has no captions: {captions.name} is not there")
            folders = [f"{folder}/{split}{year}" for folder in _IMAGE_FOLDERS] + [*_IMAGE_FOLDERS]
            places += find_pictures(
                rows.names_in(split), folders, place=place, root=options.root, file=file
            )
        super().__init__(
            place,
            rows,
            places,
            file=next(iter(files.values())),
            class_names=class_names,
            ledger=ledger,
        )


def _instance_files(place: Path) -> tuple[dict[str, Path], str]:
    """Return the files of the splits of a year, by split, and the year."""
    for year in _YEARS:
        files = {}
        for split in _SPLITS:
            name = f"instances_{split}{year}.json"
            candidates = (place / folder / name for folder in _FOLDERS)
            file = next((path for path in candidates if is_regular(path)), None)
            if file is not None:
                files[split] = file
        if files:
            return files, year
    names = [f"instances_{split}{year}.json" for year in _YEARS for split in _SPLITS]
    get_it = "Get it from https://cocodataset.org/#download."
    raise missing_dataset("coco-instances", place, names, get_it)


class _Instances:
    """Content of a file of boxes, whose lists may come in any order."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._images: dict[int, tuple[str, tuple[int, int], str]] = {}
        self._categories: dict[int, str] = {}
        self._image_of_box, self._category_of_box = array("q"), array("q")
        self._corners, self._numbers = array("d"), array("q")
        self._num_crowds = 0
        readers = {
            "images": self._read_image,
            "annotations": self._read_annotation,
            "categories": self._read_category,
        }
        for key, place, value in objects_by_key(file, _LISTS):
            readers[key](place, value)

    def add_to(
        self, rows: RegionRows, split: str, class_names: list[str], ledger: ItemLedger
    ) -> dict[int, int]:
        """Append all images and boxes, and return the number of each image by that of COCO.

        Args:
            rows: Where they are appended.
            split: Their split.
            class_names: Names of the classes, to which new ones are appended.
            ledger: What becomes known of boxes that are left out.
        """
        image_numbers = {
            image: rows.add_image(name, split, size, place=place, path=self._file)
            for image, (name, size, place) in self._images.items()
        }
        label_of = {}
        for category, name in self._categories.items():
            if name not in class_names:
                class_names.append(name)
            label_of[category] = class_names.index(name)
        for row, (image, category) in enumerate(
            zip(self._image_of_box, self._category_of_box, strict=True)
        ):
            place = f"{self._file.name}, annotation {self._numbers[row]}"
            if image not in image_numbers:
                ledger.skip(place, "the box is of an image that is not listed")
            elif category not in label_of:
                ledger.skip(place, "the box is of a category that is not listed")
            else:
                x, y, width, height = self._corners[4 * row : 4 * row + 4]
                rows.add_box(
                    image_numbers[image],
                    (x, y, x + width, y + height),
                    place=place,
                    label=label_of[category],
                )
        if self._num_crowds:
            crowds = f"{counted(self._num_crowds, 'crowd')} of {split}"
            ledger.note(f"{crowds} left out: a box of many things is of no single one")
        return image_numbers

    def _read_image(self, place: str, value: dict[str, Any]) -> None:
        match value:
            case {
                "id": int(image),
                "file_name": str(name),
                "width": int(width),
                "height": int(height),
            } if is_image_number(image) and name and is_size(width) and is_size(height):
                if image in self._images:
                    raise format_error(self._file, place, f"image {image} is there twice")
                self._images[image] = (name, (width, height), place)
            case _:
                raise _unlike(self._file, place, value, "id, file_name, width and height")

    def _read_annotation(self, place: str, value: dict[str, Any]) -> None:
        match value:
            case {
                "image_id": int(image),
                "category_id": int(category),
                "bbox": [_, _, _, _] as box,
            } if is_image_number(image) and is_image_number(category) and all(map(is_number, box)):
                if value.get("iscrowd"):
                    self._num_crowds += 1
                    return
                self._image_of_box.append(image)
                self._category_of_box.append(category)
                self._corners.extend(map(as_float, box))
                self._numbers.append(int(place.rpartition(" ")[2]))
            case _:
                keys = "image_id, category_id and bbox with four numbers"
                raise _unlike(self._file, place, value, keys)

    def _read_category(self, place: str, value: dict[str, Any]) -> None:
        match value:
            case {"id": int(category), "name": str(name)} if is_image_number(category) and name:
                if category in self._categories:
                    raise format_error(self._file, place, f"category {category} is there twice")
                self._categories[category] = name
            case _:
                raise _unlike(self._file, place, value, "id and name")


def _unlike(file: Path, place: str, value: object, keys: str) -> Exception:
    """Build the error for an object that lacks keys."""
    return format_error(file, place, f"expected the keys {keys}, found {value!r}")


def _add_captions(
    file: Path, rows: RegionRows, image_numbers: dict[int, int], ledger: ItemLedger
) -> None:
    for place, image, text in _captions(file):
        where = f"{file.name}, {place}"
        if image not in image_numbers:
            ledger.skip(where, "the caption is of an image that is not listed", noun="caption")
        elif not text:
            ledger.skip(where, "the caption is empty", noun="caption")
        else:
            rows.add_text(image_numbers[image], text)


def _captions(file: Path) -> Iterator[tuple[str, int, str]]:
    """Yield place, image and text of every caption."""
    for _, place, value in objects_by_key(file, {"annotations": "annotation"}):
        match value:
            case {"image_id": int(image), "caption": str(text)} if is_image_number(image):
                yield place, image, text.strip()
            case _:
                raise _unlike(file, place, value, "image_id and caption")
