"""Read images that stand in a folder for each class, or are listed in an `index.csv`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..item_ids import storable_id
from ..regular_files import is_regular
from ._caption_source import counted, split_name, storable_ids, storable_note
from ._class_source import SPLITS, ClassedImages, with_hashed_class_splits
from ._decoding import format_error, unknown_column
from ._image_files import LeftOut, image_files, note_strays
from ._picture_places import PicturePlaces
from ._tables import (
    CLASS_NAMES,
    IMAGE_NAMES,
    Cells,
    Table,
    TableFiles,
    open_table,
    optional_column,
    usual_columns,
)

INDEX = "index.csv"
LAYOUTS = (INDEX, "SPLIT/CLASS/image.jpg", "CLASS/image.jpg")
_MOST_DIGITS = 18  # of the number of a class; int() refuses some thousands of them
_FOLDERS = f"put class folders into train, val and test, or add a split column to {INDEX}"


def read_class_folders(
    root: Path, *, allowed: str | None = None
) -> tuple[ClassedImages, dict[str, Path]] | None:
    """Return the images below `root` with classes and splits, and their files; None without any.

    An `index.csv` with the columns `image` (path below `root`) and `class`, or of the other usual
    names, and perhaps `label` (number of the class, from 0) and `split`, goes before folders. Else
    folders named after splits hold class folders, or `root` itself does; images may stand in
    folders below these. Image ids are paths below `root`; classes are in the order of their labels,
    else of their names. Splits that are not given, or a lone `train`, are made by
    `with_hashed_class_splits`.

    Args:
        root: Folder of the dataset, or its index, of any name and format of a table.
        allowed: Absolute path of a folder below which images of the index may lie, too.

    Raises:
        DatasetFormatError: The index is broken or names an image elsewhere, folders of splits stand
            beside others, or two images would get the same id.
        SpecError: `allowed` is no absolute path of a folder.
    """
    index = root if is_regular(root) else root / INDEX
    if is_regular(index):
        images, paths = _read_index(index, allowed)
    else:
        found = _read_folders(root)
        if found is None:
            return None
        images, paths = found
    if set(images.split_of.values()) <= {"train"}:
        way = f"add a column 'split' to {index.name}" if is_regular(index) else _FOLDERS
        images = with_hashed_class_splits(images, remedy=f"to choose, {way}")
    return images, paths


def _read_index(file: Path, allowed: str | None) -> tuple[ClassedImages, dict[str, Path]]:
    table = open_table(TableFiles.of(file))
    images_in, classes_in = _column(table, IMAGE_NAMES), _column(table, CLASS_NAMES)
    label_in, split_in = optional_column(table, "label"), optional_column(table, "split")
    optional = [name for name in (label_in, split_in) if name is not None]
    class_of: dict[str, str] = {}
    split_of: dict[str, str] = {}
    labels: dict[str, int] = {}
    paths: dict[str, Path] = {}
    places = PicturePlaces(file, file.parent, allowed)
    rows = list(table.read(list(dict.fromkeys([images_in, classes_in, *optional]))))
    table.ledger.check(len(rows))
    written = [_cell(file, place, cells, images_in) for place, cells in rows]
    if classes_in == label_in and not all(
        _is_number(_cell(file, place, cells, classes_in)) for place, cells in rows
    ):
        label_in = None  # these are names, of no order
    id_of = places.ids_of(dict.fromkeys(written))
    for (place, cells), image_as_written in zip(rows, written, strict=True):
        image, name = id_of[image_as_written], _cell(file, place, cells, classes_in)
        _set(class_of, image, name, "class", file, place)
        path = places.path_of(image_as_written, place)
        paths.setdefault(image, path)
        if split_in is not None:
            split = split_name(_cell(file, place, cells, split_in))
            _set(split_of, image, split, "split", file, place)
        if label_in is not None:
            _add_label(labels, name, _cell(file, place, cells, label_in), file, place)
    if not class_of:
        raise format_error(file, "", "names no images")
    places.check()
    names = sorted(set(class_of.values()), key=lambda name: (labels.get(name, 0), name))
    index_of = {name: index for index, name in enumerate(names)}
    ids = storable_ids(class_of, file)
    images = ClassedImages(
        file,
        tuple(map(storable_id, names)),
        {ids.get(image, image): index_of[name] for image, name in class_of.items()},
        {ids.get(image, image): split for image, split in split_of.items()},
        (*table.notes, *table.ledger.notes(), *storable_note(ids)),
        tuple(table.ledger.rows),
    )
    return images, {ids.get(image, image): path for image, path in paths.items()}


def _column(table: Table, usual: Sequence[str]) -> str:
    known = usual_columns(table, usual)
    if not known:
        problem = f"has no column {usual[0]!r}; columns: {list(table.columns)}"
        raise unknown_column(table.file, problem)
    return known[0]


def _set(table: dict[str, str], image: str, value: str, what: str, file: Path, place: str) -> None:
    if table.setdefault(image, value) != value:
        problem = f"{image!r} is of {what} {value!r}, but was of {table[image]!r}"
        raise format_error(file, place, problem)


def _cell(file: Path, place: str, cells: Cells, column: str) -> str:
    cell = cells.get(column)
    text = "" if cell is None else str(cell).strip()
    if not text:
        raise format_error(file, place, f"column {column!r} is empty")
    return text


def _add_label(labels: dict[str, int], name: str, label: str, file: Path, place: str) -> None:
    if not _is_number(label):
        raise format_error(file, place, f"label {label!r} is no number from 0 up")
    known = labels.setdefault(name, int(label))
    if known != int(label):
        raise format_error(file, place, f"class {name!r} has label {label}, but had {known}")


def _is_number(label: str) -> bool:
    return label.isdecimal() and len(label) <= _MOST_DIGITS


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
    found = {
        (split, name): image_files(folder, left_out)
        for split, folders in by_split.items()
        for name, folder in sorted(folders.items())
    }
    names = sorted({name for (_, name), paths in found.items() if paths})
    if not names:
        return None
    index_of = {name: index for index, name in enumerate(names)}
    paths = {path.relative_to(root).as_posix(): path for files in found.values() for path in files}
    ids = storable_ids(paths, root)
    class_of: dict[str, int] = {}
    split_of: dict[str, str] = {}
    for (split, name), files in found.items():
        for path in files:
            image = path.relative_to(root).as_posix()
            image_id = ids.get(image, image)
            class_of[image_id] = index_of[name]
            if split:
                split_of[image_id] = split
    notes = storable_note(ids)
    empty = sorted({name for _, name in found} - set(names))
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
