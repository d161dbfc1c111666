"""Read images with classes that a table lists, or holds itself."""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ...errors import SourceOptionError
from ...item_ids import storable_id
from ..base import Doubt, ImageReader, ReadReport, Source, format_error
from ..splits import BY_FOLDERS, split_name
from ..tables.columns import CLASS_NAMES, ColumnTexts, caption_names, is_like_caption, left_columns
from ..tables.row_ledger import of_one_value
from ..tables.table import Table, TableFormat, open_table
from ..tables.table_files import Cells, TableFiles
from ..tables.table_images import ImageRow, TableImages
from ..tables.text_files import is_missing, text_of
from .class_source import ClassedImage, ClassedImages, ClassSource
from .images import require_images, storable_ids, storable_note

_MOST_DIGITS = 18  # of the number of a class; int() refuses some thousands of them
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
# in the order in which a wrong use of them is told
_OF_COLUMNS = ("image_column", "class_column", "split_column")
_OF_FILES = ("delimiter", "encoding", "quoted")

_TableRows = Sequence[tuple[str, Cells]]  # the place and the cells by column of each row


@dataclass(frozen=True, kw_only=True)
class IndexOptions(TableFormat):
    """Options of an `index.csv` of images and classes.

    Attributes:
        root: Absolute path of a folder below which images may lie, too.
    """

    root: str | None = None


@dataclass(frozen=True, kw_only=True)
class ClassTableOptions(IndexOptions):
    """Options of a table of images and classes; what is None is found out.

    Attributes:
        image_column: Column of image paths.
        class_column: Column of classes.
        split_column: Column of split names; the table may lack it only under its default name.
    """

    image_column: str | None = None
    class_column: str | None = None
    split_column: str = "split"

    @property
    def of_a_table(self) -> list[str]:
        """Return which options say something of the columns or files of a table."""
        usual = ClassTableOptions()
        names = (*_OF_COLUMNS, *_OF_FILES)
        return [name for name in names if getattr(self, name) != getattr(usual, name)]

    def require_none(self, place: Path) -> None:
        """Pass if nothing is said of the columns or the files of a table.

        Raises:
            SourceOptionError: It is, and there is no table at the place.
        """
        for name in self.of_a_table:
            problem = f"is for tables of classes, found none in {place}"
            raise SourceOptionError(f"source.{name} {problem}")


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


# from that of now to the first one
_READINGS = (
    Reading(),
    Reading(knows_folders=False),
    Reading(knows_missing=False, knows_folders=False),
    Reading(names_first=False, knows_missing=False, knows_folders=False),
)


@dataclass(frozen=True)
class _Columns:
    """Columns that are read; those that say more of an image or a class may be None."""

    image: str
    classes: str
    order: str | None
    split: str | None

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
) -> ClassedImages:
    """Return the images of a table, with their classes, and splits that are made where none are.

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
        SpecError: `root` is no absolute path of a folder.
    """
    reading = reading or Reading()
    table = open_table(files, options)
    image = table.image_column(options.image_column)
    split = table.split_column(options.split_column)
    candidates, is_guess = _class_columns(table, options, (image, split, "id"))
    is_named = options.class_column is not None or is_guess
    label = candidates[0] if is_named else table.optional_column("label")
    images = TableImages(table, image, root=options.root)
    rows = list(table.read([image, *candidates, label, split, images.id_column]))
    cells = _ClassCells(table, reading)
    choices = {
        other: _choice(candidates if other.names_first else candidates[:1], label, rows, cells)
        for other in _READINGS
    }
    columns = _Columns(image, *choices[reading], split)
    classed, has_splits_of_folders = _classed_images(table, images, columns, cells, rows)
    before = list(_READINGS[_READINGS.index(reading) + 1 :])
    if not has_splits_of_folders:
        before = [other for other in before if other != reading._replace(knows_folders=False)]
        names = [name for name in (image, columns.classes, split) if name is not None]
        if not any(cells.has_names_or_missing(rows, name) for name in names):
            before = [other for other in before if choices[other] != choices[reading]]
    doubt = _doubt(columns.classes, cells.texts(columns.classes, rows), is_guess=is_guess)
    report = replace(
        classed.report,
        doubt=doubt if options.class_column is None else None,
        read_before=partial(_read_before, files=files, options=options, reading=before[0])
        if before
        else None,
    )
    return replace(classed, report=report).with_splits(
        remedy=f"add a column 'split' to {files.name.name}"
    )


