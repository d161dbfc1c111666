"""Every dataset of captioned images in each of its layouts: what all share, then each alone."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from lightalign.featcache.errors import DatasetNotFoundError, UnreadableItemError
from lightalign.featcache.types import IMAGE_TEXT, Modality

from .. import sources_helpers
from ..sources_helpers import (
    CAPTIONS,
    LAYOUTS,
    NAMES,
    SPLITS,
    csv_table,
    ids,
    json_lines_8k,
    kaggle_8k,
    kaggle_30k,
    karpathy_8k,
    official_8k,
    official_30k,
    opened,
    texts_of,
    write_images,
    write_karpathy,
    written,
)

CASES = [
    pytest.param(name, write, id=f"{name}-{write.__name__}")
    for name, writers in LAYOUTS.items()
    for write in writers
]
FILE_CASES = [case for case in CASES if case.values[0] != "shapes"]
OFFICIAL_SPLITS = [
    case
    for case in FILE_CASES
    if case.values[1] not in (kaggle_8k, kaggle_30k, official_30k, csv_table)
]


@pytest.mark.parametrize(("name", "write"), CASES)
def test_pairs_link_every_text_to_an_image_of_the_split(name, write, tmp_path):
    source = written(name, write, tmp_path)
    assert source.splits() == ("train", "val", "test")
    for split in source.splits():
        images, texts = (ids(source, split, modality) for modality in IMAGE_TEXT)
        links = [*source.pairs(split).id_pairs(IMAGE_TEXT)]
        assert images
        assert {image for image, _ in links} == set(images)
        assert [text for _, text in links] == texts
        assert len(links) == 5 * len(images)


@pytest.mark.parametrize(("name", "write"), CASES)
def test_splits_are_disjoint_and_items_hold_what_their_modality_needs(name, write, tmp_path):
    source = written(name, write, tmp_path)
    everything = [one for split in source.splits() for one in ids(source, split, Modality.IMAGE)]
    assert len(set(everything)) == len(everything)
    assert all(item.text for item in source.items("train", Modality.TEXT))
    assert all(item.read_bytes() for item in source.items("train", Modality.IMAGE))


@pytest.mark.parametrize(("name", "write"), FILE_CASES)
def test_one_changed_caption_changes_the_fingerprint_of_its_split_alone(
    name, write, tmp_path, monkeypatch
):
    before = written(name, write, tmp_path / "before")
    changed = {**CAPTIONS, "00.jpg": ["changed", *CAPTIONS["00.jpg"][1:]]}
    monkeypatch.setattr(sources_helpers, "CAPTIONS", changed)
    after = written(name, write, tmp_path / "after")
    assert [
        split for split in before.splits() if before.fingerprint(split) != after.fingerprint(split)
    ] == [split for split in after.splits() if "changed" in texts_of(after, split)]


@pytest.mark.parametrize(("name", "write"), FILE_CASES)
def test_one_image_of_another_size_changes_the_fingerprint(name, write, tmp_path):
    source = written(name, write, tmp_path)
    before = source.fingerprint("test")
    source.items("test", Modality.IMAGE)[0].path.write_bytes(b"another picture")
    assert opened(name, tmp_path).fingerprint("test") != before


@pytest.mark.parametrize(("name", "write"), OFFICIAL_SPLITS)
def test_published_splits_and_captions_are_read_in_file_order(name, write, tmp_path):
    source = written(name, write, tmp_path)
    for split in source.splits():
        names = [name for name in NAMES if SPLITS[name] == split]
        images = source.items(split, Modality.IMAGE)
        assert [item.path.name for item in images] == names
        assert texts_of(source, split) == [text for name in names for text in CAPTIONS[name]]
    assert not any("SHA-256" in note for note in source.notes())


@pytest.mark.parametrize("write", [kaggle_8k, official_8k, json_lines_8k, karpathy_8k])
def test_ids_do_not_depend_on_the_layout(write, tmp_path):
    source = written("flickr8k", write, tmp_path)
    assert "00.jpg#4" in [
        one for split in source.splits() for one in ids(source, split, Modality.TEXT)
    ]


@pytest.mark.parametrize(
    ("name", "write", "file"),
    [
        ("flickr8k", kaggle_8k, "Flickr_8k.trainImages.txt"),
        ("flickr8k", kaggle_8k, "dataset_flickr8k.json"),
        ("flickr30k", kaggle_30k, "dataset_flickr30k.json"),
        ("image-text-table", csv_table, "add a column 'split'"),
    ],
)
def test_without_published_splits_a_note_says_what_was_done_instead(name, write, file, tmp_path):
    (note,) = [note for note in written(name, write, tmp_path).notes() if "SHA-256" in note]
    assert file in note
    assert "3 test and 3 val images" in note
    assert "\n" not in note


def test_hashed_splits_are_the_first_tenths_by_sha_256_of_the_name(tmp_path):
    """The order is that of `printf %s NAME | sha256sum`, sorted, for 00.jpg to 29.jpg."""
    source = written("flickr8k", kaggle_8k, tmp_path)
    assert {split: ids(source, split, Modality.IMAGE) for split in ("test", "val")} == {
        "test": ["05.jpg", "19.jpg", "26.jpg"],
        "val": ["00.jpg", "03.jpg", "08.jpg"],
    }
    assert len(ids(source, "train", Modality.IMAGE)) == 24


def test_dev_and_restval_go_by_our_names(tmp_path):
    write_images(tmp_path / "images")
    names = ["restval", "validation", "testing", "train"]
    write_karpathy(tmp_path / "dataset_flickr30k.json", dict(zip(NAMES, names, strict=False)))
    source = opened("flickr30k", tmp_path)
    found = {split: ids(source, split, Modality.IMAGE) for split in source.splits()}
    assert found == {"train": ["00.jpg", "03.jpg"], "val": ["01.jpg"], "test": ["02.jpg"]}


def test_images_in_no_published_split_are_left_out_with_a_note(tmp_path):
    official_8k(tmp_path)
    lists = tmp_path / "Flickr_8k.trainImages.txt"
    lists.write_text(lists.read_text().replace("00.jpg\n", ""))
    source = opened("flickr8k", tmp_path)
    assert "00.jpg" not in ids(source, "train", Modality.IMAGE)
    assert source.notes() == (
        "1 image of Flickr8k.token.txt left out: no split in the official split lists",
    )


def test_a_split_list_may_name_an_image_without_captions(tmp_path):
    official_8k(tmp_path)
    with (tmp_path / "Flickr_8k.testImages.txt").open("a") as stream:
        stream.write("bare.jpg\n")
    source = opened("flickr8k", tmp_path)
    assert source.pairs("test").ids_of(Modality.IMAGE)[-1] == "bare.jpg"
    assert "bare.jpg" not in {image for image, _ in source.pairs("test").id_pairs(IMAGE_TEXT)}
    assert source.notes() == ("1 image without any caption kept, in no pair",)


def test_the_captioned_jpg_1_that_is_no_file_is_left_out(tmp_path):
    official_8k(tmp_path)
    for split_list in tmp_path.glob("Flickr_8k.*"):
        split_list.unlink()
    with (tmp_path / "Flickr8k.token.txt").open("a") as stream:
        stream.write("2258277193_586949ec62.jpg.1#0\tpeople waiting .\n")
    source = opened("flickr8k", tmp_path)
    assert not any(
        "586949" in one
        for name in source.splits()
        for one in source.pairs(name).ids_of(Modality.IMAGE)
    )
    assert any(note.startswith("1 image named like name.jpg.1 left out") for note in source.notes())


def test_the_published_row_without_its_second_bar_is_read(tmp_path):
    write_images(tmp_path / "images", ["2199200615.jpg"])
    (tmp_path / "results.csv").write_text(
        "image_name| comment_number| comment\n"
        "2199200615.jpg| 3| A dog | runs .\n"
        "2199200615.jpg| 4   A dog runs across the grass .\n"
    )
    texts = texts_of(opened("flickr30k", tmp_path), "train")
    assert texts == ["A dog | runs .", "A dog runs across the grass ."]


def test_a_missing_image_stays_an_item_that_cannot_be_read(tmp_path):
    kaggle_8k(tmp_path)
    (tmp_path / "Images" / "00.jpg").unlink()
    source = opened("flickr8k", tmp_path)
    (item,) = [
        item
        for split in source.splits()
        for item in source.items(split, Modality.IMAGE)
        if item.id == "00.jpg"
    ]
    with pytest.raises(UnreadableItemError, match=r"00\.jpg: cannot read .*No such file"):
        item.read_bytes()


@pytest.mark.parametrize(("name", "write"), FILE_CASES)
def test_a_dataset_without_any_of_its_images_is_not_found(name, write, tmp_path):
    written(name, write, tmp_path)
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"30 images.*such as .*00\.jpg"):
        opened(name, tmp_path)


@pytest.mark.skipif(
    not Path(os.environ.get("LIGHTALIGN_TEST_DATA", "nowhere"), "flickr8k").is_dir(),
    reason="set LIGHTALIGN_TEST_DATA to a folder that holds flickr8k",
)
def test_real_flickr8k_is_read_whole():
    source = opened("flickr8k", Path(os.environ["LIGHTALIGN_TEST_DATA"], "flickr8k"))
    counts = {
        split: tuple(len(source.items(split, modality)) for modality in IMAGE_TEXT)
        for split in source.splits()
    }
    assert counts == {"train": (3000, 15000), "val": (1000, 5000)}
    assert all(item.path.is_file() for item in source.items("val", Modality.IMAGE))
    assert source.items("train", Modality.TEXT)[0].id == "1001773457_577c3a7d70.jpg#0"


def test_the_fingerprint_hashes_the_json_of_what_it_covers(tmp_path):
    """So that a store of an earlier version is found again."""
    source = written("flickr8k", kaggle_8k, tmp_path)
    split = source.splits()[0]
    digest = hashlib.sha256()
    for item in source.items(split, Modality.IMAGE):
        digest.update(json.dumps([item.id, item.path.stat().st_size]).encode())
    for item in source.items(split, Modality.TEXT):
        digest.update(json.dumps([item.id, item.text]).encode())
    digest.update(json.dumps([*source.pairs(split).id_pairs(IMAGE_TEXT)]).encode())
    assert source.fingerprint(split) == digest.hexdigest()
