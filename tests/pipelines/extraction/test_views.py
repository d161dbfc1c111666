"""Views are encoded apart: no feature of an unmasked token reaches a masked row."""

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

from lightalign.featcache.encoders.loading import open_encoder
from lightalign.featcache.errors import SpecError, StoreNotFoundError
from lightalign.featcache.modalities import read_item
from lightalign.featcache.reading.view_reader import ViewReader, find_view
from lightalign.featcache.regions import Regions
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.store.catalog import read_catalog
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.key import StoreDescription
from lightalign.featcache.types import Modality
from lightalign.featcache.views import masked_boxes
from lightalign.featcache.views.masked_boxes import black_out
from lightalign.pipelines.extraction import estimate
from lightalign.pipelines.extraction.spec import ExtractSpec

from ...helpers import lightalign, tree_bytes
from ..conftest import extract_toy

FEW = {"train": 4, "val": 2, "test": 2, "size": 32}
VARIANTS = 3


def extract_masked(home: Path, **changes):
    fields = {"source": FEW, "split": "train", "mlm_variants": VARIANTS, "batch_size": 8}
    return extract_toy(home, "minilm", **{**fields, **changes})


@pytest.fixture(scope="module")
def masked_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("masked")
    extract_masked(home)
    return home


@pytest.fixture(scope="module")
def readers(masked_home):
    """Return the plain reader of a split and that of its view."""
    catalog = read_catalog(masked_home)
    (plain,) = catalog.entries
    view = find_view(masked_home, plain, "masked-tokens")
    from lightalign.featcache.reading.reader import FeatureReader

    return FeatureReader(plain.folder), ViewReader(view.folder, "masked-tokens")


def test_a_row_of_each_variant_follows_its_text(readers):
    plain, view = readers
    assert len(view) == VARIANTS * len(plain)
    assert view.item_of_row.tolist() == np.repeat(np.arange(len(plain)), VARIANTS).tolist()
    assert view.variant_of_row.tolist() == [0, 1, 2] * len(plain)
    assert view.ids[4] == f"{plain.ids[1]}~1"
    assert view.rows_of_item(1).tolist() == [3, 4, 5]
    assert view.rows_of_item(len(plain)).tolist() == []


def test_no_feature_of_an_unmasked_text_reaches_a_masked_row(readers):
    """A leak would have equal features, or those of other ids than the stored ones."""
    plain, view = readers
    encoder = open_encoder("minilm")
    num_changed = 0
    for row in range(len(view)):
        whole = plain.gather([int(view.item_of_row[row])])
        masked = view.gather([row])
        before, seen = whole.companions["token_ids"], masked.companions["token_ids"]
        chosen = masked.companions["masked_ids"] != -1
        changed = seen != before
        assert chosen.any()
        assert not (changed & ~chosen).any()
        np.testing.assert_array_equal(masked.companions["masked_ids"][chosen], before[chosen])
        alone = encoder.encode([seen.tolist()]).values[0].numpy()
        np.testing.assert_allclose(masked.values, alone, atol=2e-3, rtol=2e-3)
        # the encoder that has seen the masked token knows it nowhere in the text
        if changed.any():
            difference = np.abs(masked.values.astype(float) - whole.values.astype(float))
            assert (difference.max(axis=1) > 0.01).all()
        num_changed += int(changed.sum())
    assert num_changed > len(view) / 2


def test_batch_size_and_workers_change_no_token_and_workers_no_byte(masked_home, tmp_path):
    for name, changes in {"a": {"workers": 0}, "b": {"batch_size": 5}}.items():
        extract_masked(tmp_path / name, **changes)
    same = tree_bytes(masked_home)
    assert tree_bytes(tmp_path / "a") == same
    (one,), (other,) = (read_catalog(home).views for home in (masked_home, tmp_path / "b"))
    first, second = (ViewReader(e.folder, "masked-tokens") for e in (one, other))
    assert first.ids == second.ids
    rows = range(len(first))
    for name in ("token_ids", "masked_ids", "item", "variant"):
        np.testing.assert_array_equal(first.companion(name, rows), second.companion(name, rows))
    ours, theirs = first.gather(rows).values, second.gather(rows).values
    np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=2**-9, atol=2e-3)


