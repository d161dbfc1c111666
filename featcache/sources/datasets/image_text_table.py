"""Any table with a column of image paths and one or more columns of captions."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...errors import SpecError
from ..base import Doubt, ReadReport, Source
from ..readers.caption_source import CaptionSource, group_rows
from ..splits import BY_FOLDERS, split_name
from ..tables.columns import (
    CAPTION_NAMES,
    CLASS_NAMES,
    ColumnTexts,
    caption_names,
    is_like_caption,
    left_columns,
    set_option,
)
from ..tables.row_ledger import of_one_value
from ..tables.table import Table, TableFormat, open_table
from ..tables.table_files import Cells, find_table
from ..tables.table_images import ImageRow, TableImages
from ..tables.text_files import Row, captions_of

# names of classes that are read as captions where nothing else may hold them, as they once were:
# a dataset that is remembered so stays what it was
_ONCE_CAPTIONS = ("class_name", "category")


@dataclass(frozen=True, kw_only=True)
class ImageTextTableOptions(TableFormat):
    """Options of a table of images and captions; what is None is found out.

    Attributes:
        image_column: Column of image paths.
        caption_columns: Columns of captions.
        split_column: Column of split names; the table may lack it only under its default name.
        root: Absolute path of a folder below which images may lie, too, such as `/`; without it
            those outside of the table's folder are refused.
    """

    image_column: str | None = None
    caption_columns: Sequence[str] | None = None
    split_column: str = "split"
    root: str | None = None


@dataclass(frozen=True)
class _Columns:
    image: str
    captions: tuple[str, ...]
    split: str | None


class ImageTextTableSource(CaptionSource):
    """Read image-text pairs from a table: delimited text, JSON or parquet, compressed or not.

    Rows that name the same image are one image with several captions; a cell may hold a list of
    captions. Image paths are relative to the table's folder; parquet may hold the images
    themselves. An `id` column gives the image ids where it names each image once and no two alike,
    else the paths are the ids, or the numbers of the rows where there are no paths. Without a
    split column, splits come from the names of several files, from the folders of splits that all
    paths begin with, or from a hash of the image ids.
    Rows that cannot be read are left out and listed.

    Args:
        place: The table, or a folder that holds exactly one.
        options: See `ImageTextTableOptions`.
        knows_folders: Whether folders of splits that all paths begin with give the splits where no
            column does; once, these were drawn, and a dataset that is remembered so stays.

    Raises:
        DatasetNotFoundError: There is no table, or none of its images.
        DatasetFormatError: The table is broken, lacks a column, is one of several, or names an
            image outside of its folder and of `root`.
        SpecError: `caption_columns` is empty, `root` is no absolute path of a folder, or the
            delimiter or encoding is none.
    """

    title = "Your own csv, tsv, json, jsonl or parquet table of images and captions"
    Options = ImageTextTableOptions

    def __init__(
        self, place: Path, options: ImageTextTableOptions, *, knows_folders: bool = True
    ) -> None:
        files = find_table(place, name="image-text-table", content="image paths and captions")
        table = open_table(files, options)
        image = table.image_column(options.image_column)
        split = table.split_column(options.split_column)
        captions = _caption_columns(table, options.caption_columns, (image, split, "id"))
        columns = _Columns(image, captions, split)
        images = TableImages(table, image, root=options.root)
        rows = images.inside(_read_rows(table, images, columns))
        in_folders = images.in_splits_of_folders(rows) if knows_folders and not split else None
        rows = in_folders or rows
        table.ledger.check(len(rows))
        is_guess = options.caption_columns is None and not caption_names(table.columns)
        doubt = _doubt(table, captions, rows) if is_guess else None
        places = images.places_of(rows)
        ids, named_by = images.ids_of(rows)
        rows = of_one_value(
            [row._replace(image=ids[row.image]) for row in rows],
            lambda row: (row.image, row.split and split_name(row.split), row.place),
            "split",
            table.ledger,
        )
        table.ledger.check(len(rows))
        grouped = group_rows(
            (Row(row.image, row.value, row.split, row.place) for row in rows), file=table.name
        )
        notes = [_column_note(table, columns, named_by), *([BY_FOLDERS] if in_folders else [])]
        notes += [*table.notes, *table.ledger.notes(), *grouped.notes]
        grouped = replace(grouped, notes=tuple(notes))
        if split is None and in_folders is None:
            remedy = f"add a column {options.split_column!r} to choose"
            grouped = grouped.with_hashed_splits(remedy=remedy)
        report = ReadReport(
            skipped_rows=tuple(table.ledger.rows),
            tables=(*files.files, *files.left_out),
            doubt=doubt,
            read_before=_read_before(options, table, captions, in_folders is not None),
        )
        super().__init__(
            place,
            grouped,
            {ids[name]: at for name, at in places.items()},
            reader=images.pictures,
            report=report,
        )


def _read_before(
    options: ImageTextTableOptions,
    table: Table,
    captions: tuple[str, ...],
    has_splits_of_folders: bool,
) -> Callable[[Path], Source] | None:
    """Return what reads a table as it once was, if its splits were drawn or its columns others."""
    once = caption_names(table.columns, as_once=True)
    before = options
    if options.caption_columns is None and once and once != captions and not has_splits_of_folders:
        before = replace(options, caption_columns=once)
    elif not has_splits_of_folders:
        return None
    return partial(ImageTextTableSource, options=before, knows_folders=False)


def _caption_columns(
    table: Table, asked: Sequence[str] | None, taken: Collection[str | None]
) -> tuple[str, ...]:
    """Return the columns of captions: those asked for, of a usual name, or the only one left."""
    if asked is not None:
        names = (asked,) if isinstance(asked, str) else tuple(asked)
        if not names:
            raise SpecError("caption_columns names no column; leave it out to recognise them")
        return tuple(table.require_column(name, "caption_columns") for name in names)
    named = caption_names(table.columns)
    if named:
        return named
    left = left_columns(table.columns, taken)
    texts = [column for column in left if column.lower() not in CLASS_NAMES]
    texts = texts or [column for column in left if column.lower() in _ONCE_CAPTIONS] or left
    if len(texts) != 1:
        raise table.unrecognised("captions", CAPTION_NAMES, "caption_columns", left)
    return (texts[0],)


def _read_rows(table: Table, images: TableImages, columns: _Columns) -> list[ImageRow]:
    rows = []
    id_column = images.id_column
    for place, cells in table.read([columns.image, *columns.captions, columns.split, id_column]):
        try:
            row = images.row_of(place, cells)
            captions = _captions(cells, columns)
            split = table.split_of(cells, columns.split)
        except ValueError as error:
            table.ledger.skip(place, str(error))
            continue
        rows.append(row._replace(value=captions, split=split))
    return rows


def _captions(cells: Cells, columns: _Columns) -> tuple[str, ...]:
    cells_of_captions = (captions_of(cells.get(column)) for column in columns.captions)
    return tuple(caption for captions in cells_of_captions for caption in captions)


def _doubt(table: Table, captions: Sequence[str], rows: Sequence[ImageRow]) -> Doubt | None:
    """Return why a column that is the only one left may hold no captions.

    Alone beside the images it may hold classes, beside a column of classes a width or a code.
    """
    (column,) = captions
    texts = ColumnTexts.of([caption for row in rows for caption in row.value])
    classes = table.usual_columns(CLASS_NAMES)
    may_be = not texts.are_codes and not texts.are_classes
    if column in classes:
        is_likely = texts.are_sentences
        reason = f"column {column!r} is called like one of classes and may hold captions"
        doubt = Doubt(column, f"{reason}: {texts.describe()}", stands=is_likely, is_open=is_likely)
    elif texts.are_captions or (not classes and texts.num_different < 2):
        return None
    elif classes:
        problem = f"column {column!r} is the only one left for captions, and {classes[0]!r} is one"
        reason = f"{problem} of classes: {texts.describe()}"
        doubt = Doubt(column, reason, stands=False, is_open=may_be)
    else:
        reason = f"column {column!r} may hold captions or classes: {texts.describe()}"
        doubt = Doubt(column, reason, stands=may_be, is_open=may_be or texts.are_classes)
    return doubt


def _column_note(table: Table, columns: _Columns, named_by: str) -> str:
    captions = ", ".join(columns.captions)
    note = f"columns read: images from {columns.image}, captions from {captions}; {named_by}"
    used = {columns.image, *columns.captions, columns.split}
    unread = [column for column in table.columns if column not in used and is_like_caption(column)]
    if not unread:
        return note
    option = set_option("caption_columns", [*columns.captions, *unread])
    return f"{note}; not read: {', '.join(map(repr, unread))} (to read it, add {option})"
