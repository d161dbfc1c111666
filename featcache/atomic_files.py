"""Write files so that a crash at any moment leaves either the old or the new content.

What is written is prepared in a temporary folder beside its place,
`.tmp-lightalign-<random>/<name>`, whose file `.owner` the writer holds locked. A temporary folder
that nobody holds was left by a process that was killed, on whatever machine, and `clear_abandoned`
removes it. On a file system without locks all that writes or clears raises `LockError`.
"""

import errno
import fnmatch
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from . import documents, file_locks, writing
from .config import canonical_json, check_written, fingerprint
from .errors import DurabilityError, LightalignError, StoreCorruptError
from .file_locks import FileLock
from .regular_files import open_regular

_TEMPORARY = ".tmp-"  # begins the names of all versions
_OURS = ".tmp-lightalign-"  # of this version, which no other program takes; then something random
_OWNER = ".owner"
# what earlier versions named after host and process, and what safetensors leaves when it is killed
_UNOWNED = re.compile(r"\.tmp-[0-9a-f]{8}-\d+-.+|\.tmp[A-Za-z0-9]{6}")
_YOUNG = 2.0  # seconds of age of what may yet have no owner
_MOMENT = 0.2  # seconds in which it has one
# of folders of another user, or on a read-only file system
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}
# what file systems without a durable fsync answer, some that are on a network among them
_NOT_DURABLE = {errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}


def is_temporary(path: Path) -> bool:
    """Return whether `path` has the name of a temporary, of this version or of an earlier one."""
    return path.name.startswith(_TEMPORARY) or _UNOWNED.fullmatch(path.name) is not None


def is_abandoned(path: Path) -> bool:
    """Return whether `path` is a temporary that no living process writes.

    Temporaries of earlier versions have no owner that could be asked: they count as abandoned, and
    whoever removes one holds the lock of its folder.
    """
    if not is_temporary(path):
        return False
    if _UNOWNED.fullmatch(path.name):
        return True
    if _is_held(path):
        return False
    settle(path)  # it may have been made, and its owner not yet be there
    return path.exists() and not _is_held(path)


def settle(path: Path) -> None:
    """Wait a moment where something came into being just now: its owner's lock comes second."""
    with suppress(FileNotFoundError):
        if abs(time.time() - path.stat().st_mtime) >= _YOUNG:
            return
    time.sleep(_MOMENT)


def _is_held(workspace: Path) -> bool:
    try:
        return file_locks.holder(workspace / _OWNER) is not None
    except NotADirectoryError:  # a file of such a name is nobody's
        return False


def clear_abandoned(folder: Path) -> list[str]:
    """Remove the temporaries in `folder` that dead processes have left, and return their names.

    Whoever calls it holds the lock of the folder.
    """
    temporaries = (path for path in entries(folder) if is_temporary(path))
    return [path.name for path in temporaries if clear(path)]


def clear_abandoned_beside(path: Path) -> None:
    """Remove what writing `path` left when it was killed, in a folder that is not ours.

    Other programs may have temporaries there: only those go that have our name, or hold our owner
    file. What may not be read or removed stays.
    """
    with suppress(PermissionError):
        for place in entries(path.parent):
            if _is_our_workspace(place):
                clear(place)


def _is_our_workspace(place: Path) -> bool:
    """Return whether a folder is a workspace of ours, wherever it lies.

    Those of earlier versions have a name that others may have, and are told by their owner file.
    """
    if not place.name.startswith(_TEMPORARY) or place.is_symlink() or not place.is_dir():
        return False
    if place.name.startswith(_OURS):
        return True
    owner = place / _OWNER
    try:
        return owner.is_file() and file_locks.lock_damage(owner) is None
    except (PermissionError, FileNotFoundError):
        return False


