"""Read a table of any common format into column names and rows of cells."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DatasetFormatError, SpecError, UnknownColumnError
from ...regular_files import is_regular
from ...table_names import DELIMITED, JSON, PLACES, folders_of_tables, suffix_of
from ..base import missing_dataset
from .columns import IMAGE_NAMES, left_columns, set_option
from .decoding import DecodedText, check_encoding, format_error, read_any_text, unknown_column
from .delimited import DELIMITERS, DelimitedRows, check_delimiter, choose_delimiter, lines_of
from .json_rows import JsonRows, read_json_rows
from .parquet import ParquetRows, StoredPicture, StoredPictures
from .row_ledger import RowLedger
from .text_files import is_missing, text_of

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
# looked for where there is none of those, so that a folder has one table that had one before
_OTHER_SUFFIXES = (".csv.gz", ".tsv.gz", ".jsonl.gz", ".json", ".json.gz", ".ndjson", ".ndjson.gz")
_LAST_SUFFIXES = (".tab", ".tab.gz")  # alike, where there is none of those either
# tables that are not read, and what to do with them
_REMEDIES = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), "save it as CSV"),
    **dict.fromkeys((".feather", ".arrow", ".orc"), "save it as parquet"),
    **{
        f"{suffix}{packed}": f"unpack it, or pack it as {suffix}.gz"
        for suffix in (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
        for packed in (".zip", ".bz2", ".xz", ".zst")
    },
}
_SPLITS = {  # by a word in the name of a file
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SHARD = re.compile(r"(.*[-_.])?\d+([-_.]of[-_.]\d+)?([-_.][0-9a-f]{8,})?")
# words in the name of a table that holds the rows of those of splits once more
_WHOLE = frozenset(("all", "full", "whole", "complete", "combined", "total", "everything"))
_METADATA = "metadata"  # what hubs call the table in a folder of images
_IN_FOLDER = "\0folder"  # cell, beside those of columns: the folder in which the table stands
_COCO_PART = re.compile(r"(train|val|test)\d{4}")  # a split and its year
_PROBED = 100  # pictures by which their folder is found

Cells = dict[str, Any]
Rows = Iterator[tuple[str, Cells]]


@dataclass(frozen=True)
class TableFiles:
    """Files of one table.

    Attributes:
        files: The files in order, all of one format.
        splits: Split of each by its name or folder, or nothing where these give none.
        folder: Folder that paths in the table start from, or above the files in folders of splits.
        root: Folder of the dataset, below which its images lie.
        left_out: Tables that hold the same rows once more.
        bare: Folders of splits without a table.
    """

    files: tuple[Path, ...]
    splits: tuple[str, ...]
    folder: Path
    root: Path
    left_out: tuple[Path, ...] = ()
    bare: tuple[Path, ...] = ()

    @classmethod
    def of(cls, file: Path, root: Path | None = None) -> "TableFiles":
        """Return a table of one file, in the folder of a dataset or of the file."""
        return cls((file,), (), file.parent, root or file.parent)

    @property
    def name(self) -> Path:
        """Return what messages call the table: its file, or the folder of its files."""
        return self.files[0] if len(self.files) == 1 else self.folder

    @property
    def stand_in_folders(self) -> bool:
        """Return whether the files stand in folders of splits, from which their paths start."""
        return any(file.parent != self.folder for file in self.files)

    def place_of(self, number: int, place: str) -> str:
        """Return a place in one of the files, with its name where there are several."""
        if len(self.files) == 1:
            return place
        return f"{self.files[number].relative_to(self.folder).as_posix()}, {place}"

    def cells_of(self, number: int) -> Cells:
        """Return the cells that all rows of one of the files have by its name and folder."""
        cells: Cells = {"split": self.splits[number]} if self.splits else {}
        if self.stand_in_folders:
            folder = self.files[number].parent.relative_to(self.folder)
            cells[_IN_FOLDER] = folder.as_posix()
        return cells


class Elsewhere(NamedTuple):
    """Tables that are not looked for.

    Attributes:
        below: Those that could be read if they did not stand in a folder of the dataset.
        unread: What to do with those of other formats.
    """

    below: Sequence[Path]
    unread: Mapping[Path, str]


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """Delimiter, encoding and quoting of a table's files; what is None is found out.

    Attributes:
        delimiter: The character between cells.
        encoding: Encoding of the text, as Python calls it.
        quoted: Whether cells may be quoted; if not, a quote is a letter like any other.
    """

    delimiter: str | None = None
    encoding: str | None = None
    quoted: bool = True


@dataclass(frozen=True)
class Table:
    """Table that was opened.

    Attributes:
        file: The table file, or the folder of its files; for messages.
        folder: Folder that paths in the table start from.
        root: Folder of the dataset, below which its images lie.
        columns: Column names in file order.
        read: Function from the wanted columns to (place, cells by column) of every row that can be
            read; it can be called once. Cells may hold more columns than wanted, and lack some in
            JSON lines.
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

    file: Path
    folder: Path
    root: Path
    columns: Sequence[str]
    read: Callable[[Sequence[str]], Rows]
    ledger: RowLedger
    notes: tuple[str, ...] = ()
    pictures: Callable[[str], StoredPictures | None] = lambda _: None
    has_splits_of_names: bool = False
    class_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    image_columns: Sequence[str] = ()
    split_of_name: str | None = None

    def image_of(self, cells: Cells, column: str) -> Any:
        """Return the image of a row: its path from `folder`, or what else stands in the cell."""
        image, folder = cells.get(column), cells.get(_IN_FOLDER)
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


