"""HDF5, one file a shard, contiguous datasets: each array lies at one known offset of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from ..errors import StoreCorruptError
from ..format import ArrayLocation, Format


class Hdf5Format(Format):
    """Keep each shard as one HDF5 file with one contiguous dataset per name."""

    suffix: ClassVar[str] = ".h5"

    def write(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one file; without time stamps, so that equal arrays give equal bytes."""
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                file.create_dataset(name, data=little, track_times=False)

    def locate(self, path: Path) -> dict[str, ArrayLocation]:
        """Read the offset of each dataset of the file."""
        try:
            with h5py.File(path, "r") as file:
                return {name: _locate_dataset(path, dataset) for name, dataset in file.items()}
        except OSError as error:
            raise StoreCorruptError(f"{path} is not an HDF5 file: {error}") from error


def _locate_dataset(path: Path, dataset: h5py.Dataset) -> ArrayLocation:
    offset = dataset.id.get_offset()
    if offset is None and dataset.size:
        raise StoreCorruptError(f"{path}: dataset {dataset.name} is not contiguous")
    return ArrayLocation(path, offset or 0, dataset.shape, dataset.dtype)
