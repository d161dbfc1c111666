"""A container that is not as the description says is one line, whatever its checksum says."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numcodecs
import numpy as np
import pytest

from lightalign.featcache import files
from lightalign.featcache.description import COMPRESSIONS
from lightalign.featcache.errors import StoreCorruptError
from lightalign.featcache.manifest import read_manifest, write_manifest
from lightalign.featcache.reader import FeatureReader
from lightalign.featcache.store import FORMATS, FeatureStore

from .test_formats import arrays_of
from .test_reader import describe, random_rows, write

ROWS, TOKENS, WIDTH = 5, 2, 3


def sealed(folder: Path, change: Callable[[FeatureStore], None]) -> Path:
    """Write a store of one shard, change it, and record it as if it had been written so."""
    store = FeatureStore(folder, read_manifest(folder))
    change(store)
    shard = store.shard_path(0)
    store.manifest["shards"][0]["files"] = {
        str(file.relative_to(folder)): {
            "bytes": file.stat().st_size,
            "sha256": files.sha256_file(file),
        }
        for file in files.files_below(shard)
    }
    write_manifest(folder, store.manifest)
    return folder


def stored(folder: Path, container: str, **changes: Any) -> Path:
    description = describe(container=container, rows_per_shard=ROWS, **changes)
    write(folder, description, random_rows([TOKENS] * ROWS, WIDTH))
    return folder


def edit_metadata(name: str, **fields: Any) -> Callable[[FeatureStore], None]:
    def change(store: FeatureStore) -> None:
        path = store.shard_path(0) / name / "zarr.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def grid(*shape: Any) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(shape)}}


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
BAD_METADATA = {
    # 5 x 2 x 3 of float16 are 60 bytes: no such size of pointers, but 6 of them are 48
    "pointers": {"data_type": "object", "shape": [1, 2, 3], "chunk_grid": grid(1, 2, 3)},
    "text": {"data_type": "string"},
    "another type": {"data_type": "int16"},
    "truth values": {"data_type": "bool"},
    "bfloat16 for float16": {"data_type": "uint16", "fill_value": 0},
    "float64": {"data_type": "float64"},
    "a list for a type": {"data_type": ["float16"]},
    "a structure": {"data_type": {"name": "struct"}},
    "double width": {"shape": [5, 2, 6], "chunk_grid": grid(5, 2, 6)},
    "half the rows": {"shape": [2, 2, 3], "chunk_grid": grid(2, 2, 3)},
    "rows and tokens swapped": {"shape": [2, 5, 3], "chunk_grid": grid(2, 5, 3)},
    "one axis": {"shape": [30], "chunk_grid": grid(30)},
    "a negative length": {"shape": [-5, 2, -3], "chunk_grid": grid(-5, 2, -3)},
    "a huge length": {"shape": [10**15, 2, 3], "chunk_grid": grid(10**15, 2, 3)},
    "a length beyond all": {"shape": [10**40, 2, 3], "chunk_grid": grid(10**40, 2, 3)},
    "broken lengths": {"shape": [5.0, 2, 3]},
    "a truth value for a length": {"shape": [5, True, 3]},
    "no list for a shape": {"shape": "5"},
    "two chunks": {"chunk_grid": grid(3, 2, 3)},
    "big-endian": {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}]},
    "transposed": {
        "codecs": [{"name": "transpose", "configuration": {"order": [2, 1, 0]}}, BYTES],
    },
    "gzip": {"codecs": [BYTES, {"name": "gzip", "configuration": {"level": 5}}]},
    "other options of Zstandard": {
        "codecs": [BYTES, {"name": "zstd", "configuration": {"level": 99, "checksum": True}}]
    },
    "no codecs": {"codecs": []},
    "codecs of another type": {"codecs": "bytes"},
    "other chunk keys": {
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}}
    },
    "another fill value": {"fill_value": 1.0},
    "a storage transformer": {"attributes": {"x": 1}},
    "a group": {"node_type": "group"},
    "Zarr 2": {"zarr_format": 2},
}


@pytest.mark.parametrize("what", BAD_METADATA)
def test_metadata_of_zarr_that_differ_are_one_line(what, tmp_path):
    folder = stored(tmp_path / "store", "zarr")
    sealed(folder, edit_metadata("values", **BAD_METADATA[what]))
    with pytest.raises(StoreCorruptError, match="shard-00000") as caught:
        FeatureReader(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"shape": ' + b"[" * 60_000,
        b" " * 2**17,
        b"1" * 5000,
        b"null",
    ],
)
def test_metadata_of_zarr_that_are_no_document_are_one_line(content, tmp_path):
    folder = stored(tmp_path / "store", "zarr")
    sealed(folder, lambda s: (s.shard_path(0) / "values" / "zarr.json").write_bytes(content))
    with pytest.raises(StoreCorruptError, match=r"zarr\.json"):
        FeatureReader(folder)


@pytest.mark.parametrize("place", ["values/zarr.json", "values/c/0/0/0", "ids/c/0/0"])
def test_a_pipe_in_place_of_a_file_does_not_hang(place, tmp_path):
    folder = stored(tmp_path / "store", "zarr")
    path = folder / "shard-00000" / place
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreCorruptError, match="shard-00000"):
        FeatureReader(folder)
    store = FeatureStore(folder, read_manifest(folder))
    with pytest.raises(StoreCorruptError, match="shard-00000"):
        store.locate(0)


def test_a_pipe_in_place_of_an_hdf5_file_does_not_hang(tmp_path):
    path = tmp_path / "shard.h5"
    os.mkfifo(path)
    with pytest.raises(StoreCorruptError, match="named pipe"):
        FORMATS.load("hdf5")().locate(path)


def replace(name: str, make: Callable[[h5py.File, np.ndarray], None]) -> Callable[..., None]:
    def change(store: FeatureStore) -> None:
        with h5py.File(store.shard_path(0), "r+") as file:
            array = file[name][()]
            del file[name]
            make(file, array)

    return change


def elsewhere(file: h5py.File, array: np.ndarray) -> h5py.Dataset:
    with h5py.File(Path(file.filename).parent.parent / "other.h5", "w") as other:
        other["values"] = array
    return h5py.ExternalLink("../other.h5", "values")


def virtual(file: h5py.File, array: np.ndarray) -> None:
    elsewhere(file, array)
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[...] = h5py.VirtualSource("../other.h5", "values", array.shape)
    file.create_virtual_dataset("values", layout)


def external(file: h5py.File, array: np.ndarray) -> None:
    path = Path(file.filename).parent.parent / "raw"
    path.write_bytes(array.tobytes())
    file.create_dataset(
        "values", array.shape, array.dtype, external=[(str(path), 0, h5py.h5f.UNLIMITED)]
    )


def enumeration(file: h5py.File, array: np.ndarray) -> None:
    file.create_dataset("values", array.shape, h5py.enum_dtype({"a": 1}, "int16"))


def soft_cycle(file: h5py.File, array: np.ndarray) -> None:
    file["values"], file["other"] = h5py.SoftLink("/other"), h5py.SoftLink("/values")


def compact(file: h5py.File, array: np.ndarray) -> None:
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    created.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(array.shape)
    h5py.h5d.create(file.id, b"values", h5py.h5t.py_create(array.dtype), space, created)


def unfilled(shape: tuple[int, ...]) -> Callable[[h5py.File, np.ndarray], None]:
    return lambda file, array: file.create_dataset("values", shape, array.dtype)


BAD_DATASETS: dict[str, Callable[[h5py.File, np.ndarray], Any]] = {
    "texts of any length": lambda f, a: f.create_dataset("values", a.shape, h5py.string_dtype()),
    "arrays of any length": lambda f, a: f.create_dataset("values", a.shape, h5py.vlen_dtype("i4")),
    "references": lambda f, a: f.create_dataset("values", a.shape, h5py.ref_dtype),
    "region references": lambda f, a: f.create_dataset("values", a.shape, h5py.regionref_dtype),
    "records": lambda f, a: f.create_dataset("values", a.shape, [("a", "i1"), ("b", "i1")]),
    "small arrays": lambda f, a: f.create_dataset("values", a.shape, np.dtype(("f2", (2,)))),
    "texts": lambda f, a: f.create_dataset("values", a.shape, "S2"),
    "opaque": lambda f, a: f.create_dataset("values", a.shape, "V2"),
    "truth values": lambda f, a: f.create_dataset("values", data=a.astype(bool)),
    "complex numbers": lambda f, a: f.create_dataset("values", data=a.astype("c8")),
    "another type": lambda f, a: f.create_dataset("values", data=a.astype("i2")),
    "double precision": lambda f, a: f.create_dataset("values", data=a.astype("f8")),
    "big-endian": lambda f, a: f.create_dataset("values", data=a.astype(">f2")),
    "an enumeration": enumeration,
    "another shape": lambda f, a: f.create_dataset("values", data=a.reshape(2, 5, 3)),
    "double width": lambda f, a: f.create_dataset("values", data=np.tile(a, 2)),
    "half the rows": lambda f, a: f.create_dataset("values", data=a[:2]),
    "a scalar": lambda f, a: f.create_dataset("values", data=a[0, 0, 0]),
    "nothing": lambda f, a: f.create_dataset("values", data=h5py.Empty("f2")),
    "a huge shape": lambda f, a: f.create_dataset(
        "values", (10**15, 2, 3), a.dtype, chunks=(1, 2, 3)
    ),
    "never written": unfilled((5, 2, 3)),
    "a shape that grows": lambda f, a: f.create_dataset("values", data=a, maxshape=(None, 2, 3)),
    "many chunks": lambda f, a: f.create_dataset("values", data=a, chunks=(1, 2, 3)),
    "gzip": lambda f, a: f.create_dataset("values", data=a, chunks=a.shape, compression="gzip"),
    "chunks without a filter": lambda f, a: f.create_dataset("values", data=a, chunks=a.shape),
    "shuffled, too": lambda f, a: f.create_dataset(
        "values", data=a, chunks=a.shape, shuffle=True, **hdf5plugin.Zstd()
    ),
    "a group": lambda f, a: f.create_group("values"),
    "a type with a name": lambda f, a: f.__setitem__("values", np.dtype("f2")),
    "a soft link": lambda f, a: f.__setitem__("values", h5py.SoftLink("/ids")),
    "soft links in a circle": soft_cycle,
    "a soft link to nothing": lambda f, a: f.__setitem__("values", h5py.SoftLink("/none")),
    "a hard link to the whole": lambda f, a: f.__setitem__("values", f["/"]),
    "a hard link to the ids": lambda f, a: f.__setitem__("values", f["ids"]),
    "an external link": lambda f, a: f.__setitem__("values", elsewhere(f, a)),
    "a virtual dataset": virtual,
    "external bytes": external,
    "a compact layout": compact,
    "no values": lambda f, a: None,
    "one name more": lambda f, a: f.__setitem__("other", a),
}


@pytest.mark.parametrize("what", BAD_DATASETS)
def test_a_dataset_of_hdf5_that_differs_is_one_line(what, tmp_path):
    folder = stored(tmp_path / "store", "hdf5")
    sealed(folder, replace("values", BAD_DATASETS[what]))
    with pytest.raises(StoreCorruptError, match=r"shard-00000\.h5") as caught:
        FeatureReader(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("container", FORMATS.names())
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_shard_that_lost_its_end_is_refused_before_it_is_mapped(container, compression, tmp_path):
    """Without the manifest's checksum: past the end of a mapped file there is only a signal."""
    form = FORMATS.load(container)()
    path = tmp_path / f"shard{form.suffix}"
    form.write(path, arrays_of(), compression=compression)
    last = max(files.files_below(path), key=lambda file: file.stat().st_size)
    os.truncate(last, last.stat().st_size // 2)
    with pytest.raises(StoreCorruptError, match="shard"):
        form.locate(path)["values"].read()


def test_a_frame_that_would_become_more_than_the_array_is_refused_unread(tmp_path):
    """A bomb: a gigabyte of zeros in a hundred kilobytes, where 1536 bytes are expected."""
    form = FORMATS.load("zarr")()
    path = tmp_path / "shard"
    form.write(path, arrays_of(), compression="zstd")
    bomb = bytearray(numcodecs.Zstd(level=3).encode(np.zeros(2**20, np.uint8)))
    (path / "values" / "c" / "0" / "0" / "0").write_bytes(bomb)
    with pytest.raises(StoreCorruptError, match="becomes 1048576 bytes, expected 1536"):
        form.locate(path)["values"].read()


def test_a_frame_in_hdf5_that_would_become_more_is_refused_unread(tmp_path):
    form = FORMATS.load("hdf5")()
    path = tmp_path / "shard.h5"
    arrays = {"values": arrays_of()["values"]}
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "values", (6, 4, 32), "<f2", chunks=(6, 4, 32), **hdf5plugin.Zstd(clevel=3)
        )
        bomb = bytes(numcodecs.Zstd(level=3).encode(np.zeros(2**20, np.uint8)))
        dataset.id.write_direct_chunk((0, 0, 0), bomb)
    assert arrays["values"].shape == (6, 4, 32)
    with pytest.raises(StoreCorruptError, match="becomes 1048576 bytes, expected 1536"):
        form.locate(path)