def _read_before(
    root: Path, *, files: TableFiles, options: ClassTableOptions, reading: Reading
) -> Source:
    return ClassSource(root, read_class_table(files, options, reading))


def _class_columns(
    table: Table, options: ClassTableOptions, taken: Sequence[str | None]
) -> tuple[list[str], bool]:
    """Return the columns that may hold the classes, and whether no name tells that they do."""
    if options.class_column is not None:
        return [table.require_column(options.class_column, "class_column")], False
    usual = table.usual_columns(CLASS_NAMES)
    if usual:
        return usual, False
    left = left_columns(table.columns, taken)
    named = [column for column in left if column in table.class_names]
    texts = caption_names(table.columns)
    if len(named) != 1 and (len(left) != 1 or texts):
        left = [column for column in left if column not in texts]
        raise table.unrecognised("classes", CLASS_NAMES, "class_column", left)
    return named or left, not named


def _doubt(column: str, texts: Sequence[str], *, is_guess: bool) -> Doubt | None:
    """Return why a column may hold captions, or nothing of a class, if it may."""
    column_texts = ColumnTexts.of(texts)
    if column_texts.are_classes or not (is_guess or column_texts.are_sentences):
        return None
    reason = f"column {column!r} may hold captions or classes: {column_texts.describe()}"
    return Doubt(column, reason, stands=False, is_open=not column_texts.are_codes)


class _ClassCells:
    """Texts of the cells of a table of classes, by one way of reading them."""

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

    def required(self, cells: Cells, column: str) -> str:
        """Return the text of a cell.

        Raises:
            ValueError: It is empty, or holds no text.
        """
        text = self.text(cells, column)
        if not text:
            cell = cells.get(column)
            is_empty = cell is None or not str(cell).strip()
            problem = "is empty" if is_empty else f"holds nothing but {cell!r}"
            raise ValueError(f"column {column!r} {problem}")
        return text

    def texts(self, column: str, rows: _TableRows) -> list[str]:
        """Return what stands in a column, without what is empty."""
        texts: list[str] = []
        for _, cells in rows:
            with suppress(ValueError):  # the row is left out when it is read
                texts.append(self.text(cells, column))
        return [text for text in texts if text]

    def has_names_or_missing(self, rows: _TableRows, column: str) -> bool:
        """Return whether a cell of a column was something else before this way of reading."""
        if not self.reading.knows_missing:
            return False
        before = _ClassCells(self._table, Reading(knows_missing=False))
        return self.texts(column, rows) != before.texts(column, rows)


def _order_before(
    classes: str, label: str | None, rows: _TableRows, cells: _ClassCells
) -> str | None:
    """Return the column of labels, unless it holds the classes, by names that have no order."""
    is_names = classes == label and not all(map(_is_number, cells.texts(classes, rows)))
    return None if is_names else label


def _choice(
    candidates: Sequence[str], label: str | None, rows: _TableRows, cells: _ClassCells
) -> tuple[str, str | None]:
    """Return the column of classes, and that of their order."""
    if len(candidates) == 1:
        return candidates[0], _order_before(candidates[0], label, rows, cells)
    numeric = [
        column for column in candidates if all(map(_NUMBER.fullmatch, cells.texts(column, rows)))
    ]
    classes = next((column for column in candidates if column not in numeric), candidates[0])
    is_label_number = label is not None and any(map(_is_number, cells.texts(label, rows)))
    if label is not None and label != classes and is_label_number:
        return classes, label
    if classes in numeric:
        return classes, _order_before(classes, label, rows, cells)
    orders = (column for column in numeric if _is_order(column, classes, rows, cells))
    return classes, next(orders, None)


def _is_order(column: str, classes: str, rows: _TableRows, cells: _ClassCells) -> bool:
    """Return whether a column numbers the classes: each has its own number in all rows."""
    pairs = set()
    for _, row in rows:
        with suppress(ValueError):
            pairs.add((cells.text(row, column), cells.text(row, classes)))
    if cells.reading.knows_missing:
        pairs = {pair for pair in pairs if all(pair)}
    numbers, names = {number for number, _ in pairs}, {name for _, name in pairs}
    return all(map(_is_number, numbers)) and len(pairs) == len(numbers) == len(names)


