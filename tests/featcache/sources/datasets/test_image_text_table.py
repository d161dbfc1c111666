"""A user's own table: how columns, captions, ids and splits are found, and what is refused."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightalign.featcache.errors import DatasetFormatError, DatasetNotFoundError, SpecError
from lightalign.featcache.known_datasets import remember
from lightalign.featcache.sources.opening import define, identified, open_version
from lightalign.featcache.types import IMAGE_TEXT, Modality

from ..sources_helpers import ids, opened, texts_of, write_images


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the images a.jpg, b.jpg, c.jpg and no table."""
    write_images(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    return tmp_path


def table(folder, content, name="table.csv", **options):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return opened("image-text-table", folder, **options)


def json_lines(*rows):
    return "\n".join(map(json.dumps, rows))


def test_byte_order_mark_windows_line_ends_quotes_and_blank_lines_are_understood(folder):
    lines = ["image,caption,split", "", 'a.jpg,"one, ""two""",train', ",,", "b.jpg,été,train", ""]
    content = "\r\n".join(lines).encode("utf-8-sig")
    source = table(folder, content)
    assert ids(source, "train", Modality.IMAGE) == ["a.jpg", "b.jpg"]
    assert texts_of(source, "train") == ['one, "two"', "été"]


def test_the_table_itself_can_be_named(folder):
    table(folder, "image,caption\na.jpg,x\n")
    (folder / "other.csv").write_text("image,caption\nb.jpg,y\n")
    source = opened("image-text-table", folder / "other.csv")
    assert texts_of(source, "train") == ["y"]


def test_a_folder_with_two_tables_asks_for_one(folder):
    (folder / "other.tsv").write_text("image\tcaption\n")
    with pytest.raises(DatasetFormatError, match=r"2 tables: \['other.tsv', 'table.csv'\]; name o"):
        table(folder, "image,caption\na.jpg,x\n")


def test_a_folder_without_a_table_says_what_would_be_one(folder):
    with pytest.raises(DatasetNotFoundError, match=r"looked for one file \*\.csv or .*\*\.parquet"):
        opened("image-text-table", folder)


def test_a_file_that_is_no_table_is_refused(folder):
    with pytest.raises(DatasetFormatError, match=r"a\.jpg: is no table; known suffixes: \.csv"):
        opened("image-text-table", folder / "a.jpg")


@pytest.mark.parametrize(
    "image", ["image", "image_path", "filepath", "file_name", "filename", "Path"]
)
@pytest.mark.parametrize("caption", ["caption", "captions", "text", "sentence", "title", "Caption"])
def test_usual_column_names_are_recognised_and_named_in_the_notes(image, caption, folder):
    source = table(folder, f"number,{caption},{image}\n1,x,a.jpg\n")
    assert texts_of(source, "train") == ["x"]
    expected = (
        f"columns read: images from {image}, captions from {caption}; ids are the image paths"
    )
    assert source.notes()[0] == expected


def test_numbered_caption_columns_are_all_read_in_file_order(folder):
    source = table(folder, "image,caption_1,caption_0,title\na.jpg,one,zero,no\n")
    assert texts_of(source, "train") == ["one", "zero"]


def test_columns_can_be_named(folder):
    options = {"image_column": "photo", "caption_columns": ["de", "en"], "split_column": "part"}
    source = table(folder, "image,photo,en,de,part\n?,a.jpg,dog,Hund,dev\n", **options)
    assert source.splits() == ("val",)
    assert texts_of(source, "val") == ["Hund", "dog"]


def test_one_caption_column_can_be_named_without_a_list(folder):
    source = table(folder, "image,caption,en\na.jpg,no,yes\n", caption_columns="en")
    assert texts_of(source, "train") == ["yes"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("image_column", "photo"),
        ("caption_columns", ["caption", "photo"]),
        ("split_column", "photo"),
    ],
)
def test_a_named_column_that_is_missing_is_refused_with_the_present_ones(option, value, folder):
    with pytest.raises(DatasetFormatError, match=rf"no column 'photo' \({option}\); columns: \['i"):
        table(folder, "image,caption\na.jpg,x\n", **{option: value})


