"""Read images with classes that a table lists, or holds itself."""

import re
from collections.abc import Callable, Collection, Sequence
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
from ..tables.table import TableFormat, open_table
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
    reader = _Reader(files, options, reading or Reading())
    images = reader.classed_images()
    before = reader.readings_before()
    report = replace(
        images.report,
        doubt=reader.doubt(),
        read_before=partial(_read_before, files, options, before[0]) if before else None,
    )
    remedy = f"add a column 'split' to {files.name.name}"
    return replace(images, report=report).with_splits(remedy=remedy)


def _read_before(
    files: TableFiles, options: ClassTableOptions, reading: Reading, root: Path
) -> Source:
    return ClassSource(root, read_class_table(files, options, reading))


class _Reader:
    """Reader of a table of images and classes, in one of the ways of reading it."""

    def __init__(self, files: TableFiles, options: ClassTableOptions, reading: Reading) -> None:
        self._options = options
        self._reading = reading
        self._table = open_table(files, options)
        self._image = self._table.image_column(options.image_column)
        self._split = self._table.split_column(options.split_column)
        self._candidates, self._is_guess = self._class_columns()
        is_named = options.class_column is not None or self._is_guess
        self._label = self._candidates[0] if is_named else self._table.optional_column("label")
        self._images = TableImages(self._table, self._image, root=options.root)
        columns = [self._image, *self._candidates, self._label, self._split, self._images.id_column]
        self._rows = list(self._table.read(columns))
        self._choices = {
            other: self._choice(self._candidates if other.names_first else self._candidates[:1])
            for other in _READINGS
        }
        self._classes, self._order = self._choices[reading]
        self._labels: dict[str, tuple[int, str]] = {}  # number and place of the first, by class
        self._has_splits_of_folders = False

    def _class_columns(self) -> tuple[list[str], bool]:
        """Return the columns that may hold the classes, and whether no name tells that they do."""
        table, asked = self._table, self._options.class_column
        if asked is not None:
            return [table.require_column(asked, "class_column")], False
        usual = table.usual_columns(CLASS_NAMES)
        if usual:
            return usual, False
        left = left_columns(table.columns, (self._image, self._split, "id"))
        named = [column for column in left if column in table.class_names]
        texts = caption_names(table.columns)
        if len(named) != 1 and (len(left) != 1 or texts):
            left = [column for column in left if column not in texts]
            raise table.unrecognised("classes", CLASS_NAMES, "class_column", left)
        return named or left, not named

    def _choice(self, candidates: Sequence[str]) -> tuple[str, str | None]:
        """Return the column of classes, and that of their order."""
        label = self._label
        numeric = [column for column in candidates if self._are_all(_NUMBER.fullmatch, column)]
        classes = next((column for column in candidates if column not in numeric), candidates[0])
        if len(candidates) > 1:
            if label not in {None, classes} and any(map(_is_number, self._texts(label or ""))):
                return classes, label
            if classes not in numeric:
                return classes, next(filter(self._is_order_of(classes), numeric), None)
        # names have no order of their own
        is_names = classes == label and not self._are_all(_is_number, classes)
        return classes, None if is_names else label

    def _is_order_of(self, classes: str) -> Callable[[str], bool]:
        """Return whether a column numbers the classes: each has its own number in all rows."""

        def is_order(column: str) -> bool:
            pairs = set()
            for _, cells in self._rows:
                with suppress(ValueError):
                    pairs.add((self._text(cells, column), self._text(cells, classes)))
            if self._reading.knows_missing:
                pairs = {pair for pair in pairs if all(pair)}
            numbers, names = {number for number, _ in pairs}, {name for _, name in pairs}
            return all(map(_is_number, numbers)) and len(pairs) == len(numbers) == len(names)

        return is_order

    def _text(self, cells: Cells, column: str, *, knows_missing: bool | None = None) -> str:
        """Return the text of a cell, or nothing where it is empty.

        Raises:
            ValueError: It holds the number of no class, or no text at all.
        """
        cell = cells.get(column)
        if not (self._reading.knows_missing if knows_missing is None else knows_missing):
            return "" if cell is None else str(cell).strip()
        cell = self._table.value_of(cells, column)
        if isinstance(cell, (list, dict, bytes)):
            raise ValueError(  # noqa: TRY004  # as all cells that cannot be read are
                f"column {column!r} must hold a text, found {cell!r:.80}"
            )
        return "" if is_missing(cell) else text_of(str(cell)).strip()

    def _required(self, cells: Cells, column: str) -> str:
        text = self._text(cells, column)
        if not text:
            cell = cells.get(column)
            is_empty = cell is None or not str(cell).strip()
            problem = "is empty" if is_empty else f"holds nothing but {cell!r}"
            raise ValueError(f"column {column!r} {problem}")
        return text

    def _texts(self, column: str, *, knows_missing: bool | None = None) -> list[str]:
        """Return the cells of a column that are not empty."""
        texts: list[str] = []
        for _, cells in self._rows:
            with suppress(ValueError):  # the row is left out when it is read
                texts.append(self._text(cells, column, knows_missing=knows_missing))
        return [text for text in texts if text]

    def _are_all(self, is_so: Callable[[str], object], column: str) -> bool:
        return all(map(is_so, self._texts(column)))

    def doubt(self) -> Doubt | None:
        """Return why the column may hold captions, or nothing of a class, if it may."""
        texts = ColumnTexts.of(self._texts(self._classes))
        is_certain = texts.are_classes or not (self._is_guess or texts.are_sentences)
        if is_certain or self._options.class_column is not None:
            return None
        reason = f"column {self._classes!r} may hold captions or classes: {texts.describe()}"
        return Doubt(self._classes, reason, stands=False, is_open=not texts.are_codes)

    def readings_before(self) -> list[Reading]:
        """Return the ways in which the table was read otherwise once, the newest first."""
        reading = self._reading
        before = list(_READINGS[_READINGS.index(reading) + 1 :])
        if self._has_splits_of_folders:
            return before
        # a way that reads this table alike would cost as much and give nothing else
        before = [other for other in before if other != reading._replace(knows_folders=False)]
        names = [name for name in (self._image, self._classes, self._split) if name is not None]
        if reading.knows_missing and any(
            self._texts(name) != self._texts(name, knows_missing=False) for name in names
        ):
            return before
        return [other for other in before if self._choices[other] != self._choices[reading]]

    def classed_images(self) -> ClassedImages:
        """Return the images with their classes, and the splits that the table gives."""
        table, images, ledger = self._table, self._images, self._table.ledger
        rows = images.inside(self._image_rows())
        if self._split is None and self._reading.knows_folders:
            in_folders = images.in_splits_of_folders(rows)
            self._has_splits_of_folders = in_folders is not None
            rows = in_folders or rows
        id_of, named_by = images.ids_of(rows)
        rows = of_one_value(
            rows, lambda row: (id_of[row.image], row.value, row.place), "class", ledger
        )
        rows = of_one_value(
            rows, lambda row: (id_of[row.image], row.split, row.place), "split", ledger
        )
        ledger.check(len(rows))
        if not rows:
            raise format_error(table.name, "", "names no images")
        row_of: dict[str, ImageRow] = {}
        for row in rows:
            row_of.setdefault(id_of[row.image], row)
        names = self._in_order({row.value for row in row_of.values()})
        index_of = {name: index for index, name in enumerate(names)}
        ids = storable_ids(row_of, table.name)
        place_of = images.places_of(list(row_of.values()))
        require_images(list(place_of.values()))
        by_folders = (BY_FOLDERS,) if self._has_splits_of_folders else ()
        notes = (*by_folders, *table.notes, *ledger.notes(), *storable_note(ids))
        return ClassedImages(
            origin=table.name,
            names=tuple(map(storable_id, names)),
            images={
                ids.get(image, image): ClassedImage(
                    place_of[row.image], index_of[row.value], row.split
                )
                for image, row in row_of.items()
            },
            reader=images.pictures or ImageReader(),
            report=ReadReport(
                notes=(self._column_note(named_by), *notes),
                skipped_rows=tuple(ledger.rows),
                tables=(*table.files.files, *table.files.left_out),
            ),
        )

    def _image_rows(self) -> list[ImageRow]:
        """Return the rows of images with their classes; those that cannot be read are listed."""
        rows = []
        for place, cells in self._rows:
            try:
                row = self._image_row(place, cells)
            except ValueError as error:
                self._table.ledger.skip(place, str(error))
                continue
            rows.append(row)
        return rows

    def _image_row(self, place: str, cells: Cells) -> ImageRow:
        image = self._images.name_in(cells)
        if isinstance(image, bytes | dict | list):
            problem = f"column {self._image!r} must hold the path of an image"
            raise ValueError(f"{problem}, found {type(image).__name__}")  # noqa: TRY004  # alike
        image = self._required({self._image: image}, self._image)
        name = self._required(cells, self._classes)
        split = self._table.split_of(cells, self._split)
        if self._order is not None:
            self._add_label(name, self._text(cells, self._order), place)
        id_column = self._images.id_column if self._images.is_stored(image) else None
        item_id = "" if id_column is None else self._text(cells, id_column)
        return ImageRow(place, image, name, split and split_name(split), item_id)

    def _add_label(self, name: str, label: str, place: str) -> None:
        """Add the number of a class, which rows of it may lack."""
        if not label and self._reading.knows_missing:
            return
        if not _is_number(label):
            raise ValueError(f"label {label!r} is no number from 0 up")
        earlier, first = self._labels.setdefault(name, (int(label), place))
        if earlier != int(label):
            raise ValueError(f"class {name!r} has label {label}, but had {earlier} in {first}")

    def _in_order(self, names: Collection[str]) -> list[str]:
        """Return the names of classes in the order that the table gives, else in their own."""
        order = self._table.class_names.get(self._classes, ())
        if order and self._reading.knows_missing:
            return sorted(names, key=list(order).index)
        return sorted(names, key=lambda name: (self._labels.get(name, (0, ""))[0], name))

    def _column_note(self, named_by: str) -> str:
        """Return what was taken for what, and what may be texts and is not read."""
        order = "" if self._order in {None, self._classes} else f", in the order of {self._order}"
        note = f"columns read: images from {self._image}, classes from {self._classes}{order}"
        if self._split is not None and not self._table.has_splits_of_names:
            note = f"{note}, splits from {self._split}"
        used = {self._image, self._classes, self._order, self._split}
        unread = [
            name for name in self._table.columns if name not in used and is_like_caption(name)
        ]
        texts = f"; not read: {', '.join(map(repr, unread))}" if unread else ""
        return f"{note}; {named_by}{texts}"


def _is_number(label: str) -> bool:
    return label.isdecimal() and len(label) <= _MOST_DIGITS
