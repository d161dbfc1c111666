"""Text of a file in whatever encoding people saved it, compressed with gzip or not."""

import codecs
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path

from ...errors import SourceOptionError, one_line
from ...regular_files import MAX_TEXT_BYTES, read_regular
from ..base import format_error

_GZIP = b"\x1f\x8b"
_UNPACKED_AT_ONCE = 2**20  # bytes
# Captions shrink to a tenth, the most repetitive tables to a hundredth; gzip can make a
# thousand out of one, so that four megabytes would fill the memory.
_MOST_TIMES = 256
_ALWAYS_UNPACKED = 64 * 2**20  # bytes, however small the file
_MARKS = (  # UTF-32 first: its mark of little-endian begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SEEN = 4096  # bytes from which UTF-16 without a mark is told
_WINDOWS = "cp1252"
_TITLES = {
    "utf-8": "UTF-8",
    "utf-16-le": "UTF-16 (little-endian)",
    "utf-16-be": "UTF-16 (big-endian)",
    "utf-32-le": "UTF-32 (little-endian)",
    "utf-32-be": "UTF-32 (big-endian)",
    _WINDOWS: "cp1252 (Windows, Western European)",
}


_REMEDY = "name its encoding, such as --set source.encoding=shift_jis"


@dataclass(frozen=True)
class DecodedText:
    """Text of a file.

    Attributes:
        text: The text without a byte order mark; bytes that are no UTF-8 are surrogates in it.
        encoding: Name of its encoding, as Python has it.
        is_broken: Whether some bytes were no UTF-8.
    """

    text: str
    encoding: str
    is_broken: bool = False

    @property
    def title(self) -> str:
        """Return the encoding as people call it."""
        return _title(self.encoding)


def _title(encoding: str) -> str:
    return _TITLES.get(encoding, encoding)


def check_encoding(encoding: str | None) -> None:
    """Pass if an option names an encoding of texts, or nothing.

    Raises:
        SourceOptionError: It names none.
    """
    if encoding is None:
        return
    try:
        "a".encode(encoding)
    except (LookupError, ValueError) as error:  # ValueError: a name with a NUL
        problem = f"found {encoding!r:.80}; such as utf-8, utf-16, cp1252 or shift_jis"
        raise SourceOptionError(
            f"source.encoding must name an encoding of texts, {problem}"
        ) from error


def read_content(path: Path) -> bytes:
    """Return the bytes of a file, and without its compression where it is one of gzip.

    Raises:
        DatasetFormatError: It cannot be read, is broken, or is larger than `MAX_TEXT_BYTES`.
    """
    try:
        data = read_regular(path, limit=MAX_TEXT_BYTES)
        return _unpacked(data, path) if data.startswith(_GZIP) else data
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise format_error(path, "", f"is broken gzip: {one_line(error)}; get it again") from error
    except OSError as error:
        raise format_error(path, "", f"cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise format_error(path, "", "is larger than the memory there is") from error


def _unpacked(data: bytes, path: Path) -> bytes:
    limit = min(MAX_TEXT_BYTES, max(_ALWAYS_UNPACKED, _MOST_TIMES * len(data)))
    blocks, num_bytes = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        # in blocks: asked for all, it would make room for all that a header promises
        while block := stream.read(_UNPACKED_AT_ONCE):
            blocks.append(block)
            num_bytes += len(block)
            if num_bytes > limit:
                problem = f"unpacks to more than the {limit:,} bytes allowed for {len(data):,}"
                raise format_error(path, "", f"{problem}; unpack it yourself")
    return b"".join(blocks)


def read_any_text(path: Path, encoding: str | None = None) -> DecodedText:
    """Return the text of a file in the encoding that it is in, or that is named.

    It is UTF-8 or UTF-16 by its byte order mark or its bytes; else what has more letters beyond
    ASCII that are UTF-8 than bytes that are not is UTF-8 with broken lines, and the rest is cp1252,
    as Excel saves.

    Raises:
        DatasetFormatError: It is in none of these, not in the one that is named, or cannot be
            read.
    """
    data = read_content(path)
    name = encoding or _marked(data) or _spaced_by_zeros(data)
    try:
        if name is None:
            return _guessed(data, path)
        if codecs.lookup(name).name in {"utf-8", "utf-8-sig"}:
            return _as_utf8(data)
        return DecodedText(_decoded(data, name, path), name)
    except MemoryError as error:
        raise format_error(path, "", "is larger than the memory there is") from error


def read_published_text(path: Path) -> str:
    """Return a text file of a published dataset; line ends stay as they are.

    It is UTF-8, with or without a byte order mark, or UTF-16 with one; gzip may have compressed it.

    Raises:
        DatasetFormatError: The file is in another encoding, cannot be read, or is larger than
            `MAX_TEXT_BYTES`.
    """
    data = read_content(path)
    name = _marked(data) or "utf-8"
    try:
        return _decoded(data, name, path, remedy="save it as UTF-8")
    except MemoryError as error:
        raise format_error(path, "", "is larger than the memory there is") from error


def _marked(data: bytes) -> str | None:
    """Return the encoding whose byte order mark comes first, or None without one."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def _spaced_by_zeros(data: bytes) -> str | None:
    """Return UTF-16 where every second byte is zero, as in a text of ASCII."""
    beginning = data[:_SEEN]
    half = max(1, len(beginning) // 2)
    for name, zeros in (("utf-16-le", beginning[1::2]), ("utf-16-be", beginning[::2])):
        if zeros.count(0) > 0.4 * half:
            return name
    return None


def _as_utf8(data: bytes) -> DecodedText:
    try:
        return DecodedText(data.decode("utf-8-sig"), "utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        return DecodedText(text, "utf-8", is_broken=True)


def _guessed(data: bytes, path: Path) -> DecodedText:
    as_utf8 = _as_utf8(data)
    if not as_utf8.is_broken:
        return as_utf8
    num_letters = len(as_utf8.text) - len(as_utf8.text.encode("ascii", "ignore"))
    num_broken = len(as_utf8.text) - len(as_utf8.text.encode("utf-8", "ignore").decode())
    if num_letters - num_broken > num_broken:
        return as_utf8
    return DecodedText(_decoded(data, _WINDOWS, path), _WINDOWS)


def _decoded(data: bytes, name: str, path: Path, *, remedy: str = _REMEDY) -> str:
    """Return a text without its byte order mark."""
    try:
        return data.decode(name).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        negation = "neither UTF-8 nor" if name == _WINDOWS else "not"
        problem = f"is {negation} {_title(name)}; {remedy}"
        raise format_error(path, f"line {line}", problem) from error
    except UnicodeError as error:  # of encodings that Python has for names in networks
        raise format_error(path, "", f"is not {name}: {error}") from error