def test_options_that_name_no_column_are_refused(folder):
    with pytest.raises(SpecError, match="caption_columns names no column"):
        table(folder, "image,caption\na.jpg,x\n", caption_columns=[])
    with pytest.raises(SpecError, match="image_column must be a text"):
        table(folder, "image,caption\na.jpg,x\n", image_column=3)


@pytest.mark.parametrize(
    ("header", "option"),
    [("photo,caption", "image_column"), ("image,words,others", "caption_columns")],
)
def test_unrecognised_columns_are_refused_with_the_option_that_names_them(header, option, folder):
    with pytest.raises(DatasetFormatError, match=rf"among \['.*name it with the option {option}"):
        table(folder, f"{header}\na.jpg,x{',y' * (header.count(',') - 1)}\n")


def test_rows_of_one_image_are_one_item_and_equal_rows_keep_two_captions(folder):
    source = table(folder, "image,caption,split\na.jpg,x,train\nb.jpg,y,train\na.jpg,x,train\n")
    assert ids(source, "train", Modality.IMAGE) == ["a.jpg", "b.jpg"]
    assert tuple(source.pairs("train").id_pairs(IMAGE_TEXT)) == (
        ("a.jpg", "a.jpg#0"),
        ("a.jpg", "a.jpg#1"),
        ("b.jpg", "b.jpg#0"),
    )
    assert texts_of(source, "train") == ["x", "x", "y"]


def test_empty_captions_are_dropped_and_counted(folder):
    source = table(folder, "image,caption,split\na.jpg,  ,train\na.jpg,x,train\nb.jpg,,train\n")
    assert texts_of(source, "train") == ["x"]
    assert source.pairs("train").ids_of(Modality.IMAGE) == ("a.jpg", "b.jpg")
    assert source.notes()[1:] == (
        "2 empty captions dropped: line 2, line 4",
        "1 image without any caption kept, in no pair",
    )


def test_ids_come_from_an_id_column_that_names_each_image_once(folder):
    source = table(
        folder, "id,image,caption,split\n7,a.jpg,x,train\n7,a.jpg,y,train\n8,b.jpg,z,train\n"
    )
    assert source.pairs("train").ids_of(Modality.TEXT) == ("7#0", "7#1", "8#0")
    assert source.items("train", Modality.IMAGE)[0].path == folder / "a.jpg"
    assert source.notes()[0].endswith("; ids from id")


@pytest.mark.parametrize("second", ["2,a.jpg", "1,b.jpg", ",b.jpg"], ids=["row", "shared", "empty"])
def test_an_id_column_that_is_no_key_of_the_images_is_not_used(second, folder):
    source = table(folder, f"id,image,caption,split\n1,a.jpg,x,train\n{second},y,train\n")
    assert source.pairs("train").ids_of(Modality.IMAGE)[0] == "a.jpg"
    assert source.notes()[0].endswith("; ids are the image paths")


def test_other_split_names_are_kept_after_the_three(folder):
    source = table(folder, "image,caption,split\na.jpg,x,extra\nb.jpg,y,Test\nc.jpg,z,train\n")
    assert source.splits() == ("train", "test", "extra")


def test_an_image_in_two_splits_is_refused_with_the_line(folder):
    problem = r"table.csv, line 2: 'a.jpg' is of split 'train', and of 'val' in line 3 \(2 of 2 row"
    with pytest.raises(DatasetFormatError, match=problem):
        table(folder, "image,caption,split\na.jpg,x,train\na.jpg,y,val\n")


def test_an_image_in_two_splits_is_left_out_of_both_beside_others(folder):
    source = table(
        folder, "image,caption,split\na.jpg,x,train\nb.jpg,y,dev\na.jpg,z,test\nb.jpg,v,val\n"
    )
    assert [row.place for row in source.skipped_rows()] == ["line 2", "line 4"]
    assert (source.splits(), texts_of(source, "val")) == (("val",), ["y", "v"])


