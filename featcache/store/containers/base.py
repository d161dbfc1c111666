"""The contract of a container: named arrays in, bytes at a known place out.

Nothing of a file decides how much memory is taken or what a pointer is made of: whoever reads a
shard says the type and the shape of every array beforehand, and another one is refused.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from ...errors import StoreCorruptError

_SHOWN = 120  # characters of what a damaged file says instead


@dataclass(frozen=True)
class ArrayType:
    """Type and shape that an array of a shard must have.

    Attributes:
        dtype: Type of one element.
        shape: Length of each axis; None where any length from 1 will do.
        compression: One of `COMPRESSIONS`.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]
    compression: str = "none"

    def with_shape_of(self, actual: object) -> "ArrayType":
        """Return the type with each open axis as long as in `actual`, which may be anything."""
        if not isinstance(actual, list | tuple) or len(actual) != len(self.shape):
            return self
        shape = tuple(
            there if length is None and type(there) is int and there > 0 else length
            for length, there in zip(self.shape, actual, strict=True)
        )
        return replace(self, shape=shape)

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """Return the shape with 1 for each axis that is still open."""
        return tuple(1 if length is None else length for length in self.shape)

    @property
    def num_bytes(self) -> int:
        """Return the bytes of the array."""
        return math.prod(self.whole_shape) * self.dtype.itemsize

    def __str__(self) -> str:
        axes = ", ".join("any" if length is None else str(length) for length in self.shape)
        return f"{self.dtype.name} [{axes}]"


@dataclass(frozen=True)
class ArrayLocation:
    """Location of the bytes of one array: little-endian and C-ordered, or compressed.

    Attributes:
        file: File that holds them.
        offset: First byte.
        shape: Shape of the array.
        dtype: Type of one element.
        decompress: Returns the whole array where the bytes are compressed, else None.
    """

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    decompress: Callable[[], np.ndarray] | None = None

    def read(self) -> np.ndarray:
        """Return the array: memory-mapped read-only if raw, in memory if it was compressed.

        Raises:
            StoreCorruptError: The compressed bytes cannot be read.
        """
        # nothing cannot be mapped, and may have no file
        if 0 in self.shape:
            return np.empty(self.shape, dtype=self.dtype)
        if self.decompress is not None:
            return self.decompress()
        return np.memmap(self.file, self.dtype, mode="r", offset=self.offset, shape=self.shape)


class Format(ABC):
    """Write one shard of named arrays so that any tool of the format and a memory map can read it.

    Attributes:
        suffix: What the name of a shard ends with.
        store_files: Content of the files that a store needs besides its shards, by name.
    """

    suffix: ClassVar[str]
    store_files: ClassVar[Mapping[str, bytes]] = {}

    @abstractmethod
    def write(
        self, path: Path, arrays: Mapping[str, np.ndarray], *, compression: str = "none"
    ) -> None:
        """Write `arrays` to the new file or folder `path`, the same bytes for the same arrays.

        The compression, one of `COMPRESSIONS`, is for the array `values` alone: the others are
        small and are wanted without decompressing anything.
        """

    @abstractmethod
    def locate(self, path: Path, expected: Mapping[str, ArrayType]) -> dict[str, ArrayLocation]:
        """Return where each of the `expected` arrays, and none else, lies in the shard at `path`.

        Raises:
            StoreCorruptError: The file is not a shard of this format, or holds something else.
        """


COMPRESSED = "values"  # the array that `compression` is about


def refusal(path: Path, *, expected: object, actual: object) -> StoreCorruptError:
    """Return the error of a file that holds something else than it must, in one short line."""
    text = " ".join(str(actual).split())
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return StoreCorruptError(f"{path}: expected {expected}, found {shown}")


def check_names(path: Path, expected: Iterable[str], actual: Iterable[str]) -> None:
    """Compare the names of the arrays of a shard.

    Raises:
        StoreCorruptError: They differ.
    """
    names, actual_names = sorted(expected), sorted(actual)
    if names != actual_names:
        raise refusal(path, expected=f"the arrays {names}", actual=actual_names)
