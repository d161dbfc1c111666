"""Read plain data out of a pickle without running anything of it.

`pickle.load` calls whatever a file names, so a downloaded file could do anything. Here a pickle may
name the few functions by which NumPy writes arrays of numbers, and stands for them are found in
their place; a file that names another, or has an opcode beyond dicts, lists, tuples, numbers, texts
and bytes, is refused.
"""

import io
import pickle
import pickletools
import re
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetFormatError, one_line
from ..base import format_error

_OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
        *("EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
    )
)
_TUPLES = frozenset(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"))
_MOST_TUPLES = 1000  # an array has four; the hash of very many in one another exhausts the stack
_ORDERS = frozenset("|<>=")  # of the bytes of a number
_NUMBERS = re.compile(r"[biuf][1248]")
_MOST_COPIES = 2  # times the bytes of the file; of an encoded array one is made
_BROKEN = (  # what a pickle that is damaged, or made to be, ends in
    *(ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError),
    *(ArithmeticError, MemoryError, RecursionError, pickle.UnpicklingError),
)


class _Refused(Exception):
    """Something that is no plain data."""


def read_plain_pickle(data: bytes, *, file: Path) -> dict[str, Any]:
    """Return the dict that a pickle holds, without running anything of it.

    Texts of Python 2, which are bytes, come as text with one character a byte; so do keys that are
    bytes. Pickle protocols 0 to 4 are read.

    Args:
        data: The pickle.
        file: Where it is from, for messages.

    Raises:
        DatasetFormatError: It holds anything but plain data, is broken, or is no dict.
    """
    try:
        _check_opcodes(data)
        content = _Reader(data).load()
        if not isinstance(content, dict):
            raise format_error(file, "", f"holds a {type(content).__name__}, expected a dict")
        return {_text(key): _settled(value) for key, value in content.items()}
    except _Refused as error:
        problem = f"has {error}, which is no plain data; nothing of it was run, do not trust it"
        raise format_error(file, "", problem) from error
    except DatasetFormatError:
        raise
    except _BROKEN as error:
        raise format_error(file, "", f"is no whole pickle: {one_line(error)}") from error


def _check_opcodes(data: bytes) -> None:
    """Refuse opcodes that build no plain data, and what would exhaust the stack or the memory."""
    num_tuples = 0
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name not in _OPCODES:
            raise _Refused(f"opcode {opcode.name} at byte {position}")
        num_tuples += opcode.name in _TUPLES
        if num_tuples > _MOST_TUPLES:
            raise _Refused(f"more than {_MOST_TUPLES} tuples")
        # the unpickler allocates places up to the largest number
        if opcode.name.endswith("PUT") and int(argument or 0) > (position or 0):
            raise ValueError(f"place {argument} of the memo at byte {position}")


def _text(key: object) -> str:
    if not isinstance(key, str | bytes | int):
        raise _Refused(f"a key of type {type(key).__name__}")
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _settled(value: object) -> object:
    return value.values if isinstance(value, _Array) else value


class _Stand:
    """Stand for a name; a pickle can call it, but give it no state.

    Args:
        meaning: What messages call it.
        make: Returns what a call makes, or None where it is refused.
    """

    __slots__ = ("_make", "_meaning")

    def __init__(self, meaning: str, make: Callable[..., object]) -> None:
        self._meaning = meaning
        self._make = make

    def __call__(self, *arguments: Any) -> object:
        made = self._make(*arguments) if arguments else None
        if made is None:
            raise _Refused(f"a call of {self._meaning} with {reprlib.repr(arguments):.60}")
        return made

    def __setstate__(self, _: object) -> None:
        raise _Refused("a state for what is no array")


class _NumberType:
    """Stand for a type of numbers, such as `u1`."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Array:
    """Stand for an array until its state comes."""

    __slots__ = ("_encode", "values")

    def __init__(self, encode: Callable[[str], bytes]) -> None:
        self._encode = encode
        self.values: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, number_type, by_columns, content = state
        data = self._encode(content) if isinstance(content, str) else content
        if not isinstance(number_type, _NumberType) or number_type.order not in _ORDERS:
            raise TypeError("an array of what are no numbers")
        order = "=" if number_type.order == "|" else number_type.order
        values = np.frombuffer(data, dtype=np.dtype(order + number_type.code))
        self.values = values.reshape(shape, order="F" if by_columns else "C")


class _Reader(pickle.Unpickler):
    """Reader of a pickle whose opcodes have been checked."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin-1")
        self._left = _MOST_COPIES * len(data)  # bytes to make of texts: one can be named many times
        self._array_class = _Stand("ndarray", lambda *_: None)
        self._stands = {
            "numpy.core.multiarray._reconstruct": _Stand("reconstruct", self._array),
            "numpy._core.multiarray._reconstruct": _Stand("reconstruct", self._array),
            "numpy.ndarray": self._array_class,
            "numpy.dtype": _Stand("dtype", self._number_type),
            # how Python 3 writes bytes for Python 2
            "_codecs.encode": _Stand("encode", self._bytes),
        }

    def find_class(self, module: str, name: str) -> _Stand:
        """Return what stands for a name, or refuse the name."""
        named = f"{module}.{name}"
        if named not in self._stands:
            raise _Refused(f"the name {named!r}")
        return self._stands[named]

    def _array(self, kind: object, *_: object) -> _Array | None:
        return _Array(self._encode) if kind is self._array_class else None

    def _number_type(self, code: str, *_: object) -> _NumberType | None:
        return _NumberType(code) if _NUMBERS.fullmatch(code) else None

    def _bytes(self, text: str, encoding: str) -> bytes | None:
        return self._encode(text) if encoding == "latin1" else None

    def _encode(self, text: str) -> bytes:
        self._left -= len(text)
        if self._left < 0:
            raise _Refused("more bytes in its arrays than in all of it")
        return text.encode("latin-1")
