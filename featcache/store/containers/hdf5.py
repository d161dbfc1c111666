"""HDF5, one file a shard, contiguous datasets: each array lies at one known offset of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import hdf5plugin  # registers the filters with the HDF5 library, for reading too
import numpy as np
from h5py import h5d, h5o, h5t, h5z

from ...errors import StoreCorruptError
from ...regular_files import check_regular, open_regular
from ...writing import write_bytes
from ._compressed import check_header
from .base import COMPRESSED, ArrayLocation, ArrayType, Format, check_names, refusal

# what h5py raises for damaged files, depending on which of their structures is hit
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError, OverflowError)
_FILTERS: Mapping[str, Any] = {
    "zstd": hdf5plugin.Zstd(clevel=3),
    "blosc-lz4": hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
}
_HEADER_BYTES = 32  # enough for that of each compression
_CHECKSUM_BYTES = 4
_NOT_COMPRESSED = 0b01  # in the mask of a chunk that compression would not have made smaller
_BLOCK_BYTES = 2**22  # by which a file in memory grows


class Hdf5Format(Format):
    """Keep each shard as one HDF5 file with one contiguous dataset per name."""

    suffix: ClassVar[str] = ".h5"

    def write(
        self, path: Path, arrays: Mapping[str, np.ndarray], *, compression: str = "none"
    ) -> None:
        """Write one file; without time stamps, so that equal arrays give equal bytes.

        The library makes it in memory, as it ends the process where a disk fills under it.
        """
        write_bytes(path, _file_image(arrays, compression))

    def locate(self, path: Path, expected: Mapping[str, ArrayType]) -> dict[str, ArrayLocation]:
        """Read the offset of each dataset of the file."""
        try:
            check_regular(path)
            num_bytes = path.stat().st_size
            with h5py.File(path, "r") as file:
                check_names(path, expected, file)
                return {
                    name: _locate_dataset(path, _dataset(path, file, name), array, num_bytes)
                    for name, array in expected.items()
                }
        except (StoreCorruptError, PermissionError):
            raise
        except _DAMAGE as error:
            raise StoreCorruptError(f"{path} is not an HDF5 file of ours: {error}") from error


def _file_image(arrays: Mapping[str, np.ndarray], compression: str) -> bytes:
    in_memory: dict[str, Any] = {"driver": "core", "backing_store": False}
    with h5py.File("shard", "w", block_size=_BLOCK_BYTES, **in_memory) as file:
        for name, array in arrays.items():
            # whatever the machine: the bytes of a store are the same on all of them
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            options: dict[str, Any] = {}
            if name == COMPRESSED and array.size and compression != "none":
                # one chunk, as reading goes shard by shard; its checksum comes before the
                # decompressors, which believe damaged bytes
                options = {"chunks": array.shape, "fletcher32": True, **_FILTERS[compression]}
            file.create_dataset(name, data=little, track_times=False, **options)
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset that lies in this very file: no link elsewhere, no group, no type."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise refusal(path, expected=f"a dataset {name}", actual=f"a {type(link).__name__}")
    identifier = h5o.open(file.id, name.encode())
    if not isinstance(identifier, h5d.DatasetID):
        kind = type(identifier).__name__.removesuffix("ID")
        raise refusal(path, expected=f"a dataset {name}", actual=f"a {kind}")
    return h5py.Dataset(identifier)


def _locate_dataset(
    path: Path, dataset: h5py.Dataset, expected: ArrayType, file_bytes: int
) -> ArrayLocation:
    name = dataset.name.removeprefix("/")
    array = expected.with_shape_of(dataset.shape)
    if dataset.shape != array.shape or not _is_of_type(dataset, array.dtype):
        actual = f"{dataset.dtype} {dataset.shape}"
        raise refusal(path, expected=f"{name} to be {expected}", actual=actual)
    if not dataset.size:
        return ArrayLocation(path, 0, dataset.shape, array.dtype)
    properties = dataset.id.get_create_plist()
    if array.compression != "none":
        _check_filters(path, name, properties, array)
        chunk = _chunk(path, dataset)
        first, length = chunk.byte_offset, chunk.size
        location = ArrayLocation(
            path, 0, array.whole_shape, array.dtype, lambda: _decompress(path, name, array)
        )
    else:
        if properties.get_layout() != h5d.CONTIGUOUS or properties.get_external_count():
            raise refusal(path, expected=f"{name} to be contiguous", actual="another layout")
        first, length = dataset.id.get_offset(), dataset.id.get_storage_size()
        if first is None or length != array.num_bytes:
            raise refusal(path, expected=f"{array.num_bytes} bytes of {name}", actual=length)
        location = ArrayLocation(path, first, array.whole_shape, array.dtype)
    if first + length > file_bytes:
        reach = f"{name} in bytes {first} to {first + length}"
        raise refusal(path, expected=reach, actual=f"a file of {file_bytes}")
    return location


def _is_of_type(dataset: h5py.Dataset, dtype: np.dtype[np.generic]) -> bool:
    """Compare types as the file has them: enumerations look like whole numbers in NumPy."""
    return bool(dataset.id.get_type().equal(h5t.py_create(dtype.newbyteorder("<"))))


def _check_filters(path: Path, name: str, properties: Any, array: ArrayType) -> None:
    filters = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if filters != [_FILTERS[array.compression].filter_id, h5z.FILTER_FLETCHER32]:
        actual = f"the filters {filters}"
        raise refusal(
            path, expected=f"{name} to be {array.compression} with a checksum", actual=actual
        )
    if properties.get_layout() != h5d.CHUNKED or properties.get_chunk() != array.shape:
        raise refusal(path, expected=f"{name} to be one chunk", actual="another layout")


def _chunk(path: Path, dataset: h5py.Dataset) -> Any:
    """Return where the only chunk lies, and which filters it leaves out."""
    if dataset.id.get_num_chunks() != 1:
        raise refusal(path, expected="one chunk", actual=dataset.id.get_num_chunks())
    chunk = dataset.id.get_chunk_info(0)
    if chunk.filter_mask not in {0, _NOT_COMPRESSED}:
        raise refusal(path, expected="a checksum of the chunk", actual="none")
    return chunk


def _decompress(path: Path, name: str, expected: ArrayType) -> np.ndarray:
    try:
        with h5py.File(path, "r") as file:
            dataset = _dataset(path, file, name)
            _check_chunk(path, _chunk(path, dataset), expected)
            array: np.ndarray = dataset[()]
    except _DAMAGE as error:
        raise StoreCorruptError(f"{path}: {name} cannot be decompressed: {error}") from error
    return array


def _check_chunk(path: Path, chunk: Any, expected: ArrayType) -> None:
    """Compare the size and header of the only chunk with the array that it must become."""
    length = chunk.size - _CHECKSUM_BYTES
    if chunk.filter_mask & _NOT_COMPRESSED:
        if length != expected.num_bytes:
            raise ValueError(f"found {length} raw bytes, expected {expected.num_bytes}")
        return
    with open_regular(path) as file:
        file.seek(chunk.byte_offset)
        header = file.read(max(0, min(_HEADER_BYTES, length)))
    check_header(expected.compression, header, length, expected.num_bytes)
