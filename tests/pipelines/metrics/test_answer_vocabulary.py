"""Lists of answers: which are in them, in which order, and which lists are refused."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightalign.featcache.errors import DatasetFormatError
from lightalign.featcache.string_array import Strings
from lightalign.pipelines.metrics.answer_vocabulary import (
    LONGEST_ANSWER,
    MOST_ANSWERS,
    AnswerVocabulary,
    all_answers,
    frequent_answers,
)


def test_answers_that_are_chosen_nine_times_are_listed_in_order_of_first_appearance():
    chosen = ["2"] * 4 + ["rare"] * 8 + ["no"] * 9 + ["Two"] * 5
    assert frequent_answers(chosen).answers == ("2", "no")


@given(st.lists(st.sampled_from(["2", "Two", "two.", "red", "a red", "None"])), st.integers(1, 4))
def test_frequent_answers_are_those_that_a_plain_count_finds(chosen, least):
    forms = {"2": "2", "Two": "2", "two.": "2", "red": "red", "a red": "red", "None": "0"}
    expected = []
    for answer in chosen:
        form = forms[answer]
        if form not in expected and sum(forms[other] == form for other in chosen) >= least:
            expected.append(form)
    if expected:
        assert frequent_answers(chosen, least_count=least).answers == tuple(expected)
    else:
        with pytest.raises(DatasetFormatError, match="no answer is that of"):
            frequent_answers(chosen, least_count=least)


def test_a_list_of_all_answers_has_the_first_spelling_of_each():
    vocabulary = all_answers(["b", "A cat", "cat", "B", "a"])
    assert vocabulary.answers == ("b", "A cat", "a")
    assert vocabulary.places(["CAT", "a", "B"]).tolist() == [1, 2, 0]
    assert all_answers(["b", "B"], normalise=False).answers == ("b", "B")


def test_a_list_of_the_answers_to_no_question_is_refused():
    with pytest.raises(DatasetFormatError, match="found 0"):
        all_answers([])


def test_answers_are_looked_up_in_their_normalised_form_and_listed_as_written():
    vocabulary = AnswerVocabulary(("air_conditioner", "2"))
    asked = ["two", "Air conditioner", "air-conditioner", "fan", "2"]
    assert vocabulary.places(asked).tolist() == [1, 0, 0, -1, 1]
    assert vocabulary.answers[0] == "air_conditioner"


def test_as_published_by_vle_answers_are_looked_up_as_they_are():
    vocabulary = frequent_answers(["Two"] * 9, normalise=False)
    assert vocabulary.places(["Two", "2"]).tolist() == [-1, 0]


def test_answers_of_a_file_are_looked_up_as_those_of_a_list_are():
    answers = ["no", "yes", "maybe"]
    vocabulary = AnswerVocabulary(("yes", "no"))
    places = vocabulary.places(Strings.of(answers))
    assert places.dtype == np.int64
    assert places.tolist() == vocabulary.places(answers).tolist() == [1, 0, -1]


def test_an_empty_list_of_questions_has_no_places():
    assert AnswerVocabulary(("yes",)).places([]).shape == (0,)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ((), "has 1 to 100,000 of them, found 0"),
        (("yes", "no", "yes"), "answers 1 and 3 of the list are both 'yes'"),
        (("a T-shirt", "t shirt"), "'a T-shirt' and 't shirt', are one answer in the form"),
        (("yes", "x" * (LONGEST_ANSWER + 1)), "answer 2 of the list has 1,001 characters"),
    ],
)
def test_a_list_that_is_none_is_refused(answers, message):
    with pytest.raises(DatasetFormatError, match=message):
        AnswerVocabulary(answers)


def test_a_list_without_an_end_is_refused():
    numbers = count()
    with pytest.raises(DatasetFormatError, match="found 100,001"):
        AnswerVocabulary(tuple(str(next(numbers)) for _ in range(MOST_ANSWERS + 1)))


def test_spellings_of_one_answer_are_two_where_they_are_looked_up_as_they_are():
    assert len(AnswerVocabulary(("T-shirt", "t shirt"), normalise=False)) == 2


def test_a_list_that_would_be_empty_names_the_most_frequent_answer():
    message = "that of 9 or more of 3 questions; the most frequent, 'no', is that of 2"
    with pytest.raises(DatasetFormatError, match=message):
        frequent_answers(["no", "yes", "No"])
    with pytest.raises(DatasetFormatError, match="0 questions; there is none at all"):
        frequent_answers([])
