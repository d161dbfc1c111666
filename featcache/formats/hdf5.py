"""HDF5, one file a shard, contiguous datasets: each array lies at one known offset of the file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import h5py
import hdf5plugin  # registers the filters with the HDF5 library, for reading too
import numpy as np

from ..errors import StoreCorruptError
from ..format import COMPRESSED, STORED_TYPES, ArrayLocation, Format, check_span
from ..regular_files import check_regular, open_regular, size_of
from ._headers import check_blosc, check_zstd

# what h5py raises for damaged files, depending on which of their structures is hit
_DAMAGE = (OSError, KeyError, RuntimeError, ValueError, TypeError)
_FLETCHER, _BLOSC, _ZSTD = h5py.h5z.FILTER_FLETCHER32, 32001, 32015
_HEADER_BYTES = 18  # the longest header of a Zstandard frame; Blosc has 16
_BLOCK_BYTES = 2**20  # room for the structures between the arrays


class Hdf5Format(Format):
    """Keep each shard as one HDF5 file with one contiguous dataset per name."""

    suffix: ClassVar[str] = ".h5"

    def write(
        self, path: Path, arrays: Mapping[str, np.ndarray], *, compression: str = "none"
    ) -> None:
        """Write one file; without time stamps, so that equal arrays give equal bytes.

        It is built in memory: where the disk is full the library ends the process.
        """
        block = sum(array.nbytes for array in arrays.values()) + _BLOCK_BYTES
        with h5py.File(
            path.name, "w", driver="core", backing_store=False, block_size=block
        ) as file:
            for name, array in arrays.items():
                little = array.astype(array.dtype.newbyteorder("<"), copy=False)
                options = _filter(compression, array) if name == COMPRESSED and array.size else {}
                file.create_dataset(name, data=little, track_times=False, **options)
            file.flush()
            content = file.id.get_file_image()
        path.write_bytes(content)

    def locate(self, path: Path) -> dict[str, ArrayLocation]:
        """Read the offset of each dataset of the file."""
        try:
            check_regular(path)
            with h5py.File(path, "r") as file:
                if file.userblock_size:
                    raise StoreCorruptError(f"{path} begins with {file.userblock_size} other bytes")
                return {name: _locate_dataset(path, file, name) for name in _names(file)}
        except _DAMAGE as error:
            if isinstance(error, StoreCorruptError):
                raise
            raise StoreCorruptError(f"{path} is not an HDF5 file of ours: {error}") from error


def _names(file: h5py.File) -> list[str]:
    """Return the names in the file; none is followed, so that no link leads anywhere."""
    return [name.decode("utf-8") for name in file.id]


def _locate_dataset(path: Path, file: h5py.File, name: str) -> ArrayLocation:
    """Return where a dataset lies that is as we write it.

    Raises:
        StoreCorruptError: It is not a plain dataset of one of our types within this file.
    """
    where = f"{path}: {name}"
    raw_name = name.encode()
    if file.id.links.get_info(raw_name).type != h5py.h5l.TYPE_HARD:
        raise StoreCorruptError(f"{where} is a link to elsewhere, expected a dataset")
    if h5py.h5o.get_info(file.id, raw_name).type != h5py.h5o.TYPE_DATASET:
        raise StoreCorruptError(f"{where} is a group or a type, expected a dataset")
    dataset = h5py.h5d.open(file.id, raw_name)
    dtype = _stored_type(where, dataset)
    if dataset.get_space().get_simple_extent_type() != h5py.h5s.SIMPLE:
        raise StoreCorruptError(f"{where} has no shape")
    shape = tuple(int(size) for size in dataset.shape)
    created = dataset.get_create_plist()
    layout = created.get_layout()
    if layout == h5py.h5d.CONTIGUOUS and not created.get_external_count():
        location = ArrayLocation(path, dataset.get_offset() or 0, shape, dtype)
        if location.num_bytes and dataset.get_offset() is None:
            raise StoreCorruptError(f"{where} has no bytes in the file")
        check_span(location, whole=False)
        return location
    if layout != h5py.h5d.CHUNKED:
        raise StoreCorruptError(f"{where} is not contiguous in this file")
    location = ArrayLocation(path, 0, shape, dtype, lambda: _decompress(path, name, shape, dtype))
    _check_chunk(where, dataset, location)
    return location


def _stored_type(where: str, dataset: h5py.h5d.DatasetID) -> np.dtype[np.generic]:
    """Return the type of a dataset; enumerations and what holds pointers are none of ours."""
    stored = dataset.get_type()
    for name in STORED_TYPES:
        little = np.dtype(name).newbyteorder("<")
        if stored.equal(h5py.h5t.py_create(little)):
            return little
    raise StoreCorruptError(
        f"{where} is of type {_in_words(stored)}, expected one of {', '.join(STORED_TYPES)}"
    )


def _in_words(stored: h5py.h5t.TypeID) -> str:
    try:
        return str(stored.dtype)
    except (TypeError, ValueError, RuntimeError):  # NumPy has no such type
        return f"class {stored.get_class()}"


def _check_chunk(where: str, dataset: h5py.h5d.DatasetID, location: ArrayLocation) -> None:
    """Pass if a compressed dataset is one chunk of ours that becomes as many bytes as it should.

    Raises:
        StoreCorruptError: It is not.
    """
    created = dataset.get_create_plist()
    filters = [created.get_filter(number)[0] for number in range(created.get_nfilters())]
    if set(filters) not in ({_ZSTD, _FLETCHER}, {_BLOSC, _FLETCHER}, {_ZSTD}, {_BLOSC}):
        raise StoreCorruptError(f"{where} has filters {filters}, expected Zstandard or Blosc")
    if created.get_chunk() != location.shape or dataset.get_num_chunks() != 1:
        raise StoreCorruptError(
            f"{where} has {dataset.get_num_chunks()} chunks of {list(created.get_chunk())}, "
            f"expected one of {list(location.shape)}"
        )
    chunk = dataset.get_chunk_info(0)
    size = size_of(location.file)
    if chunk.byte_offset is None or chunk.byte_offset + chunk.size > size:
        raise StoreCorruptError(f"{where}: its chunk is not within the {size} bytes of the file")
    num_encoded = chunk.size - (4 if _FLETCHER in filters else 0)
    skipped = 1 << next(place for place, one in enumerate(filters) if one != _FLETCHER)
    if chunk.filter_mask:  # Blosc leaves as it is what would not become smaller
        if (chunk.filter_mask, num_encoded) != (skipped, location.num_bytes):
            raise StoreCorruptError(f"{where} leaves out filters, and has {num_encoded} bytes")
        return
    with open_regular(location.file) as file:
        file.seek(chunk.byte_offset)
        header = file.read(_HEADER_BYTES)
    check = check_blosc if _BLOSC in filters else check_zstd
    try:
        check(header, location.num_bytes, num_encoded=num_encoded)
    except ValueError as error:
        raise StoreCorruptError(f"{where} cannot be decompressed: {error}") from error


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


def _decompress(
    path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> np.ndarray:
    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            array: np.ndarray = np.empty(shape, dtype)
            h5py.h5d.open(file.id, name.encode()).read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    except (*_DAMAGE, MemoryError) as error:
        raise StoreCorruptError(f"{path}: {name} cannot be decompressed: {error}") from error
    return array
