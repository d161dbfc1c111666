"""Read some files of a tar archive, whatever its headers promise.

The standard library asks for as many bytes as a header says before it looks whether they are
there, and follows headers that extend others. Published archives have plain headers: these are
read one after the other, and all else is passed over.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any

from ...errors import DatasetFormatError, one_line
from ...regular_files import open_regular
from ..base import format_error

_BLOCK = 512  # bytes of a header; contents are padded to a multiple
_AT_ONCE = 2**20  # bytes
_OPENERS: dict[bytes, Callable[[Any], io.BufferedIOBase]] = {  # by the first bytes of a file
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def read_tar_files(archive: Path, names: Collection[str], *, limit: int) -> dict[str, bytes]:
    """Return the content of some files of an archive by name; nothing is written anywhere.

    Args:
        archive: A tar file, compressed or not.
        names: Names in it, without a leading `./`.
        limit: Most bytes of the archive without its compression.

    Raises:
        DatasetFormatError: It is broken, or larger.
    """
    try:
        with open_regular(archive) as file, _uncompressed(file) as stream:
            return _Reader(archive, stream, limit).files(names)
    except (
        *(tarfile.HeaderError, EOFError, OSError, ValueError, MemoryError),
        *(lzma.LZMAError, zlib.error),
    ) as error:
        if isinstance(error, DatasetFormatError):
            raise
        problem = f"cannot be read: {one_line(error)}; get it again"
        raise format_error(archive, "", problem) from error


def _uncompressed(file: IO[bytes]) -> io.BufferedIOBase:
    buffered = io.BufferedReader(file)  # type: ignore[type-var]  # it is a raw file
    beginning = buffered.peek(8)
    for magic, opener in _OPENERS.items():
        if beginning.startswith(magic):
            return opener(buffered)
    return buffered


class _Reader:
    """Read an archive from its beginning to its end."""

    def __init__(self, archive: Path, stream: io.BufferedIOBase, limit: int) -> None:
        self._archive = archive
        self._stream = stream
        self._left = limit

    def files(self, names: Collection[str]) -> dict[str, bytes]:
        """Return the content of the files called so."""
        contents: dict[str, bytes] = {}
        while (header := self._take(_BLOCK)).strip(b"\0"):
            if len(header) < _BLOCK:
                raise EOFError("it is cut off")
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            if member.size < 0:
                raise ValueError("a member of negative size")
            name = member.name.removeprefix("./")
            is_asked = member.isreg() and name in names
            if is_asked and member.size > self._left:
                raise self._too_large(member.name)
            content = self._pass(member.size, keep=is_asked)
            self._pass(-member.size % _BLOCK)
            if is_asked:
                contents[name] = content
        return contents

    def _pass(self, count: int, *, keep: bool = False) -> bytes:
        """Go over some bytes, and return them if they are to be kept."""
        blocks = []
        while count > 0:
            block = self._take(min(count, _AT_ONCE))
            if not block:
                raise EOFError("it is cut off")
            count -= len(block)
            if keep:
                blocks.append(block)
        return b"".join(blocks)

    def _take(self, count: int) -> bytes:
        block = self._stream.read(count)
        self._left -= len(block)
        if self._left < 0:
            raise self._too_large("")
        return block

    def _too_large(self, member: str) -> DatasetFormatError:
        return format_error(self._archive, member, "is larger than any published file")
