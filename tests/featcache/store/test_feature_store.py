import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightalign.featcache.errors import (
    FeatureRangeError,
    SpecError,
    StoreCorruptError,
    StoreIncompleteError,
    StoreNotFoundError,
)
from lightalign.featcache.item_ids import decode_ids, encode_ids
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store.damage import verify_folder
from lightalign.featcache.store.feature_store import FORMATS, FeatureStore
from lightalign.featcache.store.key import Skipped, StoreDescription
from lightalign.featcache.store.locks import ShardLocks
from lightalign.featcache.types import Features

from ...helpers import temporary_of, tree_bytes

FORMAT_NAMES = FORMATS.names()


def describe(**changes) -> StoreDescription:
    fields = {
        "dataset": "d",
        "split": "train",
        "source": "abc",
        "encoder": "toy",
        "identity": {"weights": "1"},
        "modality": "image",
        "width": 3,
        "tokens_per_item": 2,
        "num_items": 5,
        "rows_per_shard": 2,
    }
    return StoreDescription(**{**fields, **changes})


def features_of(lengths, *, first: int = 0, width: int = 3, dtype: str = "float16") -> Features:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.arange(int(offsets[-1]) * width).reshape(-1, width).astype(dtype) + first
    return Features(values, offsets, tuple(f"item-{first + i}" for i in range(len(lengths))))


def write(folder: Path, description: StoreDescription, lengths=None) -> FeatureStore:
    """Write all missing shards; each row's length comes from `lengths` by item position."""
    store = FeatureStore.create(folder, description, versions={"x": "1"})
    for index in store.missing_shards():
        items = store.shard_items(index)
        rows = [description.tokens_per_item or lengths[position] for position in items]
        features = features_of(
            rows, first=items.start, width=description.width, dtype=description.dtype
        )
        store.write_shard(index, features, [])
    store.finish()
    return store


def shard_files(folder: Path, index: int) -> list[Path]:
    name = f"shard-{index:05d}"
    return [path for path in sorted(folder.rglob("*")) if name in str(path) and path.is_file()]


@pytest.mark.parametrize("container", FORMAT_NAMES)
def test_a_fixed_store_reads_back_in_any_order_with_repeats(tmp_path, container):
    write(tmp_path, describe(container=container))
    gathered = FeatureReader(tmp_path).gather([4, 0, 4])
    assert gathered.ids == ("item-4", "item-0", "item-4")
    # shard 2 starts at item 4, so its values count from 4; shard 0 counts from 0
    np.testing.assert_array_equal(gathered.row(0), [[4, 5, 6], [7, 8, 9]])
    np.testing.assert_array_equal(gathered.row(1), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(gathered.row(2), gathered.row(0))


@pytest.mark.parametrize("container", FORMAT_NAMES)
def test_a_ragged_store_reads_back_in_any_order(tmp_path, container):
    write(tmp_path, describe(container=container, tokens_per_item=None), lengths=[1, 3, 2, 1, 4])
    gathered = FeatureReader(tmp_path).gather([3, 1])
    assert gathered.lengths.tolist() == [1, 3]
    np.testing.assert_array_equal(gathered.row(0), [[8, 9, 10]])
    np.testing.assert_array_equal(gathered.row(1), [[3, 4, 5], [6, 7, 8], [9, 10, 11]])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_what_is_written_is_what_any_gather_returns(tmp_path_factory, data):
    lengths = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=12))
    ragged = data.draw(st.booleans())
    width = data.draw(st.integers(1, 4))
    dtype = data.draw(st.sampled_from(["float16", "float32"]))
    seed = data.draw(st.integers(0, 2**16))
    tokens = lengths if ragged else [lengths[0]] * len(lengths)
    rows = [
        np.random.default_rng([seed, i]).normal(size=(n, width)).astype(dtype)
        for i, n in enumerate(tokens)
    ]
    folder = tmp_path_factory.mktemp("store")
    description = describe(
        container=data.draw(st.sampled_from(FORMAT_NAMES)),
        width=width,
        dtype=dtype,
        tokens_per_item=None if ragged else lengths[0],
        num_items=len(rows),
        rows_per_shard=data.draw(st.integers(1, 5)),
    )
    skipped = data.draw(st.sets(st.integers(0, len(rows) - 1)))
    store = FeatureStore.create(folder, description, versions={})
    for index in store.missing_shards():
        kept = [i for i in store.shard_items(index) if i not in skipped]
        offsets = np.cumsum([0, *(len(rows[i]) for i in kept)]).astype(np.int64)
        values = np.concatenate([np.empty((0, width), dtype), *(rows[i] for i in kept)])
        bad = [Skipped(id=f"ü{i}", reason="bad") for i in store.shard_items(index) if i in skipped]
        store.write_shard(index, Features(values, offsets, tuple(f"ü{i}" for i in kept)), bad)
    store.finish()

    reader = FeatureReader(folder)
    left = [i for i in range(len(rows)) if i not in skipped]
    assert reader.ids == tuple(f"ü{i}" for i in left)
    wanted = data.draw(
        st.lists(st.sampled_from(range(len(left))), max_size=20) if left else st.just([])
    )
    gathered = reader.gather(wanted)
    assert gathered.ids == tuple(f"ü{left[row]}" for row in wanted)
    for position, row in enumerate(wanted):
        np.testing.assert_array_equal(gathered.row(position), rows[left[row]])
    assert [item.id for item in FeatureStore.open(folder).skipped()] == [
        f"ü{i}" for i in sorted(skipped)
    ]


