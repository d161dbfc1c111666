"""The contract of a container: named arrays in, bytes at a known place out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np


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
            StoreCorruptError: The compressed bytes cannot be read.
        """
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

        Args:
            path: File or folder that does not exist yet.
            arrays: What to write, by name.
            compression: One of `COMPRESSIONS`, for the array `values` alone: the others are small
                and are wanted without decompressing anything.
        """

    @abstractmethod
    def locate(self, path: Path) -> dict[str, ArrayLocation]:
        """Return where each array of the shard at `path` lies.

        Raises:
            StoreCorruptError: The file is not a shard of this format.
        """


COMPRESSED = "values"  # the array that `compression` is about
