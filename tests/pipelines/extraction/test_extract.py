import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightalign.featcache.errors import (
    FeatureRangeError,
    SpecError,
    TooManyBadItemsError,
    UnknownNameError,
)
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store import catalog
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.tokens import Tokens
from lightalign.pipelines.extraction.shard_rows import ShardRows
from lightalign.pipelines.extraction.spec import ExtractSpec

from ...helpers import temporary_of, tree_bytes
from ..conftest import SCENES, extract_toy


def write_table(folder: Path, num_images: int) -> Path:
    """Write a table dataset of small pictures, two captions each."""
    folder.mkdir()
    lines = ["image,caption,split"]
    for index in range(num_images):
        Image.new("RGB", (8, 8), (index * 9 % 256, 40, 90)).save(folder / f"{index:03d}.png")
        lines += [f"{index:03d}.png,caption {index} {n},train" for n in range(2)]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_every_split_gets_a_complete_store(toy_home):
    entries = catalog.list_stores(toy_home)
    found = {(e.description.split, e.description.modality): e for e in entries}
    assert set(found) == {(s, m) for s in ("train", "val", "test") for m in ("image", "text")}
    assert all(entry.complete for entry in entries)
    assert len(FeatureReader(found["train", "image"].folder)) == SCENES["train"]
    assert len(FeatureReader(found["train", "text"].folder)) == SCENES["train"] * 5


def test_a_second_call_has_nothing_to_do(tmp_path):
    first = extract_toy(tmp_path, "toy-image")
    before = tree_bytes(tmp_path)
    second = extract_toy(tmp_path, "toy-image")
    assert [split.encoded for split in first.stores] == [24, 8, 8]
    assert [split.encoded for split in second.stores] == [0, 0, 0]
    assert tree_bytes(tmp_path) == before


def test_one_split_can_be_named(tmp_path):
    report = extract_toy(tmp_path, "toy-text", split="val")
    assert [split.split for split in report.stores] == ["val"]
    with pytest.raises(UnknownNameError, match="no split named 'vla'; close: \\['val'\\]"):
        extract_toy(tmp_path, "toy-text", split="vla")


