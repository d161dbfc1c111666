"""Find the stores and pair lists below a home folder."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from .. import atomic_files, notes
from ..documents import check
from ..errors import LightalignError, StoreCorruptError, StoreNotFoundError
from ..home import command_line, home_of_features
from ..types import Classes, Grades, Pairs
from .key import StoreDescription
from .manifest import COPY, MANIFEST, has_manifest, named_key, read_manifest, read_whole_manifest

_KEY_DIGITS = 8
_NAME_DIGITS = 12  # of the key, in the name of a store's folder
_LARGEST_PAIRS = 2**32  # bytes: those of 50 million captions


class _ClassesTable(TypedDict):
    names: list[str]
    of_image: dict[str, int]


class _GradesTable(TypedDict):
    links: list[tuple[str, str, float]]
    lowest: float
    highest: float
    binary: bool


class _PairsFile(TypedDict):
    image_ids: list[str]
    text_ids: list[str]
    links: list[tuple[str, str]]
    classes: NotRequired[_ClassesTable]
    grades: NotRequired[_GradesTable]
    text_marks: NotRequired[list[str]]  # came later
    file: NotRequired[str]  # its own name, came later still


@dataclass(frozen=True)
class StoreEntry:
    """Store on disk, complete or not, as its manifest says.

    When that was written, `changed`, is in seconds since the epoch.
    """

    folder: Path
    description: StoreDescription
    key: str
    complete: bool
    changed: float

    @property
    def encoder_key(self) -> str:
        """Return the hash of what decides a feature but for the item; see `key.encoder_key`."""
        return self.description.encoder_key


@dataclass(frozen=True)
class Unread:
    """Store, or folder of stores, that cannot be read; the reason, a line, names the file."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Catalog:
    """Stores below a home folder, and the stores and folders there that cannot be read.

    Attributes:
        home: Folder of everything lightalign keeps.
        entries: All stores whose manifest can be read, or else the copy of it, newest first: one
            with a damaged manifest is refused when it is opened, and no other takes its place.
        unread: Each other store, and each folder that may not be read.
    """

    home: Path
    entries: Sequence[StoreEntry]
    unread: Sequence[Unread]

    @cached_property
    def _complete(self) -> dict[str, StoreEntry]:
        return {entry.key: entry for entry in self.entries if entry.complete}

    def get(self, key: str) -> StoreEntry | None:
        """Return the complete store of a key, or None."""
        return self._complete.get(key)

    def why_missing(self, key: str) -> str:
        """Return why `get` finds none, as the end of a sentence on it."""
        if any(entry.key == key for entry in self.entries):
            return f"is not complete in {self.home}"
        for unread in self.unread:
            if unread.folder.name.endswith(f"--{key[:_NAME_DIGITS]}"):
                return f"cannot be read: {unread}"
        return f"is not in {self.home}{self.unread_line()}"

    def unread_line(self) -> str:
        """Return what a message that a store was not found ends with; nothing if all is read."""
        if not self.unread:
            return ""
        more = f", and {len(self.unread) - 1} more" if len(self.unread) > 1 else ""
        return f"; not readable: {self.unread[0]}{more}"


def read_catalog(home: Path, place: str = "*/*") -> Catalog:
    """Read all stores below `home`, or those of one `DATASET/SPLIT`."""
    folders, unread = _look_for_stores(home, place)
    outcomes = [_read_entry(folder) for folder in folders]
    entries = [outcome for outcome in outcomes if isinstance(outcome, StoreEntry)]
    unread += [outcome for outcome in outcomes if isinstance(outcome, Unread)]
    # by folder among those of one age, so that each command takes the same store
    entries.sort(key=lambda entry: (-entry.changed, str(entry.folder)))
    return Catalog(home, entries, unread)


def list_stores(home: Path, place: str = "*/*") -> list[StoreEntry]:
    """List the stores of `read_catalog`; what cannot be read answers no request."""
    return list(read_catalog(home, place).entries)


def note_unread(unread: Unread) -> None:
    """Name a store that is passed over, once a command."""
    notes.note(f"a store is passed over: {unread}")


