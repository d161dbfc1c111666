"""Read images that stand in a folder for each class, or are listed in a table."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ...errors import DatasetFormatError, UnknownColumnError
from ...item_ids import storable_id
from ...regular_files import is_regular
from ..splits import split_name
from ..tables.decoding import format_error
from ..tables.table import TableFiles, joined_tables, tables_of, tables_of_splits
from .caption_source import counted, storable_ids, storable_note
from .class_source import SPLITS, Classed, ClassedImages, PictureFiles, with_hashed_class_splits
from .class_tables import ClassTableOptions, Reading, read_class_table
from .image_files import LeftOut, image_files, note_strays

INDEX = "index.csv"
LAYOUTS = (INDEX, "SPLIT/CLASS/image.jpg", "CLASS/image.jpg")
_LEAST_CLASSES = 2
_FOLDERS = f"put class folders into train, val and test, or add a split column to {INDEX}"


def read_classes(root: Path, options: ClassTableOptions) -> Classed | None:
    """Return what `read_class_folders` does, or the images of the tables in `root`.

    Several are one table where their names or folders give splits, or are those of shards; a single
    one is read where options name its columns. Class folders go before them, of which there are two
    or more, unless options say how a table is to be read.

    For arguments and errors see `read_class_folders`.
    """
    refusal: DatasetFormatError | None = None
    classed: Classed | None = None
    files = _tables(root, options)
    try:
        classed = read_class_folders(root, options if files is None else None)
    except DatasetFormatError as error:
        refusal = error
    is_asked = files is not None and not options.is_silent
    if is_asked or classed is None or len(classed.images.names) < _LEAST_CLASSES:
        try:
            if files is not None:
                return _read_table(files, options)
        except UnknownColumnError as error:  # it is a table of something else
            if is_asked or (classed is None and refusal is None):
                raise
            refusal = refusal or (error if classed is None else None)
    if refusal is not None:
        raise refusal
    return classed


def read_class_folders(root: Path, options: ClassTableOptions | None) -> Classed | None:
    """Return the images below `root` with classes and splits; None without any.

    An `index.csv` goes before folders; see `read_class_table`. Else folders named after splits hold
    class folders, or `root` itself does; images may stand in folders below these. Image ids are
    paths below `root`; classes are in the order of their names. Splits that are not given, or a
    lone `train`, are made by `with_hashed_class_splits`.

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
        return _read_table(TableFiles.of(index), options or ClassTableOptions())
    if options is not None:
        options.require_none(root)
    collected = _read_folders(root)
    if collected is None:
        return None
    images, paths = collected
    return Classed(_with_splits(images, _FOLDERS), PictureFiles(paths))


def _tables(root: Path, options: ClassTableOptions) -> TableFiles | None:
    """Return the tables that are read where there are no class folders, or None without any."""
    if is_regular(root) or is_regular(root / INDEX):
        return None
    tables = tables_of(root)[0]
    if len(tables) == 1 and not options.is_silent:
        return TableFiles.of(tables[0], root)
    return joined_tables(tables, root) if len(tables) > 1 else tables_of_splits(root)


def _read_table(
    files: TableFiles, options: ClassTableOptions, reading: Reading | None = None
) -> Classed:
    classed = read_class_table(files, options, reading)
    before = next(iter(classed.before), None)
    images = _with_splits(classed.images, f"add a column 'split' to {files.name.name}")
    read_before = None if before is None else partial(_read_table, files, options, before)
    return Classed(images, classed.pictures, read_before, classed.doubt)


def _with_splits(images: ClassedImages, way: str) -> ClassedImages:
    if set(images.split_of.values()) <= {"train"}:
        return with_hashed_class_splits(images, remedy=f"to choose, {way}")
    return images


def _read_folders(root: Path) -> tuple[ClassedImages, dict[str, Path]] | None:
    folders = _folders(root)
    splits = {folder: split_name(folder.name) for folder in folders}
    # a class may be called `train`, too, but a class folder holds no folders beside its images
    is_split = {one for one, split in splits.items() if split in SPLITS and _folders(one)}
    if is_split and len(is_split) < len(folders):
        others = sorted(folder.name for folder in set(folders) - is_split)
        problem = f"holds folders of splits beside others: {others[:5]}; move these elsewhere"
        raise format_error(root, "", problem)
    if folders and not is_split and set(splits.values()) <= set(SPLITS):
        raise format_error(root, "", "holds folders of splits, and no class folders in these")
    if not is_split:
        return _collect(root, {"": {folder.name: folder for folder in folders}}, (root,))
    by_split: dict[str, dict[str, Path]] = {}
    for folder in sorted(is_split, key=lambda one: (SPLITS.index(splits[one]), one.name)):
        if splits[folder] in by_split:
            raise format_error(root, "", f"holds two folders of split {splits[folder]!r}")
        by_split[splits[folder]] = {one.name: one for one in _folders(folder)}
    return _collect(root, by_split, (root, *is_split))


def _collect(
    root: Path, by_split: Mapping[str, Mapping[str, Path]], above: Sequence[Path]
) -> tuple[ClassedImages, dict[str, Path]] | None:
    """Return the images of class folders by split; a split called "" is not given.

    Args:
        root: Folder of the dataset.
        by_split: Class folders by split and name.
        above: The folders in which they stand; images beside them have no class.
    """
    left_out = LeftOut(root)
    for folder in sorted(above):
        note_strays(folder, left_out)
    files_of = {
        (split, name): image_files(folder, left_out)
        for split, folders in by_split.items()
        for name, folder in sorted(folders.items())
    }
    names = sorted({name for (_, name), paths in files_of.items() if paths})
    if not names:
        return None
    index_of = {name: index for index, name in enumerate(names)}
    paths = {
        path.relative_to(root).as_posix(): path for files in files_of.values() for path in files
    }
    ids = storable_ids(paths, root)
    class_of: dict[str, int] = {}
    split_of: dict[str, str] = {}
    for (split, name), files in files_of.items():
        for path in files:
            image = path.relative_to(root).as_posix()
            image_id = ids.get(image, image)
            class_of[image_id] = index_of[name]
            if split:
                split_of[image_id] = split
    notes = storable_note(ids)
    empty = sorted({name for _, name in files_of} - set(names))
    notes = (*left_out.notes(), *notes)
    if empty:
        folders = counted(len(empty), "folder")
        notes = (f"{folders} without any image left out, such as {empty[0]!r}", *notes)
    images = ClassedImages(root, tuple(map(storable_id, names)), class_of, split_of, notes)
    return images, {ids.get(image, image): path for image, path in paths.items()}


def _folders(root: Path) -> Sequence[Path]:
    if not root.is_dir():
        return ()
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[:1] != ".")
