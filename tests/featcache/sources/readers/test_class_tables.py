"""Tables of images and classes: their columns, tables of several files, and pictures in parquet."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightalign.featcache.errors import DatasetFormatError, SpecError
from lightalign.featcache.known_datasets import remember
from lightalign.featcache.sources.opening import define, identified, open_source, open_version
from lightalign.featcache.sources.readers import class_tables
from lightalign.featcache.types import Modality
from lightalign.pipelines.inputs.datasets import add

from ..sources_helpers import opened, write_csv, write_images
from ..tables.test_parquet import everything, png

NAMES = ("dog", "cat", "dog", "cat")


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the images 0.jpg to 3.jpg and no table."""
    place = tmp_path / "photos"
    write_images(place, [f"{number}.jpg" for number in range(4)])
    return place


def write_table(file, **columns):
    """Write a table of the images in a folder, one after another."""
    images = [f"{number}.jpg" for number in range(4)]
    write_csv(file, ["image", *columns], list(zip(images, *columns.values(), strict=True)))
    return file


def names_and_classes(source):
    """Return the names of the classes in order, and the name of the class of each image."""
    found = {}
    for split in source.splits():
        classes = source.pairs(split).classes
        found |= {image: classes.names[index] for image, index in classes.of_image.items()}
    return classes.names, dict(sorted(found.items()))


@pytest.mark.parametrize(
    ("columns", "order", "said"),
    [
        ({"class": NAMES}, ("cat", "dog"), "classes from class"),
        ({"Category": NAMES}, ("cat", "dog"), "classes from Category"),
        (
            {"class": "0101", "class_name": NAMES},
            ("dog", "cat"),
            "classes from class_name, in the order of class",
        ),
        (
            {"class": "0101", "label": NAMES},
            ("dog", "cat"),
            "classes from label, in the order of class",
        ),
        (
            {"class_name": "0101", "category": NAMES, "label": "1010"},
            ("cat", "dog"),
            "classes from category, in the order of label",
        ),
        (
            {"label": "0101", "category": NAMES},
            ("dog", "cat"),
            "classes from category, in the order of label",
        ),
        ({"class": ("0.0", "1.0") * 2, "class_name": NAMES}, ("cat", "dog"), "from class_name;"),
        ({"class": ("-1", "1") * 2, "class_name": NAMES}, ("cat", "dog"), "from class_name;"),
        ({"class": "0001", "class_name": NAMES}, ("cat", "dog"), "classes from class_name;"),
        ({"class": "0000", "class_name": NAMES}, ("cat", "dog"), "classes from class_name;"),
        ({"class": NAMES, "label": ("a", "b") * 2}, ("cat", "dog"), "classes from class;"),
    ],
)
def test_names_of_classes_go_before_their_numbers_and_the_columns_are_told(
    columns, order, said, folder
):
    """Numbers order the classes where each class has its own."""
    source = opened("image-folder", write_table(folder / "table.csv", **columns))
    expected = {f"{number}.jpg": name for number, name in enumerate(NAMES)}
    assert names_and_classes(source) == (order, expected)
    assert source.notes()[0].startswith("columns read: images from image, classes from ")
    assert said in source.notes()[0]
    assert source.notes()[0].endswith("; ids are the image paths")


@pytest.mark.parametrize("columns", [("class", "label"), ("label", "class_name")])
def test_columns_of_numbers_alone_give_classes_in_their_order(columns, folder):
    table = write_table(folder / "table.csv", **dict.fromkeys(columns, ("2", "10") * 2))
    names, _ = names_and_classes(opened("image-folder", table))
    assert names == ("2", "10")


def test_labels_that_are_numbers_but_for_one_are_read_without_its_line(folder):
    source = opened("image-folder", write_table(folder / "t.csv", category=NAMES, label="01x1"))
    (row,) = source.skipped_rows()
    assert (row.place, row.reason) == ("line 4", "label 'x' is no number from 0 up")
    assert names_and_classes(source)[0] == ("dog", "cat")