def test_a_second_call_has_nothing_to_do_and_more_variants_are_another_store(masked_home, tmp_path):
    shutil.copytree(masked_home, tmp_path / "h")
    again = extract_masked(tmp_path / "h")
    assert [store.encoded for store in again.stores] == [0, 0]
    more = extract_masked(tmp_path / "h", mlm_variants=1)
    assert [(type(s).__name__, s.encoded) for s in more.stores] == [
        ("StoreReport", 0),
        ("ViewReport", 20),
    ]


def test_a_plain_store_is_as_without_a_view(masked_home, tmp_path):
    extract_masked(tmp_path, mlm_variants=0)
    with_view = tree_bytes(masked_home)
    assert {name: with_view[name] for name in tree_bytes(tmp_path)} == tree_bytes(tmp_path)


def test_the_key_of_a_plain_store_is_what_it_was():
    """Recorded before there were views, as is the table of the manifest."""
    description = StoreDescription(
        dataset="d", split="train", source="s" * 64, encoder="e", identity={"a": 1},
        modality="text", width=4, tokens_per_item=None, num_items=3, rows_per_shard=2,
        companions=("token_ids",),
    )  # fmt: skip
    assert description.key == RECORDED_KEY
    assert "view" not in description.table()
    assert "view" not in description.keyed()


RECORDED_KEY = "a7d2a9df5aef29d6d5170e03a3219d7cc5cdae7d42eb46528919dc2487ac88f6"


def test_a_view_is_never_taken_for_a_plain_store(masked_home):
    catalog = read_catalog(masked_home)
    assert [entry.description.view for entry in catalog.entries] == [None]
    assert len(catalog.views) == 1
    (plain,) = catalog.entries
    with pytest.raises(SpecError, match="is of no view, not of the view 'masked-tokens'"):
        ViewReader(plain.folder, "masked-tokens")
    with pytest.raises(StoreNotFoundError, match="no view 'masked-boxes' beside it"):
        find_view(masked_home, plain, "masked-boxes")


def test_features_of_a_view_are_not_derived(tmp_path):
    report = extract_masked(tmp_path, features=("tokens", "mean"))
    assert [(s.kind, getattr(s, "view", None) is None) for s in report.stores] == [
        ("tokens", True),
        ("mean", True),
        ("tokens", False),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mlm_variants": -1}, "mlm_variants must be from 0 to 1,000, found -1"),
        ({"mlm_variants": 10**9}, "mlm_variants must be from 0 to 1,000, found 1000000000"),
        ({"mask_share": 0.0}, "mask_share must be"),
        ({"mask_share": float("nan")}, "mask_share must be"),
        ({"mlm_variants": 0, "mask_share": 0.3}, "are of masked texts: name --mlm-variants"),
        ({"mlm_variants": 0, "views_only": True}, "views_only leaves nothing"),
        ({"features": ("mean",)}, "--mlm-variants keeps every token"),
        ({"encoders": ("toy-text",)}, "'toy-text' has no mask token"),
        ({"encoders": ("toy-image",)}, "--mlm-variants is of texts, which toy-image cannot read"),
        (
            {"encoders": ("toy-image",), "mlm_variants": 0, "mask_boxes": True, "data": "BOXLESS"},
            "has no boxes for --mask-boxes in",
        ),
    ],
)
def test_what_no_view_can_be_made_of_is_refused_in_a_line(tmp_path, changes, message):
    if changes.get("data") == "BOXLESS":
        for colour in ("red", "blue"):
            folder = tmp_path / "pictures" / "train" / colour
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), colour).save(folder / "a.png")
        place = f"image-folder={folder.parent.parent}"
        changes = {**changes, "data": place, "source": {}, "split": None}
    with pytest.raises(SpecError, match=message) as refused:
        extract_masked(tmp_path / "home", **changes)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "home" / "features").exists()