def test_stored_values_are_the_encoders_in_float16(toy_home):
    from lightalign.featcache.encoders.loading import open_encoder
    from lightalign.featcache.sources.opening import open_source
    from lightalign.featcache.types import Modality

    encoder = open_encoder("toy-text")
    items = open_source("shapes", home=toy_home, options=SCENES).items("test", Modality.TEXT)
    entry = next(
        e
        for e in catalog.list_stores(toy_home)
        if (e.description.split, e.description.modality) == ("test", "text")
    )
    reader = FeatureReader(entry.folder)
    for row in (0, 17, 39):
        alone = encoder.encode([encoder.prepare(items[row])]).values[0].numpy()
        np.testing.assert_array_equal(reader.gather([row]).row(0), alone.astype(np.float16))
        assert reader.ids[row] == items[row].id


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_batch_size_changes_no_row_and_values_to_rounding(tmp_path, batch_size):
    reference = extract_toy(tmp_path / "a", "toy-image", batch_size=32, dtype="float32")
    other = extract_toy(tmp_path / "b", "toy-image", batch_size=batch_size, dtype="float32")
    for ours, theirs in zip(reference.stores, other.stores, strict=True):
        first, second = FeatureReader(ours.folder), FeatureReader(theirs.folder)
        assert first.ids == second.ids
        rows = range(len(first))
        np.testing.assert_allclose(
            first.gather(rows).values, second.gather(rows).values, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("workers", [1, 4])
def test_the_number_of_workers_changes_no_byte(tmp_path, workers):
    extract_toy(tmp_path / "a", "toy-image", workers=2)
    extract_toy(tmp_path / "b", "toy-image", workers=workers)
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")


def test_unreadable_images_are_listed_and_shift_no_row(tmp_path):
    data = write_table(tmp_path / "data", 30)
    (data / "004.png").write_bytes(b"")
    whole = (data / "017.png").read_bytes()
    (data / "017.png").write_bytes(whole[: len(whole) // 2])
    (data / "020.png").unlink()
    spec = {"data": f"image-text-table={data}", "source": {}, "split": "train", "max_bad": 0.2}
    report = extract_toy(tmp_path / "home", "toy-image", **spec).stores[0]
    assert [item.id for item in report.skipped] == ["004.png", "017.png", "020.png"]
    assert all(item.reason.startswith(item.id) for item in report.skipped)
    reader = FeatureReader(report.folder)
    assert reader.ids == tuple(f"{i:03d}.png" for i in range(30) if i not in (4, 17, 20))
    colour = Image.open(data / "018.png").getpixel((0, 0))
    same = write_table(tmp_path / "one", 0)
    Image.new("RGB", (8, 8), colour).save(same / "x.png")
    (same / "table.csv").write_text("image,caption,split\nx.png,c,train\n")
    alone = extract_toy(
        tmp_path / "home", "toy-image", data=f"image-text-table={same}", source={}, split="train"
    ).stores[0]
    np.testing.assert_array_equal(
        FeatureReader(alone.folder).gather([0]).values,
        reader.gather([reader.row_of["018.png"]]).values,
    )


def test_too_many_unreadable_images_are_an_error_even_from_the_cache(tmp_path):
    data = write_table(tmp_path / "data", 20)
    (data / "003.png").write_bytes(b"not an image")
    spec = {"data": f"image-text-table={data}", "source": {}, "split": "train"}
    with pytest.raises(TooManyBadItemsError, match=r"1 of 20 items .* 0 are allowed .*: 003\.png"):
        extract_toy(tmp_path / "home", "toy-image", **spec)
    assert extract_toy(tmp_path / "home", "toy-image", max_bad=0.05, **spec).stores[0].rows == 19
    with pytest.raises(TooManyBadItemsError):
        extract_toy(tmp_path / "home", "toy-image", max_bad=0.0, **spec)


def test_values_beyond_float16_become_infinite_and_are_refused(tmp_path):
    import torch

    tokens = Tokens(torch.full((1, 2, 3), 7e4), torch.ones(1, 2, dtype=torch.bool))
    rows = ShardRows(dtype="float16", width=3)
    rows.add(tokens, sources=np.array([0]), targets=np.array([0]))
    features = rows.features({0: "big"}, {})
    store = FeatureStore.create(tmp_path, _description(num_items=1, rows_per_shard=1), versions={})
    with pytest.raises(FeatureRangeError, match=r"'big'.*--dtype float32"):
        store.write_shard(0, features, [])


def _description(**changes):
    from lightalign.featcache.store.key import StoreDescription

    fields = {"dataset": "d", "split": "s", "source": "f", "encoder": "e", "identity": {}}
    return StoreDescription(**fields, modality="image", width=3, tokens_per_item=2, **changes)


@pytest.mark.parametrize(
    ("option", "value"),
    [("batch_size", 0), ("workers", -1), ("rows_per_shard", 0), ("max_bad", 1.5)],
)
def test_options_out_of_range_are_refused(tmp_path, option, value):
    with pytest.raises(SpecError, match=option):
        ExtractSpec(encoders=("toy-image",), data="shapes", home=tmp_path, **{option: value})


def test_an_unknown_dtype_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="no dtype named 'float61'; close: \\['float16'"):
        ExtractSpec(encoders=("toy-image",), data="shapes", home=tmp_path, dtype="float61")


KILLED = """
import sys, time
from pathlib import Path
from lightalign.featcache.encoders.backends.toy import ToyEncoder
from lightalign.pipelines.extraction.extract import run
from lightalign.pipelines.extraction.spec import ExtractSpec

encode = ToyEncoder.encode
def slow(self, batch):
    time.sleep(0.004)  # so that a kill meets the work, not the end of it
    return encode(self, batch)
ToyEncoder.encode = slow
print("go", flush=True)
run(ExtractSpec(encoders=("toy-image",), data="shapes", home=Path(sys.argv[1]), split="train",
    source={"train": 120, "size": 32}, batch_size=4, rows_per_shard=10, format=sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("container", ["zarr", "hdf5"])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, container):
    script = [sys.executable, "-c", KILLED]
    subprocess.run([*script, str(tmp_path / "whole"), container], check=True, capture_output=True)
    random = np.random.default_rng(0)
    kills = 0
    while kills < 2:
        running = subprocess.Popen(
            [*script, str(tmp_path / "cut"), container], stdout=subprocess.PIPE
        )
        assert running.stdout is not None
        running.stdout.readline()
        time.sleep(random.uniform(0.01, 0.3))
        os.kill(running.pid, signal.SIGKILL)
        running.stdout.close()
        if running.wait() == -signal.SIGKILL:
            kills += 1
        else:  # it was quicker: the next one begins anew
            shutil.rmtree(tmp_path / "cut")
    subprocess.run([*script, str(tmp_path / "cut"), container], check=True, capture_output=True)
    assert tree_bytes(tmp_path / "cut") == tree_bytes(tmp_path / "whole")
    manifest = next((tmp_path / "cut").rglob("manifest.json"))
    assert json.loads(manifest.read_text())["complete"]


def test_what_a_kill_left_of_the_pairs_is_cleared(tmp_path):
    extract_toy(tmp_path, "toy-image", split="val")
    whole = tree_bytes(tmp_path)
    (pairs,) = tmp_path.rglob("pairs--*.json")
    dead = 2**22 + 1  # above the largest process id of Linux
    pairs.rename(temporary_of(pairs, dead))
    extract_toy(tmp_path, "toy-image", split="val")
    assert tree_bytes(tmp_path) == whole