def test_an_image_of_two_classes_is_left_out_with_its_lines_and_classes(folder):
    rows = [*((f"{number}.jpg", name) for number, name in enumerate(NAMES)), ("./0.jpg", "cat")]
    write_csv(folder / "table.csv", ["image", "class"], rows)
    source = opened("image-folder", folder / "table.csv")
    assert [(row.place, row.reason) for row in source.skipped_rows()] == [
        ("line 2", "'0.jpg' is of class 'dog', and of 'cat' in line 6"),
        ("line 6", "'0.jpg' is of class 'cat', and of 'dog' in line 2"),
    ]
    assert names_and_classes(source)[1] == {"1.jpg": "cat", "2.jpg": "dog", "3.jpg": "cat"}


def test_classes_that_are_remembered_by_their_numbers_stay_numbers(folder, tmp_path):
    """The table gets a column of names: the classes are the same, and so is what is remembered."""
    table = write_table(folder / "table.csv", **{"class": "0101"})
    first, _ = add(tmp_path, "mine", table)
    write_table(table, **{"class": "0101", "class_name": NAMES})
    for data in ("mine", f"mine={table}", f"mine={folder}"):
        version = define(data, home=tmp_path)
        source = open_version(version, home=tmp_path)
        assert names_and_classes(source)[0] == ("0", "1")
        assert identified(version, source).splits == first.splits
    assert add(tmp_path, "mine", table)[0].splits == first.splits
    version, source = add(tmp_path, "other", table)
    assert names_and_classes(source)[0] == ("dog", "cat")
    assert version.splits != first.splits
    again = open_version(define("other", home=tmp_path), home=tmp_path)
    assert names_and_classes(again)[0] == ("dog", "cat")


def write_splits(folder, header=("image", "class")):
    """Write a table of each split, of which only all have both classes."""
    for split, numbers in {"train": (0, 1), "val": (2,), "test": (3,)}.items():
        rows = [(f"{number}.jpg", NAMES[number]) for number in numbers]
        write_csv(folder / f"{split}.csv", header, rows)


EXPECTED = {"train": {"0.jpg": "dog", "1.jpg": "cat"}, "val": {"2.jpg": "dog"}}
EXPECTED["test"] = {"3.jpg": "cat"}


def classes_by_split(source):
    return {
        split: {
            image: classes.names[index]
            for classes in [source.pairs(split).classes]
            for image, index in classes.of_image.items()
        }
        for split in source.splits()
    }


@pytest.mark.parametrize("kind", [None, "image-folder"])
@pytest.mark.parametrize("name", ["class", "category", "label"])
def test_tables_of_splits_are_one_dataset_of_classes(kind, name, folder, tmp_path, told):
    write_splits(folder, ("image", name))
    version, source = add(tmp_path, "mine", folder, kind=kind)
    assert (version.kind, version.place) == ("image-folder", folder)
    assert classes_by_split(source) == EXPECTED
    assert "3 files are read as one table, splits from their names" in source.notes()
    assert source.notes()[0].endswith(f"classes from {name}; ids are the image paths")
    assert told == []
    again = open_version(define("mine", home=tmp_path), home=tmp_path)
    assert again.fingerprint("test") == source.fingerprint("test")


@pytest.fixture
def told():
    """Return the list of notes that are told."""
    from lightalign.featcache import notes

    messages = []
    notes.tell(messages.append)
    yield messages
    notes.tell(lambda _: None)


def test_a_lone_folder_of_images_or_folders_of_splits_are_no_classes_beside_tables(tmp_path):
    for place, images in (("a", "images"), ("b", "train")):
        write_images(tmp_path / place / images, [f"{number}.jpg" for number in range(4)])
        for split, numbers in {"train": (0, 1), "test": (2, 3)}.items():
            rows = [(f"{images}/{number}.jpg", NAMES[number]) for number in numbers]
            write_csv(tmp_path / place / f"{split}.csv", ["image", "label"], rows)
        version = define(f"mine={tmp_path / place}", home=tmp_path)
        source = open_version(version, home=tmp_path)
        assert (version.kind, version.place) == ("image-folder", tmp_path / place)
        assert classes_by_split(source) == {
            "train": {f"{images}/0.jpg": "dog", f"{images}/1.jpg": "cat"},
            "test": {f"{images}/2.jpg": "dog", f"{images}/3.jpg": "cat"},
        }


