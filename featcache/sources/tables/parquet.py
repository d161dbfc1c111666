"""Rows of parquet files, and the pictures that stand in them."""

import bisect
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import DatasetFormatError, MissingFileError, UnreadableItemError, one_line
from ...regular_files import MAX_PICTURE_BYTES, check_regular, open_regular, size_of
from ...types import Item
from ..base import ImageReader, format_error

_ROWS_AT_ONCE = 16  # of pictures: some are of 10 MB
_BLOCKS = 64  # of a file of pictures that its fingerprint looks at
_BLOCK_BYTES = 4096
_LONGEST_FOOTER = 2**24
_MOST_LOOKED_THROUGH = 2**32  # bytes: some seconds; rows without a picture are rare
_NOTHING_TO_READ = "its row has neither bytes nor a path to read"


class StoredPicture(NamedTuple):
    """Place of a picture that stands in a table itself.

    Attributes:
        name: Name of its file before, if the table gives it.
        file: Number of the parquet file.
        row: Row of it, from 0.
    """

    name: str | None
    file: int
    row: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredItem(Item):
    """Picture that is read from its table when it is asked for."""

    pictures: "StoredPictures"
    picture: StoredPicture

    def read_bytes(self) -> bytes:
        """Return the encoded image.

        Raises:
            UnreadableItemError: It is larger than `MAX_PICTURE_BYTES`, or its table is broken.
        """
        return self.pictures.read(self.picture, item_id=self.id)

    def missing(self) -> str | None:
        """Return why there is nothing to read, or None; see `StoredPictures.missing`."""
        return self.pictures.missing(self.picture)


class PictureColumn(NamedTuple):
    """Column that holds pictures.

    Attributes:
        name: The column.
        leaf: Path of their bytes: the column itself, or its field.
        path: Path of the names of their files, if they have any.
    """

    name: str
    leaf: str
    path: str | None


