"""Any table with a column of image paths and one or more columns of captions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import DatasetFormatError, SpecError
from ._caption_files import Row, captions_of, format_error
from ._caption_source import CaptionSource, group_rows, with_hashed_splits
from ._picture_places import PicturePlaces
from ._tables import Cells, Table, find_table, open_table, require_column, split_column_of

# Usual names, the preferred first; compared in lower case.
_IMAGE_NAMES = ("image", "image_path", "filepath", "file_path", "file_name", "filename", "path")
_CAPTION_NAMES = ("caption", "captions", "text", "texts", "sentence", "sentences", "title")
_NUMBERED_CAPTION = re.compile(r"(caption|text|sentence)_?\d+")


@dataclass(frozen=True)
class _Columns:
    image: str
    captions: tuple[str, ...]
    split: str | None
    id: str | None


class ImageTextTableSource(CaptionSource):
    """Read image-text pairs from a .csv, .tsv, .jsonl or .parquet table.

    Rows that name the same image are one image with several captions; a cell may hold a list of
    captions. Image paths are relative to the table's folder. An `id` column gives the image ids
    where it names each image once and no two alike, else the paths are the ids. Without a split
    column, splits come from a hash of the image ids.

    Args:
        place: The table, or a folder that holds exactly one.
        image_column: Column of image paths; None recognises it by the usual names.
        caption_columns: Columns of captions; None recognises them by the usual names.
        split_column: Column of split names; the table may lack it only under its default name.
        root: Absolute path of a folder below which images may lie, too, such as `/`; without it
            those outside of the table's folder are refused.

    Raises:
        DatasetNotFoundError: There is no table, or none of its images.
        DatasetFormatError: The table is broken, lacks a column, is one of several, or names an
            image outside of its folder and of `root`.
        SpecError: `caption_columns` is empty, or `root` is no absolute path of a folder.
    """

    title = "Your own csv, tsv, jsonl or parquet table of image paths and captions"

    def __init__(
        self,
        place: Path,
        /,
        *,
        image_column: str | None = None,
        caption_columns: Sequence[str] | None = None,
        split_column: str = "split",
        root: str | None = None,
    ) -> None:
        what = "image paths and captions"
        table = open_table(find_table(place, name="image-text-table", what=what))
        columns = _Columns(
            image=_image_column(table, image_column),
            captions=_caption_columns(table, caption_columns),
            split=split_column_of(table, split_column),
            id="id" if "id" in table.columns else None,
        )
        rows, ids = _read_rows(table, columns)
        rows_as_written = rows
        if ids is None:
            ids = {row.image: row.image for row in rows}
            columns = replace(columns, id=None)
        else:
            rows = [row._replace(image=ids[row.image]) for row in rows]
        images = group_rows(rows, file=table.file)
        images = replace(images, notes=(_column_note(columns), *images.notes))
        if columns.split is None:
            images = with_hashed_splits(images, remedy=f"add a column {split_column!r} to choose")
        paths = _paths(table.file, rows_as_written, root)
        super().__init__(place, images, {ids[name]: path for name, path in paths.items()})


def _paths(file: Path, rows: Sequence[Row], root: str | None) -> dict[str, Path]:
    """Return the file of each image, as the rows call it."""
    places = PicturePlaces(file, file.parent, root)
    paths: dict[str, Path] = {}
    for row in rows:
        if row.image not in paths:
            paths[row.image] = places.path_of(row.image, row.place)
    places.check()
    return paths


def _image_column(table: Table, asked: str | None) -> str:
    if asked is not None:
        return require_column(table, asked, "image_column")
    by_lower = {column.lower(): column for column in reversed(table.columns)}
    known = [by_lower[name] for name in _IMAGE_NAMES if name in by_lower]
    if not known:
        raise _unrecognised(table, "image paths", _IMAGE_NAMES, "image_column")
    return known[0]


def _caption_columns(table: Table, asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is not None:
        names = (asked,) if isinstance(asked, str) else tuple(asked)
        if not names:
            raise SpecError("caption_columns names no column; leave it out to recognise them")
        return tuple(require_column(table, name, "caption_columns") for name in names)
    numbered = [name for name in table.columns if _NUMBERED_CAPTION.fullmatch(name.lower())]
    if numbered:
        return tuple(numbered)
    by_lower = {column.lower(): column for column in reversed(table.columns)}
    known = [by_lower[name] for name in _CAPTION_NAMES if name in by_lower]
    if not known:
        raise _unrecognised(table, "captions", _CAPTION_NAMES, "caption_columns")
    return (known[0],)


def _unrecognised(table: Table, what: str, usual: Sequence[str], option: str) -> DatasetFormatError:
    problem = f"no column of {what} among {list(table.columns)}; name it with the option {option},"
    return format_error(table.file, "", f"{problem} or call it one of {list(usual)}")


def _column_note(columns: _Columns) -> str:
    captions = ", ".join(columns.captions)
    named_by = f"ids from {columns.id}" if columns.id else "ids are the image paths"
    return f"columns read: images from {columns.image}, captions from {captions}; {named_by}"


def _read_rows(table: Table, columns: _Columns) -> tuple[list[Row], dict[str, str] | None]:
    """Return all rows, and the id by image if the id column names every image."""
    optional = [name for name in (columns.split, columns.id) if name is not None]
    rows: list[Row] = []
    ids: dict[str, str] = {}
    is_key = columns.id is not None
    for place, cells in table.read([columns.image, *columns.captions, *optional]):
        row = _read_row(table.file, columns, place, cells)
        rows.append(row)
        item_id = "" if columns.id is None or cells.get(columns.id) is None else cells[columns.id]
        text = str(item_id).strip()
        is_key = is_key and bool(text) and ids.setdefault(row.image, text) == text
    is_key = is_key and len(set(ids.values())) == len(ids)
    return rows, ids if is_key else None


def _read_row(file: Path, columns: _Columns, place: str, cells: Cells) -> Row:
    image = cells.get(columns.image)
    if not isinstance(image, str) or not image.strip():
        problem = f"column {columns.image!r} must hold the path of an image, found {image!r:.80}"
        raise format_error(file, place, problem)
    captions = [
        caption
        for column in columns.captions
        for caption in captions_of(cells.get(column), file, place)
    ]
    split = None if columns.split is None else str(cells.get(columns.split) or "")
    return Row(image.strip(), tuple(captions), split, place)
