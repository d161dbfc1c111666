"""Many strings as two arrays: in memory, in files that are mapped when they are opened."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from .errors import StoreCorruptError
from .regular_files import check_regular
from .writing import write_npy

# Of a file name that is not UTF-8, and of JSON's lone surrogates, Python makes strings that have no
# encoding otherwise; they come back as they were.
_ERRORS = "surrogatepass"


class Strings(Sequence[str]):
    """Strings by row, in one buffer of UTF-8.

    Args:
        content: All of them in UTF-8, one after the other.
        ends: Where each one ends.
    """

    def __init__(
        self, content: UInt8[np.ndarray, " bytes"], ends: Integer[np.ndarray, " strings"]
    ) -> None:
        self.content = content
        self.ends = ends

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Strings":
        """Encode strings."""
        encoded = [string.encode(errors=_ERRORS) for string in strings]
        ends = np.cumsum([len(piece) for piece in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    @classmethod
    def read(cls, folder: Path, name: str) -> "Strings":
        """Map the files of `write`.

        Raises:
            StoreCorruptError: A file is missing or damaged.
        """
        content, ends = (_read(folder / file) for file in files_of(name))
        if content.dtype != np.uint8 or ends.dtype != np.int64 or content.ndim + ends.ndim != 2:
            raise StoreCorruptError(
                f"{folder}: the {name} are {content.dtype}{list(content.shape)} with ends in "
                f"{ends.dtype}{list(ends.shape)}, not one line of bytes and one of int64"
            )
        # the last end alone: reading all of a million would undo the mapping
        if len(content) != (int(ends[-1]) if len(ends) else 0):
            raise StoreCorruptError(f"{folder}: the {name} and their ends contradict one another")
        return cls(content, ends)

    def write(self, folder: Path, name: str) -> None:
        """Write `name.npy` and `name-ends.npy`."""
        for file, values in zip(files_of(name), (self.content, self.ends), strict=True):
            write_npy(folder / file, values)

    def __len__(self) -> int:
        return len(self.ends)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Strings):
            same_ends = np.array_equal(self.ends, other.ends)
            return same_ends and np.array_equal(self.content, other.content)
        if isinstance(other, Sequence) and not isinstance(other, str):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        rows = range(len(self))[index]
        return self.at(rows) if isinstance(rows, int) else [self.at(row) for row in rows]

    def __iter__(self) -> Iterator[str]:
        content, start = self.content.tobytes(), 0
        if content.isascii():  # a third of the time: decoded once, cut after it
            text = content.decode()
            for end in self.ends.tolist():
                yield text[start:end]
                start = end
            return
        yield from (self.at(row) for row in range(len(self)))

    def at(self, row: int) -> str:
        """Return the string of a row, counted from 0.

        Raises:
            StoreCorruptError: The ends contradict one another there, or the bytes are no UTF-8.
        """
        # checked here, as `read` has looked at the last end alone
        start, end = int(self.ends[row - 1]) if row else 0, int(self.ends[row])
        if not 0 <= start <= end <= len(self.content):
            raise StoreCorruptError(f"row {row} of saved strings is from byte {start} to {end}")
        try:
            return self.content[start:end].tobytes().decode(errors=_ERRORS)
        except UnicodeDecodeError as error:
            raise StoreCorruptError(f"row {row} of saved strings is not UTF-8: {error}") from error


class GrowingStrings:
    """Strings that come one by one; meanwhile they take no more memory than `Strings`."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._ends = array("q")

    def __len__(self) -> int:
        return len(self._ends)

    def append(self, string: str) -> None:
        """Append a string."""
        self._content += string.encode(errors=_ERRORS)
        self._ends.append(len(self._content))

    def extend(self, strings: Sequence[str]) -> None:
        """Append strings."""
        joined = "".join(strings)
        if not joined.isascii():
            for string in strings:
                self.append(string)
            return
        # a third of the time: encoded once
        ends = accumulate(map(len, strings), initial=len(self._content))
        self._content += joined.encode()
        self._ends.extend(islice(ends, 1, None))

    def strings(self) -> Strings:
        """Return all of them by now, as a copy."""
        content = np.frombuffer(bytes(self._content), dtype=np.uint8)
        return Strings(content, np.array(self._ends, dtype=np.int64))


def files_of(name: str) -> tuple[str, str]:
    """Return the names of two files: of the bytes, and of the ends of the strings."""
    return f"{name}.npy", f"{name}-ends.npy"


def _read(path: Path) -> Shaped[np.ndarray, "..."]:
    """Map an array.

    Raises:
        StoreCorruptError: The file is missing or damaged.
    """
    try:
        # mapping a pipe would wait for its writer
        check_regular(path)
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except PermissionError:
        raise
    except (OSError, ValueError, EOFError, OverflowError, RecursionError, MemoryError) as error:
        raise StoreCorruptError(f"cannot read {path}: {error}") from error
