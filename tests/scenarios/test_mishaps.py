"""What goes wrong while stores are written, read or repaired is said, and loses nothing."""

import contextlib
import shutil
from pathlib import Path

import pytest
import torch

from lightalign.featcache import atomic_files
from lightalign.featcache.encoders import card as cards
from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.featcache.errors import (
    CompileError,
    DatasetChangedError,
    DiskSpaceError,
    SpecError,
    StoreNotFoundError,
    UnknownNameError,
)
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store import catalog
from lightalign.featcache.store.damage import verify_folder
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.locks import ShardLocks
from lightalign.featcache.store.manifest import MANIFEST, read_manifest
from lightalign.pipelines.cache.remove import remove
from lightalign.pipelines.cache.repair import each_apart, repair
from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.extraction import extract, throughput
from lightalign.pipelines.extraction.loaded_encoder import LoadedEncoder
from lightalign.pipelines.extraction.out_of_memory import encode_within_memory
from lightalign.pipelines.extraction.reports import StoreReport
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.extraction.throughput import fitting_batch_size

from ..helpers import lightalign, tree_bytes
from ..pipelines.cache.test_repair import flip
from ..pipelines.conftest import SCENES, extract_toy
from ..pipelines.extraction.test_extract import write_table


class Notes(Progress):
    """Keep what a user would read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def extract_table(home: Path, data: Path, **changes) -> StoreReport:
    options = {"data": f"image-text-table={data}", "source": {}, "split": "train", "max_bad": 0.5}
    return extract_toy(home, "toy-image", **{**options, **changes}).stores[0]


@pytest.fixture
def data(tmp_path) -> Path:
    return write_table(tmp_path / "data", 24)


@pytest.mark.usefixtures("untried")
def test_a_photo_that_goes_away_meanwhile_is_an_error_and_no_lost_row(tmp_path, data, monkeypatch):
    extract_table(tmp_path / "whole", data)
    encode = ToyEncoder.encode

    def lose_one(self, batch):
        (data / "019.png").rename(tmp_path / "019.png")
        monkeypatch.setattr(ToyEncoder, "encode", encode)
        return encode(self, batch)

    monkeypatch.setattr(ToyEncoder, "encode", lose_one)
    with pytest.raises(DatasetChangedError, match=r"019\.png.*though it was there"):
        extract_table(tmp_path / "cut", data, batch_size=2, workers=0)
    (tmp_path / "019.png").rename(data / "019.png")
    assert extract_table(tmp_path / "cut", data, batch_size=2).rows == 24
    extract_table(tmp_path / "again", data, batch_size=2)
    assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "again")


def test_photos_that_were_never_there_are_in_the_ledger(tmp_path, data):
    for name in ("003.png", "004.png", "020.png"):
        (data / name).unlink()
    report = extract_table(tmp_path / "home", data)
    found = [(item.id, item.stage) for item in report.skipped]
    assert found == [(name, "read") for name in ("003.png", "004.png", "020.png")]


def test_what_an_encoder_cannot_prepare_is_in_the_ledger_as_such(tmp_path, monkeypatch):
    from lightalign.featcache.errors import UnreadableItemError

    def refuse(self, content, *, item_id):
        raise UnreadableItemError(f"{item_id}: no words")

    monkeypatch.setattr(ToyEncoder, "preprocess", refuse)
    (store,) = extract_toy(tmp_path, "toy-text", split="val", on_error="skip", batch_size=4).stores
    assert {item.stage for item in store.skipped} == {"prepare"}


def test_a_repair_that_would_lose_a_row_leaves_the_shard_missing(tmp_path, data):
    home = tmp_path / "home"
    report = extract_table(home, data)
    before = tree_bytes(home)
    whole = (data / "015.png").read_bytes()
    (data / "015.png").write_bytes(bytes(len(whole)))  # of the same size: the key is the same
    flip(report.folder / "shard-00001" / "values" / "c" / "0" / "0" / "0")
    place = f"image-text-table={data}"
    with pytest.raises(DatasetChangedError, match=r"shards \[1\].*015\.png"):
        repair(home, str(report.folder), data=place, device="cpu")
    assert FeatureStore(report.folder, read_manifest(report.folder)).missing_shards() == [1]
    (data / "015.png").write_bytes(whole)
    extract_table(home, data)
    assert tree_bytes(home) == before


def test_a_repair_that_gives_other_bytes_says_so(tmp_path, monkeypatch):
    (report,) = extract_toy(tmp_path, "toy-image", split="train", batch_size=4).stores
    flip(report.folder / "shard-00001" / "values" / "c" / "0" / "0" / "0")
    encode = ToyEncoder.encode_layers

    def other_rounding(self, batch, layers):
        found = encode(self, batch, layers)
        return [one.with_values(one.values * (1 + 2**-8)) for one in found]

    monkeypatch.setattr(ToyEncoder, "encode_layers", other_rounding)
    assert repair(tmp_path, str(report.folder), device="cpu").differing == (1,)


def test_a_store_that_is_not_where_its_home_has_it_is_not_repaired(tmp_path):
    (report,) = extract_toy(tmp_path / "here", "toy-image", split="val").stores
    flip(report.folder / "shard-00000" / "values" / "c" / "0" / "0" / "0")
    before = tree_bytes(tmp_path)
    with pytest.raises(SpecError, match="repair it with --home"):
        repair(tmp_path / "there", str(report.folder), device="cpu")
    assert tree_bytes(tmp_path) == before


def test_a_store_that_cannot_be_repaired_stops_no_other(tmp_path):
    stores = [
        extract_toy(tmp_path, "toy-image", split=split).stores[0].folder
        for split in ("val", "test")
    ]
    before = tree_bytes(stores[1])
    for name in ("manifest.json", "manifest.copy.json"):
        flip(stores[0] / name)
    flip(stores[1] / "shard-00000" / "values" / "c" / "0" / "0" / "0")
    done, failed = each_apart(
        lambda store: repair(tmp_path, store, device="cpu"), [str(store) for store in stores]
    )
    assert [report.store for report in done] == [stores[1]]
    assert list(failed) == [str(stores[0])]
    assert tree_bytes(stores[1]) == before
    result = lightalign("cache", "repair", home=tmp_path)
    assert result.returncode == 1
    assert f"not repaired: {stores[0]}" in result.stdout


@pytest.mark.parametrize("way", ["extract", "repair"])
def test_damaged_pairs_are_named_and_restored(tmp_path, way):
    (report,) = extract_toy(tmp_path, "toy-image", split="val", batch_size=4).stores
    before = tree_bytes(tmp_path)
    (pairs,) = tmp_path.rglob("pairs--*.json")
    flip(pairs)
    assert verify_folder(report.folder) == [f"{pairs}: damaged"]
    if way == "extract":
        extract_toy(tmp_path, "toy-image", split="val")
    else:
        assert repair(tmp_path, str(report.folder), device="cpu").recomputed == ()
    assert tree_bytes(tmp_path) == before
    pairs.unlink()
    assert verify_folder(report.folder) == [f"{pairs}: missing"]


@pytest.mark.parametrize("name", ["manifest.json", "manifest.copy.json"])
@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_extracting_again_restores_a_manifest(tmp_path, name, harm):
    (report,) = extract_toy(tmp_path, "toy-image", split="val", rows_per_shard=3).stores
    before = tree_bytes(tmp_path)
    harm(report.folder / name)
    assert extract_toy(tmp_path, "toy-image", split="val", rows_per_shard=None).stores[0].rows == 8
    assert tree_bytes(tmp_path) == before


def test_a_finished_shard_that_vanished_from_an_unfinished_store_is_written_again(tmp_path):
    (report,) = extract_toy(tmp_path, "toy-image", split="train", batch_size=4).stores
    before = tree_bytes(tmp_path)
    store = FeatureStore.open(report.folder)
    store.drop_shards([2])
    shutil.rmtree(store.shard_path(1))
    (again,) = extract_toy(tmp_path, "toy-image", split="train", batch_size=4).stores
    assert again.encoded == 14  # shards 1 and 2 of 24 images
    assert tree_bytes(tmp_path) == before


def test_two_cards_of_one_encoder_keep_apart(tmp_path, monkeypatch):
    folder = tmp_path / "cards"
    folder.mkdir()
    for name in ("one", "two"):
        shutil.copy(cards.CARDS / "toy-image.toml", folder / f"{name}.toml")
    monkeypatch.setattr(cards, "CARDS", folder)
    report = extract_toy(tmp_path / "home", "one", encoders=("one", "two"), split="val")
    first, second = (FeatureReader(store.folder) for store in report.stores)
    assert report.stores[0].folder != report.stores[1].folder
    assert report.stores[0].key == report.stores[1].key
    assert (first.gather(range(8)).values == second.gather(range(8)).values).all()


def test_a_format_that_does_not_exist_leaves_nothing(tmp_path):
    with pytest.raises(UnknownNameError, match=r"format.*foo.*hdf5.*zarr"):
        extract_toy(tmp_path, "toy-image", format="foo")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_removed_meanwhile_is_a_clear_error(tmp_path, monkeypatch):
    encode = ToyEncoder.encode

    def remove(self, batch):
        for folder in tmp_path.glob("features/shapes/train/toy-*"):
            shutil.rmtree(folder)
        return encode(self, batch)

    monkeypatch.setattr(ToyEncoder, "encode", remove)
    with pytest.raises(StoreNotFoundError, match=r"was removed while|no feature store"):
        extract_toy(tmp_path, "toy-image", split="train", batch_size=4)


def test_waiting_for_another_process_says_for_whom(tmp_path, monkeypatch):
    (report,) = extract_toy(tmp_path, "toy-image", split="train").stores
    FeatureStore.open(report.folder).drop_shards([1])
    with ShardLocks(report.folder) as locks:
        assert locks.claim(1)

        class Releasing(Notes):
            def note(self, text: str) -> None:
                super().note(text)
                if text.startswith("waiting: "):
                    locks.release(1)

        notes = Releasing()
        spec = ExtractSpec(
            encoders=("toy-image",), data="shapes", home=tmp_path, split="train", source=SCENES,
            device="cpu", rows_per_shard=10, precision="float32",
        )  # fmt: skip
        extract.run(spec, notes)
    waiting = [line for line in notes.lines if line.startswith("waiting: ")]
    assert len(waiting) == 1
    assert "shard-00001 is being written by process" in waiting[0]


def test_a_shard_that_is_being_written_is_no_damage(tmp_path, monkeypatch):
    seen = []
    digest = atomic_files.sha256_file

    def look(path):
        (folder,) = tmp_path.glob("features/shapes/val/toy-*")
        if not seen:
            seen.append([])  # verify computes checksums, too
            seen[0] = verify_folder(folder)
        return digest(path)

    monkeypatch.setattr(atomic_files, "sha256_file", look)
    extract_toy(tmp_path, "toy-image", split="val")
    assert seen == [[]]


@pytest.mark.parametrize("name", ["", "a", "0123456"])
def test_less_than_eight_digits_of_a_key_name_no_store(tmp_path, name):
    (report,) = extract_toy(tmp_path, "toy-image", split="val").stores
    with pytest.raises(StoreNotFoundError):
        catalog.find_store(tmp_path, name or report.key[:7])
    assert catalog.find_store(tmp_path, report.key[:8]) == report.folder
    assert lightalign("cache", "rm", name, home=tmp_path).returncode == 2
    assert report.folder.is_dir()


def test_the_disk_must_hold_all_splits_before_the_first_is_begun(tmp_path, monkeypatch):
    spec = {"data": "shapes", "home": tmp_path, "source": SCENES, "device": "cpu"}
    from lightalign.pipelines.extraction import estimate
    from lightalign.pipelines.extraction import sizes as sizes_of_stores

    full = estimate.run(ExtractSpec(encoders=("toy-image",), **spec)).missing_bytes
    monkeypatch.setattr(sizes_of_stores, "free_bytes", lambda _: full - 1)
    with pytest.raises(DiskSpaceError):
        extract_toy(tmp_path, "toy-image")
    assert not list(tmp_path.rglob("shard-*"))
    monkeypatch.setattr(sizes_of_stores, "free_bytes", lambda _: full)
    extract_toy(tmp_path, "toy-image")


def test_a_cached_extraction_does_not_draw_its_pictures(tmp_path, monkeypatch):
    """Here types are checked, for which one item of each list that is passed on is looked at."""
    from lightalign.featcache.sources.datasets import shapes

    extract_toy(tmp_path, "toy-image")
    drawn = []
    draw = shapes.draw_png
    monkeypatch.setattr(shapes, "draw_png", lambda *args: drawn.append(args) or draw(*args))
    extract_toy(tmp_path, "toy-image")
    assert len(drawn) < sum(SCENES[split] for split in ("train", "val", "test")) / 2


def test_an_unfinished_store_is_shown_with_what_it_has(tmp_path):
    (report,) = extract_toy(tmp_path, "toy-image", split="train").stores
    FeatureStore.open(report.folder).drop_shards([1])
    shown = lightalign("cache", "info", str(report.folder), home=tmp_path).stdout
    assert '"num_shards": 3' in shown
    assert '"missing_shards": [\n    1\n  ]' in shown


def test_a_begun_store_goes_on_with_its_own_batch_size(tmp_path, monkeypatch):
    (report,) = extract_toy(tmp_path, "toy-image", split="train", batch_size=3).stores
    FeatureStore.open(report.folder).drop_shards([1])
    sizes = []
    encode = ToyEncoder.encode
    monkeypatch.setattr(
        ToyEncoder, "encode", lambda self, batch: sizes.append(len(batch)) or encode(self, batch)
    )
    extract_toy(tmp_path, "toy-image", split="train")
    assert sizes[-4:] == [3, 3, 3, 1]


@pytest.mark.parametrize(("item_bytes", "size"), [(0, 32), (31, 32), (32, 16), (999, 1), (9999, 1)])
def test_the_batch_size_is_halved_until_it_fits_half_of_the_free_memory(
    monkeypatch, item_bytes, size
):
    """2,000 bytes are free: 32 items of 31 bytes are 992, of 32 bytes are 1,024."""
    from lightalign.featcache.encoders.loading import open_encoder

    monkeypatch.setattr(throughput, "free_memory", lambda: 2000)
    notes = Notes()
    small = LoadedEncoder(encoder=open_encoder("toy-text"), origin="", measured_bytes=1)
    large = LoadedEncoder(encoder=open_encoder("toy-image"), origin="", measured_bytes=item_bytes)
    assert fitting_batch_size([small, large], "cpu", notes) == size
    assert bool(notes.lines) == (size < 32)


def test_a_batch_size_fails_but_once():
    from lightalign.featcache.encoders.loading import open_encoder
    from lightalign.featcache.types import Item

    encoder = open_encoder("toy-text")
    prepared = [encoder.prepare(Item(id=str(n), text="a " * (n + 1))) for n in range(8)]
    whole = encoder.encode(prepared)
    encode, sizes = encoder.encode, []

    def small(batch):
        sizes.append(len(batch))
        if len(batch) > 3:
            raise torch.cuda.OutOfMemoryError("too much")
        return encode(batch)

    encoder.encode = small
    fitting = {encoder.name: 8}
    for _ in range(2):
        (found,) = encode_within_memory(encoder, prepared, [-1], fitting)
        assert torch.equal(found.mask, whole.mask)
        torch.testing.assert_close(found.values[found.mask], whole.values[whole.mask])
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]


def test_an_encoder_without_a_model_is_not_compiled(tmp_path):
    with pytest.raises(SpecError, match="has no model that could be compiled"):
        extract_toy(tmp_path, "toy-image", compile=True)


@pytest.mark.parametrize("broken", ["raises", "turns"])
def test_a_compiler_that_fails_or_changes_features_is_refused(tmp_path, monkeypatch, broken):
    encode = ToyEncoder.encode

    def compiled(self, batch):
        if broken == "raises":
            raise AssertionError("no g++\nlong trace")
        found = encode(self, batch)
        return found.with_values(found.values + 0.1)

    monkeypatch.setattr(ToyEncoder, "compile", lambda self: setattr(type(self), "encode", compiled))
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, ToyEncoder, "encode", encode)
        message = r"cannot be compiled .*\(no g\+\+\)" if broken == "raises" else "other features"
        with pytest.raises(CompileError, match=message):
            extract_toy(tmp_path, "toy-image", compile=True)
    assert not list(tmp_path.rglob(MANIFEST))


def test_a_removal_of_a_store_needs_its_name(tmp_path):
    (report,) = extract_toy(tmp_path, "toy-image", split="val").stores
    assert remove(tmp_path, report.key).store == report.folder.resolve()