@pytest.mark.parametrize("tokens", [2, None])
def test_bare_zarr_reads_our_values(tmp_path, tokens):
    zarr = pytest.importorskip("zarr", minversion="3")
    write(tmp_path, describe(tokens_per_item=tokens), lengths=[1, 3, 2, 1, 4])
    group = zarr.open_group(tmp_path, mode="r")
    shard = group["shard-00001"]
    ours = FeatureReader(tmp_path).gather([2, 3])
    np.testing.assert_array_equal(np.asarray(shard["values"]).reshape(-1, 3), ours.values)
    assert shard["values"].dtype == np.float16
    ids = np.asarray(shard["ids"])
    assert ids.view(f"S{ids.shape[1]}")[:, 0].tolist() == [b"item-2", b"item-3"]
    if tokens is None:
        np.testing.assert_array_equal(np.asarray(shard["offsets"]), ours.offsets)


@pytest.mark.parametrize("tokens", [2, None])
def test_bare_h5py_reads_our_values(tmp_path, tokens):
    write(tmp_path, describe(container="hdf5", tokens_per_item=tokens), lengths=[1, 3, 2, 1, 4])
    ours = FeatureReader(tmp_path).gather([2, 3])
    with h5py.File(tmp_path / "shard-00001.h5") as file:
        np.testing.assert_array_equal(file["values"][:].reshape(-1, 3), ours.values)
        if tokens is None:
            np.testing.assert_array_equal(file["offsets"][:], ours.offsets)


@pytest.mark.parametrize("container", FORMAT_NAMES)
def test_an_interrupted_store_ends_with_the_same_bytes(tmp_path, container):
    description = describe(container=container)
    write(tmp_path / "whole", description)
    store = FeatureStore.create(tmp_path / "cut", description, versions={"x": "1"})
    store.write_shard(1, features_of([2, 2], first=2), [])
    dead = 2**22 + 1  # above the largest process id of Linux
    temporary_of(store.shard_path(0), dead).mkdir()
    store.shard_path(0).mkdir()  # renamed, but killed before its receipt
    assert FeatureStore.create(tmp_path / "cut", description, versions={}).missing_shards() == [
        0,
        2,
    ]
    write(tmp_path / "cut", description)
    assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "whole")


@pytest.mark.parametrize("name", [".tmp-{host}-1-shard-00000", ".tmp-0a1b2c3d-1-shard-00000"])
def test_a_temporary_stays_while_any_machine_holds_the_lock_of_its_shard(tmp_path, name):
    description = describe()
    store = FeatureStore.create(tmp_path, description, versions={})
    own = temporary_of(store.shard_path(0), 1).name.split("-")[1]
    theirs = tmp_path / name.format(host=own)
    theirs.mkdir()
    with ShardLocks(tmp_path) as locks:
        assert locks.claim(0)
        FeatureStore.create(tmp_path, description, versions={})
        assert theirs.is_dir()
    FeatureStore.create(tmp_path, description, versions={})
    assert not theirs.exists()


