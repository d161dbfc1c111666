import json
import os
from pathlib import Path

import pytest

from lightalign.featcache.errors import SpecError, StoreCorruptError, StoreInUseError
from lightalign.featcache.store import catalog
from lightalign.featcache.store.damage import verify_folder
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.locks import ShardLocks, lock_path
from lightalign.featcache.types import Pairs
from lightalign.pipelines.cache.stores import Difference, explain, explain_stores, remove, repair

from ...featcache.store.test_damage import DEAD, flip
from ...featcache.store.test_feature_store import describe, features_of, shard_files, write
from ...helpers import lightalign, temporary_of, tree_bytes


def put(home: Path, **changes) -> Path:
    """Write a store of five items into `home` and return its folder."""
    description = describe(**changes)
    write(description.folder(home), description)
    put_pairs(home, description.source, description.split)
    return description.folder(home)


def put_pairs(home: Path, source: str = "abc", split: str = "train") -> Path:
    path = catalog.pairs_path(home, "d", split, source)
    catalog.write_pairs(path, Pairs(("a",), ("b",), (("a", "b"),)))
    return path


def put_run(home: Path, name: str, key: str, *, finished: bool = True) -> None:
    """Write what a training on the image store with `key` leaves of it."""
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(f'[stores.train.image]\nkey = "{key}"\n')
    if finished:
        stores = {"train": {"image": {"key": key}}}
        (folder / "report.json").write_text(json.dumps({"spec": {"stores": stores}}))


def recompute(store: FeatureStore, shards: list[int]) -> None:
    for index in shards:
        items = store.shard_items(index)
        store.write_shard(index, features_of([2] * len(items), first=items.start), [])


def test_each_value_that_differs_is_named_with_both_sides(tmp_path):
    identity = {"weights": "1", "transform": {"size": 224, "mean": [0.5, 0.5]}}
    folder = put(tmp_path, identity=identity)
    wanted = {"weights": "1", "transform": {"size": 224, "mean": [0.5, 0.4], "crop": True}}
    explained = explain(tmp_path, describe(identity=wanted, dtype="float32"))
    assert explained.second == folder
    assert explained.complete
    assert set(explained.differences) == {
        Difference(field="identity.transform.mean.1", first="0.4", second="0.5"),
        Difference(field="identity.transform.crop", first="true", second="absent"),
        Difference(field="dtype", first='"float32"', second='"float16"'),
    }


def test_a_store_of_the_same_encoder_and_dataset_is_nearer_than_a_more_equal_one(tmp_path):
    put(tmp_path, encoder="other")  # equal in all but the name
    put(tmp_path, dataset="e")
    folder = put(tmp_path, identity={"weights": "9"}, container="hdf5", split="test")
    explained = explain(tmp_path, describe(identity={"weights": "1"}))
    assert explained.second == folder
    assert {difference.field for difference in explained.differences} == {
        "identity.weights",
        "container",
        "split",
    }


def test_of_stores_of_one_encoder_and_dataset_the_most_equal_is_nearest(tmp_path):
    put(tmp_path, identity={"weights": "9"}, container="hdf5")
    folder = put(tmp_path, identity={"weights": "9"})
    put(tmp_path, identity={"weights": "9"}, split="test")
    assert explain(tmp_path, describe()).second == folder


def test_a_store_of_another_format_version_takes_part(tmp_path):
    folder = put(tmp_path)
    for name in ("manifest.json", "manifest.copy.json"):
        manifest = json.loads((folder / name).read_text())
        manifest["keyed"]["format_version"] = manifest["format_version"] = 1
        (folder / name).write_text(json.dumps(manifest))
    (difference,) = explain(tmp_path, describe()).differences
    assert difference.field == "format_version"
    assert difference.second == "1"


def test_an_unfinished_store_of_the_same_key_is_said_to_be_unfinished(tmp_path):
    folder = describe().folder(tmp_path)
    FeatureStore.create(folder, describe(), versions={})
    explained = explain(tmp_path, describe())
    assert explained.differences == ()
    assert not explained.complete


def test_a_home_without_stores_explains_nothing(tmp_path):
    explained = explain(tmp_path, describe())
    assert explained.second is None
    assert explained.first == describe().key


def test_two_stores_are_compared_by_name_or_with_the_nearest(tmp_path):
    first, second = put(tmp_path), put(tmp_path, dtype="float32")
    put(tmp_path, encoder="other", modality="text")
    for explained in (
        explain_stores(tmp_path, str(first), str(second)),
        explain_stores(tmp_path, describe().key[:9]),
    ):
        assert explained.second == second
        (difference,) = explained.differences
        assert difference.field == "dtype"


