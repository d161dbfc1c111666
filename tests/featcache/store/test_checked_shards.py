"""Bytes are compared with their checksums at their first use, once, and numbers must be finite."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lightalign.featcache import atomic_files, notes
from lightalign.featcache.errors import FeatureRangeError, StoreCorruptError
from lightalign.featcache.item_ids import decode_ids, encode_ids
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store import checked_shards, stored_types, verified_files
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.manifest import read_manifest, write_manifest
from lightalign.featcache.store.stored_types import SCALES, quantise
from lightalign.featcache.store.trust import trusting
from lightalign.featcache.types import Features

from .test_feature_store import FORMAT_NAMES, describe, write


def store_in(home: Path, **changes) -> Path:
    description = describe(**changes)
    lengths = None if description.tokens_per_item else [1, 3, 2, 1, 4]
    return write(description.folder(home), description, lengths).folder


@pytest.fixture(autouse=True)
def settled(request, monkeypatch):
    """Have all files count as written long ago, unless a test is marked as of just now."""
    if "just_now" not in request.fixturenames:
        monkeypatch.setattr(verified_files, "_SETTLED", -(10**12))


@pytest.fixture
def just_now():
    """Leave the age of files as it is."""


def memo(home: Path) -> Path:
    (path,) = (home / verified_files.FOLDER).iterdir()
    return path


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Return the names of the shards' files that are read whole."""
    names: list[str] = []
    whole = atomic_files.sha256_file

    def counting(path: Path) -> str:
        names.append(path.name)
        return whole(path)

    monkeypatch.setattr(atomic_files, "sha256_file", counting)
    return names


def test_a_store_is_read_whole_once(tmp_path, hashed):
    folder = store_in(tmp_path, container="hdf5")
    hashed.clear()
    FeatureReader(folder)
    assert sorted(hashed) == ["shard-00000.h5", "shard-00001.h5", "shard-00002.h5"]
    hashed.clear()
    FeatureReader(folder)
    assert hashed == []


def test_shards_of_just_now_are_not_remembered(tmp_path, hashed, just_now):
    """A change in the same tick of the clock would not be seen."""
    folder = store_in(tmp_path)
    for _ in range(2):
        hashed.clear()
        FeatureReader(folder)
        assert hashed
    assert not (tmp_path / verified_files.FOLDER).exists()


def test_only_a_shard_that_was_touched_is_read_again(tmp_path, hashed):
    folder = store_in(tmp_path, container="hdf5")
    FeatureReader(folder)
    os.utime(folder / "shard-00001.h5")
    hashed.clear()
    FeatureReader(folder)
    assert hashed == ["shard-00001.h5"]
    hashed.clear()
    FeatureReader(folder)
    assert hashed == []


def test_times_that_were_set_back_do_not_hide_a_change(tmp_path):
    """The time of the inode's own change cannot be set."""
    folder = store_in(tmp_path, container="hdf5")
    FeatureReader(folder)
    path = folder / "shard-00001.h5"
    before = path.stat()
    flip(path, -1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StoreCorruptError, match="checksum differs"):
        FeatureReader(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"shards": 3}', b"\xff", b"[" * 10**5])
def test_a_damaged_memo_is_made_anew(content, tmp_path, hashed):
    folder = store_in(tmp_path)
    FeatureReader(folder)
    whole = memo(tmp_path).read_bytes()
    memo(tmp_path).write_bytes(content)
    hashed.clear()
    FeatureReader(folder)
    assert hashed
    assert memo(tmp_path).read_bytes() == whole


def test_a_home_that_cannot_be_written_is_verified_and_not_remembered(tmp_path, hashed):
    """A file in place of the folder, as the user of the tests may be allowed everything."""
    folder = store_in(tmp_path)
    (tmp_path / verified_files.FOLDER).write_text("")
    for _ in range(2):
        hashed.clear()
        FeatureReader(folder)
        assert hashed


def test_a_store_outside_a_home_is_verified_and_leaves_nothing(tmp_path, hashed):
    write(tmp_path / "store", describe())
    hashed.clear()
    FeatureReader(tmp_path / "store")
    assert hashed
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def zeroed(folder: Path) -> None:
    chunk = folder / "shard-00001" / "values" / "c" / "0" / "0" / "0"
    chunk.write_bytes(bytes(chunk.stat().st_size))


def reversed_ids(folder: Path) -> None:
    chunk = folder / "shard-00001" / "ids" / "c" / "0" / "0"
    rows = np.fromfile(chunk, np.uint8).reshape(2, -1)
    rows[::-1].tofile(chunk)


def flipped_id(folder: Path) -> None:
    flip(folder / "shard-00001" / "ids" / "c" / "0" / "0", 5)


CHANGES = [zeroed, reversed_ids, flipped_id]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_bytes_are_named_with_the_command_that_mends_them(change, tmp_path):
    folder = store_in(tmp_path)
    change(folder)
    with pytest.raises(StoreCorruptError) as caught:
        FeatureReader(folder)
    assert str(folder / "shard-00001") in str(caught.value)
    assert f"lightalign cache repair {folder} --home {tmp_path}" in str(caught.value)
    with trusting():
        assert len(FeatureReader(folder)) == 5
    with pytest.raises(StoreCorruptError):  # what was trusted is not remembered
        FeatureReader(folder)


