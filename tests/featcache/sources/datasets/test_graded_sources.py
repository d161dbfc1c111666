"""Every dataset of graded text pairs in each of its layouts: what all share, then broken files."""

import codecs
import gzip
import json

import pytest

from lightalign.featcache.errors import (
    DatasetFormatError,
    SpecError,
    UnknownNameError,
)
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.types import Modality

from ..graded_helpers import (
    GRADED_LAYOUTS,
    glue_qqp,
    glue_stsb,
    graded,
    part_of_qqp,
    published_mrpc,
    published_stsb,
    semeval_sick,
    training_part_of_mrpc,
    whole_sick,
    write_tabbed,
)
from ..sources_helpers import ids, opened, texts_of, written

CASES = [
    pytest.param(name, write, id=f"{name}-{write.__name__}")
    for name, writers in GRADED_LAYOUTS.items()
    for write in writers
]
HASHED = (part_of_qqp, training_part_of_mrpc)
AS_PUBLISHED = [case for case in CASES if case.values[1] not in HASHED]
SCALES = {"qqp": (0, 1), "mrpc": (0, 1), "stsb": (0, 5), "sick": (1, 5)}


def triples(source, split):
    """Return both texts and the grade of every pair of one split."""
    text_of = {item.id: item.text for item in source.items(split, Modality.TEXT)}
    grades = source.pairs(split).grades
    return [(text_of[first], text_of[second], grade) for first, second, grade in grades.links]


@pytest.mark.parametrize(("name", "write"), CASES)
def test_texts_have_ids_of_their_own_and_every_grade_is_of_the_scale(name, write, tmp_path):
    source = written(name, write, tmp_path)
    seen = []
    for split in source.splits():
        pairs = source.pairs(split)
        grades = pairs.grades
        texts = ids(source, split, Modality.TEXT)
        seen += texts
        assert list(pairs.ids_of(Modality.TEXT)) == texts == list(source.ids(split, Modality.TEXT))
        assert len(set(texts_of(source, split))) == len(texts)
        assert {name for link in grades.links for name in link[:2]} == set(texts)
        assert all(grades.lowest <= link[2] <= grades.highest for link in grades.links)
        assert grades.binary == (name in {"qqp", "mrpc"})
        assert (grades.lowest, grades.highest) == SCALES.get(name, (0.25, 4.25))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(("name", "write"), CASES)
def test_there_are_no_images_and_nothing_belongs_to_one(name, write, tmp_path):
    source = written(name, write, tmp_path)
    assert (
        (*source.items("train", Modality.IMAGE),) == (*source.ids("train", Modality.IMAGE),) == ()
    )
    pairs = source.pairs("train")
    assert (pairs.ids.keys(), pairs.pairs, pairs.classes) == ({Modality.TEXT}, {}, None)


@pytest.mark.parametrize(("name", "write"), AS_PUBLISHED)
def test_published_splits_are_read_in_file_order_with_quotes_as_letters(name, write, tmp_path):
    source = written(name, write, tmp_path)
    for split in source.splits():
        lowest = 1 if name == "sick" else 0
        rows = graded(split, binary=name in {"qqp", "mrpc"}, lowest=lowest)
        expected = [(row.first, row.second, min(row.grade, 5)) for row in rows]
        assert triples(source, split) == expected
    assert not any("SHA-256" in note for note in source.notes())


def test_the_splits_are_those_of_the_layout(tmp_path):
    for write, name, splits in (
        (published_stsb, "stsb", ("train", "val", "test")),
        (published_mrpc, "mrpc", ("train", "test")),
        (whole_sick, "sick", ("train", "val", "test")),
        (semeval_sick, "sick", ("train", "val", "test")),
    ):
        assert written(name, write, tmp_path / write.__name__).splits() == splits


@pytest.mark.parametrize(("name", "write"), [("qqp", part_of_qqp), ("mrpc", training_part_of_mrpc)])
def test_one_file_alone_is_split_by_the_hash_of_its_texts_with_a_note(name, write, tmp_path):
    source = written(name, write, tmp_path)
    (note,) = source.notes()
    assert "1 test and 1 val pairs chosen by the SHA-256 of their texts" in note
    found = [triple for split in source.splits() for triple in triples(source, split)]
    assert sorted(found) == sorted(map(tuple, graded("train", binary=True)))
    file = next(tmp_path.iterdir())
    header, *lines = file.read_text().splitlines()
    file.write_text("\n".join([header, *reversed(lines)]))
    turned = opened(name, tmp_path)
    assert triples(turned, "test") == triples(source, "test")


def test_a_file_can_be_named_itself(tmp_path):
    published_stsb(tmp_path)
    source = open_source(f"stsb={tmp_path / 'sts-dev.csv'}", home=tmp_path)
    assert source.splits() == ("val",)  # as its name says
    assert sorted(triples(source, "val")) == sorted(map(tuple, graded("val", binary=False)))