def entries(folder: Path) -> list[Path]:
    """Return the sorted entries of a folder; none where it is no folder, or has just vanished."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def clear(path: Path) -> bool:
    """Remove one temporary unless a living process writes it, and return whether it is gone.

    That of another user, who alone may remove it, stays.
    """
    try:
        if _UNOWNED.fullmatch(path.name) or not path.is_dir() or path.is_symlink():
            remove(path)
            return True
        lock = FileLock(path / _OWNER)
        if not lock.claim():
            return False
        _remove_workspace(path, lock)
    except FileNotFoundError:
        return True  # another process has removed it meanwhile
    except OSError as error:
        if error.errno not in NOT_ALLOWED:
            raise
        return False
    return True


@contextmanager
def workspace(path: Path) -> Iterator[Path]:
    """Make a temporary folder beside `path`, which is removed with all that is in it at the end.

    Errors name what lies, or was to lie, at `path`: nobody else has heard of the temporary.
    """
    try:
        folder, lock = _make_workspace(path.parent)
        try:
            yield folder
        finally:
            _remove_workspace(folder, lock)
    except LightalignError as error:
        raise type(error)(_as_of(path, str(error))) from error
    except OSError as error:
        if error.errno is None or not isinstance(error.filename, str | bytes):
            raise
        name = _as_of(path, os.fsdecode(error.filename))
        raise OSError(error.errno, error.strerror, name) from error


def _as_of(path: Path, text: str) -> str:
    """Return a text in which a workspace, or what is prepared in it for `path`, is called `path`.

    That of `path` alone may be prepared under its name; the workspace may not have been made.
    """
    place = re.escape(f"{path.parent / _OURS}") + r"[a-z0-9_]+"  # of `mkdtemp`
    inside = f"(/({re.escape(path.name)}|{re.escape(_OWNER)}))?(?![^/: ])"
    return re.sub(place + inside, lambda _: str(path), text)


def _make_workspace(parent: Path) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_OURS, dir=parent))
        lock = FileLock(folder / _OWNER)
        try:
            lock.wait()
        except FileNotFoundError:
            continue  # cleared before it had an owner
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # nobody is to find it without an owner
            raise
        return folder, lock


def _remove_workspace(folder: Path, lock: FileLock) -> None:
    """Remove a temporary folder; its lock goes last, so that no kill leaves it without an owner."""
    try:
        for path in entries(folder):
            if path.name != _OWNER:
                remove(path)
    finally:
        lock.release()
    remove_empty(folder)  # unless another process has begun to clear it as well


def write_json(path: Path, value: Any, *, times: os.stat_result | None = None) -> None:
    """Write `value` as JSON, atomically and durably, as old as a file whose state is `times`.

    Raises:
        SpecError: Something in it would not be read again.
    """
    check_written(value, where=str(path))
    write_bytes(path, _as_written(value), times=times)


def write_bytes(path: Path, content: bytes, *, times: os.stat_result | None = None) -> None:
    """Write `content` to `path`, atomically and durably; for `times` see `write_json`."""
    with replacing(path) as temporary:
        writing.write_bytes(temporary, content)
        if times is not None:
            os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name; what is written there replaces `path` in the end, durably.

    A file replaces a file in one step; a folder, whatever it replaces, in two.

    Raises:
        DurabilityError: The file system cannot make files durable.
        LockError: The file system has no locks.
        OSError: The disk is full or broken; the error names what lies, or was to lie, at `path`.
    """
    with workspace(path) as folder:
        temporary = folder / path.name
        yield temporary
        # durable before it has its name: no loss of power leaves a name without its content
        sync_tree(temporary)
        if temporary.is_dir() and (path.exists() or path.is_symlink()):
            path.rename(folder / f"{_OWNER}-replaced")  # removed with the workspace
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def making(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; after a failure remove those that were made and are empty."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):  # what went wrong before is what is to be told
                remove_empty(place)
        raise


def remove_whole(path: Path) -> None:
    """Remove a folder in one step: a kill leaves all of it, or what `clear_abandoned` removes."""
    with workspace(path) as folder:
        path.rename(folder / path.name)
        sync(path.parent)


def read_json_lines(path: Path) -> list[Any]:
    """Read a file of one JSON value a line, but for a last line that was not written to its end.

    Raises:
        StoreCorruptError: A line is not JSON.
    """
    lines = documents.read_text(path).split("\n")[:-1]
    return [
        documents.parse_json(line, where=f"line {number} of {path}")
        for number, line in enumerate(lines, start=1)
    ]


def write_sealed(
    path: Path, table: Mapping[str, Any], *, times: os.stat_result | None = None
) -> None:
    """Write `table` as `write_json` does, with a checksum of itself."""
    write_json(path, {**table, "checksum": fingerprint(table)}, times=times)


def read_sealed(path: Path, *, limit: int = documents.MAX_BYTES) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without the checksum; not one byte may differ.

    Raises:
        StoreCorruptError: The file is damaged.
    """
    return unsealed(path, documents.read_json(path, limit=limit))


def unsealed(path: Path, table: Any) -> dict[str, Any]:
    """Return what was read from a file of `write_sealed`, without its checksum.

    Raises:
        StoreCorruptError: A byte of the file differs from what was written.
    """
    if not isinstance(table, dict) or "checksum" not in table:
        raise StoreCorruptError(f"{path}: holds no checksum")
    rest = {key: value for key, value in table.items() if key != "checksum"}
    if table["checksum"] != fingerprint(rest) or not _is_written_as(path, table):
        raise StoreCorruptError(f"{path}: checksum differs")
    return rest


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report with a checksum of itself, atomically and durably."""
    # by the keys that a reader will see: JSON makes texts of numbers, which sort otherwise
    write_sealed(path, json.loads(json.dumps(report)))


def read_report(path: Path) -> Any:
    """Read what `write_report` wrote, without the checksum; earlier versions wrote none.

    Raises:
        StoreCorruptError: It is no JSON file, or damaged.
        OSError: It is not there, or may not be read.
    """
    report = documents.read_json(path)
    is_sealed = isinstance(report, dict) and "checksum" in report
    return unsealed(path, report) if is_sealed else report


def _is_written_as(path: Path, value: Any) -> bool:
    expected = _as_written(value)
    with open_regular(path) as raw, os.fdopen(raw.fileno(), "rb", closefd=False) as file:
        return file.read(len(expected) + 1) == expected


def _as_written(value: Any) -> bytes:
    """Return what `write_json` writes: sorted keys, one line a value, indented by one space.

    Python's own encoder indents word by word, ten times slower: manifests are read at every start.
    """
    import msgspec  # here, as the command line imports this module and may need none of it

    try:
        return msgspec.json.format(canonical_json(value).encode(), indent=1) + b"\n"
    except msgspec.DecodeError:  # NaN, half a surrogate pair: only Python's JSON has them
        return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def files_below(path: Path) -> list[Path]:
    """Return `path` itself if it is a file, else all files below it, sorted.

    Raises:
        OSError: A folder may not be read; one that has just vanished holds nothing.
    """
    if path.is_file():
        return [path]
    tree = os.walk(path, onerror=_unless_gone)
    files = (Path(folder, name) for folder, _, names in tree for name in names)
    return sorted(file for file in files if file.is_file())


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return what lies in a folder under a name such as `*.json`, sorted, as `entries` does.

    Raises:
        OSError: The folder may not be read, which `Path.glob` does not say.
    """
    return [path for path in entries(folder) if fnmatch.fnmatchcase(path.name, pattern)]


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is below it; nothing there is well, too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_empty(folder: Path) -> None:
    """Remove a folder if nothing is in it; nothing there is well, too."""
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
            raise


def sync_tree(path: Path) -> None:
    """Make a file, or a folder with all that is below it, durable."""
    folders = [folder for folder in (*path.rglob("*"), path) if folder.is_dir()]
    for place in (*files_below(path), *folders):
        sync(place)


def sync(path: Path) -> None:
    """Make one file, or the entries of one folder, durable.

    Raises:
        DurabilityError: The file system cannot do that.
        OSError: The disk is full or broken.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with writing.naming(path):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_DURABLE:
            raise
        raise DurabilityError(
            f"cannot make {path} durable: its file system answers fsync by "
            f"{error.strerror!r}; put the folder on another one"
        ) from error
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
