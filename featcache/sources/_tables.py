"""Read a table of any common format into column names and rows of cells."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DatasetFormatError
from ..regular_files import check_regular, is_regular
from ..source import missing_dataset
from ._caption_files import format_error, read_csv, read_json_lines

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLE_SUFFIXES = (*_DELIMITERS, ".jsonl", ".parquet")


Cells = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Hold a table that was opened.

    Attributes:
        file: The table file.
        columns: Column names in file order.
        read: Function from the wanted columns to (place, cells by column) of every row; it can be
            called once. Cells may hold more columns than wanted, and lack some in JSON lines.
    """

    file: Path
    columns: Sequence[str]
    read: Callable[[Sequence[str]], Iterator[tuple[str, Cells]]]


def find_table(root: Path, *, name: str, what: str) -> Path:
    """Return the table of a dataset: `root` itself, or the only one in it.

    Args:
        root: Folder of the dataset, or the file.
        name: Name of the dataset.
        what: What its rows hold.

    Raises:
        DatasetNotFoundError: There is no table.
        DatasetFormatError: There are several.
    """
    if is_regular(root):
        return root
    tables = []
    if root.is_dir():
        tables = sorted(path for path in root.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    if not tables:
        looked_for = [f"one file *{suffix}" for suffix in TABLE_SUFFIXES]
        raise missing_dataset(name, root, looked_for, f"It is your own table of {what}.")
    if len(tables) > 1:
        names = [path.name for path in tables]
        raise DatasetFormatError(
            f"{root} holds {len(tables)} tables: {names}; name one: --data {name}={tables[0]}"
        )
    return tables[0]


def require_column(table: Table, column: str, option: str) -> str:
    """Return the name of a column that an option asks for.

    Raises:
        DatasetFormatError: The table has none of this name.
    """
    if column not in table.columns:
        problem = f"has no column {column!r} ({option}); columns: {list(table.columns)}"
        raise format_error(table.file, "", problem)
    return column


def split_column_of(table: Table, asked: str) -> str | None:
    """Return the column of splits, or None where nobody asked for one and there is none.

    Raises:
        DatasetFormatError: One of another name than `split` was asked for, and is not there.
    """
    if asked == "split" and asked not in table.columns:
        return None
    return require_column(table, asked, "split_column")


def open_table(file: Path) -> Table:
    """Open a .csv, .tsv, .jsonl or .parquet file.

    Raises:
        DatasetFormatError: The file has another suffix, is empty or is broken. Broken rows raise
            when they are read.
    """
    suffix = file.suffix.lower()
    if suffix in _DELIMITERS:
        return _open_csv(file, _DELIMITERS[suffix])
    if suffix == ".jsonl":
        return _open_json_lines(file)
    if suffix == ".parquet":
        return _open_parquet(file)
    raise format_error(file, "", f"is no table; known suffixes: {', '.join(TABLE_SUFFIXES)}")


def _open_csv(file: Path, delimiter: str) -> Table:
    rows = read_csv(file, delimiter)
    place, header = next(rows)
    columns = [cell.strip() for cell in header]
    if len(set(columns)) < len(columns):
        raise format_error(file, place, f"names a column twice: {columns}")

    def read(_: Sequence[str]) -> Iterator[tuple[str, Cells]]:
        return ((place, dict(zip(columns, cells, strict=True))) for place, cells in rows)

    return Table(file, columns, read)


def _open_json_lines(file: Path) -> Table:
    rows = list(read_json_lines(file))
    if not rows:
        raise format_error(file, "", "is empty")
    columns = dict.fromkeys(key for _, cells in rows for key in cells)  # a set that keeps order
    return Table(file, list(columns), lambda _: iter(rows))


def _open_parquet(file: Path) -> Table:
    import pyarrow as pa  # here, because only this format needs it
    import pyarrow.parquet as pq

    try:
        check_regular(file)
        parquet = pq.ParquetFile(file)
        columns = parquet.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _broken_parquet(file, error) from error
    if len(set(columns)) < len(columns):
        raise format_error(file, "", f"names a column twice: {columns}")

    def read(wanted: Sequence[str]) -> Iterator[tuple[str, Cells]]:
        number = 0
        try:
            # Only the wanted columns: another one may hold the image files themselves.
            for batch in parquet.iter_batches(columns=list(wanted)):
                for cells in batch.to_pylist():
                    number += 1
                    yield f"row {number}", cells
        # a text that is no UTF-8 is a ValueError, a date out of range an OverflowError
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            raise _broken_parquet(file, error) from error

    return Table(file, columns, read)


def _broken_parquet(file: Path, error: Exception) -> DatasetFormatError:
    reason = " ".join(str(error).split())[:120]
    return format_error(file, "", f"cannot be read as parquet: {reason}")