def test_a_store_that_no_run_needs_is_removed_whole(tmp_path):
    folder = put(tmp_path)
    kept = put(tmp_path, split="test")
    put_run(tmp_path, "mine", describe(split="test").key)
    num_bytes = sum(len(content) for content in tree_bytes(folder).values())
    removed = remove(tmp_path, str(folder))
    assert removed.bytes == num_bytes
    assert removed.runs == ()
    assert not folder.parent.exists()
    assert verify_folder(kept) == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_store_of_a_run_is_kept_unless_forced(tmp_path, finished):
    folder = put(tmp_path)
    put_run(tmp_path, "mine", describe().key, finished=finished)
    put_run(tmp_path, "yours", describe().key)
    with pytest.raises(StoreInUseError, match=r"runs \['mine', 'yours'\]: add --force"):
        remove(tmp_path, str(folder))
    assert verify_folder(folder) == []
    assert remove(tmp_path, str(folder), force=True).runs == ("mine", "yours")
    assert not folder.exists()


def test_a_store_that_was_only_evaluated_on_is_kept_too(tmp_path):
    folder = put(tmp_path)
    put_run(tmp_path, "mine", "0" * 64)
    report = {"stores": {"image": describe().key, "text": "1" * 64}}
    (tmp_path / "runs" / "mine" / "retrieval-d-test.json").write_text(json.dumps(report))
    with pytest.raises(StoreInUseError, match="mine"):
        remove(tmp_path, str(folder))


@pytest.mark.parametrize("force", [True, False])
def test_a_store_that_is_being_written_is_never_removed(tmp_path, force):
    folder = put(tmp_path)
    with ShardLocks(folder) as held:
        assert held.claim(0)
        with pytest.raises(StoreInUseError, match=f"being written by .*process {os.getpid()} on"):
            remove(tmp_path, str(folder), force=force)
    assert verify_folder(folder) == []


def test_pairs_go_with_the_last_store_of_their_source(tmp_path):
    image, text = put(tmp_path), put(tmp_path, encoder="words", modality="text")
    other = put(tmp_path, source="xyz")
    pairs, others_pairs = put_pairs(tmp_path), put_pairs(tmp_path, "xyz")
    assert remove(tmp_path, str(image)).pairs is None
    assert pairs.is_file()
    assert remove(tmp_path, str(text)).pairs == pairs
    assert not pairs.exists()
    assert others_pairs.is_file()
    assert verify_folder(other) == []


def test_pairs_stay_while_a_store_beside_them_cannot_be_read(tmp_path):
    image, text = put(tmp_path), put(tmp_path, encoder="words", modality="text")
    pairs = put_pairs(tmp_path)
    (text / "manifest.json").write_text("{")
    assert remove(tmp_path, str(image)).pairs is None
    assert pairs.is_file()


def test_a_store_with_an_unreadable_manifest_can_be_removed_but_not_from_a_run(tmp_path):
    folder = put(tmp_path)
    (folder / "manifest.json").write_text("{")
    put_run(tmp_path, "mine", describe().key)
    with pytest.raises(StoreInUseError, match="mine"):
        remove(tmp_path, str(folder))
    remove(tmp_path, str(folder), force=True)
    assert not folder.exists()


def test_a_store_of_another_home_is_not_removed(tmp_path):
    folder = put(tmp_path / "other")
    with pytest.raises(SpecError, match="name its home with --home"):
        remove(tmp_path / "home", str(folder))
    assert verify_folder(folder) == []


def test_a_removal_that_crashed_is_no_store_and_is_finished_by_the_next(tmp_path):
    folder, second = put(tmp_path), put(tmp_path, dtype="float32")
    crashed = temporary_of(folder, DEAD)
    folder.rename(crashed)
    assert [entry.folder for entry in catalog.list_stores(tmp_path)] == [second]
    assert catalog.manifest_folders(tmp_path) == [second]
    assert lightalign("cache", "rm", str(second), home=tmp_path).returncode == 0
    assert not crashed.exists()


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
    report = repair(tmp_path, str(folder), counting)
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
    assert repair(tmp_path, str(folder), recompute).recomputed == (1, 2)
    assert tree_bytes(folder) == whole
    assert verify_folder(folder) == []


def test_what_is_not_ours_stays_and_is_said_to_stay(tmp_path):
    folder = put(tmp_path)
    (folder / "notes.txt").write_text("mine")
    report = repair(tmp_path, str(folder), recompute)
    assert report.left == (f"{folder / 'notes.txt'}: not in the manifest",)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_manifest_and_copy_both_damaged_are_an_error(tmp_path):
    folder = put(tmp_path)
    break_manifest(folder)
    break_copy(folder)
    with pytest.raises(StoreCorruptError, match=r"manifest\.json"):
        repair(tmp_path, str(folder), recompute)
