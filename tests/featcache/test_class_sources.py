"""Every dataset of classes in each of its layouts: what all share, then each alone."""

import pytest

from lightalign.featcache.errors import (
    DatasetFormatError,
    DatasetNotFoundError,
)
from lightalign.featcache.types import Modality

from .class_helpers import (
    CLASS_LAYOUTS,
    CLASSES,
    folder_of_train_alone,
    folders_with_splits,
    folders_without_splits,
    listed_in_an_index,
    write_class_folders,
    write_image,
)
from .sources_helpers import ids, opened, write_csv, written

CASES = [
    pytest.param(name, write, id=f"{name}-{write.__name__}")
    for name, writers in CLASS_LAYOUTS.items()
    for write in writers
]


@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_image_has_a_class_and_there_are_no_texts(name, write, tmp_path):
    source = written(name, write, tmp_path)
    everything = []
    for split in source.splits():
        images, pairs = ids(source, split, Modality.IMAGE), source.pairs(split)
        assert images
        assert (pairs.text_ids, pairs.links) == ((), ())
        assert list(source.items(split, Modality.TEXT)) == []
        assert list(pairs.classes.of_image) == images
        assert set(pairs.classes.of_image.values()) <= set(range(len(pairs.classes.names)))
        everything += images
        assert all(item.read_bytes() for item in source.items(split, Modality.IMAGE))
    assert len(set(everything)) == len(everything)


def classes_by_id(source):
    return {
        image: pairs.classes.names[index]
        for pairs in map(source.pairs, source.splits())
        for image, index in pairs.classes.of_image.items()
    }


def test_folders_of_splits_are_read_as_they_are(tmp_path):
    source = written("image-folder", folders_with_splits, tmp_path)
    counts = {split: len(ids(source, split, Modality.IMAGE)) for split in source.splits()}
    assert counts == {"train": 15, "val": 12, "test": 9}
    assert classes_by_id(source)["validation/red fox/03.png"] == "red fox"
    assert source.notes() == ()


@pytest.mark.parametrize(
    ("write", "prefix"),
    [
        (folders_without_splits, ""),
        (folder_of_train_alone, "train/"),
        (listed_in_an_index, "pictures/"),
    ],
)
def test_splits_that_are_not_there_are_made_class_by_class_by_the_hash(write, prefix, tmp_path):
    """The order is that of `printf %s ID | sha256sum`; 10 images a class: 2 test, 1 val."""
    source = written("image-folder", write, tmp_path)
    for name in CLASSES:
        own = {
            split: [one for one in ids(source, split, Modality.IMAGE) if f"/{name}/" in f"/{one}"]
            for split in source.splits()
        }
        assert {split: len(found) for split, found in own.items()} == {
            "train": 7,
            "val": 1,
            "test": 2,
        }
    (note,) = source.notes()
    assert "6 test and 3 val images, a fifth and a tenth of each class" in note
    if not prefix:
        cats = [one for one in ids(source, "test", Modality.IMAGE) if "cat" in one]
        assert cats == ["cat/06.png", "cat/09.png"]
        assert "cat/01.png" in ids(source, "val", Modality.IMAGE)


def test_classes_are_in_the_order_of_their_labels_else_of_their_names(tmp_path):
    write_class_folders(tmp_path)
    assert opened("image-folder", tmp_path).pairs("train").classes.names == CLASSES
    rows = [(f"{name}/00.png", name, 2 - label) for label, name in enumerate(CLASSES)]
    write_csv(tmp_path / "index.csv", ["image", "class", "label"], rows)
    assert opened("image-folder", tmp_path).pairs("train").classes.names == CLASSES[::-1]


def test_an_index_may_give_the_splits(tmp_path):
    write_class_folders(tmp_path, count=2)
    rows = [(f"{name}/0{n}.png", name, ("train", "dev")[n]) for name in CLASSES for n in (0, 1)]
    write_csv(tmp_path / "index.csv", ["image", "class", "split"], rows)
    source = opened("image-folder", tmp_path)
    assert ids(source, "val", Modality.IMAGE) == ["cat/01.png", "dog/01.png", "red fox/01.png"]
    assert source.notes() == ()


