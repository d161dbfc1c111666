"""Any table with a column of image paths and one or more columns of captions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ...errors import DatasetFormatError, DatasetNotFoundError, SpecError
from ..base import Doubt, Source
from ..readers.caption_source import (
    BY_FOLDERS,
    CaptionSource,
    group_rows,
    splits_of_folders,
    with_hashed_splits,
)
from ..splits import split_name
from ..tables.columns import (
    CAPTION_NAMES,
    CLASS_NAMES,
    ColumnTexts,
    caption_names,
    is_like_caption,
    left_columns,
    unread_note,
)
from ..tables.parquet import StoredPicture
from ..tables.picture_places import PicturePlaces
from ..tables.row_images import RowImages, made_up_name
from ..tables.row_ledger import of_one_value
from ..tables.table import (
    Cells,
    Table,
    TableFormat,
    find_table,
    image_column_of,
    open_table,
    require_column,
    split_column_of,
    split_text_of,
    unrecognised,
    usual_columns,
)
from ..tables.text_files import Row, captions_of, text_of

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
    split column, splits come from the names of several files, from the folders of splits that all
    paths begin with, or from a hash of the image ids.
    Rows that cannot be read are left out and listed.

    Args:
        place: The table, or a folder that holds exactly one.
        knows_folders: Whether folders of splits that all paths begin with give the splits where no
            column does; once, these were drawn, and a dataset that is remembered so stays.
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
        knows_folders: bool = True,  # by position: it is no option
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
        files = find_table(place, name="image-text-table", what=what)
        table = open_table(files, form)
        self._files = (*files.files, *files.left_out)
        image = image_column_of(table, image_column)
        split = split_column_of(table, split_column)
        columns = _Columns(
            image=image,
            captions=_caption_columns(table, caption_columns, (image, split, "id")),
            split=split,
            id="id" if "id" in table.columns else None,
        )
        is_guess = caption_columns is None and not caption_names(table.columns)
        once = caption_names(table.columns, as_once=True)
        # a home of before remembers drawn splits, and perhaps those columns, too
        before = partial(
            ImageTextTableSource,
            place,
            False,
            image_column=image_column,
            split_column=split_column,
            root=root,
            delimiter=delimiter,
            encoding=encoding,
            quoted=quoted,
        )
        self._once: Callable[[], Source] | None = None
        if caption_columns is None and once and once != columns.captions:
            self._once = partial(before, caption_columns=once)
        pictures = table.pictures(image)
        read = _read_rows(table, columns)
        picture_places = PicturePlaces(table.file, table.folder, root, dataset=table.root)
        read = _with_pictures_found(table, read, picture_places)
        split_of = _splits_of_folders(read, picture_places) if knows_folders and not split else None
        if split_of is not None:
            self._once = partial(before, caption_columns=caption_columns)
            read = replace(
                read, rows=[row._replace(split=split_of[row.image]) for row in read.rows]
            )
        table.ledger.check(len(read.rows))
        self._doubt = _doubt(table, columns, read.rows) if is_guess else None
        if pictures is not None:
            pictures.read_files_by(picture_places.allowed_path)
        paths = _paths(picture_places, read)
        in_rows = RowImages([row.image for row in read.rows], read.ids, columns.id, read.stored)
        ids, named_by = in_rows.ids_of_names(paths.ids, pictures)
        rows = [row._replace(image=ids[row.image]) for row in read.rows]
        rows = of_one_value(
            rows,
            lambda row: (row.image, row.split and split_name(row.split), row.place),
            "split",
            table.ledger,
        )
        table.ledger.check(len(rows))
        images = group_rows(rows, file=table.file)
        notes = (*table.notes, *table.ledger.notes(), *images.notes)
        by_folders = () if split_of is None else (BY_FOLDERS,)
        images = replace(
            images, notes=(_column_note(table, columns, named_by), *by_folders, *notes)
        )
        if columns.split is None and split_of is None:
            images = with_hashed_splits(images, remedy=f"add a column {split_column!r} to choose")
        places = {ids[name]: path for name, path in paths.files.items()}
        super().__init__(
            place,
            images,
            places | {ids[name]: picture for name, picture in read.stored.items()},
            pictures=pictures if read.stored else None,
            skipped=table.ledger.rows,
        )

    def doubt(self) -> Doubt | None:
        """Return why the column that is the only one left may hold no captions."""
        return self._doubt

    @property
    def was_read_otherwise(self) -> bool:
        """Return whether the splits were once drawn, or other columns went before those of now."""
        return self._once is not None

    def as_read_before(self) -> Source | None:
        """Return the table by the splits and columns that it was once read by."""
        if self._once is None:
            return None
        try:
            return self._once()
        except (DatasetFormatError, DatasetNotFoundError):  # nobody can remember it so
            return None

    def table_files(self) -> tuple[Path, ...]:
        """Return the files of the table, and those that hold its rows once more."""
        return self._files


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
    return _Paths(files, places.ids_of(files))


def _splits_of_folders(read: _Read, places: PicturePlaces) -> dict[str, str] | None:
    """Return the split of each image by the folder that its path begins with, if all say one."""
    images = dict.fromkeys(row.image for row in read.rows)
    path_of = {
        image: read.stored[image].name or "" if image in read.stored else image for image in images
    }
    split_of = splits_of_folders(path_of.values(), places)
    return split_of and {image: split_of[path] for image, path in path_of.items()}


def _with_pictures_found(table: Table, read: _Read, places: PicturePlaces) -> _Read:
    """Return the rows whose pictures lie in the dataset, by where they lie in it."""
    of_files = [row for row in read.rows if row.image not in read.stored]
    names = places.in_folders_of_splits(
        [(row.image, row.split or table.split_of_name) for row in of_files]
    )
    path_of = {row.place: name for row, name in zip(of_files, names, strict=True)}
    rows = [row._replace(image=path_of.get(row.place, row.image)) for row in read.rows]
    written = [(row.image, row.place) for row in rows if row.image not in read.stored]
    outside = places.leave_out(written, table.ledger.skip)
    indices = [number for number, row in enumerate(rows) if row.image not in outside]
    return _Read(
        [rows[index] for index in indices], [read.ids[index] for index in indices], read.stored
    )


def _caption_columns(
    table: Table, asked: Sequence[str] | None, others: Collection[str | None]
) -> tuple[str, ...]:
    """Return the columns of captions: those asked for, of a usual name, or the only one left."""
    if asked is not None:
        names = (asked,) if isinstance(asked, str) else tuple(asked)
        if not names:
            raise SpecError("caption_columns names no column; leave it out to recognise them")
        return tuple(require_column(table, name, "caption_columns") for name in names)
    named = caption_names(table.columns)
    if named:
        return named
    left = left_columns(table.columns, others)
    texts = [column for column in left if column.lower() not in CLASS_NAMES]
    texts = texts or [column for column in left if column.lower() in _ONCE_CAPTIONS] or left
    if len(texts) != 1:
        raise unrecognised(table, "captions", CAPTION_NAMES, "caption_columns", left)
    return (texts[0],)


def _doubt(table: Table, columns: _Columns, rows: Sequence[Row]) -> Doubt | None:
    """Return why a column that is the only one left may hold no captions.

    Alone beside the images it may hold classes, beside a column of classes a width or a code.
    """
    (column,) = columns.captions
    texts = ColumnTexts.of([caption for row in rows for caption in row.captions])
    classes = usual_columns(table, CLASS_NAMES)
    if column in classes:
        may_be = texts.are_sentences
        reason = f"column {column!r} is called like one of classes and may hold captions"
        doubt = Doubt(column, f"{reason}: {texts.describe()}", stands=may_be, is_open=may_be)
    elif texts.are_captions or (not classes and texts.num_different < 2):
        return None
    elif classes:
        problem = f"column {column!r} is the only one left for captions, and {classes[0]!r} is one"
        reason = f"{problem} of classes: {texts.describe()}"
        may_be = not texts.are_codes and not texts.are_classes
        doubt = Doubt(column, reason, stands=False, is_open=may_be)
    else:
        reason = f"column {column!r} may hold captions or classes: {texts.describe()}"
        stands = not texts.are_codes and not texts.are_classes
        doubt = Doubt(column, reason, stands=stands, is_open=stands or texts.are_classes)
    return doubt


def _column_note(table: Table, columns: _Columns, named_by: str) -> str:
    captions = ", ".join(columns.captions)
    read = {columns.image, *columns.captions, columns.split, columns.id}
    unread = [column for column in table.columns if column not in read and is_like_caption(column)]
    note = f"columns read: images from {columns.image}, captions from {captions}; {named_by}"
    return note + unread_note(unread, "caption_columns", read=columns.captions)


def _read_rows(table: Table, columns: _Columns) -> _Read:
    optional = [name for name in (columns.split, columns.id) if name is not None]
    read = _Read([], [], {})
    skip = table.ledger.skip
    for place, cells in table.read([columns.image, *columns.captions, *optional]):
        image = table.image_of(cells, columns.image)
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
        try:
            split = None if columns.split is None else split_text_of(table, cells, columns.split)
        except ValueError as error:
            skip(place, str(error))
            continue
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
