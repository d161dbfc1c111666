"""Any table with a column of image paths and one or more columns of captions."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import SpecError, UnknownColumnError
from ._caption_files import Row, captions_of, text_of
from ._caption_source import CaptionSource, group_rows, with_hashed_splits
from ._decoding import unknown_column
from ._parquet_tables import StoredPicture
from ._picture_places import PicturePlaces
from ._row_images import RowImages, made_up_name
from ._tables import (
    CLASS_NAMES,
    IMAGE_NAMES,
    Cells,
    Table,
    TableFormat,
    find_table,
    open_table,
    require_column,
    split_column_of,
    usual_columns,
)

# Usual names, the preferred first; compared in lower case.
_CAPTION_NAMES = (
    *("caption", "captions", "text", "texts", "sentence", "sentences", "title"),
    *("description", "descriptions"),
)
_NUMBERED_CAPTION = re.compile(r"(caption|text|sentence|description)_?\d+")
_ROW_NUMBERS = re.compile(r"(unnamed: ?\d+|index)?", re.IGNORECASE)  # of pandas
# names of classes that are read as captions where nothing else may hold them, as they once were:
# a dataset that is remembered so stays what it was
_ONCE_CAPTIONS = ("class_name", "category")


@dataclass(frozen=True)
class _Columns:
    image: str
    captions: tuple[str, ...]
    split: str | None
    id: str | None


@dataclass(frozen=True)
class _Read:
    """Rows of a table, and what they say of their images.

    Attributes:
        rows: The rows; an image that stands in the table has a made-up name.
        ids: Cell of the id column of each row, or "".
        stored: Place of each image that stands in the table, by its made-up name.
    """

    rows: list[Row]
    ids: list[str]
    stored: dict[str, StoredPicture]


class ImageTextTableSource(CaptionSource):
    """Read image-text pairs from a table: delimited text, JSON or parquet, compressed or not.

    Rows that name the same image are one image with several captions; a cell may hold a list of
    captions. Image paths are relative to the table's folder; parquet may hold the images
    themselves. An `id` column gives the image ids where it names each image once and no two alike,
    else the paths are the ids, or the numbers of the rows where there are no paths. Without a
    split column, splits come from a hash of the image ids, or from the names of several files.
    Rows that cannot be read are left out and listed.

    Args:
        place: The table, or a folder that holds exactly one.
        image_column: Column of image paths; None recognises it by the usual names.
        caption_columns: Columns of captions; None recognises them by the usual names.
        split_column: Column of split names; the table may lack it only under its default name.
        root: Absolute path of a folder below which images may lie, too, such as `/`; without it
            those outside of the table's folder are refused.
        delimiter: Character between cells, such as `;` or `tab`; None finds it out.
        encoding: Encoding of the text, such as `cp1252`; None finds it out.
        quoted: Whether cells may be quoted; if not, a quote is a letter like any other.

    Raises:
        DatasetNotFoundError: There is no table, or none of its images.
        DatasetFormatError: The table is broken, lacks a column, is one of several, or names an
            image outside of its folder and of `root`.
        SpecError: `caption_columns` is empty, `root` is no absolute path of a folder, or the
            delimiter or encoding is none.
    """

    title = "Your own csv, tsv, json, jsonl or parquet table of images and captions"

    def __init__(
        self,
        place: Path,
        /,
        *,
        image_column: str | None = None,
        caption_columns: Sequence[str] | None = None,
        split_column: str = "split",
        root: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        quoted: bool = True,
    ) -> None:
        what = "image paths and captions"
        form = TableFormat(delimiter=delimiter, encoding=encoding, quoted=quoted)
        table = open_table(find_table(place, name="image-text-table", what=what), form)
        image = _image_column(table, image_column)
        split = split_column_of(table, split_column)
        columns = _Columns(
            image=image,
            captions=_caption_columns(table, caption_columns, (image, split, "id")),
            split=split,
            id="id" if "id" in table.columns else None,
        )
        is_guess = caption_columns is None and not _named_captions(table)
        pictures = table.pictures(image)
        read = _read_rows(table, columns)
        table.ledger.check(len(read.rows))
        self._doubt = _doubt(table, columns.captions[0], read.rows) if is_guess else None
        picture_places = PicturePlaces(table.file, table.folder, root)
        if pictures is not None:
            pictures.read_files_by(picture_places.allowed_path)
        paths = _paths(picture_places, read)
        in_rows = RowImages([row.image for row in read.rows], read.ids, columns.id, read.stored)
        ids, named_by = in_rows.ids_of_names(paths.ids, pictures)
        rows = [row._replace(image=ids[row.image]) for row in read.rows]
        images = group_rows(rows, file=table.file)
        notes = (*table.notes, *table.ledger.notes(), *images.notes)
        images = replace(images, notes=(_column_note(columns, named_by), *notes))
        if columns.split is None:
            images = with_hashed_splits(images, remedy=f"add a column {split_column!r} to choose")
        places = {ids[name]: path for name, path in paths.files.items()}
        super().__init__(
            place,
            images,
            places | {ids[name]: picture for name, picture in read.stored.items()},
            pictures=pictures if read.stored else None,
            skipped=table.ledger.rows,
        )

    def doubt(self) -> str | None:
        """Return why the column that is the only one left may hold no captions."""
        return self._doubt


@dataclass(frozen=True)
class _Paths:
    """Files of the images that a table names, and their ids, by each name that it has for one."""

    files: Mapping[str, Path]
    ids: Mapping[str, str]


def _paths(places: PicturePlaces, read: _Read) -> _Paths:
    files: dict[str, Path] = {}
    for row in read.rows:
        if row.image not in files and row.image not in read.stored:
            files[row.image] = places.path_of(row.image, row.place)
    places.check()
    return _Paths(files, places.ids_of(files))


def _image_column(table: Table, asked: str | None) -> str:
    if asked is not None:
        return require_column(table, asked, "image_column")
    known = usual_columns(table, IMAGE_NAMES)
    if not known:
        raise _unrecognised(table, "image paths", IMAGE_NAMES, "image_column")
    return known[0]


def _caption_columns(
    table: Table, asked: Sequence[str] | None, others: Collection[str | None]
) -> tuple[str, ...]:
    """Return the columns of captions: those asked for, of a usual name, or the only one left."""
    if asked is not None:
        names = (asked,) if isinstance(asked, str) else tuple(asked)
        if not names:
            raise SpecError("caption_columns names no column; leave it out to recognise them")
        return tuple(require_column(table, name, "caption_columns") for name in names)
    named = _named_captions(table)
    if named:
        return named
    left = [one for one in table.columns if one not in others and not _ROW_NUMBERS.fullmatch(one)]
    texts = [one for one in left if one.lower() not in CLASS_NAMES]
    texts = texts or [one for one in left if one.lower() in _ONCE_CAPTIONS]
    if len(texts) != 1:
        raise _unrecognised(table, "captions", _CAPTION_NAMES, "caption_columns")
    return (texts[0],)


def _named_captions(table: Table) -> tuple[str, ...]:
    """Return the columns that are called as captions are: all numbered ones, or one."""
    numbered = [name for name in table.columns if _NUMBERED_CAPTION.fullmatch(name.lower())]
    return tuple(numbered or usual_columns(table, _CAPTION_NAMES)[:1])


def _doubt(table: Table, column: str, rows: Sequence[Row]) -> str | None:
    """Return why a column that is the only one left may hold no captions.

    Beside a column of classes it may be a width or a code; captions are of several words.
    """
    classes = usual_columns(table, CLASS_NAMES)
    are_words = any(" " in caption.strip() for row in rows for caption in row.captions)
    if not classes or (column not in classes and are_words):
        return None
    problem = f"column {column!r} is the only one left for captions, and {classes[0]!r} is one of"
    return f"{problem} classes; name it with the option caption_columns if it holds captions"


def _unrecognised(table: Table, what: str, usual: Sequence[str], option: str) -> UnknownColumnError:
    problem = f"no column of {what} among {list(table.columns)}; name it with the option {option},"
    return unknown_column(table.file, f"{problem} or call it one of {list(usual)}")


def _column_note(columns: _Columns, named_by: str) -> str:
    captions = ", ".join(columns.captions)
    return f"columns read: images from {columns.image}, captions from {captions}; {named_by}"


def _read_rows(table: Table, columns: _Columns) -> _Read:
    optional = [name for name in (columns.split, columns.id) if name is not None]
    read = _Read([], [], {})
    skip = table.ledger.skip
    for place, cells in table.read([columns.image, *columns.captions, *optional]):
        image = cells.get(columns.image)
        if isinstance(image, StoredPicture):
            name = made_up_name(image)
            read.stored[name] = image
        elif isinstance(image, str) and (name := text_of(image).strip()):
            pass
        else:
            problem = (
                f"column {columns.image!r} must hold the path of an image, found {image!r:.80}"
            )
            skip(place, problem)
            continue
        captions = _captions(columns, place, cells, skip)
        if captions is None:
            continue
        split = None if columns.split is None else text_of(str(cells.get(columns.split) or ""))
        read.rows.append(Row(name, captions, split, place))
        item_id = None if columns.id is None else cells.get(columns.id)
        read.ids.append("" if item_id is None else str(item_id).strip())
    return read


def _captions(
    columns: _Columns, place: str, cells: Cells, skip: Callable[[str, str], None]
) -> tuple[str, ...] | None:
    """Return the captions of a row, or None where a cell holds something else."""
    captions: list[str] = []
    try:
        for column in columns.captions:
            captions += captions_of(cells.get(column))
    except ValueError as error:
        skip(place, str(error))
        return None
    return tuple(captions)
