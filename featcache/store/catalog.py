"""Find the stores and pair lists below a home folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
from typing_extensions import TypedDict

from .. import atomic_files, notes
from ..documents import check
from ..errors import LightalignError, StoreCorruptError, StoreNotFoundError
from ..home import command_line, home_of_features
from ..links import Links
from ..regular_files import read_regular
from ..writing import bytes_of, open_new, safetensors_header
from .key import StoreDescription
from .manifest import COPY, MANIFEST, has_manifest, named_key, read_manifest, read_whole_manifest
from .stored_links import LinksTable, Names, from_arrays, from_table, to_arrays

_KEY_DIGITS = 8
_NAME_DIGITS = 12  # of the key, in the name of a store's folder
_LARGEST_PAIRS = 2**32  # bytes: those of 50 million captions


class _Promise(TypedDict):
    bytes: int
    sha256: str


class _ArraysTable(Names):
    arrays: _Promise
    file: str


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
        entries: All plain stores whose manifest can be read, or else the copy of it, newest first:
            one with a damaged manifest is refused when it is opened, and no other takes its place.
        unread: Each other store, and each folder that may not be read.
        views: The same of stores of views, which nobody gets who does not ask for one by name.
    """

    home: Path
    entries: Sequence[StoreEntry]
    unread: Sequence[Unread]
    views: Sequence[StoreEntry] = ()

    @property
    def everything(self) -> list[StoreEntry]:
        """Return all stores that can be read, plain ones first."""
        return [*self.entries, *self.views]

    @cached_property
    def _complete(self) -> dict[str, StoreEntry]:
        return {entry.key: entry for entry in self.everything if entry.complete}

    def get(self, key: str) -> StoreEntry | None:
        """Return the complete store of a key, or None."""
        return self._complete.get(key)

    def why_missing(self, key: str) -> str:
        """Return why `get` finds none, as the end of a sentence on it."""
        if any(entry.key == key for entry in self.everything):
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
    plain = [entry for entry in entries if entry.description.view is None]
    views = [entry for entry in entries if entry.description.view is not None]
    return Catalog(home, plain, unread, views)


def list_stores(home: Path, place: str = "*/*") -> list[StoreEntry]:
    """List the plain stores of `read_catalog`; what cannot be read answers no request."""
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
    entries = catalog.everything
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


def arrays_path(path: Path) -> Path:
    """Return where the arrays of the pairs at `path` lie."""
    return path.with_suffix(".safetensors")


def write_pairs(path: Path, links: Links) -> None:
    """Write links beside the stores, so that training and evaluation need the stores alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays, names = to_arrays(links)
    # larger elements first: then each array begins at a multiple of its element's size
    ordered = sorted(arrays.items(), key=lambda named: (-named[1].itemsize, named[0]))
    described = {
        name: (str(array.dtype), tuple(array.shape), array.nbytes) for name, array in ordered
    }
    header = safetensors_header(described, {})
    pieces = [memoryview(header), *(bytes_of(array) for _, array in ordered)]
    digest, num_bytes = sha256(), 0
    with atomic_files.replacing(arrays_path(path)) as temporary, open_new(temporary) as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            num_bytes += len(piece)
    # second, as it has the checksum of the arrays, and under the name of the file that held all:
    # earlier versions refuse it in a line, where of a missing one they would believe there are no
    # marks; its own name, so that those of another source are not taken for these
    promise = _Promise(bytes=num_bytes, sha256=digest.hexdigest())
    atomic_files.write_sealed(path, {"arrays": promise, **names, "file": path.name})


def read_pairs(path: Path) -> Links:
    """Read the links of one split.

    Raises:
        StoreCorruptError: The file is missing or holds no links.
        PermissionError: It may not be read.
    """
    try:
        table = atomic_files.read_sealed(path, limit=_LARGEST_PAIRS)
        return _links_in(table, path)
    except PermissionError:
        raise  # they may be whole
    except (OSError, ValueError) as error:
        raise StoreCorruptError(
            f"cannot read the pairs in {path}: {error}; {_remedy(path)}"
        ) from error


def _links_in(table: dict[str, Any], path: Path) -> Links:
    is_whole = "arrays" not in table  # of an earlier version
    check(table, LinksTable if is_whole else _ArraysTable, where=path)
    if table.get("file", path.name) != path.name:  # which the earliest did not write
        raise ValueError(f"they are those of {table['file']!r:.80}")
    if is_whole:
        return from_table(cast(LinksTable, table))
    return from_arrays(_read_arrays(arrays_path(path), table["arrays"]), cast(Names, table))


def _read_arrays(path: Path, promise: _Promise) -> dict[str, np.ndarray]:
    import safetensors.numpy  # here, as the command line imports this module and may need none

    # of what was read and not of the file, which may be another one by then
    content = read_regular(path, limit=min(promise["bytes"], _LARGEST_PAIRS))
    if len(content) != promise["bytes"] or sha256(content).hexdigest() != promise["sha256"]:
        raise ValueError(f"{path.name}: checksum differs")
    try:
        return dict(safetensors.numpy.load(content))
    except (safetensors.SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def _remedy(path: Path) -> str:
    """Return what to do with pairs that cannot be read: any store of their split mends them."""
    home = home_of_features(path)
    if home is None:
        return "replace it by a whole copy"
    return f"`{command_line('cache', 'repair', home=home)}` restores it"
