"""Zarr v3, uncompressed, one chunk per array: the chunk file is the raw array.

The metadata is a dozen fixed JSON fields and is written here directly: zarr-python leaves out
chunks that are all zero, and its JSON differs between releases, while a store must have the same
bytes whenever it is written. The tests read everything back with zarr-python.

Source: Zarr core specification 3.0, sections on array and group metadata and the `bytes` codec.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import StoreCorruptError
from ..format import ArrayLocation, Format


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


_GROUP = _json_bytes({"zarr_format": 3, "node_type": "group", "attributes": {}})


class ZarrFormat(Format):
    """Keep each shard as a Zarr group with one array folder per name."""

    suffix: ClassVar[str] = ""
    # the store is a Zarr group too, its shards are sub-groups: it opens as a whole
    store_files: ClassVar[Mapping[str, bytes]] = {"zarr.json": _GROUP}

    def write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a group folder with one array folder per name."""
        path.mkdir()
        (path / "zarr.json").write_bytes(_GROUP)
        for name, array in arrays.items():
            folder = path / name
            folder.mkdir()
            (folder / "zarr.json").write_bytes(_json_bytes(_array_metadata(array)))
            if array.size:
                chunk = _chunk_file(folder, array.ndim)
                chunk.parent.mkdir(parents=True)
                with chunk.open("wb") as file:
                    file.write(np.ascontiguousarray(_little_endian(array)).data)

    def locate(self, path: Path) -> dict[str, ArrayLocation]:
        """Read the metadata of each array folder below `path`."""
        return {
            folder.name: _locate_array(folder)
            for folder in sorted(path.iterdir())
            if folder.is_dir()
        }


def _chunk_file(folder: Path, ndim: int) -> Path:
    return folder.joinpath("c", *["0"] * ndim)


def _little_endian(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _array_metadata(array: np.ndarray) -> dict[str, object]:
    codec: dict[str, object] = {"name": "bytes"}
    if array.dtype.itemsize > 1:
        codec["configuration"] = {"endian": "little"}
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
        "codecs": [codec],
        "attributes": {},
    }


def _locate_array(folder: Path) -> ArrayLocation:
    try:
        metadata = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        shape = tuple(int(size) for size in metadata["shape"])
        dtype = np.dtype(metadata["data_type"]).newbyteorder("<")
        codecs = [codec["name"] for codec in metadata["codecs"]]
        chunk_shape = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreCorruptError(f"{folder} is not a Zarr v3 array: {error}") from error
    if codecs != ["bytes"] or chunk_shape != [max(1, size) for size in shape]:
        raise StoreCorruptError(f"{folder} is not one uncompressed chunk: codecs {codecs}")
    return ArrayLocation(_chunk_file(folder, len(shape)), 0, shape, dtype)
