"""Broken caption files are refused with the file and the line; good ones come back unchanged."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightalign.featcache.errors import DatasetFormatError
from lightalign.featcache.sources.tables.text_files import (
    read_caption_json_lines,
    read_kaggle_csv,
    read_karpathy_json,
)

from ..sources_helpers import kaggle_8k, official_8k, opened, write_csv, write_images


def test_two_images_of_one_name_are_refused(tmp_path):
    write_images(tmp_path, ["a/1.jpg", "b/1.jpg"])
    rows = [{"split": "train", "image": f"{one}/1.jpg", "captions": ["c"]} for one in "ab"]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DatasetFormatError, match=r"captions\.jsonl, line 2: a second image is"):
        opened("flickr8k", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("captions.txt", b"", "captions.txt: is empty, expected a header"),
        ("captions.txt", b"image,caption\n", "captions.txt: holds no captions"),
        ("captions.txt", b"file;text\na;b\n", r"captions.txt, line 1: expected the header image"),
        ("captions.txt", b"image,caption\na,b\na,b,c\n", "line 3: 3 cells where the header has 2"),
        ("captions.txt", b'image,caption\na,"open, b\nb,c\n', r"captions.txt, line 2: broken quot"),
        ("captions.txt", b"image,caption\na,\xff\n", "captions.txt, line 2: is not UTF-8"),
        ("captions.txt", b"image,caption\n,alone\n", "captions.txt, line 2: names no image"),
        ("Flickr8k.token.txt", b"a.jpg#0 no tab\n", "token.txt, line 1: expected name.jpg#number"),
        ("Flickr8k.token.txt", b"a.jpg\tno number\n", "token.txt, line 1: expected name.jpg#numb"),
        ("Flickr8k.token.txt", b"\n\n", "Flickr8k.token.txt: holds no captions"),
        ("captions.jsonl", b"\n{broken\n", "captions.jsonl, line 2: is not JSON"),
        ("captions.jsonl", b"[1]\n", "captions.jsonl, line 1: is not a JSON object"),
        ("captions.jsonl", b'{"image": "a"}\n', "line 1: expected the keys split, image"),
        ("captions.jsonl", b'{"image": "a", "split": "x", "captions": [1]}', "must be text or a l"),
        ("captions.jsonl", b'{"image": "a", "split": " ", "captions": []}', "gives no split for"),
        ("dataset_flickr8k.json", b"{", "dataset_flickr8k.json, line 1: is not JSON"),
        ("dataset_flickr8k.json", b"[]", "dataset_flickr8k.json: expected {.images."),
        ("dataset_flickr8k.json", b'{"images": [{}]}', "image 0: expected {.images."),
    ],
)
def test_broken_files_are_refused_with_their_place(file, content, problem, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DatasetFormatError, match=problem) as caught:
        opened("flickr8k", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "results.csv: expected the header image_name"),
        ("image,caption\na,b\n", "results.csv, line 1: expected the header image_name"),
        ("image_name| comment_number| comment\na.jpg| 1| fine\na.jpg| one\n", "line 3: expected"),
    ],
)
def test_broken_flickr30k_tables_are_refused_with_their_place(content, problem, tmp_path):
    (tmp_path / "results.csv").write_text(content)
    with pytest.raises(DatasetFormatError, match=problem):
        opened("flickr30k", tmp_path)


def test_an_image_in_two_split_lists_is_refused(tmp_path):
    official_8k(tmp_path)
    with (tmp_path / "Flickr_8k.testImages.txt").open("a") as stream:
        stream.write("00.jpg\n")
    with pytest.raises(DatasetFormatError, match=r"testImages.txt, line 11: '00.jpg' is in split"):
        opened("flickr8k", tmp_path)


def test_split_lists_of_another_dataset_are_refused(tmp_path):
    kaggle_8k(tmp_path)
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("elsewhere.jpg\n")
    with pytest.raises(DatasetFormatError, match="has no image in common with the official split"):
        opened("flickr8k", tmp_path)


caption = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1
).filter(str.strip)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a.jpg", "b, c.jpg", 'd".jpg']), caption), min_size=1))
def test_any_caption_survives_a_csv_file(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("csv") / "captions.txt"
    write_csv(file, ["image", "caption"], rows)
    assert [(row.image, *row.captions) for row in read_kaggle_csv(file)] == rows


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[" * 100_000, "is nested too deeply"),
        ('{"image": ' * 100_000, "is nested too deeply"),
        ('{"image": ' + "9" * 5000 + "}", "is not JSON: Exceeds the limit"),
        ('{"image": ["' + "x" * 10**6 + '"], "split": 1, "captions": 2}', "expected the keys"),
        ('{"image": "a.jpg", "split": "train", "captions": {"a": "' + "x" * 10**6 + '"}}', "text"),
    ],
)
def test_a_hostile_line_of_json_is_one_short_line(tmp_path, line, problem):
    (tmp_path / "captions.jsonl").write_text(line)
    with pytest.raises(DatasetFormatError, match=problem) as refused:
        list(read_caption_json_lines(tmp_path / "captions.jsonl"))
    assert len(str(refused.value)) < 1000
    assert "\n" not in str(refused.value)


def test_karpathys_file_nested_too_deeply_is_one_line(tmp_path):
    (tmp_path / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(DatasetFormatError, match="is nested too deeply"):
        list(read_karpathy_json(tmp_path / "dataset.json"))


def test_a_long_caption_and_one_that_begins_with_a_quote_are_read(tmp_path):
    """The module csv reads 131,072 letters of a cell, and all lines behind the lone quote."""
    lines = ["image,caption", 'b.jpg,"so to say', "a.jpg," + "x" * 200_000, "c.jpg,c"]
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    captions = [row.captions for row in read_kaggle_csv(tmp_path / "captions.txt")]
    assert captions == [('"so to say',), ("x" * 200_000,), ("c",)]