def test_an_image_in_two_tables_of_splits_is_left_out_with_its_files_and_lines(folder, tmp_path):
    write_splits(folder)
    write_csv(folder / "test.csv", ["image", "class"], [("3.jpg", "cat"), ("0.jpg", "dog")])
    source = opened("image-folder", folder)
    assert [(row.place, row.reason) for row in source.skipped_rows()] == [
        ("test.csv, line 3", "'0.jpg' is of split 'test', and of 'train' in train.csv, line 2"),
        ("train.csv, line 2", "'0.jpg' is of split 'train', and of 'test' in test.csv, line 3"),
    ]
    assert classes_by_split(source)["train"] == {"1.jpg": "cat"}


def test_a_table_of_splits_without_classes_is_named_beside_the_one_that_is_read(
    folder, tmp_path, told
):
    write_splits(folder)
    (folder / "val.csv").unlink()
    write_csv(folder / "test.csv", ["image"], [("3.jpg",)])
    version = define(f"mine={folder}", home=tmp_path)
    assert (version.kind, version.place) == ("image-folder", folder / "train.csv")
    (note,) = told
    assert "without test.csv (" in note


def test_tables_of_splits_and_another_are_still_to_be_chosen_from(folder, tmp_path):
    write_splits(folder)
    write_csv(folder / "more.csv", ["image", "class"], [("0.jpg", "a"), ("1.jpg", "b")])
    write_csv(folder / "others.csv", ["image", "class"], [("0.jpg", "a"), ("1.jpg", "b")])
    with pytest.raises(DatasetFormatError, match="tables that can be read"):
        define(f"mine={folder}", home=tmp_path)


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write_parquet(file, rows, image=STRUCT, label=None):
    label = label or pa.string()
    file.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name in rows[0] if name not in {"image", "label"}]
    fields = [("image", image), ("label", label), *((name, pa.string()) for name in names)]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), file)


def stored(number, path):
    return {"bytes": png(number), "path": path}


@pytest.mark.parametrize(
    ("paths", "others", "names", "said"),
    [
        (("a.png", "b.png", "c.png"), {}, ("a.png", "b.png", "c.png"), "ids are the image paths"),
        (("a.png", "a.png", "b.png"), {}, ("row-1", "row-2", "row-3"), "are the numbers of the"),
        ((None, None, None), {}, ("row-1", "row-2", "row-3"), "ids are the numbers of the rows"),
        ((None, None, None), {"id": "xyz"}, ("x", "y", "z"), "ids from id"),
        (("a.png", "b.png", "c.png"), {"id": "xyz"}, ("x", "y", "z"), "ids from id"),
        (("a.png", "b.png", "c.png"), {"id": "xyy"}, ("a.png", "b.png", "c.png"), "image paths"),
    ],
)
def test_pictures_in_parquet_have_the_ids_that_they_have_with_captions(
    paths, others, names, said, tmp_path
):
    rows = [
        {
            "image": stored(number, path),
            "label": NAMES[number],
            **{name: cells[number] for name, cells in others.items()},
            "split": "train",
        }
        for number, path in enumerate(paths)
    ]
    write_parquet(tmp_path / "table.parquet", rows)
    version = define(f"mine={tmp_path / 'table.parquet'}", home=tmp_path / "home")
    assert version.kind == "image-folder"
    source = open_version(version, home=tmp_path / "home")
    found = [pair for split in source.splits() for pair in everything(source, split)]
    expected = dict(zip(names, map(png, range(3)), strict=True))
    assert dict(found) == expected
    assert names_and_classes(source)[1] == dict(zip(names, NAMES[:3], strict=True))
    assert said in source.notes()[0]
    before = {split: source.fingerprint(split) for split in source.splits()}
    rows[0]["image"]["bytes"] = png(7)
    write_parquet(tmp_path / "table.parquet", rows)
    changed = opened("image-folder", tmp_path / "table.parquet")
    assert {split: changed.fingerprint(split) for split in changed.splits()} != before


