"""Datasets that a home remembers: the versions of each name.

`HOME/known-datasets/NAME.toml` holds the versions of a dataset, the newest last. A version is a
kind, a place, the options that it is read with, and the fingerprint of every split: a run that was
trained on one split finds by it the others of the same data, whatever the name stands for now.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from typing_extensions import NotRequired, TypedDict

from . import atomic_files
from .config import fingerprint, to_toml
from .documents import check, read_toml
from .errors import DatasetNotFoundError, LightalignError, SpecError, StoreCorruptError
from .file_locks import FileLock
from .home import command_line, is_same_place
from .regular_files import is_regular, is_there
from .table_names import folders_of_tables, is_table_name

FOLDER = "known-datasets"
_SCHEMA = 1
_MOST_NAME = 100  # bytes of UTF-8: it names folders
_NAME = re.compile(r"\w[\w.-]*")
_OF_HUB = re.compile(r"(hf:/*)?\w[\w.-]*(/[\w.-]+)+")


class _VersionTable(TypedDict):
    kind: str
    place: NotRequired[str]
    options: NotRequired[dict[str, Any]]
    splits: NotRequired[dict[str, str]]


class _Table(TypedDict):
    schema: int
    checksum: str
    versions: list[_VersionTable]


@dataclass(frozen=True, kw_only=True)
class DatasetVersion:
    """Version of a dataset that a name stands for, or stood for.

    Attributes:
        name: Name of the dataset.
        kind: Name of the family that reads it.
        place: Absolute path of its folder or file, or None of one that is drawn.
        options: Options of the family that differ from its defaults.
        splits: `Source.fingerprint` by split; empty until it was opened.
    """

    name: str
    kind: str
    place: Path | None
    options: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> str:
        """Return it as `--data` names it: `NAME=PATH`, or `NAME` of one that is drawn."""
        return self.name if self.place is None else f"{self.name}={self.place}"

    def words(self) -> list[str]:
        """Return the options of a command that name exactly this version."""
        return ["--data", self.data, *source_words(self.options)]


def source_words(options: Mapping[str, Any]) -> list[str]:
    """Return the options of a command that set options of a dataset."""
    return set_words({f"source.{name}": value for name, value in options.items()})


def set_words(changes: Mapping[str, Any]) -> list[str]:
    """Return the options of a command that set values by name."""
    return [
        word
        for name, value in changes.items()
        for word in ("--set", f"{name}={json.dumps(value, ensure_ascii=False)}")
    ]


def written_name(name: str) -> str:
    """Return a name as it is remembered: with hyphens, and in one composition of its letters."""
    return unicodedata.normalize("NFC", name.strip().replace("_", "-"))


def is_name(name: str) -> bool:
    """Return whether a dataset can have this name."""
    return bool(_NAME.fullmatch(name)) and len(name.encode("utf-8", "replace")) <= _MOST_NAME


def checked_name(name: str) -> str:
    """Return a name that a dataset can have.

    Raises:
        SpecError: It could not be the name of a folder.
    """
    if not is_name(name):
        hint = (
            "; of one of the Hugging Face hub download the files, and name their place: NAME=PATH"
        )
        raise SpecError(
            f"{name!r:.200} cannot name a dataset: it may hold letters, digits, '.', '_' and '-', "
            f"and begins with a letter or digit; at most {_MOST_NAME} bytes"
            f"{hint if _OF_HUB.fullmatch(name) else ''}"
        )
    return name


def read_versions(home: Path, name: str) -> tuple[DatasetVersion, ...]:
    """Return all versions of a name, the newest last; none if it is not known.

    Raises:
        StoreCorruptError: The file is not as it was written.
        OSError: It may not be read.
    """
    path = _path(home, name)
    if not is_name(name) or not is_there(path):
        return ()
    try:
        table = read_toml(path)
        check(table, _Table, where=path)
        _check_seal(table, name, path)
    except (SpecError, StoreCorruptError) as error:
        forget = command_line("data", "rm", name, home=home)
        raise StoreCorruptError(
            f"what is remembered of dataset {name!r} is damaged: {error}; forget it by `{forget}`"
        ) from error
    return tuple(_version(name, entry) for entry in table["versions"])


def _check_seal(table: Mapping[str, Any], name: str, path: Path) -> None:
    if table["checksum"] != fingerprint(_sealed(name, table["versions"])):
        raise StoreCorruptError(f"{path}: checksum differs")


def newest(home: Path, name: str) -> DatasetVersion | None:
    """Return the newest version of a name, or None if the home has none; see `read_versions`."""
    versions = read_versions(home, name)
    return versions[-1] if versions else None


def version_at(home: Path, name: str, place: Path | None) -> DatasetVersion | None:
    """Return the newest version that lies at a place; of no place, or another, the newest.

    A table lies at its folder, too.

    Raises:
        StoreCorruptError: See `read_versions`.
    """
    versions = read_versions(home, name)
    there = [version for version in versions if place is not None and lies_at(version, place)]
    return next(reversed(there or versions), None)


def lies_at(version: DatasetVersion, place: Path) -> bool:
    """Return whether a version lies at a place, or is a table in that folder."""
    if is_same_place(version.place, place):
        return True
    return any(is_same_place(version.place, path) for path in _tables_called_alike(version, place))


def place_in(version: DatasetVersion, place: Path) -> Path:
    """Return the table of the same name in a folder, or the folder where there is none."""
    tables = [table for table in _tables_called_alike(version, place) if is_regular(table)]
    if version.place is not None and any(is_same_place(version.place, path) for path in tables):
        return version.place
    return tables[0] if tables else place


def _tables_called_alike(version: DatasetVersion, folder: Path) -> list[Path]:
    """Return the paths at which the table of a version may lie in a folder."""
    if version.place is None or not is_table_name(version.place):
        return []
    return [parent / version.place.name for parent in folders_of_tables(folder)]


def version_of(home: Path, name: str, split: str, source: str) -> DatasetVersion | None:
    """Return the newest version of a dataset that has a split of this fingerprint.

    Raises:
        StoreCorruptError: See `read_versions`.
    """
    try:
        versions = read_versions(home, name)
    except PermissionError:  # a memory that may not be read is none
        return None
    of_split = (version for version in reversed(versions) if version.splits.get(split) == source)
    return next(of_split, None)


def kind_of(home: Path, name: str, split: str, source: str) -> str:
    """Return the family of a dataset: that of the version it was extracted from, or its name."""
    version = version_of(home, name, split, source)
    return name if version is None else version.kind


def known_names(home: Path) -> list[str]:
    """Return the names of all datasets that a home remembers, sorted."""
    return [path.stem for path in atomic_files.matching(home / FOLDER, "*.toml")]


def read_all(home: Path) -> tuple[dict[str, DatasetVersion], dict[str, str]]:
    """Return the newest version of every name, and the error of each that cannot be read."""
    readable, unread = {}, {}
    for name in known_names(home):
        try:
            version = newest(home, name)
        except LightalignError as error:  # noqa: PERF203  # one does not stop the others
            unread[name] = str(error)
        except OSError as error:
            unread[name] = f"{_path(home, name)} cannot be read: {error.strerror}"
        else:
            if version is not None:
                readable[name] = version
    return readable, unread


def remember(
    home: Path, version: DatasetVersion, *, tell: Callable[[str], None] | None = None
) -> bool:
    """Make `version` the newest of its name, and return whether the home could be written.

    Where an older one differs in its place alone it has moved, and is forgotten.

    Args:
        home: Folder of everything lightalign keeps.
        version: What the name stands for from now on.
        tell: Receives who holds the lock, if that takes long.

    Raises:
        StoreCorruptError: What is remembered of the name cannot be read.
        LockError: The file system has no locks.
    """
    checked_name(version.name)
    if _content(read_versions(home, version.name)[-1:]) == _content([version]):
        return True
    try:
        # read again within the lock: another process may have added a version since
        with _owning(home, version.name, tell):
            others = [
                older
                for older in read_versions(home, version.name)
                if (older.kind, older.options, older.splits)
                != (version.kind, version.options, version.splits)
            ]
            _write(home, version.name, [*others, version])
    except OSError as error:
        if error.errno not in atomic_files.NOT_ALLOWED:
            raise
        return False  # nothing is lost but the memory
    return True


def stood_for(before: DatasetVersion | None, now: DatasetVersion) -> str | None:
    """Return a sentence on the version before, or None where it was the same."""
    if before is None or not before.splits:
        return None
    place = "drawn" if before.place is None else f"at {before.place}"
    is_there = is_same_place(before.place, now.place)
    if before.splits == now.splits:
        return None if is_there else f"{now.name!r} was {place} before, and is the same data"
    options = "".join(f", {name} = {value}" for name, value in before.options.items())
    if is_there and before.place is not None:
        place += " with other files"
    return (
        f"{now.name!r} stood for other data before, {before.kind} {place}{options}: runs that were "
        "trained on them keep to them, and --data "
        f"{now.name} means the new ones"
    )


def move(
    home: Path,
    name: str,
    place: Path,
    read: Callable[[DatasetVersion], Mapping[str, str]],
) -> DatasetVersion:
    """Change the place of a dataset, and return its newest version.

    Args:
        home: Folder of everything lightalign keeps.
        name: Name of the dataset.
        place: Where it is now.
        read: Opens a version and returns the fingerprints of its splits.

    Raises:
        DatasetNotFoundError: The home knows no such dataset.
        SpecError: What lies there is something else, or the dataset is drawn.
        StoreCorruptError: What is remembered cannot be read.
    """
    with _owning(home, name):
        versions = read_versions(home, name)
        if not versions:
            raise unknown_dataset(home, name)
        current = versions[-1]
        if current.place is None:
            raise SpecError(f"dataset {name!r} is drawn and lies nowhere")
        place = place_in(current, place)
        moved = replace(current, place=place)
        # before anything is written: a name never stands for data that were not seen at its place
        if current.splits and read(moved) != dict(current.splits):
            again = command_line("data", "add", name, place, home=home)
            raise SpecError(
                f"{place} holds other data than {name!r}, which was in {current.place}: other ids, "
                f"texts or image files; if {name!r} is to be that from now on, run `{again}`"
            )
        # earlier versions in the same place have moved with it
        earlier = [
            replace(version, place=place)
            if is_same_place(version.place, current.place)
            else version
            for version in versions[:-1]
        ]
        _write(home, name, [*earlier, moved])
    return moved


def forget(home: Path, name: str) -> Path:
    """Forget a dataset, whose own files stay, and return the file that was removed.

    Raises:
        DatasetNotFoundError: The home knows no such dataset.
        LockError: The file system has no locks.
    """
    path = _path(home, checked_name(name))
    if not is_there(path):
        raise unknown_dataset(home, name)
    with _owning(home, name):
        atomic_files.remove(path)
    return path


def unknown_dataset(home: Path, name: str) -> DatasetNotFoundError:
    """Build the error for a name that a home does not remember."""
    names = known_names(home) or "none"
    return DatasetNotFoundError(
        f"no dataset named {name!r} is remembered in {home}; known: {names}"
    )


def _path(home: Path, name: str) -> Path:
    return home / FOLDER / f"{name}.toml"


@contextmanager
def _owning(home: Path, name: str, tell: Callable[[str], None] | None = None) -> Iterator[None]:
    folder = home / FOLDER
    with atomic_files.making(folder):
        lock = FileLock(folder / f"{name}.lock")
        try:
            lock.wait(tell)
            atomic_files.clear_abandoned(folder)
            yield
        finally:
            lock.release()


def _write(home: Path, name: str, versions: Sequence[DatasetVersion]) -> None:
    content = _content(versions)
    checksum = fingerprint(_sealed(name, content))
    table = {"schema": _SCHEMA, "checksum": checksum, "versions": content}
    atomic_files.write_bytes(_path(home, name), to_toml(table).encode())


def _content(versions: Sequence[DatasetVersion]) -> list[dict[str, Any]]:
    return [
        {
            "kind": version.kind,
            **({} if version.place is None else {"place": str(version.place)}),
            "options": json.loads(json.dumps(version.options)),
            "splits": dict(version.splits),
        }
        for version in versions
    ]


def _sealed(name: str, versions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"schema": _SCHEMA, "name": name, "versions": list(versions)}


def _version(name: str, table: _VersionTable) -> DatasetVersion:
    place = table.get("place")
    return DatasetVersion(
        name=name,
        kind=table["kind"],
        place=None if place is None else Path(place),
        options=table.get("options", {}),
        splits=table.get("splits", {}),
    )
