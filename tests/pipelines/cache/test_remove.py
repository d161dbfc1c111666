"""Stores that are removed, and those that stay because something needs them."""

import json
import os

import pytest

from lightalign.featcache.errors import SpecError, StoreInUseError
from lightalign.featcache.store import catalog
from lightalign.featcache.store.damage import verify_folder
from lightalign.featcache.store.locks import ShardLocks
from lightalign.pipelines.cache.remove import remove

from ...featcache.store.test_damage import DEAD
from ...featcache.store.test_feature_store import describe
from ...helpers import lightalign, temporary_of, tree_bytes
from .store_helpers import put, put_pairs, put_run


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
    assert not catalog.arrays_path(pairs).exists()
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
