"""Zarr v3, uncompressed, one chunk per array: the chunk file is the raw array.

The metadata is a dozen fixed JSON fields and is written here directly: zarr-python leaves out
chunks that are all zero, and its JSON differs between releases, while a store must have the same
bytes whenever it is written. The tests read everything back with zarr-python.

Source: Zarr core specification 3.0, sections on array and group metadata and the `bytes` codec.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numcodecs
import numpy as np

from ..errors import StoreCorruptError
from ..format import COMPRESSED, ArrayLocation, Format


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
            (folder / "zarr.json").write_bytes(_json_bytes(_array_metadata(array, codec)))
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
        return {
            folder.name: _locate_array(folder)
            for folder in sorted(path.iterdir())
            if folder.is_dir()
        }


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


def _array_metadata(array: np.ndarray, codec: Mapping[str, Any] | None) -> dict[str, object]:
    raw: dict[str, object] = {"name": "bytes"}
    if array.dtype.itemsize > 1:
        raw["configuration"] = {"endian": "little"}
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": array.dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [max(1, size) for size in array.shape]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if array.dtype.kind == "f" else 0,
        "codecs": [raw] if codec is None else [raw, codec],
        "attributes": {},
    }


def _locate_array(folder: Path) -> ArrayLocation:
    try:
        metadata = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        shape = tuple(int(size) for size in metadata["shape"])
        dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
        codecs = [str(codec["name"]) for codec in metadata["codecs"]]
        chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreCorruptError(f"{folder} is not a Zarr v3 array: {error}") from error
    known = codecs in (["bytes"], ["bytes", "zstd"], ["bytes", "blosc"])
    if not known or chunk_shape != [max(1, size) for size in shape]:
        raise StoreCorruptError(f"{folder} is not one chunk of ours: codecs {codecs}")
    chunk = _chunk_file(folder, len(shape))
    if len(codecs) == 1:
        return ArrayLocation(chunk, 0, shape, dtype)
    codec = metadata["codecs"][1]
    return ArrayLocation(chunk, 0, shape, dtype, lambda: _decompress(chunk, codec, shape, dtype))


def _decompress(
    chunk: Path, codec: Mapping[str, Any], shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> np.ndarray:
    num_bytes = math.prod(shape) * dtype.itemsize
    try:
        compressed = chunk.read_bytes()
        if codec["name"] == "blosc":
            _check_blosc(compressed, num_bytes)
        # not into an array of ours, which the decoder may leave in part as it was
        decoded: bytes = _build(codec).decode(compressed)
        return np.frombuffer(decoded, dtype).reshape(shape)
    except (OSError, RuntimeError, ValueError, MemoryError, struct.error) as error:
        raise StoreCorruptError(f"{chunk} cannot be decompressed: {error}") from error


def _check_blosc(compressed: bytes, num_bytes: int) -> None:
    """Hold the header against the file: the decoder believes it, and reads and writes beyond.

    Source: c-blosc 1, README_CHUNK_FORMAT.rst.

    Raises:
        ValueError: A size differs.
        struct.error: There are no 16 bytes.
    """
    decoded, _, encoded = struct.unpack_from("<4x3I", compressed)
    if (decoded, encoded) != (num_bytes, len(compressed)):
        raise ValueError(
            f"its header says {encoded} bytes that become {decoded}, "
            f"found {len(compressed)} that should become {num_bytes}"
        )