def manifest_folders(home: Path, place: str = "*/*") -> list[Path]:
    """List all folders below `home`, or of one `DATASET/SPLIT`, with a manifest or its copy.

    They are in the order of their names, readable or not.
    """
    return _look_for_stores(home, place)[0]


def unreadable_folders(home: Path) -> list[Unread]:
    """Return the folders in which stores may lie and that may not be read."""
    return _look_for_stores(home, "*/*")[1]


def _look_for_stores(home: Path, place: str) -> tuple[list[Path], list[Unread]]:
    """Return the folders with a manifest, and those that may not be read."""
    # level by level, as a glob passes in silence over folders that may not be read
    unread: list[Unread] = []
    folders = [home / "features"]
    for name in (*place.split("/"), "*"):
        folders = [
            child
            for folder in folders
            for child in _children(folder, unread)
            if name in {"*", child.name}
            and not atomic_files.is_temporary(child)
            and _is_folder(child, unread)
        ]
    names = {MANIFEST, COPY}
    stores = [
        store for store in folders if any(path.name in names for path in _children(store, unread))
    ]
    return sorted(stores), unread


def _children(folder: Path, unread: list[Unread]) -> list[Path]:
    """Return what a folder holds; one that may not be read is named in `unread`."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:  # never made, or removed meanwhile
        return []
    except OSError as error:
        unread.append(Unread(folder, f"{folder} cannot be read: {error.strerror}"))
        return []


def _is_folder(path: Path, unread: list[Unread]) -> bool:
    """Return whether a path is a folder; where that may not be asked, `unread` names where once."""
    try:
        return path.is_dir()
    except OSError as error:
        closed = Unread(path.parent, f"{path.parent} cannot be read: {error.strerror}")
        if closed not in unread:
            unread.append(closed)
        return False


def find_store(home: Path, name: str) -> Path:
    """Return a store's folder by its path, its name below `features`, or the start of its key.

    The start of a key is eight digits or more.

    Raises:
        StoreNotFoundError: No store, or more than one, has this name.
    """
    for folder in (Path(name), home / "features" / name):
        if has_manifest(folder):
            return folder
    catalog = read_catalog(home)
    entries = catalog.entries
    is_key = len(name) >= _KEY_DIGITS  # fewer may be a slip, and `cache rm` removes what is found
    matches = [entry.folder for entry in entries if is_key and entry.key.startswith(name)]
    if is_key and not matches:  # one that cannot be read goes by what its folder says
        starts = {unread.folder: named_key(unread.folder) for unread in catalog.unread}
        matches = [
            folder
            for folder, start in starts.items()
            if start and (start.startswith(name) or name.startswith(start))
        ]
    if len(matches) != 1:
        names = [str(entry.folder.relative_to(home / "features")) for entry in entries]
        what = f"{len(matches)} stores have the key" if matches else "no store is called"
        raise StoreNotFoundError(
            f"{what} {name!r} in {home}; known: {names or 'none'}{catalog.unread_line()}"
        )
    return matches[0]


def _read_entry(folder: Path) -> StoreEntry | Unread:
    """Return the store in a folder, by the copy if its manifest is damaged, or what is wrong."""
    entry = _read_manifest(folder, MANIFEST)
    if isinstance(entry, StoreEntry):
        return entry
    copied = _read_manifest(folder, COPY)
    if isinstance(copied, StoreEntry):
        return copied
    try:
        read_whole_manifest(folder)
    except StoreCorruptError as error:  # which says how it is removed
        return Unread(folder, str(error))
    except (LightalignError, OSError):
        pass
    return Unread(folder, entry)


def _read_manifest(folder: Path, name: str) -> StoreEntry | str:
    """Return the store that a manifest or its copy describes, or what is wrong with it."""
    try:
        manifest = read_manifest(folder, name)
        times = folder / (MANIFEST if (folder / MANIFEST).is_file() else name)
        changed = times.stat().st_mtime
    except LightalignError as error:
        return str(error)
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror}"
    return StoreEntry(
        folder=folder,
        description=StoreDescription(**manifest["description"]),
        key=manifest["key"],
        complete=manifest["complete"],
        changed=changed,
    )


def pairs_path(home: Path, dataset: str, split: str, source: str) -> Path:
    """Return where the pairs of one split lie; `source` is the source's fingerprint."""
    return home / "features" / dataset / split / f"pairs--{source[:12]}.json"


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write `pairs` beside the stores, so that training and evaluation need the stores alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {name: part for name, part in vars(pairs).items() if part is not None}
    labels: dict[str, Any] = {
        name: vars(parts[name]) for name in ("classes", "grades") if name in parts
    }
    # its own name, so that those of another source are not taken for these
    atomic_files.write_sealed(path, {**parts, **labels, "file": path.name})