def test_one_changed_grade_changes_the_fingerprint(tmp_path):
    before = written("stsb", glue_stsb, tmp_path)
    old = [before.fingerprint(split) for split in ("train", "val")]
    file = tmp_path / "dev.tsv"
    file.write_text(file.read_text().replace("\t1.25\n", "\t1.5\n", 1))
    after = opened("stsb", tmp_path)
    assert after.fingerprint("train") == old[0]
    assert after.fingerprint("val") != old[1]


def test_a_test_part_without_grades_is_passed_over_with_a_note(tmp_path):
    source = written("stsb", glue_stsb, tmp_path)
    assert source.splits() == ("train", "val")
    assert source.notes() == ("test.tsv left out: it has no grades",)
    with pytest.raises(UnknownNameError, match="no split named 'test'"):
        source.pairs("test")


def test_a_pair_with_an_empty_text_is_left_out_and_counted(tmp_path):
    write_tabbed(
        tmp_path / "qqp_dev.tsv",
        ["question1", "question2", "is_duplicate"],
        [("a", "b", 0), ("a", " ", 1), ("c", "b", 1)],
    )
    source = opened("qqp", tmp_path)
    assert triples(source, "val") == [("a", "b", 0.0), ("c", "b", 1.0)]
    assert ids(source, "val", Modality.TEXT) == ["val-1#1", "val-1#2", "val-3#1"]
    assert "1 pair with an empty text left out" in source.notes()


def test_few_broken_lines_of_qqp_are_left_out_and_many_are_an_error(tmp_path):
    """One line of 2,001 is broken, under a thousandth; one of 13 is far more."""
    row = (0, 1, 2, "a", "b", 1)
    header = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
    write_tabbed(tmp_path / "train.tsv", header, [row, ("half a question",), *[row] * 1999])
    write_tabbed(tmp_path / "dev.tsv", header, [row])
    assert opened("qqp", tmp_path).notes() == (
        "1 broken line of train.tsv left out, the first at line 3",
    )
    glue_qqp(tmp_path)
    with (tmp_path / "train.tsv").open("a") as stream:
        stream.write("half a question\n")
    with pytest.raises(DatasetFormatError, match=r"line 14: 1 fields where the header has 6"):
        opened("qqp", tmp_path)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (["sentence1", "sentence2", "rating"], ("a", "b", 1), r"no column of grades.*score"),
        (["sentence1", "other", "score"], ("a", "b", 1), r"no column of second texts among"),
        (["sentence1", "sentence2", "score"], ("a", "b", "high"), r"line 2: grade 'high' is not 0"),
        (["sentence1", "sentence2", "score"], ("a", "b", 5.5), r"line 2: grade 5.5 is not 0 to 5"),
        (["sentence1", "sentence2", "score"], ("a", "b", "nan"), r"line 2: grade nan is not 0 to"),
        (["sentence1", "sentence2", "score"], ("a", "b"), r"line 2: 2 fields where the header"),
        (["sentence1", "sentence2", "score"], ("a", "b", 1, 2), r"line 2: 4 fields where the"),
        (["sentence1", "sentence2", "score"], None, r"train.tsv: holds no pairs"),
    ],
)
def test_a_broken_file_is_refused_with_its_place(header, row, message, tmp_path):
    write_tabbed(tmp_path / "train.tsv", header, [] if row is None else [row])
    with pytest.raises(DatasetFormatError, match=message):
        opened("stsb", tmp_path)


def test_an_empty_file_and_a_label_that_is_none_are_refused(tmp_path):
    (tmp_path / "mrpc_train.tsv").write_text("")
    with pytest.raises(DatasetFormatError, match="is empty"):
        opened("mrpc", tmp_path)
    rows = [("0.5", "a", "b")]
    write_tabbed(tmp_path / "mrpc_train.tsv", ["label", "sentence1", "sentence2"], rows)
    with pytest.raises(DatasetFormatError, match=r"line 2: grade 0\.5 is not 0 or 1"):
        opened("mrpc", tmp_path)


