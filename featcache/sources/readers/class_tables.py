"""Read images with classes that a table lists, or holds itself."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...errors import SpecError
from ...item_ids import storable_id
from ..base import Doubt
from ..splits import split_name
from ..tables.columns import CLASS_NAMES, ColumnTexts, caption_names, is_like_caption, left_columns
from ..tables.decoding import format_error
from ..tables.parquet import StoredPicture
from ..tables.picture_places import PicturePlaces
from ..tables.row_images import RowImages, made_up_name
from ..tables.row_ledger import of_one_value
from ..tables.table import (
    Cells,
    Table,
    TableFiles,
    TableFormat,
    image_column_of,
    open_table,
    optional_column,
    require_column,
    split_column_of,
    split_text_of,
    unrecognised,
    usual_columns,
)
from ..tables.text_files import is_missing, text_of
from .caption_source import BY_FOLDERS, splits_of_folders, storable_ids, storable_note
from .class_source import ClassedImages, PictureFiles, Pictures, PicturesOfTable

_MOST_DIGITS = 18  # of the number of a class; int() refuses some thousands of them
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")

_Row = tuple[str, Cells]  # its place, and its cells by column


@dataclass(frozen=True, kw_only=True)
class ClassTableOptions:
    """Options of a table of classes; what is None is found out.

    Attributes:
        image_column: Column of image paths.
        class_column: Column of classes.
        split_column: Column of split names; the table may lack it only under its default name.
        allowed: Absolute path of a folder below which images may lie, too.
        form: How its files are to be read.
    """

    image_column: str | None = None
    class_column: str | None = None
    split_column: str = "split"
    allowed: str | None = None
    form: TableFormat = field(default_factory=TableFormat)

    @property
    def is_silent(self) -> bool:
        """Return whether nothing is said of the columns and files of a table."""
        return self == ClassTableOptions(allowed=self.allowed)

    def require_none(self, place: Path) -> None:
        """Pass if nothing is said of the columns or the files of a table.

        Raises:
            SpecError: It is, and there is no table at the place.
        """
        if self.is_silent:
            return
        said = {**vars(self), **vars(self.form)}
        usual = {**vars(ClassTableOptions()), **vars(TableFormat())}
        names = (name for name in said if name not in {"allowed", "form"})
        name = next(name for name in names if said[name] != usual[name])
        raise SpecError(f"source.{name} is for tables of classes, found none in {place}")


class Reading(NamedTuple):
    """Way in which a table was read; a dataset that is remembered so stays what it was.

    Attributes:
        names_first: Whether names of classes go before numbers; once, columns went by their names.
        knows_missing: Whether `NaN` and the like are no classes, and numbers of classes have the
            names that the table gives them; once, all of them were names themselves.
        knows_folders: Whether folders of splits that all paths begin with give the splits where no
            column does; once, these were drawn.
    """

    names_first: bool = True
    knows_missing: bool = True
    knows_folders: bool = True


BEFORE = (
    Reading(knows_folders=False),
    Reading(knows_missing=False, knows_folders=False),
    Reading(names_first=False, knows_missing=False, knows_folders=False),
)  # the newest first


@dataclass(frozen=True)
class ClassTable:
    """Images of a table as they were read.

    Attributes:
        images: The images with their classes, and the splits that the table gives.
        pictures: What they look like.
        before: The ways in which it was read otherwise once, the newest first.
        doubt: Why the column of classes may hold something else.
    """

    images: ClassedImages
    pictures: Pictures
    before: Sequence[Reading]
    doubt: Doubt | None


@dataclass(frozen=True)
class _Columns:
    """Columns that are read; those that say more of an image or a class may be None."""

    image: str
    classes: str
    order: str | None
    split: str | None
    id: str | None

    def note(self, table: Table, named_by: str) -> str:
        """Return what was taken for what, and what may be texts and is not read."""
        order = "" if self.order in {None, self.classes} else f", in the order of {self.order}"
        images = f"images from {self.image}, classes from {self.classes}{order}"
        is_told = self.split is None or table.has_splits_of_names
        split = "" if is_told else f", splits from {self.split}"
        unread = [
            column
            for column in table.columns
            if column not in vars(self).values() and is_like_caption(column)
        ]
        texts = f"; not read: {', '.join(map(repr, unread))}" if unread else ""
        return f"columns read: {images}{split}; {named_by}{texts}"


def read_class_table(
    files: TableFiles, options: ClassTableOptions, reading: Reading | None = None
) -> ClassTable:
    """Return the images of a table, with their classes.

    It has a column of images and one of classes, which are named or of usual names, and perhaps
    `label` (number of the class, from 0) and `split`. Of several columns of classes one of names
    goes before those of numbers, which give the order of the classes where each has its own; else
    they are in the order of their names, or that in which the table names them. Rows that cannot be
    read are left out and listed.

    Args:
        files: The table.
        options: What a user says of it.
        reading: How it was read once, or None for now.

    Raises:
        DatasetFormatError: The table is broken, lacks a column, or most rows cannot be read.
        SpecError: `allowed` is no absolute path of a folder.
    """
    reading = reading or Reading()
    table = open_table(files, options.form)
    image = image_column_of(table, options.image_column)
    split = split_column_of(table, options.split_column)
    of_classes, is_guess = _class_columns(table, options, (image, split, "id"))
    is_named = options.class_column is not None or is_guess
    label = of_classes[0] if is_named else optional_column(table, "label")
    pictures = table.pictures(image)
    item_id = "id" if pictures is not None and "id" in table.columns else None
    optional = [name for name in (label, split, item_id) if name is not None]
    rows = list(table.read(list(dict.fromkeys([image, *of_classes, *optional]))))
    cells = _ClassCells(table, reading)
    choices = {
        candidate: _choice(of_classes, label, rows, cells)
        if candidate.names_first
        else (of_classes[0], _order_before(of_classes[0], label, rows, cells))
        for candidate in (Reading(), *BEFORE)
    }
    columns = _Columns(image, *choices[reading], split, item_id)
    reader = _Reader(table, columns, cells, options, files)
    images, looks = reader.images(rows)
    before = [candidate for candidate in BEFORE if BEFORE.index(candidate) >= _next_of(reading)]
    names = [name for name in (image, columns.classes, split) if name is not None]
    if not reader.has_splits_of_folders:
        before = [
            candidate for candidate in before if candidate != reading._replace(knows_folders=False)
        ]
        if not any(cells.has_names_or_missing(rows, name) for name in names):
            before = [candidate for candidate in before if choices[candidate] != choices[reading]]
    doubt = _doubt(columns.classes, cells.texts(columns.classes, rows), is_guess=is_guess)
    return ClassTable(images, looks, before, doubt if options.class_column is None else None)


def _next_of(reading: Reading) -> int:
    return BEFORE.index(reading) + 1 if reading in BEFORE else 0


def _class_columns(
    table: Table, options: ClassTableOptions, others: Sequence[str | None]
) -> tuple[list[str], bool]:
    """Return the columns that may hold the classes, and whether no name tells that they do."""
    if options.class_column is not None:
        return [require_column(table, options.class_column, "class_column")], False
    usual = usual_columns(table, CLASS_NAMES)
    if usual:
        return usual, False
    left = left_columns(table.columns, others)
    named = [column for column in left if column in table.class_names]
    texts = caption_names(table.columns)
    if len(named) != 1 and (len(left) != 1 or texts):
        left = [column for column in left if column not in texts]
        raise unrecognised(table, "classes", CLASS_NAMES, "class_column", left)
    return named or left, not named


def _doubt(column: str, texts: Sequence[str], *, is_guess: bool) -> Doubt | None:
    """Return why a column may hold captions, or nothing of a class, if it may."""
    column_texts = ColumnTexts.of(texts)
    if column_texts.are_classes or not (is_guess or column_texts.are_sentences):
        return None
    reason = f"column {column!r} may hold captions or classes: {column_texts.describe()}"
    return Doubt(column, reason, stands=False, is_open=not column_texts.are_codes)


class _ClassCells:
    """Texts of the cells of a table of classes.

    Args:
        table: The table.
        reading: How it is read.
    """

    def __init__(self, table: Table, reading: Reading) -> None:
        self._table = table
        self.reading = reading

    def text(self, cells: Cells, column: str) -> str:
        """Return the text of a cell, or nothing where it is empty.

        Raises:
            ValueError: It holds the number of no class, or no text at all.
        """
        cell = cells.get(column)
        if not self.reading.knows_missing:
            return "" if cell is None else str(cell).strip()
        cell = self._table.value_of(cells, column)
        if isinstance(cell, (list, dict, bytes)):
            raise ValueError(  # noqa: TRY004  # as all cells that cannot be read are
                f"column {column!r} must hold a text, found {cell!r:.80}"
            )
        return "" if is_missing(cell) else text_of(str(cell)).strip()

    def texts(self, column: str, rows: Sequence[_Row]) -> list[str]:
        """Return what stands in a column, without what is empty."""
        texts: list[str] = []
        for _, cells in rows:
            with suppress(ValueError):  # the row is left out when it is read
                texts.append(self.text(cells, column))
        return [text for text in texts if text]

    def has_names_or_missing(self, rows: Sequence[_Row], column: str) -> bool:
        """Return whether a cell of a column was something else before this way of reading."""
        if not self.reading.knows_missing:
            return False
        before = _ClassCells(self._table, Reading(knows_missing=False))
        return self.texts(column, rows) != before.texts(column, rows)


def _order_before(
    classes: str, label: str | None, rows: Sequence[_Row], cells: _ClassCells
) -> str | None:
    """Return the column of labels, unless it holds the classes, by names that have no order."""
    is_names = classes == label and not all(map(_is_number, cells.texts(classes, rows)))
    return None if is_names else label


def _choice(
    of_classes: Sequence[str], label: str | None, rows: Sequence[_Row], cells: _ClassCells
) -> tuple[str, str | None]:
    """Return the column of classes, and that of their order."""
    if len(of_classes) == 1:
        return of_classes[0], _order_before(of_classes[0], label, rows, cells)
    numeric = [
        column for column in of_classes if all(map(_NUMBER.fullmatch, cells.texts(column, rows)))
    ]
    classes = next((column for column in of_classes if column not in numeric), of_classes[0])
    is_label_number = label is not None and any(map(_is_number, cells.texts(label, rows)))
    if label is not None and label != classes and is_label_number:
        return classes, label
    if classes in numeric:
        return classes, _order_before(classes, label, rows, cells)
    orders = (column for column in numeric if _is_order(column, classes, rows, cells))
    return classes, next(orders, None)


def _is_order(column: str, classes: str, rows: Sequence[_Row], cells: _ClassCells) -> bool:
    """Return whether a column numbers the classes: each has its own number in all rows."""
    pairs = set()
    for _, row in rows:
        with suppress(ValueError):
            pairs.add((cells.text(row, column), cells.text(row, classes)))
    if cells.reading.knows_missing:
        pairs = {pair for pair in pairs if all(pair)}
    numbers, names = {number for number, _ in pairs}, {name for _, name in pairs}
    return all(map(_is_number, numbers)) and len(pairs) == len(numbers) == len(names)


class _Image(NamedTuple):
    """Row of an image; a label of None orders nothing."""

    place: str
    written: str
    item_id: str
    name: str
    split: str | None
    label: int | None


class _Reader:
    """Reader of the rows of a table.

    Args:
        table: The table.
        columns: Its columns.
        cells: What stands in its cells.
        options: What a user says of it.
        files: Its files.
    """

    def __init__(
        self,
        table: Table,
        columns: _Columns,
        cells: _ClassCells,
        options: ClassTableOptions,
        files: TableFiles,
    ) -> None:
        self._table = table
        self._columns = columns
        self._cells = cells
        self._files = files
        self._pictures = table.pictures(columns.image)
        self._places = PicturePlaces(table.file, table.folder, options.allowed, dataset=table.root)
        if self._pictures is not None:
            self._pictures.read_files_by(self._places.allowed_path)
        self._stored: dict[str, StoredPicture] = {}
        self._labels: dict[str, tuple[int, str]] = {}  # and the place of the first
        self.has_splits_of_folders = False

    def images(self, rows: Sequence[_Row]) -> tuple[ClassedImages, Pictures]:
        """Return the images with their classes, and what they look like."""
        file, ledger = self._table.file, self._table.ledger
        image_rows = [
            image for place, cells in rows if (image := self._read(place, cells)) is not None
        ]
        image_rows = self._with_splits(self._in_places(image_rows))
        id_of, named_by = self._ids(image_rows)
        image_rows = of_one_value(
            image_rows, lambda one: (id_of[one.written], one.name, one.place), "class", ledger
        )
        image_rows = of_one_value(
            image_rows, lambda one: (id_of[one.written], one.split, one.place), "split", ledger
        )
        ledger.check(len(image_rows))
        if not image_rows:
            raise format_error(file, "", "names no images")
        class_of: dict[str, str] = {}
        split_of: dict[str, str] = {}
        paths: dict[str, Path | StoredPicture] = {}
        for image in image_rows:
            image_id = id_of[image.written]
            class_of.setdefault(image_id, image.name)
            if image_id not in paths:
                picture = self._stored.get(image.written)
                paths[image_id] = picture or self._places.path_of(image.written, image.place)
            if image.split is not None:
                split_of[image_id] = image.split
        names = self._in_order(set(class_of.values()))
        index_of = {name: index for index, name in enumerate(names)}
        ids = storable_ids(class_of, file)
        by_folders = (BY_FOLDERS,) if self.has_splits_of_folders else ()
        notes = (*by_folders, *self._table.notes, *ledger.notes(), *storable_note(ids))
        images = ClassedImages(
            file,
            tuple(map(storable_id, names)),
            {ids.get(image, image): index_of[name] for image, name in class_of.items()},
            {ids.get(image, image): split for image, split in split_of.items()},
            (self._columns.note(self._table, named_by), *notes),
            tuple(ledger.rows),
            (*self._files.files, *self._files.left_out),
        )
        return images, self._looks({ids.get(one, one): at for one, at in paths.items()})

    def _read(self, place: str, cells: Cells) -> _Image | None:
        """Return what a row says, or None where it cannot be read, which is listed."""
        columns = self._columns
        try:
            written = self._image(cells)
            name = self._required(cells, columns.classes)
            split = None
            if columns.split is not None:
                split = split_name(split_text_of(self._table, cells, columns.split))
            label = None if columns.order is None else self._label(cells, name, place)
        except ValueError as error:
            self._table.ledger.skip(place, str(error))
            return None
        item_id = "" if columns.id is None else self._cells.text(cells, columns.id)
        return _Image(place, written, item_id, name, split, label)

    def _image(self, cells: Cells) -> str:
        """Return the path of an image as it is written, or a name of one that stands here."""
        column = self._columns.image
        image = self._table.image_of(cells, column)
        if isinstance(image, StoredPicture):
            name = made_up_name(image)
            self._stored[name] = image
            return name
        if isinstance(image, bytes | dict | list):
            problem = f"column {column!r} must hold the path of an image"
            raise ValueError(f"{problem}, found {type(image).__name__}")  # noqa: TRY004  # alike
        return self._required({column: image}, column)

    def _required(self, cells: Cells, column: str) -> str:
        text = self._cells.text(cells, column)
        if not text:
            cell = cells.get(column)
            is_empty = cell is None or not str(cell).strip()
            problem = "is empty" if is_empty else f"holds nothing but {cell!r}"
            raise ValueError(f"column {column!r} {problem}")
        return text

    def _label(self, cells: Cells, name: str, place: str) -> int | None:
        """Return the number of a class, which rows of it may lack."""
        column = self._columns.order or ""
        label = self._cells.text(cells, column)
        if not label and self._cells.reading.knows_missing:
            return None
        if not _is_number(label):
            raise ValueError(f"label {label!r} is no number from 0 up")
        earlier, first = self._labels.setdefault(name, (int(label), place))
        if earlier != int(label):
            raise ValueError(f"class {name!r} has label {label}, but had {earlier} in {first}")
        return int(label)

    def _in_places(self, found: Sequence[_Image]) -> list[_Image]:
        """Return the images by where they lie in the dataset, without those that lie elsewhere."""
        of_files = [image for image in found if image.written not in self._stored]
        names = self._places.in_folders_of_splits(
            [(picture.written, picture.split or self._table.split_of_name) for picture in of_files]
        )
        path_of = {image.place: name for image, name in zip(of_files, names, strict=True)}
        found = [
            picture._replace(written=path_of.get(picture.place, picture.written))
            for picture in found
        ]
        written = [
            (picture.written, picture.place)
            for picture in found
            if picture.written not in self._stored
        ]
        outside = self._places.leave_out(written, self._table.ledger.skip)
        return [image for image in found if image.written not in outside]

    def _with_splits(self, found: list[_Image]) -> list[_Image]:
        """Return the images with the splits of their folders, where no column gives these."""
        if self._columns.split is not None or not self._cells.reading.knows_folders:
            return found
        stored = self._stored
        names = [
            stored[picture.written].name or "" if picture.written in stored else picture.written
            for picture in found
        ]
        split_of = splits_of_folders(names, self._places)
        if split_of is None:
            return found
        self.has_splits_of_folders = True
        pairs = zip(found, names, strict=True)
        return [image._replace(split=split_of[name]) for image, name in pairs]

    def _ids(self, found: Sequence[_Image]) -> tuple[Mapping[str, str], str]:
        written = [image.written for image in found]
        path_ids = self._places.ids_of(
            dict.fromkeys(name for name in written if name not in self._stored)
        )
        if not self._stored:
            return path_ids, "ids are the image paths"
        item_ids = [image.item_id for image in found]
        stored = {name: self._stored[name] for name in written if name in self._stored}
        in_rows = RowImages(written, item_ids, self._columns.id, stored)
        return in_rows.ids_of_names(path_ids, self._pictures)

    def _in_order(self, names: Collection[str]) -> list[str]:
        """Return the names of classes in the order that the table gives, else in their own."""
        order = self._table.class_names.get(self._columns.classes, ())
        if order and self._cells.reading.knows_missing:
            return sorted(names, key=list(order).index)
        return sorted(names, key=lambda name: (self._labels.get(name, (0, ""))[0], name))

    def _looks(self, places: Mapping[str, Path | StoredPicture]) -> Pictures:
        if self._stored and self._pictures is not None:
            return PicturesOfTable(places, self._pictures)
        return PictureFiles({name: at for name, at in places.items() if isinstance(at, Path)})


def _is_number(label: str) -> bool:
    return label.isdecimal() and len(label) <= _MOST_DIGITS
