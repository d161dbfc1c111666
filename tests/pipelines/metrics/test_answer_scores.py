"""VQA accuracy by hand, against the official leave-one-out mean and plain loops."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightalign.featcache.errors import DatasetFormatError
from lightalign.pipelines.metrics.answer_scores import (
    AnswerTargets,
    answer_numbers,
    majority_answer,
    score_difference,
    score_number,
    score_numbers_by_kind,
    soft_scores,
)
from lightalign.pipelines.metrics.answer_vocabulary import AnswerVocabulary
from lightalign.pipelines.metrics.bootstrap import BootstrapDraws
from lightalign.pipelines.metrics.intervals import drawn_share_interval

SPELLINGS = ["red", "Red.", "two", "2", "no", "blue", "a cat"]
LIST = AnswerVocabulary(("no", "2", "red"))


def targets_of(questions, vocabulary=LIST, chosen=None):
    annotated = [answer for answers in questions for answer in answers]
    ends = np.cumsum([len(answers) for answers in questions], dtype=np.int64)
    chosen = [answers[0] for answers in questions] if chosen is None else chosen
    return AnswerTargets.of(vocabulary, annotated, ends, chosen)


def plain_rows(questions, vocabulary):
    """Return the table of scores, by loops."""
    table = np.zeros((len(questions), len(vocabulary)))
    for row, answers in enumerate(questions):
        places = [vocabulary.places([answer]).item() for answer in answers]
        for place in range(len(vocabulary)):
            if len(answers) == 10:
                table[row, place] = [0, 0.3, 0.6, 0.9, 1, 1, 1, 1, 1, 1, 1][places.count(place)]
            else:
                table[row, place] = places[0] == place
    return table


@pytest.mark.parametrize("count", range(11))
def test_a_soft_score_is_the_official_leave_one_out_mean(count):
    """Of ten annotators `count` gave the answer; each is left out once."""
    gave = [True] * count + [False] * (10 - count)
    accuracies = [
        min(Fraction(sum(gave) - gave[left_out], 3), Fraction(1)) for left_out in range(10)
    ]
    assert soft_scores(np.array([count])).item() == float(sum(accuracies) / 10)


def test_spellings_of_one_answer_count_together():
    """Three wrote 2 in some way, two red, one no; four blue, which is not in the list."""
    question = ["two", "2", "Two.", "red", "Red", "no", *["blue"] * 4]
    targets = targets_of([question])
    assert targets.dense(np.array([0])).round(6).tolist() == [
        [np.float32(v) for v in (0.3, 0.9, 0.6)]
    ]


def test_as_published_by_vle_spellings_count_apart():
    question = ["two", "2", "2", "red", "Red", "no", *["blue"] * 4]
    vocabulary = AnswerVocabulary(LIST.answers, normalise=False)
    targets = targets_of([question], vocabulary)
    assert targets.dense(np.array([0])).round(6).tolist() == [
        [np.float32(v) for v in (0.3, 0.6, 0.3)]
    ]


@pytest.mark.parametrize("num", [1, 2, 3, 9, 11])
def test_any_other_number_of_answers_makes_the_label_the_class(num):
    targets = targets_of([["red", *["no"] * (num - 1)]])
    assert targets.dense(np.array([0])).tolist() == [[0, 0, 1]]


questions_strategy = st.lists(
    st.one_of(
        st.lists(st.sampled_from(SPELLINGS), min_size=10, max_size=10),
        st.lists(st.sampled_from(SPELLINGS), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50)
@given(questions_strategy, st.data())
def test_targets_are_those_of_plain_loops(questions, data):
    targets = targets_of(questions)
    expected = plain_rows(questions, LIST)
    rows = data.draw(st.lists(st.integers(0, len(questions) - 1), max_size=10))
    rows = np.array(rows, dtype=np.int64)
    dense = targets.dense(rows)
    assert dense.dtype == np.float32
    np.testing.assert_allclose(dense, expected[rows], atol=1e-7)
    answers = np.array([data.draw(st.integers(0, 2)) for _ in questions])
    np.testing.assert_array_equal(
        targets.scores_of(answers), expected[np.arange(len(questions)), answers]
    )
    np.testing.assert_array_equal(targets.unlisted, expected.sum(axis=1) == 0)
    np.testing.assert_allclose(targets.chance, expected.mean(axis=1), atol=1e-12)
    assert (targets.scores > 0).all()


def test_targets_of_no_listed_answer_are_all_zero():
    targets = targets_of([["blue"], ["cat"] * 10])
    assert targets.dense(np.arange(2)).tolist() == [[0] * 3] * 2
    assert targets.scores_of(np.array([1, 2])).tolist() == [0, 0]
    assert targets.unlisted.tolist() == [True, True]
    assert targets.labels.tolist() == [-1, -1]


def test_a_place_that_is_none_of_the_list_has_no_score():
    targets = targets_of([["red"], ["red"]])
    with pytest.raises(AssertionError, match="places are those of the list"):
        targets.scores_of(np.array([2, -1]))


def test_questions_whose_answer_is_in_no_list_count_as_wrong():
    """Right, wrong, unlisted, and three of ten: (1 + 0 + 0 + 0.9) / 4."""
    questions = [["red"], ["no"], ["blue"], ["two"] * 3 + ["blue"] * 7]
    targets = targets_of(questions)
    numbers = answer_numbers(
        targets.scores_of(np.array([2, 2, 2, 1])),
        np.array([0, 0, 1, 2]),
        {"by_answer_type": ["other", "yes/no", "other", "number"]},
        targets.chance,
    )
    assert numbers["accuracy"].value == pytest.approx(47.5)
    assert numbers["accuracy"].num == 4
    assert numbers["accuracy"].chance == pytest.approx(100 * (1 / 3 + 1 / 3 + 0 + 0.3) / 4)
    assert targets.unlisted.tolist() == [False, False, True, False]
    by_type = {kind: table["accuracy"] for kind, table in numbers["by_answer_type"].items()}
    assert list(by_type) == ["number", "other", "yes/no"]
    assert [number.value for number in by_type.values()] == pytest.approx([90, 50, 0])
    assert [number.num for number in by_type.values()] == [1, 2, 1]


def test_intervals_are_those_of_drawing_whole_images():
    """Against the draws of the questions of each kind alone."""
    random = np.random.default_rng(3)
    scores = random.choice([0, 0.3, 0.6, 0.9, 1], 300)
    images = np.sort(np.concatenate([np.arange(60), random.integers(60, size=240)]))
    kinds = random.choice(["colour", "count"], 300)
    numbers = score_numbers_by_kind(scores, images, kinds.tolist())
    for kind, number in numbers.items():
        members = kinds == kind
        drawn = BootstrapDraws(60).means(100 * scores[members][:, None], images[members])[:, 0]
        expected = drawn_share_interval(
            100 * scores[members].mean(),
            drawn,
            groups=len(set(images[members].tolist())),
            items=int(members.sum()),
        )
        assert number.value == pytest.approx(100 * scores[members].mean())
        assert number.interval == pytest.approx(expected)


def test_questions_that_depend_on_their_image_have_a_wider_interval():
    """Ten questions an image, all right or all wrong: they count as the images do."""
    hits = np.repeat(np.arange(40) % 2, 10).astype(float)
    of_images = score_number(hits, np.repeat(np.arange(40), 10)).interval
    alone = score_number(hits, np.arange(400)).interval
    assert (of_images[1] - of_images[0]) / (alone[1] - alone[0]) == pytest.approx(10**0.5, rel=0.1)


def test_all_wrong_questions_have_an_interval_with_a_width():
    number = score_number(np.zeros(20), np.arange(20))
    assert number.interval[0] == 0
    assert 10 < number.interval[1] < 20


def test_a_single_question_has_an_accuracy():
    number = score_number(np.array([0.9]), np.array([0]))
    assert number.value == 90
    assert number.interval[0] < 90 < number.interval[1]


def test_too_many_kinds_of_questions_are_refused():
    kinds = [f"kind {place}" for place in range(257)]
    with pytest.raises(
        DatasetFormatError, match="257 questions are of 257 kinds, such as 'kind 0'"
    ):
        score_numbers_by_kind(np.zeros(257), np.arange(257), kinds)


def test_a_difference_is_of_the_same_questions():
    """Equal on all but one of four: 25 points; draws without it have 0."""
    number = score_difference(np.array([1.0, 0, 1, 1]), np.array([1.0, 0, 1, 0]), np.arange(4))
    assert (number.value, number.num, number.unit) == (25, 4, "points")
    assert number.interval == (0, 75)


def test_the_majority_answer_is_the_most_frequent_label_of_train():
    train = targets_of([["red"], ["two"], ["blue"], ["blue"], ["2"]])
    assert majority_answer(train.labels) == 1
    test = targets_of([["two"], ["red"]])
    assert test.scores_of(np.full(2, majority_answer(train.labels))).tolist() == [1, 0]


def test_without_a_listed_label_there_is_no_majority():
    with pytest.raises(DatasetFormatError, match="the answer of none of 2 questions"):
        majority_answer(np.array([-1, -1]))


def test_targets_of_many_questions_are_compact():
    """200,000 questions with ten answers: a table would have 5 GB of float64."""
    random = np.random.default_rng(0)
    vocabulary = AnswerVocabulary(tuple(f"answer {place}" for place in range(3129)))
    words = np.array([*vocabulary.answers, "unlisted"], dtype=object)
    annotated = words[np.minimum(random.geometric(0.2, 200_000), 3129)].repeat(10).tolist()
    targets = AnswerTargets.of(vocabulary, annotated, np.arange(1, 200_001) * 10, annotated[::10])
    assert sum(array.nbytes for array in (targets.places, targets.scores, targets.ends)) < 2**23
    assert targets.scores_of(targets.labels).min() == 1