def test_a_table_of_labels_is_binary_and_its_columns_may_be_named(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("left,right,same\n" + "".join(f"a{n},b{n},{n % 2}\n" for n in range(4)))
    columns = {"first_column": "left", "second_column": "right", "grade_column": "same"}
    source = open_source(f"text-pair-table={file}", home=tmp_path, options=columns)
    assert source.pairs("train").grades.binary
    assert source.notes()[0] == "columns read: left, right, same; grades are labels, 0 or 1"
    with pytest.raises(
        DatasetFormatError, match=r"no column of texts among .* option first_column"
    ):
        open_source(f"text-pair-table={file}", home=tmp_path)
    with pytest.raises(DatasetFormatError, match=r"has no column 'middle' \(grade_column\)"):
        open_source(
            f"text-pair-table={file}", home=tmp_path, options={**columns, "grade_column": "middle"}
        )


def test_the_scale_of_a_table_can_be_set_and_is_checked(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text('first\tsecond\tgrade\na "b\tc\t2\nd\te\t4\nf\tg\t3\n')
    options = {"quoted": False, "lowest": 1, "highest": 5}
    source = open_source(f"text-pair-table={file}", home=tmp_path, options=options)
    grades = source.pairs("train").grades
    assert (grades.lowest, grades.highest, grades.binary) == (1, 5, False)
    found = [text for split in source.splits() for text in texts_of(source, split)]
    assert 'a "b' in found
    with pytest.raises(DatasetFormatError, match="grade 4 is not 1 to 3"):
        open_source(f"text-pair-table={file}", home=tmp_path, options={**options, "highest": 3})
    with pytest.raises(SpecError, match="go from 5 to 4: not a scale"):
        open_source(
            f"text-pair-table={file}",
            home=tmp_path,
            options={**options, "lowest": 5, "highest": None},
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("first,second,grade\na,b,\n", "line 2: grade '' is not a number"),
        ("first,second,grade\na,b\n", "line 2: 2 cells where the header has 3"),
        ("first,second,grade\n", "holds no pairs"),
        ("", "is empty"),
        ("first,second,grade,split\na,b,1,\n", "line 2: gives no split"),
    ],
)
def test_a_broken_table_is_refused_with_its_place(text, message, tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(DatasetFormatError, match=message):
        open_source(f"text-pair-table={file}", home=tmp_path)


def pairs_of(place, **options):
    """Return (first, second, grade) of every pair of a table, and its source."""
    source = open_source(f"text-pair-table={place}", home=place, options=options)
    pairs = []
    for split in source.splits():
        text_of = {item.id: item.text for item in source.items(split, Modality.TEXT)}
        links = source.pairs(split).grades.links
        pairs += [(text_of[one], text_of[other], grade) for one, other, grade in links]
    return sorted(pairs), source


PAIRS = [("c", "d, e", 1.0), ("f", '"g', 3.25), ("Äpfel; Öl", "b", 0.5)]


def test_a_table_of_excel_is_read_with_its_decimal_commas(tmp_path):
    rows = ["first;second;grade", '"Äpfel; Öl";b;0,5', "c;d, e;1", 'f;"g;3,25']
    (tmp_path / "mine.csv").write_bytes("\r\n".join(rows).encode("cp1252"))
    found, source = pairs_of(tmp_path)
    assert found == PAIRS
    assert "delimiter is a semicolon, encoding is cp1252" in source.notes()[1]


def test_a_table_of_json_in_utf_16_and_gzip_is_read(tmp_path):
    rows = [{"text1": first, "text2": second, "score": grade} for first, second, grade in PAIRS]
    content = codecs.BOM_UTF16_LE + json.dumps(rows, ensure_ascii=False).encode("utf-16-le")
    (tmp_path / "mine.json.gz").write_bytes(gzip.compress(content))
    assert pairs_of(tmp_path)[0] == PAIRS


def test_rows_that_hold_no_pair_are_listed_and_the_others_read(tmp_path):
    lines = [
        "first\tsecond\tgrade",
        "a\tb\t1",
        "c\td",
        "e\tf\tgood",
        "g\th\t2",
        "i\tNaN\t1",
        "k\tl\t3",
    ]
    (tmp_path / "mine.tsv").write_text("\n".join(lines))
    found, source = pairs_of(tmp_path)
    assert found == [("a", "b", 1.0), ("g", "h", 2.0), ("k", "l", 3.0)]
    assert [(row.place, row.reason) for row in source.skipped_rows()] == [
        ("line 3", "2 cells where the header has 3; quote cells that hold '\\t'"),
        ("line 4", "grade 'good' is not a number"),
    ]
    assert "1 pair with an empty text left out" in source.notes()


def test_a_lone_quote_in_a_table_of_pairs_takes_in_no_rows(tmp_path):
    lines = ["first\tsecond\tgrade", 'a\t"b\t1', "c\td\t2", 'e\tf"\t3', 'g\t"h"\t4']
    (tmp_path / "mine.tsv").write_text("\n".join(lines))
    assert pairs_of(tmp_path)[0] == [
        ("a", '"b', 1.0),
        ("c", "d", 2.0),
        ("e", 'f"', 3.0),
        ("g", "h", 4.0),
    ]


def test_files_of_splits_are_one_table_of_pairs(tmp_path):
    for split in ("train", "dev"):
        (tmp_path / f"{split}.tsv").write_text(f"first\tsecond\tgrade\n{split}\tb\t1\nc\td\t2\n")
    _, source = pairs_of(tmp_path)
    assert source.splits() == ("train", "val")
    assert texts_of(source, "val")[0] == "dev"


def test_a_published_file_in_utf_16_is_read(tmp_path):
    content = "quality\t#1 String\t#2 String\n1\té\tb\n0\tc\td\n1\te\tf\n"
    (tmp_path / "mrpc.tsv").write_bytes(codecs.BOM_UTF16_BE + content.encode("utf-16-be"))
    source = open_source(f"mrpc={tmp_path}", home=tmp_path)
    assert "é" in [text for split in source.splits() for text in texts_of(source, split)]
