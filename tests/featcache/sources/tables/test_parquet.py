"""Pictures that stand in parquet tables, as the library datasets writes them, and its shards."""

import io
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lightalign.featcache.errors import DatasetFormatError, MissingFileError, UnreadableItemError
from lightalign.featcache.types import IMAGE_TEXT, Modality

from ..sources_helpers import ids, opened, texts_of, write_images


def png(number):
    """Return a picture of one colour; each number has its own."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def rows_of(numbers, **others):
    return [
        {
            "image": {"bytes": png(number), "path": f"{number}.png"},
            "caption": f"of {number}",
            **others,
        }
        for number in numbers
    ]


def write(file, rows, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file, **options)


def everything(source, split):
    """Return (id, content) of every picture of a split."""
    return [(item.id, item.read_bytes()) for item in source.items(split, Modality.IMAGE)]


@pytest.mark.parametrize("row_group_size", [1, 7, 100])
def test_pictures_are_read_from_the_table_in_any_order(row_group_size, tmp_path):
    file = tmp_path / "table.parquet"
    write(file, rows_of(range(50), split="train"), row_group_size=row_group_size)
    source = opened("image-text-table", file)
    assert everything(source, "train") == [(f"{number}.png", png(number)) for number in range(50)]
    items = source.items("train", Modality.IMAGE)
    for number in (49, 0, 20, 21, 19, 49):
        assert items[number].read_bytes() == png(number)
    with ThreadPoolExecutor(8) as pool:
        read = pool.map(lambda number: items[number].read_bytes(), [*range(50), *range(49, -1, -1)])
        assert list(read) == [png(number) for number in [*range(50), *range(49, -1, -1)]]
    assert source.notes()[0] == (
        "columns read: images from image, captions from caption; ids are the image paths"
    )


def test_a_column_of_bytes_is_one_of_pictures_and_rows_are_their_ids(tmp_path):
    rows = [
        {"image": png(number // 2), "caption": f"c{number}", "split": "train"}
        for number in range(6)
    ]
    write(tmp_path / "table.parquet", rows)
    source = opened("image-text-table", tmp_path)
    assert everything(source, "train") == [
        ("row-1", png(0)),
        ("row-3", png(1)),
        ("row-5", png(2)),
    ]
    assert tuple(source.pairs("train").id_pairs(IMAGE_TEXT)) == (
        ("row-1", "row-1#0"),
        ("row-1", "row-1#1"),
        ("row-3", "row-3#0"),
        ("row-3", "row-3#1"),
        ("row-5", "row-5#0"),
        ("row-5", "row-5#1"),
    )
    assert source.notes()[0].endswith("ids are the numbers of the rows")


def test_a_path_that_comes_again_with_the_same_picture_is_one_image(tmp_path):
    rows = [*rows_of([3, 4], split="train"), *rows_of([3], split="train")]
    write(tmp_path / "table.parquet", rows)
    source = opened("image-text-table", tmp_path)
    assert ids(source, "train", Modality.IMAGE) == ["3.png", "4.png"]
    assert texts_of(source, "train") == ["of 3", "of 3", "of 4"]


def test_a_path_that_comes_again_with_another_picture_names_nothing(tmp_path):
    """Hubs keep the last part of the path alone: train/0.png and test/0.png are both 0.png."""
    rows = rows_of([1, 2], split="train")
    rows[1]["image"]["path"] = "1.png"
    write(tmp_path / "table.parquet", rows)
    source = opened("image-text-table", tmp_path)
    assert everything(source, "train") == [("row-1", png(1)), ("row-2", png(2))]


def test_ids_go_before_paths(tmp_path):
    rows = [{**row, "id": 70 + number} for number, row in enumerate(rows_of([1, 2], split="train"))]
    write(tmp_path / "table.parquet", rows)
    source = opened("image-text-table", tmp_path)
    assert everything(source, "train") == [("70", png(1)), ("71", png(2))]


@pytest.mark.parametrize("num_stored", [0, 2, 4])
def test_a_picture_without_bytes_is_the_file_of_its_path(num_stored, tmp_path):
    write_images(tmp_path, ["0.png", "1.png", "2.png", "3.png"])
    rows = rows_of(range(4), split="train")
    for row in rows[num_stored:]:
        row["image"]["bytes"] = None
    rows[3:] = [{**rows[3], "image": rows[3]["image"]}]
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("caption", pa.string()),
            ("split", pa.string()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "table.parquet")
    source = opened("image-text-table", tmp_path)
    assert everything(source, "train") == [
        (f"{number}.png", png(number) if number < num_stored else b"x" * (number + 1))
        for number in range(4)
    ]


def test_a_row_without_bytes_whose_file_is_not_there_is_an_item_that_cannot_be_read(tmp_path):
    """It was never there, so extraction skips it and does not wait for it to come back."""
    rows = rows_of(range(3), split="train")
    rows[1]["image"]["bytes"] = None
    write(tmp_path / "table.parquet", rows)
    item = opened("image-text-table", tmp_path).items("train", Modality.IMAGE)[1]
    with pytest.raises(
        UnreadableItemError, match=r"No such file.*, and its row has no bytes"
    ) as it:
        item.read_bytes()
    assert not isinstance(it.value, MissingFileError)


def test_a_row_without_a_picture_is_listed(tmp_path):
    rows = rows_of(range(3), split="train")
    rows[1]["image"] = None
    write(tmp_path / "table.parquet", rows)
    source = opened("image-text-table", tmp_path)
    assert ids(source, "train", Modality.IMAGE) == ["0.png", "2.png"]
    assert [row.place for row in source.skipped_rows()] == ["row 2"]


def test_shards_of_splits_are_one_table(tmp_path):
    for number in range(2):
        shard = rows_of(range(number * 3, number * 3 + 3))
        write(tmp_path / "data" / f"train-0000{number}-of-00002.parquet", shard)
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", rows_of([6, 7]))
    source = opened("image-text-table", tmp_path)
    assert source.splits() == ("train", "val")
    assert everything(source, "train") == [(f"{one}.png", png(one)) for one in range(6)]
    assert everything(source, "val") == [("6.png", png(6)), ("7.png", png(7))]
    assert "3 files are read as one table, splits from their names" in source.notes()


def test_shards_without_splits_in_their_names_are_one_table_by_the_hash(tmp_path):
    for number in range(2):
        rows = rows_of(range(number * 5, number * 5 + 5))
        write(tmp_path / f"part-{number}.parquet", rows)
    source = opened("image-text-table", tmp_path)
    assert sum(len(ids(source, split, Modality.IMAGE)) for split in source.splits()) == 10
    assert source.splits() == ("train", "val", "test")
    assert "2 files are read as one table" in source.notes()


def test_a_split_column_goes_before_the_names_of_files(tmp_path):
    write(tmp_path / "train-0.parquet", rows_of([1], split="test"))
    write(tmp_path / "test-0.parquet", rows_of([2], split="train"))
    source = opened("image-text-table", tmp_path)
    assert everything(source, "train") == [("2.png", png(2))]


def test_files_with_other_columns_are_refused(tmp_path):
    write(tmp_path / "train-0.parquet", rows_of([1]))
    write(tmp_path / "train-1.parquet", [{"image": "x.jpg", "text": "x"}])
    with pytest.raises(DatasetFormatError, match=r"train-1.parquet: has the columns .*; name one"):
        opened("image-text-table", tmp_path)
    write(tmp_path / "train-1.parquet", [{"image": "x.jpg", "caption": "x"}])
    with pytest.raises(DatasetFormatError, match="column 'image' is of another type than"):
        opened("image-text-table", tmp_path)


def test_the_fingerprint_changes_with_a_picture_and_not_with_the_place(tmp_path):
    fingerprints = []
    for name, numbers in (("a", [1, 2, 3]), ("b", [1, 2, 3]), ("c", [1, 2, 4])):
        rows = rows_of(numbers, split="train")
        for number, row in enumerate(rows):
            row["image"]["path"], row["caption"] = f"{number}.png", "x"
        write(tmp_path / name / "table.parquet", rows)
        fingerprints.append(opened("image-text-table", tmp_path / name).fingerprint("train"))
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_a_table_that_breaks_meanwhile_is_an_item_that_cannot_be_read(tmp_path):
    file = tmp_path / "table.parquet"
    write(file, rows_of(range(4), split="train"))
    items = opened("image-text-table", file).items("train", Modality.IMAGE)
    data = file.read_bytes()
    file.write_bytes(data[:200] + bytes(200) + data[400:])
    with pytest.raises(UnreadableItemError, match=r"0\.png: .*cannot be read as parquet"):
        [item.read_bytes() for item in items]


def test_pictures_of_another_split_change_no_fingerprint(tmp_path):
    write(tmp_path / "train-0.parquet", rows_of([1, 2, 3]))
    write(tmp_path / "test-0.parquet", rows_of([4, 5]))
    before = opened("image-text-table", tmp_path)
    write(tmp_path / "test-0.parquet", rows_of([4, 6]))
    after = opened("image-text-table", tmp_path)
    assert before.fingerprint("train") == after.fingerprint("train")
    assert before.items("test", Modality.TEXT)[1] != after.items("test", Modality.TEXT)[1]


def test_the_picture_of_a_row_that_cannot_be_read_is_left_out_with_it(tmp_path):
    rows = rows_of(range(4), split="train")
    rows[2]["split"] = None
    write(tmp_path / "table.parquet", rows)
    source = opened("image-text-table", tmp_path)
    assert ids(source, "train", Modality.IMAGE) == ["0.png", "1.png", "3.png"]
    assert [row.place for row in source.skipped_rows()] == ["row 3"]