def find_table(root: Path, *, name: str, what: str) -> TableFiles:
    """Return the table of a dataset: `root` itself, or the only one in it.

    Files of one format are one table where the names of all give splits or numbers of shards, and
    all parquet files are. One named like `all.csv` beside those of splits is left out. Without any,
    those in folders of splits are one.

    Args:
        root: Folder of the dataset, or the file.
        name: Name of the dataset.
        what: What its rows hold.

    Raises:
        DatasetNotFoundError: There is no table.
        DatasetFormatError: There are several.
    """
    if is_regular(root):
        return TableFiles.of(root)
    for folder in folders_of_tables(root):
        tables = _tables_in(folder)
        if tables:
            break
    else:
        in_folders = tables_of_splits(root)
        if in_folders is not None:
            return in_folders
        looked_for = [f"one file *{suffix}" for suffix in TABLE_SUFFIXES]
        raise missing_dataset(name, root, looked_for, f"It is your own table of {what}.")
    if len(tables) == 1:
        return TableFiles.of(tables[0], root)
    joined = joined_tables(tables, root)
    if joined is not None:
        return joined
    names = [path.name for path in tables]
    raise DatasetFormatError(
        f"{root} holds {len(tables)} tables: {names}; name one by its path, such as {tables[0]}"
    )


def joined_tables(tables: Sequence[Path], root: Path) -> TableFiles | None:
    """Return several tables of a dataset as one, or None where their names do not say they are."""
    whole = [file for file in tables if _is_whole(file)]
    parts = [file for file in tables if file not in whole]
    if not whole or len(set(map(_split_of_name, parts)) - {None}) < 2:
        whole, parts = [], list(tables)
    splits = tuple(split for file in parts if (split := _split_of_name(file)))
    kinds = {suffix_of(file) for file in parts}
    is_sharded = kinds == {".parquet"} or _are_shards(parts)
    is_one = len(kinds) == 1 and len(splits) in {0, len(parts)} and (splits or is_sharded)
    if not is_one:
        return None
    return TableFiles(tuple(parts), splits, parts[0].parent, root, tuple(whole))


def tables_of_splits(root: Path) -> TableFiles | None:
    """Return the tables that stand in folders called like splits as one, or None without any.

    So does the library datasets keep a `metadata.csv`, or parquet files, in `train` and `test`.
    """
    for place in (root, root / PLACES[0]):
        files: list[Path] = []
        splits: list[str] = []
        bare: list[Path] = []
        names = sorted(_names_in(place, of_folders=True)) if place.is_dir() else []
        for name in names:
            split = _SPLITS.get(name.lower())
            tables = [] if split is None else _tables_of_split(place / name)
            files += tables
            splits += [split or ""] * len(tables)
            bare += [place / name] if split is not None and not tables else []
        if files and len(set(map(suffix_of, files))) == 1:
            return TableFiles(tuple(files), tuple(splits), place, root, bare=tuple(bare))
    return None


def _tables_of_split(folder: Path) -> list[Path]:
    tables = _tables_in(folder)
    named = [file for file in tables if _stem(file) == _METADATA]
    if named or len(tables) < 2:
        return named or tables
    are_one = {suffix_of(file) for file in tables} == {".parquet"} or _are_shards(tables)
    return tables if are_one else []


def _is_whole(file: Path) -> bool:
    return not _WHOLE.isdisjoint(re.split(r"[^a-z]+", _stem(file)))