def test_what_says_nothing_of_its_size_is_no_frame_of_ours(tmp_path):
    form = FORMATS.load("zarr")()
    path = tmp_path / "shard"
    form.write(path, arrays_of(), compression="zstd")
    (path / "values" / "c" / "0" / "0" / "0").write_bytes(struct.pack("<IBB", 0xFD2FB528, 0, 0) * 9)
    with pytest.raises(StoreCorruptError, match="no Zstandard frame of ours"):
        form.locate(path)["values"].read()


def ids_of(*rows: bytes) -> Callable[[FeatureStore], None]:
    def change(store: FeatureStore) -> None:
        path = store.shard_path(0) / "ids" / "c" / "0" / "0"
        path.write_bytes(b"".join(row.ljust(6, b"\0") for row in rows))

    return change


@pytest.mark.parametrize(
    ("first", "problem"), [(b"\xff\xfe", "UTF-8"), (b"", "empty"), (b"item-1", "twice")]
)
def test_ids_that_no_extraction_writes_are_one_line(first, problem, tmp_path):
    folder = stored(tmp_path / "store", "zarr")
    sealed(folder, ids_of(first, *(f"item-{row}".encode() for row in range(1, ROWS))))
    with pytest.raises(StoreCorruptError, match=problem):
        _ = FeatureReader(folder).row_of


