"""Visual Genome: 108,000 photos, 5.4 million phrases with a box each, 3.8 million objects.

Source: Krishna et al., Visual Genome: Connecting Language and Vision Using Crowdsourced Dense
Image Annotations, IJCV 2017; https://homes.cs.washington.edu/~ranjay/visualgenome/api.html.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...regular_files import is_regular
from ..base import format_error, missing_dataset
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
from ..splits import hashed_splits
from ..tables.json_lists import objects_of_list

_IMAGES, _PHRASES, _OBJECTS = "image_data.json", "region_descriptions.json", "objects.json"
_FOLDERS = ("", "annotations", "data")
_IMAGE_FOLDERS = (".", "images", "Images")
_ARCHIVES = ("VG_100K", "VG_100K_2")  # into which the official archives unpack the photos


@dataclass(frozen=True, kw_only=True)
class VisualGenomeOptions:
    """Options of Visual Genome.

    Attributes:
        root: Absolute path of a folder below which images may lie, too, such as `/`.
    """

    root: str | None = None


class _Image(NamedTuple):
    """Image as `image_data.json` has it."""

    number: int
    size: tuple[int, int]
    archive: str
    place: str


class VisualGenomeSource(RegionSource):
    """Read Visual Genome from its official files.

    The phrases of regions are the texts, and each mentions its own box. Objects are boxes with a
    class, the first of their names. There are no official splits: they come from the SHA-256 of
    the ids.

    Args:
        place: Folder of the dataset.
        options: See `VisualGenomeOptions`.

    Raises:
        DatasetNotFoundError: `image_data.json`, `region_descriptions.json`, or each of the images
            is missing.
        DatasetFormatError: A file cannot be understood, or an image lies elsewhere.
        SpecError: `root` is no absolute path of a folder.
    """

    title = "Visual Genome: 108,000 photos, 5.4 million phrases with boxes"
    Options = VisualGenomeOptions

    def __init__(self, place: Path, options: VisualGenomeOptions) -> None:
        files = {name: _find(place, name) for name in (_IMAGES, _PHRASES, _OBJECTS)}
        file, phrases, objects = files.values()
        if file is None or phrases is None:
            get_it = "Get it from https://homes.cs.washington.edu/~ranjay/visualgenome/."
            raise missing_dataset("visual-genome", place, [f"{_IMAGES} and {_PHRASES}"], get_it)
        images = list(_read_images(file))
        ledger = ItemLedger("region")
        rows = RegionRows(ledger)
        split_of, held_out = hashed_splits(_name(image.number) for image in images)
        ledger.note(
            f"there are no official splits: {held_out:,} test and {held_out:,} val images chosen "
            "by the SHA-256 of their names"
        )
        number_of = {}
        for image in images:
            name = _name(image.number)
            number_of[image.number] = rows.add_image(
                name, split_of[name], image.size, place=image.place, path=file
            )
        _add_phrases(phrases, rows, number_of, ledger)
        class_names: dict[str, int] = {}
        if objects is None:
            ledger.note(f"boxes have no classes: {_OBJECTS} is not there")
        else:
            _add_objects(objects, rows, number_of, class_names, ledger)
        places = _image_places(place, file, images, options.root)
        super().__init__(
            place, rows, places, file=file, class_names=list(class_names), ledger=ledger
        )


def _find(place: Path, name: str) -> Path | None:
    return next((path for folder in _FOLDERS if is_regular(path := place / folder / name)), None)


def _name(image: int) -> str:
    return f"{image}.jpg"


def _read_images(file: Path) -> Iterator[_Image]:
    for place, value in objects_of_list(file, "image"):
        # the first release calls it `id`
        match {"image_id": value.get("id"), "url": "", **value}:
            case {
                "image_id": int(number),
                "width": int(width),
                "height": int(height),
                "url": str(url),
            } if is_image_number(number) and is_size(width) and is_size(height):
                archive = url.split("/")[-2] if url.count("/") else ""
                yield _Image(
                    number, (width, height), archive if archive in _ARCHIVES else "", place
                )
            case _:
                keys = "image_id, url, width and height"
                raise format_error(file, place, f"expected the keys {keys}, found {value!r}")


def _image_places(place: Path, file: Path, images: Sequence[_Image], root: str | None) -> list[str]:
    """Return the file of each image, which lies in the folder of its archive or beside all."""
    path_of: dict[int, str] = {}
    for archive in dict.fromkeys(image.archive for image in images):
        numbers = [image.number for image in images if image.archive == archive]
        archives = (archive,) if archive else _ARCHIVES
        folders = [f"{folder}/{name}" for name in archives for folder in _IMAGE_FOLDERS]
        paths = find_pictures(
            list(map(_name, numbers)),
            [*folders, *_IMAGE_FOLDERS],
            place=place,
            root=root,
            file=file,
        )
        path_of |= zip(numbers, paths, strict=True)
    return [path_of[image.number] for image in images]


def _of_images(
    file: Path, key: str, number_of: dict[int, int], ledger: ItemLedger
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield image, place and content of each object in a list that every image has under a key."""
    for place, value in objects_of_list(file, "image"):
        # the files of the first release, and that of regions, call it `id`
        match {"image_id": value.get("id"), **value}:
            case {"image_id": int(image), **rest} if is_image_number(image) and isinstance(
                rest.get(key), list
            ):
                entries = rest[key]
            case _:
                raise format_error(file, place, f"expected the keys id and {key}, found {value!r}")
        noun = key.removesuffix("s")
        for number, entry in enumerate(entries, start=1):
            where = f"{file.name}, {place}, {noun} {number}"
            if not isinstance(entry, dict):
                raise format_error(file, f"{place}, {noun} {number}", f"found {entry!r}")
            if image not in number_of:
                ledger.skip(where, "the box is of an image that is not listed")
                continue
            yield number_of[image], where, entry


