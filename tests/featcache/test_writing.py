"""What cannot be written is an `OSError` with the name of the file, whoever writes it."""

import errno
import io
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from lightalign.featcache import writing
from lightalign.featcache.errors import DiskSpaceError

FULL = Path("/dev/full")  # every write to it fails as on a full disk


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.zeros((0, 4), dtype=np.int64),
        np.array([True, False]),
        np.arange(6, dtype=np.int32).reshape(2, 3).T,
        np.array([], dtype=np.uint8),
    ],
    ids=["matrix", "no rows", "bool", "transposed", "nothing"],
)
def test_arrays_have_the_bytes_that_numpy_writes(array, tmp_path):
    writing.write_npy(tmp_path / "a.npy", array)
    expected = io.BytesIO()
    np.save(expected, np.ascontiguousarray(array))
    assert (tmp_path / "a.npy").read_bytes() == expected.getvalue()


def test_the_official_reader_takes_our_safetensors(tmp_path):
    arrays = {"a": np.arange(3, dtype=np.float32), "b": np.array(7, dtype=np.int64)}
    described = {"a": ("float32", (3,), 12), "b": ("int64", (), 8)}
    with writing.open_new(tmp_path / "a") as file:
        file.write(writing.safetensors_header(described, {"of": "us"}))
        for array in arrays.values():
            file.write(writing.bytes_of(array))
    read = safetensors.numpy.load_file(tmp_path / "a")
    assert {name: array.tolist() for name, array in read.items()} == {"a": [0, 1, 2], "b": 7}
    with safetensors.safe_open(tmp_path / "a", framework="np") as opened:
        assert opened.metadata() == {"of": "us"}


@pytest.mark.parametrize("size", [1, 2**20])
def test_a_full_disk_names_the_file_that_python_does_not_name(size):
    with pytest.raises(OSError, match="No space left on device: '/dev/full'") as caught:
        writing.write_bytes(FULL, bytes(size))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    "told",
    [
        SafetensorError("Error while serializing: No space left on device (os error 28)"),
        Exception("No space left on device (os error 28)"),  # as tokenizers do
        RuntimeError("[enforce fail] write failed: [Errno 28] No space left on device"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_what_a_library_says_of_a_full_disk_is_the_error_of_the_system(told):
    with pytest.raises(OSError, match="No space left") as caught, writing.by_library(Path("a")):
        raise told
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "a")


def test_an_array_that_numpy_cut_short_is_said():
    cut = pytest.raises(DiskSpaceError, match="was not written to its end")
    with cut, writing.by_library(FULL):
        np.arange(2**16).tofile(FULL)


def test_other_errors_of_a_library_stay_what_they_are():
    with pytest.raises(ZeroDivisionError), writing.by_library(Path("a")):
        raise ZeroDivisionError