def test_offsets_whose_differences_overflow_are_refused(tmp_path):
    """2^63 - 1 and then a negative number differ by a positive one, modulo 2^64."""
    description = describe(tokens_per_item=None, rows_per_shard=ROWS)
    folder = tmp_path / "store"
    write(folder, description, random_rows([1, 2, 1, 2, 1], WIDTH))

    def change(store: FeatureStore) -> None:
        path = store.shard_path(0) / "offsets" / "c" / "0"
        np.array([0, 2**63 - 1, -(2**63), 4, 6, 7], np.int64).tofile(path)

    sealed(folder, change)
    with pytest.raises(StoreCorruptError, match="offsets"):
        FeatureReader(folder)


@pytest.mark.parametrize("container", FORMATS.names())
def test_companions_of_another_type_are_one_line(container, tmp_path):
    folder = tmp_path / "store"
    description = describe(container=container, companions=("geometry",), rows_per_shard=ROWS)
    write(folder, description, random_rows([TOKENS] * ROWS, WIDTH))
    if container == "zarr":
        change = edit_metadata("geometry", data_type="float32", fill_value=0.0)
    else:
        change = replace("geometry", lambda f, a: f.create_dataset("geometry", data=a.view("f4")))
    sealed(folder, change)
    with pytest.raises(StoreCorruptError, match="geometry is float32 of shape"):
        FeatureReader(folder)
