"""Read images that stand in a folder for each class, or are listed in a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import DatasetFormatError, UnknownColumnError
from ...item_ids import storable_id
from ...regular_files import is_regular
from ..base import ReadReport, counted, format_error
from ..splits import SPLIT_ORDER, split_name
from ..tables.table_files import TableFiles, folders_in, table_of, tables_of
from .class_source import ClassedImage, ClassedImages
from .class_tables import ClassTableOptions, read_class_table
from .image_files import LeftOut, image_files, note_strays
from .images import require_images, storable_ids, storable_note

INDEX = "index.csv"
LAYOUTS = (INDEX, "SPLIT/CLASS/image.jpg", "CLASS/image.jpg")
_LEAST_CLASSES = 2
_FOLDERS = f"put class folders into train, val and test, or add a split column to {INDEX}"


def read_classes(root: Path, options: ClassTableOptions) -> ClassedImages | None:
    """Return what `read_class_folders` does, or the images of the tables in `root`.

    Several are one table where their names or folders give splits, or are those of shards; a single
    one is read where options name its columns. Class folders go before them, of which there are two
    or more, unless options say how a table is to be read.

    For arguments and errors see `read_class_folders`.
    """
    refusal: DatasetFormatError | None = None
    classed: ClassedImages | None = None
    files = _tables(root, options)
    try:
        classed = read_class_folders(root, options if files is None else None)
    except DatasetFormatError as error:
        refusal = error
    # options of a table say that a table is meant, whatever folders stand beside it
    is_asked = files is not None and bool(options.of_a_table)
    if is_asked or classed is None or len(classed.names) < _LEAST_CLASSES:
        try:
            if files is not None:
                return read_class_table(files, options)
        except UnknownColumnError as error:  # it is a table of something else
            if is_asked or (classed is None and refusal is None):
                raise
            refusal = refusal or (error if classed is None else None)
    if refusal is not None:
        raise refusal
    return classed


def read_class_folders(root: Path, options: ClassTableOptions | None) -> ClassedImages | None:
    """Return the images below `root` with classes and splits; None without any.

    An `index.csv` goes before folders; see `read_class_table`. Else folders named after splits hold
    class folders, or `root` itself does; images may stand in folders below these. Image ids are
    paths below `root`; classes are in the order of their names. Splits that are not given, or a
    lone `train`, are made.

    Args:
        root: Folder of the dataset, or its index, of any name and format of a table.
        options: What a user says of its table, or None where that is of another one in it.

    Raises:
        DatasetFormatError: The table is broken, folders of splits stand beside others, or two
            images would get the same id.
        SpecError: The options are of a table, and there is none, or one of them is wrong.
    """
    index = root if is_regular(root) else root / INDEX
    if is_regular(index):
        return read_class_table(TableFiles.of(index), options or ClassTableOptions())
    if options is not None:
        options.require_none(root)
    folders = folders_in(root) if root.is_dir() else []
    splits = {folder: split_name(folder.name) for folder in folders}
    # a class may be called `train`, too, but a class folder holds no folders beside its images
    of_splits = {
        folder for folder, split in splits.items() if split in SPLIT_ORDER and folders_in(folder)
    }
    if of_splits and len(of_splits) < len(folders):
        beside = sorted(folder.name for folder in set(folders) - of_splits)
        problem = f"holds folders of splits beside others: {beside[:5]}; move these elsewhere"
        raise format_error(root, "", problem)
    if folders and not of_splits and set(splits.values()) <= set(SPLIT_ORDER):
        raise format_error(root, "", "holds folders of splits, and no class folders in these")
    by_split = {} if of_splits else {"": folders}
    for folder in sorted(of_splits, key=lambda path: (SPLIT_ORDER.index(splits[path]), path.name)):
        if splits[folder] in by_split:
            raise format_error(root, "", f"holds two folders of split {splits[folder]!r}")
        by_split[splits[folder]] = folders_in(folder)
    images = _collect(root, by_split, sorted((root, *of_splits)))
    return None if images is None else images.with_splits(remedy=_FOLDERS)


def _tables(root: Path, options: ClassTableOptions) -> TableFiles | None:
    """Return the tables that are read where there are no class folders, or None without any."""
    if is_regular(root) or is_regular(root / INDEX):
        return None
    tables = tables_of(root)[0]
    is_silent = not options.of_a_table
    return table_of([] if len(tables) == 1 and is_silent else tables, root)


def _collect(
    root: Path, by_split: Mapping[str, Sequence[Path]], above: Sequence[Path]
) -> ClassedImages | None:
    """Return the images of class folders by split; a split called "" is not given.

    Args:
        root: Folder of the dataset.
        by_split: Class folders by split.
        above: The folders in which they stand; images beside them have no class.
    """
    left_out = LeftOut(root)
    for folder in above:
        note_strays(folder, left_out)
    files_of = {
        (split, folder.name): image_files(folder, left_out)
        for split, folders in by_split.items()
        for folder in folders
    }
    # of all splits together: a class has one number in each of them
    names = sorted({name for (_, name), files in files_of.items() if files})
    if not names:
        return None
    index_of = {name: index for index, name in enumerate(names)}
    images = {
        path.relative_to(root).as_posix(): ClassedImage(str(path), index_of[name], split or None)
        for (split, name), files in files_of.items()
        for path in files
    }
    require_images([image.place for image in images.values()])
    ids = storable_ids(images, root)
    notes = (*left_out.notes(), *storable_note(ids))
    empty = sorted({name for _, name in files_of} - set(names))
    if empty:
        folders = counted(len(empty), "folder")
        notes = (f"{folders} without any image left out, such as {empty[0]!r}", *notes)
    return ClassedImages(
        origin=root,
        names=tuple(map(storable_id, names)),
        images={ids.get(name, name): image for name, image in images.items()},
        report=ReadReport(notes=notes),
    )
