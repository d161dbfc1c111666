"""Read plain data out of a pickle without running anything of it.

`pickle.load` calls whatever a file names, so a downloaded file could do anything. Here the
standard library's disassembler names the opcodes one by one, and a small stack machine knows just
those that build dicts, lists, tuples, numbers, texts, bytes and arrays of numbers; a file with any
other is refused.
"""

import pickletools
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetFormatError
from ._decoding import format_error

_RECONSTRUCT, _NDARRAY, _DTYPE, _ENCODE = "reconstruct", "ndarray", "dtype", "encode"
_KNOWN = {  # what a pickle may name; nothing of it is called, its effect is ours
    "numpy.core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy._core.multiarray _reconstruct": _RECONSTRUCT,
    "numpy ndarray": _NDARRAY,
    "numpy dtype": _DTYPE,
    "_codecs encode": _ENCODE,  # how Python 3 writes bytes for Python 2
}
_NUMBERS = re.compile(r"[biuf][1248]")
_PUSHED = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    )
)
_MOST_TUPLES = 20  # in one another; an array has two
_MOST_COPIES = 2  # times the bytes of the file; of an encoded array one is made
_BROKEN = (  # what a pickle that is damaged, or made to be, ends in
    *(ValueError, IndexError, KeyError, TypeError, AttributeError),
    *(ArithmeticError, MemoryError, RecursionError),
)
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


@dataclass(frozen=True)
class _Name:
    """Stand for one of `_KNOWN`."""

    meaning: str


@dataclass
class _NumberType:
    code: str
    order: str = "="


@dataclass
class _Array:
    values: np.ndarray | None = None


_MARK = object()


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
    machine = _Machine(file, most_bytes=_MOST_COPIES * len(data))
    try:
        for opcode, argument, position in pickletools.genops(data):
            machine.take(opcode.name, argument, position or 0)
        found = machine.result()
        if not isinstance(found, dict):
            raise format_error(file, "", f"holds a {type(found).__name__}, expected a dict")
        return {_text(key): _settled(value) for key, value in found.items()}
    except DatasetFormatError:
        raise
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise format_error(file, "", f"is no whole pickle: {reason}") from error


def _text(key: object) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _settled(value: object) -> object:
    return value.values if isinstance(value, _Array) else value


class _Machine:
    """Hold the stack and the memo of the opcodes that were taken."""

    def __init__(self, file: Path, *, most_bytes: int) -> None:
        self.file = file
        self.left = most_bytes  # that may still be made of texts: one can be named many times
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.tuples: dict[int, tuple[Any, int]] = {}  # by id, with their depth; held, ids stay
        self.handlers: dict[str, Callable[[], None]] = {
            "MARK": lambda: self.stack.append(_MARK),
            "EMPTY_DICT": lambda: self.stack.append({}),
            "EMPTY_LIST": lambda: self.stack.append([]),
            "EMPTY_TUPLE": lambda: self.stack.append(()),
            "DICT": lambda: self.stack.append(self._pairs(self._above_mark())),
            "LIST": lambda: self.stack.append(self._above_mark()),
            "TUPLE": lambda: self._tuple(self._above_mark()),
            "TUPLE1": lambda: self._tuple(self._pop(1)),
            "TUPLE2": lambda: self._tuple(self._pop(2)),
            "TUPLE3": lambda: self._tuple(self._pop(3)),
            "APPEND": lambda: self._extend(self._pop(1)),
            "APPENDS": lambda: self._extend(self._above_mark()),
            "SETITEM": lambda: self._update(self._pop(2)),
            "SETITEMS": lambda: self._update(self._above_mark()),
            "STACK_GLOBAL": lambda: self._name(" ".join(self._pop(2))),
            "REDUCE": self._reduce,
            "BUILD": self._build,
            "MEMOIZE": lambda: self._put(len(self.memo)),
        }
        self.with_argument: dict[str, Callable[[Any], None]] = {
            "GLOBAL": self._name,
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._put),
            **dict.fromkeys(
                ("GET", "BINGET", "LONG_BINGET"), lambda at: self.stack.append(self.memo[at])
            ),
        }

    def take(self, name: str, argument: Any, position: int) -> None:
        """Do what one opcode means, or refuse it."""
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in self.handlers:
            self.handlers[name]()
        elif name in self.with_argument:
            self.with_argument[name](argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise self._refused(f"opcode {name} at byte {position}")

    def result(self) -> Any:
        """Return the one value that is left."""
        (value,) = self.stack
        return value

    def _refused(self, what: str) -> DatasetFormatError:
        problem = f"has {what}, which is no plain data; nothing of it was run, do not trust it"
        return format_error(self.file, "", problem)

    def _pop(self, count: int) -> list[Any]:
        values = self.stack[-count:]
        if len(values) < count or any(value is _MARK for value in values):
            raise ValueError("the stack is empty")
        del self.stack[-count:]
        return values

    def _above_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:  # IndexError where there is none
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("appends to what is no list")
        target.extend(values)

    def _update(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise TypeError("sets items of what is no dict")
        target.update(self._pairs(values))

    def _pairs(self, values: list[Any]) -> dict[Any, Any]:
        for key in values[::2]:
            if not isinstance(key, str | bytes | int):  # a tuple's hash recurses without a guard
                raise self._refused(f"a key of type {type(key).__name__}")
        return dict(zip(values[::2], values[1::2], strict=True))

    def _tuple(self, values: list[Any]) -> None:
        inner = [self.tuples[id(one)][1] for one in values if type(one) is tuple and one]
        depth = 1 + max(inner, default=0)
        if depth > _MOST_TUPLES:
            raise self._refused(f"more than {_MOST_TUPLES} tuples in one another")
        made = tuple(values)
        self.tuples[id(made)] = (made, depth)
        self.stack.append(made)

    def _put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def _name(self, name: str) -> None:
        if name not in _KNOWN:
            raise self._refused(f"the name {name.replace(' ', '.')!r}")
        self.stack.append(_Name(_KNOWN[name]))

    def _reduce(self) -> None:
        called, arguments = self._pop(2)
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise self._refused("a call of what is no name")
        if called.meaning == _RECONSTRUCT and arguments[0] == _Name(_NDARRAY):
            self.stack.append(_Array())
        elif called.meaning == _DTYPE and _NUMBERS.fullmatch(arguments[0]):
            self.stack.append(_NumberType(arguments[0]))
        elif called.meaning == _ENCODE and arguments[1] == "latin1":
            self.stack.append(self._encoded(arguments[0]))
        else:
            raise self._refused(f"a call of {called.meaning} with {reprlib.repr(arguments):.60}")

    def _encoded(self, text: str) -> bytes:
        self.left -= len(text)
        if self.left < 0:
            raise self._refused("more bytes in its arrays than in all of it")
        return text.encode("latin-1")

    def _build(self) -> None:
        (state,) = self._pop(1)
        target = self.stack[-1]
        if isinstance(target, _NumberType):
            target.order = state[1]
        elif isinstance(target, _Array):
            *others, content = state
            data = self._encoded(content) if isinstance(content, str) else content
            target.values = _array((*others, data))
        else:
            raise self._refused("a state for what is no array")


def _array(state: tuple[Any, ...]) -> np.ndarray:
    _, shape, number_type, by_columns, content = state
    if not isinstance(number_type, _NumberType) or number_type.order not in ("|", "<", ">", "="):
        raise TypeError("an array of what are no numbers")
    order = "=" if number_type.order == "|" else number_type.order
    values = np.frombuffer(content, dtype=np.dtype(order + number_type.code))
    return values.reshape(shape, order="F" if by_columns else "C")
