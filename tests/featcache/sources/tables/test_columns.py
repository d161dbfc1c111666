"""What columns are called, and what their texts look like."""

import pytest

from lightalign.featcache.sources.tables.columns import ColumnTexts, caption_names, is_like_caption

CHINESE = ["一只狗在草地上奔跑", "一只猫坐在窗台上", "两个孩子在公园里玩耍"]
JAPANESE = ["犬が公園を走っている", "猫が窓辺で寝ている"]
THAI = ["สุนัขวิ่งในสวนสาธารณะ 1", "แมวนอนอยู่ข้างหน้าต่าง2"]


@pytest.mark.parametrize(
    "texts", [["a dog", "a red cat"], CHINESE, JAPANESE, THAI, ["2个人在公园", "3只狗在跑"]]
)
def test_different_texts_of_several_words_are_captions(texts):
    found = ColumnTexts.of(texts)
    assert found.are_captions
    assert not found.are_classes


@pytest.mark.parametrize(
    "texts", [["dog", "cat"] * 2, ["red fox", "polar bear"] * 3, ["狗", "猫"] * 2, ["0", "1"] * 2]
)
def test_few_short_texts_that_repeat_are_classes(texts):
    found = ColumnTexts.of(texts)
    assert found.are_classes
    assert not found.are_captions


@pytest.mark.parametrize(
    "texts",
    [["Hund", "Katze", "Maus"], ["a photo of a dog", "a photo of a cat"] * 2, ["dog"] * 4, []],
)
def test_single_words_that_differ_and_sentences_that_repeat_are_neither_for_certain(texts):
    found = ColumnTexts.of(texts)
    assert not found.are_captions
    assert not found.are_classes


@pytest.mark.parametrize("texts", [["640", "480"], ["AB-01", "AB-02"], ["0,5", "-1.25"]])
def test_numbers_and_codes_are_no_captions(texts):
    assert ColumnTexts.of(texts).are_codes
    assert not ColumnTexts.of(texts).are_captions


def test_words_and_different_texts_are_counted_without_empty_ones():
    """Of `two dogs` and twice `一只狗在跑`: (2 + 2.5 + 2.5) / 3 words."""
    found = ColumnTexts.of(["two dogs", "", "一只狗在跑", " ", "一只狗在跑 "])
    assert found.describe() == "2 different texts in 3 rows, 2.3 words on average"


@pytest.mark.parametrize(
    ("columns", "read", "once"),
    [
        (["title", "description"], ("description",), ("title",)),
        (["title", "Text"], ("Text",), ("Text",)),
        (["title"], ("title",), ("title",)),
        (["caption", "caption_2"], ("caption", "caption_2"), ("caption_2",)),
        (
            ["text", "caption_1", "caption_2"],
            ("caption_1", "caption_2"),
            ("caption_1", "caption_2"),
        ),
        (["caption", "caption.1"], ("caption", "caption.1"), ("caption",)),
        (["width"], (), ()),
    ],
)
def test_title_comes_last_and_numbered_columns_go_with_the_one_without_a_number(
    columns, read, once
):
    assert caption_names(columns) == read
    assert caption_names(columns, as_once=True) == once


def test_names_with_a_word_for_texts_are_like_those_of_captions():
    alike = ["caption_de", "alt_text", "raw captions", "Title", "description2", "comment"]
    assert [name for name in alike if not is_like_caption(name)] == []
    others = ["context", "subtitle_id", "width", "class", "texture"]
    assert [name for name in others if is_like_caption(name)] == []
