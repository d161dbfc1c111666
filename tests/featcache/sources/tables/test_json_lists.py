"""A list in a JSON file is read object by object, however the file is cut into pieces."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightalign.featcache.errors import DatasetFormatError
from lightalign.featcache.sources.tables import json_lists
from lightalign.featcache.sources.tables.json_lists import (
    objects_by_key,
    objects_in,
    objects_of_list,
)

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=4)


def read(path, key="questions"):
    return list(objects_in(path, key, "question"))


@given(before=VALUES, objects=OBJECTS, after=VALUES, block=st.integers(1, 40), style=st.booleans())
def test_any_list_of_objects_comes_back_from_pieces_of_any_size(
    before, objects, after, block, style, tmp_path_factory
):
    path = tmp_path_factory.mktemp("json") / "x.json"
    value = {"info": before, "questions": objects, "license": after}
    path.write_text(json.dumps(value, ensure_ascii=style, indent=block % 3), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_READ_AT_ONCE", block)
        assert read(path) == [(f"question {n}", one) for n, one in enumerate(objects, start=1)]


def test_a_number_that_is_cut_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lists, "_READ_AT_ONCE", 1)
    (tmp_path / "x.json").write_text('\ufeff{"n": 123456.5e2, "questions": [{"a": 12345}]}')
    assert read(tmp_path / "x.json") == [("question 1", {"a": 12345})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r'expected {"questions": \[...\]}: ends early'),
        ("[1]", r'expected {"questions": \[...\]}: found \'\[\' instead'),
        ('{"annotations": []}', r'x.json: expected {"questions": \[...\]}$'),
        ('{"questions": {"a": 1}}', r'x.json: expected {"questions": \[...\]}$'),
        ('{"questions": [{"a": 1}, 7]}', r"question 2: expected an object .*: found 7"),
        ('{"questions": [{"a": 1} {"a": 2}]}', r"question 2: .*: found '{' instead of '\]'"),
        ('{"questions": [{"a": 1}, {"a":', "question 2: expected an object .*: Expecting value"),
        ('{"questions": [{"a": 1}', "question 2: expected an object .*: ends early"),
        ('{"questions": [{"a": 1}, {"a": tru}]}', "question 2: .*: Expecting value"),
        ('{"info": nothing, "questions": []}', "Expecting value"),
        ('{"questions" []}', "found '\\[' instead of ':'"),
        (f'{{"info": {"[" * 100_000}', "maximum recursion depth"),
        (f'{{"questions": [{{"a": {"[" * 100_000}', "question 1: .*maximum recursion depth"),
        (f'{{"info": {"9" * 9000}, "questions": []}}', "limit"),
    ],
)
def test_what_is_broken_is_refused_in_one_line_with_its_place(text, message, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DatasetFormatError, match=message) as refused:
        read(tmp_path / "x.json")
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "x.json") in str(refused.value)


def test_a_file_that_is_missing_or_not_utf8_is_refused(tmp_path):
    with pytest.raises(DatasetFormatError, match="cannot be read: No such file"):
        read(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(b'{"questions": [{"a": "caf\xe9"}]}')
    with pytest.raises(DatasetFormatError, match="is not UTF-8"):
        read(tmp_path / "x.json")


def test_what_is_wrong_far_before_the_end_is_not_looked_for_in_all_that_follows(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(json_lists, "_READ_AT_ONCE", 64)
    monkeypatch.setattr(json_lists, "_LONGEST", 128)
    reads = []
    original = json_lists._Reader._read_more
    monkeypatch.setattr(
        json_lists._Reader, "_read_more", lambda self: reads.append(1) or original(self)
    )
    (tmp_path / "x.json").write_text('{"questions": [{"a": "' + "b" * 100_000)
    with pytest.raises(DatasetFormatError, match="Unterminated string"):
        read(tmp_path / "x.json")
    assert len(reads) < 10


def test_several_lists_are_read_in_the_order_of_the_file(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('{"b": [{"n": 1}], "x": [[{}]], "a": [{"n": 2}, {"n": 3}], "b": [{"n": 4}]}')
    nouns = {"a": "an a", "b": "a b"}
    assert list(objects_by_key(file, nouns)) == [
        ("b", "a b 1", {"n": 1}),
        ("a", "an a 1", {"n": 2}),
        ("a", "an a 2", {"n": 3}),
    ]
    with pytest.raises(DatasetFormatError, match=r'expected {"a": \[...\], "c": \[...\]}'):
        list(objects_by_key(file, {"a": "an a", "c": "a c"}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"x.json: expected \[{...}, ...\]: found '{' instead of '\['"),
        ("", r"x.json: expected \[{...}, ...\]: ends early"),
        ("[{}, 3]", "x.json, row 2: expected an object: found 3"),
        ("[{}, {", "x.json, row 2: expected an object: Expecting"),
        ("[{}", "x.json, row 2: expected an object: ends early"),
    ],
)
def test_a_file_that_is_no_list_of_objects_is_refused_with_the_place(content, message, tmp_path):
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(DatasetFormatError, match=message):
        list(objects_of_list(file, "row"))


def test_a_file_may_be_a_list_itself(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('\ufeff[{"n": 1}, {"n": [2]}]', encoding="utf-8")
    assert list(objects_of_list(file, "row")) == [("row 1", {"n": 1}), ("row 2", {"n": [2]})]
    file.write_text("[]")
    assert list(objects_of_list(file, "row")) == []
