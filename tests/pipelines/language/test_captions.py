"""Captions of images: those of a table, and those that a model writes."""

import json

import pytest
import torch
from PIL import Image

from lightalign.featcache.errors import DatasetFormatError, SpecError, WeightsMismatchError
from lightalign.featcache.types import Item
from lightalign.pipelines.language.caption_model import CaptionModel
from lightalign.pipelines.language.captions import captions_of, read_captions
from lightalign.pipelines.language.kept_replies import KeptReplies

from .tiny_models import write_caption_model, write_language_model

ROWS = [{"image": "a.png", "caption": "a bus"}, {"image": "b.png", "caption": " two, dogs "}]


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.jsonl", "\n".join(map(json.dumps, ROWS)) + "\n"),
        ("c.json", json.dumps(ROWS)),
        ("c.csv", 'image,caption\na.png,a bus\nb.png,"two, dogs"\n'),
        ("c.tsv", "image\tcaption\na.png\ta bus\nb.png\ttwo, dogs\n"),
    ],
)
def test_captions_are_read_of_every_kind_of_table(tmp_path, name, text):
    assert read_captions(write(tmp_path, name, text)) == {"a.png": "a bus", "b.png": "two, dogs"}


def test_the_first_caption_of_an_image_counts_and_an_empty_one_is_none(tmp_path):
    rows = [("a", ""), ("a", "first"), ("a", "second"), ("b", " ")]
    text = "".join(json.dumps({"image": i, "caption": c}) + "\n" for i, c in rows)
    assert read_captions(write(tmp_path, "c.jsonl", text)) == {"a": "first"}


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("c.csv", "picture,words\na,b\n", SpecError, "needs the columns image and caption"),
        ("c.csv", "image,caption\na,\n", DatasetFormatError, "no row has"),
        ("c.txt", "a bus", SpecError, "needs the columns image and caption"),
        ("c.png", "a bus", DatasetFormatError, "is no table"),
        ("c.json", "{", DatasetFormatError, "c.json"),
    ],
)
def test_a_table_without_captions_is_one_line(tmp_path, name, text, error, message):
    with pytest.raises(error, match=message) as caught:
        read_captions(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SpecError, match="there is no such file"):
        read_captions(tmp_path / "none.csv")


def test_captions_of_other_images_are_refused_with_an_example_of_both(tmp_path):
    assert captions_of(["a", "b"], {"a": "x"}, tmp_path) == ["x", None]
    with pytest.raises(SpecError, match="it names 'z', and the dataset 'a'"):
        captions_of(["a", "b"], {"z": "x"}, tmp_path)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    folder = write_caption_model(tmp_path_factory.mktemp("caption-model"))
    return CaptionModel(str(folder), device=torch.device("cpu"))


def test_a_model_writes_a_caption_of_a_picture_of_any_shape(captioner):
    for size in ((40, 30), (1, 1), (3, 500)):
        assert captioner.caption(Image.new("RGB", size, (200, 0, 0))) == "Answer: red"


def test_each_image_is_captioned_once_and_one_that_cannot_be_read_has_none(
    captioner, tmp_path, monkeypatch
):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    items = [Item(id=name, path=tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    place = tmp_path / "kept.jsonl"
    with KeptReplies(place) as kept:
        first = captioner.captions(items, 3, source="s", kept=kept)
    assert first == {"a.png": "Answer: red"}
    monkeypatch.setattr(CaptionModel, "caption", None)
    with KeptReplies(place) as kept:
        assert captioner.captions(items[:1], 1, source="s", kept=kept) == first


def test_a_model_that_reads_no_images_is_refused_in_one_line(tmp_path):
    folder = write_language_model(tmp_path)
    with pytest.raises(WeightsMismatchError, match="--caption-model: cannot read") as caught:
        CaptionModel(str(folder), device=torch.device("cpu"))
    assert "\n" not in str(caught.value)
