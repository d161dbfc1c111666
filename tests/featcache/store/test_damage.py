import os
from pathlib import Path

import pytest

from lightalign.featcache.errors import StoreCorruptError, StoreInUseError
from lightalign.featcache.store.damage import (
    IntegrityReport,
    clear_damage,
    find_damage,
    verify_folder,
)
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.locks import ShardLocks, lock_path
from lightalign.featcache.store.manifest import COPY, MANIFEST, read_manifest

from ...helpers import temporary_of, tree_bytes
from .test_feature_store import FORMAT_NAMES, describe, features_of, shard_files, write

DEAD = 2**22 + 1  # above the largest process id of Linux


def flip(path: Path, position: int | None = None) -> None:
    """Flip the lowest bit of one byte, the middle one if none is named."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if position is None else position] ^= 1
    path.write_bytes(bytes(content))


def missing_shards(folder: Path) -> list[int]:
    return FeatureStore(folder, read_manifest(folder)).missing_shards()


@pytest.mark.parametrize("container", FORMAT_NAMES)
def test_a_whole_store_has_no_damage(tmp_path, container):
    write(tmp_path, describe(container=container))
    assert find_damage(tmp_path) == IntegrityReport()
    assert not find_damage(tmp_path)


@pytest.mark.parametrize("container", FORMAT_NAMES)
def test_clearing_a_damaged_shard_leaves_just_that_one_missing(tmp_path, container):
    description = describe(container=container)
    write(tmp_path, description)
    whole = tree_bytes(tmp_path)
    flip(shard_files(tmp_path, 1)[-1])
    damage = find_damage(tmp_path)
    assert damage == IntegrityReport(shards=(1,))
    clear_damage(tmp_path, damage)
    assert missing_shards(tmp_path) == [1]
    assert not shard_files(tmp_path, 1)
    now = tree_bytes(tmp_path)
    for name, content in whole.items():
        if name not in (MANIFEST, COPY) and not name.startswith("shard-00001"):
            assert now[name] == content
    write(tmp_path, description)
    assert tree_bytes(tmp_path) == whole


@pytest.mark.parametrize("name", [MANIFEST, COPY])
def test_any_flipped_byte_of_a_manifest_is_named_and_restored(tmp_path, name):
    write(tmp_path, describe())
    whole = tree_bytes(tmp_path)
    for position in range(0, len(whole[name]), 97):
        flip(tmp_path / name, position)
        damage = find_damage(tmp_path)
        assert damage == IntegrityReport(manifests=(name,))
        assert verify_folder(tmp_path) == list(damage.lines)
        assert str(tmp_path / name) in damage.lines[0]
        clear_damage(tmp_path, damage)
        assert tree_bytes(tmp_path) == whole


def test_a_lost_manifest_is_restored_and_its_copy_too(tmp_path):
    write(tmp_path, describe())
    whole = tree_bytes(tmp_path)
    for name in (MANIFEST, COPY):
        (tmp_path / name).unlink()
        assert verify_folder(tmp_path) == [f"{tmp_path / name}: missing"]
        clear_damage(tmp_path, find_damage(tmp_path))
        assert tree_bytes(tmp_path) == whole


def test_a_damaged_shard_is_found_through_the_copy_of_a_damaged_manifest(tmp_path):
    write(tmp_path, describe())
    flip(tmp_path / MANIFEST)
    flip(shard_files(tmp_path, 2)[-1])
    assert find_damage(tmp_path) == IntegrityReport(shards=(2,), manifests=(MANIFEST,))


def test_a_manifest_and_a_copy_both_damaged_cannot_be_restored(tmp_path):
    write(tmp_path, describe())
    for name in (MANIFEST, COPY):
        flip(tmp_path / name)
    assert MANIFEST in verify_folder(tmp_path)[0]
    with pytest.raises(StoreCorruptError, match="both damaged: replace the store by a whole copy"):
        clear_damage(tmp_path, IntegrityReport(manifests=(MANIFEST, COPY)))


@pytest.mark.parametrize("name", [MANIFEST, COPY])
def test_extracting_again_restores_a_damaged_manifest(tmp_path, name):
    write(tmp_path, describe())
    whole = tree_bytes(tmp_path)
    flip(tmp_path / name)
    assert FeatureStore.create(tmp_path, describe(), versions={}).missing_shards() == []
    assert tree_bytes(tmp_path) == whole


def test_a_store_killed_between_manifest_and_copy_is_whole_after_clearing(tmp_path):
    """The copy still says incomplete; of two whole ones that differ it is the older."""
    store = FeatureStore.create(tmp_path, describe(), versions={"x": "1"})
    before = (tmp_path / COPY).read_bytes()
    write(tmp_path, describe())
    whole = tree_bytes(tmp_path)
    (tmp_path / COPY).write_bytes(before)
    assert verify_folder(tmp_path) == [f"{tmp_path / COPY}: differs from {MANIFEST}"]
    clear_damage(tmp_path, find_damage(tmp_path))
    assert tree_bytes(tmp_path) == whole
    assert not store.complete


def test_a_damaged_lock_and_that_of_a_dead_process_are_removed(tmp_path):
    write(tmp_path, describe())
    whole = tree_bytes(tmp_path)
    with ShardLocks(tmp_path) as held:
        for index in (0, 1):
            assert held.claim(index)
        assert find_damage(tmp_path) == IntegrityReport()
        kept = lock_path(tmp_path, 1).read_bytes()
    lock_path(tmp_path, 0).write_bytes(kept[:-1])
    lock_path(tmp_path, 1).write_bytes(kept)
    flip(lock_path(tmp_path, 0))
    damage = find_damage(tmp_path)
    assert damage == IntegrityReport(locks=("shard-00000.lock", "shard-00001.lock"))
    assert damage.lines == (
        f"{lock_path(tmp_path, 0)}: checksum differs",
        f"{lock_path(tmp_path, 1)}: its process is dead",
    )
    clear_damage(tmp_path, damage)
    assert tree_bytes(tmp_path) == whole


def test_what_the_dead_left_goes_and_what_is_not_ours_stays(tmp_path):
    write(tmp_path, describe())
    (tmp_path / "notes.txt").write_text("mine")
    whole = tree_bytes(tmp_path)
    dead, living = (temporary_of(tmp_path / "shard-00000", pid) for pid in (DEAD, os.getppid()))
    elsewhere = tmp_path / f".tmp-0a1b2c3d-{DEAD}-shard-00000"
    for folder in (dead, living, elsewhere):
        folder.mkdir()
        (folder / "zarr.json").write_text("{}")
    with ShardLocks(tmp_path) as locks:
        assert locks.claim(0)
        assert find_damage(tmp_path) == IntegrityReport(foreign=("notes.txt",))
    damage = find_damage(tmp_path)
    assert set(damage.temporaries) == {dead.name, living.name, elsewhere.name}
    clear_damage(tmp_path, damage)
    assert tree_bytes(tmp_path) == whole


def test_a_file_between_the_shards_is_written_again(tmp_path):
    write(tmp_path, describe())
    whole = tree_bytes(tmp_path)
    flip(tmp_path / "zarr.json")
    damage = find_damage(tmp_path)
    assert damage == IntegrityReport(store_files=("zarr.json",))
    clear_damage(tmp_path, damage)
    assert tree_bytes(tmp_path) == whole


def test_an_unfinished_store_loses_only_its_damaged_shards(tmp_path):
    """Shard 0 is whole, shard 1 has a flipped byte, shard 2 a flipped byte in its receipt."""
    store = FeatureStore.create(tmp_path, describe(), versions={"x": "1"})
    for index in range(3):
        items = store.shard_items(index)
        store.write_shard(index, features_of([2] * len(items), first=items.start), [])
    flip(shard_files(tmp_path, 1)[0])
    flip(tmp_path / "shard-00002.json")
    damage = find_damage(tmp_path)
    assert damage.shards == (1, 2)
    assert not damage.foreign
    clear_damage(tmp_path, damage)
    assert missing_shards(tmp_path) == [1, 2]
    write(tmp_path, describe())
    write(tmp_path.with_name("whole"), describe())
    assert tree_bytes(tmp_path) == tree_bytes(tmp_path.with_name("whole"))


def test_a_shard_that_a_living_process_writes_is_not_removed(tmp_path):
    write(tmp_path, describe())
    flip(shard_files(tmp_path, 1)[-1])
    damage = find_damage(tmp_path)
    with ShardLocks(tmp_path) as held:
        assert held.claim(1)
        with pytest.raises(StoreInUseError, match=rf"shards \[1\] .* process {os.getpid()} on"):
            clear_damage(tmp_path, damage)
    assert missing_shards(tmp_path) == []


def test_extracting_again_removes_the_locks_of_the_dead(tmp_path):
    write(tmp_path, describe())
    whole = tree_bytes(tmp_path)
    lock_path(tmp_path, 0).write_bytes(b"")
    FeatureStore.create(tmp_path, describe(), versions={})
    assert tree_bytes(tmp_path) == whole


def test_the_receipt_of_another_shard_is_damage(tmp_path):
    """Two receipts change places: each is whole, of as many rows, and right in its checksums."""
    store = FeatureStore.create(tmp_path, describe(), versions={"x": "1"})
    for index in range(2):
        items = store.shard_items(index)
        store.write_shard(index, features_of([2] * len(items), first=items.start), [])
    first, second = (tmp_path / f"shard-{index:05d}.json" for index in range(2))
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert find_damage(tmp_path).shards[:2] == (0, 1)
    assert missing_shards(tmp_path)[:2] == [0, 1]