def test_shards_of_pictures_with_numbers_of_classes_are_one_dataset(tmp_path):
    """As hubs keep them: numbers of classes, a file of each split below `data`."""
    for split, numbers in {"train": (0, 1), "test": (2, 3)}.items():
        rows = [{"image": stored(number, None), "label": 2 - number % 2} for number in numbers]
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", rows, label=pa.int64())
    version = define(f"mine={tmp_path}", home=tmp_path / "home")
    source = open_version(version, home=tmp_path / "home")
    assert (version.kind, source.splits()) == ("image-folder", ("train", "test"))
    assert source.pairs("train").classes.names == ("1", "2")
    assert dict(everything(source, "test")) == {"row-1": png(2), "row-2": png(3)}
    assert dict(everything(source, "train")) == {"row-3": png(0), "row-4": png(1)}
    assert [item.id for item in source.items("test", Modality.IMAGE)] == ["row-1", "row-2"]


def test_the_same_picture_of_two_classes_is_refused_with_its_row(tmp_path):
    rows = [{"image": stored(0, None), "label": name} for name in ("dog", "cat")]
    write_parquet(tmp_path / "table.parquet", rows)
    with pytest.raises(
        DatasetFormatError, match=r"row 1.* is of class 'dog', and of 'cat' in row 2"
    ):
        opened("image-folder", tmp_path / "table.parquet")


def test_a_row_without_a_picture_and_a_column_of_none_are_one_line(tmp_path):
    rows = [{"image": stored(0, None), "label": "dog"}, {"image": None, "label": "cat"}]
    rows.append({"image": stored(1, None), "label": "cat"})
    write_parquet(tmp_path / "table.parquet", rows)
    source = opened("image-folder", tmp_path / "table.parquet")
    (row,) = source.skipped_rows()
    assert (row.place, row.reason) == ("row 2", "column 'image' is empty")
    rows = [{"image": [1, 2], "label": name} for name in ("dog", "cat")]
    (tmp_path / "table.json").write_text(json.dumps(rows))
    problem = "column 'image' must hold the path of an image, found list"
    with pytest.raises(DatasetFormatError, match=problem):
        opened("image-folder", tmp_path / "table.json")


UMLAUTS = ("Hündin", "Kätzchen", "Hündin", "Kätzchen")
OWN_COLUMNS = {"image_column": "Pfad", "class_column": "Tier"}


def lines(header, delimiter=",", names=UMLAUTS):
    rows = [f"{number}.jpg{delimiter}{name}" for number, name in enumerate(names)]
    return "\n".join([header.replace(",", delimiter), *rows]) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("t.csv", lines("image,class", ";").encode(), {}),
        ("t.csv", lines("image,class").encode("cp1252"), {}),
        ("t.csv", lines("image,class", "\t").encode("utf-16"), {}),
        ("t.tsv", lines("image,class", "\t").encode("utf-8-sig"), {}),
        ("t.csv.gz", gzip.compress(lines("image,class").encode(), mtime=0), {}),
        ("t.csv", lines("image,class", "~").encode(), {"delimiter": "~"}),
        ("t.csv", lines("image,class").encode("cp437"), {"encoding": "cp437"}),
        ("t.csv", lines("Pfad,Tier").encode(), OWN_COLUMNS),
        ("t.csv", lines("Pfad,Tier", ";").encode("cp1252"), OWN_COLUMNS),
        (
            "t.json",
            json.dumps([{"image": f"{n}.jpg", "class": one} for n, one in enumerate(UMLAUTS)]),
            {},
        ),
    ],
)
def test_tables_of_classes_are_read_as_people_save_them(name, content, options, folder, tmp_path):
    content = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(content)
    version, source = add(tmp_path, "mine", folder, options=options)
    assert (version.kind, version.options) == ("image-folder", options)
    expected = {f"{number}.jpg": name for number, name in enumerate(UMLAUTS)}
    assert names_and_classes(source) == (("Hündin", "Kätzchen"), expected)
    again = open_version(define("mine", home=tmp_path), home=tmp_path)
    assert again.fingerprint("train") == source.fingerprint("train")


def test_quotes_in_classes_are_letters_where_that_is_asked_for(folder):
    names = ('"a', '"b"', '"a', '"b"')
    (folder / "t.csv").write_text(lines("image,class", names=names))
    assert names_and_classes(opened("image-folder", folder / "t.csv", quoted=False))[0] == (
        '"a',
        '"b"',
    )


def test_options_of_tables_are_refused_where_there_are_class_folders_alone(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, ["0.jpg"])
    with pytest.raises(
        SpecError, match=r"source\.class_column is for tables of classes, found non"
    ):
        opened("image-folder", tmp_path, class_column="Tier")
    with pytest.raises(DatasetFormatError, match=r"\(source\.class_column is for tables"):
        define(f"mine={tmp_path}", home=tmp_path / "home", options={"class_column": "Tier"})


