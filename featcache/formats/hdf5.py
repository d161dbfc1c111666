"""HDF5, one file a shard, contiguous datasets: each array lies at one known offset of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import hdf5plugin  # registers the filters with the HDF5 library, for reading too
import numpy as np

from ..errors import StoreCorruptError
from ..format import COMPRESSED, ArrayLocation, Format

# what h5py raises for damaged files, depending on which of their structures is hit
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError)


class Hdf5Format(Format):
    """Keep each shard as one HDF5 file with one contiguous dataset per name."""

    suffix: ClassVar[str] = ".h5"

    def write(
        self, path: Path, arrays: Mapping[str, np.ndarray], *, compression: str = "none"
    ) -> None:
        """Write one file; without time stamps, so that equal arrays give equal bytes."""
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                options = _filter(compression, array) if name == COMPRESSED and array.size else {}
                file.create_dataset(name, data=little, track_times=False, **options)

    def locate(self, path: Path) -> dict[str, ArrayLocation]:
        """Read the offset of each dataset of the file."""
        try:
            with h5py.File(path, "r") as file:
                return {name: _locate_dataset(path, dataset) for name, dataset in file.items()}
        except _DAMAGE as error:
            raise StoreCorruptError(f"{path} is not an HDF5 file of ours: {error}") from error


def _locate_dataset(path: Path, dataset: h5py.Dataset) -> ArrayLocation:
    if dataset.chunks is not None:
        name = dataset.name
        return ArrayLocation(path, 0, dataset.shape, dataset.dtype, lambda: _decompress(path, name))
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise StoreCorruptError(f"{path}: dataset {dataset.name} is not contiguous")
    return ArrayLocation(path, offset or 0, dataset.shape, dataset.dtype)


def _filter(compression: str, array: np.ndarray) -> dict[str, Any]:
    """Return options of `create_dataset`: one chunk, as reading goes shard by shard."""
    filters: dict[str, Any] = {
        "zstd": hdf5plugin.Zstd(clevel=3),
        "blosc-lz4": hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
    }
    if compression == "none":
        return {}
    # the checksum of the chunk comes before the decompressors, which believe damaged bytes
    return {"chunks": array.shape, "fletcher32": True, **filters[compression]}


def _decompress(path: Path, name: str) -> np.ndarray:
    try:
        with h5py.File(path, "r") as file:
            array: np.ndarray = file[name][()]
    except _DAMAGE as error:
        raise StoreCorruptError(f"{path}: {name} cannot be decompressed: {error}") from error
    return array
