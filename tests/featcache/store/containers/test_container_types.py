"""A container says nothing that is believed: other types, shapes and places are one line."""

import errno
import json
import os
import resource
import shutil
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from lightalign.featcache.errors import StoreCorruptError
from lightalign.featcache.store.containers._compressed import check_header
from lightalign.featcache.store.containers.hdf5 import Hdf5Format
from lightalign.featcache.store.feature_store import FeatureStore

from ..test_feature_store import describe
from ..test_feature_store import write as write_store
from .test_formats import COMPRESSED, arrays_of, locate, read, write

VALUES = arrays_of()["values"]  # float16 of shape 6, 4, 32


def refused(container: str, path: Path, compression: str = "none") -> str:
    """Return the one line that reading the shard ends with."""
    with pytest.raises(StoreCorruptError) as caught:
        read(container, path, arrays_of(), compression)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    assert path.name in line
    return line


def edit_metadata(path: Path, **fields: object) -> None:
    metadata = path / "values" / "zarr.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), **fields}))


def grid(*sizes: object) -> dict[str, object]:
    return {"name": "regular", "configuration": {"chunk_shape": list(sizes)}}


ZARR_LIES = {
    "object pointers": {"data_type": "object", "shape": [6, 4, 8], "chunk_grid": grid(6, 4, 8)},
    "int16": {"data_type": "int16"},
    "bool of the same size": {"data_type": "bool", "shape": [6, 4, 64]},
    "double width": {"shape": [6, 4, 64], "chunk_grid": grid(6, 4, 64)},
    "half the rows": {"shape": [3, 4, 32], "chunk_grid": grid(3, 4, 32)},
    "negative": {"shape": [-6, -4, 32]},
    "float": {"shape": [6.0, 4, 32]},
    "huge": {"shape": [10**15, 4, 32], "chunk_grid": grid(10**15, 4, 32)},
    "true": {"shape": [True, 4, 32]},
    "no shape": {"shape": None},
    "a string": {"shape": "6432"},
    "two chunks": {"chunk_grid": grid(3, 4, 32)},
    "big endian": {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}]},
    "transposed": {"codecs": [{"name": "transpose"}, {"name": "bytes"}]},
    "no codecs": {"codecs": None},
    "other keys": {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
    "other fill": {"fill_value": 1.0},
    "a group": {"node_type": "group"},
}


@pytest.mark.parametrize("lie", ZARR_LIES)
def test_metadata_that_differ_from_the_description_are_refused(lie, tmp_path):
    path = write("zarr", tmp_path, arrays_of())
    edit_metadata(path, **ZARR_LIES[lie])
    assert "expected" in refused("zarr", path)


@pytest.mark.parametrize(
    "content",
    [b"[" * 60_000, b'{"a":' * 10_000, b"\xff\xfe{}", b"[]", b"null", b"7", b" " * 2**17],
    ids=["lists", "tables", "no UTF-8", "a list", "null", "a number", "large"],
)
def test_metadata_that_are_no_table_are_refused(content, tmp_path):
    path = write("zarr", tmp_path, arrays_of())
    (path / "values" / "zarr.json").write_bytes(content)
    refused("zarr", path)


@pytest.mark.parametrize("name", ["values/zarr.json", "values/c/0/0/0", "ids/c/0"])
def test_a_pipe_in_place_of_a_file_is_refused_at_once(name, tmp_path):
    path = write("zarr", tmp_path, arrays_of())
    (path / name).unlink()
    os.mkfifo(path / name)
    assert "pipe" in refused("zarr", path)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_pipe_in_place_of_a_compressed_chunk_is_refused_at_once(compression, tmp_path):
    path = write("zarr", tmp_path, arrays_of(), compression)
    chunk = path / "values" / "c" / "0" / "0" / "0"
    chunk.unlink()
    os.mkfifo(chunk)
    assert "pipe" in refused("zarr", path, compression)


def test_a_chunk_of_another_size_is_refused(tmp_path):
    path = write("zarr", tmp_path, arrays_of())
    chunk = path / "values" / "c" / "0" / "0" / "0"
    for content in (chunk.read_bytes()[:-2], chunk.read_bytes() + b"\0\0", b""):
        chunk.write_bytes(content)
        assert "1536 bytes" in refused("zarr", path)  # 6 * 4 * 32 * 2


@pytest.mark.parametrize("container", ["zarr", "hdf5"])
def test_an_array_too_many_or_too_few_is_refused(container, tmp_path):
    for name, arrays in (
        ("more", {**arrays_of(), "extra": np.ones(3)}),
        ("less", {name: one for name, one in arrays_of().items() if name != "ids"}),
    ):
        (tmp_path / name).mkdir()
        assert "arrays" in refused(container, write(container, tmp_path / name, arrays))


@pytest.mark.parametrize("container", ["zarr", "hdf5"])
@pytest.mark.parametrize(("written", "claimed"), [("zstd", "none"), ("none", "zstd")])
def test_another_compression_than_described_is_refused(container, written, claimed, tmp_path):
    path = write(container, tmp_path, arrays_of(), written)
    refused(container, path, claimed)