def test_a_column_of_classes_that_is_named_is_read_though_there_are_class_folders(tmp_path):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, ["0.jpg", "1.jpg"])
    rows = [
        f"{name}/{number}.jpg,{'red' if number else 'blue'}"
        for name in ("cat", "dog")
        for number in (0, 1)
    ]
    (tmp_path / "fur.csv").write_text("\n".join(["image,fur", *rows]), encoding="utf-8")
    assert names_and_classes(opened("image-folder", tmp_path))[0] == ("cat", "dog")
    named = opened("image-folder", tmp_path, class_column="fur")
    assert names_and_classes(named)[0] == ("blue", "red")


def test_a_column_that_is_the_only_one_left_holds_the_classes_in_the_order_of_their_numbers(folder):
    table = write_table(folder / "table.csv", Art=("2", "10") * 2)
    assert names_and_classes(opened("image-folder", table))[0] == ("2", "10")


def class_label_table(file, numbers, names, **columns):
    """Write numbers of classes with their names in the schema, as the library datasets does."""
    features = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    cells = [stored(number, f"{number}.png") for number in range(len(numbers))]
    table = pa.table({"image": pa.array(cells, STRUCT), "label": numbers, **columns})
    schema = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(schema), file)


def test_numbers_of_classes_have_the_names_in_the_schema_in_its_order(tmp_path):
    """Number -1 is of a class that nobody knows, and 7 of none."""
    class_label_table(tmp_path / "t.parquet", [1, 0, -1, 1, 7, 0], ["tabby", "dog"])
    version = define(f"mine={tmp_path}", home=tmp_path / "home")
    source = open_version(version, home=tmp_path / "home")
    assert version.kind == "image-folder"
    expected = {"0.png": "dog", "1.png": "tabby", "3.png": "dog", "5.png": "tabby"}
    assert names_and_classes(source) == (("tabby", "dog"), expected)
    assert [(row.place, row.reason) for row in source.skipped_rows()] == [
        ("row 3", "column 'label' holds nothing but -1"),
        ("row 5", "column 'label' has 2 classes, and none is number 7"),
    ]


def test_a_column_is_of_classes_or_images_by_the_schema_whatever_it_is_called(tmp_path):
    class_label_table(tmp_path / "t.parquet", [1, 0], ["cat", "dog"], other=["x", "y"])
    table = pq.read_table(tmp_path / "t.parquet")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    renamed = {"Bild": features["image"], "Art": features["label"]}
    schema = {"huggingface": json.dumps({"info": {"features": renamed}})}
    table = table.rename_columns(["Bild", "Art", "other"]).replace_schema_metadata(schema)
    pq.write_table(table, tmp_path / "t.parquet")
    assert names_and_classes(opened("image-folder", tmp_path / "t.parquet"))[0] == ("cat", "dog")


def test_files_that_number_their_classes_otherwise_are_refused(tmp_path):
    class_label_table(tmp_path / "train.parquet", [1, 0], ["cat", "dog"])
    class_label_table(tmp_path / "test.parquet", [1, 0], ["dog", "cat"])
    with pytest.raises(
        DatasetFormatError, match="files name the numbers of 'label' each otherwise"
    ):
        opened("image-folder", tmp_path)


@pytest.mark.parametrize("content", [b"{nope", b"[]", b'{"info": {"features": {"label": 1}}}'])
def test_a_schema_that_says_nothing_of_classes_leaves_them_numbers(content, tmp_path):
    class_label_table(tmp_path / "t.parquet", [1, 0], ["cat", "dog"])
    table = pq.read_table(tmp_path / "t.parquet").replace_schema_metadata({"huggingface": content})
    pq.write_table(table, tmp_path / "t.parquet")
    assert names_and_classes(opened("image-folder", tmp_path / "t.parquet"))[0] == ("0", "1")


def as_read_at_first(source):
    """Return what a dataset was read as before all ways of now."""
    while (before := source.as_read_before()) is not None:
        source = before
    return source


