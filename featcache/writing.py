"""Write files so that a full or broken disk is an `OSError` that has the name of the file.

Python leaves the name out where a write fails, and libraries that write by themselves raise what
they like or end the process. What can be made in memory or piece by piece is written here.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import DiskSpaceError

# of the system's errors inside of libraries: by Rust's standard library, and by ours and C++'s
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)|\[[Ee]rrno (\d+)\]")
_SAFETENSORS_TYPES = {  # by what NumPy and torch call them
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # by NumPy, which does not say why


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an error of the system that names no file the name of `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def open_new(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write into, from its beginning on."""
    with naming(path), path.open("wb") as file:
        yield file


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file."""
    with open_new(path) as file:
        file.write(content)


@contextmanager
def by_library(path: Path) -> Iterator[None]:
    """Let a library write `path` by itself, and raise what the system told it there.

    Raises:
        OSError: It cannot be written; the error has the name.
        DiskSpaceError: It was not written to its end.
    """
    try:
        with naming(path):
            yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if _CUT_SHORT.search(str(error)):
            raise DiskSpaceError(f"{path} was not written to its end: {error}") from error
        told = _SYSTEM_ERROR.search(str(error))
        if told is None:
            raise
        number = int(told[1] or told[2])
        raise OSError(number, os.strerror(number), str(path)) from error


def write_npy_header(file: BinaryIO, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
    """Write the head of an `.npy` file; the array follows, in C order."""
    described = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        file, {"descr": described, "fortran_order": False, "shape": shape}
    )


def write_npy(path: Path, array: np.ndarray) -> None:
    """Write an array as `numpy.save` does."""
    with open_new(path) as file:
        write_npy_header(file, array.dtype, array.shape)
        file.write(bytes_of(array))


def bytes_of(array: np.ndarray) -> memoryview:
    """Return the bytes of an array in C order, without a copy where they lie so."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def safetensors_header(
    arrays: Mapping[str, tuple[str, tuple[int, ...], int]], metadata: Mapping[str, str]
) -> bytes:
    """Return the head of a safetensors file: its length, then places and shapes as JSON.

    Of each array, in the order of the file, its type, as NumPy or torch names it, its shape and its
    bytes are given. Source: the format's description in the README of huggingface/safetensors.
    """
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (dtype, shape, num_bytes) in arrays.items():
        start, end = end, end + num_bytes
        kind = _SAFETENSORS_TYPES[dtype]
        table[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)  # the data shall begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text
