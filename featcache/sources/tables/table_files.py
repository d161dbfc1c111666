"""Find the files of a table in a folder, and tell which of them are one table."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import SeveralTablesError
from ...regular_files import is_regular
from ...table_names import PLACES, folders_of_tables, suffix_of
from ..base import missing_dataset

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
# looked for where there is none of those, so that a folder has one table that had one before
_OTHER_SUFFIXES = (".csv.gz", ".tsv.gz", ".jsonl.gz", ".json", ".json.gz", ".ndjson", ".ndjson.gz")
_ALL_SUFFIXES = (*TABLE_SUFFIXES, *_OTHER_SUFFIXES, ".tab", ".tab.gz")  # the last alike
# tables that are not read, and what to do with them
_REMEDIES = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), "save it as CSV"),
    **dict.fromkeys((".feather", ".arrow", ".orc"), "save it as parquet"),
    **{
        f"{suffix}{packed}": f"unpack it, or pack it as {suffix}.gz"
        for suffix in (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")
        for packed in (".zip", ".bz2", ".xz", ".zst")
    },
}
_SPLITS = {  # by a word in the name of a file
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SHARD = re.compile(r"(.*[-_.])?\d+([-_.]of[-_.]\d+)?([-_.][0-9a-f]{8,})?")
# words in the name of a table that holds the rows of those of splits once more
_WHOLE = frozenset(("all", "full", "whole", "complete", "combined", "total", "everything"))
_METADATA = "metadata"  # what hubs call the table in a folder of images
IN_FOLDER = "\0folder"  # cell, beside those of columns: the folder in which the table stands

Cells = dict[str, Any]


@dataclass(frozen=True)
class TableFiles:
    """Files of one table.

    Attributes:
        files: The files in order, all of one format.
        splits: Split of each by its name or folder, or nothing where these give none.
        folder: Folder that paths in the table start from, or above the files in folders of splits.
        root: Folder of the dataset, below which its images lie.
        left_out: Tables that hold the same rows once more.
        bare: Folders of splits without a table.
    """

    files: tuple[Path, ...]
    splits: tuple[str, ...]
    folder: Path
    root: Path
    left_out: tuple[Path, ...] = ()
    bare: tuple[Path, ...] = ()

    @classmethod
    def of(cls, file: Path, root: Path | None = None) -> "TableFiles":
        """Return a table of one file, in the folder of a dataset or of the file."""
        return cls((file,), (), file.parent, root or file.parent)

    @property
    def name(self) -> Path:
        """Return what messages call the table: its file, or the folder of its files."""
        return self.files[0] if len(self.files) == 1 else self.folder

    @property
    def stand_in_folders(self) -> bool:
        """Return whether the files stand in folders of splits, from which their paths start."""
        return any(file.parent != self.folder for file in self.files)

    def place_of(self, number: int, place: str) -> str:
        """Return a place in one of the files, with its name where there are several."""
        if len(self.files) == 1:
            return place
        return f"{self.files[number].relative_to(self.folder).as_posix()}, {place}"

    def cells_of(self, number: int) -> Cells:
        """Return the cells that all rows of one of the files have by its name and folder."""
        cells: Cells = {"split": self.splits[number]} if self.splits else {}
        if self.stand_in_folders:
            folder = self.files[number].parent.relative_to(self.folder)
            cells[IN_FOLDER] = folder.as_posix()
        return cells

    def notes(self, *, give_splits: bool) -> Iterator[str]:
        """Yield what a user should know of several files, or of one in a folder of a split.

        Args:
            give_splits: Whether their names or folders are where the splits come from.
        """
        if len(self.files) == 1:
            path = self.files[0].relative_to(self.folder).as_posix()
            yield f"{path} is the only table{', split from its folder' if give_splits else ''}"
        else:
            giver = "folders" if self.stand_in_folders else "names"
            splits = f", splits from their {giver}" if give_splits else ""
            yield f"{len(self.files):,} files are read as one table{splits}"
        if self.left_out:
            whole = ", ".join(file.name for file in self.left_out)
            yield f"{whole} left out: its rows are taken to be those of the splits"
        if self.bare:
            bare = ", ".join(folder.relative_to(self.folder).as_posix() for folder in self.bare)
            yield f"no table in {bare}: what stands there is left out"


class Elsewhere(NamedTuple):
    """Tables that are not looked for.

    Attributes:
        below: Those that could be read if they did not stand in a folder of the dataset.
        unread: What to do with those of other formats.
    """

    below: Sequence[Path]
    unread: Mapping[Path, str]


def find_table(root: Path, *, name: str, content: str) -> TableFiles:
    """Return the table of a dataset: `root` itself, or the only one in it.

    Files of one format are one table where the names of all give splits or numbers of shards, and
    all parquet files are. One named like `all.csv` beside those of splits is left out. Without any,
    those in folders of splits are one.

    Args:
        root: Folder of the dataset, or the file.
        name: Name of the dataset.
        content: What its rows hold.

    Raises:
        DatasetNotFoundError: There is no table.
        SeveralTablesError: There are several.
    """
    if is_regular(root):
        return TableFiles.of(root)
    tables = tables_of(root)[0]
    files = table_of(tables, root)
    if files is not None:
        return files
    if not tables:
        looked_for = [f"one file *{suffix}" for suffix in TABLE_SUFFIXES]
        raise missing_dataset(name, root, looked_for, f"It is your own table of {content}.")
    names = [path.name for path in tables]
    raise SeveralTablesError(
        f"{root} holds {len(tables)} tables: {names}; name one by its path, such as {tables[0]}"
    )


def table_of(tables: Sequence[Path], root: Path) -> TableFiles | None:
    """Return the tables of a dataset as one, or None where their names do not say they are.

    Without any they are those that stand in folders called like splits: so does the library
    datasets keep a `metadata.csv`, or parquet files, in `train` and `test`.
    """
    if len(tables) == 1:
        return TableFiles.of(tables[0], root)
    return _joined(tables, root) if tables else _tables_of_splits(root)


def _joined(tables: Sequence[Path], root: Path) -> TableFiles | None:
    # read beside those of splits, it would put every test image into another split, too
    whole = [file for file in tables if not _WHOLE.isdisjoint(_words(file))]
    parts = [file for file in tables if file not in whole]
    if not whole or len(set(map(split_of_name, parts)) - {None}) < 2:
        whole, parts = [], list(tables)
    splits = tuple(split for file in parts if (split := split_of_name(file)))
    is_one = len({suffix_of(file) for file in parts}) == 1 and len(splits) in {0, len(parts)}
    if not is_one or not (splits or _are_shards(parts)):
        return None
    return TableFiles(tuple(parts), splits, parts[0].parent, root, tuple(whole))


def _tables_of_splits(root: Path) -> TableFiles | None:
    for place in (root, root / PLACES[0]):
        files: list[Path] = []
        splits: list[str] = []
        bare: list[Path] = []
        for folder in folders_in(place) if place.is_dir() else ():
            split = _SPLITS.get(folder.name.lower())
            tables = [] if split is None else _tables_of_split(folder)
            files += tables
            splits += [split or ""] * len(tables)
            bare += [folder] if split is not None and not tables else []
        if files and len(set(map(suffix_of, files))) == 1:
            return TableFiles(tuple(files), tuple(splits), place, root, bare=tuple(bare))
    return None


def _tables_of_split(folder: Path) -> list[Path]:
    tables = _preferred(_files_of_tables(folder))
    named = [file for file in tables if stem_of(file) == _METADATA]
    if named or len(tables) < 2:
        return named or tables
    return tables if _are_shards(tables) else []


def tables_of(root: Path) -> tuple[list[Path], list[Path]]:
    """Return the tables of a folder that `find_table` looks at, and those of other suffixes."""
    for folder in folders_of_tables(root):
        files = _files_of_tables(folder)
        tables = _preferred(files)
        if tables:
            return tables, [file for file in files if file not in tables]
    return [], []


def tables_elsewhere(root: Path) -> Elsewhere:
    """Return the tables that `tables_of` passes over, in a folder and directly below it."""
    tables, others = tables_of(root)
    searched = {
        parent.resolve() for parent in (root, *(file.parent for file in (*tables, *others)))
    }
    below: list[Path] = []
    unread: dict[Path, str] = {}
    for folder in (root, *folders_in(root)):
        with suppress(OSError):  # what may not be looked at holds nothing that can be read
            below += [] if folder.resolve() in searched else _files_of_tables(folder)
            for file in _files_in(folder):
                if (remedy := remedy_of(file)) is not None:
                    unread[file] = remedy
    return Elsewhere(below, unread)


def remedy_of(file: Path) -> str | None:
    """Return what to do with a table of a format that is not read; None for all other files."""
    name = file.name.lower()
    if name.startswith("~$"):  # it says that Excel has the file behind it open
        return None
    return next((remedy for end, remedy in _REMEDIES.items() if name.endswith(end)), None)


def _preferred(files: Sequence[Path]) -> list[Path]:
    for suffixes in (TABLE_SUFFIXES, _OTHER_SUFFIXES):
        usual = [file for file in files if file.name.lower().endswith(suffixes)]
        if usual:
            return usual
    return list(files)


def _files_of_tables(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = [file for file in _files_in(folder) if file.name.lower().endswith(_ALL_SUFFIXES)]
    if folder.name == PLACES[1]:  # beside the captions of COCO are its boxes and persons
        captions = [file for file in files if file.name.startswith("captions")]
        files = captions or [file for file in files if suffix_of(file) != ".json"]
    return files


def _files_in(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if not _is_folder(entry)]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in one that are not hidden, in order.

    Raises:
        OSError: It may not be read.
    """
    return [Path(entry.path) for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if entry.name[:1] != "."]
    return sorted(seen, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        return os.path.isdir(entry.path)  # noqa: PTH112  # a link in a circle is none
    return entry.is_dir()


def stem_of(file: Path) -> str:
    """Return the name of a table in lower case, without the suffixes that tell its format."""
    return file.name.lower().removesuffix(".gz").removesuffix(suffix_of(file))


def _words(file: Path) -> list[str]:
    return re.split(r"[^a-z]+", stem_of(file))


def _are_shards(files: Sequence[Path]) -> bool:
    """Return whether files are parquet, or have the same name but for a number at its end."""
    if {suffix_of(file) for file in files} == {".parquet"}:
        return True
    names = [_SHARD.fullmatch(stem_of(file)) for file in files]
    return all(names) and len({name[1] for name in names if name}) == 1


def split_of_name(file: Path) -> str | None:
    """Return the split that the name of a file gives, if it gives one.

    >>> [split_of_name(Path(name)) for name in ("train-0-of-2.csv", "captions_val2017.json")]
    ['train', 'val']
    """
    splits = {_SPLITS[word] for word in _words(file) if word in _SPLITS}
    return splits.pop() if len(splits) == 1 else None
