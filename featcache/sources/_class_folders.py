"""Read images that stand in a folder for each class, or are listed in an `index.csv`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..item_ids import storable_id
from ..regular_files import is_regular
from ._caption_files import format_error
from ._caption_source import counted, split_name, storable_ids, storable_note
from ._class_source import SPLITS, ClassedImages, with_hashed_class_splits
from ._tables import Cells, open_table

INDEX = "index.csv"
LAYOUTS = (INDEX, "SPLIT/CLASS/image.jpg", "CLASS/image.jpg")
_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".avif")
)
_MOST_DIGITS = 18  # of the number of a class; int() refuses some thousands of them
_REMEDY = f"to choose, put class folders into train, val and test, or add a split column to {INDEX}"


def read_class_folders(root: Path) -> tuple[ClassedImages, dict[str, Path]] | None:
    """Return the images below `root` with classes and splits, and their files; None without any.

    An `index.csv` with the columns `image` (path below `root`) and `class`, and perhaps `label`
    (number of the class, from 0) and `split`, goes before folders. Else folders named after splits
    hold class folders, or `root` itself does; images may stand in folders below these. Image ids
    are paths below `root`; classes are in the order of their labels, else of their names. Splits
    that are not given, or a lone `train`, are made by `with_hashed_class_splits`.

    Raises:
        DatasetFormatError: The index is broken, folders of splits stand beside others, or two
            images would get the same id.
    """
    if is_regular(root / INDEX):
        images, paths = _read_index(root / INDEX)
    else:
        found = _read_folders(root)
        if found is None:
            return None
        images, paths = found
    if set(images.split_of.values()) <= {"train"}:
        images = with_hashed_class_splits(images, remedy=_REMEDY)
    return images, paths


def _read_index(file: Path) -> tuple[ClassedImages, dict[str, Path]]:
    table = open_table(file)
    lacking = [name for name in ("image", "class") if name not in table.columns]
    if lacking:
        problem = f"has no column {lacking[0]!r}; columns: {list(table.columns)}"
        raise format_error(file, "", problem)
    optional = [name for name in ("label", "split") if name in table.columns]
    class_of: dict[str, str] = {}
    split_of: dict[str, str] = {}
    labels: dict[str, int] = {}
    for place, cells in table.read(["image", "class", *optional]):
        image, name = _cell(file, place, cells, "image"), _cell(file, place, cells, "class")
        if class_of.setdefault(image, name) != name:
            problem = f"{image!r} is of class {name!r}, but was of {class_of[image]!r}"
            raise format_error(file, place, problem)
        if "split" in optional:
            split = split_name(_cell(file, place, cells, "split"))
            if split_of.setdefault(image, split) != split:
                problem = f"{image!r} is of split {split!r}, but was of {split_of[image]!r}"
                raise format_error(file, place, problem)
        if "label" in optional:
            _add_label(labels, name, _cell(file, place, cells, "label"), file, place)
    if not class_of:
        raise format_error(file, "", "names no images")
    names = sorted(set(class_of.values()), key=lambda name: (labels.get(name, 0), name))
    index_of = {name: index for index, name in enumerate(names)}
    ids = storable_ids(class_of, file)
    images = ClassedImages(
        file,
        tuple(map(storable_id, names)),
        {ids.get(image, image): index_of[name] for image, name in class_of.items()},
        {ids.get(image, image): split for image, split in split_of.items()},
        storable_note(ids),
    )
    return images, {ids.get(image, image): file.parent / image for image in class_of}


def _cell(file: Path, place: str, cells: Cells, column: str) -> str:
    text = str(cells[column]).strip()
    if not text:
        raise format_error(file, place, f"column {column!r} is empty")
    return text


def _add_label(labels: dict[str, int], name: str, label: str, file: Path, place: str) -> None:
    if not label.isdecimal() or len(label) > _MOST_DIGITS:
        raise format_error(file, place, f"label {label!r} is no number from 0 up")
    known = labels.setdefault(name, int(label))
    if known != int(label):
        raise format_error(file, place, f"class {name!r} has label {label}, but had {known}")


def _read_folders(root: Path) -> tuple[ClassedImages, dict[str, Path]] | None:
    folders = _folders(root)
    splits = {folder: split_name(folder.name) for folder in folders}
    # a class may be called `train`, too, but a class folder holds no folders beside its images
    is_split = {one for one, split in splits.items() if split in SPLITS and _folders(one)}
    if is_split and len(is_split) < len(folders):
        others = sorted(folder.name for folder in set(folders) - is_split)
        problem = f"holds folders of splits beside others: {others[:5]}; move these elsewhere"
        raise format_error(root, "", problem)
    if not is_split:
        return _collect(root, {"": {folder.name: folder for folder in folders}})
    by_split: dict[str, dict[str, Path]] = {}
    for folder in sorted(is_split, key=lambda one: (SPLITS.index(splits[one]), one.name)):
        if splits[folder] in by_split:
            raise format_error(root, "", f"holds two folders of split {splits[folder]!r}")
        by_split[splits[folder]] = {one.name: one for one in _folders(folder)}
    return _collect(root, by_split)


def _collect(
    root: Path, by_split: Mapping[str, Mapping[str, Path]]
) -> tuple[ClassedImages, dict[str, Path]] | None:
    """Return the images of class folders by split; a split called "" is not given."""
    found = {
        (split, name): list(_image_files(folder))
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
    if empty:
        left_out = counted(len(empty), "folder")
        notes = (f"{left_out} without any image left out, such as {empty[0]!r}", *notes)
    images = ClassedImages(root, tuple(map(storable_id, names)), class_of, split_of, notes)
    return images, {ids.get(image, image): path for image, path in paths.items()}


def _folders(root: Path) -> Sequence[Path]:
    if not root.is_dir():
        return ()
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[:1] != ".")


def _image_files(folder: Path) -> Iterator[Path]:
    """Yield the images of a class in a stable order, in folders below it, too; none is hidden.

    Raises:
        DatasetFormatError: There are hundreds of folders in one another.
    """
    try:
        below = sorted(folder.rglob("*"))
    except RecursionError as error:
        raise format_error(folder, "", "holds too many folders in one another") from error
    for path in below:
        hidden = any(part[:1] == "." for part in path.relative_to(folder).parts)
        if path.suffix.lower() in _SUFFIXES and not hidden and is_regular(path):
            yield path