def hdf5_with(path: Path, replace) -> Path:
    """Write our arrays, and let `replace` make `values` in the open file."""
    with h5py.File(path, "w") as file:
        for name, array in arrays_of().items():
            if name != "values":
                file.create_dataset(name, data=array)
        replace(file)
    return path


def other_file(folder: Path) -> Path:
    with h5py.File(folder / "other.h5", "w") as file:
        file["values"] = VALUES
    return folder / "other.h5"


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(VALUES.shape, "float16")
    layout[...] = h5py.VirtualSource(other_file(Path(file.filename).parent), "values", VALUES.shape)
    file.create_virtual_dataset("values", layout)


def external_storage(file: h5py.File) -> None:
    raw = Path(file.filename).parent / "raw"
    VALUES.tofile(raw)
    file.create_dataset(
        "values", VALUES.shape, "float16", external=[(str(raw), 0, h5py.h5f.UNLIMITED)]
    )


def external_link(file: h5py.File) -> None:
    file["values"] = h5py.ExternalLink(str(other_file(Path(file.filename).parent)), "values")


def soft_link(file: h5py.File) -> None:
    file["values"] = h5py.SoftLink("/ids")


def dangling_link(file: h5py.File) -> None:
    file["values"] = h5py.SoftLink("/values")


def named_type(file: h5py.File) -> None:
    file["values"] = np.dtype("float16")


def references(file: h5py.File) -> None:
    file.create_dataset("values", VALUES.shape, h5py.ref_dtype)


def strings(file: h5py.File) -> None:
    file.create_dataset("values", VALUES.shape, h5py.string_dtype())


def lists(file: h5py.File) -> None:
    file.create_dataset("values", VALUES.shape, h5py.vlen_dtype("float16"))


def compound(file: h5py.File) -> None:
    file.create_dataset("values", VALUES.shape, np.dtype([("a", "u1"), ("b", "u1")]))


def enumeration(file: h5py.File) -> None:
    file.create_dataset("values", VALUES.shape, h5py.enum_dtype({"a": 1}, "i2"))


def huge(file: h5py.File) -> None:
    file.create_dataset("values", (10**15, 4, 32), "float16", chunks=(1, 4, 32))


def huge_and_early(file: h5py.File) -> None:
    file.create_dataset("values", (2**40, 4, 32), "float16")


def nothing(file: h5py.File) -> None:
    file["values"] = h5py.Empty("float16")


def one_number(file: h5py.File) -> None:
    file["values"] = np.float16(1)


def compact(file: h5py.File) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space = h5py.h5s.create_simple(VALUES.shape)
    h5py.h5d.create(file.id, b"values", h5py.h5t.IEEE_F16LE, space, properties)


def never_written(file: h5py.File) -> None:
    file.create_dataset("values", VALUES.shape, "float16")


def of(dtype: str, *shape: int):
    return lambda file: file.create_dataset("values", data=np.zeros(shape, dtype))


def chunked(file: h5py.File) -> None:
    file.create_dataset("values", data=VALUES, chunks=(3, 4, 32))


def gzipped(file: h5py.File) -> None:
    file.create_dataset("values", data=VALUES, compression="gzip")


def a_group(file: h5py.File) -> None:
    file.create_group("values")


HDF5_LIES = {
    "external link": external_link,
    "soft link": soft_link,
    "dangling link": dangling_link,
    "group": a_group,
    "named type": named_type,
    "virtual": virtual,
    "external storage": external_storage,
    "references": references,
    "strings": strings,
    "lists": lists,
    "compound": compound,
    "enumeration": enumeration,
    "huge": huge,
    "huge and without bytes": huge_and_early,
    "nothing": nothing,
    "one number": one_number,
    "compact": compact,
    "never written": never_written,
    "int16": of("int16", 6, 4, 32),
    "bool": of("bool", 6, 4, 64),
    "big endian": of(">f2", 6, 4, 32),
    "double width": of("float16", 6, 4, 64),
    "half the rows": of("float16", 3, 4, 32),
    "more axes": of("float16", 6, 4, 32, 1),
    "chunked": chunked,
    "gzipped": gzipped,
}


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("lie", HDF5_LIES)
def test_a_dataset_that_is_not_as_described_is_refused(lie, compression, tmp_path):
    refused("hdf5", hdf5_with(tmp_path / "shard.h5", HDF5_LIES[lie]), compression)


@pytest.mark.parametrize("missing", ["checksum", "compression", "one chunk"])
def test_a_chunk_with_other_filters_is_refused(missing, tmp_path):
    chunks = (3, 4, 32) if missing == "one chunk" else VALUES.shape
    filters = {} if missing == "compression" else hdf5plugin.Zstd(clevel=3)
    with h5py.File(tmp_path / "shard.h5", "w") as file:
        for name, array in arrays_of().items():
            options = {"fletcher32": missing != "checksum", "chunks": chunks, **filters}
            file.create_dataset(name, data=array, **(options if name == "values" else {}))
    refused("hdf5", tmp_path / "shard.h5", "zstd")


