"""One flipped byte in each kind of file is named, and repaired to the same bytes."""

import dataclasses
import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.featcache.errors import SpecError, StoreCorruptError
from lightalign.featcache.store.damage import find_damage, verify_folder
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.store.locks import lock_path
from lightalign.featcache.store.manifest import read_manifest, write_manifest
from lightalign.pipelines.cache import repair as redo
from lightalign.pipelines.cache.explain import explain
from lightalign.pipelines.cache.repair import explain_request, repair
from lightalign.pipelines.commands.cache import cache_app

from ...helpers import tree_bytes
from ..conftest import SCENES, extract_toy


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.fixture
def store(tmp_path) -> Path:
    """Return a store of three shards of ten images."""
    (report,) = extract_toy(tmp_path, "toy-image", split="train", batch_size=4).stores
    return report.folder


def shard_file(store: Path, name: str) -> Path:
    return store / "shard-00001" / name


@pytest.mark.parametrize(
    ("name", "num_recomputed"),
    [
        ("shard-00001/values/c/0/0/0", 1),
        ("shard-00001/ids/c/0/0", 1),
        ("shard-00001/values/zarr.json", 1),
        ("manifest.json", 0),
        ("manifest.copy.json", 0),
        ("zarr.json", 0),
    ],
)
@pytest.mark.usefixtures("untried")
def test_a_flipped_byte_is_named_and_repaired_to_the_same_bytes(
    tmp_path, store, name, num_recomputed, monkeypatch
):
    before = tree_bytes(tmp_path)
    flip(store / name)
    found = verify_folder(store)
    assert len(found) == 1
    assert str(store / name) in found[0]
    encoded = []
    encode = ToyEncoder.encode
    monkeypatch.setattr(
        ToyEncoder, "encode", lambda self, batch: encoded.append(len(batch)) or encode(self, batch)
    )
    report = repair(tmp_path, str(store), device="cpu")
    assert len(report.recomputed) == num_recomputed
    assert sum(encoded) == 10 * num_recomputed  # one shard, nothing else
    assert report.left == ()
    assert verify_folder(store) == []
    assert tree_bytes(tmp_path) == before


@pytest.mark.parametrize("damaged", ["values/c/0/0/0", "manifest.json", "manifest.copy.json"])
@pytest.mark.parametrize("step", ["drop_shards", "write_shard", "finish", "flaws"])
def test_a_repair_makes_a_store_no_newer_wherever_it_is_stopped(
    tmp_path, store, monkeypatch, damaged, step
):
    """Verbs take the newest store when they are not told which."""
    flip(shard_file(store, damaged) if "/" in damaged else store / damaged)
    for name in ("manifest.json", "manifest.copy.json"):
        os.utime(store / name, (1000, 1000))
    whole = getattr(FeatureStore, step)

    def stop(self, *arguments, **options):
        whole(self, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(FeatureStore, step, stop)
        repair(tmp_path, str(store), device="cpu")
    assert (store / "manifest.json").stat().st_mtime == 1000
    repair(tmp_path, str(store), device="cpu")
    assert verify_folder(store) == []
    assert (store / "manifest.json").stat().st_mtime == 1000
    extract_toy(tmp_path, "toy-image", split="train")
    assert (store / "manifest.json").stat().st_mtime > 1000


def test_a_disk_that_is_broken_under_one_store_ends_the_repair_of_all_after_the_others(
    tmp_path, store, monkeypatch
):
    (other,) = extract_toy(tmp_path, "toy-image", split="val").stores
    whole = tree_bytes(tmp_path)
    for shard in (store / "shard-00001", other.folder / "shard-00000"):
        flip(shard / "values/c/0/0/0")

    def broken(home, name, **options):
        if name == str(store):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(store / "shard-00001"))
        return repair(home, name, **options)

    monkeypatch.setattr(redo, "repair", broken)
    done = CliRunner().invoke(cache_app, ["repair", "--home", str(tmp_path), "--device", "cpu"])
    assert isinstance(done.exception, OSError)  # which the command line makes one line and 2 of
    assert done.exception.filename == str(store / "shard-00001")
    assert f"not repaired: {store}" in done.stdout
    monkeypatch.undo()
    repair(tmp_path, str(store), device="cpu")
    assert tree_bytes(tmp_path) == whole


