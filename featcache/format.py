"""The contract of a container: named arrays in, bytes at a known place out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from .errors import StoreCorruptError
from .regular_files import open_regular, size_of

# All types that a shard may hold, by the names that NumPy and Zarr share. Nothing of another type
# is ever mapped: the bytes of a file would become pointers.
STORED_TYPES = ("uint8", "int8", "uint16", "float16", "float32", "int32", "int64")


@dataclass(frozen=True)
class ArrayLocation:
    """Say where the bytes of one array lie: little-endian and C-ordered, or compressed.

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
            StoreCorruptError: The compressed bytes cannot be read, or the file has changed.
        """
        assert self.dtype.name in STORED_TYPES, "compared when it was located"
        if 0 in self.shape:
            return np.empty(self.shape, dtype=self.dtype)
        if self.decompress is not None:
            return self.decompress()
        try:
            with open_regular(self.file) as file:
                return np.memmap(file, self.dtype, mode="r", offset=self.offset, shape=self.shape)
        except (OSError, ValueError) as error:
            raise StoreCorruptError(f"{self.file} cannot be mapped: {error}") from error

    @property
    def num_bytes(self) -> int:
        """Return the bytes of the array, decompressed."""
        return math.prod(self.shape) * self.dtype.itemsize


def check_span(location: ArrayLocation, *, whole: bool) -> None:
    """Pass if the bytes of an array lie within their file, which alone may be mapped.

    Args:
        location: Where they lie.
        whole: Whether they are all that the file holds.

    Raises:
        StoreCorruptError: The file is too short, or longer than it may be.
    """
    size = size_of(location.file)
    end = location.offset + location.num_bytes
    if location.num_bytes and (size < end or (whole and size != end)):
        found = "is not there" if size < 0 else f"has {size} bytes"
        raise StoreCorruptError(f"{location.file} {found}, expected {end} for {describe(location)}")


def describe(location: ArrayLocation) -> str:
    """Return type and shape of an array in words."""
    return f"{location.dtype.name} of shape {list(location.shape)}"


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

        Args:
            path: File or folder that does not exist yet.
            arrays: What to write, by name.
            compression: One of `COMPRESSIONS`, for the array `values` alone: the others are small
                and are wanted without decompressing anything.
        """

    @abstractmethod
    def locate(self, path: Path) -> dict[str, ArrayLocation]:
        """Return where each array of the shard at `path` lies.

        Each is of one of `STORED_TYPES` and lies within its file; whether types and shapes are
        those of the store, the store knows.

        Raises:
            StoreCorruptError: The file is not a shard of this format as we write it.
        """


COMPRESSED = "values"  # the array that `compression` is about
