"""Any tool of a format reads what we wrote; damage is an error, never another number."""

import json
from contextlib import suppress
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightalign.featcache.errors import StoreCorruptError
from lightalign.featcache.store.containers.base import ArrayType
from lightalign.featcache.store.feature_store import FORMATS
from lightalign.featcache.store.key import COMPRESSIONS

from ....helpers import tree_bytes

NAMES = FORMATS.names()
COMPRESSED = [name for name in COMPRESSIONS if name != "none"]


def arrays_of(rows: int = 6, dtype: str = "float16") -> dict[str, np.ndarray]:
    """Return arrays as a shard has them; the values have structure to compress."""
    values = np.arange(rows * 4 * 32).reshape(rows, 4, 32) % 251
    return {
        "values": values.astype(dtype),
        "ids": np.arange(rows * 3, dtype=np.uint8),
        "offsets": np.arange(rows + 1, dtype=np.int64),
        "geometry": np.arange(rows * 8, dtype=np.int32).reshape(rows, 8),
        "scales": np.linspace(0, 1, rows, dtype=np.float32),
    }


def write(container: str, folder: Path, arrays, compression: str = "none") -> Path:
    form = FORMATS.load(container)()
    for name, content in form.store_files.items():
        (folder / name).write_bytes(content)
    path = folder / f"shard{form.suffix}"
    form.write(path, arrays, compression=compression)
    return path


def types_of(arrays, compression: str = "none") -> dict[str, ArrayType]:
    """Return what a store would expect that holds these arrays."""
    return {
        name: ArrayType(array.dtype, array.shape, compression if name == "values" else "none")
        for name, array in arrays.items()
    }


def locate(container: str, path: Path, arrays, compression: str = "none"):
    return FORMATS.load(container)().locate(path, types_of(arrays, compression))


def read(container: str, path: Path, arrays, compression: str = "none") -> dict[str, np.ndarray]:
    located = locate(container, path, arrays, compression)
    return {name: location.read() for name, location in located.items()}


def read_by_the_library(container: str, path: Path) -> dict[str, np.ndarray]:
    """Read with bare zarr-python or bare h5py; hdf5plugin only registers the filters."""
    if container == "zarr":
        group = zarr.open_group(path, mode="r")
        return {name: array[...] for name, array in group.arrays()}
    assert hdf5plugin.get_filters()
    with h5py.File(path, "r") as file:
        return {name: dataset[()] for name, dataset in file.items()}


def chunk_span(container: str, path: Path) -> tuple[Path, int, int]:
    """Return the file, first byte and length of the compressed values."""
    if container == "zarr":
        chunk = path.joinpath("values", "c", "0", "0", "0")
        return chunk, 0, chunk.stat().st_size
    with h5py.File(path, "r") as file:
        chunk = file["values"].id.get_chunk_info(0)
        return path, chunk.byte_offset, chunk.size