def test_classes_that_are_remembered_by_numbers_or_as_nan_stay_so(folder, tmp_path):
    """A home of before holds the fingerprints of the former reading, whatever is read now."""
    write_table(folder / "table.csv", **{"class": ("dog", "NaN", "cat", "dog")})
    class_label_table(tmp_path / "t.parquet", [1, 0, 1], ["cat", "dog"])
    for place, now, before in (
        (folder / "table.csv", ("cat", "dog"), ("NaN", "cat", "dog")),
        (tmp_path / "t.parquet", ("cat", "dog"), ("0", "1")),
    ):
        version = define(f"mine={place}", home=tmp_path / "new")
        source = open_version(version, home=tmp_path / "new")
        assert names_and_classes(source)[0] == now
        known = identified(version, as_read_at_first(source))
        home = tmp_path / f"home of {place.name}"
        assert remember(home, known)
        assert names_and_classes(open_version(define("mine", home=home), home=home))[0] == before


def test_a_reading_that_differs_in_one_split_alone_is_told_by_that_split(folder, tmp_path):
    """A row without an image changes the test split: the training split is the same in both."""
    table = folder / "table.csv"
    rows = ["0.jpg,cat,train", "1.jpg,dog,train", "2.jpg,cat,test", "3.jpg,dog,test"]
    table.write_text("\n".join(["image,class,split", *rows, "NaN,cat,test"]), encoding="utf-8")
    now = opened("image-folder", table)
    for number, reading in enumerate((now, as_read_at_first(now))):
        home = tmp_path / f"home {number}"
        version = identified(define(f"mine={table}", home=home), reading)
        assert remember(home, version)
        for source in (open_version(version, home=home), open_source("mine", home=home)):
            assert source.ids("test", Modality.IMAGE) == reading.ids("test", Modality.IMAGE)


def test_a_table_that_is_remembered_as_it_is_read_is_read_once(tmp_path, monkeypatch):
    class_label_table(tmp_path / "t.parquet", [1, 0, 1], ["cat", "dog"])
    home = tmp_path / "home"
    version = define(f"mine={tmp_path / 't.parquet'}", home=home)
    version = identified(version, open_version(version, home=home))
    assert remember(home, version)
    readings = []
    read = class_tables.open_table
    monkeypatch.setattr(
        class_tables, "open_table", lambda *args: readings.append(args) or read(*args)
    )
    open_version(version, home=home)
    assert len(readings) == 1


def test_folders_that_all_paths_begin_with_give_the_splits_unless_they_were_drawn(tmp_path):
    paths = [f"{split}/{number}.jpg" for split in ("train", "test") for number in range(4)]
    write_images(tmp_path, paths)
    rows = [f"{path},{'cat' if number % 2 else 'dog'}" for number, path in enumerate(paths)]
    table = tmp_path / "metadata.csv"
    table.write_text("\n".join(["file_name,label", *rows]), encoding="utf-8")
    source = opened("image-folder", table)
    assert source.splits() == ("train", "test")
    assert source.ids("test", Modality.IMAGE) == paths[4:]
    assert "splits are the folders that the image paths begin with" in source.notes()
    before = as_read_at_first(source)
    assert before.splits() == ("train", "val", "test")
    home = tmp_path / "home"
    assert remember(home, identified(define(f"mine={table}", home=home), before))
    again = open_source("mine", home=home)
    assert again.ids("train", Modality.IMAGE) == before.ids("train", Modality.IMAGE)


def test_splits_of_folders_and_classes_of_before_are_read_otherwise_one_by_one(tmp_path):
    """A home of before the last change knows `NaN` as no class, and drew the splits."""
    paths = [f"{split}/{number}.jpg" for split in ("train", "test") for number in range(4)]
    write_images(tmp_path, paths)
    classes = ["cat", "dog", "cat", "NaN", "cat", "dog", "cat", "dog"]
    rows = [f"{path},{name}" for path, name in zip(paths, classes, strict=True)]
    table = tmp_path / "metadata.csv"
    table.write_text("\n".join(["file_name,class", *rows]), encoding="utf-8")
    source = opened("image-folder", table)
    found = []
    while source is not None:
        found.append((len(source.splits()), names_and_classes(source)[0]))
        source = source.as_read_before()
    assert found == [(2, ("cat", "dog")), (3, ("cat", "dog")), (3, ("NaN", "cat", "dog"))]
