"""What a preview counts of a dataset, as an extraction will read it."""

import pytest

from lightalign.featcache.sources.opening import define, open_defined, open_version
from lightalign.featcache.sources.tables import parquet
from lightalign.pipelines.inputs.datasets import RegionCounts, preview

from ...featcache.sources.region_helpers import official_coco, official_entities
from ...featcache.sources.sources_helpers import write_images
from ...featcache.sources.tables.test_parquet import rows_of, write


@pytest.fixture
def version(tmp_path):
    """Return a table of four pictures: bytes, a file, no file, and neither bytes nor a path."""
    write_images(tmp_path, ["1.png"])
    rows = rows_of(range(4), split="train")
    for row in rows[1:]:
        row["image"]["bytes"] = None
    rows[3]["image"]["path"] = None
    write(tmp_path / "table.parquet", rows)
    return define(f"mine={tmp_path / 'table.parquet'}", home=tmp_path / "home")


def test_rows_of_parquet_without_bytes_and_without_a_file_are_counted_as_unreadable(
    version, tmp_path
):
    source = open_version(version, home=tmp_path / "home")
    found = preview(version, source)
    assert [(one.images, one.unreadable) for one in found.counts] == [(4, 2)]
    reasons = [line.partition("its row has ")[2] for line in found.unreadable]
    missing = f"no bytes, and no file that can be read at {tmp_path / '2.png'}"
    assert reasons == [missing, "neither bytes nor a path to read"]


def test_a_table_too_large_to_look_through_is_noted(version, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_MOST_LOOKED_THROUGH", 1)
    found = preview(version, open_version(version, home=tmp_path / "home"))
    assert found.counts[0].unreadable == 0
    assert found.notes[-1].startswith("rows without a picture are not counted")


def test_boxes_are_counted_with_their_classes_and_mentions(tmp_path):
    official_entities(tmp_path)
    shown = preview(*open_defined(f"flickr30k-entities={tmp_path}", home=tmp_path / "home"))
    assert shown.regions[0] == RegionCounts(
        split="train",
        boxes=12,
        images=4,
        classes=2,
        most_frequent="people",
        share=2 / 3,
        mentions=24,  # girls and children two boxes, both pets one, in four images
        texts=8,
    )
    assert [count.boxes for count in shown.regions] == [12, 3, 3]
    boxes = "people 0 0 30 80 | people 30 10 60 70 | animals 40 40 100 80"
    assert shown.rows[0]["boxes"] == boxes
    assert shown.answers == []


def test_images_without_boxes_are_no_images_with_boxes(tmp_path):
    official_coco(tmp_path)
    shown = preview(*open_defined(f"coco-instances={tmp_path}", home=tmp_path / "home"))
    counts = shown.regions[0]
    assert (counts.boxes, counts.images, counts.mentions, counts.texts) == (4, 2, 0, 0)
    assert shown.rows[2]["boxes"] == ""


@pytest.mark.parametrize("texts", ["captions", "phrases", "questions"])
def test_drawn_texts_are_counted_by_what_they_have(texts, tmp_path):
    options = {"train": 5, "val": 2, "test": 2, "size": 32, "texts": texts}
    shown = preview(*open_defined("shapes", home=tmp_path, options=options))
    assert [count.split for count in shown.regions] == (
        [] if texts == "captions" else ["train", "val", "test"]
    )
    assert [count.questions for count in shown.answers] == (
        [30, 12, 12] if texts == "questions" else []
    )
    assert ("question" in shown.rows[0]) == (texts == "questions")
