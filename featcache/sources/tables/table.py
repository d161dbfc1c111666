"""Read a table of any common format into column names and rows of cells."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import SourceOptionError, UnknownColumnError
from ...regular_files import is_regular
from ...table_names import DELIMITED, JSON, PLACES, suffix_of
from ..base import format_error, unknown_column
from .columns import IMAGE_NAMES, left_columns, set_option
from .decoding import DecodedText, check_encoding, read_any_text
from .delimited import DELIMITERS, DelimitedRows, check_delimiter, choose_delimiter, lines_of
from .json_rows import JsonRows, read_json_rows
from .parquet import ParquetRows, StoredPicture, StoredPictures
from .row_ledger import RowLedger
from .table_files import (
    IN_FOLDER,
    TABLE_SUFFIXES,
    Cells,
    TableFiles,
    remedy_of,
    split_of_name,
    stem_of,
)
from .text_files import is_missing, text_of

_COCO_PART = re.compile(r"(train|val|test)\d{4}")  # a split and its year
_PROBED = 100  # pictures by which their folder is found

Rows = Iterator[tuple[str, Cells]]  # the place and the cells by column of each row


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """Delimiter, encoding and quoting of a table's files; what is None is found out.

    Attributes:
        delimiter: Character between cells, such as `;` or `tab`.
        encoding: Encoding of the text, such as `cp1252`.
        quoted: Whether cells may be quoted; if not, a quote is a letter like any other.
    """

    delimiter: str | None = None
    encoding: str | None = None
    quoted: bool = True


@dataclass(frozen=True)
class Table:
    """Table that was opened.

    Attributes:
        files: Its files.
        folder: Folder that paths in the table start from.
        columns: Column names in file order.
        rows_of_files: Function from the columns to read to the rows of each file that can be read;
            it can be called once. Cells may hold more columns, and lack some in JSON lines.
        ledger: The rows that cannot be read, after reading.
        notes: How the files were read, where that is not what their suffix says.
        pictures: Function from a column to the pictures that stand in it, or None. It is called
            before `read`, whose cells are `StoredPicture`s then.
        has_splits_of_names: Whether the column `split` comes from the names of files.
        class_names: Names of the classes whose numbers stand in a column, where the table has them;
            nothing where its files have different ones.
        image_columns: Columns that the table itself says hold images.
        split_of_name: Split that the name of its only file gives, whose images may stand in a
            folder called so.
    """

    files: TableFiles
    folder: Path
    columns: Sequence[str]
    rows_of_files: Callable[[Sequence[str]], Sequence[Rows]]
    ledger: RowLedger
    notes: tuple[str, ...] = ()
    pictures: Callable[[str], StoredPictures | None] = lambda _: None
    has_splits_of_names: bool = False
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    image_columns: Sequence[str] = ()
    split_of_name: str | None = None

    @property
    def name(self) -> Path:
        """Return what messages call it."""
        return self.files.name

    def read(self, columns: Sequence[str | None]) -> Rows:
        """Yield the rows of all files; places name the file where there are several."""
        names = list(dict.fromkeys(name for name in columns if name is not None))
        for number, rows in enumerate(self.rows_of_files(names)):
            of_file = self.files.cells_of(number)
            for place, cells in rows:
                yield self.files.place_of(number, place), {**of_file, **cells} if of_file else cells

    def image_of(self, cells: Cells, column: str) -> Any:
        """Return the image of a row: its path from `folder`, or what else stands in the cell."""
        image, folder = cells.get(column), cells.get(IN_FOLDER)
        if folder is None:
            return image
        if isinstance(image, StoredPicture):
            return image._replace(name=image.name and f"{folder}/{image.name}")
        if not isinstance(image, str) or image.strip()[:1] in {"", "/", "\\"}:
            return image
        return f"{folder}/{image.strip()}"

    def value_of(self, cells: Cells, column: str) -> Any:
        """Return what a cell holds, and of the number of a class its name.

        Raises:
            ValueError: The number is none of a class.
        """
        value = cells.get(column)
        names = self.class_names.get(column)
        if names is None or not isinstance(value, int):
            return value
        if not names:
            raise ValueError(f"the files name the numbers of {column!r} each otherwise")
        if value == -1:  # of an image whose class nobody knows, by the library datasets
            return None
        if not 0 <= value < len(names):
            problem = f"column {column!r} has {len(names)} classes, and none is number {value}"
            raise ValueError(problem)
        return names[value]

    def split_of(self, cells: Cells, column: str | None) -> str | None:
        """Return the split of a row as it is written, or None without a column of splits.

        Raises:
            ValueError: The cell is empty, or holds no split.
        """
        if column is None:
            return None
        split = self.value_of(cells, column)
        text = "" if is_missing(split) else text_of(str(split)).strip()
        if not text:
            raise ValueError(f"gives no split: column {column!r} holds {cells.get(column)!r:.80}")
        return text

    def usual_columns(self, usual: Sequence[str]) -> list[str]:
        """Return the columns of usual names, in whatever letters, the preferred first.

        Args:
            usual: The names in lower case, the preferred first.
        """
        by_lower = {column.lower(): column for column in reversed(self.columns)}
        return [by_lower[name] for name in usual if name in by_lower]

    def optional_column(self, name: str) -> str | None:
        """Return the column of a name, as it stands or else in other letters; None without one."""
        if name in self.columns:  # as the splits of names of files are
            return name
        return next(iter(self.usual_columns((name,))), None)

    def require_column(self, column: str, option: str) -> str:
        """Return the name of a column that an option asks for.

        Raises:
            DatasetFormatError: The table has none of this name.
        """
        if column not in self.columns:
            problem = f"has no column {column!r} ({option}); columns: {list(self.columns)}"
            example = self.columns[:1] if option == "image_column" else self.columns[-1:]
            advice = f"name one of them, such as {set_option(option, example)}"
            raise format_error(self.name, "", f"{problem}; {advice}")
        return column

    def image_column(self, asked: str | None) -> str:
        """Return the column of images: the one asked for, of a usual name, or that it names.

        Raises:
            UnknownColumnError: Nothing tells which it is.
            DatasetFormatError: The table has none of the name that is asked for.
        """
        if asked is not None:
            return self.require_column(asked, "image_column")
        columns = [*self.usual_columns(IMAGE_NAMES), *self.image_columns]
        if not columns:
            left = left_columns(self.columns, ("split", "id"))
            raise self.unrecognised("image paths", IMAGE_NAMES, "image_column", left)
        return columns[0]

    def split_column(self, asked: str) -> str | None:
        """Return the column of splits, or None where nobody asked for one and there is none.

        Without one that is called exactly so, `split` is found in other letters, too.

        Raises:
            DatasetFormatError: One of another name than `split` was asked for, and is not there.
        """
        if asked == "split":
            return self.optional_column(asked)
        return self.require_column(asked, "split_column")

    def unrecognised(
        self, content: str, usual: Sequence[str], option: str, left: Sequence[str]
    ) -> UnknownColumnError:
        """Build the error for a table of which no column of a usual name tells what it holds.

        Args:
            content: What is looked for.
            usual: Names that would tell.
            option: Option that names the column.
            left: Columns that may be it, of which the first is the example.
        """
        problem = f"no column of {content} among {list(self.columns)}"
        example = f", such as {set_option(option, left[:1])}," if left else ","
        way = f"name it with the option {option}{example} or call it one of {list(usual)}"
        return unknown_column(self.name, f"{problem}; {way}")


def open_table(files: TableFiles, form: TableFormat) -> Table:
    """Open a table of delimited text, JSON or parquet, which gzip may have compressed.

    Files whose names give splits have a column `split` of them, unless they have their own.

    Raises:
        DatasetFormatError: A file has another suffix, is empty or is broken.
        SpecError: The delimiter or encoding is none, or is not for files of this format.
    """
    check_encoding(form.encoding)
    suffix = suffix_of(files.files[0])
    if suffix in DELIMITED:
        table = _open_delimited(files, form, DELIMITED[suffix])
    elif suffix in JSON:
        _refuse(form, files, "delimiter", "quoted")
        table = _open_json(files, form)
    elif suffix == ".parquet":
        _refuse(form, files, "delimiter", "encoding", "quoted")
        parquet = ParquetRows(files.files)
        table = Table(
            files,
            files.folder,
            parquet.columns,
            parquet.rows_of_files,
            RowLedger(files),
            pictures=parquet.pictures,
            class_names=parquet.class_names(),
            image_columns=parquet.image_columns(),
        )
    else:
        suffixes = ", ".join(TABLE_SUFFIXES)
        remedy = remedy_of(files.files[0])
        problem = "is no table" if remedy is None else f"is of a format that is not read: {remedy}"
        raise format_error(files.name, "", f"{problem}; known suffixes: {suffixes}, .json, .gz")
    if len(files.files) == 1 and not files.splits:
        return replace(table, split_of_name=split_of_name(files.files[0]))
    give_splits = bool(files.splits) and "split" not in table.columns
    return replace(
        table,
        columns=[*table.columns, "split"] if give_splits else table.columns,
        notes=(*files.notes(give_splits=give_splits), *table.notes),
        has_splits_of_names=give_splits,
    )


def _refuse(form: TableFormat, files: TableFiles, *options: str) -> None:
    for option in options:
        if getattr(form, option) != getattr(TableFormat(), option):
            text = "files of text" if option == "encoding" else "delimited text"
            problem = f"is for {text}, found {files.files[0].name}"
            raise SourceOptionError(f"source.{option} {problem}")


def _open_delimited(files: TableFiles, form: TableFormat, usual: str) -> Table:
    ledger = RowLedger(files)
    asked = check_delimiter(form.delimiter)
    rows_of_files: list[Rows] = []
    notes: dict[str, None] = {}
    columns: list[str] = []
    for number, file in enumerate(files.files):
        decoded = read_any_text(file, form.encoding)
        lines = lines_of(decoded)
        delimiter = asked or choose_delimiter(lines, usual)
        rows = DelimitedRows(
            file,
            lines,
            delimiter,
            ledger.skip_in(number),
            is_broken=decoded.is_broken,
            quoted=form.quoted,
        )
        header = _column_names(file, rows)
        # the order may differ: each row names its columns
        if columns and sorted(header) != sorted(columns):
            problem = f"has the columns {header}, but {files.files[0].name} {columns}"
            raise format_error(file, "", f"{problem}; name one of the files")
        columns = columns or header
        rows_of_files.append(_cells(rows, header))
        notes |= dict.fromkeys(_format_notes(decoded, delimiter, usual, form))
    return Table(files, files.folder, columns, lambda _: rows_of_files, ledger, tuple(notes))


def _column_names(file: Path, rows: DelimitedRows) -> list[str]:
    names = [cell.strip() for cell in rows.header]
    while len(names) > 1 and not names[-1]:  # a delimiter behind the last cell
        names.pop()
    titled = [name for name in names if name]
    if len(set(titled)) < len(titled):
        raise format_error(file, rows.place, f"names a column twice: {names}")
    return names


def _cells(rows: DelimitedRows, columns: Sequence[str]) -> Rows:
    for place, cells in rows:
        yield place, dict(zip(columns, cells, strict=False))  # cells are as many as the header's


def _format_notes(
    decoded: DecodedText, delimiter: str, usual: str, form: TableFormat
) -> Iterator[str]:
    """Yield the delimiter and the encoding that were found, where they are not the usual ones."""
    taken = []
    if delimiter != usual:
        taken.append(f"delimiter is a {DELIMITERS.get(delimiter, repr(delimiter))}")
    if decoded.encoding.lower() not in {"utf-8", "utf8", "utf-8-sig"}:
        taken.append(f"encoding is {decoded.title}")
    if taken:
        hint = " (set source.delimiter and source.encoding if they are others)"
        is_told = form.delimiter is not None and form.encoding is not None
        yield f"{', '.join(taken)}{'' if is_told else hint}"


def _open_json(files: TableFiles, form: TableFormat) -> Table:
    ledger = RowLedger(files)
    rows_of_files = []
    folder = files.folder
    notes: dict[str, None] = {}
    for number, file in enumerate(files.files):
        decoded = read_any_text(file, form.encoding)
        json_rows = read_json_rows(file, decoded, ledger.skip_in(number))
        if json_rows.names_pictures and file.parent.name == PLACES[1]:
            folder = file.parent.parent
        if json_rows.names_pictures:
            _add_folder_of_pictures(json_rows, file, folder)
        rows_of_files.append(json_rows.rows)
        notes |= dict.fromkeys(_format_notes(decoded, ",", ",", form))
    columns = list(
        dict.fromkeys(key for rows in rows_of_files for _, cells in rows for key in cells)
    )
    if not columns:
        ledger.check(0)
        raise format_error(files.name, "", "is empty")
    return Table(
        files, folder, columns, lambda _: list(map(iter, rows_of_files)), ledger, tuple(notes)
    )


def _add_folder_of_pictures(json_rows: JsonRows, file: Path, folder: Path) -> None:
    """Write the folder that holds the pictures before their names.

    COCO names a picture of `captions_val2017.json` without its folder `val2017`.
    """
    part = stem_of(file).rpartition("_")[2]
    # what is no text is listed as a row that cannot be read
    named = [cells for _, cells in json_rows.rows if isinstance(cells["image"], str)]
    names = [cells["image"] for cells in named[:_PROBED]]
    for prefix in ("", f"{part}/", "images/", f"images/{part}/"):
        if any(is_regular(folder / f"{prefix}{name}") for name in names):
            break
    else:  # none is there: it is said of the folder in which COCO has them
        prefix = f"{part}/" if _COCO_PART.fullmatch(part) else ""
    for cells in named:
        cells["image"] = prefix + cells["image"]
