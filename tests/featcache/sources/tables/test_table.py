"""Tables as people have them: what is read, row by row, and what is said of the rest."""

import codecs
import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightalign.featcache.errors import DatasetFormatError, SpecError
from lightalign.featcache.sources.tables.decoding import DecodedText
from lightalign.featcache.sources.tables.delimited import DelimitedRows, lines_of
from lightalign.featcache.types import Modality

from ..sources_helpers import ids, opened, texts_of, write_images

NAMES = [f"{number}.jpg" for number in range(6)]


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the images 0.jpg to 5.jpg and no table."""
    write_images(tmp_path, NAMES)
    return tmp_path


def read(folder, content, name="table.csv", **options):
    """Return the source of a table with this content."""
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return opened("image-text-table", folder / name, **options)


def captions(source):
    """Return (image, caption) of every pair, in the order of ids."""
    pairs = []
    for split in source.splits():
        text_of = {item.id: item.text for item in source.items(split, Modality.TEXT)}
        pairs += [(image, text_of[text]) for image, text in source.pairs(split).links]
    return sorted(pairs)


def lines_left_out(source):
    """Return the place of every row that is listed as not read."""
    return [row.place for row in source.skipped_rows()]


def note_with(source, word):
    """Return the only note that has a word in it."""
    (note,) = [note for note in source.notes() if word in note]
    return note


UMLAUTS = [("0.jpg", "Ein Hund läuft, müde"), ("1.jpg", "Zwei Äpfel; für 1 €"), ("2.jpg", "Größe")]


def delimited(rows, delimiter, header=("image", "caption")):
    """Return rows as Excel writes them: quoted where a cell holds the delimiter."""
    quoted = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in rows]
    return "\r\n".join(delimiter.join(row) for row in [header, *quoted]) + "\r\n"


# Delimiters and encodings


@pytest.mark.parametrize("name", ["table.csv", "table.tsv"])
@pytest.mark.parametrize(
    ("delimiter", "title"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "bar")]
)
def test_a_delimiter_is_found_whatever_the_suffix_and_told(delimiter, title, name, folder):
    source = read(folder, delimited(UMLAUTS, delimiter), name)
    assert captions(source) == UMLAUTS
    is_usual = delimiter == {"table.csv": ",", "table.tsv": "\t"}[name]
    assert is_usual is not any(f"delimiter is a {title} (set" in one for one in source.notes())


@pytest.mark.parametrize(
    ("encoding", "mark", "title"),
    [
        ("utf-8", b"", None),
        ("utf-8", codecs.BOM_UTF8, None),
        ("utf-16-le", codecs.BOM_UTF16_LE, "UTF-16 (little-endian)"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "UTF-16 (big-endian)"),
        ("utf-16-le", b"", "UTF-16 (little-endian)"),
        ("utf-16-be", b"", "UTF-16 (big-endian)"),
        ("cp1252", b"", "cp1252 (Windows, Western European)"),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_an_encoding_is_found_and_told(encoding, mark, title, delimiter, folder):
    source = read(folder, mark + delimited(UMLAUTS, delimiter).encode(encoding))
    assert captions(source) == UMLAUTS
    assert [title is not None] == list({f"encoding is {title}" in " ".join(source.notes())})


def test_options_go_before_what_is_found(folder):
    content = "image|caption;x\n0.jpg|жук;y\n".encode("koi8-r")
    source = read(folder, content, delimiter="|", encoding="koi8-r")
    assert source.notes()[0].startswith("columns read: images from image, captions from caption;x;")
    assert captions(source) == [("0.jpg", "жук;y")]
    assert note_with(source, "encoding is") == "delimiter is a bar, encoding is koi8-r"
    for written in ("tab", "\\t", "\t"):
        content = "image\tcaption, or so\n0.jpg\tx, y\n"
        assert captions(read(folder, content, delimiter=written)) == [("0.jpg", "x, y")]


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", " ", "comma and more"])
def test_a_delimiter_that_is_none_is_refused(delimiter, folder):
    with pytest.raises(SpecError, match=r"source\.delimiter must be one character between cells"):
        read(folder, "image,caption\n0.jpg,x\n", delimiter=delimiter)


@pytest.mark.parametrize("encoding", ["", "klingon", "hex", "utf-8\0", "rot13"])
def test_an_encoding_that_is_none_is_refused(encoding, folder):
    with pytest.raises(SpecError, match=r"source\.encoding must name an encoding of texts"):
        read(folder, "image,caption\n0.jpg,x\n", encoding=encoding)


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ({"delimiter": ";"}, "table.jsonl"),
        ({"quoted": False}, "table.json"),
        ({"delimiter": ";"}, "table.parquet"),
        ({"encoding": "cp1252"}, "table.parquet"),
    ],
)
def test_options_of_text_are_refused_for_other_tables(option, name, folder):
    with pytest.raises(SpecError, match=f"source.{next(iter(option))} is for .*, found {name}"):
        read(folder, "", name, **option)


def test_a_text_in_none_of_the_encodings_asks_for_its_own(folder):
    """Byte 81 is no letter in cp1252; `犬` is 8c a2 in Shift JIS, `が` 82 aa."""
    content = "image,caption\n0.jpg,犬が走る\n1.jpg,ー\n".encode("shift_jis")
    with pytest.raises(DatasetFormatError, match=r"line 3: is neither UTF-8 nor cp1252 .*encoding"):
        read(folder, content)
    expected = [("0.jpg", "犬が走る"), ("1.jpg", "ー")]
    assert captions(read(folder, content, encoding="shift_jis")) == expected


def test_lines_that_are_not_utf8_are_listed_where_the_others_are(folder):
    rows = [f"{number}.jpg,café {number}".encode() for number in range(5)]
    rows[2] = b"2.jpg,caf\xe9"
    source = read(folder, b"image,caption\n" + b"\n".join(rows))
    assert lines_left_out(source) == ["line 4"]
    assert [image for image, _ in captions(source)] == ["0.jpg", "1.jpg", "3.jpg", "4.jpg"]


def test_the_first_line_of_excel_names_the_delimiter(folder):
    source = read(folder, "sep=;\r\nimage;caption\r\n0.jpg;a, b\r\n")
    assert captions(source) == [("0.jpg", "a, b")]


def test_commas_in_a_header_with_semicolons_are_letters(folder):
    content = "Pfad;Beschreibung, kurz\n0.jpg;ein Hund, braun\n1.jpg;eine Katze\n"
    source = read(folder, content, image_column="Pfad")
    assert captions(source) == [("0.jpg", "ein Hund, braun"), ("1.jpg", "eine Katze")]


# Quotes


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
def test_a_lone_quote_takes_in_no_rows(delimiter, folder):
    """A strict reader makes one caption of the rows 1 to 4."""
    rows = [
        ("0.jpg", "plain"),
        ("1.jpg", '"The end'),
        ("2.jpg", "of it"),
        ("3.jpg", "and so on"),
        ("4.jpg", 'that is "all"'),
        ("5.jpg", "plain"),
    ]
    content = "\n".join(delimiter.join(row) for row in [("image", "caption"), *rows])
    source = read(folder, content, delimiter=delimiter)
    assert captions(source) == rows
    assert source.skipped_rows() == ()


def test_a_lone_quote_that_a_later_cell_closes_takes_in_no_rows(folder):
    """By the rules of quoting the rows 0 to 3 are one with a caption of four lines."""
    rows = [
        ("0.jpg", '"begins'),
        ("1.jpg", "b"),
        ("2.jpg", "c"),
        ("3.jpg", 'ends"'),
        ("4.jpg", "e"),
    ]
    content = "image\tcaption\n" + "\n".join("\t".join(row) for row in rows)
    assert captions(read(folder, content, "table.tsv")) == rows


def test_a_lone_quote_at_the_end_of_the_file_takes_in_nothing(folder):
    source = read(folder, 'image\tcaption\n0.jpg\tx\n1.jpg\t"y\n2.jpg\tz\n', "table.tsv")
    assert captions(source) == [("0.jpg", "x"), ("1.jpg", '"y'), ("2.jpg", "z")]


def test_a_quote_that_is_closed_within_the_cell_is_a_letter(folder):
    source = read(folder, 'image\tcaption\n0.jpg\t"Run" it says\n1.jpg\tz\n', "table.tsv")
    assert captions(source) == [("0.jpg", '"Run" it says'), ("1.jpg", "z")]


def test_two_lone_quotes_of_one_line_join_no_cells(folder):
    content = 'image\tcaption_1\tcaption_2\n0.jpg\t"one\ttwo"\n1.jpg\tx\ty\n'
    assert captions(read(folder, content, "table.tsv")) == [
        ("0.jpg", '"one'),
        ("0.jpg", 'two"'),
        ("1.jpg", "x"),
        ("1.jpg", "y"),
    ]


def test_quoted_cells_of_several_lines_are_one_caption(folder):
    """Lines behind the first have a comma, too, but no name of a file before it."""
    content = (
        'image,caption\n0.jpg,"A dog runs\nand jumps, and runs"\n1.jpg,"one ""two""\r\n\r\nthree"\n'
        "2.jpg,x\n"
    )
    assert captions(read(folder, content)) == [
        ("0.jpg", "A dog runs\nand jumps, and runs"),
        ("1.jpg", 'one "two"\r\n\r\nthree'),
        ("2.jpg", "x"),
    ]


def test_backslashes_before_quotes_are_not_of_the_caption(folder):
    """MySQL and Spark write quotes within cells so."""
    content = r"""image,caption
