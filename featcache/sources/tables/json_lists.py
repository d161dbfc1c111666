"""Read a large list in a JSON file object by object: whole, it would take gigabytes of memory."""

import codecs
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...errors import one_line
from ...regular_files import open_regular
from ..base import format_error

_READ_AT_ONCE = 2**20  # bytes
_LONGEST = 2**20  # letters: what is wrong so long before the end of what was read is not cut there
_MOST_TIMES = 16  # so much may one value take: objects of questions have a thousand letters
_OF_NUMBER = re.compile(r"[0-9.eE+-]*")
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = json.JSONDecoder()


def objects_in(path: Path, key: str, noun: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and content of each object in the list that a JSON object has under a key.

    Args:
        path: The file.
        key: The key of the list.
        noun: What an object is called in places, such as `question`.

    Raises:
        DatasetFormatError: The file cannot be read, is no such JSON, or holds a value of more
            than 16 million letters.
    """
    for _, place, value in objects_by_key(path, {key: noun}):
        yield place, value


def objects_by_key(
    path: Path, nouns: Mapping[str, str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield key, place and content of each object in several lists of a JSON object.

    The lists come in the order of the file, which is read once.

    Args:
        path: The file.
        nouns: What an object is called in places, by the key of its list.

    Raises:
        DatasetFormatError: As of `objects_in`; or a list is missing.
    """
    missing = list(nouns)
    with _reader_of(path) as reader, _explained(path, nouns) as at:
        for name in reader.keys_of_object():
            if name not in missing or reader.next_letter() != "[":
                reader.skip()
                continue
            missing.remove(name)
            for place, value in _placed(reader, nouns[name], name, at):
                yield name, place, value
            if not missing:
                return
    raise format_error(path, "", _expected(nouns))


def objects_of_list(path: Path, noun: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and content of each object of a JSON file that is a list; see `objects_in`."""
    with _reader_of(path) as reader, _explained(path, ()) as at:
        yield from _placed(reader, noun, "", at)


@contextmanager
def _reader_of(path: Path) -> Iterator["_Reader"]:
    try:
        with open_regular(path) as stream:
            yield _Reader(stream)
    except OSError as error:
        raise format_error(path, "", f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise format_error(path, "", "is not UTF-8; save it as UTF-8") from error


@dataclass
class _At:
    """Place of a reader in a file: the list under a key, and the object in it."""

    key: str = ""
    place: str = ""


@contextmanager
def _explained(path: Path, keys: Collection[str]) -> Iterator[_At]:
    """Turn what a text is broken by into an error that names the place."""
    at = _At()
    try:
        yield at
    except (_BrokenError, RecursionError) as error:
        in_list = f"expected an object in the list {at.key!r}" if at.key else "expected an object"
        expected = in_list if at.place else _expected(keys)
        raise format_error(path, at.place, f"{expected}: {one_line(error)}") from error


def _expected(keys: Collection[str]) -> str:
    lists = ", ".join(f'"{key}": [...]' for key in keys)
    return f"expected {{{lists}}}" if lists else "expected [{...}, ...]"


def _placed(
    reader: "_Reader", noun: str, key: str, at: _At
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield place and content of each object of the list that comes next."""
    # a file that is no list at all is another one, not a list with a broken object
    at.key, at.place = key, f"{noun} 1" if reader.next_letter() == "[" else ""
    for number, value in enumerate(reader.entries(), start=1):
        yield f"{noun} {number}", _as_object(value)
        at.place = f"{noun} {number + 1}"
    at.place = ""


def _as_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _BrokenError(f"found {value!r:.80}")
    return value


class _BrokenError(ValueError):
    """A text is no JSON, or another value than is expected."""


class _Reader:
    """Reader of JSON values, one after the other, of a file of any size."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._is_all = "", 0, False

    def keys_of_object(self) -> Iterator[Any]:
        """Yield the keys of an object; the value of each is to be read before the next."""
        for _ in self._parts("{", "}"):
            key = self.value()
            self._require(":")
            yield key

    def entries(self) -> Iterator[Any]:
        """Yield the values of a list."""
        for _ in self._parts("[", "]"):
            yield self.value()

    def skip(self) -> None:
        """Pass over the next value, piece by piece."""
        first = self.next_letter()
        if first == "{":
            for _ in self.keys_of_object():
                self.skip()
        elif first == "[":
            for _ in self._parts("[", "]"):
                self.skip()
        else:
            self.value()

    def next_letter(self) -> str:
        """Return the next letter that is no space, or nothing at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                return ""

    def value(self) -> Any:
        """Return the next value."""
        self.next_letter()
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = len(self._text) - max(error.pos, self._at) <= _LONGEST
                is_long = len(self._text) - self._at > _MOST_TIMES * _LONGEST
                if is_cut and not is_long and self._read_more():
                    continue
                raise _BrokenError(error.msg) from error
            except ValueError as error:  # a number of thousands of digits
                raise _BrokenError(one_line(error)) from error
            length = end - self._at
            # a number may go on behind what was read, such as 12 of 12.5
            if _OF_NUMBER.fullmatch(self._text, end) and self._read_more():
                continue
            self._at += length
            return value

    def _parts(self, first: str, last: str) -> Iterator[None]:
        """Yield before each part of an object or a list, which is to be read then."""
        self._require(first)
        if self.next_letter() != last:
            yield
            while self.next_letter() == ",":
                self._at += 1
                yield
        self._require(last)

    def _read_more(self) -> bool:
        """Read on, and return whether there was anything more."""
        if self._is_all:
            return False
        block = self._stream.read(_READ_AT_ONCE)
        self._is_all = not block
        self._text = self._text[self._at :] + self._decoder.decode(block, final=self._is_all)
        self._at = 0
        return not self._is_all

    def _require(self, letter: str) -> None:
        found = self.next_letter()
        if found != letter:
            raise _BrokenError(f"found {found!r} instead of {letter!r}" if found else "ends early")
        self._at += 1