def write_texts(folder: Path, texts) -> str:
    folder.mkdir()
    Image.new("RGB", (8, 8), "red").save(folder / "a.png")
    lines = ["image,caption,split", *(f'a.png,"{text}",train' for text in texts)]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return f"image-text-table={folder}"


def test_of_a_truncated_text_only_what_the_encoder_reads_is_masked(tmp_path):
    data = write_texts(tmp_path / "data", ["dog " * 2000, "12"])
    report = extract_masked(tmp_path / "home", data=data, source={}, mask_share=1.0)
    reader = ViewReader(report.stores[1].folder, "masked-tokens")
    limit = int(reader.lengths.max())
    assert reader.lengths.tolist() == [limit] * 3 + [3] * 3
    masked = reader.gather([0]).companions["masked_ids"]
    assert (masked[1:-1] != -1).all()
    assert masked[[0, -1]].tolist() == [-1, -1]


def test_a_dry_run_says_the_size_of_a_view_and_keeps_nothing(tmp_path):
    fields = {"encoders": ("minilm",), "data": "shapes", "source": FEW, "split": "train"}
    spec = ExtractSpec(**fields, home=tmp_path / "a", mlm_variants=2, device="cpu", batch_size=8)
    estimated = estimate.run(spec)
    assert [(s.rows, s.missing) for s in estimated.stores] == [(20, 20), (40, 40)]
    assert not (tmp_path / "a").exists()
    report = extract_masked(tmp_path / "b", mlm_variants=2)
    assert report.stores[1].bytes == pytest.approx(estimated.stores[1].bytes, rel=0.05)


def test_the_cache_lists_verifies_explains_repairs_and_removes_a_view(masked_home, tmp_path):
    home = tmp_path / "h"
    shutil.copytree(masked_home, home)
    (entry,) = read_catalog(home).views
    listed = json.loads(lightalign("cache", "ls", "--json", home=home).stdout)["stores"]
    assert [row.get("view", {}).get("name") for row in listed] in (
        [None, "masked-tokens"],
        ["masked-tokens", None],
    )
    shown = json.loads(lightalign("data", "show", "shapes", "--json", home=home).stdout)
    assert [(view["view"]["name"], view["rows"]) for view in shown["views"]] == [
        ("masked-tokens", 60)
    ]
    explained = lightalign("cache", "explain", entry.key[:12], home=home)
    assert "no other store" in explained.stdout or "view" not in explained.stdout
    before = tree_bytes(entry.folder)
    (broken,) = [path for path in entry.folder.glob("shard-00001*") if path.is_dir()]
    shutil.rmtree(broken)
    assert lightalign("cache", "verify", home=home).returncode == 1
    assert lightalign("cache", "repair", entry.key[:12], home=home).returncode == 0
    assert tree_bytes(entry.folder) == before
    exported = tmp_path / "view.safetensors"
    command = ("cache", "export", entry.key[:12], str(exported), "--format", "safetensors")
    assert lightalign(*command, home=home).returncode == 0
    from safetensors.numpy import load_file

    assert {"masked_ids", "item", "variant"} <= load_file(exported).keys()
    assert lightalign("cache", "rm", entry.key[:12], home=home).returncode == 0
    assert not read_catalog(home).views
    assert len(read_catalog(home).entries) == 1
    assert lightalign("cache", "verify", home=home).returncode == 0


def test_a_view_is_repaired_without_its_plain_store(masked_home, tmp_path):
    home = tmp_path / "h"
    shutil.copytree(masked_home, home)
    catalog = read_catalog(home)
    (plain,), (view,) = catalog.entries, catalog.views
    before = tree_bytes(view.folder)
    shutil.rmtree(plain.folder)
    FeatureStore.open(view.folder).drop_shards([0])
    assert lightalign("cache", "repair", view.key[:12], home=home).returncode == 0
    assert tree_bytes(view.folder) == before
    assert not plain.folder.exists()


