"""Compare the files of a store with their records in its manifest."""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import atomic_files
from ..file_locks import holder, lock_damage
from .locks import is_abandoned, lock_files, shard_is_written


@dataclass(frozen=True, kw_only=True)
class IntegrityEntry:
    """File that is not as it should be, and the number of its shard if it is of one."""

    path: Path
    problem: str
    shard: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def shard_flaws(
    folder: Path, index: int, receipt: Mapping[str, Any], *, content: bool
) -> Iterator[IntegrityEntry]:
    """Iterate over the files of one shard that are not as its receipt says.

    With `content` every byte is read; else only sizes are compared.

    Raises:
        PermissionError: One may not be looked at.
    """
    # a link to the store itself is well: only those inside it may lead out
    real_folder = folder.resolve()
    for name, entry in receipt["files"].items():
        problem = _file_problem(real_folder, name, entry, content=content)
        if problem:
            yield IntegrityEntry(path=folder / name, problem=problem, shard=index)


def other_flaws(folder: Path, recorded: Collection[str]) -> Iterator[IntegrityEntry]:
    """Iterate over damaged locks, what dead processes left, and files that are not recorded."""
    locks = set(lock_files(folder))
    for path in sorted(folder.iterdir()):
        if is_abandoned(path):
            yield IntegrityEntry(path=path, problem="left by a process that is dead")
    for file in atomic_files.files_below(folder):
        name = file.relative_to(folder)
        top = folder / name.parts[0]
        if file in locks:
            problem = lock_damage(file) or (None if holder(file) else "its process is dead")
        elif str(name) in recorded or shard_is_written(top) or atomic_files.is_temporary(top):
            problem = None  # temporaries that are not named above are being written
        else:
            problem = "not in the manifest"
        if problem:
            yield IntegrityEntry(path=file, problem=problem)


def _file_problem(
    folder: Path, name: str, entry: Mapping[str, Any], *, content: bool
) -> str | None:
    path = folder / name
    try:
        state = path.stat()
    except PermissionError:
        raise  # nobody can tell whether anything is wrong with it
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        return "missing" if missing else f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(state.st_mode):
        return "is no regular file"
    if not Path(os.path.realpath(path)).is_relative_to(folder):
        return "is reached by a link out of the store"
    if state.st_size != entry["bytes"]:
        return f"{state.st_size} bytes, expected {entry['bytes']}"
    if content and atomic_files.sha256_file(path) != entry["sha256"]:
        return "checksum differs"
    return None
