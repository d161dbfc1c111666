"""What is damaged in a store is restored, and all else stays."""

from pathlib import Path

import pytest

from lightalign.featcache.errors import StoreCorruptError
from lightalign.featcache.store.damage import verify_folder
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.locks import ShardLocks, lock_path
from lightalign.pipelines.cache.restore import restore

from ...featcache.store.test_damage import flip
from ...featcache.store.test_feature_store import describe, features_of, shard_files
from ...helpers import tree_bytes
from .store_helpers import put, put_pairs


def recompute(store: FeatureStore, shards: list[int]) -> None:
    for index in shards:
        items = store.shard_items(index)
        store.write_shard(index, features_of([2] * len(items), first=items.start), [])


def break_shard(folder: Path) -> None:
    flip(shard_files(folder, 1)[-1])


def break_manifest(folder: Path) -> None:
    flip(folder / "manifest.json")


def break_copy(folder: Path) -> None:
    flip(folder / "manifest.copy.json")


def break_group(folder: Path) -> None:
    flip(folder / "zarr.json")


def break_lock(folder: Path) -> None:
    with ShardLocks(folder) as held:
        held.claim(1)
        content = lock_path(folder, 1).read_bytes()
    lock_path(folder, 1).write_bytes(content)
    flip(lock_path(folder, 1))


@pytest.mark.parametrize(
    ("break_one", "shards"),
    [
        (break_shard, (1,)),
        (break_manifest, ()),
        (break_copy, ()),
        (break_group, ()),
        (break_lock, ()),
    ],
)
def test_one_flipped_byte_is_named_and_repaired_to_the_same_bytes(tmp_path, break_one, shards):
    folder = put(tmp_path)
    whole = tree_bytes(folder)
    changed = (folder / "manifest.json").stat().st_mtime_ns
    break_one(folder)
    asked = []

    def counting(store: FeatureStore, indices: list[int]) -> None:
        asked.extend(indices)
        recompute(store, indices)

    assert len(verify_folder(folder)) == 1
    report = restore(folder, counting)
    assert report.recomputed == tuple(asked) == shards
    assert len(report.damaged) == 1
    assert report.left == ()
    assert tree_bytes(folder) == whole
    if break_one is not break_manifest:
        assert (folder / "manifest.json").stat().st_mtime_ns == changed


def test_an_unfinished_store_is_repaired_and_finished(tmp_path):
    whole = tree_bytes(put(tmp_path / "whole"))
    folder = describe().folder(tmp_path)
    put_pairs(tmp_path)
    store = FeatureStore.create(folder, describe(), versions={"x": "1"})
    recompute(store, [0, 1])
    flip(shard_files(folder, 1)[0])
    assert verify_folder(folder)[-1] == f"{folder}: incomplete, 1 of 3 shards are missing: 2"
    assert restore(folder, recompute).recomputed == (1, 2)
    assert tree_bytes(folder) == whole
    assert verify_folder(folder) == []


def test_what_is_not_ours_stays_and_is_said_to_stay(tmp_path):
    folder = put(tmp_path)
    (folder / "notes.txt").write_text("mine")
    report = restore(folder, recompute)
    assert report.left == (f"{folder / 'notes.txt'}: not in the manifest",)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_manifest_and_copy_both_damaged_are_an_error(tmp_path):
    folder = put(tmp_path)
    break_manifest(folder)
    break_copy(folder)
    with pytest.raises(StoreCorruptError, match=r"manifest\.json"):
        restore(folder, recompute)
