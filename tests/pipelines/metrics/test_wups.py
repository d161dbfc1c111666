"""WUPS by hand on a small WordNet, and the lines of the real one."""

import numpy as np
import pytest

from lightalign.pipelines.metrics import wups as module
from lightalign.pipelines.metrics.answer_scores import score_number
from lightalign.pipelines.metrics.wordnet import WordNet, find_wordnet
from lightalign.pipelines.metrics.wups import (
    set_similarity,
    word_similarity,
    wordnet_or_warning,
    wups_definition,
    wups_scores,
)

from .small_wordnet import small_wordnet

SMALL = WordNet(small_wordnet(), "small")
SEAT_TABLE, CHAIR_TABLE = 0.75, 6 / 9


@pytest.mark.parametrize(
    ("first", "second", "threshold", "similarity"),
    [
        ("seat", "table", 0.0, 0.75),
        ("seat", "table", 0.75, 0.75),
        ("seat", "table", 0.76, 0.075),
        ("chair", "chair", 0.9, 1),
        ("zzz", "zzz", 0.9, 1),
        ("Bar stool", "bar_stool", 0.9, 1),
        ("zzz", "chair", 0.0, 0),
        ("zzz", "yyy", 0.0, 0),
        ("seats", "table", 0.0, 0.75),
    ],
)
def test_the_similarity_of_two_words(first, second, threshold, similarity):
    assert word_similarity(SMALL, first, second, threshold) == pytest.approx(similarity)


@pytest.mark.parametrize(
    ("answers", "truths", "similarity"),
    [
        (["table"], ["table"], 1),
        (["table"], ["seat"], SEAT_TABLE),
        (["table"], ["chair", "table"], CHAIR_TABLE),
        (["table", "chair"], ["table"], CHAIR_TABLE),
        (["seat", "table"], ["table", "seat"], 1),
        # the seat is nearer to the chair (8 / 9), the table to itself
        (["seat", "table"], ["table", "chair"], 8 / 9),
        (["table"], ["chair", "seat"], CHAIR_TABLE * SEAT_TABLE),
        (["zzz"], ["chair"], 0),
    ],
)
def test_the_similarity_of_two_sets(answers, truths, similarity):
    assert set_similarity(SMALL, answers, truths, 0.0) == pytest.approx(similarity)


def test_wups_is_the_mean_over_questions():
    """Equal, .75 at most, and no word: a threshold of .9 counts the .75 as a tenth."""
    answers, truths = ["chair", "seat", "zzz"], ["chair", "table", "seat"]
    ends = np.array([1, 2, 3])
    assert wups_scores(SMALL, answers, truths, ends, threshold=0.0).tolist() == [1, 0.75, 0]
    strict = wups_scores(SMALL, answers, truths, ends, threshold=0.9)
    number = score_number(strict, np.array([0, 1, 1]))
    assert (number.value, number.num) == (pytest.approx(107.5 / 3), 3)


def test_several_right_answers_stand_one_question_after_the_other():
    scores = wups_scores(
        SMALL, ["table", "table"], ["chair", "table", "seat"], np.array([2, 3]), threshold=0.0
    )
    assert scores.tolist() == pytest.approx([CHAIR_TABLE, SEAT_TABLE])


def test_without_wordnet_there_is_a_line_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(module, "find_wordnet", lambda: None)
    wordnet, warning = wordnet_or_warning()
    assert wordnet is None
    assert warning.startswith("WUPS is left out, as WordNet is not installed; do: ")
    assert "\n" not in warning


@pytest.mark.parametrize(("version", "warned"), [("3.0", False), ("3.1", True)])
def test_another_wordnet_is_told(monkeypatch, version, warned):
    files = small_wordnet()
    files["data.noun"] = files["data.noun"].replace(b"WordNet 3.0", f"WordNet {version}".encode())
    wordnet = WordNet(files, "small")
    monkeypatch.setattr(module, "find_wordnet", lambda: wordnet)
    assert (wordnet_or_warning()[1] is not None) == warned
    assert f"WordNet {version}" in wups_definition(wordnet)


@pytest.mark.parametrize(
    ("threshold", "first", "second", "similarity"),
    [
        (0.0, "chair", "table", 0.8421),
        (0.0, "bed", "sofa", 0.8),
        (0.0, "cup", "mug", 0.8333),
        (0.925, "curtain", "blinds", 0.9412),
        (0.0, "2", "3", 0.875),
        (0.925, "monitor", "screen", 0.09),
        (0.9, "monitor", "screen", 0.90),
        (0.9, "chair", "table", 0.08421),
    ],
)
def test_real_answers_are_as_near_as_published_code_says(threshold, first, second, similarity):
    wordnet = find_wordnet()
    if wordnet is None or wordnet.version != "3.0":
        pytest.skip("WordNet 3.0 is not installed")
    assert word_similarity(wordnet, first, second, threshold) == pytest.approx(similarity, abs=5e-5)