0.jpg,"He said \"go, now\""
1.jpg,"plain, too"
2.jpg,"\"Run\", it says"
3.jpg,"ends with \""
4.jpg,C:\x
"""
    assert captions(read(folder, content)) == [
        ("0.jpg", 'He said "go, now"'),
        ("1.jpg", "plain, too"),
        ("2.jpg", '"Run", it says'),
        ("3.jpg", 'ends with "'),
        ("4.jpg", r"C:\x"),
    ]


def test_quotes_are_letters_where_that_is_asked_for(folder):
    source = read(folder, 'image\tcaption\n0.jpg\t"x"\n1.jpg\t"y\n', "table.tsv", quoted=False)
    assert captions(source) == [("0.jpg", '"x"'), ("1.jpg", '"y')]


def test_rows_that_cannot_be_read_are_listed_by_line_and_the_others_read(folder):
    lines = [
        "image,caption",
        "0.jpg,x",
        "1.jpg,a, b",
        "2.jpg",
        "3.jpg,y",
        ",z",
        '"4.jpg,"',
        "5.jpg,w",
    ]
    source = read(folder, "\n".join([*lines, "0.jpg,again", "1.jpg,v"]))
    assert captions(source) == [
        ("0.jpg", "again"),
        ("0.jpg", "x"),
        ("1.jpg", "v"),
        ("3.jpg", "y"),
        ("5.jpg", "w"),
    ]
    assert [(row.place, row.reason) for row in source.skipped_rows()] == [
        ("line 3", "3 cells where the header has 2; quote cells that hold ','"),
        ("line 4", "1 cells where the header has 2; quote cells that hold ','"),
        ("line 6", "column 'image' must hold the path of an image, found ''"),
        ("line 7", "1 cells where the header has 2; quote cells that hold ','"),
    ]
    note = "line 3, line 4, line 6, line 7 left out, cannot be read: 3 cells where the header has 2"
    assert note_with(source, "left out").startswith(note)


def test_a_table_of_which_most_rows_cannot_be_read_is_refused(folder):
    content = "image,caption\n0.jpg,x\n1.jpg,a, b\n2.jpg,c, d\n"
    with pytest.raises(
        DatasetFormatError, match=r"line 3: 3 cells .* \(2 of 3 rows cannot be read"
    ):
        read(folder, content)


def test_empty_cells_behind_the_last_column_are_nothing(folder):
    source = read(folder, "image;caption;;\n0.jpg;x;;\n1.jpg;y;;\n2.jpg;z;;;\n")
    assert captions(source) == [("0.jpg", "x"), ("1.jpg", "y"), ("2.jpg", "z")]


@pytest.mark.parametrize("length", [131_072, 131_073, 3_000_000])
def test_cells_of_any_length_are_read(length, folder):
    long = "ab, " * (length // 4) + "x" * (length % 4)
    content = f'image,caption\n0.jpg,"{long}"\n1.jpg,{"y" * length}\n2.jpg,"a\n{long}"\n3.jpg,z\n'
    assert captions(read(folder, content)) == [
        ("0.jpg", long.strip()),
        ("1.jpg", "y" * length),
        ("2.jpg", f"a\n{long}".strip()),
        ("3.jpg", "z"),
    ]


cell = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1
).filter(str.strip)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["0.jpg", "1, 2.jpg", '3".jpg']), cell, cell), min_size=1),
    st.sampled_from([",", ";", "|", "\t"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_the_module_csv_writes_is_read_again(rows, delimiter, quoting):
    """Quotes, delimiters and line ends of any kind stand within cells."""
    content = io.StringIO()
    header = ("image", "one", "other")
    csv.writer(content, delimiter=delimiter, quoting=quoting).writerows([header, *rows])
    skipped = []
    lines = lines_of(DecodedText(content.getvalue(), "utf-8"))
    found = DelimitedRows(
        Path("table.csv"),
        lines,
        delimiter,
        lambda *one: skipped.append(one),
        is_broken=False,
        quoted=True,
    )
    assert [tuple(cells) for _, cells in found] == rows
    assert skipped == []


# Cells


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('["a dog", "zwei \\u00c4pfel"]', ["a dog", "zwei Äpfel"]),
        ("['a dog', \"it's two\"]", ["a dog", "it's two"]),
        ("['a dog' 'two dogs'\n 'three']", ["a dog", "two dogs", "three"]),
        ("['a\\'b', None, nan]", ["a'b"]),
        ('["a", null, NaN]', ["a"]),
        ("['one']", ["one"]),
        ("[]", []),
        ("[a dog]", ["[a dog]"]),
        ("[1, 2]", ["[1, 2]"]),
        ("['a', 1]", ["['a', 1]"]),
        ("[x] 'a'", ["[x] 'a'"]),
        ("a ['b']", ["a ['b']"]),
    ],
)
def test_a_list_in_a_cell_is_several_captions_and_nothing_else_is(cell, expected, folder):
    content = io.StringIO()
    csv.writer(content).writerows([["image", "caption"], ["0.jpg", cell], ["1.jpg", "x"]])
    source = read(folder, content.getvalue())
    assert [text for image, text in captions(source) if image == "0.jpg"] == sorted(expected)


def test_lists_as_numpy_writes_them_are_several_captions(folder):
    cell = str(np.array(["a dog runs along the beach with a stick", "it's a dog", 'a "dog"']))
    source = read(folder, f"image\tcaption\n0.jpg\t{' '.join(cell.split())}\n", "table.tsv")
    assert texts_of(source, "train") == [
        "a dog runs along the beach with a stick",
        "it's a dog",
        'a "dog"',
    ]


@pytest.mark.parametrize("cell", ["", " ", "NaN", "nan", "<NA>", "NULL", "None", "null", "#N/A"])
def test_a_missing_caption_is_none_and_counted(cell, folder):
    source = read(folder, f"image,caption\n0.jpg,{cell}\n0.jpg,Nan bread\n1.jpg,None of them\n")
    assert captions(source) == [("0.jpg", "Nan bread"), ("1.jpg", "None of them")]
    assert "1 empty caption dropped: line 2" in source.notes()


@pytest.mark.parametrize(
    "names", [("image", "description"), ("path", "Beschreibung"), ("image", "B")]
)
def test_a_description_or_the_only_column_left_is_the_caption(names, folder):
    header = f",id,{','.join(names)},split"
    source = read(folder, f"{header}\n0,7,0.jpg,x,train\n1,8,1.jpg,y,train\n")
    assert texts_of(source, "train") == ["x", "y"]
    assert source.notes()[0].startswith(
        f"columns read: images from {names[0]}, captions from {names[1]}"
    )


# Paths


def test_all_ways_to_write_a_path_are_one_image(folder):
    (folder / "a").mkdir()
    write_images(folder, ["a/0.jpg"])
    names = [
        "./0.jpg",
        "0.jpg",
        "a/../0.jpg",
        ".//0.jpg",
        str(folder / "0.jpg"),
        "a//0.jpg",
        "a/0.jpg",
    ]
    rows = [f"{name},caption {number}" for number, name in enumerate(names)]
    source = read(folder, "\n".join(["image,caption", *rows, "1.jpg,x", "2.jpg,y"]))
    images = {image for split in source.splits() for image in ids(source, split, Modality.IMAGE)}
    assert images == {"0.jpg", "a/0.jpg", "1.jpg", "2.jpg"}
    assert [text for image, text in captions(source) if image == "0.jpg"] == [
        f"caption {number}" for number in range(5)
    ]
    for split in source.splits():
        assert all(item.read_bytes() for item in source.items(split, Modality.IMAGE))


def test_one_image_under_two_names_cannot_be_in_two_splits(folder):
    content = "image,caption,split\n0.jpg,x,train\n./0.jpg,y,test\n"
    with pytest.raises(
        DatasetFormatError, match=r"line 2: '0.jpg' is of split 'train', and of 'test' in line 3"
    ):
        read(folder, content)


def test_an_image_that_is_written_in_one_way_keeps_its_id(folder):
    """Stores of such tables were made before: `find . -name '*.jpg'` writes them so."""
    source = read(folder, "image,caption\n./0.jpg,x\n./0.jpg,y\n./1.jpg,z\n")
    assert captions(source) == [("./0.jpg", "x"), ("./0.jpg", "y"), ("./1.jpg", "z")]


def test_ids_of_absolute_paths_stay_when_the_folder_moves(tmp_path):
    fingerprints, images = set(), set()
    for place in ("here", "somewhere/else"):
        folder = tmp_path / place
        write_images(folder / "photos", NAMES)
        rows = [f"{folder / 'photos' / name},caption,train" for name in NAMES]
        source = read(folder, "\n".join(["image,caption,split", *rows]))
        fingerprints.add(source.fingerprint("train"))
        images.add(tuple(ids(source, "train", Modality.IMAGE)))
    assert images == {tuple(f"photos/{name}" for name in NAMES)}
    assert len(fingerprints) == 1


def test_ids_of_absolute_paths_elsewhere_are_below_the_root(tmp_path):
    for place in ("here", "there"):
        write_images(tmp_path / place / "photos", NAMES)
        (tmp_path / place / "tables").mkdir()
        rows = [f"{tmp_path / place / 'photos' / name},x,train" for name in NAMES]
        content = "\n".join(["image,caption,split", *rows])
        source = read(tmp_path / place / "tables", content, root=str(tmp_path / place))
        assert ids(source, "train", Modality.IMAGE) == [f"photos/{name}" for name in NAMES]


def test_paths_of_windows_are_found(folder):
    write_images(folder, ["photos/0.jpg", "odd\\1.jpg"])
    source = read(
        folder, "image,caption\nphotos\\0.jpg,x\nphotos/0.jpg,y\nodd\\1.jpg,z\na\\b.jpg,w\n"
    )
    assert captions(source) == [
        ("a\\b.jpg", "w"),
        ("odd\\1.jpg", "z"),
        ("photos/0.jpg", "x"),
        ("photos/0.jpg", "y"),
    ]


def test_two_images_that_would_share_an_id_are_refused(tmp_path):
    write_images(tmp_path / "a", ["0.jpg"])
    write_images(tmp_path / "b", ["0.jpg"])
    content = f"image,caption\n0.jpg,x\n{tmp_path}/b/0.jpg,y\n"
    with pytest.raises(
        DatasetFormatError, match=r"would have one id, '0\.jpg'; set source\.root to"
    ):
        read(tmp_path / "a", content, root=str(tmp_path / "b"))
    source = read(tmp_path / "a", content, root=str(tmp_path))
    assert captions(source) == [("0.jpg", "x"), ("b/0.jpg", "y")]


def test_a_link_that_dots_climb_out_of_is_another_place(tmp_path):
    """`link/../0.jpg` is the file beside the folder that the link leads to."""
    write_images(tmp_path / "table", ["0.jpg"])
    write_images(tmp_path / "table" / "deep" / "er", ["1.jpg"])
    write_images(tmp_path / "table" / "deep", ["0.jpg"])
    (tmp_path / "table" / "link").symlink_to("deep/er")
    source = read(tmp_path / "table", "image,caption\n0.jpg,x\nlink/../0.jpg,y\ndeep/0.jpg,z\n")
    assert captions(source) == [("0.jpg", "x"), ("deep/0.jpg", "y"), ("deep/0.jpg", "z")]


# JSON and gzip

ROWS = [{"image": "0.jpg", "caption": ["x", "y"]}, {"image": "1.jpg", "caption": "z"}]
PAIRS = [("0.jpg", "x"), ("0.jpg", "y"), ("1.jpg", "z")]
COCO = {
    "info": {"year": 2014},
    "images": [
        {"id": 9, "file_name": "0.jpg", "width": 640},
        {"id": 7, "file_name": "1.jpg"},
        {"id": 5, "file_name": "2.jpg"},
    ],
    "annotations": [
        {"image_id": 7, "id": 1, "caption": "z"},
        {"image_id": 9, "id": 2, "caption": "x"},
        {"image_id": 9, "id": 3, "caption": "y"},
    ],
}
KARPATHY = {
    "images": [
        {"filename": "0.jpg", "split": "restval", "sentences": [{"raw": "x"}, {"raw": "y"}]},
        {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "z"}]},
    ]
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("value", [ROWS, COCO, KARPATHY, {"version": 1, "data": ROWS}])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_json_of_each_layout_is_the_same_table(value, indent, pack, folder):
    name = "table.json.gz" if pack is gzip.compress else "table.json"
    source = read(folder, pack(json.dumps(value, indent=indent).encode()), name)
    assert captions(source) == PAIRS


@pytest.mark.parametrize("name", ["table.json", "table.jsonl", "table.ndjson", "table.jsonl.gz"])
def test_objects_in_lines_are_read_whatever_the_suffix(name, folder):
    content = "\n".join(map(json.dumps, ROWS)).encode()
    assert (
        captions(read(folder, gzip.compress(content) if "gz" in name else content, name)) == PAIRS
    )


@pytest.mark.parametrize("name", ["table.csv.gz", "table.tsv.gz"])
def test_compressed_delimited_text_is_read(name, folder):
    content = delimited([("0.jpg", "x"), ("1.jpg", "z")], "\t" if "tsv" in name else ",")
    (folder / "other.txt").write_text("no table")
    (folder / name).write_bytes(gzip.compress(content.encode()))
    assert captions(opened("image-text-table", folder)) == [("0.jpg", "x"), ("1.jpg", "z")]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            gzip.compress(b"image,caption\n0.jpg,x\n" * 1000, mtime=0)[:-20],
            "is broken gzip: .*get it again",
        ),
        (b"\x1f\x8b" + b"\0" * 30, "is broken gzip"),
        (
            gzip.compress(bytes(2**27), mtime=0),
            r"unpacks to more than the 67,108,864 bytes allowed for",
        ),
    ],
    ids=["cut", "zeros", "bomb"],  # compressed bytes name their second, and workers have another
)
def test_gzip_that_is_broken_or_a_bomb_is_one_line(data, problem, folder):
    with pytest.raises(DatasetFormatError, match=problem) as refused:
        read(folder, data, "table.csv.gz")
    assert "\n" not in str(refused.value)


def test_broken_lines_of_json_are_listed_and_the_others_read(folder):
    lines = [
        json.dumps(ROWS[0]),
        "{broken",
        "[1]",
        json.dumps(ROWS[1]),
        '{"image": "2.jpg", "caption": "w"}',
    ]
    source = read(folder, "\n".join(lines), "table.jsonl")
    assert captions(source) == [*PAIRS, ("2.jpg", "w")]
    assert [row.place for row in source.skipped_rows()] == ["line 2", "line 3"]
    assert source.skipped_rows()[0].reason.startswith("is not JSON: Expecting property name")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('[{"image": "0.jpg"', r"table\.json, line 1: is not JSON"),
        ('{"images": [1, 2,\n', "is not JSON"),
        ('{"a": [{"b": 1}], "c": [{"d": 1}]}', "expected one object a line, a list of objects"),
        (
            '{"images": [{"id": 1, "file_name": "0.jpg"}], "annotations": [{"bbox": []}]}',
            "no caption;",
        ),
        ("[1, 2]", "row 1: is not a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ("", "is empty"),
    ],
)
def test_json_that_is_no_table_is_one_line(content, problem, folder):
    with pytest.raises(DatasetFormatError, match=problem) as refused:
        read(folder, content, "table.json")
    assert "\n" not in str(refused.value)


def test_a_caption_of_an_image_that_is_not_there_is_listed(folder):
    value = {**COCO, "annotations": [*COCO["annotations"], {"image_id": 1, "caption": "w"}]}
    source = read(folder, json.dumps(value), "table.json")
    assert captions(source) == PAIRS
    assert [row.place for row in source.skipped_rows()] == ["annotation 4"]


def test_the_folders_of_coco_are_one_dataset_with_its_splits(tmp_path):
    """Captions lie in `annotations`, beside those of boxes; pictures in a folder for each split."""
    (tmp_path / "annotations").mkdir()
    for year, names in (("train2017", NAMES[:4]), ("val2017", NAMES[4:])):
        write_images(tmp_path / year, names)
        value = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
            "annotations": [
                {"image_id": number, "caption": f"of {name}"} for number, name in enumerate(names)
            ],
        }
        (tmp_path / "annotations" / f"captions_{year}.json").write_text(json.dumps(value))
        (tmp_path / "annotations" / f"instances_{year}.json").write_text("{}")
    source = opened("image-text-table", tmp_path)
    assert ids(source, "train", Modality.IMAGE) == [f"train2017/{name}" for name in NAMES[:4]]
    assert ids(source, "val", Modality.IMAGE) == [f"val2017/{name}" for name in NAMES[4:]]
    assert texts_of(source, "val") == ["of 4.jpg", "of 5.jpg"]
    alone = opened("image-text-table", tmp_path / "annotations" / "captions_val2017.json")
    assert alone.root.name == "captions_val2017.json"
    assert {one for one, _ in captions(alone)} == {f"val2017/{name}" for name in NAMES[4:]}


def test_files_of_splits_are_one_table(folder):
    for split, numbers in (("train", (0, 1)), ("dev", (2,)), ("test", (3, 4))):
        rows = [f"{number}.jpg,c{number}" for number in numbers]
        (folder / f"{split}.csv").write_text("\n".join(["image,caption", *rows]))
    source = opened("image-text-table", folder)
    assert {split: texts_of(source, split) for split in source.splits()} == {
        "train": ["c0", "c1"],
        "val": ["c2"],
        "test": ["c3", "c4"],
    }
    assert note_with(source, "one table") == (
        "3 files are read as one table, splits from their names"
    )
    (folder / "train.csv").write_text("image,caption\n0.jpg,x\n1.jpg,a,b\n")
    source = opened("image-text-table", folder)
    assert lines_left_out(source) == ["train.csv, line 3"]


def test_numbered_files_of_one_name_are_one_table_and_others_are_not(folder):
    for number in range(3):
        (folder / f"part-{number}.jsonl").write_text(
            json.dumps({"image": f"{number}.jpg", "text": "x"})
        )
    source = opened("image-text-table", folder)
    assert captions(source) == [(f"{number}.jpg", "x") for number in range(3)]
    (folder / "part-2.jsonl").rename(folder / "other-2.jsonl")
    with pytest.raises(DatasetFormatError, match=r"3 tables: .*name one"):
        opened("image-text-table", folder)


def test_missing_cells_of_images_and_of_splits_are_listed(folder):
    source = read(folder, "image,caption,split\n0.jpg,x,train\nNaN,y,train\n1.jpg,z,train\n")
    assert captions(source) == [("0.jpg", "x"), ("1.jpg", "z")]
    assert lines_left_out(source) == ["line 3"]
    source = read(folder, "image,caption,split\n0.jpg,x,train\n1.jpg,y,nan\n")
    assert (captions(source), lines_left_out(source)) == ([("0.jpg", "x")], ["line 3"])


def test_files_without_splits_among_files_with_them_are_refused(folder):
    for name in ("train.csv", "others.csv"):
        (folder / name).write_text("image,caption\n0.jpg,x\n")
    with pytest.raises(
        DatasetFormatError, match=r"2 tables: \['others.csv', 'train.csv'\]; name one"
    ):
        opened("image-text-table", folder)