class ParquetRows:
    """Rows of parquet files with the same columns, and what their columns hold.

    Args:
        files: The files, in order.

    Raises:
        DatasetFormatError: One is broken, names a column twice or has other columns.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self._pictures: PictureColumn | None = None
        self._schemas = [_opened(file).schema_arrow for file in files]
        self.columns: list[str] = self._schemas[0].names
        for file, schema in zip(files, self._schemas, strict=True):
            if len(set(schema.names)) < len(schema.names):
                raise format_error(file, "", f"names a column twice: {schema.names}")
            if sorted(schema.names) != sorted(self.columns):
                problem = f"has the columns {schema.names}, but {files[0].name} {self.columns}"
                raise format_error(file, "", f"{problem}; name one of the files")

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the classes whose numbers stand in a column, by the column.

        The library datasets writes them into the schema. A column has none where files differ.
        """
        of_files = [_class_names(schema) for schema in self._schemas]
        return {
            column: of_files[0].get(column, ())
            if all(names.get(column) == of_files[0].get(column) for names in of_files)
            else ()
            for column in dict.fromkeys(column for names in of_files for column in names)
        }

    def image_columns(self) -> list[str]:
        """Return the columns that the library datasets has marked as images."""
        features = _features(self._schemas[0])
        return [
            column for column in self.columns if features.get(column, {}).get("_type") == "Image"
        ]

    def pictures(self, name: str) -> "StoredPictures | None":
        """Return the pictures whose bytes stand in a column, or None if they do not.

        They are a column of bytes, or the `bytes` of a struct with `bytes` and `path`, as the
        library datasets writes pictures. `rows_of_files` then does not read the bytes: a cell is a
        `StoredPicture`, or the path of a picture that has no bytes there.

        Raises:
            DatasetFormatError: They stand in one of the files, and not so in another.
        """
        columns = [_picture_column(schema, name) for schema in self._schemas]
        for file, column in zip(self.files, columns, strict=True):
            if column != columns[0]:
                problem = f"column {name!r} is of another type than in {self.files[0].name}"
                raise format_error(file, "", problem)
        self._pictures = columns[0]
        return None if columns[0] is None else StoredPictures(self.files, columns[0])

    def rows_of_files(self, columns: Sequence[str]) -> list[Iterator[tuple[str, dict[str, Any]]]]:
        """Return the place and the cells by column of every row, file by file.

        Raises:
            DatasetFormatError: A file is broken; when its rows are read.
        """
        present = [name for name in columns if name in self.columns]
        return [self._rows_of_file(number, present) for number in range(len(self.files))]

    def _rows_of_file(
        self, number: int, columns: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        file, pictures = self.files[number], self._pictures
        with _refusing(file):
            parquet = _opened(file)
            rows = (
                _rows(parquet, columns)
                if pictures is None
                else _rows_with_pictures(number, parquet, columns, pictures)
            )
            for row, cells in enumerate(rows, start=1):
                yield f"row {row}", cells


def _rows(parquet: Any, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for batch in parquet.iter_batches(columns=list(columns)):
        yield from batch.to_pylist()


def _rows_with_pictures(
    number: int, parquet: Any, columns: Sequence[str], pictures: PictureColumn
) -> Iterator[dict[str, Any]]:
    others = [name for name in columns if name != pictures.name]
    others += [pictures.path] if pictures.path else []
    rows = _rows(parquet, others) if others else ({} for _ in range(parquet.metadata.num_rows))
    # nulls take no room: where the first picture is one it costs little to look for others. The
    # metadata have their number, but pyarrow ends the process where these are damaged.
    begins_with_bytes = next(_are_stored(parquet, pictures, batch_size=1), False)
    stored = None if begins_with_bytes else list(_are_stored(parquet, pictures))
    for row, cells in enumerate(rows):
        struct = cells.get(pictures.name)
        path = struct.get("path") if struct else None
        is_stored = stored[row] if stored else struct is not None or not pictures.path
        cells[pictures.name] = StoredPicture(path, number, row) if is_stored else path
        yield cells


def _are_stored(
    parquet: Any, pictures: PictureColumn, *, batch_size: int = _ROWS_AT_ONCE
) -> Iterator[bool]:
    """Yield for every row whether the bytes of its picture are there."""
    for batch in parquet.iter_batches(batch_size=batch_size, columns=[pictures.leaf]):
        yield from _bytes_of(batch, pictures).is_valid().to_pylist()


class StoredPictures(ImageReader):
    """Pictures that stand in parquet files, read one after another for the most part.

    Args:
        files: The files.
        column: The column in which they stand.
    """

    def __init__(self, files: Sequence[Path], column: PictureColumn) -> None:
        self._files = files
        self._column = column
        self._path_of: Callable[[str], Path | None] = lambda _: None
        self._has_bytes: dict[int, list[bool]] = {}  # by file, where it was looked through
        self._lock = threading.Lock()
        self._position: tuple[int, int] | None = None  # file and row group that are being read
        self._batches: Iterator[Any] = iter(())
        self._first, self._batch = 0, None  # first row of the batch that was read last
        self._parquet: Any = None
        self._ends: list[int] = []  # row behind each group of the file

    def read_files_by(self, path_of: Callable[[str], Path | None]) -> None:
        """Set what gives the file of a path in the table, or None where it may not be read."""
        self._path_of = path_of

    def __repr__(self) -> str:
        return f"StoredPictures({self._files[0]}, {self._column.name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredPictures):
            return NotImplemented
        return (self._files, self._column) == (other._files, other._column)

    def __hash__(self) -> int:
        return hash((tuple(self._files), self._column))

    def item(self, image_id: str, place: str | StoredPicture) -> Item:
        """Return an image of the table, or one that is a file."""
        if isinstance(place, str):
            return super().item(image_id, place)
        return StoredItem(id=image_id, pictures=self, picture=place)

    def digest(self, places: Sequence[str | StoredPicture]) -> str | None:
        """Return a hash of the files in which images stand, or None where all are files."""
        numbers = {place.file for place in places if isinstance(place, StoredPicture)}
        return self.fingerprint(sorted(numbers)) if numbers else None

    def read(self, picture: StoredPicture, *, item_id: str) -> bytes:
        """Return the encoded image at a place.

        Raises:
            UnreadableItemError: It is larger than `MAX_PICTURE_BYTES`, or the file is broken, or
                the row has no bytes and names a file that is not there.
        """
        try:
            content = self._read(picture)
        except DatasetFormatError as error:
            raise UnreadableItemError(f"{item_id}: {error}") from error
        if content is None:
            path = self._path_of_row(picture)
            if path is None:
                raise UnreadableItemError(f"{item_id}: {_NOTHING_TO_READ}")
            try:
                return Item(id=item_id, path=path).read_bytes()
            except MissingFileError as error:
                # the item stands for a place in the table, which is still there: nothing vanished
                raise UnreadableItemError(f"{error}, and its row has no bytes") from error
        if len(content) > MAX_PICTURE_BYTES:
            problem = f"{len(content):,} bytes are more than the {MAX_PICTURE_BYTES:,} allowed"
            raise UnreadableItemError(f"{item_id}: {problem}")
        return content

    def _path_of_row(self, picture: StoredPicture) -> Path | None:
        return None if picture.name is None else self._path_of(picture.name)

    @cached_property
    def are_looked_through(self) -> bool:
        """Return whether `missing` looks for rows without bytes, which reads all files."""
        return sum(map(size_of, self._files)) <= _MOST_LOOKED_THROUGH

    def missing(self, picture: StoredPicture) -> str | None:
        """Return why a row has nothing to read, as far as can be told without decoding, or None."""
        if not self.are_looked_through:
            return None
        if picture.file not in self._has_bytes:
            self._has_bytes[picture.file] = self._rows_with_bytes(self._files[picture.file])
        has_bytes = self._has_bytes[picture.file]
        if picture.row >= len(has_bytes):
            return f"{self._files[picture.file].name} cannot be read up to its row"
        if has_bytes[picture.row]:
            return None
        path = self._path_of_row(picture)
        if path is None:
            return _NOTHING_TO_READ
        reason = Item(id="", path=path).missing()
        return None if reason is None else f"its row has no bytes, and {reason}"

    def _rows_with_bytes(self, file: Path) -> list[bool]:
        """Return for every row whether it has bytes, up to where the file is broken."""
        rows: list[bool] = []
        with suppress(DatasetFormatError), _refusing(file):
            for stored in _are_stored(_opened(file), self._column):
                rows.append(stored)  # noqa: PERF402  # those before a broken one count
        return rows

    def digest_of(self, picture: StoredPicture) -> bytes:
        """Return a hash of the encoded image at a place.

        Raises:
            DatasetFormatError: The file is broken.
        """
        content = self._read(picture)
        if content is None:
            content = f"{picture.name}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).digest()

    def fingerprint(self, numbers: Sequence[int]) -> str:
        """Return a hash that changes with the pictures of some files, without reading them all.

        It is of the size of each file, of its end, which has the sizes of all columns, and of some
        blocks of it.

        Args:
            numbers: Numbers of the files.

        Raises:
            DatasetFormatError: A file cannot be read.
        """
        digest = hashlib.sha256()
        for file in map(self._files.__getitem__, numbers):
            with _refusing(file), open_regular(file) as stream:
                size = os.fstat(stream.fileno()).st_size
                digest.update(f"{size};".encode())
                for number in range(_BLOCKS + 1):
                    offset = number * max(0, size - _BLOCK_BYTES) // _BLOCKS
                    digest.update(os.pread(stream.fileno(), _BLOCK_BYTES, offset))
                tail = os.pread(stream.fileno(), 8, max(0, size - 8))
                length = min(int.from_bytes(tail[:4], "little"), _LONGEST_FOOTER, size)
                digest.update(os.pread(stream.fileno(), length, max(0, size - 8 - length)))
        return digest.hexdigest()

    def _read(self, picture: StoredPicture) -> bytes | None:
        # threads that prepare items share the place where reading stands
        with self._lock, _refusing(self._files[picture.file]):
            if self._position is None or self._position[0] != picture.file:
                self._parquet = _opened(self._files[picture.file])
                metadata = self._parquet.metadata
                groups = map(metadata.row_group, range(metadata.num_row_groups))
                self._ends = list(accumulate(group.num_rows for group in groups))
                self._position = None
            group = bisect.bisect_right(self._ends, picture.row)
            if self._position != (picture.file, group) or picture.row < self._first:
                self._position = (picture.file, group)
                self._first, self._batch = (self._ends[group - 1] if group else 0), None
                self._batches = self._parquet.iter_batches(
                    batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=[self._column.leaf]
                )
            while self._batch is None or picture.row >= self._first + self._batch.num_rows:
                self._first += 0 if self._batch is None else self._batch.num_rows
                self._batch = next(self._batches, None)
                if self._batch is None:
                    raise ValueError(f"has no row {picture.row + 1}")
            cells = _bytes_of(self._batch, self._column)
            content: bytes | None = cells[picture.row - self._first].as_py()
            return content


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return what the library datasets says of the columns, or nothing where it says nothing."""
    written = (schema.metadata or {}).get(b"huggingface")
    if written is None or len(written) > _LONGEST_FOOTER:
        return {}
    try:
        features = json.loads(written)["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # written by something else under that name


def _class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    names_of: dict[str, tuple[str, ...]] = {}
    for column, feature in _features(schema).items():
        names = feature.get("names")
        if feature.get("_type") != "ClassLabel" or column not in schema.names:
            continue
        names = list(names.values()) if isinstance(names, dict) else names
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            names_of[column] = tuple(names)
    return names_of


def _picture_column(schema: Any, name: str) -> PictureColumn | None:
    import pyarrow as pa

    def is_binary(kind: Any) -> bool:
        checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
        return any(check(kind) for check in checks)

    column = schema.field(name).type
    if is_binary(column):
        return PictureColumn(name, name, None)
    if not pa.types.is_struct(column):
        return None
    types = {column.field(number).name: column.field(number).type for number in range(len(column))}
    if "bytes" not in types or not is_binary(types["bytes"]):
        return None
    path = types.get("path", pa.null())
    has_path = pa.types.is_string(path) or pa.types.is_large_string(path)
    return PictureColumn(name, f"{name}.bytes", f"{name}.path" if has_path else None)


def _bytes_of(batch: Any, pictures: PictureColumn) -> Any:
    column = batch.column(0)
    return column if pictures.leaf == pictures.name else column.field("bytes")


def _opened(file: Path) -> Any:
    import pyarrow.parquet as pq  # here, because only this format needs it

    with _refusing(file):
        check_regular(file)
        return pq.ParquetFile(file)


@contextmanager
def _refusing(file: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a broken file into one line."""
    import pyarrow as pa

    try:
        yield
    except DatasetFormatError:
        raise
    # a text that is no UTF-8 is a ValueError, a date out of range an OverflowError
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise format_error(file, "", f"cannot be read as parquet: {one_line(error)}") from error