def _add_phrases(
    file: Path, rows: RegionRows, number_of: dict[int, int], ledger: ItemLedger
) -> None:
    for image, place, value in _of_images(file, "regions", number_of, ledger):
        match value:
            case {"phrase": str(phrase)}:
                text = phrase.strip()
            case _:
                raise _unlike(file, place, value, "phrase, x, y, width and height")
        corners = _corners(file, place, value, ("width", "height"))
        if not text:
            ledger.skip(place, "the phrase is empty")
        elif (box := rows.add_box(image, corners, place=place)) is not None:
            rows.add_mention(rows.add_text(image, text), box, 0, len(text))


def _add_objects(
    file: Path,
    rows: RegionRows,
    number_of: dict[int, int],
    class_names: dict[str, int],
    ledger: ItemLedger,
) -> None:
    for image, place, value in _of_images(file, "objects", number_of, ledger):
        match value:
            case {"names": [str(first), *_]} if first.strip():
                name = " ".join(first.lower().split())
            case _:
                raise _unlike(file, place, value, "names, x, y, w and h")
        label = class_names.setdefault(name, len(class_names))
        rows.add_box(image, _corners(file, place, value, ("w", "h")), place=place, label=label)


def _corners(
    file: Path, place: str, value: dict[str, Any], edges: tuple[str, str]
) -> tuple[float, ...]:
    keys = ("x", "y", *edges)
    numbers: list[Any] = [value.get(key) for key in keys]
    if not all(map(is_number, numbers)):
        raise _unlike(file, place, value, ", ".join(keys))
    x, y, width, height = map(as_float, numbers)
    return x, y, x + width, y + height


def _unlike(file: Path, place: str, value: object, keys: str) -> Exception:
    """Build the error for an object that lacks keys, whose place begins with the file's name."""
    where = place.removeprefix(f"{file.name}, ")
    return format_error(file, where, f"expected the keys {keys}, found {value!r}")