def forge(folder: Path) -> None:
    """Write the checksums of the files as they are into the manifest."""
    manifest = read_manifest(folder)
    for receipt in manifest["shards"]:
        for name, entry in receipt["files"].items():
            entry["sha256"] = atomic_files.sha256_file(folder / name)
    write_manifest(folder, manifest)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tokens", [2, None])
def test_a_stored_feature_that_is_not_finite_is_named(value, tokens, tmp_path):
    """Shard 1 has items 2 and 3: two tokens each, or two and one."""
    description = describe(dtype="float32", tokens_per_item=tokens)
    folder = write(description.folder(tmp_path), description, [1, 3, 2, 1, 4]).folder
    values = folder / "shard-00001" / "values" / "c" / "0" / "0"
    values = values / "0" if tokens else values
    array = np.fromfile(values, np.float32)
    array[2 * 3 + 1] = value  # the third token
    array.tofile(values)
    forge(folder)
    with pytest.raises(FeatureRangeError, match="item-3") as caught:
        FeatureReader(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("container", FORMAT_NAMES)
@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "int8"])
def test_every_stored_type_is_examined(dtype, container, compression, tmp_path, monkeypatch):
    description = describe(dtype=dtype, container=container, compression=compression)
    store = FeatureStore.create(description.folder(tmp_path), description, versions={})
    monkeypatch.setattr(FeatureStore, "_check_range", lambda self, features: None)
    for index in range(store.num_shards):
        items = store.shard_items(index)
        rows = np.ones((2 * len(items), 3), np.float32)
        if index == 1:
            rows[2, 1] = np.inf
        stored, scales = quantise(rows, dtype)
        beside = {} if scales is None else {SCALES: scales}
        offsets = np.arange(0, 2 * len(items) + 1, 2)
        ids = tuple(f"item-{item}" for item in items)
        store.write_shard(index, Features(stored, offsets, ids, beside), [])
    store.finish()
    with pytest.raises(FeatureRangeError, match="item-3"):
        FeatureReader(store.folder)


def test_a_shard_is_examined_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_types, "_BLOCK_BYTES", 6)  # one token
    test_a_stored_feature_that_is_not_finite_is_named(np.nan, None, tmp_path)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [([b"ab", b"a\xff"], "UTF-8"), ([b"ab", b"\0\0"], "empty")],
)
def test_ids_that_are_no_ids_are_refused(rows, problem):
    array = np.array([list(row) for row in rows], np.uint8)
    with pytest.raises(StoreCorruptError, match=problem):
        decode_ids(array)


def test_an_id_that_is_there_twice_is_refused(tmp_path):
    folder = store_in(tmp_path)
    encode_ids(("item-0", "item-3")).tofile(folder / "shard-00001" / "ids" / "c" / "0" / "0")
    forge(folder)
    with pytest.raises(StoreCorruptError, match="'item-0' is there twice"):
        FeatureReader(folder).gather([0])


def test_what_is_remembered_is_sealed_and_small(tmp_path):
    FeatureReader(store_in(tmp_path))
    table = json.loads(memo(tmp_path).read_text())
    assert sorted(table) == ["checksum", "version", "whole"]
    names = [Path(name).name for name in sorted(table["whole"])]
    assert names == ["shard-00000", "shard-00001", "shard-00002"]


@pytest.mark.parametrize("residency", ["disk", "host", "device"])
@pytest.mark.parametrize("tokens", [2, None])
def test_without_verifying_a_row_that_is_not_finite_is_named_when_it_is_read(
    residency, tokens, tmp_path
):
    """Else an infinity switches off the check for leakage, and trainings diverge."""
    folder = store_in(tmp_path, tokens_per_item=tokens)
    values = FeatureStore(folder, read_manifest(folder)).locate(1)["values"]
    with values.file.open("r+b") as file:
        file.write(np.array([np.inf], np.float16).tobytes())  # the first feature of row 2
    message = "features of item 'item-2' are not all finite"
    with trusting():
        if residency == "device":
            with pytest.raises(FeatureRangeError, match=message):
                FeatureReader(folder, residency=residency, device=torch.device("cpu"))
            return
        reader = FeatureReader(folder, residency=residency)
    assert reader.gather([0, 1, 3]).ids == ("item-0", "item-1", "item-3")
    for read in (reader.gather, reader.padded):
        with pytest.raises(FeatureRangeError, match=message):
            read(np.array([4, 2, 0]))


def test_comparing_that_takes_long_is_announced_once(tmp_path, monkeypatch):
    folder = store_in(tmp_path)
    monkeypatch.setattr(checked_shards, "_ANNOUNCED_BYTES", 1)
    monkeypatch.setattr(notes, "_listeners", [])
    lines: list[str] = []
    notes.tell(lines.append)
    FeatureReader(folder)
    FeatureReader(folder)
    (line,) = lines
    assert "of d/train/toy with their checksums, once" in line


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 2**63 - 1, -2, 4],  # differences that are all positive modulo 2^64
        [0, 2, 2, 4],  # a row without a token, which no extraction writes
        [0, 3, 1, 4],
    ],
)
def test_offsets_that_do_not_rise_are_refused(offsets, tmp_path):
    description = describe(tokens_per_item=None, num_items=3, rows_per_shard=3)
    folder = description.folder(tmp_path)
    write(folder, description, [1, 2, 1])
    np.array(offsets, np.int64).tofile(folder / "shard-00000" / "offsets" / "c" / "0")
    forge(folder)
    with pytest.raises(StoreCorruptError, match="offsets"):
        FeatureReader(folder)