def tables_of(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the tables of a folder that `find_table` looks at, and those of other suffixes."""
    for folder in folders_of_tables(root):
        tables = _tables_in(folder)
        if tables:
            return tables, [file for file in _files_of_tables(folder) if file not in tables]
    return [], []


def tables_elsewhere(root: Path) -> Elsewhere:
    """Return what `tables_of` passes over in a folder, and in those that stand in it themselves."""
    tables, others = tables_of(root)
    searched = {
        parent.resolve() for parent in (root, *(file.parent for file in (*tables, *others)))
    }
    folders = sorted(root / name for name in _names_in(root, of_folders=True))
    below: list[Path] = []
    unread: dict[Path, str] = {}
    for folder in (root, *folders):
        with suppress(OSError):  # what may not be looked at holds nothing that can be read
            below += [] if folder.resolve() in searched else _files_of_tables(folder)
            unread |= _unread_in(folder)
    return Elsewhere(below, unread)


def _unread_in(folder: Path) -> dict[Path, str]:
    ends = tuple(_REMEDIES)
    files = sorted(folder / name for name in _names_in(folder) if name.lower().endswith(ends))
    return {file: remedy for file in files if (remedy := remedy_of(file)) is not None}


def remedy_of(file: Path) -> str | None:
    """Return what to do with a table of a format that is not read; None for all other files."""
    name = file.name.lower()
    if name.startswith("~$"):  # it says that Excel has the file behind it open
        return None
    return next((remedy for end, remedy in _REMEDIES.items() if name.endswith(end)), None)


def _tables_in(folder: Path) -> list[Path]:
    files = _files_of_tables(folder)
    for suffixes in (TABLE_SUFFIXES, _OTHER_SUFFIXES):
        usual = [file for file in files if file.name.lower().endswith(suffixes)]
        if usual:
            return usual
    return files


def _files_of_tables(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    suffixes = (*TABLE_SUFFIXES, *_OTHER_SUFFIXES, *_LAST_SUFFIXES)
    files = sorted(folder / name for name in _names_in(folder) if name.lower().endswith(suffixes))
    if folder.name == PLACES[1]:  # beside the captions of COCO are its boxes and persons
        captions = [file for file in files if file.name.startswith("captions")]
        files = captions or [file for file in files if suffix_of(file) != ".json"]
    return files


def _names_in(folder: Path, *, of_folders: bool = False) -> Iterator[str]:
    """Yield the names of the files or folders in a folder that are not hidden."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[:1] != "." and _is_folder(entry) == of_folders:
                yield entry.name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        return os.path.isdir(entry.path)  # noqa: PTH112  # a link in a circle is none
    return entry.is_dir()


def _stem(file: Path) -> str:
    return file.name.lower().removesuffix(".gz").removesuffix(suffix_of(file))


def _are_shards(files: Sequence[Path]) -> bool:
    """Return whether files have the same name but for a number at its end."""
    names = [_SHARD.fullmatch(_stem(file)) for file in files]
    return all(names) and len({name[1] for name in names if name}) == 1


def _split_of_name(file: Path) -> str | None:
    """Return the split that the name of a file gives, if it gives one.

    >>> [_split_of_name(Path(name)) for name in ("train-0-of-2.csv", "captions_val2017.json")]
    ['train', 'val']
    """
    splits = {_SPLITS[word] for word in re.split(r"[^a-z]+", _stem(file)) if word in _SPLITS}
    return splits.pop() if len(splits) == 1 else None


def usual_columns(table: Table, usual: Sequence[str]) -> list[str]:
    """Return the columns of usual names, in whatever letters, the preferred first.

    Args:
        table: The table.
        usual: The names in lower case, the preferred first.
    """
    by_lower = {column.lower(): column for column in reversed(table.columns)}
    return [by_lower[name] for name in usual if name in by_lower]


def require_column(table: Table, column: str, option: str) -> str:
    """Return the name of a column that an option asks for.

    Raises:
        DatasetFormatError: The table has none of this name.
    """
    if column not in table.columns:
        problem = f"has no column {column!r} ({option}); columns: {list(table.columns)}"
        example = table.columns[:1] if option == "image_column" else table.columns[-1:]
        advice = f"name one of them, such as {set_option(option, example)}"
        raise format_error(table.file, "", f"{problem}; {advice}")
    return column


def unrecognised(
    table: Table, what: str, usual: Sequence[str], option: str, left: Sequence[str]
) -> UnknownColumnError:
    """Build the error for a table of which no column of a usual name tells what it holds.

    Args:
        table: The table.
        what: What is looked for.
        usual: Names that would tell.
        option: Option that names the column.
        left: Columns that may be it, of which the first is the example.
    """
    problem = f"no column of {what} among {list(table.columns)}; name it with the option {option}"
    example = f", such as {set_option(option, left[:1])}," if left else ","
    return unknown_column(table.file, f"{problem}{example} or call it one of {list(usual)}")


def image_column_of(table: Table, asked: str | None) -> str:
    """Return the column of images: the one asked for, of a usual name, or that the table names.

    Raises:
        UnknownColumnError: Nothing tells which it is.
        DatasetFormatError: The table has none of the name that is asked for.
    """
    if asked is not None:
        return require_column(table, asked, "image_column")
    columns = [*usual_columns(table, IMAGE_NAMES), *table.image_columns]
    if not columns:
        left = left_columns(table.columns, ("split", "id"))
        raise unrecognised(table, "image paths", IMAGE_NAMES, "image_column", left)
    return columns[0]


def split_text_of(table: Table, cells: Cells, column: str) -> str:
    """Return the split of a row as it is written.

    Raises:
        ValueError: The cell is empty, or holds no split.
    """
    split = table.value_of(cells, column)
    text = "" if is_missing(split) else text_of(str(split)).strip()
    if not text:
        raise ValueError(f"gives no split: column {column!r} holds {cells.get(column)!r:.80}")
    return text


def optional_column(table: Table, name: str) -> str | None:
    """Return the column of a name, as it stands or else in other letters; None without one."""
    if name in table.columns:  # as the splits of names of files are
        return name
    return next(iter(usual_columns(table, (name,))), None)


def split_column_of(table: Table, asked: str) -> str | None:
    """Return the column of splits, or None where nobody asked for one and there is none.

    Without one that is called exactly so, `split` is found in other letters, too.

    Raises:
        DatasetFormatError: One of another name than `split` was asked for, and is not there.
    """
    if asked == "split":
        return optional_column(table, asked)
    return require_column(table, asked, "split_column")


def open_table(files: TableFiles, form: TableFormat | None = None) -> Table:
    """Open a table of delimited text, JSON or parquet, which gzip may have compressed.

    Files whose names give splits have a column `split` of them, unless they have their own.

    Raises:
        DatasetFormatError: A file has another suffix, is empty or is broken.
        SpecError: The delimiter or encoding is none, or is not for files of this format.
    """
    form = form or TableFormat()
    check_encoding(form.encoding)
    suffix = suffix_of(files.files[0])
    if suffix in DELIMITED:
        table = _open_delimited(files, form, DELIMITED[suffix])
    elif suffix in JSON:
        _refuse(form, files, "delimiter", "quoted")
        table = _open_json(files, form)
    elif suffix == ".parquet":
        _refuse(form, files, "delimiter", "encoding", "quoted")
        table = _open_parquet(files)
    else:
        suffixes = ", ".join(TABLE_SUFFIXES)
        remedy = remedy_of(files.files[0])
        problem = "is no table" if remedy is None else f"is of a format that is not read: {remedy}"
        raise format_error(files.name, "", f"{problem}; known suffixes: {suffixes}, .json, .gz")
    return _with_splits_of_names(table, files)


def _refuse(form: TableFormat, files: TableFiles, *options: str) -> None:
    for option in options:
        if getattr(form, option) != getattr(TableFormat(), option):
            problem = f"is for delimited text, found {files.files[0].name}"
            if option == "encoding":
                problem = f"is for files of text, found {files.files[0].name}"
            raise SpecError(f"source.{option} {problem}")


def _with_splits_of_names(table: Table, files: TableFiles) -> Table:
    if len(files.files) == 1 and not files.splits:
        return replace(table, split_of_name=_split_of_name(files.files[0]))
    has_splits = bool(files.splits) and "split" not in table.columns
    giver = "folders" if files.stand_in_folders else "names"
    splits = f", splits from their {giver}" if has_splits else ""
    note = f"{len(files.files):,} files are read as one table{splits}"
    if len(files.files) == 1:
        path = files.files[0].relative_to(files.folder).as_posix()
        note = f"{path} is the only table{', split from its folder' if has_splits else ''}"
    columns = [*table.columns, "split"] if has_splits else table.columns
    whole = ", ".join(file.name for file in files.left_out)
    left_out = [f"{whole} left out: its rows are taken to be those of the splits"] if whole else []
    bare = ", ".join(folder.relative_to(files.folder).as_posix() for folder in files.bare)
    left_out += [f"no table in {bare}: what stands there is left out"] if bare else []
    notes = (note, *left_out, *table.notes)
    return replace(table, columns=columns, notes=notes, has_splits_of_names=has_splits)


def _joined(files: TableFiles, rows_of: Sequence[Rows]) -> Rows:
    """Yield the rows of all files; places name the file where there are several."""
    for number, rows in enumerate(rows_of):
        of_file = files.cells_of(number)
        for place, cells in rows:
            yield files.place_of(number, place), {**of_file, **cells} if of_file else cells


def _skip_of(ledger: RowLedger, files: TableFiles, number: int) -> Callable[[str, str], None]:
    return lambda place, reason: ledger.skip(files.place_of(number, place), reason)


def _open_delimited(files: TableFiles, form: TableFormat, usual: str) -> Table:
    ledger = RowLedger(files.name)
    asked = check_delimiter(form.delimiter)
    rows_of: list[Rows] = []
    notes: dict[str, None] = {}
    columns: list[str] = []
    for number, file in enumerate(files.files):
        decoded = read_any_text(file, form.encoding)
        lines = lines_of(decoded)
        delimiter = asked or choose_delimiter(lines, usual)
        skip = _skip_of(ledger, files, number)
        rows = DelimitedRows(
            file, lines, delimiter, skip, is_broken=decoded.is_broken, quoted=form.quoted
        )
        header = _column_names(file, rows)
        if columns and sorted(header) != sorted(columns):
            problem = f"has the columns {header}, but {files.files[0].name} {columns}"
            raise format_error(file, "", f"{problem}; name one of the files")
        columns = columns or header
        rows_of.append(_cells(rows, header))
        notes |= dict.fromkeys(_format_notes(decoded, delimiter, usual, form))

    def read(_: Sequence[str]) -> Rows:
        return _joined(files, rows_of)

    return Table(files.name, files.folder, files.root, columns, read, ledger, tuple(notes))


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
    """Yield what was taken for a delimiter and an encoding, where it is not the usual one."""
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
    ledger = RowLedger(files.name)
    rows_of: list[list[tuple[str, Cells]]] = []
    folder = files.folder
    notes: dict[str, None] = {}
    for number, file in enumerate(files.files):
        decoded = read_any_text(file, form.encoding)
        json_rows = read_json_rows(file, decoded, _skip_of(ledger, files, number))
        if json_rows.names_pictures and file.parent.name == PLACES[1]:
            folder = file.parent.parent
        rows_of.append(_with_folder_of_pictures(json_rows, file, folder))
        notes |= dict.fromkeys(_format_notes(decoded, ",", ",", form))
    columns = dict.fromkeys(key for rows in rows_of for _, cells in rows for key in cells)
    if not columns:
        ledger.check(0)
        raise format_error(files.name, "", "is empty")

    def read(_: Sequence[str]) -> Rows:
        return _joined(files, [iter(rows) for rows in rows_of])

    return Table(files.name, folder, files.root, list(columns), read, ledger, tuple(notes))


def _with_folder_of_pictures(found: JsonRows, file: Path, folder: Path) -> list[tuple[str, Cells]]:
    """Return the rows with pictures named from the folder that holds them.

    COCO names a picture of `captions_val2017.json` without its folder `val2017`.
    """
    if not found.names_pictures or not found.rows:
        return found.rows
    part = _stem(file).rpartition("_")[2]
    names = [cells["image"] for _, cells in found.rows[:_PROBED] if isinstance(cells["image"], str)]
    for prefix in ("", f"{part}/", "images/", f"images/{part}/"):
        if any(is_regular(folder / f"{prefix}{name}") for name in names):
            break
    else:  # none is there: it is said of the folder in which COCO has them
        prefix = f"{part}/" if _COCO_PART.fullmatch(part) else ""
    for _, cells in found.rows:
        if isinstance(cells["image"], str):  # else the row is listed as one that cannot be read
            cells["image"] = prefix + cells["image"]
    return found.rows


def _open_parquet(files: TableFiles) -> Table:
    parquet = ParquetRows(files.files)
    ledger = RowLedger(files.name)
    columns = parquet.columns
    stored: dict[str, Any] = {}

    def pictures(column: str) -> StoredPictures | None:
        stored["column"] = parquet.picture_column(column)
        picture_column = stored["column"]
        return None if picture_column is None else StoredPictures(files.files, picture_column)

    def read(wanted: Sequence[str]) -> Rows:
        present = [name for name in wanted if name in columns]
        for number, place, cells in parquet.read(present, stored.get("column")):
            yield files.place_of(number, place), {**files.cells_of(number), **cells}

    table = Table(files.name, files.folder, files.root, columns, read, ledger, (), pictures)
    names, images = parquet.class_names(), parquet.image_columns()
    return replace(table, class_names=names, image_columns=images)
