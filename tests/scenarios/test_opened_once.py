"""A dataset is opened, and each of its splits hashed, once a command."""

from collections import Counter

import pytest

from lightalign.featcache.sources.datasets.image_text_table import ImageTextTableSource
from lightalign.featcache.sources.datasets.shapes import ShapesSource
from lightalign.pipelines.cache import repair
from lightalign.pipelines.extraction import loaded_encoder
from lightalign.pipelines.inputs.datasets import add

from ..helpers import lightalign
from ..pipelines.conftest import extract_toy


@pytest.fixture
def counted(monkeypatch):
    """Return how often tables are opened, and each split of them or of `shapes` is hashed."""
    calls = Counter()
    opens = ImageTextTableSource.__init__

    def open_counted(self, *place, **options):
        calls["opened"] += 1
        opens(self, *place, **options)

    monkeypatch.setattr(ImageTextTableSource, "__init__", open_counted)
    for family in (ImageTextTableSource, ShapesSource):

        def hash_counted(self, split, hashes=family.fingerprint):
            calls[split] += 1
            return hashes(self, split)

        monkeypatch.setattr(family, "fingerprint", hash_counted)
    return calls


@pytest.fixture
def table(tmp_path):
    (tmp_path / "0.jpg").write_bytes(b"x")
    (tmp_path / "1.jpg").write_bytes(b"xy")
    (tmp_path / "x.csv").write_text("image,caption,split\n0.jpg,a dog,train\n1.jpg,a cat,test\n")
    return tmp_path / "x.csv"


@pytest.mark.parametrize("kind", [None, "image-text-table"])
def test_a_name_is_given_to_what_was_opened_to_find_out_what_it_is(kind, table, tmp_path, counted):
    add(tmp_path / "home", "mine", table, kind=kind)
    assert counted == {"opened": 1, "train": 1, "test": 1}
    add(tmp_path / "home", "mine", table, kind=kind)
    assert counted == {"opened": 2, "train": 2, "test": 2}


def test_a_preview_opens_once(table, tmp_path, counted):
    ended = lightalign("data", "preview", f"mine={table}", home=tmp_path / "home")
    assert ended.returncode == 0, ended.stderr
    assert counted == {"opened": 1, "train": 1, "test": 1}


def test_an_extraction_hashes_each_split_once(tmp_path, counted):
    extract_toy(tmp_path, "toy-image", source={"train": 2, "val": 1, "test": 1, "size": 32})
    assert counted == {"train": 1, "val": 1, "test": 1}


def test_the_family_of_a_preview_can_be_chosen(table, tmp_path):
    words = ("data", "preview", f"mine={tmp_path}", "--kind", "images", "--json")
    ended = lightalign(*words, home=tmp_path / "home")
    assert '"kind": "images"' in ended.stdout


def test_a_repair_opens_the_dataset_and_loads_the_encoder_once(
    table, tmp_path, counted, monkeypatch
):
    home = tmp_path / "home"
    data = f"image-text-table={table}"
    (report,) = extract_toy(home, "toy-text", data=data, source={}, split="train").stores
    shard = next(report.folder.glob("shard-*/values/c/0/0"))
    (content,) = [path for path in (shard, *shard.rglob("*")) if path.is_file()]
    before = content.read_bytes()
    content.write_bytes(b"\0" + before[1:-1] + b"\0")
    loads, load = Counter(), loaded_encoder.load_encoder

    def load_counted(card, *places, **options):
        loads[card.name] += 1
        return load(card, *places, **options)

    monkeypatch.setattr(loaded_encoder, "load_encoder", load_counted)
    counted.clear()
    repaired = repair.repair(home, str(report.folder), data=data, device="cpu")
    assert repaired.left == ()
    assert content.read_bytes() == before
    assert counted == {"opened": 1, "train": 1}
    assert loads == {"toy-text": 1}