@pytest.mark.parametrize("container", NAMES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["float16", "uint16", "float32", "int8"])
def test_what_we_write_is_what_the_library_and_we_read(container, compression, dtype, tmp_path):
    arrays = arrays_of(dtype=dtype)
    path = write(container, tmp_path, arrays, compression)
    for found in (read(container, path, arrays, compression), read_by_the_library(container, path)):
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype, name
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("container", NAMES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_equal_arrays_give_equal_bytes(container, compression, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(container, tmp_path / name, arrays_of(), compression)
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")


@pytest.mark.parametrize("container", NAMES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_array_in_another_order_of_bytes_or_axes_has_the_same_bytes(
    container, compression, tmp_path
):
    plain = arrays_of()
    other = {
        name: np.asfortranarray(array).astype(array.dtype.newbyteorder(">"))
        for name, array in plain.items()
    }
    for name, arrays in (("plain", plain), ("other", other)):
        (tmp_path / name).mkdir()
        write(container, tmp_path / name, arrays, compression)
    assert tree_bytes(tmp_path / "plain") == tree_bytes(tmp_path / "other")


@pytest.mark.parametrize("container", NAMES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_shard_without_rows_is_read_by_everyone(container, compression, tmp_path):
    arrays = arrays_of(rows=0)
    path = write(container, tmp_path, arrays, compression)
    for found in (read(container, path, arrays, compression), read_by_the_library(container, path)):
        assert found["values"].shape == (0, 4, 32)
        assert found["geometry"].shape == (0, 8)
        assert found["offsets"].tolist() == [0]


@pytest.mark.parametrize("container", NAMES)
@pytest.mark.parametrize("compression", COMPRESSED)
def test_only_the_values_are_compressed(container, compression, tmp_path):
    path = write(container, tmp_path, arrays_of(rows=64), compression)
    located = locate(container, path, arrays_of(rows=64), compression)
    assert {name for name, one in located.items() if one.decompress is not None} == {"values"}
    assert chunk_span(container, path)[2] < arrays_of(rows=64)["values"].nbytes / 2
    for name, location in located.items():
        if name != "values":
            assert isinstance(location.read(), np.memmap)


@pytest.mark.parametrize("container", NAMES)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_values_that_are_all_zero_are_written_too(container, compression, tmp_path):
    arrays = {"values": np.zeros((5, 2, 3), dtype=np.float16)}
    path = write(container, tmp_path, arrays, compression)
    np.testing.assert_array_equal(
        read(container, path, arrays, compression)["values"], arrays["values"]
    )
    assert chunk_span(container, path)[2] if compression != "none" else True


@pytest.mark.parametrize("container", NAMES)
@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("kept", [0, 1, 15, 16, 17, 0.5, -1])
def test_a_truncated_chunk_is_refused(container, compression, kept, tmp_path):
    path = write(container, tmp_path, arrays_of(), compression)
    file, first, length = chunk_span(container, path)
    content = file.read_bytes()
    end = int(length * kept) if isinstance(kept, float) else kept % length
    file.write_bytes(content[: first + end])
    with pytest.raises(StoreCorruptError, match=r"cannot be decompressed|is not an HDF5 file"):
        read(container, path, arrays_of(), compression)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_chunk_that_lacks_its_end_inside_a_whole_hdf5_file_is_refused(compression, tmp_path):
    path = write("hdf5", tmp_path, arrays_of(), compression)
    file, first, length = chunk_span("hdf5", path)
    content = bytearray(file.read_bytes())
    content[first + length // 2 : first + length] = bytes(length - length // 2)
    file.write_bytes(content)
    with pytest.raises(StoreCorruptError, match="cannot be decompressed"):
        read("hdf5", path, arrays_of(), compression)


def flip(container: str, path: Path, place: float, mask: int) -> None:
    file, first, length = chunk_span(container, path)
    content = bytearray(file.read_bytes())
    content[first + int(place * length)] ^= mask
    file.write_bytes(content)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
@pytest.mark.parametrize(
    ("container", "compression"), [("zarr", "zstd"), ("hdf5", "zstd"), ("hdf5", "blosc-lz4")]
)
def test_no_damaged_byte_becomes_another_number(
    container, compression, place, mask, tmp_path_factory
):
    """Zstandard's frame has two flags that decide nothing; all else is under a checksum."""
    folder = tmp_path_factory.mktemp("flip")
    path = write(container, folder, arrays_of(), compression)
    flip(container, path, place, mask)
    try:
        found = read(container, path, arrays_of(), compression)["values"]
    except StoreCorruptError:
        return
    np.testing.assert_array_equal(found, arrays_of()["values"])


@pytest.mark.parametrize("place", range(16))
def test_a_damaged_header_of_blosc_is_refused_or_harmless(place, tmp_path):
    """Bytes 4 to 7 and 12 to 15 are sizes, which the decoder takes as they are."""
    path = write("zarr", tmp_path, arrays_of(), "blosc-lz4")
    _, _, length = chunk_span("zarr", path)
    flip("zarr", path, (place + 0.5) / length, 0x40)
    if place in {*range(4, 8), *range(12, 16)}:
        with pytest.raises(StoreCorruptError, match="header says"):
            read("zarr", path, arrays_of(), "blosc-lz4")
        return
    with suppress(StoreCorruptError):
        assert read("zarr", path, arrays_of(), "blosc-lz4")["values"].shape == (6, 4, 32)


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_chunk_of_another_size_than_its_metadata_say_is_refused(compression, tmp_path):
    path = write("zarr", tmp_path, arrays_of(), compression)
    metadata = path / "values" / "zarr.json"
    fields = json.loads(metadata.read_text())
    fields["shape"] = fields["chunk_grid"]["configuration"]["chunk_shape"] = [7, 4, 32]
    metadata.write_text(json.dumps(fields))
    with pytest.raises(StoreCorruptError, match="cannot be decompressed"):
        read("zarr", path, {**arrays_of(), "values": arrays_of(7)["values"]}, compression)


@pytest.mark.parametrize("container", NAMES)
def test_what_is_no_shard_is_refused(container, tmp_path):
    path = tmp_path / f"shard{FORMATS.load(container)().suffix}"
    for prepare in (lambda: None, lambda: path.write_bytes(b"something else")):
        prepare()
        with pytest.raises(StoreCorruptError, match=path.name):
            read(container, path, arrays_of())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"shape": [1]}'])
def test_broken_metadata_of_an_array_are_refused(content, tmp_path):
    path = write("zarr", tmp_path, arrays_of())
    (path / "values" / "zarr.json").write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"Zarr v3 array|: expected "):
        read("zarr", path, arrays_of())


def test_a_codec_that_we_do_not_write_is_refused(tmp_path):
    """Zarr's gzip: another program may have rewritten the array."""
    path = write("zarr", tmp_path, {})
    group = zarr.open_group(path, mode="r+")
    group.create_array("values", data=np.ones((2, 3)), compressors=zarr.codecs.GzipCodec())
    with pytest.raises(StoreCorruptError, match="gzip"):
        read("zarr", path, {"values": np.ones((2, 3))})
