"""Every dataset of classes in each of its layouts: what all share, then each alone."""

import pytest
from PIL import Image

from lightalign.featcache.errors import (
    DatasetFormatError,
    DatasetNotFoundError,
)
from lightalign.featcache.sources.opening import define, open_version
from lightalign.featcache.types import Modality

from ..class_helpers import (
    CLASS_LAYOUTS,
    CLASSES,
    folder_of_train_alone,
    folders_with_splits,
    folders_without_splits,
    listed_in_an_index,
    write_class_folders,
    write_image,
)
from ..sources_helpers import ids, opened, write_csv, written

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
        assert (pairs.ids.keys(), pairs.pairs) == ({Modality.IMAGE}, {})
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
    *columns, note = source.notes()
    read = "images from image, classes from class, in the order of label"
    is_table = prefix == "pictures/"
    assert columns == ([f"columns read: {read}; ids are the image paths"] if is_table else [])
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
    (note,) = source.notes()
    assert note == (
        "columns read: images from image, classes from class, splits from split; ids are the image "
        "paths"
    )


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
        (
            ["image", "class", "label"],
            ("cat/00.png", "cat", "x"),
            "label 'x' is no number from 0 up",
        ),
        (
            ["image", "class", "label"],
            ("dog/00.png", "cat", "4"),
            "class 'cat' has label 4, but had 0 in line 2",
        ),
        (["image", "class"], ("cat/01.png", ""), "column 'class' is empty"),
        (["image", "class"], ("cat/01.png", "NaN"), "column 'class' holds nothing but 'NaN'"),
        (["image", "class"], ("cat/01.png", "None"), "column 'class' holds nothing but 'None'"),
        (["image", "class"], ("", "cat"), "column 'image' is empty"),
        (
            ["image", "class", "split"],
            ("cat/01.png", "cat", ""),
            "gives no split: column 'split' holds ''",
        ),
    ],
)
def test_a_row_of_an_index_that_cannot_be_read_is_listed_and_the_others_are_read(
    header, row, problem, tmp_path
):
    write_class_folders(tmp_path)
    others = {"image": "{0}/00.png", "class": "{0}", "label": "{1}", "split": "train"}
    rows = [
        tuple(others[column].format(name, number) for column in header)
        for number, name in enumerate(("cat", "dog"))
    ]
    write_csv(tmp_path / "index.csv", header, [*rows, row])
    version = define(f"mine={tmp_path}", home=tmp_path / "home")
    source = open_version(version, home=tmp_path / "home")
    assert version.kind == "image-folder"
    assert [(one.place, one.reason) for one in source.skipped_rows()] == [("line 4", problem)]
    assert classes_by_id(source) == {"cat/00.png": "cat", "dog/00.png": "dog"}


def test_an_index_without_a_column_of_classes_is_refused_with_the_option_that_names_one(tmp_path):
    write_class_folders(tmp_path)
    rows = [("cat/00.png", "cat", "x"), ("dog/00.png", "dog", "y")]
    write_csv(tmp_path / "index.csv", ["image", "kind", "other"], rows)
    problem = (
        r"index\.csv: no column of classes among .*, such as --set source\.class_column=kind, or"
    )
    with pytest.raises(DatasetFormatError, match=problem):
        opened("image-folder", tmp_path)
    source = opened("image-folder", tmp_path, class_column="kind")
    assert set(classes_by_id(source).values()) == {"cat", "dog"}
    problem = r"has no column 'Art' \(class_column\); .* such as --set source\.class_column=other"
    with pytest.raises(DatasetFormatError, match=problem):
        opened("image-folder", tmp_path, class_column="Art")


def test_an_image_in_two_splits_of_an_index_is_left_out_with_its_lines(tmp_path):
    """That it is listed twice in one split, even by another of its names, changes nothing."""
    write_class_folders(tmp_path)
    rows = [("cat/00.png", "cat", "val"), ("dog/00.png", "dog", "train")]
    write_csv(tmp_path / "index.csv", ["image", "class", "split"], [*rows, (*rows[0][:2], "dev")])
    assert opened("image-folder", tmp_path).splits() == ("train", "val")
    write_csv(tmp_path / "index.csv", ["image", "class", "split"], [*rows, (*rows[0][:2], "test")])
    problem = r"line 2: 'cat/00\.png' is of split 'val', and of 'test' in line 4"
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


def notes_of(source):
    """Return the notes on what was left out."""
    return [note for note in source.notes() if "left out" in note]


