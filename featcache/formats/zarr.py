"""Zarr v3, uncompressed, one chunk per array: the chunk file is the raw array.

The metadata is a dozen fixed JSON fields and is written here directly: zarr-python leaves out
chunks that are all zero, and its JSON differs between releases, while a store must have the same
bytes whenever it is written. The tests read everything back with zarr-python.

Source: Zarr core specification 3.0, sections on array and group metadata and the `bytes` codec.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numcodecs
import numpy as np

from .. import documents
from ..errors import StoreCorruptError
from ..format import COMPRESSED, STORED_TYPES, ArrayLocation, Format, check_span
from ..regular_files import read_regular
from ._headers import check_blosc, check_zstd

_METADATA_BYTES = 2**16  # of a `zarr.json`: ours have less than one kilobyte
_SHOWN = 80  # characters of what a message quotes
_SLACK = 2**16  # bytes by which what cannot be compressed may grow


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
        (path / "zarr.json").write_bytes(_GROUP)
        for name, array in arrays.items():
            folder = path / name
            folder.mkdir()
            codec = _codec(compression if name == COMPRESSED else "none", array.dtype)
            (folder / "zarr.json").write_bytes(
                _json_bytes(_array_metadata(array.shape, array.dtype, codec))
            )
            if array.size:
                chunk = _chunk_file(folder, array.ndim)
                chunk.parent.mkdir(parents=True)
                raw = np.ascontiguousarray(_little_endian(array))
                with chunk.open("wb") as file:
                    file.write(raw.data if codec is None else _build(codec).encode(raw))

    def locate(self, path: Path) -> dict[str, ArrayLocation]:
        """Read the metadata of each array folder below `path`."""
        if not path.is_dir():
            raise StoreCorruptError(f"{path} is not a Zarr group")
        folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
        return {folder.name: _locate_array(folder) for folder in folders}


def _chunk_file(folder: Path, ndim: int) -> Path:
    return folder.joinpath("c", *["0"] * ndim)


def _little_endian(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


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


def _build(codec: Mapping[str, Any]) -> Any:  # Any: numcodecs carries no types
    options = dict(codec.get("configuration", {}))
    if codec["name"] == "blosc":
        options["shuffle"] = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[options["shuffle"]]
        options.pop("typesize", None)  # numcodecs takes it from the array
        return numcodecs.Blosc(**options)
    return numcodecs.Zstd(level=options["level"], checksum=options["checksum"])


def _array_metadata(
    shape: tuple[int, ...], dtype: np.dtype[np.generic], codec: Mapping[str, Any] | None
) -> dict[str, object]:
    raw: dict[str, object] = {"name": "bytes"}
    if dtype.itemsize > 1:
        raw["configuration"] = {"endian": "little"}
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


def _locate_array(folder: Path) -> ArrayLocation:
    path = folder / "zarr.json"
    try:
        metadata = documents.read_json(path, limit=_METADATA_BYTES)
    except OSError as error:
        raise StoreCorruptError(f"{path} cannot be read: {error.strerror}") from error
    shape, dtype, codec = _parse_metadata(path, metadata)
    chunk = _chunk_file(folder, len(shape))
    if codec is None:
        location = ArrayLocation(chunk, 0, shape, dtype)
        check_span(location, whole=True)
        return location
    return ArrayLocation(chunk, 0, shape, dtype, lambda: _decompress(chunk, codec, shape, dtype))


def _parse_metadata(
    path: Path, metadata: Any
) -> tuple[tuple[int, ...], np.dtype[np.generic], Mapping[str, Any] | None]:
    """Return shape, type and codec of an array whose metadata are just those that we write.

    Raises:
        StoreCorruptError: They differ in anything.
    """
    fields = metadata if isinstance(metadata, dict) else {}
    shape, name, codecs = (fields.get(key) for key in ("shape", "data_type", "codecs"))
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise _differs(path, "shape", shape, "whole numbers")
    if not isinstance(name, str) or name not in STORED_TYPES:
        raise _differs(path, "data_type", name, f"one of {', '.join(STORED_TYPES)}")
    if not isinstance(codecs, list) or not 1 <= len(codecs) <= 2:
        raise _differs(path, "codecs", codecs, "bytes, and zstd or blosc after it")
    dtype = np.dtype(name).newbyteorder("<")
    codec = codecs[1] if len(codecs) == 2 else None
    if codec is not None and codec not in _known_codecs(dtype):
        raise _differs(path, "codecs", codecs, "zstd or blosc as lightalign sets them")
    for key, expected in _array_metadata(tuple(shape), dtype, codec).items():
        if fields.get(key) != expected:
            raise _differs(path, key, fields.get(key), repr(expected))
    return tuple(shape), dtype, codec


def _differs(path: Path, field: str, found: object, expected: str) -> StoreCorruptError:
    return StoreCorruptError(
        f"{path} is not a Zarr v3 array of ours: {field} is {repr(found)[:_SHOWN]}, "
        f"expected {expected}"
    )


def _known_codecs(dtype: np.dtype[np.generic]) -> list[Any]:
    """Return all codecs that we have ever written, the first Zstandard without its checksum."""
    without = {"name": "zstd", "configuration": {"level": 3, "checksum": False}}
    return [_codec("zstd", dtype), _codec("blosc-lz4", dtype), without]


def _decompress(
    chunk: Path, codec: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> np.ndarray:
    num_bytes = math.prod(shape) * dtype.itemsize
    try:
        compressed = read_regular(chunk, limit=num_bytes + num_bytes // 64 + _SLACK)
        check = check_blosc if codec["name"] == "blosc" else check_zstd
        check(compressed, num_bytes, num_encoded=len(compressed))
        # not into an array of ours, which the decoder may leave in part as it was
        decoded: bytes = _build(codec).decode(compressed)
        return np.frombuffer(decoded, dtype).reshape(shape)
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        raise StoreCorruptError(f"{chunk} cannot be decompressed: {error}") from error
