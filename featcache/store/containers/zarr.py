"""Zarr v3, uncompressed, one chunk per array: the chunk file is the raw array.

The metadata is a dozen fixed JSON fields and is written here directly: zarr-python leaves out
chunks that are all zero, and its JSON differs between releases, while a store must have the same
bytes whenever it is written. The tests read everything back with zarr-python.

Source: Zarr core specification 3.0, sections on array and group metadata and the `bytes` codec.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numcodecs
import numpy as np

from ...errors import StoreCorruptError
from ...regular_files import open_regular, read_regular
from ...writing import open_new, write_bytes
from ._compressed import check_header, most_compressed_bytes
from .base import COMPRESSED, ArrayLocation, ArrayType, Format, check_names, refusal

_MAX_METADATA_BYTES = 2**16
_CODECS: Mapping[str, Any] = {  # Any: numcodecs carries no types
    "zstd": numcodecs.Zstd(level=3, checksum=True),
    "blosc-lz4": numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE),
}


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


_GROUP = _json_bytes({"zarr_format": 3, "node_type": "group", "attributes": {}})


class ZarrFormat(Format):
    """Keep each shard as a Zarr group with one array folder per name."""

    suffix: ClassVar[str] = ""
    # the store is a Zarr group too, its shards are sub-groups: it opens as a whole
    store_files: ClassVar[Mapping[str, bytes]] = {"zarr.json": _GROUP}

    def write(
        self, path: Path, arrays: Mapping[str, np.ndarray], *, compression: str = "none"
    ) -> None:
        """Write a group folder with one array folder per name."""
        path.mkdir()
        write_bytes(path / "zarr.json", _GROUP)
        for name, array in arrays.items():
            folder = path / name
            folder.mkdir()
            method = compression if name == COMPRESSED else "none"
            metadata = _array_metadata(array.shape, array.dtype, method)
            write_bytes(folder / "zarr.json", _json_bytes(metadata))
            # an array without elements has no chunk, and so no file of one
            if array.size:
                chunk = _chunk_file(folder, array.ndim)
                chunk.parent.mkdir(parents=True)
                raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
                with open_new(chunk) as file:
                    file.write(raw.data if method == "none" else _CODECS[method].encode(raw))

    def locate(self, path: Path, expected: Mapping[str, ArrayType]) -> dict[str, ArrayLocation]:
        """Read the metadata of each array folder below `path`."""
        if not path.is_dir():
            raise StoreCorruptError(f"{path} is not a Zarr group")
        check_names(path, expected, [folder.name for folder in path.iterdir() if folder.is_dir()])
        return {name: _locate_array(path / name, array) for name, array in expected.items()}


def _chunk_file(folder: Path, ndim: int) -> Path:
    return folder.joinpath("c", *["0"] * ndim)


def _codec(compression: str, dtype: np.dtype[np.generic]) -> dict[str, Any] | None:
    """Return the codec as Zarr v3 metadata names it, or None for raw bytes."""
    options: dict[str, dict[str, Any]] = {
        "zstd": {"level": 3, "checksum": True},  # else most flipped bytes would go unseen
        "blosc-lz4": {
            "typesize": dtype.itemsize,
            "cname": "lz4",
            "clevel": 5,
            "shuffle": "shuffle",  # by bytes: the exponents of neighbours are alike
            "blocksize": 0,
        },
    }
    if compression == "none":
        return None
    return {"name": compression.partition("-")[0], "configuration": options[compression]}


def _array_metadata(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], compression: str
) -> dict[str, Any]:
    raw: dict[str, object] = {"name": "bytes"}
    if dtype.itemsize > 1:
        raw["configuration"] = {"endian": "little"}
    codec = _codec(compression, dtype)
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [max(1, size) for size in shape]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if dtype.kind == "f" else 0,
        "codecs": [raw] if codec is None else [raw, codec],
        "attributes": {},
    }


def _locate_array(folder: Path, expected: ArrayType) -> ArrayLocation:
    path = folder / "zarr.json"
    try:
        metadata = json.loads(read_regular(path, limit=_MAX_METADATA_BYTES))
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise StoreCorruptError(f"{path} is not that of a Zarr v3 array: {error}") from error
    if not isinstance(metadata, dict):
        raise refusal(path, expected="the metadata of an array", actual=metadata)
    array = expected.with_shape_of(metadata.get("shape"))
    written = _array_metadata(array.whole_shape, array.dtype, array.compression)
    for name, value in written.items():
        if not _is_same(metadata.get(name), value):
            raise refusal(path, expected=f"{name} {value}", actual=metadata.get(name))
    chunk = _chunk_file(folder, len(array.shape))
    dtype = array.dtype.newbyteorder("<")
    if array.compression != "none":
        return ArrayLocation(chunk, 0, array.whole_shape, dtype, lambda: _decompress(chunk, array))
    if array.num_bytes:
        _check_size(chunk, array.num_bytes)
    return ArrayLocation(chunk, 0, array.whole_shape, dtype)


def _is_same(value: object, written: object) -> bool:
    """Compare two JSON values; checksums of Zstandard may be left out, as they once were."""
    as_json = json.dumps(written)
    without = as_json.replace('"checksum": true', '"checksum": false')
    try:
        return json.dumps(value) in {as_json, without}
    except RecursionError:
        return False


def _check_size(chunk: Path, num_bytes: int) -> None:
    try:
        with open_regular(chunk) as file:
            size = os.fstat(file.fileno()).st_size
    except PermissionError:
        raise
    except OSError as error:
        raise StoreCorruptError(f"{chunk} cannot be read: {error.strerror}") from error
    if size != num_bytes:
        raise refusal(chunk, expected=f"{num_bytes} bytes", actual=f"{size} bytes")


def _decompress(chunk: Path, expected: ArrayType) -> np.ndarray:
    num_bytes = expected.num_bytes
    try:
        compressed = read_regular(chunk, limit=most_compressed_bytes(num_bytes))
        check_header(expected.compression, compressed, len(compressed), num_bytes)
        # not into an array of ours, which the decoder may leave in part as it was
        decoded: bytes = _CODECS[expected.compression].decode(compressed)
        return np.frombuffer(decoded, expected.dtype).reshape(expected.whole_shape)
    except PermissionError:
        raise
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        raise StoreCorruptError(f"{chunk} cannot be decompressed: {error}") from error
