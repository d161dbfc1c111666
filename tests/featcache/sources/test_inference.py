"""The family of a place is found by what lies there."""

import json
import shlex
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightalign.featcache import notes
from lightalign.featcache.errors import DatasetFormatError, DatasetNotFoundError, SpecError
from lightalign.featcache.known_datasets import remember
from lightalign.featcache.sources.inference import CLASSES
from lightalign.featcache.sources.opening import define, identified, open_version
from lightalign.featcache.types import Modality
from lightalign.pipelines.inputs.datasets import add, move
from lightalign.pipelines.inputs.original_dataset import open_there

from .class_helpers import CLASS_LAYOUTS, write_class_folders
from .graded_helpers import GRADED_LAYOUTS
from .question_helpers import QUESTION_LAYOUTS
from .sources_helpers import FOLDER_LAYOUTS, LAYOUTS

EVERY_LAYOUT = {
    **LAYOUTS,
    **FOLDER_LAYOUTS,
    **CLASS_LAYOUTS,
    **GRADED_LAYOUTS,
    **QUESTION_LAYOUTS,
}
CASES = [
    pytest.param(name, write, id=f"{name}-{write.__name__}")
    for name, writers in EVERY_LAYOUT.items()
    for write in writers
    if name != "shapes"
]


TWO_CLASSES = '[{"image": "0.jpg", "class": "dog"}, {"image": "1.jpg", "class": "cat"}]'


def kind_of(place, **options):
    return define(f"mine={place}", home=place / "home", options=options).kind