def test_a_row_without_a_split_is_left_out_where_others_have_one(folder):
    source = table(folder, "image,caption,split\na.jpg,x,train\nb.jpg,y,\n")
    (row,) = source.skipped_rows()
    assert (row.place, row.reason) == ("line 3", "gives no split: column 'split' holds ''")
    assert texts_of(source, "train") == ["x"]


def test_three_images_give_one_of_each_split_and_two_are_all_training(folder):
    source = table(folder, "image,caption\na.jpg,x\nb.jpg,y\nc.jpg,z\n")
    assert [len(source.items(split, Modality.IMAGE)) for split in source.splits()] == [1, 1, 1]
    assert table(folder, "image,caption\na.jpg,x\nb.jpg,y\n").splits() == ("train",)


def test_json_lines_hold_captions_as_text_list_or_null(folder):
    rows = json_lines(
        {"image": "a.jpg", "captions": ["x", "y"], "split": "train"},
        {"split": "train", "image": "b.jpg", "captions": "z"},
        {"split": "train", "image": "c.jpg", "captions": None},
    )
    source = table(folder, rows, "table.jsonl")
    assert texts_of(source, "train") == ["x", "y", "z"]
    assert source.notes()[1] == "1 empty caption dropped: line 3"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"image": None, "caption": "x"}, "column 'image' must hold the path of an image"),
        ({"caption": "x"}, "column 'image' must hold the path of an image, found None"),
        ({"image": {"bytes": "..."}, "caption": "x"}, "must hold the path of an image, found {"),
        ({"image": "a.jpg", "caption": 7}, "a caption must be text or a list of texts"),
    ],
)
def test_a_row_with_a_cell_of_the_wrong_type_is_left_out_and_listed_with_its_line(
    row, problem, folder
):
    source = table(folder, json_lines({"image": "a.jpg", "caption": "x"}, row), "table.jsonl")
    assert texts_of(source, "train") == ["x"]
    (row_left_out,) = source.skipped_rows()
    reason = row_left_out.reason
    assert row_left_out.place == "line 2"
    assert problem in reason
    assert f"line 2 left out, cannot be read: {reason}" in source.notes()
    with pytest.raises(DatasetFormatError, match=re.escape(f"table.jsonl, line 1: {reason}")):
        table(folder, json_lines({"image": None, **row}), "table.jsonl")


