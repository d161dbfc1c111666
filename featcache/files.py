"""Write files so that a crash at any moment leaves either the old or the new content."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import StoreCorruptError
from .spec import fingerprint

_TEMPORARY = ".tmp-"  # followed by the host and the process id of the writer


def temporary_path(path: Path) -> Path:
    """Return the name under which this process prepares `path`, in the same folder."""
    return path.with_name(f"{_TEMPORARY}{_host()}-{os.getpid()}-{path.name}")


def is_temporary(path: Path) -> bool:
    """Say whether `path` has a name that `temporary_path` gives."""
    return path.name.startswith(_TEMPORARY)


def is_abandoned(path: Path) -> bool:
    """Say whether `path` is the temporary of a process of this machine that no longer lives.

    Of another machine nothing is known here: where folders are shared, it may well be alive.
    """
    if not is_temporary(path):
        return False
    host, process, *_ = [*path.name.removeprefix(_TEMPORARY).split("-", 2), ""]
    if host != _host() or not process.isdigit():
        return False
    if int(process) == os.getpid():
        return True  # ours of an earlier, interrupted write: this process writes one at a time
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _host() -> str:
    """Return a short name of this machine without characters that a file name may lack."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically and durably."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(_json_pieces(value))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, atomically and durably."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write to; what stands there at the end replaces `path`, durably.

    A file replaces a file in one step; a folder, whatever it replaces, in two.
    """
    temporary = temporary_path(path)
    remove(temporary)  # of an earlier process of the same number
    try:
        yield temporary
        sync_tree(temporary)
        if temporary.is_dir():
            remove(path)
        temporary.replace(path)
    except BaseException:
        remove(temporary)  # a full disk gets its bytes back
        raise
    sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """Read a JSON file that we wrote.

    Raises:
        StoreCorruptError: The file is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreCorruptError(f"{path} is not valid JSON: {error}") from error


def read_json_lines(path: Path) -> list[Any]:
    """Read a file of one JSON value a line, but for a last line that was not written to its end.

    Raises:
        StoreCorruptError: A line is not JSON.
    """
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise StoreCorruptError(f"{path}: a line is not valid JSON: {error}") from error


def write_sealed(path: Path, table: Mapping[str, Any]) -> None:
    """Write `table` as JSON with a checksum of itself, atomically and durably."""
    write_json(path, {**table, "checksum": fingerprint(table)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote, without the checksum; not one byte may differ.

    Raises:
        StoreCorruptError: The file is damaged.
    """
    table = read_json(path)
    if not isinstance(table, dict) or "checksum" not in table:
        raise StoreCorruptError(f"{path}: holds no checksum")
    rest = {key: value for key, value in table.items() if key != "checksum"}
    if table["checksum"] != fingerprint(rest) or not _is_written_as(path, table):
        raise StoreCorruptError(f"{path}: checksum differs")
    return rest


def _is_written_as(path: Path, value: Any) -> bool:
    """Say whether the file holds exactly what `write_json` writes for `value`."""
    with path.open("rb") as file:
        pieces = (piece.encode() for piece in _json_pieces(value))
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)


def _json_pieces(value: Any) -> Iterator[str]:
    """Yield JSON piece by piece: the whole of a long list would be in memory several times."""
    yield from json.JSONEncoder(indent=1, sort_keys=True).iterencode(value)
    yield "\n"


def files_below(path: Path) -> list[Path]:
    """Return `path` itself if it is a file, else all files below it, sorted."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is below it; nothing there is well, too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_tree(path: Path) -> None:
    """Make a file, or a folder with all that is below it, durable."""
    for file in files_below(path):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if path.is_dir():
        for folder in [*path.rglob("*"), path]:
            if folder.is_dir():
                sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the entries of `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