def test_a_class_called_train_is_no_split(tmp_path):
    write_class_folders(tmp_path, classes=("bus", "train"))
    source = opened("image-folder", tmp_path)
    assert source.pairs("test").classes.names == ("bus", "train")


def test_other_files_and_empty_folders_are_no_images(tmp_path):
    write_class_folders(tmp_path, classes=("bus", "train"))
    (tmp_path / "bus" / "notes.txt").write_text("x")
    (tmp_path / "bus" / ".hidden.png").write_bytes(b"x")
    write_image(tmp_path / "bus" / ".ipynb_checkpoints" / "00-checkpoint.png", 8)
    (tmp_path / "nothing").mkdir()
    write_image(tmp_path / "bus" / "deeper" / "one.PNG", 7)
    source = opened("image-folder", tmp_path)
    found = classes_by_id(source)
    assert len(found) == 21
    assert found["bus/deeper/one.PNG"] == "bus"
    assert source.notes()[0] == "1 folder without any image left out, such as 'nothing'"


@pytest.mark.parametrize(
    ("header", "row", "problem"),
    [
        (["image", "kind"], ("cat/00.png", "cat"), "has no column 'class'"),
        (["image", "class", "label"], ("cat/00.png", "cat", "x"), "label 'x' is no number"),
        (["image", "class", "label"], ("dog/00.png", "cat", "4"), "'cat' has label 4, but had 0"),
        (["image", "class"], ("cat/01.png", ""), "column 'class' is empty"),
        (["image", "class"], ("cat/00.png", "dog"), "'cat/00.png' is of class 'dog', but was"),
    ],
)
def test_a_broken_index_is_refused_with_its_line(header, row, problem, tmp_path):
    write_class_folders(tmp_path)
    rows = [("cat/00.png", "cat", "0")[: len(header)], row]
    write_csv(tmp_path / "index.csv", header, rows)
    with pytest.raises(DatasetFormatError, match=problem) as caught:
        opened("image-folder", tmp_path)
    assert "index.csv" in str(caught.value)


def test_an_image_in_two_splits_of_an_index_is_refused_with_its_line(tmp_path):
    """That it is listed twice in one split, even by another of its names, changes nothing."""
    write_class_folders(tmp_path)
    rows = [("cat/00.png", "cat", "val"), ("dog/00.png", "dog", "train")]
    write_csv(tmp_path / "index.csv", ["image", "class", "split"], [*rows, (*rows[0][:2], "dev")])
    assert opened("image-folder", tmp_path).splits() == ("train", "val")
    write_csv(tmp_path / "index.csv", ["image", "class", "split"], [*rows, (*rows[0][:2], "test")])
    problem = r"line 4: 'cat/00\.png' is of split 'test', but was of 'val'"
    with pytest.raises(DatasetFormatError, match=problem):
        opened("image-folder", tmp_path)


def test_an_index_of_images_that_are_nowhere_is_not_found(tmp_path):
    write_csv(tmp_path / "index.csv", ["image", "class"], [("a.png", "cat"), ("b.png", "dog")])
    with pytest.raises(DatasetNotFoundError, match=r"none of the 2 images is there, .*a\.png"):
        opened("image-folder", tmp_path)


def test_folders_of_splits_beside_other_folders_are_ambiguous(tmp_path):
    folders_with_splits(tmp_path)
    write_class_folders(tmp_path, classes=("cat",))
    with pytest.raises(DatasetFormatError, match=r"folders of splits beside others: \['cat'\]"):
        opened("image-folder", tmp_path)


def test_one_class_is_no_dataset_of_classes(tmp_path):
    write_class_folders(tmp_path, classes=("cat",))
    with pytest.raises(DatasetFormatError, match=r"two or more, found \['cat'\]"):
        opened("image-folder", tmp_path)
