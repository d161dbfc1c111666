"""Read images with classes that a table lists, or holds itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..item_ids import storable_id
from ._caption_source import split_name, storable_ids, storable_note
from ._class_source import ClassedImages, PictureFiles, Pictures, PicturesOfTable
from ._decoding import format_error, unknown_column
from ._parquet_tables import StoredPicture, StoredPictures
from ._picture_places import PicturePlaces
from ._row_images import RowImages, made_up_name
from ._tables import (
    CLASS_NAMES,
    IMAGE_NAMES,
    Cells,
    Table,
    TableFiles,
    open_table,
    optional_column,
    usual_columns,
)

_MOST_DIGITS = 18  # of the number of a class; int() refuses some thousands of them
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")

_Row = tuple[str, Cells]  # its place, and its cells by column


@dataclass(frozen=True)
class ClassTable:
    """Images of a table as they were read.

    Attributes:
        images: The images with their classes, and the splits that the table gives.
        pictures: What they look like.
        is_otherwise: Whether the first usual column of classes, as it stands, says otherwise.
    """

    images: ClassedImages
    pictures: Pictures
    is_otherwise: bool


@dataclass(frozen=True)
class _Columns:
    """Columns that are read; those that say more of an image or a class may be None."""

    image: str
    classes: str
    order: str | None
    split: str | None
    id: str | None

    def note(self, named_by: str, *, has_splits_of_names: bool) -> str:
        """Return what was taken for what."""
        order = "" if self.order in {None, self.classes} else f", in the order of {self.order}"
        images = f"images from {self.image}, classes from {self.classes}{order}"
        split = "" if self.split is None or has_splits_of_names else f", splits from {self.split}"
        return f"columns read: {images}{split}; {named_by}"


def read_class_table(
    files: TableFiles, allowed: str | None, *, names_first: bool = True
) -> ClassTable:
    """Return the images of a table, with their classes.

    It has a column of images and one of classes, of usual names, and perhaps `label` (number of the
    class, from 0) and `split`. Of several columns of classes one of names goes before those of
    numbers, which give the order of the classes where each has its own; else they are in the order
    of their names.

    Args:
        files: The table.
        allowed: Absolute path of a folder below which images may lie, too.
        names_first: Whether names go before numbers; once, columns went by their names alone.

    Raises:
        DatasetFormatError: The table is broken, lacks a column or names an image elsewhere.
        SpecError: `allowed` is no absolute path of a folder.
    """
    table = open_table(files)
    images_in, of_classes = _columns(table, IMAGE_NAMES), _columns(table, CLASS_NAMES)
    label, split = optional_column(table, "label"), optional_column(table, "split")
    pictures = table.pictures(images_in[0])
    item_id = "id" if pictures is not None and "id" in table.columns else None
    optional = [name for name in (label, split, item_id) if name is not None]
    rows = list(table.read(list(dict.fromkeys([images_in[0], *of_classes, *optional]))))
    table.ledger.check(len(rows))
    before = (of_classes[0], _order_before(of_classes[0], label, rows))
    choice = _choice(of_classes, label, rows) if names_first else before
    columns = _Columns(images_in[0], *choice, split, item_id)
    images, found = _Reader(table, columns, rows, pictures, allowed).images(files)
    return ClassTable(images, found, is_otherwise=choice != before)


def _columns(table: Table, usual: Sequence[str]) -> list[str]:
    known = usual_columns(table, usual)
    if not known:
        problem = f"has no column {usual[0]!r}; columns: {list(table.columns)}"
        raise unknown_column(table.file, problem)
    return known


def _order_before(classes: str, label: str | None, rows: Sequence[_Row]) -> str | None:
    """Return the column of labels, unless it holds the classes, by names that have no order."""
    is_names = classes == label and not all(map(_is_number, _texts(classes, rows)))
    return None if is_names else label


def _choice(
    of_classes: Sequence[str], label: str | None, rows: Sequence[_Row]
) -> tuple[str, str | None]:
    """Return the column of classes, and that of their order."""
    if len(of_classes) == 1:
        return of_classes[0], _order_before(of_classes[0], label, rows)
    numeric = [one for one in of_classes if all(map(_NUMBER.fullmatch, _texts(one, rows)))]
    classes = next((one for one in of_classes if one not in numeric), of_classes[0])
    if label is not None and label != classes and any(map(_is_number, _texts(label, rows))):
        return classes, label
    if classes in numeric:
        return classes, _order_before(classes, label, rows)
    orders = (one for one in numeric if _is_order(one, classes, rows))
    return classes, next(orders, None)


def _is_order(column: str, classes: str, rows: Sequence[_Row]) -> bool:
    """Return whether a column numbers the classes: each has its own number in all rows."""
    pairs = {(_text(cells.get(column)), _text(cells.get(classes))) for _, cells in rows}
    numbers, names = {number for number, _ in pairs}, {name for _, name in pairs}
    return all(map(_is_number, numbers)) and len(pairs) == len(numbers) == len(names)


class _Reader:
    """Reader of the rows of a table.

    Args:
        table: The table.
        columns: Its columns.
        rows: Its rows.
        pictures: The pictures that stand in it, if it holds any.
        allowed: Absolute path of a folder below which images may lie, too.
    """

    def __init__(
        self,
        table: Table,
        columns: _Columns,
        rows: Sequence[_Row],
        pictures: StoredPictures | None,
        allowed: str | None,
    ) -> None:
        self._table = table
        self._columns = columns
        self._rows = rows
        self._pictures = pictures
        self._places = PicturePlaces(table.file, table.folder, allowed)
        if pictures is not None:
            pictures.read_files_by(self._places.allowed_path)
        self._stored: dict[str, StoredPicture] = {}
        self._paths: dict[str, Path | StoredPicture] = {}  # by id
        self._class_of: dict[str, str] = {}
        self._split_of: dict[str, str] = {}
        self._labels: dict[str, int] = {}

    def images(self, files: TableFiles) -> tuple[ClassedImages, Pictures]:
        """Return the images with their classes, and what they look like."""
        file = self._table.file
        written = [self._image(place, cells) for place, cells in self._rows]
        id_of, named_by = self._ids(written)
        for (place, cells), name in zip(self._rows, written, strict=True):
            self._add(id_of[name], name, place, cells)
        if not self._class_of:
            raise format_error(file, "", "names no images")
        self._places.check()
        names = sorted(
            set(self._class_of.values()), key=lambda name: (self._labels.get(name, 0), name)
        )
        index_of = {name: index for index, name in enumerate(names)}
        ids = storable_ids(self._class_of, file)
        notes = (*self._table.notes, *self._table.ledger.notes(), *storable_note(ids))
        are_of_names = self._table.has_splits_of_names
        columns = self._columns.note(named_by, has_splits_of_names=are_of_names)
        images = ClassedImages(
            file,
            tuple(map(storable_id, names)),
            {ids.get(image, image): index_of[name] for image, name in self._class_of.items()},
            {ids.get(image, image): split for image, split in self._split_of.items()},
            (columns, *notes),
            tuple(self._table.ledger.rows),
            files.files,
        )
        return images, self._looks({ids.get(one, one): at for one, at in self._paths.items()})

    def _image(self, place: str, cells: Cells) -> str:
        """Return the path of an image as it is written, or a name of one that stands here."""
        cell = cells.get(self._columns.image)
        if isinstance(cell, StoredPicture):
            name = made_up_name(cell)
            self._stored[name] = cell
            return name
        if isinstance(cell, bytes | dict | list):
            problem = f"column {self._columns.image!r} must hold the path of an image"
            raise format_error(self._table.file, place, f"{problem}, found {type(cell).__name__}")
        return self._cell(place, cells, self._columns.image)

    def _ids(self, written: Sequence[str]) -> tuple[Mapping[str, str], str]:
        files = dict.fromkeys(name for name in written if name not in self._stored)
        path_ids = self._places.ids_of(files)
        if not self._stored:
            return path_ids, "ids are the image paths"
        id_column = self._columns.id
        cells = [] if id_column is None else [row.get(id_column) for _, row in self._rows]
        in_rows = RowImages(written, list(map(_text, cells)), id_column, self._stored)
        return in_rows.ids_of_names(path_ids, self._pictures)

    def _add(self, image: str, written: str, place: str, cells: Cells) -> None:
        columns, file = self._columns, self._table.file
        name = self._cell(place, cells, columns.classes)
        _set(self._class_of, image, name, "class", file, place)
        picture = self._stored.get(written)
        self._paths.setdefault(image, picture or self._places.path_of(written, place))
        if columns.split is not None:
            split = split_name(self._cell(place, cells, columns.split))
            _set(self._split_of, image, split, "split", file, place)
        if columns.order is not None:
            label = self._cell(place, cells, columns.order)
            _add_label(self._labels, name, label, file, place)

    def _cell(self, place: str, cells: Cells, column: str) -> str:
        text = _text(cells.get(column))
        if not text:
            raise format_error(self._table.file, place, f"column {column!r} is empty")
        return text

    def _looks(self, places: Mapping[str, Path | StoredPicture]) -> Pictures:
        if self._stored and self._pictures is not None:
            return PicturesOfTable(places, self._pictures)
        return PictureFiles({name: at for name, at in places.items() if isinstance(at, Path)})


def _text(cell: object) -> str:
    return "" if cell is None else str(cell).strip()


def _texts(column: str, rows: Sequence[_Row]) -> list[str]:
    """Return what stands in a column, without what is empty."""
    return [text for _, cells in rows if (text := _text(cells.get(column)))]


def _set(table: dict[str, str], image: str, value: str, what: str, file: Path, place: str) -> None:
    if table.setdefault(image, value) != value:
        problem = f"{image!r} is of {what} {value!r}, but was of {table[image]!r}"
        raise format_error(file, place, problem)


def _add_label(labels: dict[str, int], name: str, label: str, file: Path, place: str) -> None:
    if not _is_number(label):
        raise format_error(file, place, f"label {label!r} is no number from 0 up")
    known = labels.setdefault(name, int(label))
    if known != int(label):
        raise format_error(file, place, f"class {name!r} has label {label}, but had {known}")


def _is_number(label: str) -> bool:
    return label.isdecimal() and len(label) <= _MOST_DIGITS
