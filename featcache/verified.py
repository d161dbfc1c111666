"""Which shards were whole when they were last read, so that they are not read whole again.

    <home>/verified/<dataset>--<split>--<name of the store>.json

holds one hash for each shard: of the checksums that its manifest records, and of the size, time of
change, inode and time of its inode's change of each of its files. Whatever touches a file changes
one of these, and the shard is read again. Nothing depends on the file: one that is damaged or
cannot be written costs time alone.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import files
from .description import StoreDescription
from .errors import StoreCorruptError
from .spec import fingerprint

FOLDER = "verified"


def home_of(folder: Path, description: StoreDescription) -> Path | None:
    """Return the home that a store's folder lies in, or None for one that stands elsewhere.

    Links are not followed: a home may hold the stores of another one, which it cannot write to.
    """
    absolute = folder.absolute()
    homes = absolute.parents[3:4]
    return homes[0] if homes and description.folder(homes[0]) == absolute else None


def state_of_shard(folder: Path, receipt: Mapping[str, Any]) -> str:
    """Return a hash that differs once a file of a shard was touched.

    Raises:
        OSError: A file is not there.
    """
    states = []
    for name in receipt["files"]:
        state = (folder / name).stat()
        states.append([state.st_size, state.st_mtime_ns, state.st_ino, state.st_ctime_ns])
    return fingerprint([receipt["rows"], receipt["tokens"], receipt["files"], states])


def read(folder: Path, description: StoreDescription) -> dict[str, Any]:
    """Return the hash of each shard of a store that was whole, by its number."""
    path = _path(folder, description)
    if path is None:
        return {}
    with suppress(OSError, StoreCorruptError, RecursionError):
        shards = files.read_sealed(path).get("shards")
        return shards if isinstance(shards, dict) else {}
    return {}


def remember(folder: Path, description: StoreDescription, states: Mapping[int, str]) -> None:
    """Record shards that are whole; where nothing can be written, nothing is remembered."""
    path = _path(folder, description)
    if path is None or not states:
        return
    shards = {**read(folder, description), **{str(index): state for index, state in states.items()}}
    with suppress(OSError):  # such as a home on a read-only disk, or of another user
        path.parent.mkdir(exist_ok=True)
        files.clear_abandoned(path.parent)
        files.write_sealed(path, {"shards": shards})


def forget(folder: Path, description: StoreDescription) -> None:
    """Remove what is recorded of a store."""
    path = _path(folder, description)
    if path is not None:
        path.unlink(missing_ok=True)


def _path(folder: Path, description: StoreDescription) -> Path | None:
    home = home_of(folder, description)
    if home is None:
        return None
    return home / FOLDER / f"{description.dataset}--{description.split}--{folder.name}.json"