def test_a_damaged_lock_of_nobody_is_named_and_removed(tmp_path, store):
    before = tree_bytes(tmp_path)
    lock_path(store, 1).write_bytes(b'{"host": "here", "pid": 1, "checksum": "no"}')
    assert any("shard-00001.lock" in line for line in verify_folder(store))
    repair(tmp_path, str(store), device="cpu")
    assert tree_bytes(tmp_path) == before


def test_other_data_cannot_repair_a_store(tmp_path, store, monkeypatch):
    flip(shard_file(store, "values/c/0/0/0"))
    damaged = tree_bytes(tmp_path)
    monkeypatch.setattr(ToyEncoder, "identity", lambda _: {"weights": "of another model"})
    with pytest.raises(SpecError, match=r"identity\.weights.*--data .*=PATH|--set source"):
        repair(tmp_path, str(store), device="cpu")
    assert tree_bytes(tmp_path) == damaged


KEYED = {
    "identity": ({"weights": "2", "precision": "float32"}, "identity.weights"),
    "source": ("e", "source"),
    "split": ("val", "split"),
    "modality": ("text", "modality"),
    "layer": (-2, "layer"),
    "kind": ("cls", "kind"),
    "dtype": ("int8", "dtype"),
    "container": ("hdf5", "container"),
    "compression": ("zstd", "compression"),
    "companions": (("token_ids",), "companions.0"),
}


def describe(**changes) -> StoreDescription:
    fields = {
        "dataset": "d",
        "split": "train",
        "source": "s",
        "encoder": "e",
        "identity": {"weights": "1", "precision": "float32"},
        "modality": "image",
        "width": 3,
        "tokens_per_item": 2,
        "num_items": 4,
        "rows_per_shard": 2,
    }
    return StoreDescription(**{**fields, **changes})


def test_every_keyed_field_is_in_the_list_below():
    assert set(describe().keyed()) - {"format_version"} == set(KEYED)
    known = {field.name for field in dataclasses.fields(StoreDescription)}
    assert set(KEYED) <= known


@pytest.mark.parametrize("field", KEYED)
def test_each_keyed_field_alone_changes_the_key_and_explain_names_it(tmp_path, field):
    value, name = KEYED[field]
    there = describe()
    FeatureStore.create(there.folder(tmp_path), there, versions={})
    wanted = describe(**{field: value})
    assert wanted.key != there.key
    explained = explain(tmp_path, wanted)
    fields = {difference.field for difference in explained.differences}
    # an empty list becomes one of one entry: both are named
    assert fields == {name} | ({"companions"} if field == "companions" else set())


def test_a_miss_is_explained_with_both_values(tmp_path, store):
    table = {"encoders": ["toy-image"], "data": "shapes", "home": str(tmp_path), "device": "cpu"}
    table |= {"source": SCENES, "precision": "float32"}
    (explained,) = explain_request(table, ["dtype=int8", "split=train"])
    assert explained.second == store
    (difference,) = explained.differences
    assert (difference.field, difference.first, difference.second) == (
        "dtype",
        '"int8"',
        '"float16"',
    )
    (hit,) = explain_request(table, ["split=train"])
    assert hit.differences == ()


@pytest.mark.parametrize("name", ["width", "tokens_per_item"])
def test_a_repair_allocates_nothing_of_the_size_that_a_manifest_claims(tmp_path, store, name):
    """No key covers them, and the checksum of a manifest is made right by whoever changes it."""
    manifest = read_manifest(store)
    manifest["description"][name] = 2**50
    write_manifest(store, manifest)
    flip(store / "shard-00001/values/c/0/0/0")
    with pytest.raises(StoreCorruptError, match=rf"the manifest says {name} = {2**50}, and these"):
        repair(tmp_path, str(store), device="cpu")


def test_whole_pairs_of_another_split_are_restored(tmp_path):
    """Both files are whole, with right checksums of their own."""
    for split in ("val", "test"):
        extract_toy(tmp_path, "toy-image", split=split)
    before = tree_bytes(tmp_path / "features")
    val, test = ((tmp_path / "features" / "shapes" / s) for s in ("val", "test"))
    ((pairs,), (other,)) = (folder.glob("pairs--*.json") for folder in (val, test))
    content = pairs.read_bytes()
    pairs.write_bytes(other.read_bytes())
    (store,) = val.glob("toy-image--*")
    assert find_damage(store).pairs == (pairs.name,)
    assert repair(tmp_path, str(store), device="cpu").left == ()
    assert pairs.read_bytes() == content
    assert tree_bytes(tmp_path / "features") == before