def test_an_interrupted_view_goes_on_with_the_same_bytes(tmp_path):
    """Killed at each of several moments while it writes; see also `scenarios/test_killed`."""
    command = [
        *(sys.executable, "-m", "lightalign", "extract", "--quiet", "--device", "cpu"),
        *("--encoder", "minilm", "--data", "shapes", "--split", "test", "--mlm-variants", "3"),
        *("--set", "source.test=20", "--set", "rows_per_shard=20", "--batch-size", "4"),
    ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*command, "--home", str(whole)], check=True, cwd="/")
    running = subprocess.Popen([*command, "--home", str(cut)], stdout=subprocess.DEVNULL, cwd="/")
    while running.poll() is None and not list(cut.glob("features/*/*/*/shard-00002.json")):
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    subprocess.run([*command, "--home", str(cut)], check=True, cwd="/")
    assert tree_bytes(cut) == tree_bytes(whole)


def test_every_pixel_that_a_box_touches_is_black_and_no_other():
    """The box of 0.5, 0, 2, 1 touches the pixels 0 and 1 of the first line."""
    white = Image.new("RGB", (3, 2), "white")
    changed = np.asarray(black_out(white, np.array([0.5, 0, 2, 1])))[:, :, 0]
    assert changed.tolist() == [[0, 0, 255], [255, 255, 255]]
    assert np.asarray(white).min() == 255
    outside = black_out(white, np.array([5.0, 5, 9, 9]))
    assert np.asarray(outside).min() == 255


def test_a_row_of_each_box_is_the_encoders_of_the_picture_without_it(tmp_path, monkeypatch):
    """Boxes of four images: two, none, one that fills the picture, one outside of it."""
    boxes = [(0, 0, 16, 16), (16, 16, 32, 32), (0, 0, 32, 32), (40, 40, 50, 50)]
    regions = Regions.of([(32, 32)] * 4, [boxes[:2], [], boxes[2:3], boxes[3:]])
    monkeypatch.setattr(masked_boxes, "regions_of", lambda source, split: regions)
    fields = {"source": FEW, "split": "train", "dtype": "float32"}
    report = extract_toy(tmp_path, "toy-image", mask_boxes=True, **fields)
    assert [(s.rows, s.encoded) for s in report.stores] == [(4, 4), (4, 4)]
    view = ViewReader(report.stores[1].folder, "masked-boxes")
    assert view.item_of_row.tolist() == [0, 0, 2, 3]
    assert view.variant_of_row.tolist() == [0, 1, 0, 0]
    assert view.companion("box", range(4)).tolist() == [0, 1, 2, 3]
    encoder = open_encoder("toy-image")
    items = open_source("shapes", home=tmp_path, options=FEW).items("train", Modality.IMAGE)
    for row, place in enumerate([0, 0, 2, 3]):
        picture = black_out(read_item(items[place], Modality.IMAGE), regions.boxes[row])
        alone = encoder.encode([encoder.preprocess(picture, item_id="a")]).values[0].numpy()
        np.testing.assert_array_equal(view.gather([row]).values, alone)
    assert not view.gather([2]).values.any()  # a black picture has no colour


def test_boxes_of_another_copy_of_a_picture_are_skipped_and_listed(tmp_path, monkeypatch):
    regions = Regions.of([(64, 64)] + [(32, 32)] * 3, [[(0, 0, 9, 9)]] * 4)
    monkeypatch.setattr(masked_boxes, "regions_of", lambda source, split: regions)
    fields = {"source": FEW, "split": "train", "on_error": "max=1"}
    report = extract_toy(tmp_path, "toy-image", mask_boxes=True, **fields)
    assert report.stores[1].rows == 3
    (skipped,) = report.stores[1].skipped
    assert skipped.reason.endswith(
        "~0: the picture is 32 x 32 pixels, its boxes are of one of 64 x 64"
    )