def read_pairs(path: Path) -> Pairs:
    """Read the pairs of one split.

    Raises:
        StoreCorruptError: The file is missing or holds no pairs.
        PermissionError: It may not be read.
    """
    try:
        table = check(atomic_files.read_sealed(path, limit=_LARGEST_PAIRS), _PairsFile, where=path)
        _check_pairs(table, path.name)
        classes, grades, marks = (table.get(name) for name in ("classes", "grades", "text_marks"))
        return Pairs(
            tuple(table["image_ids"]),
            tuple(table["text_ids"]),
            tuple((image, text) for image, text in table["links"]),
            classes=_classes(classes, table["image_ids"]) if classes else None,
            grades=_grades(grades) if grades else None,
            text_marks=None if marks is None else tuple(marks),
        )
    except PermissionError:
        raise  # they may be whole
    except (OSError, ValueError) as error:
        raise StoreCorruptError(
            f"cannot read the pairs in {path}: {error}; {_remedy(path)}"
        ) from error


def _remedy(path: Path) -> str:
    """Return what to do with pairs that cannot be read: any store of their split mends them."""
    home = home_of_features(path)
    if home is None:
        return "replace it by a whole copy"
    return f"`{command_line('cache', 'repair', home=home)}` restores it"


def _check_pairs(table: _PairsFile, name: str) -> None:
    """Refuse the pairs of another source, ids that are there twice, and pairs of absent ids."""
    # earlier versions wrote no name
    if table.get("file", name) != name:
        raise ValueError(f"they are those of {table['file']!r:.80}")
    if len(table.get("text_marks", table["text_ids"])) != len(table["text_ids"]):
        raise ValueError("there are not as many marks as texts")
    images, texts = _once(table["image_ids"], "image"), _once(table["text_ids"], "text")
    pairs = ((image in images and text in texts, (image, text)) for image, text in table["links"])
    grades = table["grades"]["links"] if "grades" in table else []
    graded = ((first in texts and other in texts, (first, other)) for first, other, _ in grades)
    for is_known, pair in itertools.chain(pairs, graded):
        if not is_known:
            raise ValueError(f"the pair {pair!r:.160} is of an id that is not there")


def _once(ids: Sequence[str], what: str) -> set[str]:
    distinct = set(ids)
    if len(distinct) != len(ids):
        raise ValueError(f"an id is that of more than one {what}")
    return distinct


def _classes(table: _ClassesTable, image_ids: Sequence[str]) -> Classes:
    if table["of_image"].keys() != set(image_ids):
        raise ValueError("the images with a class are other ones than the images")
    every = range(len(table["names"]))
    outside = [image for image, number in table["of_image"].items() if number not in every]
    if outside:
        raise ValueError(f"image {outside[0]!r} is of a class that has no name")
    return Classes(tuple(table["names"]), table["of_image"])


def _grades(table: _GradesTable) -> Grades:
    numbers = [*(grade for _, _, grade in table["links"]), table["lowest"], table["highest"]]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("a grade is not a finite number")
    return Grades(
        links=tuple((first, second, float(grade)) for first, second, grade in table["links"]),
        lowest=table["lowest"],
        highest=table["highest"],
        binary=table["binary"],
    )