@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_layout_is_known_again_under_a_name_of_ones_own(name, write, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    write(place)
    found = define(f"mine={place}", home=tmp_path)
    assert found.kind == name
    assert (found.name, found.place) == ("mine", place)


@pytest.mark.parametrize("count", [10, 100])
def test_as_many_classes_as_cifar_has_are_no_cifar(tmp_path, count):
    classes = [f"class {number}" for number in range(count)]
    write_class_folders(tmp_path / "data", count=3, classes=classes)
    assert kind_of(tmp_path / "data") == "image-folder"
    assert define(f"cifar{count}={tmp_path / 'data'}", home=tmp_path).kind == f"cifar{count}"


def test_columns_that_are_named_help(tmp_path):
    (tmp_path / "x.csv").write_text("Pfad,Wort\na.jpg,ein Hund\n")
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(DatasetFormatError, match=r"no column of image paths.*--kind"):
        kind_of(tmp_path / "x.csv")
    options = {"image_column": "Pfad", "caption_columns": ["Wort"]}
    version = define(f"mine={tmp_path / 'x.csv'}", home=tmp_path, options=options)
    assert version.kind == "image-text-table"
    (item,) = open_version(version, home=tmp_path).items("train", Modality.TEXT)
    assert item.text == "ein Hund"


def test_nothing_and_nothing_that_can_be_read_are_told_apart(tmp_path):
    place = tmp_path / "nowhere"
    with pytest.raises(DatasetNotFoundError) as refused:
        kind_of(place)
    assert str(refused.value) == f"there is neither a folder nor a file at {place}"
    with pytest.raises(DatasetNotFoundError) as again:
        open_there(f"mine={place}", options=None, home=tmp_path, split="train", fingerprint="")
    assert str(again.value) == str(refused.value)
    (tmp_path / "notes.txt").write_text("no dataset")
    with pytest.raises(DatasetFormatError, match="--kind"):
        kind_of(tmp_path)


def test_what_a_name_stands_for_may_become_of_another_family(tmp_path):
    for folder in ("table", "photos"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(b"x")
    (tmp_path / "table" / "x.csv").write_text("Pfad,text\na.jpg,ein Hund\n")
    options = {"image_column": "Pfad"}
    first = define(f"mine={tmp_path / 'table'}", home=tmp_path, options=options)
    remember(tmp_path, identified(first, open_version(first, home=tmp_path)))
    again = define(f"mine={tmp_path / 'table'}", home=tmp_path)
    assert (again.kind, again.options) == ("image-text-table", options)
    other = define(f"mine={tmp_path / 'photos'}", home=tmp_path)
    assert (other.kind, other.options) == ("images", {})


def test_a_path_without_a_name_is_answered_by_how_to_name_it(tmp_path):
    (tmp_path / "a b.csv").write_text("x")
    with pytest.raises(SpecError, match=r"is a path: .* --data 'NAME=.*a b.csv"):
        define(str(tmp_path / "a b.csv"), home=tmp_path)


def test_a_name_of_a_family_is_read_by_that_family_whatever_lies_there(tmp_path):
    assert define(f"flickr8k={tmp_path}", home=tmp_path).kind == "flickr8k"


def test_an_index_of_images_and_classes_is_no_table_of_captions(tmp_path):
    """A column that is the only one left holds the captions, unless it is called class."""
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "index.csv").write_text("image;class\na.jpg;cat\nb.jpg;dog\n")
    assert kind_of(tmp_path) == "image-folder"
    (tmp_path / "index.csv").write_text("image;Beschreibung\na.jpg;eine Katze\nb.jpg;ein Hund\n")
    assert kind_of(tmp_path) == "image-text-table"


def test_folders_of_splits_are_no_classes(tmp_path):
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes(folder.encode())
    version = define(f"mine={tmp_path}", home=tmp_path)
    assert version.kind == "images"
    assert open_version(version, home=tmp_path).splits() == ("train", "test")


def test_what_a_table_lacks_is_said_of_images_and_captions(tmp_path):
    (tmp_path / "x.csv").write_text("image,caption\na.jpg,ein Hund\n")
    with pytest.raises(
        DatasetFormatError, match=r"none of the 1 image that .*x.csv names is there"
    ):
        kind_of(tmp_path / "x.csv")
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(DatasetFormatError, match=r"'bogus'; known: .*'image_column'"):
        kind_of(tmp_path / "x.csv", bogus=1)


def write_photos(folder, *, count=3):
    for number in range(count):
        (folder / f"{number}.jpg").write_bytes(b"x" * (number + 1))


def told_of(place):
    """Return what a place is found to be, and the notes on it."""
    told = []
    notes.tell(told.append)
    found = define(f"mine={place}", home=place / "home")
    notes.tell(lambda _: None)
    return found, told


def test_the_only_table_of_several_that_can_be_read_is_taken_and_the_others_are_named(tmp_path):
    write_photos(tmp_path)
    (tmp_path / "captions.csv").write_text("image,caption\n0.jpg,a dog\n")
    (tmp_path / "sizes.csv").write_text("width,height\n1,2\n")
    found, (note,) = told_of(tmp_path)
    assert (found.kind, found.place) == ("image-text-table", tmp_path / "captions.csv")
    assert "is read as image-text-table, without sizes.csv" in note


def test_a_table_of_classes_of_any_name_is_read_as_classes(tmp_path):
    """The classes 2 and 10 are in the order of their numbers."""
    write_photos(tmp_path)
    (tmp_path / "labels.csv").write_text("file_name,label\n0.jpg,10\n1.jpg,2\n2.jpg,10\n")
    found, told = told_of(tmp_path)
    assert (found.kind, found.place, told) == ("image-folder", tmp_path / "labels.csv", [])
    opened = open_version(found, home=tmp_path)
    classes = [opened.pairs(split).classes for split in opened.splits()]
    assert {one.names for one in classes} == {("2", "10")}
    of_image = {key: value for one in classes for key, value in one.of_image.items()}
    assert of_image == {"0.jpg": 1, "1.jpg": 0, "2.jpg": 1}


def test_several_tables_that_can_be_read_are_refused_with_the_commands_that_choose(tmp_path):
    write_photos(tmp_path)
    (tmp_path / "captions.csv").write_text("image,caption\n0.jpg,a dog\n")
    (tmp_path / "labels.json").write_text(TWO_CLASSES)
    (tmp_path / "more.csv").write_text("image,caption\n1.jpg,a cat\n")
    with pytest.raises(DatasetFormatError) as refused:
        kind_of(tmp_path)
    commands = [shlex.split(part) for part in str(refused.value).split("`")[1::2]]
    chosen = [(Path(words[4]).name, words[6]) for words in commands]
    assert chosen == [
        ("captions.csv", "image-text-table"),
        ("more.csv", "image-text-table"),
        ("labels.json", "image-folder"),
        (tmp_path.name, "images"),
    ]
    for words in commands:
        add(tmp_path / "home", words[3], Path(words[4]), kind=words[6])


@pytest.mark.parametrize("name", ["photos.csv", "photos.json"])
def test_a_table_that_nobody_can_read_is_named_where_images_are_taken_alone(name, tmp_path):
    write_photos(tmp_path)
    (tmp_path / name).write_text("Pfad,Wort\n0.jpg,Hund\n" if name[-3:] == "csv" else "{}")
    found, (note,) = told_of(tmp_path)
    assert found.kind == "images"
    assert f"is read as images, without {name}" in note
    advised = "name their columns by the options source.image_column and" in note
    assert "=NAME" not in note
    assert advised == (name == "photos.csv")  # the other has no columns


def test_class_folders_go_before_a_table_of_classes_which_is_named(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        write_photos(tmp_path / name)
    (tmp_path / "labels.csv").write_text("image,class\ncat/0.jpg,tabby\ndog/0.jpg,pug\n")
    found, (note,) = told_of(tmp_path)
    assert (found.kind, found.place) == ("image-folder", tmp_path)
    assert "is read as image-folder, without labels.csv" in note
    assert "labels.csv --kind image-folder" in note
    assert "no column of captions" not in note  # which is no reason: it can be read


def test_a_table_of_another_format_beside_the_one_that_is_read_is_named(tmp_path):
    write_photos(tmp_path)
    (tmp_path / "captions.csv").write_text("image,caption\n0.jpg,a dog\n")
    (tmp_path / "labels.json").write_text(TWO_CLASSES)
    found, (note,) = told_of(tmp_path)
    assert (found.kind, found.place) == ("image-text-table", tmp_path)
    assert "without labels.json" in note


def test_images_that_are_named_anew_are_read_with_the_table_that_came_beside_them(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_photos(photos)
    assert add(tmp_path, "mine", photos)[0].kind == "images"
    (photos / "captions.csv").write_text("image,caption\n0.jpg,a dog\n")
    assert define("mine", home=tmp_path).kind == "images"
    assert add(tmp_path, "mine", photos)[0].kind == "image-text-table"


def write_odd_tables(folder):
    """Write images, the table of their captions in columns that nobody can guess, and another."""
    folder.mkdir()
    write_photos(folder)
    (folder / "captions.csv").write_text("Pfad,Beschreib,Andere\n0.jpg,ein Hund,1\n")
    (folder / "notes.csv").write_text("width,height\n1,2\n")


ODD_COLUMNS = {"image_column": "Pfad", "caption_columns": ["Beschreib"]}


def remembered(home, data, **options):
    version = define(data, home=home, options=options)
    remember(home, identified(version, open_version(version, home=home)))
    return version


def test_a_table_is_found_again_by_its_folder_with_what_was_said_of_it(tmp_path):
    odd = tmp_path / "odd"
    write_odd_tables(odd)
    first = remembered(tmp_path, f"mine={odd}", **ODD_COLUMNS)
    again = define(f"mine={odd}", home=tmp_path)
    assert (again.kind, again.place, again.options) == (first.kind, first.place, ODD_COLUMNS)
    assert first.place == odd / "captions.csv"


def test_a_folder_is_not_read_as_images_alone_once_it_was_read_by_a_table(tmp_path):
    odd = tmp_path / "odd"
    write_odd_tables(odd)
    remembered(tmp_path, f"mine={odd}", **ODD_COLUMNS)
    (odd / "captions.csv").unlink()
    with pytest.raises(DatasetFormatError, match=r"'mine' is the image-text-table") as refused:
        define(f"mine={odd}", home=tmp_path)
    words = shlex.split(str(refused.value).split("`")[-2])
    assert words[:4] == ["lightalign", "data", "add", "mine"]
    assert add(tmp_path, words[3], Path(words[4]), kind=words[6])[0].kind == "images"


def test_a_table_is_opened_and_moved_by_the_folder_in_which_it_lies(tmp_path):
    odd, elsewhere = tmp_path / "odd", tmp_path / "elsewhere"
    write_odd_tables(odd)
    version = remembered(tmp_path, f"mine={odd}", **ODD_COLUMNS)
    fingerprint = open_version(version, home=tmp_path).fingerprint("train")
    shutil.copytree(odd, elsewhere)
    for folder in (odd, elsewhere):
        opened = open_there(
            f"mine={folder}", options=None, home=tmp_path, split="train", fingerprint=fingerprint
        )
        assert opened.root == folder / "captions.csv"
    assert move(tmp_path, "mine", elsewhere).place == elsewhere / "captions.csv"


def test_another_folder_of_a_name_that_was_images_is_read_with_its_table(tmp_path):
    for name in ("photos", "captioned", "plain"):
        (tmp_path / name).mkdir()
        write_photos(tmp_path / name)
    (tmp_path / "captioned" / "captions.csv").write_text("image,caption\n0.jpg,a dog\n")
    remembered(tmp_path, f"mine={tmp_path / 'photos'}")
    told = []
    notes.tell(told.append)
    found = define(f"mine={tmp_path / 'captioned'}", home=tmp_path)
    moved = define(f"mine={tmp_path / 'plain'}", home=tmp_path)
    notes.tell(lambda _: None)
    assert (found.kind, moved.kind) == ("image-text-table", "images")
    assert [" was images at " in note for note in told] == [True]


def test_class_folders_that_are_named_anew_are_read_with_the_table_that_came_beside_them(tmp_path):
    photos = tmp_path / "photos"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        write_photos(photos / name)
    assert add(tmp_path, "mine", photos)[0].kind == "image-folder"
    (photos / "captions.csv").write_text("image,caption\ncat/0.jpg,a cat\ndog/0.jpg,a dog\n")
    assert define(f"mine={photos}", home=tmp_path).kind == "image-folder"
    assert add(tmp_path, "mine", photos)[0].kind == "image-text-table"


def test_the_columns_of_splits_and_labels_are_found_in_any_letters(tmp_path):
    write_photos(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text("Image,Class,Label,Split\n0.jpg,cat,1,Test\n1.jpg,dog,0,Train\n")
    version = define(f"mine={table}", home=tmp_path)
    opened = open_version(version, home=tmp_path)
    assert (version.kind, opened.splits()) == ("image-folder", ("train", "test"))
    assert opened.pairs("test").classes.names == ("dog", "cat")  # in the order of their labels
    table.write_text("Image,Caption,SPLIT\n0.jpg,a cat,test\n1.jpg,a dog,train\n")
    version = define(f"mine={table}", home=tmp_path)
    opened = open_version(version, home=tmp_path)
    assert (version.kind, opened.splits()) == ("image-text-table", ("train", "test"))
    (item,) = opened.items("test", Modality.IMAGE)
    assert item.id == "0.jpg"


def test_images_alone_are_not_offered_where_there_are_none(tmp_path):
    (tmp_path / "a.csv").write_text("sentence1,sentence2,score\na,b,1\nc,d,2\n")
    (tmp_path / "b.json").write_text('[{"sentence1": "a", "sentence2": "b", "score": 1}]')
    (tmp_path / "other.csv").write_text("sentence1,sentence2,score\na,b,1\nc,d,3\n")
    with pytest.raises(DatasetFormatError, match="tables that can be read") as refused:
        kind_of(tmp_path)
    assert "--kind images" not in str(refused.value)


def test_class_folders_go_before_several_tables_of_classes_and_are_offered_else(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        write_photos(tmp_path / name)
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("image,class\ncat/0.jpg,tabby\ndog/0.jpg,pug\n")
    found, (note,) = told_of(tmp_path)
    assert (found.kind, found.place) == ("image-folder", tmp_path)
    assert "without test.csv, train.csv" in note
    (tmp_path / "captions.csv").write_text("image,caption\ncat/0.jpg,a cat\n")
    with pytest.raises(DatasetFormatError, match=r"or the folder itself by .*--kind image-folder"):
        kind_of(tmp_path)


@pytest.mark.parametrize(
    "columns",
    [
        *("image,class", "image,class_name", "image,category", "image,label", "path,Category"),
        *(",image,category", "image,category,split", "image,class,label", "image,category,label"),
    ],
)
def test_columns_of_images_and_classes_alone_are_a_table_of_classes(columns, tmp_path):
    write_photos(tmp_path)
    names = columns.lower().split(",")
    cells = {"": "7", "split": "train", "label": None}
    rows = []
    for number, name in enumerate(("dog", "cat", "dog")):
        own = {**dict.fromkeys(names, name), **cells, "label": str(int(name == "dog"))}
        own |= {"image": f"{number}.jpg", "path": f"{number}.jpg"}
        rows.append(",".join(own[column] for column in names))
    (tmp_path / "table.csv").write_text("\n".join([columns, *rows]) + "\n")
    found = define(f"mine={tmp_path / 'table.csv'}", home=tmp_path)
    opened = open_version(found, home=tmp_path)
    assert found.kind == "image-folder"
    expected = ("0", "1") if names[-1] == "label" and len(names) == 2 else ("cat", "dog")
    classes = [opened.pairs(split).classes for split in opened.splits()]
    assert {one.names for one in classes} == {expected}
    of_image = {key: value for one in classes for key, value in one.of_image.items()}
    assert of_image == {"0.jpg": 1, "1.jpg": 0, "2.jpg": 1}
    assert kind_of(tmp_path) == "image-folder"


@pytest.mark.parametrize("name", ["class", "class_name", "category", "label"])
@pytest.mark.parametrize(
    ("other", "cells", "kind"),
    [
        ("Beschreibung", ("eine Katze", "ein Hund"), "image-text-table"),
        ("width", ("640", "480"), "image-folder"),
        ("caption", ("640", "480"), "image-text-table"),
        ("text_1", ("cat", "dog"), "image-text-table"),
    ],
)
def test_a_column_beside_classes_holds_captions_by_its_name_or_its_words(
    name, other, cells, kind, tmp_path
):
    write_photos(tmp_path)
    rows = [f"0.jpg,cat,{cells[0]}", f"1.jpg,dog,{cells[1]}"]
    (tmp_path / "table.csv").write_text("\n".join([f"image,{name},{other}", *rows]))
    assert kind_of(tmp_path / "table.csv") == kind


@pytest.mark.parametrize("name", ["class", "category"])
def test_a_broken_table_of_classes_is_refused_by_what_is_broken_in_it(name, tmp_path):
    write_photos(tmp_path)
    table = tmp_path / "index.csv"
    for text, problem in (
        (
            f"image,{name}\n0.jpg,cat\n0.jpg,dog\n",
            "line 2: '0.jpg' is of class 'cat', and of 'dog' in line 3",
        ),
        (f"image,{name}\n0.jpg,cat\n1.jpg,cat\n", "has two or more, found"),
    ):
        table.write_text(text)
        with pytest.raises(DatasetFormatError, match=problem) as refused:
            kind_of(table)
        assert "read as image-folder" in str(refused.value)
    table.write_text(f"image,{name}\n8.jpg,cat\n9.jpg,dog\n")
    with pytest.raises(DatasetFormatError, match=r"none of the 2 images .*is there"):
        kind_of(table)


def test_classes_that_are_remembered_as_captions_stay_captions(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    write_photos(photos)
    table = photos / "table.csv"
    table.write_text("image,category\n0.jpg,dog\n1.jpg,cat\n2.jpg,dog\n")
    first, opened = add(tmp_path, "mine", table, kind="image-text-table")
    for data in ("mine", f"mine={table}", f"mine={photos}"):
        again = identified(found := define(data, home=tmp_path), open_version(found, home=tmp_path))
        assert (again.kind, again.splits) == ("image-text-table", first.splits)
    assert add(tmp_path, "mine", table)[0].kind == "image-text-table"
    (text,) = opened.items("test", Modality.TEXT)
    assert text.text in {"dog", "cat"}
    asked = define(f"other={table}", home=tmp_path, options={"caption_columns": ["category"]})
    assert asked.kind == "image-text-table"  # as the options are its
    assert add(tmp_path, "new", table)[0].kind == "image-folder"


def test_a_table_of_tabs_is_read_by_any_of_its_suffixes(tmp_path):
    write_photos(tmp_path)
    (tmp_path / "captions.tab").write_text("image\tcaption\n0.jpg\ta dog, two\n1.jpg\ta cat\n")
    found = define(f"mine={tmp_path}", home=tmp_path)
    assert (found.kind, found.place) == ("image-text-table", tmp_path)
    opened = open_version(found, home=tmp_path)
    texts = [item.text for split in opened.splits() for item in opened.items(split, Modality.TEXT)]
    assert sorted(texts) == ["a cat", "a dog, two"]
    (tmp_path / "captions.json").write_text('[{"image": "2.jpg", "caption": "a fox"}]')
    opened = open_version(define(f"new={tmp_path}", home=tmp_path), home=tmp_path)
    (item,) = opened.items("train", Modality.TEXT)
    assert item.text == "a fox"  # a folder that was read by a table before is read by it still


SPREADSHEETS = ["captions.xlsx", "Captions.XLS", "captions.ods", "captions.xlsm"]


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        *((name, "save it as CSV") for name in SPREADSHEETS),
        *[("table.feather", "save it as parquet"), ("labels.csv.zip", "unpack it")],
    ],
)
def test_a_table_of_a_format_that_is_not_read_is_named_with_what_to_do(name, remedy, tmp_path):
    write_photos(tmp_path)
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    (tmp_path / "~$captions.xlsx").write_bytes(b"who has it open")
    (tmp_path / ".hidden.xlsx").write_bytes(b"PK")
    found, (note,) = told_of(tmp_path)
    assert found.kind == "images"
    assert f"is read as images, without {name} (not read: {remedy}" in note
    with pytest.raises(DatasetFormatError, match=f"of a format that is not read: {remedy}"):
        kind_of(tmp_path / name)
    (tmp_path / "other.csv").write_text("image,caption\n0.jpg,a dog\n")
    found, (note,) = told_of(tmp_path)
    assert found.kind == "image-text-table"
    assert f"without {name} (not read: {remedy}" in note


def test_a_folder_with_nothing_but_a_spreadsheet_says_what_to_do_with_it(tmp_path):
    (tmp_path / "captions.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(DatasetFormatError, match=r"; captions\.xlsx is not read: save it as CSV$"):
        kind_of(tmp_path)


@pytest.mark.parametrize("beside", ["meta", "annotations", "data"])
def test_a_table_in_a_folder_beside_images_is_named_with_the_command_that_reads_it(
    beside, tmp_path
):
    write_photos(tmp_path)
    (tmp_path / "photos.csv").write_text("image,caption\n0.jpg,a dog\n1.jpg,a cat\n")
    (tmp_path / beside).mkdir()
    write_photos(tmp_path / beside)
    (tmp_path / beside / "captions.csv").write_text("image,caption\n0.jpg,a fox\n")
    found, (note,) = told_of(tmp_path)
    assert (found.kind, found.place) == ("image-text-table", tmp_path)
    assert f"without {beside}/captions.csv; `lightalign data add mine " in note
    assert note.endswith(f" reads {beside}/captions.csv")
    words = shlex.split(note.split("`")[1])
    _, opened = add(tmp_path / "home", words[3], Path(words[4]), kind=words[6])
    (item,) = opened.items("train", Modality.TEXT)
    assert item.text == "a fox"


def test_a_table_in_a_folder_that_cannot_be_read_is_named_with_the_reason(tmp_path):
    write_photos(tmp_path)
    (tmp_path / "meta" / "deeper").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    table = "image,caption\n../0.jpg,a dog\n"
    for place in ("meta", "meta/deeper", ".hidden"):
        (tmp_path / place / "captions.csv").write_text(table)
    found, (note,) = told_of(tmp_path)
    assert found.kind == "images"
    assert "is read as images, without meta/captions.csv (" in note
    assert "lies outside of" in note
    assert "source.root=" in note
    assert "deeper" not in note


def test_links_to_nothing_or_to_the_folder_itself_hold_no_further_tables(tmp_path):
    write_photos(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "labels.csv").mkdir()  # which is no table, whatever it is called
    found, told = told_of(tmp_path)
    assert (found.kind, told) == ("images", [])
    (tmp_path / "captions.csv").write_text("image,caption\n0.jpg,a dog\n")
    found, told = told_of(tmp_path)
    assert (found.kind, told) == ("image-text-table", [])


def test_a_folder_of_which_only_a_table_below_can_be_read_has_the_command_in_its_error(tmp_path):
    pairs = "sentence1,sentence2,score\na,b,1\nc,d,2\n"
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "pairs.csv").write_text(pairs)
    with pytest.raises(DatasetFormatError, match=r"reads meta/pairs\.csv$") as refused:
        kind_of(tmp_path)
    words = shlex.split(str(refused.value).split("`")[1])
    assert add(tmp_path / "home", words[3], Path(words[4]), kind=words[6])[0].kind == words[6]
    (tmp_path / "meta" / "pairs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetFormatError, match=r"; nor can meta/pairs\.csv \(.*no column of"):
        kind_of(tmp_path)


def asked_of(place, home, **options):
    """Return what a table is found to be, and the two commands that are told where it is open."""
    told = []
    notes.tell(told.append)
    found = define(f"mine={place}", home=home, options=options)
    notes.tell(lambda _: None)
    commands = [shlex.split(part) for note in told for part in note.split("`")[1::2]]
    return found, commands


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("columns", "cells", "kind", "column"),
    [
        ("image,Wort", ("Hund", "Katze", "Maus", "Kuh"), "image-text-table", "Wort"),
        ("image,animal", ("dog", "cat", "dog", "cat"), "image-folder", "animal"),
        ("image,target", ("0", "1", "0", "1"), "image-folder", "target"),
        ("image,Wort,category", ("Hund,d", "Katze,c", "Dogge,d", "Löwe,c"), "image-folder", "Wort"),
        (
            "image,label",
            ("一只狗在草地上奔跑", "一只猫坐在窗台上", "两个孩子在公园里玩耍", "一辆汽车停在路边"),
            "image-text-table",
            "label",
        ),
    ],
)
def test_a_column_that_may_hold_captions_or_classes_is_told_with_the_commands_that_settle_it(
    columns, cells, kind, column, whole, tmp_path
):
    photos = tmp_path / "my photos"
    photos.mkdir()
    write_photos(photos, count=4)
    rows = [f"{number}.jpg,{cell}" for number, cell in enumerate(cells)]
    (photos / "t.csv").write_text("\n".join([columns, *rows]), encoding="utf-8")
    found, commands = asked_of(photos if whole else photos / "t.csv", tmp_path)
    assert found.kind == kind
    kinds = []
    for words in commands:
        changes = dict([words[words.index("--set") + 1].removeprefix("source.").split("=", 1)])
        options = {name: json.loads(value) for name, value in changes.items()}
        version, _ = add(
            tmp_path / "home", words[3], Path(words[4]), kind=words[6], options=options
        )
        kinds.append((version.kind, options))
    assert kinds == [
        ("image-text-table", {"caption_columns": [column]}),
        ("image-folder", {"class_column": column}),
    ]


@pytest.mark.parametrize(
    ("columns", "cells", "kind"),
    [
        ("image,描述,category", ("一只狗在草地上奔跑,d", "一只猫坐在窗台上,c"), "image-text-table"),
        ("image,category", ("red fox", "polar bear"), "image-folder"),
        ("image,category", ("dog", "cat"), "image-folder"),
        ("image,sku,category", ("AB-1,d", "AB-2,c"), "image-folder"),
        ("image,Beschreibung", ("ein Hund rennt", "eine Katze"), "image-text-table"),
        ("image,caption", ("dog", "cat"), "image-text-table"),
    ],
)
def test_a_column_that_its_name_or_its_words_tell_is_not_asked_about(
    columns, cells, kind, tmp_path
):
    write_photos(tmp_path)
    rows = [f"{number}.jpg,{cell}" for number, cell in enumerate(cells)]
    (tmp_path / "t.csv").write_text("\n".join([columns, *rows]), encoding="utf-8")
    found, commands = asked_of(tmp_path, tmp_path / "home")
    assert (found.kind, commands) == (kind, [])


def write_in_folders_of_splits(place, name, column, splits=("train", "test")):
    """Write a table of two images of its own into each folder of a split."""
    for split in splits:
        folder = place / split
        folder.mkdir(parents=True)
        write_photos(folder, count=2)
        rows = [{"file_name": f"{n}.jpg", column: ("dog", "cat")[n]} for n in range(2)]
        if name.endswith("csv"):
            lines = [f"file_name,{column}", *(",".join(row.values()) for row in rows)]
            (folder / name).write_text("\n".join(lines))
        elif name.endswith("jsonl"):
            (folder / name).write_text("\n".join(map(json.dumps, rows)))
        else:
            pq.write_table(pa.Table.from_pylist(rows), folder / name)


@pytest.mark.parametrize("below", ["", "data"])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
@pytest.mark.parametrize(("column", "kind"), [("text", "image-text-table"), ("label", CLASSES)])
def test_tables_in_folders_of_splits_are_one_table(name, below, column, kind, tmp_path):
    place = tmp_path / "data set"
    write_in_folders_of_splits(place / below, name, column, ("train", "validation"))
    found, told = told_of(place)
    assert (found.kind, found.place, told) == (kind, place, [])
    source = open_version(found, home=tmp_path)
    assert source.splits() == ("train", "val")
    assert "2 files are read as one table, splits from their folders" in source.notes()
    items = source.items("val", Modality.IMAGE)
    assert [(item.id, item.path) for item in items] == [
        (f"validation/{number}.jpg", place / below / "validation" / f"{number}.jpg")
        for number in range(2)
    ]


def test_a_folder_of_a_split_without_a_table_is_named(tmp_path):
    write_in_folders_of_splits(tmp_path, "metadata.csv", "text")
    (tmp_path / "test" / "metadata.csv").unlink()
    source = open_version(told_of(tmp_path)[0], home=tmp_path)
    assert source.splits() == ("train",)
    assert "no table in test: what stands there is left out" in source.notes()


def test_tables_in_folders_of_splits_that_are_not_one_are_named_with_the_reason(tmp_path):
    write_in_folders_of_splits(tmp_path, "metadata.csv", "text")
    (tmp_path / "test" / "metadata.csv").write_text("file_name,text,more\n0.jpg,a dog,1\n")
    found, (note,) = told_of(tmp_path)
    assert found.kind == "images"
    assert "(not as one: " in note
    assert "has the columns" in note


@pytest.mark.parametrize(("column", "kind"), [("caption", "image-text-table"), ("class", CLASSES)])
def test_a_table_of_all_beside_those_of_splits_is_left_out(column, kind, tmp_path):
    write_photos(tmp_path, count=4)
    rows = [f"{number}.jpg,{('dog', 'cat')[number % 2]}" for number in range(4)]
    for name, part in {"train": rows[:2], "test": rows[2:], "all": rows}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join([f"image,{column}", *part]))
    found, told = told_of(tmp_path)
    assert (found.kind, found.place, told) == (kind, tmp_path, [])
    source = open_version(found, home=tmp_path)
    assert source.ids("test", Modality.IMAGE) == ["2.jpg", "3.jpg"]
    left_out = "all.csv left out: its rows are taken to be those of the splits"
    assert left_out in source.notes()


def test_a_table_of_a_split_finds_its_images_in_the_folder_of_the_split(tmp_path):
    """As competitions have it: the images of the test have no classes."""
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write_photos(tmp_path / split)
    (tmp_path / "train.csv").write_text("image,label\n0.jpg,dog\n1.jpg,cat\n2.jpg,dog\n")
    (tmp_path / "test.csv").write_text("image\n0.jpg\n1.jpg\n")
    found, (note,) = told_of(tmp_path)
    assert (found.kind, found.place) == (CLASSES, tmp_path / "train.csv")
    assert "without test.csv" in note
    ids = open_version(found, home=tmp_path).ids("train", Modality.IMAGE)
    assert [image.partition("/")[0] for image in ids] == ["train"] * len(ids)


def test_tables_in_a_folder_of_annotations_name_images_beside_it(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    write_photos(tmp_path / "images")
    (tmp_path / "annotations" / "train.csv").write_text("image,caption\n0.jpg,a dog\n")
    (tmp_path / "annotations" / "test.csv").write_text("image,caption\n../images/1.jpg,a cat\n")
    source = open_version(told_of(tmp_path)[0], home=tmp_path)
    (train,), (test,) = (source.items(split, Modality.IMAGE) for split in source.splits())
    assert train.path == tmp_path / "images" / "0.jpg"
    assert test.path.resolve() == tmp_path / "images" / "1.jpg"