class _ClassRows:
    """Reader of the rows of a table, and of the order that it gives the classes."""

    def __init__(
        self, table: Table, images: TableImages, columns: _Columns, cells: _ClassCells
    ) -> None:
        self._table = table
        self._images = images
        self._columns = columns
        self._cells = cells
        self._labels: dict[str, tuple[int, str]] = {}  # number and place of the first, by class

    def read(self, rows: _TableRows) -> list[ImageRow]:
        """Return the rows of images with their classes; those that cannot be read are listed."""
        image_rows = []
        for place, cells in rows:
            try:
                row = self._row(place, cells)
            except ValueError as error:
                self._table.ledger.skip(place, str(error))
                continue
            image_rows.append(row)
        return image_rows

    def _row(self, place: str, cells: Cells) -> ImageRow:
        columns = self._columns
        image = self._images.name_in(cells)
        if isinstance(image, bytes | dict | list):
            problem = f"column {columns.image!r} must hold the path of an image"
            raise ValueError(f"{problem}, found {type(image).__name__}")  # noqa: TRY004  # alike
        image = self._cells.required({columns.image: image}, columns.image)
        name = self._cells.required(cells, columns.classes)
        split = self._table.split_of(cells, columns.split)
        if columns.order is not None:
            self._add_label(name, self._cells.text(cells, columns.order), place)
        id_column = self._images.id_column if self._images.is_stored(image) else None
        item_id = "" if id_column is None else self._cells.text(cells, id_column)
        return ImageRow(place, image, name, split and split_name(split), item_id)

    def _add_label(self, name: str, label: str, place: str) -> None:
        """Add the number of a class, which rows of it may lack."""
        if not label and self._cells.reading.knows_missing:
            return
        if not _is_number(label):
            raise ValueError(f"label {label!r} is no number from 0 up")
        earlier, first = self._labels.setdefault(name, (int(label), place))
        if earlier != int(label):
            raise ValueError(f"class {name!r} has label {label}, but had {earlier} in {first}")

    def in_order(self, names: Collection[str]) -> list[str]:
        """Return the names of classes in the order that the table gives, else in their own."""
        order = self._table.class_names.get(self._columns.classes, ())
        if order and self._cells.reading.knows_missing:
            return sorted(names, key=list(order).index)
        return sorted(names, key=lambda name: (self._labels.get(name, (0, ""))[0], name))


def _classed_images(
    table: Table, images: TableImages, columns: _Columns, cells: _ClassCells, rows: _TableRows
) -> tuple[ClassedImages, bool]:
    """Return the images with their classes, and whether folders gave their splits."""
    ledger, reader = table.ledger, _ClassRows(table, images, columns, cells)
    image_rows = images.inside(reader.read(rows))
    in_folders = None
    if columns.split is None and cells.reading.knows_folders:
        in_folders = images.in_splits_of_folders(image_rows)
    image_rows = in_folders or image_rows
    id_of, named_by = images.ids_of(image_rows)
    image_rows = of_one_value(
        image_rows, lambda row: (id_of[row.image], row.value, row.place), "class", ledger
    )
    image_rows = of_one_value(
        image_rows, lambda row: (id_of[row.image], row.split, row.place), "split", ledger
    )
    ledger.check(len(image_rows))
    if not image_rows:
        raise format_error(table.name, "", "names no images")
    row_of: dict[str, ImageRow] = {}
    for row in image_rows:
        row_of.setdefault(id_of[row.image], row)
    names = reader.in_order({row.value for row in row_of.values()})
    index_of = {name: index for index, name in enumerate(names)}
    ids = storable_ids(row_of, table.name)
    place_of = images.places_of(list(row_of.values()))
    by_folders = () if in_folders is None else (BY_FOLDERS,)
    notes = (*by_folders, *table.notes, *ledger.notes(), *storable_note(ids))
    classed = ClassedImages(
        origin=table.name,
        names=tuple(map(storable_id, names)),
        images={
            ids.get(image, image): ClassedImage(place_of[row.image], index_of[row.value], row.split)
            for image, row in row_of.items()
        },
        reader=images.pictures or ImageReader(),
        report=ReadReport(
            notes=(columns.note(table, named_by), *notes),
            skipped_rows=tuple(ledger.rows),
            tables=(*table.files.files, *table.files.left_out),
        ),
    )
    require_images([image.place for image in classed.images.values()])
    return classed, in_folders is not None


def _is_number(label: str) -> bool:
    return label.isdecimal() and len(label) <= _MOST_DIGITS
