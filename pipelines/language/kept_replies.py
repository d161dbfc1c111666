"""Replies that were paid for once: a line of JSON each, by the hash of what was asked."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from ...featcache import atomic_files
from ...featcache.config import fingerprint
from ...featcache.documents import parse_json, read_text
from ...featcache.errors import StoreCorruptError
from ...featcache.file_locks import FileLock
from ...featcache.regular_files import is_there
from ...featcache.writing import naming
from ..common.progress import SILENT, Progress

FOLDER = "language-replies"  # below the home
_FIELDS = {"asked", "reply", "checksum"}


class KeptReplies:
    """Replies in a file, to which each new one is added when it is there.

    What a kill cut off, or what was changed, is left out with a note, and asked again. One process
    at a time has the file. Where it may not be written, replies are kept in memory alone.

    Args:
        path: The file; it is made.
        progress: Receives notes.
    """

    def __init__(self, path: Path, progress: Progress = SILENT) -> None:
        self.path = path
        self._progress = progress
        self._replies: dict[str, str] = {}
        self._lock: FileLock | None = None

    def __enter__(self) -> "KeptReplies":
        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"))
        try:
            with atomic_files.making(self.path.parent):
                lock.wait(self._progress.note)
            self._lock = lock
            self._read()
        except OSError as error:
            lock.release()
            if error.errno not in atomic_files.NOT_ALLOWED:
                raise
            self._lock = None
            self._progress.note(f"replies are not kept: {self.path.parent}: {error.strerror}")
        except BaseException:
            lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    def get(self, asked: str) -> str | None:
        """Return the reply to what has a hash, or None."""
        return self._replies.get(asked)

    def add(self, asked: str, reply: str) -> None:
        """Keep a reply; it survives a kill of this process from here on."""
        self._replies[asked] = reply
        if self._lock is None:
            return
        record = {"asked": asked, "reply": reply}
        line = json.dumps({**record, "checksum": fingerprint(record)}) + "\n"
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def _read(self) -> None:
        """Read the replies, and write the file anew where a line of it is damaged."""
        atomic_files.clear_abandoned_beside(self.path)
        if not is_there(self.path):
            return
        *lines, rest = read_text(self.path).split("\n")
        whole = []
        for line in lines:
            record = _record(line)
            if record is not None:
                self._replies[record["asked"]] = record["reply"]
                whole.append(line)
        damaged = len(lines) - len(whole)
        if damaged:
            self._progress.note(
                f"{damaged:,} of {len(lines):,} replies in {self.path} are damaged, and asked again"
            )
        if damaged or rest:  # else the next one would be added to half a line
            content = "".join(f"{line}\n" for line in whole)
            atomic_files.write_bytes(self.path, content.encode())


def _record(line: str) -> dict[str, Any] | None:
    """Return what a line says, or None where it is not as it was written."""
    try:
        record = parse_json(line, where="a reply")
    except StoreCorruptError:
        return None
    if not isinstance(record, dict) or record.keys() != _FIELDS:
        return None
    checksum = record.pop("checksum")
    is_text = all(isinstance(value, str) for value in record.values())
    return record if is_text and checksum == fingerprint(record) else None
