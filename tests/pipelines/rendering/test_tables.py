"""Tables at the widths of terminals: what people copy stands in one piece."""

import json
import shutil

import pytest
from rich.console import Console

from lightalign.featcache.store.manifest import COPY, MANIFEST
from lightalign.pipelines.cache.listing import store_rows
from lightalign.pipelines.rendering.tables import ResultTable, rows_table
from lightalign.pipelines.rendering.training import store_table

from ...helpers import lightalign

KEYS = ["key", "kind", "layer", "type", "rows", "MB", "shards", "store"]


def drawn(table, width):
    """Return the lines that a terminal of a width is sent."""
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(table, crop=False)
    return captured.get().splitlines()


def row(**changed):
    """Return one row of a store with the longest of names."""
    return {
        "store": f"{'d' * 40}/train/{'e' * 40}--0123456789ab",
        "key": "0123456789abcdef" * 4,
        "kind": "grid:14x14",
        "layer": -1,
        "type": "bfloat16",
        "rows": 1_281_167,
        "items": 1_281_167,
        "bytes": 123_456_789_012,
        "shards": 1252,
        "finished_shards": 1252,
        "state": "complete",
        **changed,
    }


@pytest.mark.parametrize("width", [40, 80, 140, 240])
def test_keys_and_names_of_stores_are_whole_at_every_width(width):
    rows = [row(), row(state="incomplete", finished_shards=1000)]
    lines = drawn(store_table(rows), width)
    words = " ".join(lines).split()
    assert words.count("0123456789ab") == 2
    assert words.count(rows[0]["store"]) == 2
    for cell in ("grid:14x14", "-1", "bfloat16", "1281167", "123456.8", "complete", "1000"):
        assert cell in words
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)


def test_a_store_takes_one_line_where_that_fits_and_else_two():
    """At 80 columns the numbers of the longest row fit, and its name stands below."""
    rows = [row(), row(store="shapes/val/toy-text--0123456789ab")]
    wide, narrow = drawn(store_table(rows), 240), drawn(store_table(rows), 80)
    assert (len(wide), len(narrow)) == (3, 5)
    assert wide[0].split() == KEYS
    assert narrow[0].split() == KEYS[:-1]
    assert narrow[2].strip() == rows[0]["store"]
    assert all(len(line) <= 80 for line in (narrow[0], narrow[1], narrow[3], narrow[4]))


def test_words_below_a_row_are_folded_between_words_only():
    rows = [{"run": "r" * 60, "state": "finished", "what": "some words " * 12}]
    lines = drawn(rows_table(rows, below=("what",)), 80)
    assert lines[1].split() == ["r" * 60, "finished"]
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(lines[2:]).split() == ["some", "words"] * 12


def test_the_first_column_is_whole_without_lines_below():
    rows = [{"name": "n" * 50, "second": "s" * 50, "title": "a long title " * 9}]
    assert "n" * 50 in " ".join(drawn(rows_table(rows), 80)).split()


def test_letters_of_two_columns_are_counted_as_two():
    rows = [{"key": "\u6f22\u5b57", "state": "x", "what": "w" * 40}, {**row(), "what": "w"}]
    rows[1] = {"key": "abcd", "state": "y", "what": "w"}
    lines = drawn(rows_table(rows, below=("what",)), 30)
    assert lines[1].index("x") + 2 == lines[3].index("y")  # two letters take four columns


def test_a_row_may_lack_cells_and_a_later_one_have_more():
    rows = [{"image": "a", "file": "x"}, {"image": "b", "texts": "t", "file": "y"}]
    lines = drawn(rows_table(rows), 80)
    assert [line.split() for line in lines] == [
        ["image", "texts", "file"],
        ["a", "x"],
        ["b", "t", "y"],
    ]
    assert lines[1].index("x") == lines[2].index("y")


def test_a_title_is_folded_by_the_terminal_and_not_by_a_narrow_table():
    table = ResultTable("what it is of: value [95 % interval]")
    table.add_column("x")
    table.add_row("1")
    assert drawn(table, 60)[0].rstrip() == "what it is of: value [95 % interval]"
    assert [line.rstrip() for line in drawn(table, 20)[:2]] == [
        "what it is of: value",
        "[95 % interval]",
    ]


def test_columns_that_no_row_has_move_nowhere():
    """A preview of pairs of texts has no files below its rows."""
    rows = [{"first": "a", "second": "b"}]
    assert drawn(rows_table(rows, below=("file",)), 80) == drawn(rows_table(rows), 80)


def test_a_table_without_rows_is_empty():
    assert "".join(drawn(rows_table([]), 80)).strip() == ""


@pytest.fixture
def home(toy_home, tmp_path):
    """Return a home of six stores, the newest of which a test may damage."""
    shutil.copytree(toy_home / "features", tmp_path / "features")
    return tmp_path


def test_every_printed_key_and_name_is_what_the_cache_takes(home):
    lines = lightalign("cache", "ls", home=home).stdout.splitlines()
    assert lines[0].split() == KEYS
    for line in lines[1:]:
        key, name = line.split()[0], line.split()[-1]
        by_key, by_name = (
            json.loads(lightalign("cache", "info", store, "--json", home=home).stdout)["key"]
            for store in (key, name)
        )
        assert by_key == by_name
        assert by_key.startswith(key)
    key = lines[1].split()[0]
    assert lightalign("cache", "verify", key, home=home).returncode == 0
    assert lightalign("cache", "rm", key, home=home).returncode == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[" * 100_000, "too deeply nested"),
        (b"[]", "format version None"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"format_version": 2, "description": 3}', "not as lightalign writes it"),
    ],
)
def test_a_store_that_cannot_be_read_is_listed_with_the_reason(home, content, reason):
    damaged = next(folder for folder in home.glob("features/*/*/*") if folder.is_dir())
    for name in (MANIFEST, COPY):
        (damaged / name).write_bytes(content)
    rows = store_rows(home)
    assert len(rows) == len(store_rows(damaged.parents[3]))
    (unread,) = (row for row in rows if row["state"] == "unreadable")
    assert unread["store"] == str(damaged.relative_to(home / "features"))
    assert unread == rows[0]  # the newest
    listed = lightalign("cache", "ls", home=home)
    assert listed.returncode == 0
    assert reason in listed.stdout
    assert "complete" in listed.stdout  # the others
    info = lightalign("cache", "info", unread["store"], home=home)
    assert (info.returncode, info.stderr.count("\n")) == (2, 1)
    for width in (80, 140):
        assert unread["store"] in " ".join(drawn(store_table(rows), width)).split()