def test_a_store_killed_between_manifest_and_receipts_is_complete(tmp_path):
    description = describe()
    write(tmp_path, description)
    expected = tree_bytes(tmp_path)
    (tmp_path / "shard-00000.json").write_text("{}")
    assert FeatureStore.create(tmp_path, description, versions={}).complete
    assert tree_bytes(tmp_path) == expected


def test_an_incomplete_store_is_not_read(tmp_path):
    FeatureStore.create(tmp_path, describe(), versions={}).write_shard(0, features_of([2, 2]), [])
    with pytest.raises(StoreIncompleteError, match="2 of 3 shards are missing"):
        FeatureReader(tmp_path)


def test_a_folder_without_a_store_is_named(tmp_path):
    with pytest.raises(StoreNotFoundError, match=r"manifest\.json is missing"):
        FeatureReader(tmp_path)


@pytest.mark.parametrize("container", FORMAT_NAMES)
def test_a_truncated_shard_is_refused_at_opening(tmp_path, container):
    write(tmp_path, describe(container=container))
    victim = max(shard_files(tmp_path, 1), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(StoreCorruptError, match=r"bytes, expected"):
        FeatureReader(tmp_path)


@pytest.mark.parametrize("container", FORMAT_NAMES)
def test_verify_names_the_file_with_a_flipped_byte(tmp_path, container):
    write(tmp_path, describe(container=container))
    assert verify_folder(tmp_path) == []
    victim = shard_files(tmp_path, 1)[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    assert verify_folder(tmp_path) == [f"{victim}: checksum differs"]


def test_verify_names_missing_and_foreign_files(tmp_path):
    store = write(tmp_path, describe())
    lost = store.shard_path(0) / "values" / "zarr.json"
    lost.unlink()
    (tmp_path / "notes.txt").write_text("mine")
    assert verify_folder(tmp_path) == [
        f"{lost}: missing",
        f"{tmp_path / 'notes.txt'}: not in the manifest",
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format_version": 1}'])
def test_a_broken_manifest_is_refused(tmp_path, content):
    write(tmp_path, describe())
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"manifest\.json"):
        FeatureStore.open(tmp_path)


def test_a_manifest_whose_key_was_edited_is_refused(tmp_path):
    write(tmp_path, describe())
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["description"]["identity"]["weights"] = "2"
    path.write_text(json.dumps(manifest))
    with pytest.raises(StoreCorruptError, match="key does not belong"):
        FeatureStore.open(tmp_path)


def test_another_number_of_rows_per_shard_cannot_shift_rows(tmp_path):
    FeatureStore.create(tmp_path, describe(), versions={})
    with pytest.raises(SpecError, match="begun with rows_per_shard=2"):
        FeatureStore.create(tmp_path, describe(rows_per_shard=3), versions={})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_not_finite_is_refused_by_item(tmp_path, value):
    store = FeatureStore.create(tmp_path, describe(), versions={})
    features = features_of([2, 2])
    features.values[2, 1] = value  # first token of the second row
    with pytest.raises(FeatureRangeError, match="item-1"):
        store.write_shard(0, features, [])
    assert store.missing_shards() == [0, 1, 2]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("identity", {"weights": "2"}),
        ("source", "abd"),
        ("split", "val"),
        ("modality", "text"),
        ("kind", "cls"),
        ("dtype", "float32"),
        ("container", "hdf5"),
    ],
)
def test_everything_that_changes_a_number_changes_the_key(field, value):
    assert describe(**{field: value}).key != describe().key


@pytest.mark.parametrize(("field", "value"), [("rows_per_shard", 7), ("dataset", "e")])
def test_what_changes_no_number_keeps_the_key(field, value):
    assert describe(**{field: value}).key == describe().key


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)))
def test_ids_of_any_script_survive(ids):
    assert decode_ids(encode_ids(tuple(ids))) == tuple(ids)


@pytest.mark.parametrize("item_id", ["", "a\0b"])
def test_an_id_that_cannot_be_stored_is_refused(item_id):
    with pytest.raises(SpecError, match="item id"):
        encode_ids((item_id,))


def test_rows_outside_the_store_are_refused(tmp_path):
    write(tmp_path, describe())
    reader = FeatureReader(tmp_path)
    for rows in ([5], [-1]):
        with pytest.raises(IndexError, match=r"\[0, 5\)"):
            reader.gather(rows)
