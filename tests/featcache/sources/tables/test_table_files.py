"""Which files of a folder are one table."""

from pathlib import Path

import pytest

from lightalign.featcache.errors import DatasetNotFoundError, SeveralTablesError
from lightalign.featcache.sources.tables.table_files import find_table, split_of_name, table_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("captions_val2017.json", "val"),
        ("my.dev.csv.gz", "val"),
        ("test.tsv", "test"),
        ("train_test.csv", None),
        ("trained.csv", None),
    ],
)
def test_a_word_in_the_name_of_a_file_gives_its_split(name, split):
    assert split_of_name(Path(name)) == split


def test_files_of_splits_are_one_table_and_the_whole_beside_them_is_left_out():
    root = Path("dataset")
    files = [root / name for name in ("all.csv", "test.csv", "train.csv")]
    table = table_of(files, root)
    assert table is not None
    assert (table.files, table.splits) == ((files[1], files[2]), ("test", "train"))
    assert table.left_out == (files[0],)
    assert table.place_of(1, "line 7") == "train.csv, line 7"


def test_files_of_any_names_are_several_tables_and_none_is_missing(tmp_path):
    with pytest.raises(DatasetNotFoundError) as missing:
        find_table(tmp_path, name="mine", content="captions")
    assert missing.value.lacking.startswith("looked for one file *.csv or one file *.tsv")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("image,caption\n")
    with pytest.raises(SeveralTablesError, match=r"holds 2 tables: \['a.csv', 'b.csv'\]"):
        find_table(tmp_path, name="mine", content="captions")
