"""Many strings as two arrays, which open in no time however many there are."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from ..featcache.errors import StoreCorruptError

# A path may hold bytes that are no UTF-8, and a caption that an older release stored may be half of
# a surrogate pair: both come back as they went in.
_ERRORS = "surrogatepass"


class Strings:
    """Hold strings by row.

    Args:
        content: All of them in UTF-8, one after the other.
        ends: Where each one ends.
    """

    def __init__(
        self, content: UInt8[np.ndarray, " bytes"], ends: Int64[np.ndarray, " strings"]
    ) -> None:
        self._content = content
        self._ends = ends

    @classmethod
    def of(cls, strings: Iterable[str]) -> "Strings":
        """Return these strings."""
        encoded = [string.encode("utf-8", _ERRORS) for string in strings]
        ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), ends)

    @classmethod
    def read(cls, folder: Path, name: str) -> "Strings":
        """Map what `write` wrote.

        Raises:
            StoreCorruptError: A file is missing or damaged.
        """
        try:
            content, ends = (
                np.load(folder / f"{name}{part}.npy", mmap_mode="r", allow_pickle=False)
                for part in ("", "-ends")
            )
        except (OSError, ValueError, EOFError) as error:
            raise StoreCorruptError(f"cannot read the {name} in {folder}: {error}") from error
        if len(content) != (int(ends[-1]) if len(ends) else 0):
            raise StoreCorruptError(f"{folder}: the {name} and their ends contradict one another")
        return cls(content, ends)

    def write(self, folder: Path, name: str) -> None:
        """Write `name.npy` and `name-ends.npy`."""
        np.save(folder / f"{name}.npy", self._content, allow_pickle=False)
        np.save(folder / f"{name}-ends.npy", self._ends, allow_pickle=False)

    def __len__(self) -> int:
        return len(self._ends)

    def at(self, row: int) -> str:
        """Return the string of a row, counted from 0."""
        start = int(self._ends[row - 1]) if row else 0
        return self._content[start : int(self._ends[row])].tobytes().decode("utf-8", _ERRORS)