@pytest.mark.parametrize(
    "name", ["a.jfif", "a.jpe", "a.JFIF", "a.jif", "a.dib", "a.pgm", "a.j2k", "a", "a.mpo"]
)
def test_images_of_every_suffix_and_of_none_are_read(name, tmp_path):
    write_class_folders(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "a.png").rename(tmp_path / "cat" / name)
    assert classes_by_id(opened("image-folder", tmp_path))[f"cat/{name}"] == "cat"
    assert notes_of(opened("image-folder", tmp_path)) == []


def test_a_linked_class_folder_is_read(tmp_path):
    write_class_folders(tmp_path / "elsewhere", classes=("bird",))
    write_class_folders(tmp_path / "data")
    (tmp_path / "data" / "bird").symlink_to(tmp_path / "elsewhere" / "bird")
    found = classes_by_id(opened("image-folder", tmp_path / "data"))
    assert [one for one, name in found.items() if name == "bird"] == [
        one for one in found if one.startswith("bird/")
    ]
    assert len(found) == 40


def test_linked_class_folders_of_splits_are_read(tmp_path):
    folders_with_splits(tmp_path / "real")
    for split in ("train", "validation", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        for folder in (tmp_path / "real" / split).iterdir():
            (tmp_path / "data" / split / folder.name).symlink_to(folder)
    linked, real = (opened("image-folder", tmp_path / name) for name in ("data", "real"))
    assert classes_by_id(linked) == classes_by_id(real)
    assert linked.notes() == real.notes() == ()


def test_all_that_is_not_read_is_in_the_notes(tmp_path):
    write_class_folders(tmp_path)
    cat = tmp_path / "cat"
    for name in ("notes.txt", "more.csv", "README", ".hidden.png", "._00.png", ".DS_Store"):
        (cat / name).write_text("no picture")
    (cat / "gone.png").symlink_to("nowhere.png")
    (cat / "loop").symlink_to(cat)
    (tmp_path / "bird").symlink_to("/nowhere/at/all")
    (tmp_path / "stray.jpg").write_bytes(b"x")
    source = opened("image-folder", tmp_path)
    assert len(classes_by_id(source)) == 30
    assert set(notes_of(source)) == {
        "2 files without the suffix of an image left out, such as 'cat/more.csv'",
        "1 file without a suffix and of unknown content left out, such as 'cat/README'",
        "2 hidden files left out, such as 'cat/._00.png'",
        "2 links to nothing left out, such as 'bird'",
        "1 image outside of class folders left out, such as 'stray.jpg'",
        "1 linked folder among the images left out, such as 'cat/loop'",
    }


def test_an_index_is_read_as_other_tables_are(tmp_path):
    """With semicolons and in cp1252; a row of too few cells is listed, a path is one image."""
    write_class_folders(tmp_path, classes=("cat", "dog"), count=2)
    lines = ["image;class", "./cat/00.png;Kätzchen", "cat/00.png;Kätzchen", "dog/00.png;Hund"]
    lines += ["cat/01.png", "dog/../dog/01.png;Hund"]
    (tmp_path / "index.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    source = opened("image-folder", tmp_path)
    assert classes_by_id(source) == {
        "cat/00.png": "Kätzchen",
        "dog/00.png": "Hund",
        "dog/../dog/01.png": "Hund",
    }
    assert [row.place for row in source.skipped_rows()] == ["line 5"]
    (tmp_path / "index.csv").write_text("image,class\ncat/00.png,a\n./cat/00.png,b\n")
    with pytest.raises(DatasetFormatError, match=r"'cat/00\.png' is of class 'a', and of 'b' in"):
        opened("image-folder", tmp_path)


def test_folders_of_images_with_and_without_texts_say_what_they_leave_out(tmp_path):
    write_image(tmp_path / "a.jfif", 3)
    write_image(tmp_path / "b.jpg", 3)
    (tmp_path / "a.txt").write_bytes("ein Hund\r\nmüde".encode("cp1252"))
    (tmp_path / "c.txt").write_text("alone")
    (tmp_path / "d.csv").write_text("x")
    source = opened("image-text-files", tmp_path)
    texts = [one.text for split in source.splits() for one in source.items(split, Modality.TEXT)]
    assert sorted(texts) == ["ein Hund", "müde"]
    assert source.notes()[:3] == (
        "1 image without a .txt file",
        "1 .txt file without an image, such as c.txt",
        "encoding of 1 .txt file is cp1252 (Windows, Western European)",
    )
    csv_note = "1 file without the suffix of an image left out, such as 'd.csv'"
    assert csv_note in source.notes()
    alone = opened("images", tmp_path)
    assert ids(alone, "test", Modality.IMAGE) == ["a.jfif", "b.jpg"]
    assert notes_of(alone) == ["3 files without the suffix of an image left out, such as 'a.txt'"]