def test_parquet_reads_no_column_that_it_does_not_need(folder):
    rows = [{"path": "a.jpg", "text": ["x", "y"], "image": {"bytes": b"\xff"}, "split": "train"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    source = opened("image-text-table", folder, image_column="path")
    assert texts_of(source, "train") == ["x", "y"]


def test_broken_parquet_is_refused_in_one_line(folder):
    with pytest.raises(
        DatasetFormatError, match=r"table\.parquet: cannot be read as parquet"
    ) as caught:
        table(folder, b"PAR1 and then nothing", "table.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("table.csv", "", "table.csv: is empty, expected a header line"),
        ("table.csv", "image,caption\n", "table.csv: holds no captions"),
        ("table.csv", "image,image\n", "line 1: names a column twice"),
        ("table.jsonl", "\n", "table.jsonl: is empty"),
    ],
)
def test_empty_tables_are_refused(name, content, problem, folder):
    with pytest.raises(DatasetFormatError, match=problem):
        table(folder, content, name)


def test_paths_may_be_in_folders_or_absolute_where_that_is_allowed(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write_images(elsewhere, ["z.jpg"])
    write_images(folder, ["deep/er/y.jpg"])
    content = f"image,caption,split\n{elsewhere}/z.jpg,x,train\ndeep/er/y.jpg,y,train\n"
    items = table(folder, content, root=str(elsewhere)).items("train", Modality.IMAGE)
    assert [item.read_bytes() for item in items] == [b"x", b"x"]
    assert items[1].id == "deep/er/y.jpg"


def test_columns_like_captions_that_are_not_read_are_named_with_the_option_that_reads_them(folder):
    source = table(folder, "image,title,description,width\na.jpg,x,a dog,1\nb.jpg,y,a cat,2\n")
    assert source.notes()[0] == (
        "columns read: images from image, captions from description; ids are the image paths; not "
        "read: 'title' (to read it, add --set "
        '\'source.caption_columns=["description", "title"]\')'
    )


def test_captions_that_are_remembered_from_titles_stay_titles(folder, tmp_path):
    file = folder / "table.csv"
    file.write_text("image,title,description\na.jpg,x,a dog\nb.jpg,y,a cat\n")
    version = define(f"mine={file}", home=tmp_path / "new")
    source = open_version(version, home=tmp_path / "new")
    assert texts_of(source, "train") == ["a dog", "a cat"]
    before = opened("image-text-table", file, caption_columns=["title"])
    assert remember(tmp_path / "old", identified(version, before))
    again = open_version(define("mine", home=tmp_path / "old"), home=tmp_path / "old")
    assert texts_of(again, "train") == ["x", "y"]


PATHS_IN_FOLDERS = {  # what each gives: the split of the folder, or drawn ones
    "a folder a split": (["train/a.jpg", "./train/b.jpg", "test/c.jpg"], ("train", "test")),
    "other names": (["Train/a.jpg", "validation/b.jpg", "validation/c.jpg"], ("train", "val")),
    "one folder": (["train/a.jpg", "train/b.jpg", "train/c.jpg"], ("train", "val", "test")),
    "one beside": (["train/a.jpg", "test/b.jpg", "c.jpg"], ("train", "val", "test")),
}


@pytest.mark.parametrize(("paths", "splits"), PATHS_IN_FOLDERS.values(), ids=PATHS_IN_FOLDERS)
def test_folders_that_all_paths_begin_with_give_the_splits(paths, splits, tmp_path):
    """As the library datasets reads one `metadata.csv` above `train` and `test`."""
    write_images(tmp_path, paths)
    rows = [f"{path},caption {number}" for number, path in enumerate(paths)]
    source = table(tmp_path, "\n".join(["file_name,text", *rows]), "metadata.csv")
    assert source.splits() == splits
    by_folder = "splits are the folders that the image paths begin with" in source.notes()
    assert by_folder == (len(splits) == 2)
    if by_folder:
        assert texts_of(source, splits[1])[-1] == "caption 2"


def test_a_split_column_goes_before_folders(tmp_path):
    write_images(tmp_path, ["train/a.jpg", "test/b.jpg"])
    source = table(tmp_path, "image,caption,split\ntrain/a.jpg,x,test\ntest/b.jpg,y,val\n")
    assert (source.splits(), texts_of(source, "test")) == (("val", "test"), ["x"])


@pytest.mark.parametrize("columns", ["image,title", "image,title,description"])
def test_drawn_splits_that_are_remembered_stay_drawn(columns, tmp_path):
    """Beside folders of splits, and with the titles that once were the captions, too."""
    paths = ["train/a.jpg", "train/b.jpg", "test/c.jpg"]
    write_images(tmp_path, paths)
    more = ",words" * columns.count("description")
    content = "\n".join([columns, *(f"{path},title of {path}{more}" for path in paths)])
    source = table(tmp_path, content)
    assert source.splits() == ("train", "test")
    while (before := source.as_read_before()) is not None:
        source = before
    assert source.splits() == ("train", "val", "test")
    version = define(f"mine={tmp_path / 'table.csv'}", home=tmp_path / "old")
    assert remember(tmp_path / "old", identified(version, source))
    again = open_version(define("mine", home=tmp_path / "old"), home=tmp_path / "old")
    assert again.splits() == ("train", "val", "test")
    assert texts_of(again, "train") == texts_of(source, "train")
    assert texts_of(again, "train")[0].startswith("title of")