def test_an_hdf5_file_that_lacks_its_end_is_refused(tmp_path):
    path = write("hdf5", tmp_path, arrays_of())
    content = path.read_bytes()
    for length in (0, 8, 100, 2048, len(content) - 1):
        path.write_bytes(content[:length])
        refused("hdf5", path)


def test_a_pipe_in_place_of_an_hdf5_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "shard.h5")
    assert "pipe" in refused("hdf5", tmp_path / "shard.h5")


def test_a_zarr_shard_that_links_out_of_its_store_is_a_flaw(tmp_path):
    store = write_store(tmp_path / "store", describe())
    chunks = tmp_path / "store" / "shard-00001" / "values" / "c"
    shutil.move(chunks, tmp_path / "elsewhere")
    chunks.symlink_to(tmp_path / "elsewhere")
    (flaw,) = store.flaws(content=False)
    assert "link out of the store" in str(flaw)
    with pytest.raises(StoreCorruptError, match="link out of the store"):
        FeatureStore.open(tmp_path / "store")


def test_a_store_that_is_reached_through_a_link_opens(tmp_path):
    write_store(tmp_path / "store", describe())
    (tmp_path / "link").symlink_to(tmp_path / "store")
    assert FeatureStore.open(tmp_path / "link").num_rows == 5


def zstd_frame(flag: int, size: bytes, *, single: bool = True) -> bytes:
    """Write the start of a frame by RFC 8878: magic, descriptor, window or none, size."""
    descriptor = flag << 6 | (0x20 if single else 0)
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + (b"" if single else b"\0") + size


@pytest.mark.parametrize(
    ("header", "num_bytes"),
    [
        (zstd_frame(0, b"\xc8"), 200),
        (zstd_frame(1, b"\x00\x01"), 512),  # two bytes count from 256
        (zstd_frame(2, b"\x00\x00\x01\x00"), 2**16),
        (zstd_frame(2, b"\x00\x00\x01\x00", single=False), 2**16),
        (zstd_frame(3, (2**40).to_bytes(8, "little")), 2**40),
    ],
)
def test_a_frame_says_its_size_as_the_standard_writes_it(header, num_bytes):
    check_header("zstd", header, 99, num_bytes)
    with pytest.raises(ValueError, match="should become"):
        check_header("zstd", header, 99, num_bytes - 1)
    with pytest.raises(ValueError, match="ends after"):
        check_header("zstd", header[:-1], 99, num_bytes)


def test_a_frame_without_a_size_is_refused():
    """It could become anything: the decoder takes memory until it ends."""
    with pytest.raises(ValueError, match="does not say"):
        check_header("zstd", zstd_frame(0, b"", single=False), 99, 5)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_bomb_in_place_of_a_chunk_is_refused_before_it_is_decompressed(compression, tmp_path):
    """64 MiB of zeros in a few kilobytes, where 1,536 bytes should be."""
    path = write("zarr", tmp_path, arrays_of(), compression)
    (tmp_path / "bomb").mkdir()
    bomb = {"values": np.zeros((2**13, 2**6, 2**6), np.float16)}
    other = write("zarr", tmp_path / "bomb", bomb, compression)
    chunk = Path("values", "c", "0", "0", "0")
    shutil.copy(other / chunk, path / chunk)
    refused("zarr", path, compression)


@pytest.mark.parametrize("rows", [0, 1, 6, 5000])
@pytest.mark.parametrize("compression", ["none", *COMPRESSED])
def test_hdf5_made_in_memory_has_the_bytes_that_the_library_writes(rows, compression, tmp_path):
    arrays = arrays_of(rows)
    filters = {
        "zstd": hdf5plugin.Zstd(clevel=3),
        "blosc-lz4": hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
    }
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, array in arrays.items():
            compressed = name == "values" and array.size and compression != "none"
            options = {"chunks": array.shape, "fletcher32": True} if compressed else {}
            options |= filters[compression] if compressed else {}
            file.create_dataset(name, data=array, track_times=False, **options)
    path = write("hdf5", tmp_path, arrays, compression)
    assert path.read_bytes() == (tmp_path / "plain.h5").read_bytes()


def test_a_disk_that_fills_under_an_hdf5_shard_is_an_error_and_no_signal(tmp_path):
    """A limit on the size of files fails as a full disk does, with EFBIG for ENOSPC."""
    path = tmp_path / "shard.h5"
    child = os.fork()
    if not child:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            Hdf5Format().write(path, arrays_of(rows=5000))
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status)
    assert os.WEXITSTATUS(status) == errno.EFBIG


@pytest.mark.parametrize("container", ["zarr", "hdf5"])
def test_values_are_mapped_where_they_lie(container, tmp_path):
    path = write(container, tmp_path, arrays_of())
    located = locate(container, path, arrays_of())
    assert all(isinstance(one.read(), np.memmap) for one in located.values())
